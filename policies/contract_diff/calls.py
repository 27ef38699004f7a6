"""Calls of models, and the tools that they may declare: what ``here`` lets out and ``there`` does not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from ...tokens.reasons import Refusal
from ..decide import Allow, decide, decide_tools
from ..facts import PROVIDER_FEATURES, CallFacts, CallKind
from ..fixtures import Fixture
from ..meta_tools import META_TOOLS
from ..policy import OnDeniedTool, Policy
from ..statements import truths
from .power import Power, Proof, a_fixture, decided, grant_of
from .universe import Seat, Universe

MAX_QUESTIONS = 400_000
"""Calls that are asked about for one comparison; beyond, what is left is not decided."""


_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Seats:
    """Where models are asked under one contract, and which of these calls the other lets out as well."""

    mine: tuple[Seat, ...]
    common: tuple[Seat, ...]


def ask(facts: CallFacts, sub: str, policy: Policy) -> Allow | Refusal:
    """The decision about a call of ``sub``."""
    return decide(facts, grant_of(sub), policy)


def model_powers(universe: Universe, here: Policy, there: Policy) -> tuple[Seats, list[Power]]:
    """The models, providers and kinds of calls; and the seats on which tools are asked about."""
    mine, common = [], []
    found: dict[tuple[str, str], Power] = {}
    for seat in universe.seats:
        allowed = ask(seat.facts, seat.sub, here)
        if isinstance(allowed, Refusal):
            continue
        generates = seat.facts.kind is CallKind.GENERATE and seat.facts.upstream is None
        if generates:
            mine.append(seat)
        other = ask(seat.facts, seat.sub, there)
        if not isinstance(other, Refusal):
            if generates:
                common.append(seat)
            continue
        rule, what = _said(seat.facts, allowed, other)
        key = (rule, what if seat.facts.kind is not CallKind.GENERATE else "")
        if key not in found:
            field = "statements" if here.statements is not None else rule.partition("[")[0].partition(" ")[0]
            power = Power(_FIELDS.get(field, field), what, rule)
            found[key] = next(decided(power, a_fixture(seat.facts, sub=seat.sub), here, there))
    called = {rule for rule, kind in found if not kind}
    powers = [power for (rule, kind), power in found.items() if not kind or rule not in called]
    if not powers and not universe.complete["models"]:
        powers.append(Power("models", "models: not every name could be searched", proof=Proof.OPEN))
    return Seats(tuple(mine), tuple(common)), powers


_FIELDS = {"any": "allowed_providers"}


def _said(facts: CallFacts, allowed: Allow, refused: Refusal) -> tuple[str, str]:
    """The entry that counts, and the call in words."""
    if facts.kind is CallKind.LIST:
        return allowed.provider_rule, f"lists of models at {facts.provider}"
    if facts.kind is CallKind.CONNECT:
        return allowed.provider_rule, f"sockets at {facts.provider}"
    where = f"{facts.provider}, passed on to {facts.upstream}" if facts.upstream else facts.provider
    what = f'calls of models, such as "{facts.model}" at {where}'
    if refused.reason == "POLICY_PROVIDER_NOT_ALLOWED":
        return allowed.provider_rule, what
    if refused.reason == "POLICY_MODEL_IDENTITY_TIER_TOO_LOW":
        return "minimum_model_identity_tier", what
    return allowed.model_rule, what


# -- beside the model --------------------------------------------------------------------------------------------------


def feature_powers(seats: Seats, here: Policy, there: Policy) -> Iterator[Power]:
    """Content that the provider holds or fetches."""
    seat = next(iter(seats.common or seats.mine), None)
    if seat is None:
        return
    for word in sorted(PROVIDER_FEATURES | here.provider_features | there.provider_features):
        kind, _, member = word.partition(":")
        state, urls = ((member,), ()) if kind == "state" else ((), (member,))
        facts = replace(seat.facts, provider_state=state, remote_urls=urls)
        if isinstance(ask(facts, seat.sub, here), Refusal) or word in there.provider_features:
            continue
        what = f"content that the provider {'keeps' if kind == 'state' else 'fetches'}: {member}"
        power = Power("allowed_provider_features", what, f'allowed_provider_features["{word}"]')
        yield from decided(power, a_fixture(facts, sub=seat.sub), here, there)


def _takes_tools(facts: CallFacts, sub: str, policy: Policy) -> bool:
    """Whether the tools alone would be let out: the seat is one that perhaps only the other contract has."""
    return not isinstance(decide_tools(facts, grant_of(sub), policy), Refusal)


def declared_tool_powers(universe: Universe, seats: Seats, here: Policy, there: Policy) -> Iterator[Power]:
    """The tools that a call may declare, and those that its provider may run."""
    found: dict[tuple[str, bool], dict[str, Fixture]] = {}
    chosen = list(seats_for_tools(seats, here, there))
    asked = 0
    for seat in chosen:
        for tool in universe.tools:
            for runs in (False, True):
                asked += 1
                facts = declaring(seat.facts, tool, runs=runs)
                if asked > MAX_QUESTIONS or _takes_tools(facts, seat.sub, there):
                    continue
                allowed = ask(facts, seat.sub, here)
                if isinstance(allowed, Allow):
                    entry = entry_of(allowed.tool_rules[0])
                    if tool not in found.get((entry, False), ()):
                        found.setdefault((entry, runs), {}).setdefault(tool, a_fixture(facts, sub=seat.sub))
    for (entry, runs), examples in found.items():
        run = " where the provider runs them" if runs else ""
        power = Power(_field_of(entry), f"{listed(examples)}{run}", entry)
        yield from decided(power, next(iter(examples.values())), here, there)
    if not found and chosen and not (universe.complete["tools"] and asked <= MAX_QUESTIONS):
        yield Power("tools", "tools: not every name could be searched", proof=Proof.OPEN)


def entry_of(rule: str) -> str:
    """The entry of a list, without the class that ties it to a name."""
    return rule.partition(" → ")[0]


def listed(names: Collection[str]) -> str:
    """The first few of the tools."""
    shown = ", ".join(f'"{name}"' for name in list(names)[:_SHOWN])
    shown = f"the tool{'' if len(names) == 1 else 's'} {shown}"
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _field_of(rule: str) -> str:
    return rule.partition("[")[0]


def declaring(facts: CallFacts, tool: str, *, runs: bool = False) -> CallFacts:
    """The call with one tool; ``runs`` says that the provider runs it."""
    any_tools = (tool,) if tool in META_TOOLS else ()
    return replace(facts, tools=(tool,), any_tools=any_tools, provider_tools=(tool,) if runs else ())


def seats_for_tools(seats: Seats, here: Policy, there: Policy) -> Iterator[Seat]:
    """Seats between which decisions about tools can differ: one for every way in which the conditions can hold."""
    statements = [statement for policy in (here, there) for statement in policy.statements or ()]
    seen = set()
    for seat in seats.common or seats.mine:
        context = {"Agent:DID": seat.sub, "Model:Provider": seat.facts.provider, "Model:Name": seat.facts.model or ""}
        found = truths(statements, context)
        if found not in seen:
            seen.add(found)
            yield seat


def strip_powers(seats: Seats, here: Policy, there: Policy) -> Iterator[Power]:
    """A request with a refused tool goes out without it, in place of being refused."""
    if seats.mine and here.on_denied_tool is OnDeniedTool.STRIP and there.on_denied_tool is OnDeniedTool.REFUSE:
        what = "a request with a refused tool goes out without the tool"
        yield Power("on_denied_tool", what, here="strip", there="refuse")
