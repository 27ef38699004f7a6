"""A text in the renderings in which something can hide in it, each with the way back to where it stood. Pure.

As written; with backslash escapes undone (JSON inside a string); with percent escapes undone; out of base64; and
neighbouring values joined without anything between them. One level each: base64 inside base64 is not undone.

All are ASCII bytes, one for each character: what only looks like an ASCII character (full-width digits, digits of other
scripts, other spaces and hyphens) becomes that character, what is invisible goes away, everything else is ``?``.
"""

from __future__ import annotations

import base64
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from operator import itemgetter

from .leaves import Leaves

MIN_BASE64 = 16
_MAX_REPLACED = 24
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


def views(leaves: Leaves) -> Iterator[View]:
    """Every view of a document that differs from the others."""
    text, back = _plain(leaves.text)
    written = text.encode("ascii", "replace")
    yield View(Rendering.WRITTEN, written, lambda a, b: leaves.pieces(back(a), back(b - 1) + 1))
    if "\\" in leaves.text:
        yield _decoded(leaves, Rendering.UNESCAPED, "\\", _unescape)
    if "%" in leaves.text:
        yield _decoded(leaves, Rendering.PERCENT, "%", _unquote)
    yield from _base64(leaves, written, back)
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


def _base64(leaves: Leaves, written: bytes, back: Callable[[int], int]) -> Iterator[View]:
    """What runs of base64 stand for, from each of the four places at which they could begin.

    A run may be broken into lines. What is found in it stands for the whole run.
    """
    lines = written.translate(_B64, b"\r\n")
    runs = [run for run in lines.split() if len(run) >= MIN_BASE64]
    if not runs:
        return
    places = _RunPlaces(written, runs)
    for shift in range(4):
        cut = [run[shift : len(run) - (len(run) - shift) % 4] for run in runs]
        # what is left at the end of a run is decoded with fill
        tails = [run[len(run) - (len(run) - shift) % 4 :] for run in runs]
        whole = [
            body + tail + b"=" * (4 - len(tail)) if len(tail) > 1 else body
            for body, tail in zip(cut, tails, strict=True)
        ]
        sizes = [len(run) // 4 * 3 for run in whole]
        pure = b"".join(run if run[-1:] != b"=" else run.replace(b"=", b"A") for run in whole)
        data = base64.b64decode(pure)
        data = data.translate(_ASCII)  # control characters stand for words (``_WORDS``) in what is no binary

        def locate(a: int, b: int, sizes: list[int] = sizes) -> list[tuple[int, int, int]]:
            return [
                piece
                for start, end in places.covering(a, b, sizes)
                for piece in leaves.pieces(back(start), back(end - 1) + 1)
            ]

        yield View(Rendering.BASE64, data, locate)


_ASCII = bytes(c if 32 <= c < 127 or c in (0, 9, 10, 13) else 63 for c in range(256))


class _RunPlaces:
    """Where runs of base64 stand in the text that they were taken from; worked out when asked."""

    def __init__(self, written: bytes, runs: list[bytes]) -> None:
        self._written = written
        self._runs = runs
        self._spans: list[tuple[int, int]] = []

    def covering(self, start: int, end: int, sizes: list[int]) -> list[tuple[int, int]]:
        if not self._spans:
            self._spans = list(self._find())
        found, at = [], 0
        for n, size in enumerate(sizes):
            if at < end and at + size > start:
                found.append(self._spans[n])
            at += size
            if at >= end:
                break
        return found

    def _find(self) -> Iterator[tuple[int, int]]:
        breaks = [n for n, code in enumerate(self._written) if code in b"\r\n"]
        shifts = [place - n for n, place in enumerate(breaks)]
        lines, at = self._written.translate(_B64, b"\r\n"), 0
        for run in self._runs:
            at = lines.find(run, at)
            stop = at + len(run)
            yield at + bisect_right(shifts, at), stop - 1 + bisect_right(shifts, stop - 1) + 1
            at = stop


# -- neighbours --------------------------------------------------------------------------------------------------


def _joined(leaves: Leaves) -> Iterator[View]:
    """Values one behind the other, without keys and without what only says what something is."""
    chosen = [n for n, leaf in enumerate(leaves) if leaf.joins and leaf.text]
    if len(chosen) < 2:
        return
    pieces = _Pieces()
    for n in chosen:
        pieces.add(leaves[n].text, leaves.starts[n])
    text, back = _plain("".join(pieces.parts))

    def locate(a: int, b: int) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        at, stop = back(a), back(b - 1) + 1
        if pieces.start(at) + stop - at == pieces.start(stop - 1) + 1:
            return []  # within one value: it was found there
        while at < stop:
            n, start, _ = leaves.pieces(pieces.start(at), pieces.start(at) + 1)[0]
            size = min(len(leaves[n].text) - start, stop - at)
            found.append((n, start, start + size))
            at += size
        return found

    yield View(Rendering.JOINED, text.encode("ascii", "replace"), locate)
