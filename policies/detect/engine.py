"""Looks for data in a document: an engine finds who has a candidate, google-re2 says where, checks confirm.

With the extra ``dlp`` hyperscan finds, in one pass over each rendering of the text (``views``); without it the keywords
of each detector say whether google-re2 has to search for it at all. Neither goes back over the text, so nobody can
choose a text that takes them long; ``deadline`` bounds the whole work nevertheless.

A scanner may be used by several threads at once.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import re2

from ...tokens.errors import ClawproxyError
from .detectors import Detector, Looks
from .leaves import Leaves
from .views import Pieces, Rendering, View, prepare, views

hyperscan: Any = None
with contextlib.suppress(ImportError):
    hyperscan = importlib.import_module("hyperscan")

_RE2_MEMORY = 16 * 1024 * 1024
_EVERY = 32
_MAX_FINDINGS = 20_000
_WORK, _BYTES_A_UNIT = 7_000, 64
"""What a look may cost: a unit is a candidate or about as much (5 µs); so much for any document, and one more for so
many characters. Only what is made to take long costs more."""
_LEAVES_A_UNIT = 12
_CHARS_A_UNIT = 32
_PIECES_A_UNIT = 3
_SEARCHED_A_UNIT = 2500


class ScanError(ClawproxyError):
    """A document could not be looked through: no time was left, or too much stands in it."""

    def __init__(self, message: str) -> None:
        super().__init__("DATA_SCAN_FAILED", message)


class Finding(NamedTuple):
    """What a detector confirmed: ``pieces`` are (leaf, start, end), more than one where it goes over a border."""

    detector: str
    pieces: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found, and in what."""

    leaves: Leaves
    findings: tuple[Finding, ...]


class Finder(Protocol):
    """Says which detectors may match a text, by their places in the list."""

    def find(self, data: bytes) -> Iterable[int]: ...


class HyperscanFinder:
    """All detectors in a pass for each kind of pattern; each detector is reported once.

    Words with much behind them, words, and numbers: hyperscan takes a third of the time for the three that it takes for
    all of them in one database.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        assert hyperscan is not None
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for n, detector in enumerate(detectors):
            kind = bool(detector.keywords and detector.find), bool(detector.keywords or detector.find)
            kinds.setdefault(kind, []).append(n)
        self._databases = []
        for chosen in kinds.values():
            database = hyperscan.Database()
            database.compile(
                expressions=[(detectors[n].find or detectors[n].pattern).encode("ascii") for n in chosen],
                ids=chosen,
                flags=[hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL] * len(chosen),
            )
            self._databases.append((database, hyperscan.Scratch(database)))
        self._lock = threading.Lock()
        self._threads = threading.local()

    def find(self, data: bytes) -> Iterable[int]:
        scratches = getattr(self._threads, "scratches", None)
        if scratches is None:
            with self._lock:
                scratches = [first.clone() for _, first in self._databases]
            self._threads.scratches = scratches
        found: list[int] = []
        for (database, _), scratch in zip(self._databases, scratches, strict=True):
            database.scan(data, lambda n, *_: found.append(n), scratch=scratch)
        return sorted(found)


class KeywordFinder:
    """Detectors with a keyword that the text holds, and, if it has enough digits, those without one."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = tuple(detectors)

    def find(self, data: bytes) -> Iterable[int]:
        low = data.lower()
        digits = len(data) - len(data.translate(None, b"0123456789"))
        for n, detector in enumerate(self._detectors):
            if any(word in low for word in detector.keywords) if detector.keywords else digits >= 4:
                yield n


@lru_cache(maxsize=4)
def scanner_for(detectors: tuple[Detector, ...]) -> Scanner:
    """A scanner for these detectors, one in a process: compiling them takes about a second."""
    return Scanner(detectors)


class Scanner:
    """Looks for ``detectors``. Raises ``ClawproxyError`` (CONFIG_INVALID) for a pattern that cannot be used."""

    def __init__(self, detectors: Iterable[Detector], *, fast: bool | None = None) -> None:
        """``fast`` asks for hyperscan or for doing without; by default it is used where it is installed."""
        self.detectors = tuple(detectors)
        options = re2.Options()
        options.max_mem = _RE2_MEMORY
        options.log_errors = False
        options.dot_nl = True
        self._patterns = []
        for detector in self.detectors:
            try:
                self._patterns.append(re2.compile(detector.pattern.encode("ascii"), options))
            except (re2.error, UnicodeEncodeError) as err:
                raise _unusable(detector, err) from None
        prepare()
        self.is_fast = hyperscan is not None if fast is None else fast
        self._finder: Finder = KeywordFinder(self.detectors)
        if self.is_fast:
            try:
                self._finder = HyperscanFinder(self.detectors)
            except hyperscan.error as err:
                raise ClawproxyError("CONFIG_INVALID", f"hyperscan takes not all patterns: {str(err)[:100]}") from None

    def scan(self, document: Any, wanted: Collection[str], late: Callable[[], bool] = lambda: False) -> Scan:
        """Look for the detectors ``wanted`` in all strings of a JSON value. ``late`` says that the time is over; then,
        and where there is too much to tell, this raises ``ScanError``."""
        leaves = Leaves(document)
        work = _Work(_WORK + len(leaves.text) // _BYTES_A_UNIT, late)
        work.spend(len(leaves) // _LEAVES_A_UNIT)
        findings: list[Finding] = []
        taken = _Taken()
        letters = _Letters(leaves)
        for view in views(leaves, work.spend):
            work.on_time()
            for n in self._finder.find(view.data):
                detector = self.detectors[n]
                if detector.name in wanted and _looks_in(detector, view.rendering):
                    self._search(n, view, work, taken, letters, findings)
        return Scan(leaves, tuple(findings))

    def _search(
        self, n: int, view: View, work: _Work, taken: _Taken, letters: _Letters, findings: list[Finding]
    ) -> None:
        """Add what one detector finds in a view to ``findings``."""
        detector, data, locate, crosses, pattern = (
            self.detectors[n],
            view.data,
            view.locate,
            view.crosses,
            self._patterns[n],
        )
        name, check, cost, spend = detector.name, detector.check, detector.cost, work.spend
        first = taken.first(n) if view.rendering is Rendering.WRITTEN else None
        alone = view.rendering is not Rendering.JOINED
        groups = (detector.group,) if detector.group else tuple(range(1, pattern.groups + 1))
        only, is_either = groups[0] if len(groups) == 1 else 0, len(groups) > 1
        reached = 0
        work.on_time()
        if self.is_fast:  # one pass, whether there is a candidate or not
            spend(len(data) // _SEARCHED_A_UNIT)
        for count, match in enumerate(pattern.finditer(data), 1):
            if count % _EVERY == 0:
                work.on_time()
            if is_either:  # the first that took part: alternatives with a group each
                only = next((group for group in groups if match.start(group) >= 0), 0)
            start, end = whole = match.span()
            spend(cost + (end - start) // _CHARS_A_UNIT)
            if groups:
                start, end = match.span(only) if only else whole
            if crosses is not None and not crosses(start, end):
                continue
            span = check(data, start, end)
            if span is None or span[1] <= reached:
                continue
            pieces = locate(*span)
            if len(pieces) > 1:  # it may go over thousands of values
                spend(1 + len(pieces) // _PIECES_A_UNIT)
            if not pieces:
                continue
            if first is not None:
                first += pieces
            else:
                if not _is_whole(detector, view, pieces, letters, span):
                    continue
                if view.reach is not None:
                    reached = view.reach(span[1])
                if not taken.add(n, pieces, alone=alone):
                    continue
            findings.append(Finding(name, tuple(pieces)))
            if len(findings) > _MAX_FINDINGS:
                raise ScanError(f"more than {_MAX_FINDINGS} findings")


class _Work:
    """What one look may still cost, in units and in time. Units are the same on every machine: what is made to take
    long ends early, and always at the same place."""

    def __init__(self, units: int, late: Callable[[], bool]) -> None:
        self._left = units
        self._late = late

    def spend(self, units: int) -> None:
        """Take ``units`` off; raises ``ScanError`` where none are left."""
        self._left -= units
        if self._left < 0:
            raise ScanError("looking through the text takes more than it may")

    def on_time(self) -> None:
        """Raises ``ScanError`` if the time is over."""
        if self._late():
            raise ScanError("the time for looking through the text is over")


def _looks_in(detector: Detector, rendering: Rendering) -> bool:
    return rendering is Rendering.WRITTEN or detector.looks is not Looks.WRITTEN


class _Letters:
    """Which leaves have a letter; each is looked at once, however many findings touch it."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self._told: dict[int, bool] = {}

    def __contains__(self, n: int) -> bool:
        told = self._told.get(n)
        if told is None:
            told = self._told[n] = any(map(str.isalpha, set(self.leaves.texts[n])))
        return told


def _is_whole(detector: Detector, view: View, pieces: Pieces, letters: _Letters, span: tuple[int, int]) -> bool:
    """Whether a finding in a view other than the text as written means something."""
    if view.rendering is Rendering.JOINED:
        if len(pieces) < 2:
            return False
        if detector.looks is Looks.EVERYWHERE and not detector.name.endswith("card"):
            return True
        # columns of numbers are no number in pieces
        places = [n for n, _, _ in pieces]
        return all(letters.leaves[n].is_prose for n in places) or any(n in letters for n in places)
    return view.is_text is None or detector.looks is Looks.EVERYWHERE or view.is_text(*span)


class _Taken:
    """What was found already, so that the same thing in another rendering of the text is not told twice."""

    def __init__(self) -> None:
        self._spans: dict[int, Pieces] = {}

    def first(self, detector: int) -> Pieces:
        """The list for what a detector finds in the text as written: nothing lies before it, and it comes in order."""
        return self._spans.setdefault(detector, [])

    def add(self, detector: int, pieces: Pieces, *, alone: bool) -> bool:
        """Keep ``pieces``; False where each lies in something that the same detector found before, or, unless it stands
        ``alone``, where one of them was found without the other."""
        spans = self._spans.setdefault(detector, [])
        if spans:
            if all(_lies_in(spans, *piece) for piece in pieces):
                return False
            if not alone and any(_meets(spans, *piece) for piece in pieces):
                return False
        for piece in pieces:
            insort(spans, piece)
        return True


def _meets(spans: Pieces, leaf: int, start: int, end: int) -> bool:
    n = bisect_right(spans, (leaf, end, 0)) - 1
    return n >= 0 and spans[n][0] == leaf and spans[n][2] > start


def _lies_in(spans: Pieces, leaf: int, start: int, end: int) -> bool:
    n = bisect_right(spans, (leaf, start, sys.maxsize)) - 1
    return n >= 0 and spans[n][0] == leaf and spans[n][2] >= end


def _unusable(detector: Detector, err: Exception) -> ClawproxyError:
    return ClawproxyError("CONFIG_INVALID", f"not a usable pattern: {str(err)[:100]}", where=detector.name)
