"""A text in the renderings in which something can hide in it, each with the way back to where it stood. Pure.

As written; with backslash escapes undone (JSON inside a string); with percent escapes undone; out of base64; and
neighbouring values joined without anything between them. One level each: base64 inside base64 is not undone.

All are ASCII bytes, one for each character: what only looks like an ASCII character (full-width digits, digits of other
scripts, other spaces and hyphens) becomes that character, what is invisible goes away, everything else is ``?``.
"""

from __future__ import annotations

import base64
import codecs
import re
import unicodedata
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate, islice

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


Pieces = list[tuple[int, int, int]]
"""(leaf, start, end), one or more."""


@dataclass(frozen=True, slots=True)
class View:
    """``data`` to search, and ``locate``: a span of it as (leaf, start, end) in the document; nothing for one that does
    not count. Where spans were searched for is worked out when the first one is asked for."""

    rendering: Rendering
    data: bytes
    locate: Callable[[int, int], Pieces]
    crosses: Callable[[int, int], bool] | None = None
    """Whether a span goes over a border, where only such spans count."""
    reach: Callable[[int], int] | None = None
    """Up to where spans mean the same as one that ends at an offset, where a span stands for more than itself."""
    is_text: Callable[[int, int], bool] | None = None
    """Whether what stands around a span is text, where not all of ``data`` is."""


def views(leaves: Leaves, spend: Callable[[int], None] = lambda _: None) -> Iterator[View]:
    """Every view of a document that differs from the others. ``spend`` is told what making them costs, in units of the
    engine, and may raise."""
    plain = _Plain(leaves.text)
    text, back = plain.of(leaves.text)
    written = text.encode("ascii", "replace")
    as_it_is = leaves.pieces if back is _same else lambda a, b: leaves.pieces(back(a), back(b - 1) + 1)
    yield View(Rendering.WRITTEN, written, as_it_is)
    for rendering, mark, undone in ((Rendering.UNESCAPED, "\\", _Unescaped), (Rendering.PERCENT, "%", _Unquoted)):
        if escapes := leaves.text.count(mark):
            spend(escapes // _ESCAPES_A_UNIT)
            view = undone(leaves, mark)
            yield View(rendering, view.data, view.locate)
    yield from _base64(leaves, written, back, spend)
    if len(leaves) > 1:
        yield from _joined(leaves, plain)


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


class _Plain:
    """What has to be replaced in texts that are made of the characters of ``text``."""

    def __init__(self, text: str) -> None:
        self._words: list[tuple[str, str]] = []
        self._instead: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        if text.isascii():
            return
        there = set(text)
        alike, unseen = _lookalikes()
        self._words = [(word, mark * len(word)) for mark, word in _LETTERS_OF if there.issuperset(word)]
        self._instead = {char: alike[char] for char in there & alike.keys()}
        self._gone = dict.fromkeys(there & unseen, "")

    def of(self, text: str) -> tuple[str, Callable[[int], int]]:
        """``text`` without lookalikes and unseen characters, and the way back from its offsets."""
        if text.isascii():
            return text, _same
        for word, marks in self._words:
            text = text.replace(word, marks)
        text = _with(text, self._instead)
        if not self._gone or self._gone.keys().isdisjoint(text):
            return text, _same
        return _with(text, self._gone), _Back(text, self._gone)


_LETTERS_OF = [(mark, word) for mark, words in _WORDS.items() for word in words]


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

    def __init__(self, text: str, gone: Collection[str]) -> None:
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


class _Undone(ABC):
    """The leaves that hold a mark of escapes, each on a line, with the escapes undone; and the way back, which takes
    longer and is worked out when asked."""

    def __init__(self, leaves: Leaves, mark: str) -> None:
        self._texts = leaves.texts
        self._chosen = [n for n, text in enumerate(leaves.texts) if mark in text]
        self._source = "".join([f"{leaves.texts[n]}\n" for n in self._chosen])
        self._starts: list[int] = []
        # of each escape: where what it stands for is, where it stands, how long it is, how much it stands for
        self._outs: list[int] = []
        self._ins: list[int] = []
        self._widths = bytearray()
        self._sizes = bytearray()
        text = self._undo(self._source)
        if not text.isascii():
            alike, _ = _lookalikes()
            text = _with(text, {char: alike[char] for char in set(text) & alike.keys()})
        self.data = text.encode("ascii", "replace")

    def locate(self, a: int, b: int) -> Pieces:
        """The way back, for a span."""
        if not self._starts:
            self._starts = list(accumulate([len(self._texts[n]) + 1 for n in self._chosen], initial=0))
            self._trace(self._source)
        start, end = self._stood(a)[0], self._stood(b - 1)[1]
        found = []
        for k in range(bisect_right(self._starts, start) - 1, bisect_left(self._starts, end)):
            n, base = self._chosen[k], self._starts[k]
            first, last = max(0, start - base), min(len(self._texts[n]), end - base)
            if first < last:
                found.append((n, first, last))
        return found

    def _stood(self, at: int) -> tuple[int, int]:
        n = bisect_right(self._outs, at) - 1
        if n < 0:
            return at, at + 1
        stood, width, over = self._ins[n], self._widths[n], at - self._outs[n] - self._sizes[n]
        return (stood, stood + width) if over < 0 else (stood + width + over, stood + width + over + 1)

    def _note(self, stood: int, width: int, size: int, saved: int) -> int:
        """Keep an escape; how many characters have been saved by it and those before it."""
        self._outs.append(stood - saved)
        self._ins.append(stood)
        self._widths.append(width)
        self._sizes.append(size)
        return saved + width - size

    @abstractmethod
    def _undo(self, text: str) -> str:
        """The text with its escapes undone."""

    @abstractmethod
    def _trace(self, text: str) -> None:
        """Note every escape of ``text``."""


class _Codes(dict[str, str]):
    """What four hexadecimal digits behind ``\\u`` stand for; anything else stays."""

    def __missing__(self, digits: str) -> str:
        if len(digits) < 4 or not _HEX.issuperset(digits):
            return "\\u" + digits
        char = chr(int(digits, 16))
        told = self[digits] = "" if char in _lookalikes()[1] else char
        return told


class _Unescaped(_Undone):
    """Undoes ``\\n``, ``\\"``, ``\\/``, ``\\\\`` and ``\\uXXXX``; another backslash stays."""

    def _undo(self, text: str) -> str:
        # pairs first, in the order in which they stand: what is behind one is as it is
        pair = "\x04" if "\x04" not in text else _unused(text)
        text = text.replace("\\\\", pair)
        for char, other in _JSON_ESCAPES.items():
            text = text.replace("\\" + char, other)
        first, *rest = text.split("\\u")
        if rest:
            codes = _Codes()
            text = first + "".join([codes[part[:4]] + part[4:] for part in rest])
        return text.replace(pair, "\\")

    def _trace(self, text: str) -> None:
        codes = _Codes()
        first, *rest = text.split("\\")
        at, saved, paired, note = len(first), 0, False, self._note
        for part in rest:
            if paired:  # the second of two backslashes
                paired = False
            elif not part:
                saved = note(at, 2, 1, saved)
                paired = True
            elif part[0] == "u":
                char = codes[part[1:5]]
                if len(char) < 2:
                    saved = note(at, 6, len(char), saved)
            elif part[0] in _JSON_ESCAPES:
                saved = note(at, 2, 1, saved)
            at += 1 + len(part)


class _Bytes(dict[str, str]):
    """What two hexadecimal digits behind ``%`` stand for: bytes that are no ASCII are ``?``; anything else stays."""

    def __missing__(self, digits: str) -> str:
        if len(digits) < 2 or not _HEX.issuperset(digits):
            return "%" + digits
        code = int(digits, 16)
        told = self[digits] = chr(code) if code < 128 else "?"
        return told


class _Unquoted(_Undone):
    """Undoes ``%XX`` of ASCII characters, and takes ``+`` for a space as forms do."""

    def _undo(self, text: str) -> str:
        codes = _Bytes()
        first, *rest = text.replace("+", " ").split("%")
        return first + "".join([codes[part[:2]] + part[2:] for part in rest])

    def _trace(self, text: str) -> None:
        first, *rest = text.split("%")
        at, saved, note = len(first), 0, self._note
        for part in rest:
            if len(part) > 1 and _HEX.issuperset(part[:2]):
                saved = note(at, 3, 1, saved)
            at += 1 + len(part)


def _unused(text: str) -> str:
    """A character that ``text`` does not hold."""
    there = set(text)
    return next(char for char in map(chr, range(0xE000, 0x110000)) if char not in there)


# -- base64 ------------------------------------------------------------------------------------------------------


def _base64(leaves: Leaves, written: bytes, back: Callable[[int], int], spend: Callable[[int], None]) -> Iterator[View]:
    """What runs of base64 stand for, from each of the four places at which they could begin; of that only what could be
    text, with what stands around it.

    A run may be broken into lines. What is found in it stands for the whole run.
    """
    lines = written.translate(_B64, b"\r\n")
    # of four digits the first three bits of the first byte are 110 or 111: a number stands for no text
    runs = [run for run in _stretches(lines.translate(_NO_SPACE), MIN_BASE64) if not lines[run[0] : run[1]].isdigit()]
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
            yield _base64_view(leaves, back, places, windows, decoded, shift, starts, filled)


_ZERO = ord("A")
_FILL = tuple(b"A" * (8 - n if n else 4) for n in range(4))
_ASCII = bytes(c if 32 <= c < 127 or c in (0, 9, 10, 13) else 63 for c in range(256))
_IS_TEXT = bytes(65 if 32 <= c < 127 or c in (9, 10, 13) else 32 for c in range(256))
_NO_SPACE = bytes(32 if c == 32 else 65 for c in range(256))
_MIN_TEXT = 6
"""Nothing that a detector finds is shorter."""
_BEFORE, _BEHIND = 64, 8
_AROUND = 6
_CONTINUES = bytes(range(0x80, 0xC0))
_CONTROL = frozenset(map(chr, {*range(1, 32), 127} - {9, 10, 13}))
"""No text has these; the zero is fill behind the end of base64."""
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
    stretches = list(islice(_stretches(decoded.translate(_IS_TEXT), _MIN_TEXT), _MAX_WINDOWS + 1))
    if len(stretches) > _MAX_WINDOWS:
        return [(0, len(decoded))]
    windows: list[tuple[int, int]] = []
    begun, stop = -1, 0
    for start, end in stretches:
        if start - _BEFORE > stop or begun < 0:
            if begun >= 0:
                windows.append((begun, stop))
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
    filled: bytearray,
) -> View:
    # between two windows stands the end of a line, which belongs to neither
    raw = b"\n".join([decoded[a:b] for a, b in windows])
    data = raw.translate(_ASCII)
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

    def reach(b: int) -> int:
        last = max(0, bisect_right(starts, undone(b - 1) // 3 * 4 + shift) - 1)
        if last + 1 == len(starts):
            return len(data)
        behind = (starts[last + 1] - shift) // 4 * 3  # what the next run stands for begins here, or later
        n = bisect_right(windows, (behind, -1)) - 1
        return min(begins[n] + behind - windows[n][0], begins[n + 1] - 1) if n >= 0 else b

    def is_text(a: int, b: int) -> bool:
        if _is_text(raw[max(0, a - _AROUND) : b + _AROUND]):
            return True
        # of a path, or a name with hyphens, one part may be base64: what the others stand for means nothing
        first, stop = undone(a), undone(b - 1) + 1
        heads = [n for n in range(_AROUND) if (first - n) % 3 == 0 and is_mark(shift + (first - n) // 3 * 4 - 1)]
        tails = [n for n in range(_AROUND) if is_mark(shift - (stop + n) * 4 // -3)]
        return any(_is_text(raw[max(0, a - n) : b]) for n in (*heads, _AROUND)) and any(
            _is_text(raw[a : b + n]) for n in (*tails, _AROUND)
        )

    def is_mark(at: int) -> bool:
        return 0 <= at < len(filled) and filled[at] in b"+/"

    return View(Rendering.BASE64, data, locate, reach=reach, is_text=is_text)


def _is_text(around: bytes) -> bool:
    try:  # a letter may be cut at either end
        text = codecs.getincrementaldecoder("utf-8")().decode(around.lstrip(_CONTINUES))
    except UnicodeDecodeError:
        return False
    return _CONTROL.isdisjoint(text)


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


def _joined(leaves: Leaves, plain: _Plain) -> Iterator[View]:
    """Values one behind the other, without keys and without what only says what something is. Of a long value its two
    ends: only what goes over a border counts."""
    chosen = leaves.joining()
    if len(chosen) < 2:
        return
    texts = [leaves.texts[n] for n in chosen]
    cuts: dict[int, tuple[int, int]] = {}
    if max(map(len, texts)) > 2 * _END:
        for k, whole in enumerate(texts):
            if len(whole) > 2 * _END:
                head, tail = _ends(whole)
                if head < tail:
                    cuts[k] = head, tail
                    texts[k] = f"{whole[:head]}\n{whole[tail:]}"
    text, back = plain.of("".join(texts))
    starts: list[int] = []

    def borders() -> list[int]:
        if not starts:
            starts.extend(accumulate(map(len, texts), initial=0))
            starts.pop()
        return starts

    def crosses(a: int, b: int) -> bool:
        return bisect_right(borders(), back(a)) != bisect_right(borders(), back(b - 1))

    def locate(a: int, b: int) -> Pieces:
        at, stop = back(a), back(b - 1) + 1
        first, last = bisect_right(borders(), at) - 1, bisect_right(borders(), stop - 1) - 1
        if first == last:
            return []  # within one value: it was found there
        found = []
        for k in range(first, last + 1):
            start, end = max(0, at - starts[k]), min(len(texts[k]), stop - starts[k])
            if k in cuts:  # its two ends, and what stands between them
                head, tail = cuts[k]
                start = start if start <= head else start - head - 1 + tail
                end = end if end <= head else end - head - 1 + tail
            if start < end:
                found.append((chosen[k], start, end))
        return found

    yield View(Rendering.JOINED, text.encode("ascii", "replace"), locate, crosses=crosses)


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
