"""A text in the renderings in which something can hide in it, each with the way back to where it stood. Pure.

As written; with backslash escapes undone (JSON inside a string); with percent escapes undone; out of base64; and
neighbouring values joined without anything between them. One level each: base64 inside base64 is not undone.

All are ASCII bytes, one for each character: what only looks like an ASCII character (full-width digits, digits of other
scripts, other spaces and hyphens) becomes that character, what is invisible goes away, everything else is ``?``.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate
from operator import itemgetter

from .leaves import Leaves

MIN_BASE64 = 16
_MAX_REPLACED = 24
_ESCAPES_A_UNIT, _RUNS_A_UNIT = 4, 3
_B64 = bytes(c if chr(c).isalnum() and c < 128 else {43: 43, 47: 47, 45: 43, 95: 47}.get(c, 32) for c in range(256))
_JSON_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " ", '"': '"', "/": "/", "'": "'"}
_HEX = frozenset("0123456789abcdefABCDEF")


_WORDS = {
    "\x01": (
        "телефон", "Телефон", "тел.", "Тел.", "мобильный", "手机号", "手机", "手機", "电话", "電話", "携帯",
        "전화", "휴대폰", "هاتف", "טלפון", "τηλέφωνο", "फ़ोन", "โทร",
    ),
    "\x02": (
        "пароль", "Пароль", "ПАРОЛЬ", "パスワード", "密码", "密碼", "口令", "비밀번호", "κωδικός", "סיסמה",
    ),
    "\x03": ("身份证", "身分證", "マイナンバー", "個人番号", "주민등록번호", "आधार", "паспорт", "СНИЛС", "ИНН"),
}  # fmt: skip
"""Words in other scripts that say what stands behind them, as one character each time: a telephone number, a password,
a national number. Detectors look for that character."""


class Rendering(StrEnum):
    """How a view came out of the text."""

    WRITTEN = "written"
    UNESCAPED = "unescaped"
    PERCENT = "percent"
    BASE64 = "base64"
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class View:
    """``data`` to search, and ``locate``: a span of it as (leaf, start, end) in the document."""

    rendering: Rendering
    data: bytes
    locate: Callable[[int, int], list[tuple[int, int, int]]]


def views(leaves: Leaves, spend: Callable[[int], None] = lambda _: None) -> Iterator[View]:
    """Every view of a document that differs from the others. ``spend`` is told what making them costs, in units of the
    engine, and may raise."""
    text, back = _plain(leaves.text)
    written = text.encode("ascii", "replace")
    yield View(Rendering.WRITTEN, written, lambda a, b: leaves.pieces(back(a), back(b - 1) + 1))
    if escapes := leaves.text.count("\\"):
        spend(escapes // _ESCAPES_A_UNIT)
        yield _decoded(leaves, Rendering.UNESCAPED, "\\", _unescape)
    if escapes := leaves.text.count("%"):
        spend(escapes // _ESCAPES_A_UNIT)
        yield _decoded(leaves, Rendering.PERCENT, "%", _unquote)
    yield from _base64(leaves, written, back, spend)
    if len(leaves) > 1:
        yield from _joined(leaves)


def prepare() -> None:
    """Work out what is worked out once (a tenth of a second), so that no look has to wait for it."""
    _lookalikes()


# -- what only looks different -----------------------------------------------------------------------------------


@cache
def _lookalikes() -> tuple[dict[str, str], frozenset[str]]:
    """Characters that stand for one ASCII character, and characters that nobody sees."""
    alike: dict[str, str] = {}
    unseen = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0"}
    for code in (*range(0x80, 0x2_0000), *range(0xE_0000, 0xE_0200)):
        char = chr(code)
        kind = unicodedata.category(char)
        if kind in ("Cf", "Mn", "Me") and (kind == "Cf" or 0xFE00 <= code <= 0xFE0F or code >= 0xE_0000):
            unseen.add(char)
        elif kind == "Nd":
            alike[char] = str(unicodedata.decimal(char))
        elif kind == "Zs":
            alike[char] = " "
        elif kind == "Pd" or char in "−‐‑⁃":
            alike[char] = "-"
        elif kind not in ("Cn", "Cs", "Co", "Cc"):
            plain = unicodedata.normalize("NFKC", char)
            if len(plain) == 1 and plain.isascii() and plain.isprintable():
                alike[char] = plain
    return alike, frozenset(unseen - alike.keys())


def _plain(text: str) -> tuple[str, Callable[[int], int]]:
    """``text`` without lookalikes and unseen characters, and the way back from its offsets."""
    if text.isascii():
        return text, _same
    for mark, words in _WORDS.items():
        for word in words:
            if word in text:
                text = text.replace(word, mark * len(word))
    alike, unseen = _lookalikes()
    there = set(text)
    text = _with(text, {char: alike[char] for char in there & alike.keys()})
    gone = there & unseen
    if not gone:
        return text, _same
    return _with(text, dict.fromkeys(gone, "")), _Back(text, gone)


def _with(text: str, instead: dict[str, str]) -> str:
    """``text`` with characters replaced: a few one by one, which is faster, many in one pass."""
    if len(instead) > _MAX_REPLACED:
        return text.translate({ord(char): other for char, other in instead.items()})
    for char, other in instead.items():
        text = text.replace(char, other)
    return text


def _same(at: int) -> int:
    return at


class _Back:
    """From offsets in a text without some characters to those in the text with them; worked out when asked."""

    def __init__(self, text: str, gone: set[str]) -> None:
        self._text: str | None = text
        self._gone = gone
        self._shifts: list[int] = []

    def __call__(self, at: int) -> int:
        if self._text is not None:
            places = [n for n, char in enumerate(self._text) if char in self._gone]
            self._shifts = [place - n for n, place in enumerate(places)]
            self._text = None
        return at + bisect_right(self._shifts, at)


# -- escapes -----------------------------------------------------------------------------------------------------


class _Pieces:
    """Text put together from pieces that stood elsewhere: as they are, or, with a width, as an escape."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._places: list[tuple[int, int, int]] = []
        self._size = 0

    def add(self, text: str, stood: int, width: int = 0) -> None:
        if text:
            self.parts.append(text)
            self._places.append((self._size, stood, width))
            self._size += len(text)

    def start(self, at: int) -> int:
        begun, stood, width = self._place(at)
        return stood + (0 if width else at - begun)

    def end(self, at: int) -> int:
        begun, stood, width = self._place(at - 1)
        return stood + (width or at - begun)

    def left(self, at: int) -> int:
        """How many characters there are from ``at`` to the end of the piece that it stands in."""
        n = bisect_right(self._places, at, key=itemgetter(0))
        return (self._places[n][0] if n < len(self._places) else self._size) - at

    def _place(self, at: int) -> tuple[int, int, int]:
        return self._places[bisect_right(self._places, at, key=itemgetter(0)) - 1]


def _decoded(leaves: Leaves, rendering: Rendering, mark: str, decode: Callable[[_Pieces, str, int], None]) -> View:
    pieces = _Pieces()
    for leaf, start in zip(leaves, leaves.starts, strict=True):
        if mark in leaf.text:
            decode(pieces, leaf.text, start)
            pieces.add("\n", start + len(leaf.text))
    text = "".join(pieces.parts)
    alike, _ = _lookalikes()
    if not text.isascii():
        text = _with(text, {char: alike[char] for char in set(text) & alike.keys()})
    data = text.encode("ascii", "replace")
    return View(rendering, data, lambda a, b: leaves.pieces(pieces.start(a), pieces.end(b)))


def _unescape(pieces: _Pieces, text: str, base: int) -> None:
    """Undo ``\\n``, ``\\"``, ``\\/``, ``\\\\`` and ``\\uXXXX``; another backslash stays."""
    first, *rest = text.split("\\")
    pieces.add(first, base)
    at = base + len(first)
    paired = False
    unseen = _lookalikes()[1]
    for part in rest:
        if paired:  # the second of two backslashes: what follows is as it is
            paired = False
            pieces.add(part, at + 1)
        elif not part:
            pieces.add("\\", at, 2)
            paired = True
        elif part[0] == "u" and len(part) > 4 and _HEX.issuperset(part[1:5]):
            char = chr(int(part[1:5], 16))
            if char not in unseen:
                pieces.add(char, at, 6)
            pieces.add(part[5:], at + 6)
        elif part[0] in _JSON_ESCAPES:
            pieces.add(_JSON_ESCAPES[part[0]], at, 2)
            pieces.add(part[1:], at + 2)
        else:
            pieces.add("\\" + part, at)
        at += 1 + len(part)


def _unquote(pieces: _Pieces, text: str, base: int) -> None:
    """Undo ``%XX`` of ASCII characters, and take ``+`` for a space as forms do; other bytes are ``?``."""
    first, *rest = text.split("%")
    pieces.add(first.replace("+", " "), base)
    at = base + len(first)
    for part in rest:
        if len(part) > 1 and _HEX.issuperset(part[:2]):
            code = int(part[:2], 16)
            pieces.add(chr(code) if code < 128 else "?", at, 3)
            pieces.add(part[2:].replace("+", " "), at + 3)
        else:
            pieces.add("%" + part.replace("+", " "), at)
        at += 1 + len(part)


# -- base64 ------------------------------------------------------------------------------------------------------


def _base64(leaves: Leaves, written: bytes, back: Callable[[int], int], spend: Callable[[int], None]) -> Iterator[View]:
    """What runs of base64 stand for, from each of the four places at which they could begin; of that only what could be
    text, with what stands around it.

    A run may be broken into lines. What is found in it stands for the whole run.
    """
    lines = written.translate(_B64, b"\r\n")
    runs = list(_stretches(lines.translate(_NO_SPACE), MIN_BASE64))
    if not runs:
        return
    spend(len(runs) // _RUNS_A_UNIT)
    places = _RunPlaces(written, runs)
    # each run is filled up with four to seven of what stands for zeros, so that all begin at the same shift
    filled = bytearray(b"".join([lines[a:b] + _FILL[(b - a) % 4] for a, b in runs]))
    starts = list(accumulate([(b - a) // 4 * 4 + (4 if (b - a) % 4 == 0 else 8) for a, b in runs], initial=0))[:-1]
    for shift in range(4):
        # a single character at the end of a run stands for nothing
        single = [at + b - a - 1 for at, (a, b) in zip(starts, runs, strict=True) if (b - a - shift) % 4 == 1]
        kept = [filled[at] for at in single]
        for at in single:
            filled[at] = _ZERO
        decoded = base64.b64decode(filled[shift : len(filled) - (-shift % 4)])
        for at, char in zip(single, kept, strict=True):
            filled[at] = char
        if shift < 3:  # nor does what stands before the next place
            for at in starts:
                filled[at + shift] = _ZERO
        windows = _windows(decoded)
        if windows:
            yield _base64_view(leaves, back, places, windows, decoded, shift, starts)


_ZERO = ord("A")
_FILL = tuple(b"A" * (8 - n if n else 4) for n in range(4))
_ASCII = bytes(c if 32 <= c < 127 or c in (0, 9, 10, 13) else 63 for c in range(256))
_IS_TEXT = bytes(65 if 32 <= c < 127 or c in (9, 10, 13) else 32 for c in range(256))
_NO_SPACE = bytes(32 if c == 32 else 65 for c in range(256))
_MIN_TEXT = 6
"""Nothing that a detector finds is shorter."""
_BEFORE, _BEHIND = 64, 8
_MAX_WINDOWS = 2000


def _stretches(marks: bytes, least: int) -> Iterator[tuple[int, int]]:
    """Where ``least`` times A or more stand in a row among spaces."""
    wanted, find, end = b"A" * least, marks.find, 0
    while (start := find(wanted, end)) >= 0:
        end = find(b" ", start + least)
        if end < 0:
            end = len(marks)
        yield start, end


def _windows(decoded: bytes) -> list[tuple[int, int]]:
    """The parts of ``decoded`` that could be text: a few printable characters in a row, and what stands around them.
    All of it where there are too many."""
    windows: list[tuple[int, int]] = []
    begun, stop = -1, 0
    for start, end in _stretches(decoded.translate(_IS_TEXT), _MIN_TEXT):
        if start - _BEFORE > stop or begun < 0:
            if begun >= 0:
                windows.append((begun, stop))
                if len(windows) > _MAX_WINDOWS:
                    return [(0, len(decoded))]
            begun = max(0, start - _BEFORE)
        stop = end + _BEHIND
    if begun >= 0:
        windows.append((begun, min(stop, len(decoded))))
    return windows


def _base64_view(
    leaves: Leaves,
    back: Callable[[int], int],
    places: _RunPlaces,
    windows: list[tuple[int, int]],
    decoded: bytes,
    shift: int,
    starts: list[int],
) -> View:
    # between two windows stands the end of a line, which belongs to neither
    data = b"\n".join([decoded[a:b] for a, b in windows]).translate(_ASCII)
    begins = list(accumulate([b - a + 1 for a, b in windows], initial=0))

    def undone(at: int) -> int:
        n = bisect_right(begins, at) - 1
        return windows[n][0] + at - begins[n]

    def locate(a: int, b: int) -> list[tuple[int, int, int]]:
        first = max(0, bisect_right(starts, undone(a) // 3 * 4 + shift + 3) - 1)
        last = max(first, bisect_right(starts, undone(b - 1) // 3 * 4 + shift) - 1)
        return [
            piece for start, end in places.spans(first, last) for piece in leaves.pieces(back(start), back(end - 1) + 1)
        ]

    return View(Rendering.BASE64, data, locate)


class _RunPlaces:
    """Where runs of base64 stand in the text that they were taken from; worked out when asked."""

    def __init__(self, written: bytes, runs: list[tuple[int, int]]) -> None:
        self._written = written
        self._runs = runs
        self._shifts: list[int] | None = None

    def spans(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        if self._shifts is None:
            breaks = [one.start() for one in _BREAK.finditer(self._written)]
            self._shifts = [place - n for n, place in enumerate(breaks)]
        for start, end in self._runs[first : last + 1]:
            yield start + bisect_right(self._shifts, start), end - 1 + bisect_right(self._shifts, end - 1) + 1


_BREAK = re.compile(rb"[\r\n]")


# -- neighbours --------------------------------------------------------------------------------------------------


def _joined(leaves: Leaves) -> Iterator[View]:
    """Values one behind the other, without keys and without what only says what something is. Of a long value its two
    ends: only what goes over a border counts."""
    chosen = leaves.joining()
    if len(chosen) < 2:
        return
    pieces = _Pieces()
    for n, whole in chosen:
        start = leaves.starts[n]
        if len(whole) <= 2 * _END:
            pieces.add(whole, start)
            continue
        head, tail = _ends(whole)
        if head >= tail:
            pieces.add(whole, start)
        else:
            pieces.add(whole[:head], start)
            pieces.add("\n", start + head)
            pieces.add(whole[tail:], start + tail)
    text, back = _plain("".join(pieces.parts))

    def locate(a: int, b: int) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        at, stop = back(a), back(b - 1) + 1
        if leaves.at(pieces.start(at)) == leaves.at(pieces.start(stop - 1)):
            return []  # within one value: it was found there
        while at < stop:
            size = min(pieces.left(at), stop - at)
            stood = pieces.start(at)
            n, start, _ = leaves.pieces(stood, stood + 1)[0]
            if found and found[-1][0] == n:  # its two ends, and what stands between them
                start = found.pop()[1]
            found.append((n, start, stood + size - leaves.starts[n]))
            at += size
        return found

    yield View(Rendering.JOINED, text.encode("ascii", "replace"), locate)


_END = 160
_TOKEN = re.compile(r"[^A-Za-z0-9+/=_.~\r\n-]")


def _ends(text: str) -> tuple[int, int]:
    """Where the two ends of a value end and begin that are joined to its neighbours: ``_END`` characters, what hangs
    together with them (a key in lines of base64), and half as many for what is said of it."""
    stop = _TOKEN.search(text, _END)
    head = (stop.start() if stop else len(text)) + _END // 2
    behind = _TOKEN.search(text[::-1], _END)
    tail = (len(text) - behind.start() if behind else 0) - _END // 2
    return head, tail
