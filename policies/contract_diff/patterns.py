"""Patterns of a contract as automata that read a name character by character, all of them at once. Pure.

A *view* says in which form the patterns see a name: as it is, folded (``names.fold``), or in small ASCII letters
(WPC v1). A state is the set of places that are reached; what it accepts is known by the numbers of the patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from ..names import fold
from ..statements import pattern_steps

State = frozenset[int]


class View(Enum):
    """The form in which a name is compared."""

    EXACT = "exact"
    FOLDED = "folded"
    SMALL = "small"  # a name outside ASCII has no such form, and fits nothing
    LOWER = "lower"

    def of(self, text: str) -> str | None:
        """What the patterns see of ``text``, None where they fit no name that holds it."""
        if self is View.EXACT:
            return text
        if self is View.FOLDED:
            return fold(text)
        return text.lower() if text.isascii() or self is View.LOWER else None


class Step(Enum):
    """A step of a pattern that is no character."""

    ANY = "any run of characters"
    RUN = "any run without a slash"
    ONE = "one character, no slash"
    END = "the end"


Steps = tuple[str | Step, ...]


def name_steps(pattern: str) -> Steps:
    """A pattern of ``names.matches``: only ``*`` is special."""
    return (*(Step.ANY if char == "*" else char for char in pattern), Step.END)


def literal_steps(text: str) -> Steps:
    """A name that stands for itself, stars and all."""
    return (*text, Step.END)


_KINDS = {"**": Step.ANY, "*": Step.RUN, "?": Step.ONE}


def statement_steps(pattern: str) -> Steps:
    """A pattern of ``statements.glob_matches``."""
    if pattern in ("*", "**"):
        return (Step.ANY, Step.END)
    if "*" not in pattern and "?" not in pattern:
        return (*pattern, Step.END)
    return (*(_KINDS[kind] if kind else literal for kind, literal in pattern_steps(pattern)), Step.END)


class Reader(NamedTuple):
    """How one contract, or one part of it, looks at names: its patterns, and the view of them."""

    view: View
    steps: tuple[Steps, ...]

    @classmethod
    def of(cls, view: View, patterns: Iterable[str], steps: Callable[[str], Steps] = name_steps) -> Reader:
        """``patterns`` once each, already in the form of the view."""
        return cls(view, tuple(dict.fromkeys(steps(pattern) for pattern in patterns)))


def merged(readers: Iterable[Reader]) -> list[Reader]:
    """One reader for each view, with every pattern once."""
    found: dict[View, dict[Steps, None]] = {}
    for reader in readers:
        found.setdefault(reader.view, {}).update(dict.fromkeys(reader.steps))
    return [Reader(view, tuple(steps)) for view, steps in found.items() if steps]


class Machine:
    """A reader at work. ``dead`` is a state of its own: nothing is reached any more."""

    dead: State = frozenset()

    def __init__(self, reader: Reader) -> None:
        self.view = reader.view
        self._steps = [step for steps in reader.steps for step in steps]
        first, starts = 0, set()
        for steps in reader.steps:
            starts.add(first)
            first += len(steps)
        self.start = self._skip_runs(starts)
        self._after: dict[tuple[State, str], State] = {}
        self._seen: dict[State, tuple[frozenset[str], State, bool]] = {}

    def _skip_runs(self, places: Iterable[int]) -> State:
        """With the places behind runs, which may be empty."""
        out = set(places)
        for place in tuple(out):
            at = place
            while self._steps[at] in (Step.ANY, Step.RUN):
                at += 1
                out.add(at)
        return frozenset(out)

    def read(self, state: State, text: str) -> State:
        """The state behind ``text``, which is part of a name."""
        seen = self.view.of(text)
        if seen is None:
            return self.dead
        for char in seen:
            if not state:
                return state
            state = self._read_one(state, char)
        return state

    def _read_one(self, state: State, char: str) -> State:
        found = self._after.get((state, char))
        if found is None:
            places = set()
            for place in state:
                step = self._steps[place]
                if step is Step.ANY or (step is Step.RUN and char != "/"):
                    places.add(place)
                elif step == char or (step is Step.ONE and char != "/"):
                    places.add(place + 1)
            found = self._after[state, char] = self._skip_runs(places)
        return found

    def _look(self, state: State) -> tuple[frozenset[str], State, bool]:
        known = self._seen.get(state)
        if known is None:
            steps = [self._steps[place] for place in state]
            chars = {step for step in steps if isinstance(step, str)}
            if Step.RUN in steps or Step.ONE in steps:
                chars.add("/")
            ends = frozenset(place for place in state if self._steps[place] is Step.END)
            known = self._seen[state] = (frozenset(chars), ends, ends != state)
        return known

    def told_apart(self, state: State) -> frozenset[str]:
        """The characters that lead elsewhere than one that no pattern names."""
        return self._look(state)[0]

    def fits_for_good(self, state: State) -> bool:
        """Whether some pattern fits whatever follows."""
        return any(self._steps[place] is Step.ANY and self._steps[place + 1] is Step.END for place in state)

    def accepted(self, state: State) -> State:
        """What fits a name that ends here; equal sets stand for the same patterns."""
        return self._look(state)[1]
