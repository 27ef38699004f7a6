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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import re2

from ...tokens.errors import ClawproxyError
from .detectors import Detector, Looks
from .leaves import Leaf, Leaves
from .views import Rendering, View, prepare, views

hyperscan: Any = None
with contextlib.suppress(ImportError):
    hyperscan = importlib.import_module("hyperscan")

_RE2_MEMORY = 16 * 1024 * 1024
_EVERY = 32
_MAX_FINDINGS = 20_000
_WORK, _BYTES_A_UNIT = 10_000, 64
"""What a look may cost: a unit is a candidate or about as much (5 µs); so much for any document, and one more for so
many characters. Only what is made to take long costs more."""
_PRINTABLE = frozenset(range(32, 127)) | {0, 9, 10, 13}
"""What text is made of; the zero is fill behind the end of base64."""
_AROUND = 6
_LEAVES_A_UNIT = 4
_CHARS_A_UNIT = 32
_JOINED_A_UNIT, _SHORT = 4, 64


class ScanError(ClawproxyError):
    """A document could not be looked through: no time was left, or too much stands in it."""

    def __init__(self, message: str) -> None:
        super().__init__("DATA_SCAN_FAILED", message)


@dataclass(frozen=True, slots=True)
class Finding:
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
        for view in views(leaves, work.spend):
            work.on_time()
            for n in self._finder.find(view.data):
                detector = self.detectors[n]
                if detector.name not in wanted or not _looks_in(detector, view.rendering):
                    continue
                for span in self._confirmed(n, view, work):
                    if view.rendering is Rendering.JOINED and span[1] - span[0] > _SHORT:
                        work.spend((span[1] - span[0]) // _JOINED_A_UNIT)  # it may go over thousands of values
                    pieces = view.locate(*span)
                    if not pieces or not _is_whole(detector, view, pieces, leaves, span):
                        continue
                    if not taken.add(detector.name, pieces, alone=view.rendering is not Rendering.JOINED):
                        continue
                    findings.append(Finding(detector.name, tuple(pieces)))
                    if len(findings) > _MAX_FINDINGS:
                        raise ScanError(f"more than {_MAX_FINDINGS} findings")
        return Scan(leaves, tuple(findings))

    def _confirmed(self, n: int, view: View, work: _Work) -> Iterator[tuple[int, int]]:
        detector, data = self.detectors[n], view.data
        groups = (detector.group,) if detector.group else tuple(range(1, self._patterns[n].groups + 1))
        check, cost = detector.check, detector.cost
        for count, match in enumerate(self._patterns[n].finditer(data)):
            if count % _EVERY == 0:
                work.on_time()
            # the first group that took part, if the pattern has any: alternatives with a group each
            start, end = match.span(next((n for n in groups if match.start(n) >= 0), 0) if groups else 0)
            work.spend(cost + (end - start) // _CHARS_A_UNIT)
            if (span := check(data, start, end)) is not None:
                yield span


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


def _is_whole(
    detector: Detector, view: View, pieces: list[tuple[int, int, int]], leaves: Sequence[Leaf], span: tuple[int, int]
) -> bool:
    """Whether a finding in a view other than the text as written means something."""
    if view.rendering is Rendering.JOINED:
        if len(pieces) < 2:
            return False
        if detector.looks is Looks.EVERYWHERE and not detector.name.endswith("card"):
            return True
        # columns of numbers are no number in pieces
        texts = [leaves[n] for n, _, _ in pieces]
        return all(leaf.is_prose for leaf in texts) or any(any(c.isalpha() for c in leaf.text) for leaf in texts)
    if view.rendering is Rendering.BASE64 and detector.looks is not Looks.EVERYWHERE:
        around = view.data[max(0, span[0] - _AROUND) : span[1] + _AROUND]
        return _PRINTABLE.issuperset(around)
    return True


class _Taken:
    """What was found already, so that the same thing in another rendering of the text is not told twice."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, int], list[tuple[int, int]]] = {}

    def add(self, detector: str, pieces: list[tuple[int, int, int]], *, alone: bool) -> bool:
        """Keep ``pieces``; False where each lies in something that the same detector found before, or, unless it stands
        ``alone``, where one of them was found without the other."""
        if all(self._lies_in(detector, *piece) for piece in pieces):
            return False
        if not alone and any(self._meets(detector, *piece) for piece in pieces):
            return False
        for leaf, start, end in pieces:
            insort(self._spans.setdefault((detector, leaf), []), (start, end))
        return True

    def _meets(self, detector: str, leaf: int, start: int, end: int) -> bool:
        spans = self._spans.get((detector, leaf), [])
        n = bisect_right(spans, (end, 0)) - 1
        return n >= 0 and spans[n][1] > start

    def _lies_in(self, detector: str, leaf: int, start: int, end: int) -> bool:
        spans = self._spans.get((detector, leaf), [])
        n = bisect_right(spans, (start, sys.maxsize)) - 1
        return n >= 0 and spans[n][1] >= end


def _unusable(detector: Detector, err: Exception) -> ClawproxyError:
    return ClawproxyError("CONFIG_INVALID", f"not a usable pattern: {str(err)[:100]}", where=detector.name)
