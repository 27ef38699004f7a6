"""A request as far as an answer depends on it, read the same way in every format. Pure.

Limits: reads generously, since judging requests is the gateway's work; whatever cannot be read is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..steering import Steering, parse_steering
from .encode import JsonObject, objects

_WORDS = ("The", "stand-in", "answers", "with", "a", "short", "text", "that", "means", "nothing.")
TOOL_ARGUMENTS: JsonObject = {"query": "stand-in"}
_ARGUMENTS_TEXT = json.dumps(TOOL_ARGUMENTS)
SIGNATURE = "c3RhbmQtaW4="
THOUGHT = "The stand-in thinks."
_RESULT_TYPES = ("function_call_output", "custom_tool_call_output")
_RESULT_KEYS = ("toolResult", "functionResponse", "function_response")
_MAX_TOOL_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer; ``ident`` is the part of its id that is its own, ``written`` its arguments as a model
    writes them."""

    name: str
    ident: str
    written: str = _ARGUMENTS_TEXT

    @property
    def arguments(self) -> JsonObject:
        """For formats that have no text of them; nothing where ``written`` is no JSON object."""
        try:
            value = json.loads(self.written)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as far as an answer depends on it."""

    kind: str
    provider: str
    model: str
    stream: bool
    want_usage: bool
    prompt: str
    tools: tuple[str, ...]
    answered_tool: bool
    seed: str
    input_tokens: int
    steering: Steering
    body: JsonObject
    credential: str = ""

    @property
    def tool(self) -> str:
        """The first tool that the answer calls, or nothing."""
        return self.calls[0].name if self.calls else ""

    @property
    def calls(self) -> list[Call]:
        """The tool calls of the answer."""
        if self.answered_tool:
            return []
        words = self.steering.words
        two, every = "two-tools" in words, "all-tools" in words
        number = 16 if every else 2 if two else 1
        names, given = list(self.steering.tools[-number:]), list(self.steering.arguments[-number:])
        if not names and self.tools and (two or "use-a-tool" in words):
            names = [self.tools[0]]
        if two and len(names) == 1:
            names.append(next((name for name in self.tools if name != names[0]), names[0]))
        given += [""] * (len(names) - len(given))
        return [
            Call(name, self.seed if n == 0 else f"{self.seed[:-1]}_{n}", written or _ARGUMENTS_TEXT)
            for n, (name, written) in enumerate(zip(names, given, strict=True))
        ]

    @property
    def speaks(self) -> bool:
        """Whether the answer has text."""
        return not self.calls or "text-first" in self.steering.words

    @property
    def thinks(self) -> bool:
        """Whether the answer has a thought with a signature."""
        return "signed-thought" in self.steering.words

    @property
    def pieces(self) -> list[str]:
        """The text of the answer in the pieces of a stream."""
        words = [_WORDS[n % len(_WORDS)] for n in range(self.steering.events or len(_WORDS))]
        if "echo-credential" in self.steering.words:
            words.append(self.credential)
        if "echo-basic" in self.steering.words:
            words.append(base64.b64encode(f"x:{self.credential}".encode()).decode())
        return [word if n == 0 else " " + word for n, word in enumerate(words)]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def named_model(self) -> str:
        """The model that the answer names."""
        return self.steering.model or self.model

    @property
    def output_tokens(self) -> int:
        """Output without the reasoning."""
        return 8 * len(self.calls) + (len(self.pieces) if self.speaks else 0)

    @property
    def all_input_tokens(self) -> int:
        return self.input_tokens + self.steering.cached

    @property
    def all_output_tokens(self) -> int:
        return self.output_tokens + self.steering.reasoning

    @property
    def total_tokens(self) -> int:
        return self.all_input_tokens + self.all_output_tokens


def read_ask(
    kind: str,
    body: JsonObject,
    raw: bytes,
    header: str,
    credential: str,
    *,
    provider: str = "",
    model: str = "",
    stream: bool | None = None,
) -> Ask:
    """What ``body`` asks for. ``header`` is x-standin; ``model`` and ``stream`` are what the path said, if it did."""
    prompt, answered = _last_user_text(_TURNS.get(kind, _messages)(body))
    options = body.get("stream_options")
    if stream is None:
        asked = body.get("stream")
        stream = asked is not False if kind in _STREAMS_UNLESS_TOLD else asked is True
    wants = kind != "chat" or (isinstance(options, dict) and options.get("include_usage") is True)
    steering = parse_steering(f"{prompt} {header}")
    return Ask(
        kind=kind,
        provider=provider,
        model=model or str(body.get("model", "")),
        stream=stream,
        want_usage=wants and "no-usage" not in steering.words,
        prompt=prompt,
        tools=tuple(_tool_names(body)),
        answered_tool=answered,
        seed=hashlib.sha256(raw).hexdigest()[:24],
        input_tokens=max(1, len(raw) // 4),
        steering=steering,
        body=body,
        credential=credential,
    )


# -- turns -------------------------------------------------------------------------------------------------------

_STREAMS_UNLESS_TOLD = ("ollama-chat", "ollama-generate")


def _messages(body: JsonObject) -> Any:
    return body.get("messages")


def _realtime_turns(body: JsonObject) -> Any:
    """``response.create`` as the socket's reader puts it together: the items of the conversation, then its own."""
    turns = list(objects(body.get("items")))
    response = body.get("response")
    if isinstance(response, dict):
        turns += objects(response.get("input"))
        if isinstance(response.get("instructions"), str):
            turns.append({"role": "user", "content": response["instructions"]})
    return turns


_TURNS: dict[str, Callable[[JsonObject], Any]] = {
    "responses": lambda body: body.get("input"),
    "embeddings": lambda body: _joined(body.get("input")),
    "ollama-embed": lambda body: _joined(body.get("input")),
    "gemini": lambda body: body.get("contents"),
    "gemini-array": lambda body: body.get("contents"),
    "gemini-count": lambda body: body.get("contents"),
    "fal-router": lambda body: body.get("prompt"),
    "ollama-generate": lambda body: body.get("prompt"),
    "realtime": _realtime_turns,
}


def _joined(value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    return " ".join(part for part in parts if isinstance(part, str))


def _parts(turn: JsonObject) -> list[JsonObject]:
    return list(objects(turn.get("content"))) + list(objects(turn.get("parts")))


def _is_result(turn: JsonObject) -> bool:
    if turn.get("role") in ("tool", "function") or turn.get("type") in _RESULT_TYPES:
        return True
    return any(part.get("type") == "tool_result" or not part.keys().isdisjoint(_RESULT_KEYS) for part in _parts(turn))


def _last_user_text(turns: Any) -> tuple[str, bool]:
    """The text of the last user turn, and whether a tool result came with it or after it."""
    if isinstance(turns, str):
        return turns, False
    answered = False
    for turn in reversed(list(objects(turns))):
        answered = answered or _is_result(turn)
        if turn.get("role", "user" if "parts" in turn else "") != "user":
            continue
        content = turn.get("content")
        text = content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in _parts(turn))
        if text.strip():
            return text, answered
    return "", answered


# -- tools -------------------------------------------------------------------------------------------------------


def _tool_names(body: JsonObject) -> Iterator[str]:
    yield from _names_in(body.get("tools"), 0)
    config = body.get("toolConfig")
    if isinstance(config, dict):
        yield from _names_in(config.get("tools"), 0)
    for item in objects(body.get("input")):
        if item.get("type") == "additional_tools":
            yield from _names_in(item.get("tools"), 0)


def _names_in(tools: Any, depth: int) -> Iterator[str]:
    """The callable tools of a list: chat, responses (namespaces too), messages, Gemini and Converse shapes."""
    for tool in objects(tools):
        if depth < _MAX_TOOL_DEPTH and tool.get("type") == "namespace":
            yield from _names_in(tool.get("tools"), depth + 1)
            continue
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        if isinstance(declared, list):
            yield from _names_in(declared, _MAX_TOOL_DEPTH)
            continue
        inner = tool.get("function", tool.get("toolSpec"))
        name = inner.get("name") if isinstance(inner, dict) else tool.get("name") or tool.get("type")
        if isinstance(name, str):
            yield name
