"""What a small contract permits, by asking the gateway's own decisions about everything in a small world.

Nothing here knows how contracts are compared. A fact is a tuple; its level is 0 (refused), 1 (a person is asked) or 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from clawproxy.policies.argument_rules import NO_ARGUMENT_RULES
from clawproxy.policies.budget_rules import NOTHING, Amounts, Budgets, Limits
from clawproxy.policies.call_rules import CallAllowed, CallAsks, ToolCall, decide_call
from clawproxy.policies.data_rules import Action, DataRules, build_plan, call_refusal, label_refusal
from clawproxy.policies.decide import decide, decide_tools
from clawproxy.policies.egress import EgressAllow, EgressFacts, decide_destination, decide_egress
from clawproxy.policies.facts import CallFacts, CallKind
from clawproxy.policies.fixtures import pin_refusal
from clawproxy.policies.meta_tools import META_TOOLS
from clawproxy.policies.packaged import packaged_data_classes
from clawproxy.policies.policy import OnDeniedCall, OnDeniedTool, Policy
from clawproxy.policies.routers import is_router
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.reasons import Refusal

from .makers import a_grant
from .small_contracts import FEATURES, PROVIDERS

World = dict[tuple[Any, ...], Any]

_ANY_PROVIDER = (*PROVIDERS, "other")
_SUBS = ("did:key:one", "did:key:two")
_MODELS = (
    *("a", "b", "c", "A", "B", "ab", "ba", "aa", "ac", "bb", "aB", "Ab", "AB", "cb", "ca", "abb", "acb", "aab", "a b"),
    *(
        "auto",
        "openrouter/a",
        "openrouter/c",
        "ж",
        "aж",
        "жb",
        "ca b",
        "us.anthropic.a",
        "us.c",
        "models/a",
        "models/A",
        "models/c",
        "a:free",
    ),
    *(
        "b:latest",
        "cab",
        "ab:free",
        "aжb",
        "жab",
        "a ",
        "A ",
        "b ",
        " b",
        " ",
        "B ",
        "c ",
        " a",
        "ca ",
        "A b",
        "aB ",
        "Bb",
    ),
    *(
        "Auto",
        "A uto",
        "auto:b",
        "free",
        "openrouter/A",
        "openrouter/",
        "~b",
        "~",
        "autob",
        "xauto",
        "AUTO",
        "a uto",
        "auto ",
        "autO",
    ),
    *("a:", "b:", "c:free", "bB", "AA", "cB", "cbb", "a*", "*b"),
)
_SEATED = ("a", "b", "ab", "ac", "A")
"""The models on which tools are asked about, where statements look at the model."""
_UPSTREAM = ("a", "b", "c", "ab", "auto", "A", "ca", "cb", " ", "a ", "Auto", "openrouter/a")
_TOOLS = (
    *("a", "b", "c", "A", "B", "ab", "aB", "AB", "Ab", "a b", "ac", "cb", "acb", "aab", "exec", "Exec", "web_search"),
    *("mcp:s", "mcp:c", "mcp:S", "mcp:sc", "w", "v", "W", "V", "exe c", "aw", "av", "wb", "vb", "ba", "bc", "mcp:sb"),
    *("ca", "tool_call", "Web_search", "cw", "cv", "ca b", "cB", "bb", "caB", "cAb", "cab", "cж", "ж", "mcp:b"),
    *("openai/a", "openai/c", "openai/ab", "c/a", "oc/b", "anthropic/ac", "anthropic/a", "anthropic/ab", "c/c", "c/ab"),
    *("openai/b", "openai/models/a", "openai/us.", "openai/us.c", "c/c/c"),
)
_BEHIND_DOTS = ("a", "b", "c", "v", "w", "B", "ab", "c.b", "exec", "web_search")
_MCP = tuple(f"mcp:{server}.{tool}" for server in ("s", "c", "sc", "a") for tool in _BEHIND_DOTS)
_DETECTORS = packaged_data_classes().detectors()
_STRICT = {action: n for n, action in enumerate(Action)}
_VALUES: tuple[Any, ...] = (..., None, True, 0, 1, 2, 3, -1, "", "a", "b", "ab", "c", "abb", "aab", "bcd", "cb", "ac")
_ARGUMENTS: tuple[Any, ...] = (
    *({name: value for name, value in (("x", x), ("y", y)) if value is not ...} for x in _VALUES for y in _VALUES),
    None,  # they cannot be read in one way
    *({"X": 1}, {"Y": "a"}, {"X": 1, "y": "a"}, {"x": "a", "Y": "a"}, {"x": 1, "Y": "a"}, {"X": 1, "Y": 1}),
)
_ALL = frozenset(range(len(_ARGUMENTS)))
_MOST = 3
"""Budgets go up to 2, so what is more than one of them shows at 3."""
_USES = [row for row in itertools.product(range(_MOST + 1), repeat=4) if row[0]]


def permits_more(a: Policy, b: Policy) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The facts that ``a`` permits and ``b`` does not, or only after asking; and the other way round."""
    seats = _seats(a), _seats(b)
    if all(any(facts.model in _SEATED for _, facts in of) for of in seats):
        # the same ones for both
        tooled = [[seat for seat in of if seat[1].model in _SEATED] for of in seats]
    else:
        tooled = [*seats]
    of_a, of_b = world_of(a, b, seats[0], tooled[0]), world_of(b, a, seats[1], tooled[1])
    return _more(a, b, of_a, of_b), _more(b, a, of_b, of_a)


def _more(here: Policy, there: Policy, mine: World, theirs: World) -> list[tuple[Any, ...]]:
    if {demand.field for demand in there.demands} - {demand.field for demand in here.demands}:
        return [("demands",)]
    return [fact for fact, level in mine.items() if not _covers(theirs.get(fact), level)]


type Seats = list[tuple[str, CallFacts]]


def _seats(policy: Policy) -> Seats:
    """Who may ask which model."""
    asked = (
        (sub, CallFacts(provider, "", model, stream=False, is_router=is_router(provider, model)))
        for sub, provider, model in itertools.product(_SUBS, _ANY_PROVIDER, _MODELS)
    )
    return [(sub, facts) for sub, facts in asked if _goes(facts, sub, policy)]


def world_of(policy: Policy, other: Policy, seats: Seats, tooled: Seats) -> World:
    """The level of each fact, demands left out; facts at level 0 are not there. Tools are asked about at ``tooled``."""
    policy = replace(policy, demands=())
    world: World = {("ttl", minutes): 2 for minutes in (5, 30, 60, 120) if _lives(policy, minutes)}
    world |= {("call", sub, facts.provider, facts.model): 2 for sub, facts in seats}
    for sub, provider, kind in itertools.product(_SUBS, _ANY_PROVIDER, (CallKind.LIST, CallKind.CONNECT)):
        if _goes(CallFacts(provider, "", None, stream=False, kind=kind), sub, policy):
            world["kind", sub, provider, kind] = 2
    for sub, name in itertools.product(_SUBS, _UPSTREAM):
        facts = CallFacts("openai", "", f"openrouter/{name}", stream=False, upstream="fal", upstream_model=name)
        if _goes(replace(facts, is_router=is_router("fal", name)), sub, policy):
            world["upstream", sub, name] = 2
    rule = policy.approvals.job
    groups = ("x", "y", "*") if rule is None or rule.group is None else (rule.group,)
    world |= {("job", group): 2 if rule is None else 1 for group in groups}
    world |= _tools_of_seats(tooled, policy, other)
    if seats:
        world |= _settings(policy, *seats[0])
    if policy.egress != other.egress:
        world |= _hosts(policy)
    if (policy.data, not policy.egress) != (other.data, not other.egress):
        world |= _data(policy)
    if policy.budgets != other.budgets:
        world |= _budgets(policy.budgets or Budgets())
    return world


def _tools_of_seats(seats: list[tuple[str, CallFacts]], policy: Policy, other: Policy) -> World:
    """Only conditions of statements look at who asks which model; without them one seat shows all."""
    if not any(_has_conditions(of) for of in (policy, other)):
        return {("tool", *fact): level for fact, level in _tools(*seats[0], policy)} if seats else {}
    shown: World = {}
    once = None if _has_conditions(policy) else dict(_tools(*seats[0], policy)) if seats else {}
    for sub, facts in seats:
        for fact, level in (dict(_tools(sub, facts, policy)) if once is None else once).items():
            shown["tool", sub, facts.provider, facts.model, *fact] = level
    return shown


def _has_conditions(policy: Policy) -> bool:
    return any(statement.conditions for statement in policy.statements or ())


def _lives(policy: Policy, minutes: int) -> bool:
    refusal = pin_refusal(replace(policy, demands=()), minutes * 60)
    return refusal is None


def _goes(facts: CallFacts, sub: str, policy: Policy) -> bool:
    return not isinstance(decide(facts, a_grant(sub=sub), policy), Refusal)


def _tools(sub: str, facts: CallFacts, policy: Policy) -> Iterator[tuple[tuple[Any, ...], Any]]:
    grant = a_grant(sub=sub)
    for tool, runs in itertools.product(_TOOLS, (False, True)):
        asked = replace(
            facts,
            tools=(tool,),
            any_tools=(tool,) if tool in META_TOOLS else (),
            provider_tools=(tool,) if runs else (),
        )
        if not isinstance(decide_tools(asked, grant, policy), Refusal):
            yield ("declare", tool, runs), 2
    for tool in (*_TOOLS, *_MCP):
        yield from _calls(tool, facts, grant, policy)


def _calls(tool: str, facts: CallFacts, grant: Grant, policy: Policy) -> Iterator[tuple[tuple[Any, ...], Any]]:
    call = ToolCall(tool, {}, is_meta=tool in META_TOOLS)
    looked_at = range(len(_ARGUMENTS)) if _asks_for_arguments(tool, policy) else range(1)
    levels: dict[tuple[Any, ...], set[int]] = {}
    for n in looked_at:
        verdict = decide_call(replace(call, arguments=_ARGUMENTS[n]), facts, grant, policy)
        if isinstance(verdict, CallAllowed):
            levels.setdefault((2,), set()).add(n)
        elif isinstance(verdict, CallAsks):
            rule = policy.approvals.of(verdict.action)
            assert rule is not None
            levels.setdefault((1, rule.group or "*", rule.deadline_s), set()).add(n)
    for level, taken in levels.items():
        yield ("called", tool), Called(level, _ALL if looked_at == range(1) else frozenset(taken))
    if tool == "exec":
        for inner in _TOOLS:
            if not isinstance(decide_call(replace(call, inner=(inner,)), facts, grant, policy), Refusal):
                yield ("inner", inner), 2


def _asks_for_arguments(tool: str, policy: Policy) -> bool:
    server = tool.partition(".")[0]
    return bool(policy.arguments.of(tool) or policy.arguments.of(server))


@dataclass(frozen=True)
class Called:
    """How a tool may be called: ``(2,)``, or ``(1, group, deadline)``; and with which of the arguments."""

    level: tuple[Any, ...]
    arguments: frozenset[int]

    def is_within(self, other: object) -> bool:
        if not isinstance(other, Called) or not self.arguments <= other.arguments:
            return False
        if self.level[0] != other.level[0]:
            return bool(other.level[0] > self.level[0])
        return self.level == (2,) or (other.level[1] in ("*", self.level[1]) and other.level[2] >= self.level[2])


def _settings(policy: Policy, sub: str, facts: CallFacts) -> World:
    world: World = {}
    for word in FEATURES:
        kind, _, member = word.partition(":")
        state, urls = ((member,), ()) if kind == "state" else ((), (member,))
        asked = replace(facts, provider_state=state, remote_urls=urls)
        if _goes(asked, sub, policy):
            world["feature", word] = 2
    if policy.on_denied_tool is OnDeniedTool.STRIP:
        world["strip",] = 2
    if policy.on_denied_call is OnDeniedCall.REFUSE:
        world["goes on",] = 2
    by_name = replace(policy, arguments=NO_ARGUMENT_RULES)
    for tool in _TOOLS:
        exact = tool in META_TOOLS
        called = decide_call(ToolCall(tool, {}, is_meta=exact), facts, a_grant(sub=sub), by_name)
        if policy.read_only.covers(tool, exact=exact) and not isinstance(called, Refusal):
            world["read only", tool] = 2
    return world


def _hosts(policy: Policy) -> World:
    world: World = {}
    hosts = ("a.ex", "x.a.ex", "y.a.ex", "z.x.a.ex", "b.ex", "c.ex", "z.y.a.ex")
    paths = ("/", "/v", "/v/", "/v/w", "/v/z", "/v/w/z", "/z", "/z/v", "/v%2Fw", "/v%2Fw/z", "/v/w%2Fz", "/z%2Fv")
    for host, port in itertools.product(hosts, (443, 8443)):
        if not isinstance(decide_destination("https", host, port, policy), Refusal):
            world["connect", host, port] = 2
        for method, path in itertools.product(("GET", "POST", "PUT"), paths):
            found = decide_egress(EgressFacts("https", host, port, method, path), policy)
            if isinstance(found, EgressAllow):
                entry = found.entry
                with_ = "client" if entry.client_credentials else entry.credential or ""
                world["egress", host, port, method, path] = ("sends", with_)
    return world


def _data(policy: Policy) -> World:
    rules, classes = policy.data or DataRules(), packaged_data_classes()
    plan = build_plan(rules, classes)
    world: World = {}
    for detector in _DETECTORS:
        judged = plan.by_detector.get(detector.name)
        world["data", detector.name] = ("at least", _STRICT[Action.ALLOW if judged is None else judged.action])
        if detector.name not in plan.log_detectors:
            world["in logs", detector.name] = 2
        if policy.egress and detector.name not in plan.export_detectors:
            world["export", detector.name] = 2
    carried: dict[Any, frozenset[str]] = {tool: rules.result_labels(tool) for tool in (*_TOOLS, None)}
    carried |= {("label", label): frozenset({label}) for label in classes.labels}
    for detector in _DETECTORS:
        judged = plan.by_detector.get(detector.name)
        carried["found", detector.name] = frozenset() if judged is None else frozenset({judged.data_class})
    denied = {("found", name) for name, judged in plan.by_detector.items() if judged.action is Action.DENY}
    for source, labels in carried.items():
        is_found = isinstance(source, tuple) and source[0] == "found"
        if source in denied or (not is_found and label_refusal(rules, labels) is not None):
            continue
        if not isinstance(source, tuple) or source[0] == "label":
            world["sends", source] = 2
        kept = rules.export_denied and labels
        if policy.egress and isinstance(source, str) and not kept:
            world["exports", source] = 2
        for tool in _TOOLS:
            if call_refusal(rules, labels, tool) is None:
                world["sees", source, tool] = 2
    gone = {rule.path for rule in rules.paths}
    world |= {("path", path): 2 for path in ("$.user", "$.metadata") if path not in gone}
    return world


def _budgets(budgets: Budgets) -> World:
    """What one job may use, what all together may, and how many calls may be open, up to ``_MOST`` of each."""

    def fits(limits: Limits, row: tuple[int, ...]) -> bool:
        return limits.lacks(NOTHING, NOTHING, Amounts(*row)) is None

    def opens(limits: Limits, row: tuple[int, ...], calls: int) -> bool:
        return fits(limits, row) and (limits.concurrent_calls is None or calls <= limits.concurrent_calls)

    both = (budgets.job, budgets.contract)
    one = [row for row in _USES if all(opens(limits, row, 1) for limits in both)]
    world: World = {("job uses", row): 2 for row in one}
    most = {
        (row[0], calls)
        for row in one
        for calls in range(1, row[0] + 1)
        if all(opens(limits, row, calls) for limits in both)
    }
    world |= {("job opens", calls): 2 for _, calls in most}
    used, opened = {row for row in one if fits(budgets.contract, row)}, set(most)
    for _ in range(_MOST - 1):
        sums = {tuple(x + y for x, y in zip(a, b, strict=True)) for a in used for b in one}
        used |= {row for row in sums if max(row) <= _MOST and fits(budgets.contract, row)}
        pairs = {(a + c, b + d) for a, b in opened for c, d in most if max(a + c, b + d) <= _MOST}
        opened |= {(a, b) for a, b in pairs if opens(budgets.contract, (a, 0, 0, 0), b)}
    world |= {("jobs use", row): 2 for row in used}
    return world | {("jobs open", calls): 2 for _, calls in opened}


def _covers(other: Any, level: Any) -> bool:
    if isinstance(level, Called):
        return level.is_within(other)
    if other is None:
        return False
    if isinstance(level, tuple):
        kind, value = level
        return bool(other[1] >= value if kind == "at least" else not value or other[1] == value)
    return bool(other >= level)
