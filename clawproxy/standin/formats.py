"""What the providers answer: OpenAI chat completions and responses, Anthropic messages, as JSON and as events. Pure.

Shapes: the providers' own API documentation; the real SDKs accept them.
Identifiers and figures depend on the request alone, so that runs can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .steering import Steering, parse_steering

type JsonObject = dict[str, Any]

_CREATED_S = 1_767_225_600
_WORDS = ("The", "stand-in", "answers", "with", "a", "short", "text", "that", "means", "nothing.")
_TOOL_ARGUMENTS: JsonObject = {"query": "stand-in"}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as far as an answer depends on it."""

    kind: str
    model: str
    stream: bool
    want_usage: bool
    prompt: str
    tools: tuple[str, ...]
    answered_tool: bool
    seed: str
    input_tokens: int
    steering: Steering
    credential: str = ""

    @property
    def tool(self) -> str:
        """The tool that the answer calls, or nothing."""
        if self.answered_tool:
            return ""
        if self.steering.tool:
            return self.steering.tool
        return self.tools[0] if self.tools and "use-a-tool" in self.steering.words else ""

    @property
    def pieces(self) -> list[str]:
        """The text of the answer in the pieces of a stream."""
        words = [_WORDS[n % len(_WORDS)] for n in range(self.steering.events or len(_WORDS))]
        if "echo-credential" in self.steering.words:
            words.append(self.credential)
        return [word if n == 0 else " " + word for n, word in enumerate(words)]

    @property
    def output_tokens(self) -> int:
        return 8 if self.tool else len(self.pieces)


def read_ask(kind: str, body: JsonObject, raw: bytes, header: str, credential: str) -> Ask:
    """What ``body`` asks for. ``kind`` is ``chat``, ``responses`` or ``messages``; ``header`` is x-standin."""
    turns = body.get("input") if kind == "responses" else body.get("messages")
    prompt, answered = _last_user_text(turns)
    options = body.get("stream_options")
    return Ask(
        kind=kind,
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        want_usage=kind != "chat" or (isinstance(options, dict) and options.get("include_usage") is True),
        prompt=prompt,
        tools=tuple(_tool_names(body.get("tools"))),
        answered_tool=answered,
        seed=hashlib.sha256(raw).hexdigest()[:24],
        input_tokens=max(1, len(raw) // 4),
        steering=parse_steering(f"{prompt} {header}"),
        credential=credential,
    )


def _last_user_text(turns: Any) -> tuple[str, bool]:
    """The text of the last user turn, and whether a tool result came after it."""
    if isinstance(turns, str):
        return turns, False
    answered = False
    for turn in reversed(turns if isinstance(turns, list) else []):
        if not isinstance(turn, dict):
            continue
        if turn.get("role") == "tool" or turn.get("type") == "function_call_output":
            answered = True
        elif turn.get("role") == "user":
            content = turn.get("content")
            parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
            answered = answered or any(part.get("type") == "tool_result" for part in parts)
            text = content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in parts)
            if text.strip():
                return text, answered
    return "", answered


def _tool_names(tools: Any) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            function = tool.get("function")
            name = function.get("name") if isinstance(function, dict) else tool.get("name") or tool.get("type")
            if isinstance(name, str):
                yield name


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _event(data: JsonObject) -> bytes:
    return b"data: " + _dump(data) + b"\n\n"


def _named(data: JsonObject) -> bytes:
    return b"event: " + str(data["type"]).encode() + b"\n" + _event(data)


# -- one answer --------------------------------------------------------------------------------------------------


def json_answer(ask: Ask) -> bytes:
    """The whole answer as one JSON document."""
    return _dump({"chat": _chat, "responses": _responses, "messages": _messages}[ask.kind](ask))


def stream_answer(ask: Ask) -> list[bytes]:
    """The answer as server-sent events; the last one is the provider's terminal event."""
    return list({"chat": _chat_events, "responses": _responses_events, "messages": _messages_events}[ask.kind](ask))


def error_answer(kind: str, status: int, message: str) -> bytes:
    """An error in the provider's shape."""
    if kind == "messages":
        name = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status, "api_error")
        return _dump({"type": "error", "error": {"type": name, "message": message}})
    name = "server_error" if status >= 500 else "invalid_request_error"
    return _dump({"error": {"message": message, "type": name, "param": None, "code": None}})


def models_answer(anthropic: bool) -> bytes:
    """A short list of models."""
    if anthropic:
        name, born = "claude-sonnet-5-5", "2026-01-01T00:00:00Z"
        model = {"type": "model", "id": name, "display_name": "Stand-in", "created_at": born}
        return _dump({"data": [model], "has_more": False, "first_id": name, "last_id": name})
    row = {"id": "gpt-4o-mini", "object": "model", "created": _CREATED_S, "owned_by": "stand-in"}
    return _dump({"object": "list", "data": [row]})


# -- OpenAI chat completions -------------------------------------------------------------------------------------


def _chat_usage(ask: Ask) -> JsonObject:
    total = ask.input_tokens + ask.output_tokens
    return {"prompt_tokens": ask.input_tokens, "completion_tokens": ask.output_tokens, "total_tokens": total}


def _chat(ask: Ask) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": "".join(ask.pieces), "refusal": None}
    if ask.tool:
        function = {"name": ask.tool, "arguments": json.dumps(_TOOL_ARGUMENTS)}
        message |= {
            "content": None,
            "tool_calls": [{"id": f"call_{ask.seed}", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if ask.tool else "stop"}
    return {
        "id": f"chatcmpl-{ask.seed}",
        "object": "chat.completion",
        "created": _CREATED_S,
        "model": ask.model,
        "choices": [choice],
        "usage": _chat_usage(ask),
        "system_fingerprint": "fp_standin",
    }


def _chat_events(ask: Ask) -> Iterator[bytes]:
    base: JsonObject = {
        "id": f"chatcmpl-{ask.seed}",
        "object": "chat.completion.chunk",
        "created": _CREATED_S,
        "model": ask.model,
        "system_fingerprint": "fp_standin",
    }
    if ask.want_usage:
        base["usage"] = None

    def chunk(delta: JsonObject, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(base | {"choices": [choice]})

    if ask.tool:
        call = {
            "index": 0,
            "id": f"call_{ask.seed}",
            "type": "function",
            "function": {"name": ask.tool, "arguments": ""},
        }
        yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
        for piece in _pieces_of(json.dumps(_TOOL_ARGUMENTS)):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in ask.pieces:
            yield chunk({"content": piece})
        yield chunk({}, "stop")
    if ask.want_usage:
        yield _event(base | {"choices": [], "usage": _chat_usage(ask)})
    yield b"data: [DONE]\n\n"


def _pieces_of(text: str) -> list[str]:
    return [text[n : n + 7] for n in range(0, len(text), 7)]


# -- OpenAI responses --------------------------------------------------------------------------------------------


def _response_object(ask: Ask, status: str, output: list[JsonObject]) -> JsonObject:
    usage = None
    if status == "completed":
        usage = {
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": ask.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ask.input_tokens + ask.output_tokens,
        }
    return {
        "id": f"resp_{ask.seed}",
        "object": "response",
        "created_at": _CREATED_S,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }


def _response_item(ask: Ask, *, done: bool) -> JsonObject:
    status = "completed" if done else "in_progress"
    if ask.tool:
        arguments = json.dumps(_TOOL_ARGUMENTS) if done else ""
        ids = {"id": f"fc_{ask.seed}", "call_id": f"call_{ask.seed}"}
        return {"type": "function_call", **ids, "name": ask.tool, "arguments": arguments, "status": status}
    content = [{"type": "output_text", "text": "".join(ask.pieces), "annotations": []}] if done else []
    return {"type": "message", "id": f"msg_{ask.seed}", "role": "assistant", "status": status, "content": content}


def _responses(ask: Ask) -> JsonObject:
    return _response_object(ask, "completed", [_response_item(ask, done=True)])


def _responses_events(ask: Ask) -> Iterator[bytes]:
    for number, event in enumerate(_responses_steps(ask)):
        yield _named(event | {"sequence_number": number})


def _responses_steps(ask: Ask) -> Iterator[JsonObject]:
    open_item, done_item = _response_item(ask, done=False), _response_item(ask, done=True)
    place = {"item_id": open_item["id"], "output_index": 0}
    yield {"type": "response.created", "response": _response_object(ask, "in_progress", [])}
    yield {"type": "response.in_progress", "response": _response_object(ask, "in_progress", [])}
    yield {"type": "response.output_item.added", "output_index": 0, "item": open_item}
    if ask.tool:
        for piece in _pieces_of(done_item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": done_item["arguments"]}
    else:
        part = {"type": "output_text", "text": "", "annotations": []}
        text = "".join(ask.pieces)
        yield {"type": "response.content_part.added", **place, "content_index": 0, "part": part}
        for piece in ask.pieces:
            yield {"type": "response.output_text.delta", **place, "content_index": 0, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **place, "content_index": 0, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "content_index": 0, "part": part | {"text": text}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done_item}
    yield {"type": "response.completed", "response": _responses(ask)}


# -- Anthropic messages ------------------------------------------------------------------------------------------


def _message_object(ask: Ask, content: list[JsonObject], stop: str | None, output_tokens: int) -> JsonObject:
    return {
        "id": f"msg_{ask.seed}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": ask.input_tokens, "output_tokens": output_tokens},
    }


def _stop_reason(ask: Ask) -> str:
    return "tool_use" if ask.tool else "end_turn"


def _messages(ask: Ask) -> JsonObject:
    content: JsonObject = {"type": "text", "text": "".join(ask.pieces)}
    if ask.tool:
        content = {"type": "tool_use", "id": f"toolu_{ask.seed}", "name": ask.tool, "input": _TOOL_ARGUMENTS}
    return _message_object(ask, [content], _stop_reason(ask), ask.output_tokens)


def _messages_events(ask: Ask) -> Iterator[bytes]:
    yield _named({"type": "message_start", "message": _message_object(ask, [], None, 1)})
    block: JsonObject = {"type": "text", "text": ""}
    if ask.tool:
        block = {"type": "tool_use", "id": f"toolu_{ask.seed}", "name": ask.tool, "input": {}}
    yield _named({"type": "content_block_start", "index": 0, "content_block": block})
    yield _named({"type": "ping"})
    if ask.tool:
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in _pieces_of(json.dumps(_TOOL_ARGUMENTS))]
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in ask.pieces]
    for delta in deltas:
        yield _named({"type": "content_block_delta", "index": 0, "delta": delta})
    yield _named({"type": "content_block_stop", "index": 0})
    stop = {"stop_reason": _stop_reason(ask), "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": stop, "usage": {"output_tokens": ask.output_tokens}})
    yield _named({"type": "message_stop"})
