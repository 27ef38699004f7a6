"""The strings of a document, one after the other, each with the place that it stands at. Pure.

Keys count as strings, and so do numbers, since a card number needs no quotes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
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


class Leaves(Sequence[Leaf]):
    """The leaves of a document in order, and ``text``: all of them, each on a line, a value behind its key."""

    def __init__(self, document: Any) -> None:
        self._leaves: list[Leaf] = []
        root = [document]
        _walk(root, self._leaves)
        parts = [f"{leaf.text}: " if leaf.is_key else f"{leaf.text}\n" for leaf in self._leaves]
        self.text = "".join(parts)
        self.starts = list(accumulate(map(len, parts), initial=0))[:-1]
        """Where each leaf begins in ``text``."""

    def __len__(self) -> int:
        return len(self._leaves)

    def __getitem__(self, at: Any) -> Any:
        return self._leaves[at]

    def __iter__(self) -> Iterator[Leaf]:
        return iter(self._leaves)

    def joining(self) -> list[tuple[int, str]]:
        """The values of which ``Leaf.joins`` is true and that are not empty, with their places."""
        return [
            (n, text)
            for n, (holder, key, text, is_key) in enumerate(self._leaves)
            if text and not is_key and key not in _STRUCTURE and holder[key].__class__ is str
        ]

    def at(self, offset: int) -> int:
        """The leaf that stands at an offset into ``text``."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def pieces(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """A span of ``text`` as (leaf, start, end) inside of each leaf that it covers."""
        found = []
        n = self.at(start)
        while n < len(self._leaves) and self.starts[n] < end:
            base, size = self.starts[n], len(self._leaves[n].text)
            a, b = max(0, start - base), min(size, end - base)
            if a < b:
                found.append((n, a, b))
            n += 1
        return found


def _walk(holder: Any, out: list[Leaf]) -> None:
    is_dict = holder.__class__ is dict
    for key, value in holder.items() if is_dict else enumerate(holder):
        if is_dict:
            out.append(Leaf(holder, key, str(key), True))
        kind = value.__class__
        if kind is str:
            out.append(Leaf(holder, key, value))
        elif kind is dict or kind is list:
            _walk(value, out)
        elif kind is int or kind is float:
            out.append(Leaf(holder, key, repr(value)))
