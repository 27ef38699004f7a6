"""How contracts read names: the patterns of lists and of statements, as readers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..names import fold
from ..policy import ModelRules, Policy
from ..statements import NUMERIC, Condition
from .patterns import Machine, Reader, State, Steps, View, literal_steps, statement_steps


def model_readers(models: ModelRules) -> Iterator[Reader]:
    """How a list of models reads a name."""
    plain = [entry for entry in models.patterns if "*" not in entry]
    yield Reader.of(View.FOLDED, [fold(entry) for entry in plain])
    if models.fold_case:
        yield Reader.of(View.SMALL, [entry.lower() for entry in models.patterns if entry.isascii()])
        yield Reader.of(View.EXACT, plain)
    else:
        yield Reader.of(View.EXACT, models.patterns)


def resources(policies: Iterable[Policy]) -> list[str]:
    """The resources of all statements."""
    return [name for policy in policies for statement in policy.statements or () for name in statement.resources]


def resource_readers(policies: Iterable[Policy]) -> list[Reader]:
    """How statements read a resource."""
    return list(_both_views(resources(policies), statement_steps))


def conditions(policies: Iterable[Policy], *keys: str) -> Iterator[Condition]:
    """The conditions on these keys."""
    for policy in policies:
        for statement in policy.statements or ():
            yield from (condition for condition in statement.conditions if condition.key in keys)


def condition_readers(policies: Sequence[Policy], key: str) -> Iterator[Reader]:
    """How conditions read the value of ``key``."""
    found = list(conditions(policies, key))
    equal = [c.expected for c in found if "Equals" in c.operator or not set("*?") & set(c.expected)]
    yield from _both_views(equal, literal_steps)
    patterns = [condition.expected for condition in found if condition.operator in ("StringLike", "StringNotLike")]
    yield from _both_views(patterns, statement_steps)
    yield Reader.of(View.FOLDED, ["true" for condition in found if condition.operator == "Bool"])


def _both_views(words: Sequence[str], steps: Callable[[str], Steps]) -> Iterator[Reader]:
    if words:
        yield Reader.of(View.EXACT, words, steps)
        yield Reader.of(View.FOLDED, [fold(word) for word in words], steps)


def ask_for_numbers(policies: Iterable[Policy], *keys: str) -> bool:
    """Whether a condition reads a name as a number or an address, which no pattern shows."""
    operators = NUMERIC | {"IpAddress"}
    return any(condition.operator in operators for condition in conditions(policies, *keys))


def started(readers: Iterable[Reader], lead: str = "") -> list[tuple[Machine, State]]:
    """A machine for each reader, with the state behind ``lead``."""
    machines = [Machine(reader) for reader in readers if reader.steps]
    return [(machine, machine.read(machine.start, lead)) for machine in machines]
