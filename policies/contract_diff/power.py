"""What one contract permits and another does not: in words, with the entry that permits it and an example. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ...tokens.canonical import JsonObject
from ...tokens.grant import Grant
from ..call_rules import ToolCall
from ..egress import EgressFacts
from ..facts import CallFacts
from ..fixtures import Fixture, decide_fixture, fixture_row
from ..policy import Policy


class Proof(StrEnum):
    """How it is known."""

    DECIDED = "decided"  # the example was put to both contracts, and one refuses it
    COMPARED = "compared"  # two values of the contracts stand side by side: limits, actions, groups
    OPEN = "not decided"  # no example, and no proof that there is none: it counts as permitted


@dataclass(frozen=True, slots=True)
class Power:
    """One thing. ``field`` is the part of the contract, ``what`` says it, ``rule`` is the entry that permits it.

    ``here`` and ``there`` are what the contract that permits it and the other one say, in a word or a few.
    """

    field: str
    what: str
    rule: str = ""
    here: str = ""
    there: str = ""
    proof: Proof = Proof.COMPARED
    example: Fixture | None = dataclasses.field(default=None, compare=False)

    def to_json(self) -> JsonObject:
        """Absent members say nothing; ``example`` is a fixture for ``contract test``."""
        told: JsonObject = {"field": self.field, "what": self.what, "proof": str(self.proof)}
        told |= {name: value for name in ("rule", "here", "there") if (value := getattr(self, name))}
        return told if self.example is None else {**told, "example": fixture_row(self.example)}


def grant_of(sub: str = "", life_s: int = 0) -> Grant:
    """A token of ``sub`` that covers every provider; nothing else of it is looked at."""
    return Grant("", "", sub, (), ("clawproxy:call",), "", "", 0, life_s, None, "", {})


def a_fixture(
    facts: CallFacts | None, *, sub: str = "", tool: ToolCall | None = None, egress: EgressFacts | None = None
) -> Fixture:
    """The question as a fixture."""
    return Fixture("", None, grant_of(sub), facts or CallFacts("", "", None, stream=False), tool, egress)


def decided(power: Power, example: Fixture, here: Policy, there: Policy) -> Iterator[Power]:
    """``power`` with what both contracts really say of ``example``; nothing proved where they say the same.

    Demands are compared by themselves (``terms``), so they are left out here.
    """
    words = [decide_fixture(example, replace(policy, demands=())) for policy in (here, there)]
    same = words[0].word == words[1].word
    yield replace(
        power,
        rule=power.rule or words[0].rule,
        here=words[0].word,
        there=words[1].word,
        proof=Proof.OPEN if same else Proof.DECIDED,
        example=None if same else replace(example, name=power.what),
    )
