"""Bytes written as data: strings, and generators for what is too large or too binary to be written out. Pure.

A text is a string (UTF-8), or a list of parts, each of them a string or one of

    {"repeat": TEXT, "times": N}      {"each": "…{n}…", "times": N}   (n counts from 0)
    {"hex": "00ff"}                   {"gzip": TEXT}, {"zstd": TEXT}, {"deflate": TEXT}, {"br": TEXT}

Placeholders, ``{{token}}`` and the like, are replaced in strings; what they stand for is the runner's (README.md).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import brotli  # type: ignore[import-untyped]
import zstandard

MAX_BYTES = 64 * 1024 * 1024

_PACK: dict[str, Callable[[bytes], Any]] = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "deflate": zlib.compress,
    "zstd": lambda raw: zstandard.ZstdCompressor(level=3).compress(raw),
    "br": lambda raw: brotli.compress(raw, quality=5),
}


def pack(coding: str, raw: bytes) -> bytes:
    """``raw`` in the content coding ``coding``."""
    return bytes(_PACK[coding](raw))


def expand(text: Any, values: Mapping[str, bytes]) -> bytes:
    """The bytes of a text."""
    if isinstance(text, str):
        return _fill(text.encode("utf-8", "surrogatepass"), values)
    if isinstance(text, list):
        return b"".join(expand(part, values) for part in text)
    match text:
        case {"hex": str(digits)}:
            return bytes.fromhex(digits)
        case {"repeat": inner, "times": int(times)}:
            found = expand(inner, values)
            assert len(found) * times <= MAX_BYTES, "a generator makes more than the runner sends"
            return found * times
        case {"each": str(inner), "times": int(times)}:
            return b"".join(inner.replace("{n}", str(n)).encode() for n in range(times))
        case dict() if len(text) == 1 and (coding := next(iter(text))) in _PACK:
            return pack(coding, expand(text[coding], values))
    raise ValueError(f"not a text: {str(text)[:80]}")


def _fill(raw: bytes, values: Mapping[str, bytes]) -> bytes:
    if b"{{" not in raw:
        return raw
    for name, value in values.items():
        raw = raw.replace(b"{{%b}}" % name.encode(), value)
    assert b"{{" not in raw or b"}}" not in raw.partition(b"{{")[2], f"an unknown placeholder: {raw[:80]!r}"
    return raw
