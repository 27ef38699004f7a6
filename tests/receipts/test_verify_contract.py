"""The contract against the records: a gateway that recorded what the contract does not allow fails, whatever it signed;
what is not whole on record is said to be so."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import orjson
import pytest
from clawproxy.policies.contract import sign_contract
from clawproxy.policies.facts import CallFacts, CallKind
from clawproxy.receipts.payloads import denial_fields, start_detail
from clawproxy.receipts.recorded_facts import (
    BESIDE,
    LISTS,
    MAX_DENIED_FACTS_BYTES,
    MAX_FACTS_BYTES,
    read_call,
    read_denied,
)
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import jcs_bytes

from .forge import CONTRACT_DOCUMENT, POLICY_KEY, START_MS, Forge, plain_job, trust
from .workshop import make_denied, make_grant, make_start

FULL = CallFacts(
    provider="openai",
    route="responses",
    model="gpt-5-mini",
    stream=True,
    tools=("read_ticket", "exec"),
    tool_choice="read_ticket",
    provider_state=("previous_response_id",),
    max_output_tokens=512,
    remote_urls=("image_url",),
    kind=CallKind.GENERATE,
    any_tools=("exec",),
    provider_tools=("web_search",),
    choices=3,
    surcharges=("service_tier",),
    fallback_models=("gpt-4o", "gpt-4o-mini"),
    is_router=True,
    kept_by_provider=True,
    upstream="fal",
    upstream_model="acme/m",
)


def job(document: dict[str, Any] | None = None, **over: Any) -> Forge:
    """A job with one call, whose intent says ``over``."""
    forge = Forge(document={**CONTRACT_DOCUMENT, **(document or {})})
    forge.open()
    forge.attest(forge.intend(0, **over))
    forge.end()
    return forge


def verified(forge: Forge, contract: bytes | None = None) -> Report:
    return verify_job(forge.files(), trust(), contract)


# -- what is recorded --------------------------------------------------------------------------------------------------


def start_of(facts: CallFacts) -> dict[str, Any]:
    return start_detail(
        make_start(
            make_grant(),
            **{name: getattr(facts, name) for name in BESIDE if name != "model"},
            model=facts.model or "unknown",
            facts=facts,
        )
    )


def test_every_fact_of_a_call_is_on_record() -> None:
    names = {field.name for field in dataclasses.fields(CallFacts)}
    single = {"choices", "kind", "is_router", "kept_by_provider", "max_output_tokens", "tool_choice"}
    assert names == {*BESIDE, *LISTS, *single}, "record the new fact (receipts/recorded_facts.py, job_shapes.FACTS)"


@pytest.mark.parametrize(
    "facts",
    [
        FULL,
        CallFacts("openai", "models", None, False, kind=CallKind.LIST),
        CallFacts("openai", "chat_completions", "unknown", False),
    ],
)
def test_the_facts_of_a_call_are_read_back_as_they_were_judged(facts: CallFacts) -> None:
    recorded = read_call(orjson.loads(orjson.dumps(start_of(facts))))
    assert (recorded.facts, recorded.missing) == (facts, ())
    denied = denial_fields(
        make_denied(provider=facts.provider, route=facts.route, model=facts.model, facts=facts),
    )
    again = read_denied(orjson.loads(orjson.dumps(denied)))
    assert again is not None
    assert (again.facts, again.missing) == (facts, ())


def test_facts_that_do_not_fit_are_said_to_be_missing_and_stay_small() -> None:
    long = tuple(f"model-{n}-{'x' * 90}" for n in range(500))
    facts = dataclasses.replace(FULL, fallback_models=long, any_tools=long, model="m" * 600)
    told = start_of(facts)
    assert len(orjson.dumps(told["facts"])) < MAX_FACTS_BYTES + 512
    assert set(read_call(told).missing) == {"any_tools", "fallback_models", "model"}
    denied = denial_fields(make_denied(provider="openai", route="r", facts=dataclasses.replace(facts, tools=long)))
    assert len(orjson.dumps(denied["facts"])) < MAX_DENIED_FACTS_BYTES + 512
    again = read_denied(denied)
    assert again is not None
    assert {"fallback_models", "tools"} <= set(again.missing)


def test_a_sentence_in_place_of_a_tools_name_does_not_get_into_a_denial() -> None:
    secret = "the customer's card is 4111 1111 1111 1111"
    facts = dataclasses.replace(FULL, tools=(secret, "read_ticket"), any_tools=(secret,), tool_choice=secret)
    told = denial_fields(make_denied(provider="openai", route="r", facts=facts))
    assert b"4111 1111" not in orjson.dumps(told)
    assert told["facts"]["clipped"] == ["any_tools", "tool_choice", "tools"]


def test_a_call_without_facts_says_nothing_of_them() -> None:
    assert "facts" not in start_detail(make_start(make_grant()))
    assert "facts" not in denial_fields(make_denied())


# -- what the contract does not allow ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"model": "o1"}, "POLICY_MODEL_NOT_ALLOWED"),
        ({"provider": "anthropic"}, "POLICY_PROVIDER_NOT_ALLOWED"),
        ({"tools": ["shell_exec"]}, "POLICY_TOOL_DENIED"),
        ({"tools": ["other"]}, "POLICY_TOOL_NOT_ALLOWED"),
        ({"tools": ["shell_exec"], "facts": None}, "POLICY_TOOL_DENIED"),
        ({"facts": {"kind": "generate", "tool_choice": "shell_exec"}}, "POLICY_TOOL_NOT_ALLOWED"),
        ({"facts": {"kind": "generate", "provider_state": ["thread"]}}, "POLICY_STATE_NOT_READABLE"),
        ({"facts": {"kind": "generate", "remote_urls": ["image_url"]}}, "POLICY_REMOTE_URL"),
        ({"facts": {"kind": "generate", "fallback_models": ["gpt-4o", "o1"]}}, "POLICY_MODEL_NOT_ALLOWED"),
        ({"facts": {"kind": "generate", "is_router": True}}, "POLICY_MODEL_NOT_ALLOWED"),
        ({"facts": {"kind": "generate", "no_model": True}, "model": "unknown"}, "POLICY_MODEL_REQUIRED"),
        ({"facts": {"kind": "generate", "any_tools": ["read_all"]}, "tools": ["read_all"]}, "POLICY_TOOL_NOT_ALLOWED"),
    ],
)
def test_a_signed_record_of_a_call_outside_the_contract_fails_and_names_the_place(
    over: dict[str, Any], why: str
) -> None:
    classes = {"tool_classes": {"read_ticket": ["read_*"]}}
    report = verified(job(classes, **over))
    assert (report.verdict, report.reason) == (Verdict.FAILED, "CONTRACT_EXCEEDED")
    finding = report.findings[0]
    assert (finding.rule, finding.path) == ("J61", "receipts.jsonl:2.body.payload.detail")
    assert finding.detail.startswith(why)


def test_a_list_of_models_and_a_socket_that_opens_need_no_model() -> None:
    for kind in ("list", "connect"):
        forge = job(model="unknown", tools=[], tools_total=0, facts={"kind": kind, "no_model": True})
        report = verified(forge)
        assert (report.verdict, report.facts["recomputed"]) == (Verdict.VERIFIED, {"whole": 1})


_DATA = {"data_boundaries": {"payment_cards": "deny", "email": "mask"}, "data_classes_allowed": ["internal"]}


def data(*labels: str, **classes: tuple[int, int]) -> dict[str, Any]:
    """What an intent says of data: labels, and of each class how often it was found and redacted."""
    found = [{"count": found, "of": name} for name, (found, _) in classes.items()]
    redacted = [{"count": count, "of": name} for name, (_, count) in classes.items() if count]
    return {"labels": list(labels), "found": found, "paths": [], "redacted": redacted}


def judge_data(forge: Forge, seen: dict[str, Any], why: str) -> None:
    """Have the receipts say ``seen``, too: then the bundle fails for ``why``, or holds where that is empty."""
    for record in forge.records:
        if record["kind"] == "receipt":
            record["payload"]["metadata"]["clawproxy"]["data"] = seen
    report = verified(forge)
    assert report.reason == ("CONTRACT_EXCEEDED" if why else "OK"), report.findings
    assert not why or report.findings[0].detail.startswith(why)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (data("confidential"), "DATA_CLASS_DENIED: data_classes_allowed"),
        (data(payment_cards=(1, 0)), 'DATA_CLASS_DENIED: data_boundaries.payment_cards "payment_cards"'),
        (data(payment_cards=(1, 1)), 'DATA_CLASS_DENIED: data_boundaries.payment_cards "payment_cards"'),
        (data(email=(1, 0)), 'DATA_CLASS_DENIED: data_boundaries.email "email"'),
        (data(email=(2, 1)), 'DATA_CLASS_DENIED: data_boundaries.email "email"'),
        (data("internal", email=(2, 2)), ""),
        (data("internal"), ""),
    ],
)
def test_a_signed_record_of_data_outside_the_contract_fails(seen: dict[str, Any], why: str) -> None:
    forge = job(_DATA, data=seen)
    judge_data(forge, seen, why)


def test_every_call_outside_the_contract_is_named() -> None:
    forge = Forge()
    forge.open()
    for n, model in enumerate(("gpt-5-mini", "o1", "o3", "gpt-5")):
        forge.attest(forge.intend(n, model=model))
    forge.end()
    lines = [finding.path for finding in verified(forge).findings]
    assert lines == ["receipts.jsonl:4.body.payload.detail", "receipts.jsonl:6.body.payload.detail"]


def test_a_token_that_lives_longer_than_the_contract_allows_fails() -> None:
    forge = Forge()
    forge.claims["exp"] = START_MS // 1000 + 1801
    forge.open()
    forge.attest(forge.intend(0))
    forge.end()
    report = verified(forge)
    assert (report.reason, report.findings[0].rule) == ("CONTRACT_EXCEEDED", "J63")
    assert report.findings[0].path == "receipts.jsonl:1.body.payload.detail.token"


def called_job(name: str, outcome: str, document: dict[str, Any] | None = None, total: int = 1, **over: Any) -> Forge:
    """A job whose one answer called a tool, with this outcome."""
    forge = job(document, **over)
    item = {"arguments_hash_b64u": forge.policy_hash, "name": name, "outcome": outcome}
    for record in forge.records:
        if record["kind"] == "receipt":
            record["payload"]["metadata"]["clawproxy"] |= {"called": [item], "called_total": total}
    return forge


@pytest.mark.parametrize(
    ("name", "outcome", "why"),
    [
        ("read_ticket", "allowed", ""),
        ("shell_exec", "allowed", "POLICY_TOOL_DENIED"),
        ("Shell_Exec", "allowed", "POLICY_TOOL_DENIED"),
        ("other", "allowed", "POLICY_TOOL_NOT_ALLOWED"),
        ("shell_exec", "denied", ""),
        ("other", "withheld", ""),
    ],
)
def test_a_call_of_a_tool_that_was_delivered_and_is_not_allowed_fails(name: str, outcome: str, why: str) -> None:
    report = verified(called_job(name, outcome))
    assert report.reason == ("CONTRACT_EXCEEDED" if why else "OK"), report.findings
    if why:
        finding = report.findings[0]
        assert (finding.rule, finding.path) == ("J65", "receipts.jsonl:3.body.payload.metadata.clawproxy.called[0]")
        assert finding.detail.startswith(why)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (data("internal"), ""),
        (data("confidential"), 'DATA_CLASS_DENIED: tool_data_access["read_ticket"]'),
        (data(email=(1, 0)), 'DATA_CLASS_DENIED: tool_data_access["read_ticket"]'),
    ],
)
def test_a_call_of_a_tool_that_may_not_see_what_the_call_carried_fails(seen: dict[str, Any], why: str) -> None:
    forge = called_job("read_ticket", "allowed", {"tool_data_access": {"read_ticket": ["internal"]}}, data=seen)
    judge_data(forge, seen, why)


def test_a_call_whose_arguments_have_rules_is_counted_as_judged_by_name_alone() -> None:
    rules = {"tool_arguments": {"read_ticket": {"when": [{"argument": "id", "at_most": 10}]}}}
    report = verified(called_job("read_ticket", "allowed", rules))
    assert report.facts["recomputed"] == {"arguments_not": 1, "whole": 1}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_call_of_a_tool_that_can_call_any_other_is_judged_by_its_name_and_counted(allowed: bool) -> None:
    word = "functions.exec" if allowed else "read_*"
    document = {"allowed_tools": ["read_ticket", "code"], "tool_classes": {"code": [word]}}
    facts = {"kind": "generate", "any_tools": ["functions.exec"]}
    report = verified(called_job("functions.exec", "allowed", document, facts=facts))
    assert report.reason == ("OK" if allowed else "CONTRACT_EXCEEDED"), report.findings
    if allowed:
        assert report.facts["recomputed"] == {"arguments_not": 1, "whole": 1}


def test_calls_of_tools_that_are_not_all_on_record_are_a_gap() -> None:
    report = verified(called_job("read_ticket", "allowed", total=300))
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_RECOMPUTED")


@pytest.mark.parametrize(
    ("name", "reason"), [("read_ticket", "OK"), ("shell_exec", "NOT_RECOMPUTED"), ("other", "NOT_RECOMPUTED")]
)
def test_an_answer_that_called_a_denied_tool_and_does_not_say_what_became_of_it_is_a_gap(
    name: str, reason: str
) -> None:
    forge = job()
    for record in forge.records:
        if record["kind"] == "receipt":
            record["payload"]["metadata"]["clawproxy"] |= {"tool_calls": [name], "tool_calls_total": 1}
    report = verified(forge)
    assert report.reason == reason
    assert (report.verdict is Verdict.VERIFIED) == (reason == "OK")


# -- what cannot be recomputed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "over",
    [
        {"tools_total": 300},
        {"facts": {"kind": "generate", "clipped": ["fallback_models"], "fallback_models": ["gpt-4o"]}},
        {"facts": {"kind": "generate", "clipped": ["model"]}},
    ],
)
def test_facts_that_are_not_whole_are_a_gap(over: dict[str, Any]) -> None:
    report = verified(job(**over))
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_RECOMPUTED")
    assert report.facts["recomputed"] == {"part": 1}
    assert report.findings[0].detail.startswith("cannot be recomputed")


def test_what_is_there_of_clipped_facts_is_judged_all_the_same() -> None:
    clipped = {"kind": "generate", "clipped": ["fallback_models"], "fallback_models": ["o1"]}
    assert verified(job(facts=clipped)).reason == "CONTRACT_EXCEEDED"


def test_a_clipped_name_is_not_taken_for_another_one() -> None:
    forge = job(tools=["read_ticket", "x" * 120], tools_total=2, facts={"kind": "generate", "clipped": ["tools"]})
    assert verified(forge).reason == "NOT_RECOMPUTED"


def test_evidence_of_before_verifies_and_is_counted_as_judged_in_part() -> None:
    report = verified(job(facts=None))
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    assert report.facts["recomputed"] == {"part": 1}
    assert report.facts["recomputed_without"] == {"what else the call asked for": 1}


def test_a_model_that_evidence_of_before_does_not_name_is_not_called_outside_the_contract() -> None:
    assert verified(job(facts=None, model="unknown")).verdict is Verdict.VERIFIED


# -- the contract ------------------------------------------------------------------------------------------------------


def test_a_contract_of_the_same_name_with_another_hash_fails() -> None:
    other = jcs_bytes({**CONTRACT_DOCUMENT, "allowed_models": ["gpt-*", "o1"]})
    report = verified(plain_job(), other)
    assert (report.verdict, report.reason) == (Verdict.FAILED, "POLICY_HASH_MISMATCH")
    assert report.findings[0].path == "contract.json"


def test_a_contract_that_was_swapped_for_a_wider_one_fails() -> None:
    files = job(model="o1").files()
    wider = sign_contract({**CONTRACT_DOCUMENT, "allowed_models": ["*"]}, POLICY_KEY, "2030-01-01T00:00:00.000Z")
    files["contract.json"] = jcs_bytes(wider)
    assert verify_job(files, trust()).verdict is Verdict.FAILED
    forge = job(model="o1")
    forge.contract = wider  # sealed afresh around the other contract
    report = verified(forge)
    assert (report.verdict, report.reason) == (Verdict.FAILED, "POLICY_HASH_MISMATCH")


def test_without_a_trust_file_calls_outside_the_contract_fail_too() -> None:
    report = verify_job(job(model="o1").files(), dataclasses.replace(trust(), given=False, keys=()))
    assert (report.verdict, report.reason) == (Verdict.FAILED, "CONTRACT_EXCEEDED")


def test_an_escaped_slash_is_decided_again_as_it_was() -> None:
    from clawproxy.policies.contract import parse_contract
    from clawproxy.receipts.redecide import redecide_effect

    host = {"host": "a.example.com", "scheme": "https"}
    every, user = {**host, "paths": ["/*"], "credential": "crm"}, {**host, "paths": ["/user/*"]}
    told = {"port": 443, "method": "GET", "target_hash_b64u": "x", "credential": "crm", **host}
    for entries, path, allowed in (
        ([user, every], "/user%2Fx", False),
        ([user, every], "/other/x", True),
        ([every], "/other%2Fx", True),
        ([user, every], None, None),
        ([every, user], "/user%2Fx", False),
        ([every, user], None, True),
    ):
        policy = parse_contract({**CONTRACT_DOCUMENT, "egress_allowlist": entries}).policy
        detail = told if path is None else {**told, "path": path}
        assert redecide_effect(detail, policy).allowed is allowed


def test_deciding_2500_calls_again_takes_less_than_two_seconds() -> None:
    """Of processor time, the whole verification without it being some seconds."""
    from clawproxy.policies.contract import parse_contract
    from clawproxy.receipts.redecide import redecide_call

    tools = [f"read_ticket_{n}" for n in range(20)]
    policy = parse_contract({**CONTRACT_DOCUMENT, "tool_classes": {"read_ticket": ["read_*"]}}).policy
    forge = job(tools=tools, tools_total=20)
    detail, token = forge.records[1]["payload"]["detail"], forge.token()
    began = time.process_time()
    assert all(redecide_call(detail, token, policy).allowed for _ in range(2500))
    assert time.process_time() - began < 2.0
