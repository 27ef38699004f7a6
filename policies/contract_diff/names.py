"""One name for every way in which all patterns can fit together: the names on which contracts are asked. Pure.

The automata of all patterns run side by side, breadth first, so that each name found is a shortest one. A character
that no pattern tells from others is tried once. Where a contract compares folded names, the characters that fold into
those of a pattern are tried too, and a letter whose accent stands behind a space, which folding joins to it.

Limits: characters outside ASCII that no pattern has count as one, but for those that fold into ASCII. Patterns with
letters that Unicode takes apart (accents, Hangul) are not searched to the end: ``complete`` is false then, and where
the ``Effort`` does not suffice.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from ..names import MAX_NAME_CHARS, fold, is_settled
from .patterns import State, View

MAX_STEPS = 40_000_000
"""Places of patterns that automata look at for one comparison, some half a minute; what is left then is not decided."""
MAX_KEPT = 4_000_000
"""Places that states may hold which are remembered for one comparison, some 500 MB."""
_PLAIN = "xyzwvkq0123456789jhgfbdlmnprtucsaeio-_.~!@#$%&"
"""Characters that stand for all that no pattern names, the first free one."""
_FOREIGN = "жшюяфыэ"


class Watch(Protocol):
    """Reads a name; what it accepts may matter to a decision."""

    view: View

    def read(self, state: State, text: str) -> State: ...

    def told_apart(self, state: State) -> frozenset[str]: ...

    def accepted(self, state: State) -> Hashable: ...


@dataclass(slots=True)
class Effort:
    """How many places of patterns automata may still look at, and remember, all searches together."""

    left: int = MAX_STEPS
    room: int = MAX_KEPT

    def spend(self, states: tuple[State, ...]) -> bool:
        """Whether there was enough left for one more character in each of ``states``."""
        self.left -= sum(map(len, states)) + 8 * len(states)
        return self.left >= 0

    def keep(self, states: tuple[State, ...]) -> bool:
        """Whether there was room left to remember ``states``."""
        self.room -= sum(map(len, states)) + 8 * len(states)
        return self.room >= 0


@dataclass(frozen=True, slots=True)
class Names:
    """``names`` show every way to fit, if ``complete``; else some may be missing."""

    names: tuple[str, ...]
    complete: bool = True


def names_that_fit(
    watched: Sequence[tuple[Watch, State]],
    *,
    known: Iterable[str] = (),
    lead: str = "",
    takes: Callable[[str], bool] = is_settled,
    max_chars: int = MAX_NAME_CHARS,
    ends: Callable[[tuple[State, ...]], bool] = lambda states: False,
    counts: Callable[[str], bool] = lambda name: True,
    effort: Effort | None = None,
) -> Names:
    """One name, ``lead`` in front, for every set of patterns that fit one; ``known`` names are taken first.

    ``watched`` are the readers, each with the state in which it meets the first character behind ``lead``. ``takes``
    says which names, and so which of their beginnings, are names at all. ``ends`` says of
    states that longer names need not be looked at, ``counts`` which names are to be found.
    """
    effort = effort or Effort()
    found: dict[tuple[Hashable, ...], str] = {}

    def note(name: str, states: tuple[State, ...]) -> None:
        if not counts(name):
            return
        found.setdefault(
            tuple([watch.accepted(state) for (watch, _), state in zip(watched, states, strict=True)]), name
        )

    def read(states: tuple[State, ...], text: str) -> tuple[State, ...]:
        return tuple([watch.read(state, text) for (watch, _), state in zip(watched, states, strict=True)])

    first = tuple(state for _, state in watched)
    for name in known:
        if name.startswith(lead) and name != lead and takes(name):
            note(name, read(first, name.removeprefix(lead)))
    seen, waiting, apart = {first}, deque([(lead, first)]), set[str]()
    while waiting:
        name, states = waiting.popleft()
        meets = _Meets.of([(watch, state) for (watch, _), state in zip(watched, states, strict=True)])
        apart |= meets.folded
        for symbol in meets.symbols():
            longer = name + symbol
            if len(longer) > max_chars or not takes(longer):
                continue
            if not effort.spend(states):
                return Names(tuple(found.values()), complete=False)
            reached = read(states, symbol)
            note(longer, reached)
            if reached not in seen and not ends(reached):
                if not effort.keep(reached):
                    return Names(tuple(found.values()), complete=False)
                seen.add(reached)
                waiting.append((longer, reached))
    return Names(tuple(found.values()), not any(_is_taken_apart(char) for char in apart))


def _is_taken_apart(char: str) -> bool:
    return not char.isascii() and (unicodedata.normalize("NFD", char) != char or bool(unicodedata.combining(char)))


@dataclass(frozen=True, slots=True)
class _Meets:
    """What the patterns tell apart at one place of a name."""

    exact: frozenset[str]
    folded: frozenset[str]
    small: frozenset[str]
    folds: bool
    """Some folded pattern may still fit."""
    is_small: bool
    is_exact: bool

    @classmethod
    def of(cls, watched: Iterable[tuple[Watch, State]]) -> _Meets:
        apart: dict[View, set[str]] = {view: set() for view in View}
        alive = set()
        for watch, state in watched:
            if state:
                apart[watch.view] |= watch.told_apart(state)
                alive.add(watch.view)
        small = frozenset(apart[View.SMALL] | apart[View.LOWER])
        exact, folded = frozenset(apart[View.EXACT]), frozenset(apart[View.FOLDED])
        is_small, is_exact = View.SMALL in alive, View.EXACT in alive
        return cls(exact, folded, small, View.FOLDED in alive, is_small, is_exact)

    @property
    def chars(self) -> frozenset[str]:
        return self.exact | self.folded | self.small

    def symbols(self) -> Iterator[str]:
        """What a name may go on with, each once, so that every way of going on is there."""
        known = self.chars
        out = dict.fromkeys(sorted(self.exact))
        for char in sorted(self.folded):
            # another spelling is another way only where the patterns that see the name as it is tell it apart
            apart = char in self.exact or not char.isascii()
            out |= dict.fromkeys(_that_fold_into(char) if apart else (char,))
            if self.is_exact:
                out |= dict.fromkeys(_LONGER_FOLDS.get(char, ()))
        for char in sorted(self.small):
            out |= dict.fromkeys((char, char.upper()))
        out[next((char for char in _PLAIN + _FOREIGN if char not in known), "\N{SNOWMAN}")] = None
        if self.is_small:
            out[next((char for char in _FOREIGN if char not in known), "\N{SNOWMAN}")] = None
        if self.folds and self.is_exact:
            out[" "] = None
            joined = sorted(self.exact & self.folded)
            out |= dict.fromkeys(char + accent for char in joined if (accent := _accent_of(char)))
        yield from out


_LONGER_FOLDS = {"s": ("\N{LATIN SMALL LETTER SHARP S}",), "i": ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",)}
"""The only settled characters outside ASCII whose folded form has ASCII in it, by its first character."""


def _that_fold_into(char: str) -> tuple[str, ...]:
    """Settled characters whose folded form is ``char``, or has it."""
    return (char, char.upper()) if char.isascii() else _foreign_folds().get(char, (char,))


@cache
def _foreign_folds() -> dict[str, tuple[str, ...]]:
    """By a character outside ASCII, the settled ones whose folded form has it."""
    found: dict[str, list[str]] = {}
    for code in range(0x80, 0x110000):
        if is_settled(chr(code)):
            for char in fold(chr(code)):
                found.setdefault(char, []).append(chr(code))
    return {char: tuple(of) for char, of in found.items()}


@cache
def _accent_of(char: str) -> str:
    """A space and an accent that folding joins to ``char``; empty where it takes none."""
    marks = (chr(code) for code in range(0x300, 0x340)) if char.isascii() and char.isalpha() else ()
    return next((" " + mark for mark in marks if len(unicodedata.normalize("NFC", char + mark)) == 1), "")
