"""How an answer is changed where it calls a tool that it may not: one small class for each format. Pure.

An event is a pair of name and data, as ``Framing.read`` gives and ``Framing.write`` takes them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ...tokens.canonical import JsonObject
from .refusal_text import RefusalText

type Event = tuple[str, bytes]


class AnswerRewriter(Protocol):
    """Rewrites one answer; an instance serves one, and keeps what later events must agree with."""

    def error(self, refusal: RefusalText) -> Sequence[Event]:
        """What ends the stream in place of everything that was to come: an error in the provider's shape, so that its
        SDKs raise their usual exception."""
        ...

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        """``text`` in place of a block of events with all the calls of tools in it; None where this format has no way
        to say it. What the block holds beside the calls stays."""
        ...

    def mend(self, event: Event) -> Event:
        """A later event of an answer in which something was replaced: its reason to stop, what it repeats of the whole
        answer, its number. Asked for every event after ``replace``."""
        ...

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject:
        """An answer that is not a stream, with ``text`` in place of the calls ``keys`` (``CalledTool.key``)."""
        ...
