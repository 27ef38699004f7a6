"""The Claw shape: what each field means, and what is demanded that cannot be enforced yet."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.contract import Weight, check_contract, parse_contract
from clawproxy.policies.packaged import Starter, packaged_tool_classes, starter_document
from clawproxy.tokens.errors import ClawproxyError

from .makers import INVOICE_TRIAGE, REFUND_ASSISTANT, claw, policy_of, wpc_v1, wpc_v2

CLASSES = packaged_tool_classes()


def _demands(**fields: Any) -> list[str]:
    return [demand.field for demand in policy_of(claw(**fields)).demands]


def _places(document: dict[str, Any]) -> dict[str, str]:
    return {note.where: str(note) for note in check_contract(parse_contract(document), CLASSES)}


def test_absent_lists_allow_no_model_and_no_tool_but_any_provider() -> None:
    policy = policy_of({"policy_name": "bare"})
    assert policy.providers is None
    assert policy.models is not None
    assert policy.models.permission("gpt-4o") is None
    assert policy.tools is not None
    assert policy.tools.permission("Bash") is None
    assert policy.max_ttl_s == 3600
    assert policy.demands == ()


def test_the_shorter_of_two_lifetimes_holds() -> None:
    both = claw(token_constraints={"cst_ttl_minutes": 30}, token_requirements={"max_ttl_minutes": 5})
    assert policy_of(both).max_ttl_s == 300


def test_each_field_of_the_documents_contracts_is_enforced() -> None:
    assert policy_of(REFUND_ASSISTANT).demands == ()
    assert policy_of(INVOICE_TRIAGE).demands == ()


@pytest.mark.parametrize(
    ("fields", "demanded"),
    [
        ({"elevated": False}, ["elevated"]),
    ],
)
def test_a_field_that_forbids_something_becomes_a_demand(fields: dict[str, Any], demanded: list[str]) -> None:
    assert _demands(**fields) == demanded


@pytest.mark.parametrize(
    "fields",
    [
        {"approvals": {"required": False}},
        {"approvals": {"required": True, "approver_group": "Ops"}},
        {"egress_allowlist": []},
        {"egress_allowlist": [{"host": "api.example.com", "paths": ["/*"]}]},
        {"approvals": [{"action": "mail.send", "required": False}]},
        {"approvals": []},
        {"approvals": [{"action": "mail.send", "approver_group": "Ops", "deadline_s": 60}]},
        {"data_boundaries": {}},
        {"data_boundaries": {"pii": "mask"}},
        {"data_classes_allowed": []},
        {"data_boundaries": {"export": "allow"}},
        {"data_classes_denied": []},
        {"budgets": {}},
        {"budgets": {"requests": 0, "per_contract": {"wall_time_s": 60}}},
        {"elevated": True},
        {"model_routing": {"must_proxy_via": "clawproxy", "receipts_required": True}},
        {"token_constraints": {"pin_policy_hash": True, "job_bound": True}},
        {"token_requirements": {"require_cst": True, "pin_cst_to_policy_hash": True}},
        {"evidence_requirements": {"require_gateway_receipts": True, "require_proof_bundle": True}},
    ],
)
def test_a_field_that_forbids_nothing_or_is_enforced_demands_nothing(fields: dict[str, Any]) -> None:
    assert _demands(**fields) == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"policy_name": ""}, "policy_name"),
        ({"policy_name": " padded"}, "policy_name"),
        ({"policy_name": "two\nlines"}, "policy_name"),
        ({"wpc_version": "v2"}, "wpc_version"),
        ({"policy_hash": 3}, "policy_hash"),
        ({"allowed_models": "gpt-4o"}, "allowed_models"),
        ({"allowed_models": [3]}, "allowed_models[0]"),
        ({"allowed_models": [""]}, "allowed_models[0]"),
        ({"allowed_models": ["x"] * 257}, "allowed_models"),
        ({"allowed_providers": ["OpenAI"]}, "allowed_providers[0]"),
        ({"allowed_tools": ["ｂash"]}, "allowed_tools[0]"),
        ({"allowed_tools": ["mcp__*"]}, "allowed_tools[0]"),
        ({"denied_tools": ["*"]}, "denied_tools[0]"),
        ({"denied_tools": {}}, "denied_tools"),
        ({"tool_classes": {"a": []}}, "tool_classes.a"),
        ({"tool_classes": {"a": "Bash"}}, "tool_classes.a"),
        ({"tool_classes": {"a*": ["Bash"]}}, "tool_classes.a*"),
        ({"tool_classes": {"model_call_via_clawproxy": ["x"]}}, "tool_classes.model_call_via_clawproxy"),
        ({"model_routing": {"must_proxy_via": "elsewhere"}}, "model_routing.must_proxy_via"),
        ({"approvals": 3}, "approvals"),
        ({"approvals": [{"required": True}]}, "approvals[0].action"),
        ({"approvals": ["mail.send"]}, "approvals[0]"),
        ({"token_constraints": {"cst_ttl_minutes": 0}}, "token_constraints.cst_ttl_minutes"),
        ({"token_constraints": {"cst_ttl_minutes": True}}, "token_constraints.cst_ttl_minutes"),
        ({"token_constraints": {"cst_ttl_minutes": 30.0}}, "token_constraints.cst_ttl_minutes"),
        ({"token_requirements": {"require_cst": "yes"}}, "token_requirements.require_cst"),
        ({"budgets": {"max_calls": 1}}, "budgets"),
        ({"budgets": {"requests": -1}}, "budgets.requests"),
        ({"budgets": {"requests": 1.0}}, "budgets.requests"),
        ({"budgets": {"requests": None}}, "budgets.requests"),
        ({"budgets": {"cost_microusd": 10**15 + 1}}, "budgets.cost_microusd"),
        ({"budgets": {"per_contract": {"per_contract": {}}}}, "budgets.per_contract"),
        ({"budgets": {"per_contract": {"tokens": 1}}}, "budgets.per_contract"),
        ({"data_boundaries": {"pii": ["mask"]}}, "data_boundaries.pii"),
        ({"elevated": "no"}, "elevated"),
    ],
)
def test_a_field_of_the_wrong_form_is_named(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract({**claw(), **fields})
    assert caught.value.where == where


def test_a_null_field_is_not_an_absent_field() -> None:
    for name in ("allowed_models", "denied_tools", "approvals", "tool_classes", "elevated"):
        with pytest.raises(ClawproxyError):
            parse_contract({**claw(), name: None})


# -- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", Starter)
def test_a_starter_has_nothing_to_note_and_can_be_enforced_in_full(name: Starter) -> None:
    contract = parse_contract(starter_document(name))
    assert check_contract(contract, CLASSES) == []
    assert contract.policy.demands == ()
    assert contract.policy.max_ttl_s == 1800


def test_check_reports_the_placeholder_as_a_note() -> None:
    notes = check_contract(parse_contract(INVOICE_TRIAGE), CLASSES)
    assert next(note.where for note in notes if note.weight is Weight.NOTE) == "policy_hash"
    assert "fills in" in str(notes[0])


def test_check_names_every_demand_and_that_no_model_may_be_called() -> None:
    places = _places(REFUND_ASSISTANT)
    assert {"data_boundaries.export", "allowed_models"} <= set(places)
    assert "no model may be called" in places["allowed_models"]


def test_check_names_tool_words_without_a_tool_behind_them() -> None:
    places = _places(claw(allowed_tools=["ticket.read", "Bash", "refund.request"], denied_tools=["shell.exec"]))
    assert 'allowed_tools["refund.request"]' in places
    assert 'allowed_tools["Bash"]' not in places  # a known agent's own name for a tool
    assert 'allowed_tools["ticket.read"]' not in places
    unclassed = _places(claw(tool_classes=None, denied_tools=["shell_exec"]))
    assert "claude-code" in unclassed['denied_tools["shell_exec"]']


def test_check_names_contradictions_and_idle_classes() -> None:
    places = _places(claw(denied_tools=["shell.exec"]))
    assert "denial holds" in places['allowed_tools["shell.exec"]']
    assert 'tool_classes["fs.write"]' in places
    assert "denied_tools" in _places(claw(denied_tools=["model_call_via_clawproxy"]))
    assert "allowed_providers" in _places(claw(allowed_providers=[]))


def test_check_speaks_about_the_other_shapes_too() -> None:
    assert set(_places(wpc_v1(minimum_model_identity_tier="tee_measured"))) == {"minimum_model_identity_tier"}
    assert set(_places(wpc_v1(allowed_models=[]))) == {"allowed_models"}
    assert _places(wpc_v2()) == {}
    deny = {"sid": "d", "effect": "Deny", "actions": ["*"], "resources": ["*"]}
    assert set(_places(wpc_v2(deny))) == {"statements"}


@pytest.mark.parametrize(
    "entries",
    [["state"], ["state:*"], ["url:"], ["State:x"], ["file:x"], ["url:a.b.c"], [1], "state:x", ["state:x "], [None]],
)
def test_a_feature_of_a_provider_is_named_by_kind_and_member(entries: Any) -> None:
    good = ["state:previous_response_id", "url:image_url.url"]
    assert policy_of(claw(allowed_provider_features=good)).provider_features == set(good)
    assert policy_of(claw()).provider_features == frozenset()
    with pytest.raises(ClawproxyError):
        policy_of(claw(allowed_provider_features=entries))
