"""Answers of OpenAI's chat completions, and of Ollama's chat, without their calls of tools. Pure.

The text becomes content of each choice whose calls were replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...tokens.canonical import JsonObject
from .reader import member, objects, text
from .rewrite import EventRewriter

_CALLING = frozenset({"tool_calls", "function_call"})
"""Reasons to stop that say that calls were made, and the members that hold them."""


class ChatRewriter(EventRewriter):
    """Of chat completions."""

    def _start(self) -> None:
        self._replaced: set[int] = set()  # choices
        self._kept: set[int] = set()

    def _note(self, name: str, told: JsonObject) -> None:
        for place, choice in enumerate(objects(told.get("choices"))):
            if any(choice_said.get(key) for choice_said in _sayings(choice) for key in _CALLING):
                self._kept.add(_index(choice, place))

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        if not isinstance(told.get("choices"), list):
            return [(name, told)]
        given = objects(told["choices"])
        choices = [self._choice(choice, _index(choice, place), calls=calls) for place, choice in enumerate(given)]
        if not calls and given and not told.get("usage") and choices != given and not any(map(_says, choices)):
            return []
        return [(name, told | {"choices": choices})]

    def _choice(self, choice: JsonObject, index: int, *, calls: bool) -> JsonObject:
        if not calls:
            for key in ("delta", "message"):
                said = choice.get(key)
                if isinstance(said, dict) and any(calling in said for calling in _CALLING):
                    choice = choice | {key: self._without(said, index)}
        return self._stopped(choice, index)

    def _without(self, said: JsonObject, index: int) -> JsonObject:
        called = any(said.get(key) for key in _CALLING)
        left = {key: value for key, value in said.items() if key not in _CALLING}
        if called and index not in self._replaced:
            self._replaced.add(index)
            self._said = True
            left["content"] = text(left.get("content")) + self._text
        return left

    def _stopped(self, choice: JsonObject, index: int) -> JsonObject:
        if text(choice.get("finish_reason")) in _CALLING and index in self._replaced and index not in self._kept:
            return choice | {"finish_reason": "stop"}
        return choice

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        self._text, self._said = text, False
        gone = {key[:2] for key in keys if isinstance(key, tuple)}
        choices = []
        for n, choice in enumerate(objects(answer.get("choices"))):
            message = member(choice, "message")
            calls = objects(message.get("tool_calls"))
            left = [call for m, call in enumerate(calls) if (n, m) not in gone]
            older = message.get("function_call") if (n, -1) not in gone else None
            if len(left) < len(calls) or older != message.get("function_call"):
                if left or older:
                    self._kept.add(n)
                message = self._without(message, n)
                message |= {"tool_calls": left} if left else {}
                message |= {"function_call": older} if older else {}
                choice = self._stopped(choice | {"message": message}, n)
            choices.append(choice)
        return answer | {"choices": choices} if self._said else None


class OllamaRewriter(EventRewriter):
    """Of Ollama, whose reason to stop does not tell of calls."""

    def _events(self, name: str, told: JsonObject, *, calls: bool) -> Sequence[tuple[str, JsonObject]]:
        message = told.get("message")
        if calls or not isinstance(message, dict) or "tool_calls" not in message:
            return [(name, told)]
        return [(name, told | {"message": self._without(message, [])})]

    def _without(self, message: JsonObject, left: list[JsonObject]) -> JsonObject:
        new = {key: value for key, value in message.items() if key != "tool_calls"}
        new |= {"tool_calls": left} if left else {}
        if message.get("tool_calls") and (said := self._take_text()) is not None:
            new["content"] = text(new.get("content")) + said
        return new

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject | None:
        self._text, self._said = text, False
        message = member(answer, "message")
        left = [call for n, call in enumerate(objects(message.get("tool_calls"))) if n not in keys]
        return answer | {"message": self._without(message, left)} if keys else None


def _sayings(choice: JsonObject) -> list[JsonObject]:
    return [member(choice, "delta"), member(choice, "message")]


def _index(choice: JsonObject, place: int) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else place


def _says(choice: JsonObject) -> bool:
    return bool(choice.get("finish_reason")) or any(_sayings(choice))
