"""``contract diff`` case by case: what counts as more, what proves that nothing is, and what is not decided."""

from __future__ import annotations

import copy
import dataclasses
from random import Random
from typing import Any

import pytest
from clawproxy.policies.approval_rules import ActionApproval, JobApproval
from clawproxy.policies.argument_rules import CONDITION_FIELDS, ArgumentRule, Condition
from clawproxy.policies.budget_rules import NAMES, Budgets, Limits
from clawproxy.policies.call_rules import ToolCall
from clawproxy.policies.contract_diff import compare as compare_module
from clawproxy.policies.contract_diff import models as models_module
from clawproxy.policies.contract_diff import names as names_module
from clawproxy.policies.contract_diff import universe as universe_module
from clawproxy.policies.contract_diff.compare import Comparison, Verdict, compare
from clawproxy.policies.contract_diff.names import Effort, names_that_fit
from clawproxy.policies.contract_diff.patterns import Machine, Reader, View
from clawproxy.policies.contract_diff.power import Proof
from clawproxy.policies.data_rules import DataRules
from clawproxy.policies.egress import ENTRY_FIELDS, EgressAllow, EgressEntry, EgressFacts, decide_egress
from clawproxy.policies.fixtures import decide_fixture, fixture_row, read_fixtures
from clawproxy.policies.names import fold, is_settled
from clawproxy.policies.packaged import Starter, starter_document
from clawproxy.policies.policy import ModelRules, Policy
from clawproxy.tokens.canonical import JsonObject, jcs_bytes

from .makers import claw, policy_of, statement, wpc_v1, wpc_v2
from .small_contracts import pair


def _compared(before: JsonObject, after: JsonObject) -> Comparison:
    return compare(policy_of(before), policy_of(after))


def _verdict(before: JsonObject, after: JsonObject) -> Verdict:
    return _compared(before, after).verdict


def _schema(**more: Any) -> JsonObject:
    return {"shell.exec": {"schema": {"type": "object", "properties": {"command": {"type": "string", **more}}}}}


EXPORTS = {"data_boundaries": {"export": "deny"}}
HOST = {"host": "a.example", "paths": ["/*"]}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        # written otherwise, the same
        ({"allowed_models": ["gpt-4o", "claude-*"]}, {"allowed_models": ["claude-*", "gpt-4o", "claude-3*"]}, "equal"),
        ({"allowed_tools": ["search"]}, {"allowed_tools": ["find"], "tool_classes": {"find": ["search"]}}, "equal"),
        ({"token_constraints": {"cst_ttl_minutes": 60}}, {}, "equal"),
        ({"policy_name": "one"}, {"policy_name": "two"}, "equal"),
        ({"egress_allowlist": [HOST]}, {"egress_allowlist": [HOST, {**HOST, "paths": ["/v1/*"]}]}, "equal"),
        # models and providers
        ({"allowed_models": ["gpt-4*"]}, {"allowed_models": ["gpt-4o", "gpt-4.1*"]}, "narrower"),
        ({"allowed_models": ["gpt-4*"]}, {"allowed_models": ["gpt-4*", "o*"]}, "wider"),
        # a router needs its exact name, and what only looks like that is refused from then on
        (
            {"allowed_models": ["openrouter/*"], "allowed_providers": None},
            {"allowed_models": ["openrouter/*", "openrouter/auto"], "allowed_providers": None},
            "different",
        ),
        ({"allowed_models": ["*"]}, {"allowed_models": ["*", "openrouter/x"]}, "narrower"),
        ({"allowed_providers": ["openai", "anthropic"]}, {"allowed_providers": None}, "wider"),
        ({}, {"denied_tools": ["model_call_via_clawproxy"]}, "narrower"),
        # tools
        ({}, {"denied_tools": ["fs.write", "get_ticket"]}, "narrower"),
        ({}, {"allowed_tools": ["ticket.read", "shell.exec", "search", "exec"]}, "wider"),
        ({"on_denied_tool": "refuse"}, {"on_denied_tool": "strip"}, "wider"),
        ({"on_denied_call": "error"}, {"on_denied_call": "refuse"}, "wider"),
        ({}, {"read_only_tools": ["search"]}, "wider"),
        ({"approvals": [{"action": "search"}]}, {}, "wider"),
        ({"approvals": [{"action": "shell.exec"}]}, {}, "different"),  # an action is a tool of its own name as well
        (
            {"approvals": [{"action": "shell.exec", "approver_group": "a"}]},
            {"approvals": [{"action": "shell.exec"}]},
            "wider",
        ),
        (
            {"approvals": [{"action": "shell.exec", "deadline_s": 10}]},
            {"approvals": [{"action": "shell.exec", "deadline_s": 20}]},
            "wider",
        ),
        ({"approvals": {"required": True}}, {"approvals": {"required": False}}, "wider"),
        ({"approvals": {"approver_group": "a"}}, {"approvals": {"approver_group": "b"}}, "different"),
        # what tools are called with
        ({}, {"tool_arguments": {"shell.exec": {"when": [{"argument": "c", "like": ["ls *"]}]}}}, "narrower"),
        (
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "c", "like": ["ls *"]}]}}},
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "c", "like": ["ls -l*", "ls  *"]}]}}},
            "narrower",
        ),
        (
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "c", "not_like": ["*rm *"]}]}}},
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "c", "not_like": ["*rm  *"]}]}}},
            "wider",
        ),
        (
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "n", "at_most": 5}]}}},
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "n", "one_of": [1, 5]}]}}},
            "narrower",
        ),
        # a class of the operator's own, which may be personal
        (
            {"egress_allowlist": [HOST], "data_boundaries": {"export": "deny"}},
            {"egress_allowlist": [HOST], "data_boundaries": {"export": "deny", "acme": "allow"}},
            "wider",
        ),
        (
            {"data_boundaries": {"acme": "redact_in_logs"}, "tool_data_access": {"search": ["internal"]}},
            {"data_boundaries": {"acme": "redact_in_logs"}, "tool_data_access": {"search": ["acme", "internal"]}},
            "wider",
        ),
        (
            {"data_boundaries": {"acme": "redact_in_logs"}, "tool_data_access": {"search": ["acme"]}},
            {"data_boundaries": {"acme": "hash"}, "tool_data_access": {"search": ["acme"]}},
            "narrower",
        ),
        (  # one of these is true, not 1
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "n", "one_of": [1, "a"]}]}}},
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "n", "one_of": [True, "a"]}]}}},
            "different",
        ),
        (  # bounds of a number let no text be long
            {
                "tool_arguments": {
                    "shell.exec": {"when": [{"argument": "n", "at_most": 0}, {"argument": "n", "at_least": 3}]}
                }
            },
            {"tool_arguments": {"shell.exec": {"when": [{"argument": "n", "max_chars": 0}]}}},
            "wider",
        ),
        ({"tool_arguments": _schema(maxLength=4)}, {"tool_arguments": _schema(maxLength=5)}, "different"),
        # content at the provider, hosts, time, money, data
        ({}, {"allowed_provider_features": ["state:prompt"]}, "wider"),
        ({"egress_allowlist": [HOST]}, {"egress_allowlist": [{**HOST, "paths": []}]}, "narrower"),
        ({"egress_allowlist": [HOST]}, {"egress_allowlist": [{**HOST, "host": "*.a.example"}]}, "different"),
        ({"egress_allowlist": [HOST]}, {"egress_allowlist": [{**HOST, "credential": "one"}]}, "wider"),
        ({"egress_allowlist": [HOST]}, {"egress_allowlist": [{**HOST, "methods": ["GET", "PUT"]}]}, "wider"),
        ({}, {"token_constraints": {"cst_ttl_minutes": 61}}, "wider"),
        ({"budgets": {"requests": 5}}, {"budgets": {"per_contract": {"requests": 5}}}, "narrower"),
        ({"budgets": {"total_tokens": 50}}, {"budgets": {"input_tokens": 20, "output_tokens": 30}}, "narrower"),
        ({"budgets": {"cost_microusd": 50}}, {}, "wider"),
        ({"data_boundaries": {"pii": "deny"}}, {"data_boundaries": {"pii": "mask"}}, "wider"),
        ({"data_boundaries": {"email": "mask"}}, {"data_boundaries": {"contact_pii": "mask"}}, "narrower"),
        ({"egress_allowlist": [HOST], **EXPORTS}, {"egress_allowlist": [HOST]}, "wider"),
        ({"data_classes_allowed": ["public"]}, {"data_classes_allowed": ["public", "internal"]}, "wider"),
        ({"elevated": False}, {}, "wider"),
        ({}, {"elevated": False}, "narrower"),
        ({}, {"elevated": False, "allowed_models": ["*"]}, "different"),
    ],
)
def test_of_two_contracts(before: JsonObject, after: JsonObject, verdict: str) -> None:
    assert _verdict(claw(**before), claw(**after)) == verdict


def test_shapes_are_compared_by_what_they_permit() -> None:
    listed = claw(allowed_providers=["openai"], allowed_models=["gpt-4o*"], allowed_tools=[], denied_tools=[])
    assert _verdict(wpc_v1(), listed) == Verdict.DIFFERENT  # WPC v1 takes GPT-4O for gpt-4o, a Claw contract does not
    stated = wpc_v2(statement("s", "Allow", ["model:invoke"], ["openai/gpt-4o"]))
    assert _verdict(listed, stated) == Verdict.DIFFERENT  # any provider may be asked which models it has
    assert all(power.proof is Proof.DECIDED for power in _compared(listed, stated).added)


def test_a_denial_by_another_name_of_the_model_is_seen() -> None:
    everything = statement("all", "Allow", ["*"], ["**"])
    before = wpc_v2(everything, statement("no", "Deny", ["model:invoke"], ["openai/o1"]))
    after = wpc_v2(
        statement("listed", "Allow", ["*"], ["openai/models/*", "openai/*:free"]),
        statement("no", "Deny", ["model:invoke"], ["openai/models/o1", "openai/o1:free"]),
    )
    models = {power.example.call.model for power in _compared(before, after).added if power.example}
    assert models, "a model that only its list's own name hides"


def test_each_example_is_a_fixture_that_both_contracts_decide_otherwise() -> None:
    before, after = starter_document(Starter.CODEX), starter_document(Starter.CLAUDE_CODE)
    found = _compared(before, after)
    assert found.added
    for power in (*found.added, *found.removed):
        assert power.proof is Proof.DECIDED
        assert power.example is not None
        (read,) = read_fixtures(jcs_bytes(fixture_row(power.example)))
        words = {decide_fixture(read, policy_of(document)).word for document in (before, after)}
        assert words == {power.here, power.there}


@pytest.mark.parametrize("name", Starter)
def test_a_starter_is_itself_and_each_entry_taken_out_makes_it_no_wider(name: Starter) -> None:
    document = starter_document(name)
    assert _verdict(document, copy.deepcopy(document)) == Verdict.EQUAL
    for field in ("allowed_models", "allowed_tools"):
        for n in range(len(document[field])):
            less = copy.deepcopy(document)
            del less[field][n]
            assert not _compared(document, less).widens


def test_rules_that_ask_nothing_still_keep_a_tool_from_being_called_through_another() -> None:
    both = {"allowed_tools": ["exec", "search"]}
    before = claw(**both, tool_arguments={"search": {"schema": {}}})
    found = _compared(before, claw(**both))
    said = [(power.field, power.proof) for power in found.added]
    assert said == [("tool_arguments", Proof.DECIDED), ("allowed_tools", Proof.DECIDED)]
    assert found.added[0].example is not None
    assert found.added[0].example.tool == ToolCall("search", None)  # what cannot be read breaks every rule
    assert found.added[1].what == 'calls of tools through "exec", such as "search"'


@pytest.mark.parametrize("chars", range(246, 254))
def test_a_star_above_a_host_that_is_nearly_too_long_is_seen_while_a_name_fits_below_it(chars: int) -> None:
    tail = "." + ".".join("b" * 59 for _ in range(4))
    base = "c" * (chars - len(tail)) + tail
    assert len(base) == chars
    wider = claw(egress_allowlist=[HOST, {**HOST, "host": f"*.{base}"}])
    facts = EgressFacts("https", f"a.{base}", 443, "GET", "/x")
    assert isinstance(decide_egress(facts, policy_of(wider)), EgressAllow) is (chars <= 251)
    assert _compared(claw(egress_allowlist=[HOST]), wider).widens is (chars <= 251)


def test_what_an_escaped_slash_reaches_is_seen_where_nothing_else_differs() -> None:
    every, crm = {"host": "a.ex", "paths": ["/*"]}, {"host": "a.ex", "paths": ["/v/*"], "credential": "crm"}
    for first in (crm, {**crm, "paths": ["/v%2Fw"]}):
        narrow = claw(egress_allowlist=[first, every])
        assert [power.what for power in _compared(narrow, claw(egress_allowlist=[every])).added] == [
            "GET https://a.ex/x%2Fx"
        ]
    more = [{**crm, "paths": ["/v%2Fw/*"]}, {**every, "paths": ["/v/w/x"]}, {**crm, "paths": ["/*"]}]
    assert _compared(claw(egress_allowlist=more[1:]), claw(egress_allowlist=more)).widens


def test_what_cannot_be_searched_counts_as_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(universe_module, "Effort", lambda left=0: Effort(900))
    found = _compared(claw(allowed_models=["gpt-4*"]), claw(allowed_models=["gpt-4o*"]))
    assert found.undecided
    assert found.widens


@pytest.mark.parametrize("guard", ["accents", "dresses"])
def test_without_a_part_of_the_search_some_difference_is_missed(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [statement("a", "Allow", ["*"], ["openai/models/*"]), statement("o", "Allow", ["*"], ["openai/b"])]
    cases = {
        "accents": (
            claw(tool_classes={"search": ["*a*"]}, denied_tools=[]),
            claw(tool_classes={"search": ["*a*"], "no": ["*a*"]}, denied_tools=["no"], allowed_tools=["search"]),
        ),
        "dresses": (wpc_v2(*free, statement("no", "Deny", ["*"], ["openai/b"])), wpc_v2(*free[:1])),
    }
    before, after = cases[guard]
    whole = len(_names(before, after))
    match guard:
        case "accents":
            monkeypatch.setattr(names_module, "_accent_of", lambda char: "")
        case _:
            monkeypatch.setattr(models_module, "dresses", lambda spoken: [])
    assert len(_names(before, after)) < whole


def test_a_member_of_the_policy_that_nobody_compares_counts_as_more_where_it_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = claw(budgets={"requests": 5}), claw(budgets={"requests": 4})
    assert _verdict(before, after) == Verdict.NARROWER
    monkeypatch.setattr(compare_module, "_COMPARED", compare_module._COMPARED - {"budgets"})
    assert [power.field for power in _compared(before, after).undecided] == ["budgets"]


@pytest.mark.parametrize(
    ("of", "members"),
    [
        (Policy, compare_module._COMPARED | compare_module._SAY_NOTHING),
        (EgressEntry, {*ENTRY_FIELDS, "index"}),
        (ArgumentRule, {"word", "conditions", "schema", "schema_text"}),
        (Condition, set(CONDITION_FIELDS)),
        (DataRules, {"actions", "allowed", "export_denied", "carries", "access", "paths"}),
        (ActionApproval, {"action", "group", "deadline_s"}),
        (JobApproval, {"group"}),
        (Limits, set(NAMES)),
        (Budgets, {"job", "contract"}),
        (ModelRules, {"patterns", "fold_case"}),
    ],
)
def test_what_is_compared_is_all_that_there_is(of: Any, members: set[str]) -> None:
    """A new member needs its place in the comparison; then its name belongs here."""
    assert {field.name for field in dataclasses.fields(of)} == members


def _names(*documents: JsonObject) -> set[str]:
    from clawproxy.policies.contract_diff.universe import universe_of

    found = universe_of([policy_of(document) for document in documents])
    return {*found.tools, *(seat.facts.model or "" for seat in found.seats)}


def test_every_way_in_which_patterns_fit_has_a_name() -> None:
    patterns, folded = ["a*", "*b", "ab", "B"], ["b*", "ab"]
    machines = [Machine(Reader.of(View.EXACT, patterns)), Machine(Reader.of(View.FOLDED, folded))]
    found = names_that_fit([(machine, machine.start) for machine in machines])

    def vector(name: str) -> tuple[Any, ...]:
        return tuple(machine.accepted(machine.read(machine.start, name)) for machine in machines)

    shown = {vector(name) for name in found.names}
    random = Random(1)
    for _ in range(20_000):
        name = "".join(random.choice("abABc \u0301ßж") for _ in range(random.randint(1, 5)))
        assert not is_settled(name) or vector(name) in shown or fold(name) != "".join(map(fold, name)), name


def test_only_these_characters_outside_ascii_fold_into_ascii() -> None:
    found = {chr(code) for code in range(0x80, 0x110000) if is_settled(chr(code)) and not _is_foreign(fold(chr(code)))}
    assert found == {"ß", "ẞ", "İ"}


def _is_foreign(folded: str) -> bool:
    return bool(folded) and not any(char.isascii() for char in folded)


def test_a_pair_is_the_same_for_a_seed() -> None:
    assert pair(Random(7)) == pair(Random(7))
