"""What may stand around the name of a model so that ``model_match.other_names`` takes it off again. Pure.

Denials of statements look at those names too. So names are looked for with everything that may stand in front of them
and behind them, and told apart by what is left without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..model_match import LISTS, MARKS, REGIONS, VENDORS
from .patterns import Machine, State

_ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
LATEST = ":latest"


@dataclass(frozen=True, slots=True)
class Dress:
    """``fronts`` stand before a name, one after the other, and ``mark`` behind it."""

    fronts: tuple[str, ...] = ()
    mark: str = ""

    @property
    def front(self) -> str:
        return "".join(self.fronts)

    def leads(self) -> Iterator[str]:
        """What stands before the name while fronts are taken off, from all of them to none."""
        for n in range(len(self.fronts) + 1):
            yield "".join(self.fronts[n:])


def dresses(patterns: Iterable[str]) -> list[Dress]:
    """Each that the patterns may tell from others: the words that they speak of, and one of those that they do not."""
    spoken = " ".join(patterns).lower()
    regions = _told_apart([f"{region}." for region in REGIONS], spoken)
    vendors = [vendor for vendor in _told_apart([f"{vendor}." for vendor in VENDORS], spoken) if vendor.islower()]
    lists = _told_apart(LISTS, spoken)
    marks = ["", *_told_apart([f":{mark}" for mark in MARKS], spoken)]
    listed: list[tuple[str, ...]] = [(), *((one,) for one in lists), *itertools.product(lists, lists)]
    # the vendor stays: it is what makes the region one
    placed: list[tuple[str, ...]] = [(), *itertools.product(regions, vendors)]
    chains = (arn + among + where for arn in ((), (_ARN,)) for among in listed for where in placed)
    return [Dress(chain, mark) for chain in chains for mark in marks]


def _told_apart(words: Sequence[str], spoken: str) -> list[str]:
    """Those that are spoken of, in both cases, and one of the others."""
    found = [word for word in words if word in spoken]
    others = [word for word in words if word not in found]
    return [*found, *(word.upper() for word in found), *others[:1]]


class Undressed:
    """A machine that meets names without what stood before them; what it accepts counts with each of ``tails``."""

    def __init__(self, machine: Machine, tails: tuple[str, ...]) -> None:
        self.view, self.read, self.told_apart = machine.view, machine.read, machine.told_apart
        self._machine, self._tails = machine, tails

    def accepted(self, state: State) -> Hashable:
        return tuple([self._machine.accepted(self._machine.read(state, tail)) for tail in self._tails])
