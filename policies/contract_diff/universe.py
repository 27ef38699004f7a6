"""The names on which two contracts are asked: providers, models, tools, agents. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..facts import CallFacts
from ..meta_tools import META_TOOLS
from ..names import fold
from ..packaged import packaged_tool_classes
from ..policy import Policy
from .models import Models
from .names import Effort, Names, Watch, names_that_fit
from .patterns import Machine, Reader, State, View, merged
from .readers import ask_for_numbers, condition_readers, resource_readers, started

_A_FEW = 500_000
"""Places that are looked at where two contracts say the same, so that nothing can differ."""
_AGENT = "did:key:z6MkAgent"
_MCP = "mcp:"


@dataclass(frozen=True, slots=True)
class Seat:
    """Who asks which model of which provider, without anything else."""

    sub: str
    facts: CallFacts


@dataclass(slots=True)
class Universe:
    """What there is to ask about. ``complete`` says of each topic whether nothing is missing."""

    seats: tuple[Seat, ...]
    tools: tuple[str, ...]
    mcp_calls: tuple[str, ...]
    complete: dict[str, bool] = field(default_factory=dict)


def universe_of(policies: Sequence[Policy]) -> Universe:
    """The names for these contracts together; where two say the same of a topic, only some names of it."""
    same_models, same_tools = (len(set(map(said, policies))) == 1 for said in (_of_models, _of_tools))
    effort = Effort()
    subs = names_that_fit(started(condition_readers(policies, "Agent:DID")), known=(_AGENT,), effort=effort)
    decided = subs.complete and not ask_for_numbers(policies, "Agent:DID", "Tool:Name")
    models = Models(policies, Effort(_A_FEW) if same_models else effort)
    seats = dict.fromkeys(Seat(sub, facts) for facts in models.calls for sub in subs.names)
    readers = merged([*_tool_readers(policies), *condition_readers(policies, "Tool:Name")])
    watched = [(machine, machine.start) for machine in map(Machine, readers)]
    for_tools = Effort(_A_FEW) if same_tools else effort
    tools = names_that_fit(watched, known=(*sorted(META_TOOLS), *_known_tools()), effort=for_tools)
    calls = _mcp_calls(readers, policies, for_tools)
    complete = {
        "models": same_models or (decided and models.complete),
        "tools": same_tools or (decided and tools.complete and calls.complete),
    }
    return Universe(tuple(seats), tools.names, calls.names, complete)


def _of_models(policy: Policy) -> Hashable:
    """All that decisions about models look at."""
    return policy.providers, policy.models, policy.statements, policy.minimum_tier, policy.model_call_denied


def _of_tools(policy: Policy) -> Hashable:
    """All that decisions about tools look at, as it is written."""
    tools, data = policy.tools, policy.data
    return (
        None if tools is None else (tools.allowed, tools.denied, tools.on_approval),
        policy.statements,
        policy.arguments.rules,
        policy.approvals.actions,
        policy.read_only.words,
        None if data is None else (data.carries, data.access),
    )


# -- tools -------------------------------------------------------------------------------------------------------------


def _tool_readers(policies: Sequence[Policy]) -> Iterator[Reader]:
    """How contracts read the name of a tool."""
    yield from resource_readers(policies)
    yield Reader.of(View.EXACT, META_TOOLS)
    for policy in policies:
        yield Reader.of(View.FOLDED, policy.arguments.patterns)
        if policy.data is not None:
            words = [name for entry in (*policy.data.carries, *policy.data.access) for name in entry.names]
            yield Reader.of(View.FOLDED, [fold(word) for word in words])
        rules = policy.tools
        if rules is not None:
            asked = (*rules.allowed, *rules.on_approval)
            spoken = [
                word for rule in (*asked, *rules.denied) for word in (rule.pattern, rule.entry) if "*" not in word
            ]
            folded = [rule.pattern for rule in (*rules.denied, *rules.on_approval)]
            yield Reader.of(View.EXACT, [*(rule.pattern for rule in asked), *spoken])
            yield Reader.of(View.FOLDED, [fold(word) for word in (*folded, *spoken)])


def _known_tools() -> list[str]:
    agents = packaged_tool_classes().agents
    return [name for classes in agents.values() for names in classes.values() for name in names if "*" not in name]


class _BeforeDot:
    """Reads no further than the first dot: the server of a tool."""

    def __init__(self, machine: Machine) -> None:
        self.view, self._machine = machine.view, machine

    _done = -1

    def read(self, state: State, text: str) -> State:
        if self._done in state:
            return state
        server, dot, _ = text.partition(".")
        reached = self._machine.read(state, server)
        return frozenset({*reached, self._done}) if dot else reached

    def told_apart(self, state: State) -> frozenset[str]:
        return frozenset() if self._done in state else self._machine.told_apart(state) | {"."}

    def accepted(self, state: State) -> Hashable:
        return self._machine.accepted(state - {self._done}), self._done in state


class _DeniedBehindDots:
    """Whether a contract denies what stands behind some dot: the tool of a server, whose label may have dots too."""

    view = View.FOLDED
    for_good: State = frozenset({-2})
    """The state in which whatever follows is denied as well."""

    def __init__(self, denied: Sequence[str]) -> None:
        self._machine = Machine(Reader.of(View.FOLDED, denied))
        self.start: State = frozenset({-1})  # never empty: another dot may come

    def read(self, state: State, text: str) -> State:
        if state == self.for_good:
            return state
        first, *others = text.split(".")
        reached = self._machine.read(state - self.start, first)
        for part in others:
            reached = self._machine.read(self._machine.read(reached, ".") | self._machine.start, part)
        return self.for_good if self._machine.fits_for_good(reached) else reached | self.start

    def told_apart(self, state: State) -> frozenset[str]:
        return frozenset() if state == self.for_good else self._machine.told_apart(state - self.start) | {"."}

    def accepted(self, state: State) -> Hashable:
        return state == self.for_good or bool(self._machine.accepted(state - self.start))


def _mcp_calls(readers: Iterable[Reader], policies: Sequence[Policy], effort: Effort) -> Names:
    """Calls of tools of MCP servers: judged by their whole name, by the server's, and by the tool's."""
    if not any(_may_allow_servers(policy) for policy in policies):
        return Names(())
    machines = [Machine(reader) for reader in readers]
    whole: list[tuple[Watch, State]] = [(machine, machine.read(machine.start, _MCP)) for machine in machines]
    servers: list[tuple[Watch, State]] = [
        (_BeforeDot(machine), machine.read(machine.start, _MCP)) for machine in machines
    ]
    denied = {tuple(fold(rule.pattern) for rule in policy.tools.denied) for policy in policies if policy.tools}
    behind = [_DeniedBehindDots(words) for words in sorted(denied)]

    def is_denied_by_all(states: tuple[State, ...]) -> bool:
        last = states[len(states) - len(behind) :]
        return len(policies) == sum(policy.tools is not None for policy in policies) and all(
            state == _DeniedBehindDots.for_good for state in last
        )

    watched = [*whole, *servers, *((watch, watch.start) for watch in behind)]
    found = names_that_fit(watched, lead=_MCP, ends=is_denied_by_all, effort=effort)
    return Names(tuple(name for name in found.names if "." in name), found.complete)


def _may_allow_servers(policy: Policy) -> bool:
    """Whether some name of an MCP server fits what allows tools."""
    patterns = [rule.pattern for rule in (*policy.tools.allowed, *policy.tools.on_approval)] if policy.tools else []
    allowing = Machine(Reader.of(View.EXACT, patterns))
    return policy.statements is not None or bool(allowing.read(allowing.start, _MCP))
