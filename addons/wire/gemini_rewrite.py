"""Answers of Gemini without their calls of tools. Pure.

The text becomes a part in place of the first call of a candidate. What the provider's tools gave for calls that were
replaced is gone as well: results of code, and what was found by searching.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson

from ...tokens.canonical import JsonObject
from .reader import member, objects
from .refusal_text import RefusalText
from .rewrite import Event, EventRewriter

CALLING_PARTS = ("functionCall", "toolCall", "executableCode")
_RESULTS = {"executableCode": "codeExecutionResult", "toolCall": "toolResponse"}
_LOOKUPS = ("groundingMetadata", "urlContextMetadata")


class GeminiRewriter(EventRewriter):
    """Of ``generateContent`` and its streams."""

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        """The error, which Google's Python SDK raises, and beside it a last candidate that says the same: its
        JavaScript SDK does not look for errors in events, and gemini-cli asks again for an answer without an end."""
        said = {"role": "model", "parts": [{"text": f"[{refusal.message}]"}]}
        candidate = {"index": 0, "content": said, "finishReason": "OTHER"}
        return [(self._error_name, orjson.dumps({**self._refusal_body(refusal), "candidates": [candidate]}))]

    def _start(self) -> None:
        self._replaced: set[int] = set()  # candidates
        self._orphans: set[tuple[int, str]] = set()  # parts that belong to what was replaced

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        if not isinstance(told.get("candidates"), list):
            return [(name, told)]
        if not calls:
            self._replaced.clear()
        candidates = [
            self._candidate(candidate, _index(candidate, place), calls=calls)
            for place, candidate in enumerate(objects(told["candidates"]))
        ]
        return [(name, told | {"candidates": candidates})]

    def _candidate(self, candidate: JsonObject, index: int, *, calls: bool) -> JsonObject:
        content = member(candidate, "content")
        parts = objects(content.get("parts"))
        left = [new for part in parts for new in self._part(part, index, calls=calls)]
        new = candidate if left == parts else candidate | {"content": content | {"parts": left or [{"text": ""}]}}
        looked_up = [key for key in _LOOKUPS if candidate.get(key)]
        if calls:
            return {key: value for key, value in new.items() if (index, key) not in self._orphans}
        if looked_up:
            self._orphans.update((index, key) for key in looked_up)
            new = {key: value for key, value in new.items() if key not in looked_up}
            if (said := self._text_of(index)) is not None:
                held = member(new, "content")
                new = new | {"content": {"role": "model"} | held | {"parts": [*objects(held.get("parts")), said]}}
        return new

    def _part(self, part: JsonObject, index: int, *, calls: bool) -> list[JsonObject]:
        if any((index, key) in self._orphans for key in part):
            return []
        called = [key for key in CALLING_PARTS if key in part]
        if calls or not called:
            return [part]
        self._orphans.update((index, _RESULTS[key]) for key in called if key in _RESULTS)
        said = self._text_of(index)
        return [] if said is None else [said]

    def _text_of(self, index: int) -> JsonObject | None:
        """The text as a part, once for each candidate."""
        if index in self._replaced:
            return None
        self._replaced.add(index)
        self._said = True
        return {"text": self._text}

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        """All calls or none: those of one part cannot be told apart by their numbers where others stay."""
        self._text, self._said = text, False
        ((_, new),) = self._events("", answer, calls=False)
        reader = self._new_reader()
        reader._read_answer(answer)
        if {call.key for call in reader.take_calls()} != set(keys) or not self._said:
            return None
        return new


def _index(candidate: JsonObject, place: int) -> int:
    index = candidate.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else place
