"""What jobs did, as far as a contract can speak of it: the material of ``suggest``. Plain values, no clock.

Each thing that a contract names (a model, a tool, a host) has a ``Seen``: in how many calls, when, in which jobs. Facts
that no contract judges are left out of the key, so that a long job is a short list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..tokens.canonical import JsonObject
from ..tokens.grant import Grant
from .budget_rules import NOTHING, Amounts
from .call_rules import ToolCall
from .facts import CallFacts

_SHOWN_JOBS = 3


@dataclass(slots=True)
class Seen:
    """How often, when (timestamps as on record) and in which jobs."""

    calls: int = 0
    first: str = ""
    last: str = ""
    jobs: dict[str, None] = field(default_factory=dict)

    def add(self, at: str, job: str) -> None:
        self.calls += 1
        self.first = min(self.first or at, at)
        self.last = max(self.last, at)
        self.jobs[job] = None

    def merge(self, other: Seen) -> None:
        self.calls += other.calls
        self.first = min(self.first or other.first, other.first)
        self.last = max(self.last, other.last)
        self.jobs |= other.jobs

    def __str__(self) -> str:
        """``14 calls, 2026-11-23T04:12:01Z to 2026-11-23T04:15:44Z, invoices-7``."""
        when = _seconds(self.first)
        if (last := _seconds(self.last)) != when:
            when = f"{when} to {last}"
        names = list(self.jobs)
        more = f" and {len(names) - _SHOWN_JOBS} more" if len(names) > _SHOWN_JOBS else ""
        return f"{self.calls} call{'' if self.calls == 1 else 's'}, {when}, {', '.join(names[:_SHOWN_JOBS])}{more}"


def _seconds(timestamp: str) -> str:
    return timestamp.partition(".")[0] + "Z" if "." in timestamp else timestamp


@dataclass(frozen=True, slots=True)
class SeenTool:
    """A call of a tool in an answer to a call with these facts. ``inner`` are the tools that it names."""

    name: str
    facts: CallFacts
    inner: tuple[str, ...] = ()

    @property
    def call(self) -> ToolCall:
        """As it is judged; its arguments are not on record, and rules on them are not judged."""
        return ToolCall(self.name, {}, self.name in self.facts.any_tools or bool(self.inner), self.inner)


@dataclass(frozen=True, slots=True)
class SeenEffect:
    """A call of a tool to another host. ``path`` None: it is on record as a digest alone."""

    scheme: str
    host: str
    port: int
    method: str
    path: str | None
    credential: str | None = None
    client_credentials: bool = False


@dataclass(slots=True)
class JobUse:
    """What one job used: its ``spent``, the most that was spent, held and asked for at once (``peak``), how long it
    took, how many calls were open at once, and models without a price."""

    job: str
    spent: Amounts = NOTHING
    peak: Amounts = NOTHING
    peak_total_tokens: int = 0
    wall_time_s: int = 0
    concurrent_calls: int = 0
    unpriced: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Practice:
    """What was seen in some jobs. ``refused`` are calls that did not go out, by reason and what they were;
    ``incomplete`` calls whose facts are not whole on record."""

    calls: dict[CallFacts, Seen] = field(default_factory=dict)
    grants: dict[CallFacts, Grant] = field(default_factory=dict)
    tools: dict[SeenTool, Seen] = field(default_factory=dict)
    effects: dict[SeenEffect, Seen] = field(default_factory=dict)
    hosts: dict[tuple[str, int | None], Seen] = field(default_factory=dict)
    """Names that were looked up (no port) and tunnels that were opened, whether a call came or not."""
    routes: dict[str, Seen] = field(default_factory=dict)
    data: dict[str, Seen] = field(default_factory=dict)
    refused: dict[tuple[str, str], Seen] = field(default_factory=dict)
    incomplete: dict[str, Seen] = field(default_factory=dict)
    against_arguments: dict[str, Seen] = field(default_factory=dict)
    """Tools that were called with arguments that the contract of their job does not allow."""
    unasked: dict[str, Seen] = field(default_factory=dict)
    """Tools whose calls a person would have been asked about."""
    uses: list[JobUse] = field(default_factory=list)
    max_ttl_s: int = 0
    contracts: dict[str, JsonObject] = field(default_factory=dict)
    """The contracts that the jobs were under, by hash."""
    jobs: list[str] = field(default_factory=list)
    observed: int = 0
    """So many of the jobs were opened to observe."""


def judged_facts(facts: CallFacts) -> CallFacts:
    """The facts without what no contract judges."""
    return replace(
        facts,
        route="",
        stream=False,
        max_output_tokens=None,
        choices=1,
        surcharges=(),
        kept_by_provider=False,
    )


def note[K](table: dict[K, Seen], key: K, at: str, job: str) -> None:
    """One more call with ``key``."""
    table.setdefault(key, Seen()).add(at, job)


def elements(practice: Practice, of: str) -> Mapping[str, Seen]:
    """What the calls name of one kind: ``providers``, ``models``, ``tools`` or ``features``, in the order of names."""
    found: dict[str, Seen] = {}
    for facts, seen in practice.calls.items():
        for name in dict.fromkeys(_named(facts, of)):
            found.setdefault(name, Seen()).merge(seen)
    return dict(sorted(found.items()))


def _named(facts: CallFacts, of: str) -> tuple[str, ...]:
    match of:
        case "providers":
            return tuple(name for name in (facts.provider, facts.upstream) if name)
        case "models":
            return tuple(name for name in (facts.model, *facts.fallback_models) if name)
        case "tools":
            return facts.tools
        case _:
            states = tuple(f"state:{member}" for member in facts.provider_state)
            return states + tuple(f"url:{member}" for member in facts.remote_urls)
