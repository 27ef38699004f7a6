"""How an answer is changed where it calls a tool that it may not: one small class for each format. Pure.

An event is a pair of name and data, as ``Framing.read`` gives and ``Framing.write`` takes them.

What is written is new JSON (orjson's), not the bytes that came. Limits: an event that cannot be read stays as it is;
readers say ``unread`` to it, and such an answer must not be rewritten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import orjson

from ...tokens.canonical import JsonObject
from .reader import ResponseReader, load_object
from .refusal_text import RefusalText

type Event = tuple[str, bytes]


class AnswerRewriter(Protocol):
    """Rewrites one answer; an instance serves one, and keeps what later events must agree with."""

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        """What ends the stream in place of everything that was to come, ``held`` first: an error in the provider's
        shape, so that its SDKs raise their usual exception. Empty where the format has none."""
        ...

    def keep(self, events: Sequence[Event]) -> None:
        """A block of events with calls of tools leaves as it came. Tell it before any ``replace``; afterwards, such
        events go through ``mend``."""
        ...

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        """``text`` in place of a block of events with all the calls of tools in it; None where this format, or this
        block, has no way to say it. What the block holds beside the calls stays."""
        ...

    def mend(self, event: Event) -> Sequence[Event]:
        """A later event of an answer in which something was replaced: its reason to stop, what it repeats of the whole
        answer, its number. None of it is left where it belonged to what was replaced. Asked for every event after
        ``replace``, calls that may pass included."""
        ...

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        """An answer that is not a stream, with ``text`` in place of the calls ``keys`` (``CalledTool.key``); None
        where this format has no way to say it."""
        ...


class ErrorRewriter:
    """Says errors, and nothing in place of a call: for formats whose answers cannot go on without it."""

    def __init__(self, refusal_body: Callable[[RefusalText], JsonObject], name: str = "") -> None:
        self._refusal_body = refusal_body
        self._error_name = name

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        return [(self._error_name, orjson.dumps(self._refusal_body(refusal)))]

    def keep(self, events: Sequence[Event]) -> None:
        pass

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        return None

    def mend(self, event: Event) -> Sequence[Event]:
        return [event]

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        return None


class EventRewriter(ErrorRewriter, ABC):
    """Rewrites event by event: ``_events`` says what stands for one, with or without the calls in it.

    A reader of its own looks at all that it lets out, so that a call which is still there is seen: then nothing was
    replaced.
    """

    def __init__(
        self,
        refusal_body: Callable[[RefusalText], JsonObject],
        new_reader: Callable[[], ResponseReader],
        name: str = "",
    ) -> None:
        super().__init__(refusal_body, name)
        self._new_reader = new_reader
        self._text = ""
        self._said = False
        self._start()

    def _start(self) -> None:
        """What a format keeps beside that, as it is at first."""

    def keep(self, events: Sequence[Event]) -> None:
        for event in events:
            if (told := load_object(event[1])) is not None:
                self._note(event[0], told)

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        self._text, self._said = text, False
        written = [new for event in events for new in self._rewritten(event, calls=False)]
        reader = self._new_reader()
        for name, data in written:
            reader.on_event(name, data)
        if not self._said or self._left(reader) or reader.more_calls or reader.unread:
            return None
        return written

    def mend(self, event: Event) -> Sequence[Event]:
        return self._rewritten(event, calls=True)

    def _left(self, reader: ResponseReader) -> bool:
        """Whether what was written calls a tool."""
        return bool(reader.take_calls())

    def _rewritten(self, event: Event, *, calls: bool) -> list[Event]:
        name, data = event
        told = load_object(data)
        if told is None:
            return [event]
        if calls:
            self._note(name, told)
        return [(new_name, orjson.dumps(new)) for new_name, new in self._events(name, told, calls=calls)]

    def _take_text(self) -> str | None:
        """The text, the first time that it is asked for."""
        said, self._said = self._said, True
        return None if said else self._text

    def _note(self, name: str, told: JsonObject) -> None:
        """An event that leaves with its calls."""

    @abstractmethod
    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        """What stands for an event; without ``calls``, none of those in it, and the text for the first."""
