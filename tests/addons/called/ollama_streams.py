"""Streams of Ollama's chat that call tools: one JSON document per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .shape import ARGUMENTS, Called, CalledStream, block, pieces


def line(message: dict[str, Any], **more: Any) -> bytes:
    told = {"model": "m-1:latest", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", **message}}
    return json.dumps(told | {"done": False, **more}).encode() + b"\n"


def call(name: str = "read_file", arguments: Any = ARGUMENTS) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], **more: Any) -> bytes:
    return line({"content": "", "tool_calls": list(made)}, **more)


def said(text: str) -> list[bytes]:
    return [line({"content": piece}) for piece in pieces(text)]


LAST = {"done": True, "done_reason": "stop", "prompt_eval_count": 31, "eval_count": 7}


def streams() -> Iterator[CalledStream]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    ls, end = call("bash", {"command": "ls"}), line({"content": ""}, **LAST)
    shapes: list[tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]] = [
        ("one", [[calls(call())], end], (read,), {}),
        ("after_text", [*said('I say "tool_calls"'), [calls(call())], *said("ok"), end], (read,), {}),
        ("parallel", [[calls(call(), ls)], end], (read, bash), {}),
        ("interleaved", [[calls(call())], *said("and"), [calls(ls)], end], (read, bash), {}),
        ("in_the_last_line", [*said("x"), [calls(call(), **LAST)]], (read,), {}),
        ("no_arguments", [[calls({"function": {"name": "look"}})], end], (Called("look", {}),), {}),
        ("reasoning", [line({"content": "", "thinking": "hm"}), [calls(call())], end], (read,), {}),
        ("no_calls", [*said("Only text."), line({"content": "", "tool_calls": []}), end], (), {}),
        ("no_last_line", [*said("x"), [calls(call())]], (read,), {"ended": False}),
    ]
    for name, events, made, more in shapes:
        parts = tuple(block(part) if isinstance(part, list) else part for part in events)
        yield CalledStream(f"ollama_{name}", "ollama_chat", "application/x-ndjson", parts, made, **more)
