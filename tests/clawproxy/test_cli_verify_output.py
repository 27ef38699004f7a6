"""What ``verify`` prints of a hostile file: one line each, nothing that acts on a terminal, and whose file it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clawproxy.receipts.report import Finding, Findings, build_report, printable

from clawproxy.cli.screen import counts_line, print_json
from clawproxy.cli.verify import print_report

HOSTILE = "x\n\x1b[2JVERIFIED\r\u009b2J\u202eEVIL\u2066\x7f\udcff"


def test_nothing_of_a_report_acts_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings([Finding(HOSTILE, HOSTILE, HOSTILE, HOSTILE)])
    facts = dict.fromkeys(("proof_tier", "agent_did", "run_id", "issuer_did"), HOSTILE)
    print_report(build_report("proof_bundle", findings, facts=facts), Path(HOSTILE))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)


def test_a_report_tells_tier_agent_run_and_issuer(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"proof_tier": "self", "agent_did": "did:key:zA", "run_id": "run_1", "issuer_did": "did:key:zB"}
    report = build_report("export_bundle", Findings(), facts=facts)
    print_report(report, Path("export.json"))
    shown = capsys.readouterr().out
    assert all(line in shown for line in ("tier: self", "agent: did:key:zA", "run: run_1", "issuer: did:key:zB"))
    assert report.to_json()["proof_tier"] == "self"


def test_a_report_says_why_decisions_were_not_worked_out_again(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"recomputed": {"whole": 2, "part": 1}, "recomputed_without": {"the path, of which a digest is there": 1}}
    print_report(build_report("job", Findings(), counts={"calls": 3, "denials": 2}, facts=facts), Path("job"))
    shown = capsys.readouterr().out
    assert "decisions worked out again: 2 in whole, 1 as far as their facts are on record\n" in shown
    assert "lacking for the others: the path, of which a digest is there (1)\n" in shown
    assert "not worked out again here: 2 denials, of which nothing left" in shown


@pytest.mark.parametrize(
    ("reason", "given", "told"),
    [
        ("HASH_MISMATCH", False, "get the bundle again"),
        ("SEAL_MISMATCH", True, "get the bundle again"),
        ("POLICY_HASH_MISMATCH", True, "clawproxy contract diff GIVEN "),
        ("POLICY_HASH_MISMATCH", False, ""),
        ("CONTRACT_EXCEEDED", True, ""),
    ],
)
def test_a_bundle_that_was_changed_or_had_another_contract_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reason: str, given: bool, told: str
) -> None:
    findings = Findings()
    findings.fail("J05", reason, "contract.json", "other")
    print_report(build_report("job", findings), tmp_path, trusted=True, given=given)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (3 if told else 2)
    assert told in lines[-1]


def test_counts_call_no_two_things_a_gap_and_have_each_name_in_its_number() -> None:
    counts = {"calls": 1, "denials": 2, "gaps": 0, "tool_receipts": 1}
    assert counts_line(counts) == "1 call, 2 denials, 0 calls of unknown outcome, 1 tool_receipt"
    assert counts_line({"gaps": 1}) == "1 call of unknown outcome"


def test_of_a_bundle_that_failed_it_says_that_the_records_are_those_that_were_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = Findings()
    findings.fail("J24", "HASH_MISMATCH", "receipts.jsonl:3.h", "the hash of the record is another")
    print_report(build_report("job", findings, counts={"records": 2}), Path("job"))
    assert "\n  read before it failed: 2 records\n" in capsys.readouterr().out


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": HOSTILE, "name": "\u00e9"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert json.loads(shown) == {"path": HOSTILE, "name": "\u00e9"}


def test_what_can_be_shown_stays_as_it_is() -> None:
    assert printable("caf\u00e9 \u4e2d") == "caf\u00e9 \u4e2d"
    assert printable("a\nb") == "a\\nb"
