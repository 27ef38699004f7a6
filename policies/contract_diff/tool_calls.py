"""Calls of tools in answers: which may be made, with what arguments, and which without asking a person. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from ...tokens.reasons import Refusal
from ..approval_rules import ActionApproval
from ..argument_rules import NO_ARGUMENT_RULES, ArgumentRule
from ..call_rules import ALSO_CALLED, CallAsks, ToolCall, argument_rules, called_names, decide_call, judged_rule
from ..facts import CallFacts
from ..meta_tools import META_TOOLS
from ..policy import OnDeniedCall, Policy
from .arguments import Arguments, arguments_for, arguments_only_here
from .calls import MAX_QUESTIONS, Seats, ask, declaring, entry_of, seats_for_tools
from .power import Power, Proof, a_fixture, decided, grant_of
from .universe import Seat, Universe


@dataclass(frozen=True, slots=True)
class _Called:
    """A call as one contract judges it by name: 0 refused, 1 a person is asked, 2 allowed."""

    level: int
    rule: str
    approval: ActionApproval | None
    arguments: tuple[ArgumentRule, ...]


def tool_call_powers(
    universe: Universe, seats: Seats, here: Policy, there: Policy, said: Collection[str]
) -> Iterator[Power]:
    """What ``here`` lets answers call that ``there`` does not, or only after asking, or with fewer arguments.

    Of the entries ``said`` it is known that their tools are new.
    """
    found: dict[tuple[str, str], Power] = {}
    asked = 0
    for seat in seats_for_tools(seats, here, there):
        for facts, call in _calls(universe, seat):
            asked += 1
            if asked > MAX_QUESTIONS:
                break
            mine = _judge(call, facts, seat.sub, here)
            if not mine.level or (facts.tools and isinstance(ask(facts, seat.sub, here), Refusal)):
                continue
            theirs = _judge(call, facts, seat.sub, there)
            for power in _beyond(call, facts, seat, (here, mine), (there, theirs)):
                if power.field == "approvals" or entry_of(power.rule) not in said:
                    found.setdefault((power.field, entry_of(power.rule)), power)
    yield from found.values()
    if asked > MAX_QUESTIONS:
        yield Power("tools", "calls of tools: not every one could be looked at", proof=Proof.OPEN)


def _calls(universe: Universe, seat: Seat) -> Iterator[tuple[CallFacts, ToolCall]]:
    """Each call of a tool, in an answer to a request that declared what it may have been declared as."""
    for name in (*universe.tools, *universe.mcp_calls, *ALSO_CALLED):
        call = ToolCall(name, {}, is_meta=name in META_TOOLS)
        yield seat.facts, call
        for declared in ALSO_CALLED.get(name, ()):
            yield declaring(seat.facts, declared), call


def _judge(call: ToolCall, facts: CallFacts, sub: str, policy: Policy) -> _Called:
    by_name = replace(policy, arguments=NO_ARGUMENT_RULES)
    verdict = decide_call(call, facts, grant_of(sub), by_name)
    if isinstance(verdict, Refusal):
        return _Called(0, verdict.rule, None, ())
    arguments = argument_rules(called_names(call.name, facts.tools), policy)
    if isinstance(verdict, CallAsks):
        return _Called(1, verdict.rule, policy.approvals.of(verdict.action), arguments)
    return _Called(2, verdict.rule, None, arguments)


def _beyond(
    call: ToolCall, facts: CallFacts, seat: Seat, mine: tuple[Policy, _Called], theirs: tuple[Policy, _Called]
) -> Iterator[Power]:
    (here, by_here), (there, by_there) = mine, theirs
    shown = f'"{call.name}"'
    if by_here.level > by_there.level:
        given = arguments_for(by_here.arguments)
        if not given.found and given.decided:
            return  # no arguments are ever taken
        what, field = f"calls of tools, such as {shown}", by_here.rule.partition("[")[0]
        if by_there.level == 1:
            what, field = f"calls of {shown} without asking a person", "approvals"
        power = Power(field, what, by_here.rule)
        example = a_fixture(facts, sub=seat.sub, tool=replace(call, arguments=given.example))
        yield from decided(power, example, here, there) if given.found else (replace(power, proof=Proof.OPEN),)
        return
    if by_here.approval is not None and by_there.approval is not None:
        yield from _approval_powers(shown, by_here.approval, by_there.approval)
    if by_there.arguments and not by_here.arguments and not call.is_meta:
        only = Arguments(None, found=True)  # any rule refuses arguments that cannot be read in one way
    else:
        only = arguments_only_here(by_here.arguments, by_there.arguments)
    if only.found:
        power = Power("tool_arguments", f"calls of {shown} with other arguments", f"tool_arguments, for {shown}")
        example = a_fixture(facts, sub=seat.sub, tool=replace(call, arguments=only.example))
        yield from decided(power, example, here, there)
    elif not only.decided:
        what = f"calls of {shown}: whether other arguments are taken"
        yield Power("tool_arguments", what, f"tool_arguments, for {shown}", proof=Proof.OPEN)


def _approval_powers(shown: str, here: ActionApproval, there: ActionApproval) -> Iterator[Power]:
    rule = f'approvals["{here.action}"]'
    if there.group is not None and here.group != there.group:
        what = f"calls of {shown} approved by others"
        yield Power("approvals", what, f"{rule}.approver_group", here.group or "any approver", there.group)
    if here.deadline_s > there.deadline_s:
        what = f"calls of {shown} approved later"
        yield Power("approvals", what, f"{rule}.deadline_s", f"{here.deadline_s} s", f"{there.deadline_s} s")


def inner_call_powers(
    universe: Universe, seats: Seats, here: Policy, there: Policy, said: Collection[str]
) -> Iterator[Power]:
    """What may be called through a tool that can call any other, where both allow such a tool."""
    found: dict[str, Power] = {}
    for seat in seats_for_tools(seats, here, there):
        meta = next((call for name in sorted(META_TOOLS) if (call := _both_call(name, seat, here, there))), None)
        if meta is None:
            continue
        for name in universe.tools:
            call = replace(meta, inner=(name,))
            grant = grant_of(seat.sub)
            allowed = decide_call(call, seat.facts, grant, here)
            other = decide_call(call, seat.facts, grant, there)
            if isinstance(allowed, Refusal) or not isinstance(other, Refusal):
                continue
            example = a_fixture(seat.facts, sub=seat.sub, tool=call)
            what = f'calls of tools through "{meta.name}", such as "{name}"'
            rule = judged_rule(ToolCall(name, {}), seat.facts, grant, here)
            power = Power("allowed_tools", what, str(rule))
            if entry_of(str(rule)) not in said:
                found.setdefault(entry_of(str(rule)), next(decided(power, example, here, there)))
    yield from found.values()


def _both_call(name: str, seat: Seat, here: Policy, there: Policy) -> ToolCall | None:
    """A call of ``name`` that both let through; where one takes other arguments, that is a power of its own."""
    given = arguments_for(here.arguments.of(name))
    call = ToolCall(name, given.example, is_meta=True)
    verdicts = [decide_call(call, seat.facts, grant_of(seat.sub), policy) for policy in (here, there)]
    return call if given.found and not any(isinstance(verdict, Refusal) for verdict in verdicts) else None


def refusal_text_powers(seats: Seats, here: Policy, there: Policy) -> Iterator[Power]:
    """An answer with a refused call goes on, in place of ending there."""
    if seats.mine and here.on_denied_call is OnDeniedCall.REFUSE and there.on_denied_call is OnDeniedCall.ERROR:
        yield Power("on_denied_call", "an answer with a refused call goes on", here="refuse", there="error")


def read_only_powers(universe: Universe, seats: Seats, here: Policy, there: Policy) -> Iterator[Power]:
    """Tools that ``clawproxy stop --read-only-tools`` leaves."""
    seat = next(iter(seats.common or seats.mine), None)
    if seat is None:
        return
    found: dict[str, Power] = {}
    for name in universe.tools:
        exact = name in META_TOOLS
        if not here.read_only.covers(name, exact=exact) or there.read_only.covers(name, exact=exact):
            continue
        call = ToolCall(name, {}, is_meta=exact)
        by_name = _judge(call, seat.facts, seat.sub, here)
        if by_name.level:
            what = f'tools that read-only mode leaves, such as "{name}"'
            found.setdefault(by_name.rule, Power("read_only_tools", what, f"read_only_tools, {by_name.rule}"))
    yield from found.values()
