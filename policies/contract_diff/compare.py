"""Two contracts compared: what the one permits beyond the other, both ways. Pure.

"Nothing" is proved: every name on which the two could differ was put to the decisions of both (``universe``), limits
and actions were compared one by one, and what could not be searched to the end counts as permitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ...tokens.canonical import JsonObject
from ..detect.classes import DataClasses
from ..packaged import packaged_data_classes
from ..policy import Policy
from .boundaries import data_powers
from .calls import declared_tool_powers, feature_powers, model_powers, strip_powers
from .hosts import host_powers
from .limits import budget_powers
from .power import Power, Proof
from .terms import demand_powers, job_approval_powers, life_powers
from .tool_calls import inner_call_powers, read_only_powers, refusal_text_powers, tool_call_powers
from .universe import Universe, universe_of


class Verdict(StrEnum):
    """What the second contract is beside the first."""

    EQUAL = "equal"  # the same, however it is written
    NARROWER = "narrower"  # it permits nothing that the first does not
    WIDER = "wider"
    DIFFERENT = "different"  # each permits something that the other does not


@dataclass(frozen=True, slots=True)
class Comparison:
    """``added`` is what the second contract permits and the first does not, ``removed`` the other way round."""

    added: tuple[Power, ...]
    removed: tuple[Power, ...]

    @property
    def widens(self) -> bool:
        return bool(self.added)

    @property
    def verdict(self) -> Verdict:
        if self.added:
            return Verdict.DIFFERENT if self.removed else Verdict.WIDER
        return Verdict.NARROWER if self.removed else Verdict.EQUAL

    @property
    def undecided(self) -> tuple[Power, ...]:
        """What counts as added since nothing proves that it is not."""
        return tuple(power for power in self.added if power.proof is Proof.OPEN)

    def to_json(self) -> JsonObject:
        return {
            "verdict": str(self.verdict),
            "widens": self.widens,
            "added": [power.to_json() for power in self.added],
            "removed": [power.to_json() for power in self.removed],
        }


def compare(before: Policy, after: Policy, classes: DataClasses | None = None) -> Comparison:
    """Compare ``after`` with ``before``. ``classes`` are those of the gateway, by default what ships.

    Takes milliseconds for usual contracts, and is bounded for any.
    """
    before, after = (replace(policy, policy_hash_b64u="", name="") for policy in (before, after))
    if before == after:
        return Comparison((), ())
    universe = universe_of((before, after))
    classes = classes or packaged_data_classes()
    return Comparison(
        added=tuple(_beyond(after, before, universe, classes)),
        removed=tuple(_beyond(before, after, universe, classes)),
    )


_COMPARED = frozenset(
    {
        *("shape", "providers", "models", "tools", "statements", "minimum_tier", "model_call_denied", "demands"),
        *("provider_features", "max_ttl_s", "egress", "arguments", "data", "on_denied_tool", "on_denied_call"),
        *("approvals", "read_only", "budgets"),
    }
)
_SAY_NOTHING = frozenset({"policy_hash_b64u", "name", "envelope"})


def _not_compared(here: Policy, there: Policy) -> Iterator[Power]:
    """Members of the ``Policy`` that nothing here knows how to compare: where they differ, more may be permitted."""
    for member in dataclasses.fields(Policy):
        name = member.name
        if name not in _COMPARED | _SAY_NOTHING and getattr(here, name) != getattr(there, name):
            yield Power(name, f"{name}: it differs, and is not compared", proof=Proof.OPEN)


def _beyond(here: Policy, there: Policy, universe: Universe, classes: DataClasses) -> Iterator[Power]:
    """What ``here`` permits and ``there`` does not."""
    yield from _not_compared(here, there)
    yield from demand_powers(here, there)
    seats, powers = model_powers(universe, here, there)
    yield from powers
    yield from feature_powers(seats, here, there)
    declared = list(declared_tool_powers(universe, seats, here, there))
    yield from declared
    yield from strip_powers(seats, here, there)
    said = {power.rule for power in declared if power.proof is Proof.DECIDED}
    yield from tool_call_powers(universe, seats, here, there, said)
    yield from inner_call_powers(universe, seats, here, there, said)
    yield from refusal_text_powers(seats, here, there)
    yield from read_only_powers(universe, seats, here, there)
    yield from job_approval_powers(here, there)
    yield from host_powers(here, there)
    yield from data_powers(here, there, universe.tools, classes, complete=universe.complete["tools"])
    yield from budget_powers(here, there)
    yield from life_powers(here, there)
