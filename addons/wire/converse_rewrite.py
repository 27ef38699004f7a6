"""Answers of Bedrock's Converse without their calls of tools. Pure.

As for Anthropic's messages: a text block in place of the first call, the blocks of the others are gone, and those
behind them move up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson

from ...tokens.canonical import JsonObject
from .events import AwsEventFraming
from .reader import member, objects
from .refusal_text import RefusalText
from .rewrite import Event, EventRewriter

_CALLING = "tool_use"


class ConverseRewriter(EventRewriter):
    """Of Converse."""

    def _start(self) -> None:
        self._gone: set[int] = set()
        self._silent: set[int] = set()
        self._ids: set[object] = set()
        self._kept = False

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        return [(AwsEventFraming.FAILED, orjson.dumps(self._refusal_body(refusal)))]

    def _note(self, name: str, told: JsonObject) -> None:
        self._kept = self._kept or "toolUse" in member(told, "start")

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        if name == "messageStop":
            return [(name, self._stopped(told))]
        index = told.get("contentBlockIndex")
        if not isinstance(index, int):
            return [(name, told)]
        if name == "contentBlockStart":
            self._silent.discard(index)
            self._gone.discard(index)
            start = member(told, "start")
            if self._goes(start, calls=calls):
                self._silent.add(index)
                if "toolUse" in start and (said := self._take_text()) is not None:
                    at = {"contentBlockIndex": self._place(index)}
                    return [("contentBlockDelta", at | {"delta": {"text": said}}), ("contentBlockStop", at)]
                self._gone.add(index)
        return [] if index in self._silent else [(name, told | {"contentBlockIndex": self._place(index)})]

    def _goes(self, block: JsonObject, *, calls: bool) -> bool:
        """A call, or the result of one that the provider ran."""
        if "toolUse" in block and not calls:
            self._ids.add(str(member(block, "toolUse").get("toolUseId")))
            return True
        return "toolResult" in block and str(member(block, "toolResult").get("toolUseId")) in self._ids

    def _place(self, index: int) -> int:
        return index - sum(gone < index for gone in self._gone)

    def _stopped(self, answer: JsonObject) -> JsonObject:
        if answer.get("stopReason") != _CALLING or self._kept:
            return answer
        return answer | {"stopReason": "end_turn"}

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        self._text, self._said = text, False
        output = member(answer, "output")
        message = member(output, "message")
        content = message.get("content")
        if len(objects(content)) != len(content if isinstance(content, list) else ()):
            return None
        places, left = {key[0] for key in keys if isinstance(key, tuple)}, []
        for n, block in enumerate(objects(content)):
            if not self._goes(block, calls=n not in places):
                left.append(block)
                self._kept = self._kept or "toolUse" in block
            elif "toolUse" in block and (said := self._take_text()) is not None:
                left.append({"text": said})
        answer = answer | {"output": output | {"message": message | {"content": left}}}
        return self._stopped(answer) if self._said else None
