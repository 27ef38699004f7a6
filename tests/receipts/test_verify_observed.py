"""J90 and J91 by themselves: where the members of observed jobs may stand, and what they may say."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.receipts.report import Fault
from clawproxy.receipts.verify_observed import check_called, check_enforcement, check_host, check_intent, check_same
from clawproxy.tokens.digests import sha256_b64u

MODEL = {"code": "POLICY_MODEL_NOT_ALLOWED", "rule": "allowed_models"}
URL = "https://api.example.com/v2/tickets"


def effect(**over: Any) -> dict[str, Any]:
    target = sha256_b64u(URL.encode())
    detail = {"scheme": "https", "host": "api.example.com", "port": 443, "method": "GET", "target_hash_b64u": target}
    return {**detail, "path": "/v2/tickets", **over}


def fault(check: Any, *given: Any, **named: Any) -> tuple[str, str]:
    with pytest.raises(Fault) as found:
        check(*given, **named)
    return found.value.rule, found.value.reason


def test_a_job_is_opened_to_observe_by_its_first_event_alone() -> None:
    assert check_enforcement("job_opened", {}, "x") is False
    assert check_enforcement("job_opened", {"enforcement": "observe"}, "x") is True
    wrong = ("J90", "SCHEMA_VALIDATION_FAILED")
    assert fault(check_enforcement, "authority_changed", {"enforcement": "observe"}, "x") == wrong
    assert fault(check_enforcement, "job_opened", {"enforcement": "enforce"}, "x") == wrong
    assert fault(check_enforcement, "job_opened", {"enforcement": None}, "x") == wrong


def test_in_an_enforced_job_none_of_it_may_stand() -> None:
    assert check_intent({}, "x", observe=False) == frozenset()
    for member in ({"would_refuse": [MODEL]}, {"path": "/"}, {"has_query": True}):
        assert fault(check_intent, member, "x", observe=False) == ("J91", "NOT_OBSERVED")
    for item in ({"outcome": "allowed", "would_refuse": MODEL}, {"outcome": "allowed", "inner": ["a"]}):
        assert fault(check_called, [item], "x", observe=False) == ("J91", "NOT_OBSERVED")
    host = {"host": "a.example", "port": 443, "code": "EGRESS_NOT_ALLOWED", "rule": "egress_allowlist"}
    assert fault(check_host, host, "x", set(), observe=False) == ("J91", "NOT_OBSERVED")


@pytest.mark.parametrize(
    "told",
    [
        [],
        [{"code": "TOKEN_INVALID", "rule": ""}],
        [{"code": "DATA_CLASS_DENIED", "rule": "data_boundaries"}],
        [MODEL, MODEL],
    ],
)
def test_what_is_no_refusal_of_a_contract_cannot_have_been_let_through(told: list[Any]) -> None:
    assert fault(check_intent, {"would_refuse": told}, "x", observe=True) == ("J91", "EVIDENCE_MISMATCH")
    assert check_intent({"would_refuse": [MODEL]}, "x", observe=True) == {"POLICY_MODEL_NOT_ALLOWED"}


def test_a_path_is_the_one_that_the_digest_of_the_target_is_over() -> None:
    check_intent(effect(), "x", observe=True)
    check_intent(effect(path="/other", has_query=True), "x", observe=True)  # with a query nobody can tell
    for path in ("/other", "/v2//tickets", "/v2/tickets?q=1", "/v2/%2e%2e"):
        assert fault(check_intent, effect(path=path), "x", observe=True) == ("J91", "EVIDENCE_MISMATCH")


def test_a_call_of_a_tool_that_was_let_through_was_delivered() -> None:
    check_called([{"outcome": "allowed", "would_refuse": MODEL, "inner": ["a"]}], "x", observe=True)
    for outcome in ("denied", "withheld", "approved"):
        item = {"outcome": outcome, "would_refuse": MODEL}
        assert fault(check_called, [item], "x", observe=True) == ("J91", "EVIDENCE_MISMATCH")


def test_a_receipt_says_what_its_intent_says() -> None:
    check_same({"would_refuse": [MODEL]}, {"would_refuse": [MODEL]}, "x")
    for ours in ({}, {"would_refuse": [{**MODEL, "rule": "another"}]}):
        assert fault(check_same, ours, {"would_refuse": [MODEL]}, "x") == ("J91", "EVIDENCE_MISMATCH")


def test_a_host_stands_there_once_and_with_the_code_of_its_kind() -> None:
    known: set[tuple[str, int | None]] = set()
    name = {"host": "a.example", "port": None, "code": "NAME_NOT_ALLOWED", "rule": "names"}
    check_host(name, "x", known, observe=True)
    assert fault(check_host, name, "x", known, observe=True) == ("J91", "EVIDENCE_MISMATCH")
    other = {**name, "host": "b.example", "port": 443}
    assert fault(check_host, other, "x", known, observe=True) == ("J91", "EVIDENCE_MISMATCH")
