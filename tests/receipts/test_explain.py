"""Explanations: the contract in the bundle decides again, and a record that it does not fit is told apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.calls import Outcome
from clawproxy.receipts.explain import Explanation, explain
from clawproxy.receipts.report import Finding, Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.trust import Trust

from .forge import Forge, numbered_receipt_id, plain_job, trust
from .workshop import Workshop, make_end, make_start
from .workshop import trust as workshop_trust


def explained(forge: Forge, n: int = 0, trusted: Trust | None = None) -> Explanation:
    return explain(forge.files(), numbered_receipt_id(n), trusted or trust())


def test_an_allowed_call_names_what_allowed_it() -> None:
    found = explained(plain_job())
    assert found.kind == "allowed"
    assert found.report.verdict is Verdict.VERIFIED
    assert found.decision["agrees"] is True
    assert found.decision["rules"][0] == 'provider: allowed_providers["openai"]'
    assert found.decision["rules"][1] == 'model: allowed_models["gpt-*"]'
    assert found.decision["rules"][2].startswith("read_ticket: ")
    assert found.contract["name"] == "forged-jobs"
    assert found.token["scope"] == ["clawproxy:call"]
    assert found.outcome["outcome"] == "complete"
    assert (found.outcome["usage"], found.outcome["model_match"]) == ("reported", "other")
    assert (found.outcome["tokens_cached"], found.outcome["tokens_reasoning"]) == (3, 2)
    assert found.place["record"] == "receipts.jsonl:2"
    assert found.place["receipt"] == "receipts.jsonl:3"


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"model": "o1"}, "POLICY_MODEL_NOT_ALLOWED"),
        ({"provider": "anthropic"}, "POLICY_PROVIDER_NOT_ALLOWED"),
        ({"tools": ["shell_exec"]}, "POLICY_TOOL_DENIED"),
        ({"tools": ["other"]}, "POLICY_TOOL_NOT_ALLOWED"),
    ],
)
def test_a_call_that_the_contract_does_not_allow_is_told_though_every_signature_holds(
    over: dict[str, Any], reason: str
) -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0, **over))
    forge.end()
    found = explained(forge)
    assert (found.report.verdict, found.report.reason) == (Verdict.FAILED, "CONTRACT_EXCEEDED")
    assert (found.decision["agrees"], found.decision["reason"]) == (False, reason)


def test_a_call_whose_token_does_not_cover_the_provider_is_told() -> None:
    forge = Forge()
    forge.claims["scope"] = ["clawproxy:call:anthropic"]
    forge.open()
    forge.attest(forge.intend(0))
    forge.end()
    assert explained(forge).decision["reason"] == "TOKEN_INSUFFICIENT_SCOPE"


def test_a_denial_names_step_reason_rule_and_remedy() -> None:
    found = explained(plain_job(), 1000)
    assert found.kind == "refused"
    assert found.decision["step"] == "decide"
    assert found.decision["reason"] == "POLICY_MODEL_NOT_ALLOWED"
    assert found.decision["rule"] == 'allowed_models has no entry for "o1"'
    assert found.decision["remedy"]
    assert found.decision["agrees"] is True
    assert found.call["model"] == "o1"


_TOOL_DENIED = {"reason": "POLICY_TOOL_DENIED", "model": "gpt-5-mini", "rule": 'denied_tools["shell_exec"]'}


@pytest.mark.parametrize(
    ("over", "agrees"),
    [
        ({"facts": {"kind": "generate", "stream": False, "tools": ["shell_exec"]}}, True),
        ({"facts": {"kind": "generate", "stream": False, "tools": ["read_ticket"]}}, False),
        ({"facts": {"kind": "generate", "stream": False, "tools": ["read_ticket"], "clipped": ["tools"]}}, None),
        ({"facts": {"kind": "generate", "stream": False, "tools": ["other"]}}, False),
    ],
)
def test_a_denial_of_a_tool_is_worked_out_again_from_the_tools_on_record(
    over: dict[str, Any], agrees: bool | None
) -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, **_TOOL_DENIED, **over)
    forge.end()
    decision = explained(forge).decision
    assert decision["agrees"] is agrees
    assert agrees is not None or decision["note"].startswith("cannot be recomputed")


def test_a_denial_that_the_contract_does_not_bear_out_is_told() -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, model="gpt-5-mini")
    forge.end()
    assert explained(forge).decision["agrees"] is False


@pytest.mark.parametrize(
    "over",
    [
        {"reason": "POLICY_TOOL_DENIED", "facts": None},
        {"reason": "TOKEN_EXPIRED", "step": "authenticate", "provider": None, "model": None},
        {"token_hash_hex": None},
        {"reason": "A_CODE_OF_TOMORROW"},
    ],
)
def test_a_denial_that_rests_on_more_than_its_record_is_not_worked_out_again(over: dict[str, Any]) -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, **over)
    forge.end()
    found = explained(forge)
    assert (found.kind, found.decision["agrees"]) == ("refused", None)


def test_a_call_without_receipt_is_unknown_and_never_called_allowed_and_done() -> None:
    forge = Forge()
    forge.open()
    forge.intend(0)
    forge.recover([numbered_receipt_id(0)])
    forge.end()
    found = explained(forge)
    assert found.kind == "unknown"
    assert found.report.verdict is Verdict.INCOMPLETE
    assert "receipt" not in found.place


@pytest.mark.parametrize(
    ("detail", "heading"),
    [
        (
            "STOPPED_BY_OPERATOR: stop --job j; order 14 of 2026-01-01T00:00:00.000Z: it went: wild; really",
            "allowed, then stopped by order 14: it went: wild; really",
        ),
        ("STOPPED_BY_OPERATOR: stop --all; order 3 of 2026-01-01T00:00:00.000Z", "allowed, then stopped by order 3"),
        ("the gateway is stopping", "allowed, then stopped: the gateway is stopping"),
        ("line\nline; order 3 of x", "allowed, then stopped: line\\nline; order 3 of x"),
    ],
)
def test_a_call_that_was_cut_is_headed_by_what_cut_it(tmp_path: Path, detail: str, heading: str) -> None:
    async def cut() -> tuple[Mapping[str, bytes], str]:
        shop = Workshop(tmp_path)
        grant = shop.create()
        job = await shop.job(grant)
        start = make_start(grant)
        await job.attest(await job.intend(start), make_end(outcome=Outcome.STOPPED, detail=detail))
        await shop.book.seal("job-1")
        await shop.end()
        return load_bundle(tmp_path / "jobs" / "job-1").files, start.receipt_id

    files, receipt_id = asyncio.run(cut())
    told = explain(files, receipt_id, workshop_trust())
    assert told.report.verdict is Verdict.VERIFIED
    assert told.lines()[0] == f"{receipt_id}: {heading}"
    assert told.kind == "allowed"


def test_clipped_tools_are_said_to_be_clipped() -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0, tools_total=300))
    forge.end()
    assert "1 of 300" in explained(forge).decision["note"]


def test_an_explanation_of_a_bundle_that_fails_says_so() -> None:
    files = plain_job().files()
    files["proof_bundle.json"] += b" "
    with pytest.raises(ClawproxyError) as caught:
        explain(files, numbered_receipt_id(0), trust())
    assert caught.value.reason == "HASH_MISMATCH"
    assert "proof_bundle.json" in str(caught.value)
    forge = plain_job()
    forge.meddle["bundle"] = lambda _, payload: payload["receipts"].pop()
    found = explained(forge)
    assert found.report.verdict is Verdict.FAILED
    assert found.to_json()["bundle"] == {"verdict": "FAILED", "reason_code": "EVIDENCE_MISMATCH"}


def test_a_journal_explains_only_what_comes_before_a_record_that_does_not_hold() -> None:
    forge = plain_job()

    def spoil(n: int, envelope: dict[str, Any]) -> None:
        if n == 5:
            envelope["hash_algorithm"] = "BLAKE3"

    forge.meddle["envelope"] = spoil
    assert explained(forge).report.verdict is Verdict.FAILED
    with pytest.raises(ClawproxyError) as caught:
        explained(forge, 2)
    assert caught.value.reason == "SCHEMA_VALIDATION_FAILED"


def test_an_unknown_receipt_id_is_an_error_that_says_where_else_to_look() -> None:
    with pytest.raises(ClawproxyError) as caught:
        explained(plain_job(), 777)
    assert caught.value.reason == "RECEIPT_NOT_FOUND"
    assert "gateway's own journal" in str(caught.value)


def test_the_text_is_printable_and_holds_the_same_facts() -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, detail="bell \x07 and escape \x1b[31m", model="o1\nINJECTED: line")
    forge.end()
    lines = explained(forge).lines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("INJECTED") for line in lines)
    json.dumps(explained(forge).to_json())


def test_a_bundle_that_the_reader_refused_in_part_explains_as_failed() -> None:
    refused = [Finding("B01", "BUNDLE_NAME_REFUSED", "../evil", "a path that leads elsewhere")]
    files = plain_job().files()
    report = explain(files, numbered_receipt_id(0), trust(), refused).report
    assert (report.verdict, report.reason, report.findings[0]) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", refused[0])
