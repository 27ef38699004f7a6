"""The reference's shapes: WPC v1 (protocol.md C.1, C.4) and WPC v2 (C.2, C.3)."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.decide import Allow, decide
from clawproxy.policies.policy import ModelRules
from clawproxy.policies.statements import glob_matches, judge
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal
from hypothesis import given
from hypothesis import strategies as st

from .makers import a_grant, facts, policy_of, statement, wpc_v1, wpc_v2


def _reason(document: JsonObject, **asked: Any) -> str:
    decision = decide(facts(**asked), a_grant(), policy_of(document))
    return decision.reason if isinstance(decision, Refusal) else "allowed"


# -- v1 ------------------------------------------------------------------------------------------------------------


def test_v1_wants_provider_and_model() -> None:
    assert _reason(wpc_v1()) == "allowed"
    assert _reason(wpc_v1(), model="o1") == "POLICY_MODEL_NOT_ALLOWED"
    assert _reason(wpc_v1(), provider="anthropic") == "POLICY_PROVIDER_NOT_ALLOWED"


def test_v1_compares_models_without_regard_to_ascii_case() -> None:
    assert _reason(wpc_v1(), model="GPT-4o-MINI") == "allowed"
    assert _reason(wpc_v1(allowed_models=["kimi"]), model="\u212aimi") == "POLICY_MODEL_NOT_ALLOWED"  # Kelvin sign
    assert ModelRules(("kimi",), fold_case=True).permission("\u212aimi") is None


@pytest.mark.parametrize("models", [None, []], ids=["absent", "empty"])
def test_v1_without_models_allows_none(models: list[str] | None) -> None:
    assert _reason(wpc_v1(allowed_models=models)) == "POLICY_MODEL_NOT_ALLOWED"


def test_v1_without_providers_allows_any_and_with_an_empty_list_none() -> None:
    assert _reason(wpc_v1(allowed_providers=None)) == "allowed"
    assert _reason(wpc_v1(allowed_providers=[])) == "POLICY_PROVIDER_NOT_ALLOWED"


def test_v1_has_no_word_for_tools_so_none_may_be_declared() -> None:
    assert _reason(wpc_v1(), tools=("Bash",)) == "POLICY_TOOL_NOT_ALLOWED"


def test_v1_tier_above_closed_opaque_refuses_every_call() -> None:
    assert _reason(wpc_v1(minimum_model_identity_tier="closed_opaque")) == "allowed"
    for tier in ("closed_provider_manifest", "openweights_hashable", "tee_measured"):
        assert _reason(wpc_v1(minimum_model_identity_tier=tier)) == "POLICY_MODEL_IDENTITY_TIER_TOO_LOW"


@pytest.mark.parametrize(
    ("fields", "demands"),
    [
        ({"required_audit_packs": ["abcdefgh"]}, ["required_audit_packs"]),
        ({"redaction_rules": [{"path": "$.a", "action": "mask"}]}, []),
        ({"receipt_privacy_mode": "encrypted"}, ["receipt_privacy_mode"]),
        ({"egress_allowlist": ["*.example.com"]}, ["egress_allowlist"]),
        (
            {"receipt_privacy_mode": "hash_only", "redaction_rules": [], "egress_allowlist": [], "metadata": {"a": 1}},
            [],
        ),
    ],
)
def test_v1_demands(fields: dict[str, Any], demands: list[str]) -> None:
    assert [d.field for d in policy_of(wpc_v1(**fields)).demands] == demands


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"policy_id": 1}, "policy_id"),
        ({"issuer_did": "reviewer"}, "issuer_did"),
        ({"allowed_providers": ["mistral"]}, "allowed_providers[0]"),
        ({"minimum_model_identity_tier": "best"}, "minimum_model_identity_tier"),
        ({"redaction_rules": [{"path": "$.a", "action": "blur"}]}, "redaction_rules[0].action"),
        ({"redaction_rules": [{"path": "$.a"}]}, "redaction_rules[0].action"),
        ({"redaction_rules": [{"path": "$.a[0]", "action": "mask"}]}, "redaction_rules[0].path"),
        ({"redaction_rules": [{"path": "$[*]", "action": "mask"}]}, "redaction_rules[0].path"),
        ({"redaction_rules": [{"path": "a..b", "action": "mask"}]}, "redaction_rules[0].path"),
        ({"policy_hash": "A" * 43}, ""),
        ({"allowed_tools": []}, ""),
    ],
)
def test_v1_is_strict(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract(wpc_v1(**fields))
    assert caught.value.where == where


def test_a_missing_field_is_named() -> None:
    for name in ("policy_id", "issuer_did"):
        with pytest.raises(ClawproxyError) as caught:
            parse_contract(wpc_v1(**{name: None}))
        assert caught.value.where == name


# -- v2: statements ------------------------------------------------------------------------------------------------

MODELS = statement("models", "Allow", ["model:invoke"], ["openai/gpt-4o*"])
TOOLS = statement("tools", "Allow", ["tool:execute"], ["get_*", "Bash"])


def test_v2_allows_what_a_statement_allows_and_nothing_else() -> None:
    document = wpc_v2(MODELS, TOOLS)
    assert _reason(document, model="gpt-4o-mini", tools=("get_ticket", "Bash")) == "allowed"
    assert _reason(document, model="o1") == "POLICY_STATEMENT_DENIED"
    assert _reason(document, provider="anthropic") == "POLICY_STATEMENT_DENIED"
    assert _reason(document, tools=("get_ticket", "Write")) == "POLICY_STATEMENT_DENIED"
    assert _reason(wpc_v2(MODELS), tools=("Bash",)) == "POLICY_STATEMENT_DENIED"


def test_v2_says_which_statements_allowed_and_which_denied() -> None:
    allowed = decide(facts(tools=("Bash",)), a_grant(), policy_of(wpc_v2(MODELS, TOOLS)))
    assert isinstance(allowed, Allow)
    assert (allowed.model_rule, allowed.tool_rules) == ('statements["models"]', ('statements["tools"]',))
    deny = statement("no-bash", "Deny", ["*"], ["Bash"])
    denied = decide(facts(tools=("Bash",)), a_grant(), policy_of(wpc_v2(MODELS, TOOLS, deny)))
    assert isinstance(denied, Refusal)
    assert denied.rule == 'statements["no-bash"]'


@pytest.mark.parametrize("wire_name", ["bash", "BASH", "\uff22ash"])
def test_v2_deny_holds_for_other_spellings_of_a_tool(wire_name: str) -> None:
    document = wpc_v2(statement("all", "Allow", ["*"], ["*"]), statement("no", "Deny", ["tool:execute"], ["Bash"]))
    assert _reason(document, tools=("Read",)) == "allowed"
    assert _reason(document, tools=(wire_name,)) in ("POLICY_STATEMENT_DENIED", "POLICY_TOOL_NOT_ALLOWED")


def test_v2_conditions_see_agent_provider_model_and_tool() -> None:
    when = {
        "StringEquals": {"Agent:DID": "did:key:z6MkAgent", "Model:Provider": "openai"},
        "StringLike": {"Model:Name": "gpt-*"},
    }
    assert _reason(wpc_v2(statement("s", "Allow", ["*"], ["*"], conditions=when))) == "allowed"
    assert _reason(wpc_v2(statement("s", "Allow", ["*"], ["*"], conditions=when)), model="o1") != "allowed"
    tool = statement("t", "Deny", ["*"], ["*"], conditions={"StringEquals": {"Tool:Name": "Bash"}})
    both = wpc_v2(statement("all", "Allow", ["*"], ["*"]), tool)
    assert _reason(both, tools=("Read",)) == "allowed"
    assert _reason(both, tools=("Bash",)) == "POLICY_STATEMENT_DENIED"


UNKNOWABLE: list[JsonObject] = [
    {"StringMatches": {"Model:Name": "x"}},  # unknown operator
    {"StringEquals": {"Request:HasHumanApproval": "false"}},
    {"NumericLessThan": {"Context:Hour": "0"}},
    {"StringNotEquals": {"Some:Thing": "x"}},
    {"NumericEquals": {"Model:Name": "3"}},  # the name is no number
    {"IpAddress": {"Model:Name": "10.0.0.0/8"}},
]


@pytest.mark.parametrize("conditions", UNKNOWABLE)
def test_v2_a_condition_that_cannot_be_told_denies_in_both_directions(conditions: JsonObject) -> None:
    deny = policy_of(
        wpc_v2(statement("all", "Allow", ["*"], ["*"]), statement("d", "Deny", ["*"], ["*"], conditions=conditions))
    )
    allow = policy_of(wpc_v2(statement("a", "Allow", ["*"], ["*"], conditions=conditions)))
    context = {"Agent:DID": "a", "Model:Provider": "openai", "Model:Name": "gpt-4o"}
    for policy in (deny, allow):
        assert policy.statements is not None
        assert not judge(policy.statements, "model:invoke", "openai/gpt-4o", context).allowed


def test_v2_absent_tool_name_is_read_as_the_reference_reads_it() -> None:
    context = {"Model:Name": "gpt-4o"}
    for operator, holds in (("StringEquals", False), ("StringLike", False), ("StringNotEquals", True)):
        policy = policy_of(wpc_v2(statement("a", "Allow", ["*"], ["*"], conditions={operator: {"Tool:Name": "x"}})))
        assert policy.statements is not None
        assert judge(policy.statements, "model:invoke", "r", context).allowed is holds


@pytest.mark.parametrize(
    ("more", "demands"),
    [
        ({"inherits": "parent"}, ["inherits"]),
        ({"coverage_enforcement": "enforce"}, ["coverage_enforcement"]),
        ({"coverage_enforcement": "warn"}, []),
        ({"witnessed_web_policy": {"mode": "enforce"}}, ["witnessed_web_policy"]),
        ({"witnessed_web_policy": {"mode": "warn", "quorum": {"m": 1, "n": 2}}}, []),
        ({"witnessed_web_policy": {"mode": "warn", "transparency": {"mode": "enforce"}}}, ["witnessed_web_policy"]),
    ],
)
def test_v2_demands(more: dict[str, Any], demands: list[str]) -> None:
    assert [d.field for d in policy_of(wpc_v2(**more)).demands] == demands


def test_v2_side_effects_and_unknown_conditions_are_demands() -> None:
    egress = statement("net", "Allow", ["side_effect:network_egress"], ["*"])
    assert [d.field for d in policy_of(wpc_v2(MODELS, egress)).demands] == ['statements["net"].actions']
    for conditions in UNKNOWABLE[:4]:
        assert policy_of(wpc_v2(statement("d", "Deny", ["*"], ["*"], conditions=conditions))).demands


@pytest.mark.parametrize(
    "bent",
    [
        {"effect": "allow"},
        {"actions": []},
        {"resources": "x"},
        {"conditions": None},
        {"conditions": {"StringEquals": None}},
        {"conditions": {"StringEquals": {}}},
        {"conditions": {"StringEquals": {"Model:Name": None}}},
        {"conditions": {"StringEquals": {"Model:Name": ["a", "b"]}}},
        {"conditions": {"NumericEquals": {"Model:Name": "3abc"}}},
        {"conditions": {"NumericEquals": {"Model:Name": "nan"}}},
        {"conditions": {"Bool": {"Model:Name": "yes"}}},
        {"conditions": {"IpAddress": {"Model:Name": "fe80::/10"}}},
        {"condition": {}},
    ],
)
def test_v2_statements_are_strict(bent: JsonObject) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract(wpc_v2({**statement("s", "Allow", ["*"], ["*"]), **bent}))
    assert caught.value.where.startswith("statements[0]")


def test_v2_without_statements_is_refused() -> None:
    with pytest.raises(ClawproxyError):
        parse_contract(wpc_v2() | {"statements": []})


# -- glob ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("*", "a/b\nc", True),
        ("**", "", True),
        ("*.internal", "a.b.internal", True),
        ("src/**/*.ts", "src/a.ts", True),
        ("src/**/*.ts", "src/x/y/a.ts", True),
        ("src/*", "src/a/b", False),
        ("src/*", "src/a", True),
        ("**/secrets/**", "mysecrets/b", True),
        ("**/secrets/**", "a\n/secrets/b", True),  # the reference's newline hole
        ("a?c", "a/c", False),
        ("a?c", "abc", True),
        ("a.c", "abc", False),
        ("openai/gpt-4o*", "openai/gpt-4o-mini", True),
        ("openai/gpt-4o", "OpenAI/gpt-4o", False),
        ("a*b*c", "aXXbYYc", True),
        ("a*b*c", "aXXcYYb", False),
    ],
)
def test_glob(pattern: str, value: str, fits: bool) -> None:
    assert glob_matches(pattern, value) is fits


@given(st.text(alphabet="ab/*?", max_size=8), st.text(alphabet="ab/\n", max_size=10))
def test_glob_agrees_with_a_plain_reading(pattern: str, value: str) -> None:
    assert glob_matches(pattern, value) is (pattern in ("*", "**") or _plain(pattern, value))


def _plain(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/") if pattern[2:3] == "/" else pattern[2:]
        return any(_plain(rest, value[n:]) for n in range(len(value) + 1))
    if pattern[0] == "*":
        stop = value.find("/") if "/" in value else len(value)
        return any(_plain(pattern[1:], value[n:]) for n in range(stop + 1))
    fits = bool(value) and (value[0] != "/" if pattern[0] == "?" else value[0] == pattern[0])
    return fits and _plain(pattern[1:], value[1:])


def test_a_long_hostile_name_is_matched_in_time() -> None:
    assert not glob_matches("*a" * 100, "a" * 256 + "b")
