"""Answers of Anthropic's messages API without their calls of tools. Pure.

A text block takes the place of the first call that is replaced; the blocks of the others are gone, and so are the
results of those that the provider ran. Blocks behind them move up.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence

import orjson

from ...tokens.canonical import JsonObject
from .events import AwsEventFraming
from .reader import load_object, member, objects, text
from .refusal_text import RefusalText
from .rewrite import Event, EventRewriter

_CHUNK = "chunk"


class AnthropicRewriter(EventRewriter):
    """Of the API itself."""

    def _start(self) -> None:
        self._gone: set[int] = set()  # blocks of which nothing is left, by the index that the provider gave them
        self._silent: set[int] = set()  # blocks whose events do not leave
        self._ids: set[str] = set()
        self._kept = False

    def _note(self, name: str, told: JsonObject) -> None:
        blocks = [member(told, "content_block"), *objects(member(told, "message").get("content"))]
        self._kept = self._kept or any(block.get("type") == "tool_use" for block in blocks)

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        kind, index = text(told.get("type")), told.get("index")
        if kind == "message_start" and not calls:
            message = member(told, "message")
            return [(name, told | {"message": message | {"content": self._blocks(message.get("content"))}})]
        if kind == "message_delta":
            return [(name, told | {"delta": self._stopped(member(told, "delta"))})]
        if not isinstance(index, int):
            return [(name, told)]
        if kind == "content_block_start":
            block = member(told, "content_block")
            self._silent.discard(index)
            self._gone.discard(index)
            if self._goes(block, calls=calls):
                self._silent.add(index)
                if _is_call(block) and (said := self._take_text()) is not None:
                    return _text_block(self._place(index), said)
                self._gone.add(index)
        return [] if index in self._silent else [(name, told | {"index": self._place(index)})]

    def _goes(self, block: JsonObject, *, calls: bool) -> bool:
        if _is_call(block) and not calls:
            self._ids.add(text(block.get("id")))
            return True
        return text(block.get("tool_use_id")) in self._ids

    def _place(self, index: int) -> int:
        return index - sum(gone < index for gone in self._gone)

    def _stopped(self, answer: JsonObject) -> JsonObject:
        if answer.get("stop_reason") != "tool_use" or self._kept:
            return answer
        return answer | {"stop_reason": "end_turn"}

    def _blocks(self, content: object, places: Collection[int] | None = None) -> list[JsonObject]:
        """``content`` without its calls, or without those at ``places``."""
        left = []
        for n, block in enumerate(objects(content)):
            if not self._goes(block, calls=places is not None and n not in places):
                left.append(block)
                self._kept = self._kept or block.get("type") == "tool_use"
            elif _is_call(block) and (said := self._take_text()) is not None:
                left.append({"type": "text", "text": said})
        return left

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        self._text, self._said = text, False
        content = answer.get("content")
        if len(objects(content)) != len(content if isinstance(content, list) else ()):
            return None
        blocks = self._blocks(content, {key[0] for key in keys if isinstance(key, tuple)})
        return self._stopped(answer | {"content": blocks}) if self._said else None


class WrappedRewriter(AnthropicRewriter):
    """Of Bedrock, which sends each event in base64."""

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        return [(AwsEventFraming.FAILED, orjson.dumps(self._refusal_body(refusal)))]

    def keep(self, events: Sequence[Event]) -> None:
        super().keep([_unwrapped(event) for event in events])

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        written = super().replace([_unwrapped(event) for event in events], text)
        return None if written is None else [_wrapped(event) for event in written]

    def mend(self, event: Event) -> Sequence[Event]:
        return [_wrapped(new) for new in super().mend(_unwrapped(event))]


def _is_call(block: JsonObject) -> bool:
    return text(block.get("type")).endswith("tool_use")


def _text_block(index: int, said: str) -> list[tuple[str, JsonObject]]:
    events: list[JsonObject] = [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": said}},
        {"type": "content_block_stop", "index": index},
    ]
    return [(event["type"], event) for event in events]


def _unwrapped(event: Event) -> Event:
    held = load_object(event[1]) if event[0] == _CHUNK else None
    try:
        inner = base64.b64decode(text(held.get("bytes")) if held else "", validate=True)
    except (binascii.Error, ValueError):
        inner = b""
    return ("", inner) if inner else event


def _wrapped(event: Event) -> Event:
    name, data = event
    if name == _CHUNK or load_object(data) is None or "type" not in (load_object(data) or {}):
        return event
    return _CHUNK, orjson.dumps({"bytes": base64.b64encode(data).decode()})
