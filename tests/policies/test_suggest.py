"""The least contract: it allows what was seen, and without any one of its elements something seen is refused."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from clawproxy.policies.argument_rules import NO_ARGUMENT_RULES
from clawproxy.policies.budget_rules import Amounts
from clawproxy.policies.call_rules import decide_call
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.decide import decide
from clawproxy.policies.egress import EgressFacts, decide_egress
from clawproxy.policies.facts import PROVIDER_FEATURES, CallFacts, CallKind
from clawproxy.policies.packaged import packaged_tool_classes
from clawproxy.policies.policy import Policy
from clawproxy.policies.practice import JobUse, Practice, SeenEffect, SeenTool, note
from clawproxy.policies.suggest import Paths, Wish, suggest
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal

from .makers import a_grant, claw, policy_of

AT = "2026-11-23T04:00:00.000Z"
GRANT = a_grant()
CLASSES = packaged_tool_classes()
MODELS = ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "claude-sonnet-5-5", "openrouter/auto", "GPT-4o-mini", "x y")
TOOLS = (
    "Bash",
    "BashOutput",
    "bash",
    "Read",
    "ticket_read",
    "exec",
    "mcp:crm",
    "mcp:crm.example",
    "shell.exec",
    "読む",
)
FEATURES = tuple(sorted(PROVIDER_FEATURES))[:6]
HOSTS = ("api.example.com", "files.example.com", "203.0.113.7")


def make_practice(rng: random.Random) -> Practice:
    practice = Practice(jobs=["job-1"], max_ttl_s=1800)
    for _ in range(rng.randint(0, 6)):
        model = rng.choice(MODELS)
        tools = tuple(rng.sample(TOOLS, rng.randint(0, 4)))
        features = rng.sample(FEATURES, rng.randint(0, 2))
        facts = CallFacts(
            provider=rng.choice(("openai", "anthropic", "openrouter")),
            route="",
            model=model if rng.random() < 0.9 else None,
            stream=False,
            tools=tools,
            provider_state=tuple(f.removeprefix("state:") for f in features if f.startswith("state:")),
            remote_urls=tuple(f.removeprefix("url:") for f in features if f.startswith("url:")),
            any_tools=tuple(name for name in tools if name == "exec"),
            fallback_models=tuple(rng.sample(MODELS[:3], rng.randint(0, 1))),
            is_router=model == "openrouter/auto",
        )
        facts = facts if facts.model else replace(facts, kind=CallKind.LIST, tools=(), fallback_models=(), any_tools=())
        note(practice.calls, facts, AT, "job-1")
        practice.grants[facts] = GRANT
        for name in rng.sample((*facts.tools, "note_write", "mcp:crm.send"), min(2, len(facts.tools) + 2)):
            inner = ("hidden_tool",) if name in facts.any_tools else ()
            note(practice.tools, SeenTool(name, facts, inner), AT, "job-1")
    for _ in range(rng.randint(0, 6)):
        host = rng.choice(HOSTS)
        scheme = "http" if host[0] == "2" else rng.choice(("http", "https"))
        path = rng.choice(("/", "/a", "/a/b", "/c%20d", "/@a%2fb", "/a/b%2Fc/d", "/a/b%2Fc"))
        effect = SeenEffect(scheme, host, rng.choice((443, 80, 8080)), rng.choice(("GET", "POST")), path)
        note(practice.effects, effect, AT, "job-1")
    practice.uses.append(JobUse("job-1", Amounts(3, 900, 120, 7), Amounts(3, 2000, 4096, 50), 6096, 61, 2))
    return practice


def refusals(practice: Practice, policy: Policy) -> list[Refusal]:
    verdicts: list[Any] = [decide(facts, practice.grants[facts], policy) for facts in practice.calls]
    names_only = replace(policy, arguments=NO_ARGUMENT_RULES)
    verdicts += [decide_call(t.call, t.facts, practice.grants[t.facts], names_only) for t in practice.tools]
    for e in practice.effects:
        assert e.path is not None
        verdicts.append(decide_egress(EgressFacts(e.scheme, e.host, e.port, e.method, e.path), policy))
    return [verdict for verdict in verdicts if isinstance(verdict, Refusal)]


def without_one(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The contract without one of its permissions, each once."""
    for field in ("allowed_providers", "allowed_models", "allowed_tools", "allowed_provider_features"):
        for n, item in enumerate(document.get(field, ())):
            less = copy.deepcopy(document)
            del less[field][n]
            yield f"{field} {item}", less
    for word, names in document.get("tool_classes", {}).items():
        for n, name in enumerate(names if word in document["allowed_tools"] else ()):
            less = copy.deepcopy(document)
            del less["tool_classes"][word][n]
            if not less["tool_classes"][word]:
                del less["tool_classes"][word]
                less["allowed_tools"].remove(word)
            yield f"tool_classes {word} {name}", less
    for n, entry in enumerate(document.get("egress_allowlist", ())):
        less = copy.deepcopy(document)
        del less["egress_allowlist"][n]
        yield f"egress_allowlist {n}", less
        for field in ("methods", "paths"):
            for m, item in enumerate(entry[field]):
                less = copy.deepcopy(document)
                del less["egress_allowlist"][n][field][m]
                if not less["egress_allowlist"][n][field]:
                    del less["egress_allowlist"][n]
                yield f"egress_allowlist {n} {field} {item}", less


@pytest.mark.parametrize("seed", range(300))
def test_the_suggestion_covers_what_was_seen_and_nothing_of_it_can_be_spared(seed: int) -> None:
    practice = make_practice(random.Random(seed))
    suggestion = suggest(practice, Wish(), CLASSES)
    assert suggestion.uncovered == ["budgets.cost_microusd: no price, or not the list price, for x"] or not [
        line for line in suggestion.uncovered if not line.startswith("budgets")
    ]
    assert refusals(practice, parse_contract(suggestion.document).policy) == []
    for what, less in without_one(suggestion.document):
        assert refusals(practice, parse_contract(less).policy), f"without {what} all is allowed still"


@pytest.mark.parametrize("seed", range(100))
def test_added_to_a_contract_it_covers_all_and_takes_nothing_away(seed: int) -> None:
    rng = random.Random(seed)
    before = suggest(make_practice(rng), Wish(name="before"), CLASSES).document
    practice = make_practice(rng)
    merged = suggest(practice, Wish(), CLASSES, before)
    assert refusals(practice, parse_contract(merged.document).policy) == []
    for field in ("allowed_providers", "allowed_models", "allowed_tools", "allowed_provider_features"):
        assert set(before.get(field, ())) <= set(merged.document.get(field, ()))
    assert merged.document["policy_name"] == "before"
    again = suggest(practice, Wish(), CLASSES, merged.document)
    assert again.added == []
    assert again.document == merged.document
    changed = {f for f in merged.document if merged.document[f] != before.get(f)}
    listed = " ".join(merged.added)
    assert all(field.partition("tool_classes")[0] in listed or "allowed_tools" in listed for field in changed)


def one(**over: Any) -> Practice:
    practice = Practice(jobs=["job-1"])
    facts = CallFacts(**{"provider": "openai", "route": "", "model": "gpt-4o-mini", "stream": False, **over})
    note(practice.calls, facts, AT, "job-1")
    practice.grants[facts] = GRANT
    return practice


@pytest.mark.parametrize(
    ("over", "lacks"),
    [
        ({"model": "gpt-4*"}, "no contract can name it exactly"),
        ({"tools": ("model_call_via_clawproxy",)}, "no contract can name it exactly"),
        ({"provider_state": ("never_heard_of",)}, "no word of a contract"),
    ],
)
def test_what_no_contract_can_name_is_told_and_not_covered(over: dict[str, Any], lacks: str) -> None:
    suggestion = suggest(one(**over), Wish(), CLASSES)
    assert any(lacks in line for line in suggestion.uncovered)


def test_a_path_is_generalised_only_when_that_is_asked_for() -> None:
    practice = Practice(jobs=["job-1"])
    for path in ("/v2/tickets/1", "/v2/tickets/2"):
        note(practice.effects, SeenEffect("https", "api.example.com", 443, "GET", path), AT, "job-1")
    note(practice.effects, SeenEffect("https", "api.example.com", 443, "GET", None), AT, "job-1")

    def paths(how: Paths) -> list[str]:
        [entry] = suggest(practice, Wish(paths=how), CLASSES).document["egress_allowlist"]
        return list(entry["paths"])

    assert paths(Paths.EXACT) == ["/v2/tickets/1", "/v2/tickets/2"]
    assert paths(Paths.FOLDER) == ["/v2/tickets/*"]
    assert paths(Paths.ANY) == ["/*"]
    assert any("as a digest" in line for line in suggest(practice, Wish(), CLASSES).uncovered)
    assert not suggest(practice, Wish(paths=Paths.ANY), CLASSES).uncovered


def test_a_folder_does_not_stand_for_what_has_an_escaped_slash() -> None:
    practice = Practice(jobs=["job-1"])
    for path in ("/v2/a%2Fb", "/v2/a%2Fb/c", "/@types%2fnode"):
        note(practice.effects, SeenEffect("https", "api.example.com", 443, "GET", path), AT, "job-1")
    [entry] = suggest(practice, Wish(paths=Paths.FOLDER), CLASSES).document["egress_allowlist"]
    assert entry["paths"] == ["/*", "/v2/a%2Fb", "/v2/a%2Fb/*"]


@pytest.mark.parametrize("how", list(Paths))
def test_an_escaped_slash_is_stated_where_credentials_tell_paths_of_its_host_apart(how: Paths) -> None:
    practice = Practice(jobs=["job-1"])
    note(practice.effects, SeenEffect("https", "api.example.com", 443, "GET", "/v1%2Fx"), AT, "job-1")
    crm = {"host": "api.example.com", "paths": ["/v1/*"], "credential": "crm"}
    suggestion = suggest(practice, Wish(paths=how), CLASSES, claw(egress_allowlist=[crm]))
    facts = EgressFacts("https", "api.example.com", 443, "GET", "/v1%2Fx")
    assert not isinstance(decide_egress(facts, policy_of(suggestion.document)), Refusal)


def test_patterns_stand_there_only_when_they_are_asked_for() -> None:
    practice = one(model="gpt-4o-mini-2024-07-18", tools=("Bash",))
    exact = suggest(practice, Wish(), CLASSES).document
    assert (exact["allowed_models"], exact["tool_classes"]) == (["gpt-4o-mini-2024-07-18"], {"shell.exec": ["Bash"]})
    loose = suggest(practice, Wish(globs=True), CLASSES).document
    assert loose["allowed_models"] == ["gpt-4o-mini-*"]
    assert loose["tool_classes"]["shell.exec"] == ["Bash", "BashOutput", "KillBash", "KillShell"]


def test_what_the_jobs_contract_restricts_stays_but_for_what_the_jobs_went_against() -> None:
    practice = one(tools=("Bash", "ticket_read"))
    practice.contracts["x"] = {
        "policy_name": "before",
        "allowed_models": ["*"],
        "denied_tools": ["shell.exec", "mcp.any"],
        "tool_classes": {"shell.exec": ["Bash"], "mcp.any": ["mcp__*"], "other": ["Other"]},
        "data_boundaries": {"secrets": "deny"},
        "approvals": [{"action": "mcp.any"}],
    }
    suggestion = suggest(practice, Wish(), CLASSES)
    document = suggestion.document
    assert document["denied_tools"] == ["mcp.any"]
    assert document["data_boundaries"] == {"secrets": "deny"}
    assert document["approvals"] == [{"action": "mcp.any"}]
    assert document["tool_classes"] == {
        "mcp.any": ["mcp__*"],
        "shell.exec": ["Bash"],
        "ticket_read": ["ticket_read"],
    }
    assert document["allowed_models"] == ["gpt-4o-mini"]
    assert suggestion.dropped == ['denied_tools "shell.exec": the jobs went against it']
    assert refusals(practice, parse_contract(document).policy) == []


def test_a_contract_that_is_given_keeps_its_denials_and_what_they_refuse_is_told() -> None:
    given = {"policy_name": "mine", "allowed_models": ["gpt-4o-mini"], "denied_tools": ["Bash"]}
    suggestion = suggest(one(tools=("Bash",)), Wish(), CLASSES, given)
    assert suggestion.document["denied_tools"] == ["Bash"]
    assert suggestion.added == []
    assert any("Bash is denied" in line for line in suggestion.uncovered)


@pytest.mark.parametrize("given", [False, True])
def test_a_tool_that_bears_the_name_of_a_word_does_not_let_in_what_the_word_stands_for(given: bool) -> None:
    contract = {
        "policy_name": "t", "allowed_providers": ["openai"], "allowed_models": ["gpt-4o-mini"],
        "tool_classes": {"shell.exec": ["Bash", "rm_*"]},
        "tool_arguments": {"shell.exec": {"when": [{"argument": "command", "not_like": ["*sudo*"]}]}},
    }  # fmt: skip
    practice = one(tools=("shell.exec",))
    practice.contracts = {"h": contract}
    found = suggest(practice, Wish(), CLASSES, contract if given else None)
    rules = parse_contract(found.document).policy.tools
    assert rules is not None
    assert [bool(rules.permission(name)) for name in ("shell.exec", "Bash", "rm_all")] == [True, False, False]
    assert found.document["tool_classes"]["shell.exec"] == ["Bash", "rm_*"]  # its rule speaks of what it spoke of


def test_bundles_whose_contracts_restrict_different_things_are_not_mixed() -> None:
    practice = one()
    practice.contracts = {"x": {"policy_name": "a", "data_boundaries": {"secrets": "deny"}}, "y": {"policy_name": "b"}}
    with pytest.raises(ClawproxyError, match="restrict different things"):
        suggest(practice, Wish(), CLASSES)


def test_budgets_have_room_for_the_worst_case_of_a_call_and_head_room_for_the_rest() -> None:
    practice = one()
    practice.uses = [
        JobUse("a", Amounts(4, 1000, 100, 10), Amounts(4, 3000, 33_000, 700), 36_000, 61, 2),
        JobUse("b", Amounts(10, 100, 10, 1), Amounts(10, 200, 4_000, 90), 4_200, 2, 1),
    ]
    budgets = suggest(practice, Wish(headroom=1.5), CLASSES).document["budgets"]
    assert budgets == {
        "requests": 15,
        "input_tokens": 3500,
        "output_tokens": 34_000,
        "cost_microusd": 710,
        "wall_time_s": 120,
        "concurrent_calls": 3,
    }
    practice.uses[0].unpriced.add("openai gpt-4o-mini")
    suggestion = suggest(practice, Wish(), CLASSES)
    assert "cost_microusd" not in suggestion.document["budgets"]
    assert any("no price" in line for line in suggestion.uncovered)


def test_the_look_for_what_could_be_spared_finds_it() -> None:
    practice = one()
    document = suggest(practice, Wish(), CLASSES).document
    document["allowed_models"].append("gpt-4o")
    spared = [what for what, less in without_one(document) if not refusals(practice, parse_contract(less).policy)]
    assert spared == ["allowed_models gpt-4o"]
