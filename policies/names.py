"""How the names of models and tools are compared with what a contract says. Pure.

A pattern is exact, or has ``*`` for any run of characters; it is anchored at both ends and has no other special
character, so matching is linear and cannot be made slow by a long name.

Limits: names that only look alike (a Cyrillic letter in a Latin word) are different names here; they can match a ``*``.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

MAX_NAME_CHARS = 256


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is ``pattern``, or fits its ``*``. Case counts."""
    if "*" not in pattern:
        return pattern == name
    first, *middle, last = _parts(pattern)
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("*"))


@lru_cache(maxsize=4096)  # agents declare the same tools in each call
def fold(name: str) -> str:
    """``name`` with what a careless reader overlooks taken out: compatibility forms (NFKC), case, spaces."""
    if name.isascii():
        return name.lower().replace(" ", "")
    # one round may uncover what the next one folds: a space taken out lets an accent combine
    for _ in range(3):
        name = unicodedata.normalize("NFKC", "".join(unicodedata.normalize("NFKC", name).casefold().split()))
    return name


def is_settled(name: str) -> bool:
    """Whether a wire name has one reading: 1 to 256 printable characters that NFKC leaves alone."""
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        return False
    return name.isascii() or unicodedata.normalize("NFKC", name) == name
