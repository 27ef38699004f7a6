"""Answers of OpenAI's responses API without their calls of tools. Pure.

A message takes the place of the first call that is replaced; the items of the others are gone, those behind them move
up, events are numbered anew, and the whole response at the end says the same. A whole response that repeats a call
which was kept with another name or other arguments cannot be rewritten, since nobody can say which of the two is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from ...tokens.canonical import JsonObject
from .called import CalledTool
from .called_items import given_to, is_same, name_called
from .reader import ResponseReader, load_object, member, objects, text
from .refusal_text import RefusalText
from .rewrite import ErrorRewriter, Event, EventRewriter


class ResponsesRewriter(EventRewriter):
    """Of the responses API."""

    def _start(self) -> None:
        self._gone: dict[object, JsonObject | None] = {}  # by place: the message that stands there, or nothing
        self._gone_idents: dict[str, JsonObject | None] = {}
        self._gone_calls: list[CalledTool] = []
        self._kept: list[CalledTool] = []
        self._kept_idents: set[str] = set()
        self._number: int | None = None  # of the next event, once they are counted anew
        self._unclear = False

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        """Two events, as the provider sends them: SDKs raise at the first, other clients read the second alone."""
        return errors_of(self._refusal_body(refusal), refusal, self._next_number(held))

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        written = super().replace(events, text)
        return None if self._unclear else written

    def _next_number(self, held: Sequence[Event]) -> int:
        if self._number is not None:
            return self._number
        number = (load_object(held[0][1]) or {}).get("sequence_number") if held else None
        return number if isinstance(number, int) else 0

    def _left(self, reader: ResponseReader) -> bool:
        kept = [(call.name, call.text) for call in self._kept]
        return any((call.name, call.text) not in kept for call in reader.take_calls())

    def _note(self, name: str, told: JsonObject) -> None:
        for item in (member(told, "item"), *objects(member(told, "response").get("output"))):
            called = name_called(item)
            if called is None or text(told.get("type")).endswith(".added") or self._is_gone(called, item):
                continue
            self._kept.append(_call_of(called, item))
            self._kept_idents.add(_ident(item))

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        written = self._changed(name, told, calls=calls)
        if self._number is None and isinstance(number := told.get("sequence_number"), int):
            self._number = number
        for n, (_, event) in enumerate(written):
            if self._number is not None:
                event["sequence_number"] = self._number + n
        if self._number is not None:
            self._number += len(written)
        return written

    def _changed(self, name: str, told: JsonObject, *, calls: bool) -> list[tuple[str, JsonObject]]:
        if response := member(told, "response"):
            return [(name, told | {"response": self._response(response, calls=calls)})]
        item, index = member(told, "item"), told.get("output_index")
        place = index if isinstance(index, int) else text(told.get("item_id")) or text(item.get("id"))
        called = name_called(item)
        if called is not None and not calls:
            self._gone_calls.append(_call_of(called, item))
        if called is not None and not calls and place not in self._gone:
            said = self._take_text()
            shown = None if said is None else _message(item, said)
            self._gone[place] = self._gone_idents[_ident(item)] = shown
            if shown is not None:
                return [(event["type"] if name else "", event) for event in _as_events(shown, self._place(place))]
        if place != "" and place in self._gone:
            return []
        return [(name, told | {"output_index": self._place(place)} if isinstance(place, int) else told)]

    def _place(self, place: object) -> object:
        if not isinstance(place, int):
            return 0
        return place - sum(isinstance(gone, int) and gone < place and not shown for gone, shown in self._gone.items())

    def _response(self, response: JsonObject, *, calls: bool) -> JsonObject:
        output = response.get("output")
        if not isinstance(output, list):
            return response
        left: list[Any] = []
        for n, item in enumerate(output):
            shown = self._item(n, item, calls=calls) if isinstance(item, dict) else item
            if shown is not None:
                left.append(shown)
        return response | {"output": left}

    def _is_gone(self, called: str, item: JsonObject) -> bool:
        """Whether an item repeats a call that was replaced: a reader does not tell it again."""
        return any(call.name == called and is_same(call, given_to(item)) for call in self._gone_calls)

    def _item(self, place: int, item: JsonObject, *, calls: bool) -> JsonObject | None:
        """What stands for an item of a whole response."""
        called, ident = name_called(item), _ident(item)
        if called is None:
            return item
        if ident in self._gone_idents:
            return self._gone_idents[ident]
        if ident in self._kept_idents and any(
            call.name == called and is_same(call, given_to(item)) for call in self._kept
        ):
            return item
        if self._is_gone(called, item):
            return self._gone.get(place)  # under another id
        if calls or ident in self._kept_idents:
            self._unclear = self._unclear or not calls
            return item
        said = self._take_text()
        self._gone_calls.append(_call_of(called, item))
        self._gone_idents[ident] = shown = None if said is None else _message(item, said)
        return shown

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        self._text, self._said = text, False
        output = answer.get("output")
        places, left = {key[0] for key in keys if isinstance(key, tuple)}, []
        for n, item in enumerate(output if isinstance(output, list) else []):
            if n not in places:
                left.append(item)
            elif (said := self._take_text()) is not None:
                left.append(_message(item, said))
        return answer | {"output": left} if self._said else None


class RealtimeRewriter(ErrorRewriter):
    """Of the realtime API: only errors, since the conversation is the provider's, which goes on from what it said."""

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        error = member(self._refusal_body(refusal), "error")
        return [("", orjson.dumps({"type": "error", "event_id": refusal.receipt_id, "error": error}))]


def errors_of(body: JsonObject, refusal: RefusalText, number: int) -> list[Event]:
    """``error`` and ``response.failed``."""
    error = member(body, "error")
    told = {key: error.get(key) for key in ("code", "message", "param")}
    failed = {
        "id": refusal.receipt_id,
        "object": "response",
        "status": "failed",
        "error": {"code": error.get("code"), "message": error.get("message")},
        "output": [],
    }
    events: list[JsonObject] = [
        {"type": "error", **told, "sequence_number": number, "error": error},
        {"type": "response.failed", "sequence_number": number + 1, "response": failed},
    ]
    return [(event["type"], orjson.dumps(event)) for event in events]


def _call_of(called: str, item: JsonObject) -> CalledTool:
    call = CalledTool(None, called)
    call.give(given_to(item))
    return call


def _ident(item: JsonObject) -> str:
    return text(item.get("call_id")) or text(item.get("id"))


def _message(item: JsonObject, said: str) -> JsonObject:
    part = {"type": "output_text", "text": said, "annotations": []}
    ident = f"msg_{text(item.get('id')) or text(item.get('call_id'))}"
    return {"id": ident, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _as_events(shown: JsonObject, place: object) -> list[JsonObject]:
    """A message as the events that tell it."""
    (part,) = shown["content"]
    at = {"item_id": shown["id"], "output_index": place, "content_index": 0}
    begun = shown | {"status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": place, "item": begun},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **at, "delta": part["text"], "logprobs": []},
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": place, "item": shown},
    ]
