"""The strings of a document, one after the other, each with the place that it stands at. Pure.

Keys count as strings, and so do numbers, since a card number needs no quotes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress, repeat
from operator import add
from typing import Any, NamedTuple

_STRUCTURE = frozenset(
    {
        "call_id", "cache_control", "detail", "format", "id", "index", "media_type", "mime_type", "mimeType", "model",
        "name", "object", "phase", "role", "signature", "status", "tool_call_id", "tool_use_id", "type",
    }
)  # fmt: skip
_TEXTS = frozenset(
    {
        "arguments", "content", "input", "input_text", "instructions", "message", "output", "output_text", "prompt",
        "summary", "system", "text", "thinking", "value",
    }
)  # fmt: skip


class Leaf(NamedTuple):
    """One string. ``holder[key]`` is it, or, with ``is_key``, the key itself is it."""

    holder: Any
    key: Any
    text: str
    is_key: bool = False

    @property
    def joins(self) -> bool:
        """Whether a value may go on in its neighbour: not what only says what something is."""
        return not self.is_key and self.key not in _STRUCTURE and self.holder[self.key].__class__ is str

    @property
    def is_prose(self) -> bool:
        """Whether it stands where formats have text, or in a list."""
        return self.key.__class__ is int or self.key in _TEXTS


_KEY, _NUMBER, _NAME, _VALUE = range(4)
"""What a leaf is: a key, a number, a string that only says what something is, any other string."""
_BEHIND = (": ", "\n", "\n", "\n")
_SIZES = bytes(len(_BEHIND[kind]) if kind < len(_BEHIND) else 0 for kind in range(256))
_JOINS = bytes(kind == _VALUE for kind in range(256))
_STRINGS, _NUMBERS = {str}, {int, float}
_LONG = 8
"""Lists of so many values that are all of one kind are taken over in one piece."""


class Leaves(Sequence[Leaf]):
    """The leaves of a document in order, and ``text``: all of them, each on a line, a value behind its key.

    They are kept as columns: a body of 200 KB may hold 100,000 of them, and few are ever asked for.
    """

    def __init__(self, document: Any) -> None:
        self.texts: list[str] = []
        """The text of each leaf."""
        self._kinds = bytearray()
        self._holders: list[Any] = []
        self._keys: list[Any] = []
        self._walk([document])
        parts = [""] * (2 * len(self.texts))
        parts[::2] = self.texts
        parts[1::2] = map(_BEHIND.__getitem__, self._kinds)
        self.text = "".join(parts)
        self._starts: list[int] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, at: Any) -> Any:
        if at.__class__ is slice:
            return [self[n] for n in range(*at.indices(len(self.texts)))]
        return Leaf(self._holders[at], self._keys[at], self.texts[at], self._kinds[at] == _KEY)

    def __iter__(self) -> Iterator[Leaf]:
        return map(self.__getitem__, range(len(self.texts)))

    @property
    def starts(self) -> list[int]:
        """Where each leaf begins in ``text``; worked out when asked."""
        if self._starts is None:
            behind = self._kinds.translate(_SIZES)
            self._starts = list(accumulate(map(add, map(len, self.texts), behind), initial=0))
            self._starts.pop()
        return self._starts

    def joining(self) -> list[int]:
        """The places of the values of which ``Leaf.joins`` is true."""
        return list(compress(range(len(self.texts)), self._kinds.translate(_JOINS)))

    def at(self, offset: int) -> int:
        """The leaf that stands at an offset into ``text``."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def pieces(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """A span of ``text`` as (leaf, start, end) inside of each leaf that it covers."""
        starts, texts = self._starts or self.starts, self.texts
        n = bisect_right(starts, start) - 1
        if n < 0:
            return []
        base = starts[n]
        if end - base <= len(texts[n]):  # within one, as nearly all are
            return [(n, start - base, end - base)] if start < end else []
        found = []
        while n < len(texts) and starts[n] < end:
            base, size = starts[n], len(texts[n])
            a, b = max(0, start - base), min(size, end - base)
            if a < b:
                found.append((n, a, b))
            n += 1
        return found

    def _walk(self, root: list[Any]) -> None:
        """Take over all leaves below ``root``, which is none, in order."""
        texts, kinds, holders, keys = self.texts, self._kinds, self._holders, self._keys
        above: list[tuple[Any, bool, Iterator[tuple[Any, Any]]]] = []
        holder: Any = root
        is_dict = False
        key: Any
        items: Iterator[tuple[Any, Any]] = enumerate(holder)
        while True:
            for key, value in items:
                kind = value.__class__
                if is_dict:
                    texts.append(key if key.__class__ is str else str(key))
                    kinds.append(_KEY)
                    holders.append(holder)
                    keys.append(key)
                if kind is str:
                    kinds.append(_NAME if key in _STRUCTURE else _VALUE)
                    texts.append(value)
                elif kind is int or kind is float:
                    kinds.append(_NUMBER)
                    texts.append(repr(value))
                elif kind is dict:
                    above.append((holder, is_dict, items))
                    holder, is_dict, items = value, True, iter(value.items())
                    break
                elif kind is list:
                    if len(value) >= _LONG and self._took(value):
                        continue
                    above.append((holder, is_dict, items))
                    holder, is_dict, items = value, False, enumerate(value)
                    break
                else:
                    continue
                holders.append(holder)
                keys.append(key)
            else:
                if not above:
                    return
                holder, is_dict, items = above.pop()

    def _took(self, values: list[Any]) -> bool:
        """Take over a list of strings alone or of numbers alone; False for any other."""
        classes = set(map(type, values))
        if classes == _STRINGS:
            self.texts += values
            self._kinds += bytes((_VALUE,)) * len(values)
        elif classes <= _NUMBERS:
            self.texts += map(repr, values)
            self._kinds += bytes((_NUMBER,)) * len(values)
        else:
            return False
        self._holders += repeat(values, len(values))
        self._keys += range(len(values))
        return True
