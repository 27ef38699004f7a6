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
_ECHOED_CHARS = 400
# how the contexts begin that clients write as the user, before a prompt or after it
_CLIENTS_OWN = "<"


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer; ``ident`` is the part of its id that is its own, ``written`` its arguments as a model
    writes them. With ``free_text`` the tool takes no JSON; ``namespace`` is where it is declared, if anywhere."""

    name: str
    ident: str
    written: str = _ARGUMENTS_TEXT
    free_text: bool = False
    namespace: str = ""

    @property
    def input(self) -> str:
        """For tools that take free text: what is at ``input``, or all that is written."""
        given = self.arguments.get("input")
        return given if isinstance(given, str) else self.written

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
    result: str
    """Of the tool that was called last, as far as it is text."""
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
        declared = {tool.name: tool for tool in _declared(self.body)}
        calls = []
        for n, (name, written) in enumerate(zip(names, given, strict=True)):
            tool = declared.get(name, _Declared(name))
            ident = self.seed if n == 0 else f"{self.seed[:-1]}_{n}"
            calls.append(Call(name, ident, written or _ARGUMENTS_TEXT, tool.free_text, tool.namespace))
        return calls

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
        if "echo-result" in self.steering.words and self.answered_tool:
            words = self.result[:_ECHOED_CHARS].split()
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
    turns = _TURNS.get(kind, _messages)(body)
    prompt, answered = _last_user_text(turns)
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
        tools=tuple(tool.name for tool in _declared(body)),
        answered_tool=answered,
        result=_last_result(turns) if answered else "",
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
    """The text of the last user turn, and whether a tool result came with it or after it.

    What clients write as the user themselves counts only where there is nothing else.
    """
    if isinstance(turns, str):
        return turns, False
    answered, own = False, ("", False)
    for turn in reversed(list(objects(turns))):
        answered = answered or _is_result(turn)
        if turn.get("role", "user" if "parts" in turn else "") != "user":
            continue
        content = turn.get("content")
        texts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in _parts(turn)]
        said = [text for text in texts if text.strip()]
        if prompt := " ".join(text for text in said if not text.lstrip().startswith(_CLIENTS_OWN)):
            return prompt, answered
        if said and not own[0]:
            own = " ".join(said), answered
    return own if own[0] else ("", answered)


def _last_result(turns: Any) -> str:
    """The text of the last result of a tool, whatever the format wraps around it."""
    for turn in reversed(list(objects(turns))):
        if turn.get("type") in _RESULT_TYPES:
            return " ".join(_texts_in(turn.get("output"), 0))
        if turn.get("role") in ("tool", "function"):
            return " ".join(_texts_in(turn.get("content"), 0))
        for part in reversed(_parts(turn)):
            if part.get("type") == "tool_result":
                return " ".join(_texts_in(part.get("content"), 0))
            for key in _RESULT_KEYS:
                if isinstance(part.get(key), dict):
                    inner = part[key]
                    return " ".join(_texts_in(inner.get("response", inner.get("content")), 0))
    return ""


def _texts_in(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MAX_TOOL_DEPTH:
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        for one in inner:
            yield from _texts_in(one, depth + 1)


# -- tools -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Declared:
    """A tool that a request declares."""

    name: str
    free_text: bool = False
    namespace: str = ""


def _declared(body: JsonObject) -> Iterator[_Declared]:
    yield from _tools_in(body.get("tools"), 0)
    config = body.get("toolConfig")
    if isinstance(config, dict):
        yield from _tools_in(config.get("tools"), 0)
    for item in objects(body.get("input")):
        if item.get("type") == "additional_tools":
            yield from _tools_in(item.get("tools"), 0)


def _tools_in(tools: Any, depth: int, namespace: str = "") -> Iterator[_Declared]:
    """The callable tools of a list: chat, responses (namespaces too), messages, Gemini and Converse shapes."""
    for tool in objects(tools):
        if depth < _MAX_TOOL_DEPTH and tool.get("type") == "namespace":
            yield from _tools_in(tool.get("tools"), depth + 1, str(tool.get("name", "")))
            continue
        declared = tool.get("functionDeclarations", tool.get("function_declarations"))
        if isinstance(declared, list):
            yield from _tools_in(declared, _MAX_TOOL_DEPTH)
            continue
        inner = tool.get("function", tool.get("toolSpec"))
        name = inner.get("name") if isinstance(inner, dict) else tool.get("name") or tool.get("type")
        if isinstance(name, str):
            yield _Declared(name, tool.get("type") == "custom", namespace)
