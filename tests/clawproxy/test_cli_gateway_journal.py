"""explain, verify and job tail where a call has no job, or the path is not a job."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from clawproxy.receipts.calls import CallDenied
from clawproxy.receipts.journal import Journal
from clawproxy.receipts.refusals import RefusalLog
from clawproxy.receipts.report import Verdict
from clawproxy.tokens.keys import Role, load_key

from clawproxy.cli import gateway_journal

from .command_line import one_line, run_cli

ID = "rcpt_00000000-0000-4000-8000-00000000000"


async def refuse_three(state: Path) -> None:
    """Three refusals in the gateway's own journal: ids that end in 0, 1 and 2."""
    key = load_key(state / "keys" / "receipt.pem", Role.RECEIPT)
    journal = Journal()
    log = RefusalLog(state / "gateway", journal, key, "did:web:test", lambda: 1_800_000_000_000)
    await log.open()
    for n in range(3):
        await log.deny(
            CallDenied(
                f"{ID}{n}", "authenticate", "TOKEN_EXPIRED", "exp", f"it ended, {n}", 1_800_000_000_000,
                presenter="ip:127.0.0.1", way_in="reverse", method="POST",
            )
        )  # fmt: skip
    await log.close()
    await asyncio.to_thread(journal.close)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=root, stdin=document).out.strip()
    run_cli("job", "open", f"--contract={contract}", "--job", "j", state=root)
    asyncio.run(refuse_three(root))
    return root


def test_a_refusal_without_a_job_is_explained_from_the_gateways_journal(state: Path) -> None:
    done = run_cli("explain", state / "gateway", f"{ID}1")
    assert done.code == 0
    for part in ("authenticate", "TOKEN_EXPIRED", "rule: exp", "it ended, 1", "remedy: ", "VERIFIED", ".jsonl"):
        assert part in done.out, part
    shown = json.loads(run_cli("explain", "--json", state / "gateway", f"{ID}1").out)
    assert (shown["record"]["line"], shown["decision"]["reason"]) == (2, "TOKEN_EXPIRED")


def test_a_state_directory_or_the_id_alone_are_enough(state: Path) -> None:
    assert run_cli("explain", state, f"{ID}2").code == 0
    assert run_cli("explain", f"{ID}2", state=state).code == 0
    file = next((state / "gateway").glob("refusals-*"))
    assert run_cli("explain", file, f"{ID}0").code == 0
    for where in (state, state / "gateway"):
        assert "RECEIPT_NOT_FOUND" in one_line(run_cli("explain", where, f"{ID}9"))


def test_the_record_is_believed_only_from_a_key_that_is_held(state: Path, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    run_cli("keys", "trust", "-o", trust, state=state)
    assert run_cli("explain", state / "gateway", f"{ID}1", "--trust", trust).code == 0
    stranger, other = tmp_path / "stranger", tmp_path / "other.json"
    run_cli("keys", "new", "receipt", state=stranger)
    run_cli("keys", "trust", "-o", other, state=stranger)
    done = run_cli("explain", state / "gateway", f"{ID}1", "--trust", other)
    assert done.code == 3
    assert "nobody vouches" in done.out


@pytest.mark.parametrize(
    ("was", "becomes"),
    [(b"it ended, 1", b"it ended, 7"), (b'"seq":1,"t"', b'"seq":5,"t"'), (b'"rule":"exp"', b'"rule":"iat"')],
)
def test_a_record_that_was_changed_fails(was: bytes, becomes: bytes, state: Path) -> None:
    file = next((state / "gateway").glob("refusals-*"))
    assert was in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(was, becomes))
    done = run_cli("explain", state / "gateway", f"{ID}1")
    assert done.code == 1
    assert "FAILED" in done.out


def test_a_job_that_does_not_hold_the_call_names_the_line_that_does(state: Path) -> None:
    line = one_line(run_cli("explain", state / "jobs" / "j", f"{ID}1"))
    assert ".jsonl:2" in line
    assert "refused at authenticate: TOKEN_EXPIRED: exp" in line
    assert f"clawproxy explain {state}/gateway {ID}1" in line
    assert "VERIFIED" in line


def test_swapped_arguments_are_told_their_order(state: Path) -> None:
    assert "BUNDLE RECEIPT_ID" in one_line(run_cli("explain", f"{ID}1", state / "jobs" / "j"))
    assert "BUNDLE] RECEIPT_ID" in one_line(run_cli("explain", "cpt_mistyped"))


def test_explain_of_a_journal_without_an_id_lists_its_refusals_and_checks_each(state: Path, tmp_path: Path) -> None:
    for where in (state / "gateway", next((state / "gateway").glob("refusals-*"))):
        done = run_cli("explain", where)
        assert done.code == 0
        rows = [line.split("  ") for line in done.out.splitlines()]
        assert [row[1:] for row in rows] == [[f"{ID}{n}", "POST", "refused: TOKEN_EXPIRED"] for n in range(3)]
    file = next((state / "gateway").glob("refusals-*"))
    file.write_bytes(file.read_bytes().replace(b"it ended, 1", b"it ended, 7"))
    done = run_cli("explain", state / "gateway")
    assert done.code == 1
    assert [line.endswith("  FAILED") for line in done.out.splitlines()] == [False, True, False]
    told = json.loads(run_cli("explain", state / "gateway", "--json").out)
    assert [call["verdict"] for call in told["calls"]] == ["VERIFIED", "FAILED", "VERIFIED"]
    stranger, other = tmp_path / "stranger", tmp_path / "other.json"
    run_cli("keys", "new", "receipt", state=stranger)
    run_cli("keys", "trust", "-o", other, state=stranger)
    file.write_bytes(file.read_bytes().replace(b"it ended, 7", b"it ended, 1"))
    assert run_cli("explain", state / "gateway", "--trust", other).code == 3


def test_what_no_route_was_found_for_says_whose_routes_have_none() -> None:
    payload = {"method": "GET", "reason": "ROUTE_NOT_FOUND", "rule": "routes of openai"}
    found = gateway_journal.GatewayRefusal(f"{ID}1", Path("f"), 1, payload, "h", Verdict.VERIFIED, "")
    assert found.what == "GET (routes of openai)"
    assert replace(found, payload={**payload, "destination": "a.example:443"}).what == "GET a.example:443"


def test_of_a_long_journal_the_last_refusals_are_listed_and_a_half_written_one_is_not(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_journal, "MAX_LISTED", 2)
    file = next((state / "gateway").glob("refusals-*"))
    with file.open("ab") as journal:
        journal.write(file.read_bytes().splitlines()[0])
    out = run_cli("explain", state / "gateway").out.splitlines()
    assert out[0] == "1 earlier ones are not listed"
    assert [line.split("  ")[1] for line in out[1:]] == [f"{ID}1", f"{ID}2"]


def test_explain_of_a_job_without_an_id_lists_it_and_of_a_state_directory_names_one(state: Path) -> None:
    done = run_cli("explain", state / "jobs" / "j")
    assert done.code == 3
    assert done.out == "bundle: INCOMPLETE, TRUST_NOT_GIVEN\nno call, and no refusal\n"
    assert "give --trust" in done.err
    assert f"explain {state}/jobs/j RECEIPT_ID" in done.err
    assert json.loads(run_cli("explain", state / "jobs" / "j", "--json").out)["calls"] == []
    assert f"{state}/jobs/NAME" in one_line(run_cli("explain", state))


@pytest.mark.parametrize("command", [["verify"], ["explain"]])
def test_a_directory_that_is_no_job_is_a_usage_error_that_names_one(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text("{}")  # the one that is being written, as in any first attempt
    done = run_cli(*command, tmp_path, *([f"{ID}1"] if command == ["explain"] else []))
    assert done.code == 2
    assert ".clawproxy/jobs/NAME" in one_line(done)


def test_verify_of_a_state_directory_and_of_a_gateways_journal_says_what_they_are(state: Path) -> None:
    assert f"{state}/jobs/NAME" in one_line(run_cli("verify", state))
    assert "clawproxy explain" in one_line(run_cli("verify", state / "gateway"))


def test_a_bundle_that_lost_all_but_one_file_is_still_verified_as_a_job(state: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "receipts.jsonl").write_bytes((state / "jobs" / "j" / "receipts.jsonl").read_bytes())
    assert run_cli("verify", tmp_path / "b").code == 1


def test_tail_shows_the_gateways_own_journal(state: Path) -> None:
    lines = run_cli("job", "tail", "--gateway", state=state).out.splitlines()
    assert len(lines) == 3
    assert all("refused at authenticate: TOKEN_EXPIRED" in line for line in lines)
    assert len(run_cli("job", "tail", "--gateway", "-n", "1", state=state).out.splitlines()) == 1
    assert "--gateway" in one_line(run_cli("job", "tail", state=state))


def test_explain_fails_where_verify_fails_on_a_file_that_the_reader_refuses(state: Path) -> None:
    journal = state / "jobs" / "j" / "receipts.jsonl"
    (journal.parent / "link").symlink_to(journal)
    assert run_cli("verify", journal.parent).code == 1
    line = one_line(run_cli("explain", journal.parent, "rcpt_none"))
    assert "RECEIPT_NOT_FOUND" in line or "BUNDLE" in line
