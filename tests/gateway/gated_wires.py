"""Requests with tools in each wire format, raw, and what in the bytes of an answer would tell of a call."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .every_provider import EVERY_CONTRACT
from .sdk_drivers import BEDROCK_CLAUDE, CHAT_MODEL, CLAUDE, GEMINI, LLAMA, ROUTED

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}}
SECRET = b"sesame.opens"
"""Stands in the arguments of each call that must not arrive. With a dot, which no digest or signature has in it."""
GATED: dict[str, Any] = {
    **EVERY_CONTRACT,
    "allowed_tools": ["ticket.read", "note.write"],
    "denied_tools": ["shell.exec"],
    "tool_classes": {"ticket.read": ["ticket_read"], "note.write": ["note_write"], "shell.exec": ["Bash", "exec_*"]},
    "tool_arguments": {
        "ticket.read": {
            "schema": {"type": "object", "properties": {"query": {"type": "string", "pattern": "^stand-in$"}}}
        },
        "note.write": {"when": [{"argument": "path", "like": ["/notes/*"]}]},
    },
}
DENIED = {
    "denied": ('tool:Bash({"command":"sesame.opens"})', "POLICY_TOOL_DENIED", "denied_tools"),
    "undeclared": ('tool:launch_rocket({"to":"sesame.opens"})', "POLICY_TOOL_NOT_ALLOWED", "allowed_tools"),
    "schema": ('tool:ticket_read({"query":"sesame.opens"})', "POLICY_TOOL_ARGUMENTS", "tool_arguments"),
    "when": ('tool:note_write({"path":"/etc/sesame.opens"})', "POLICY_TOOL_ARGUMENTS", "tool_arguments"),
    "parallel": (
        'all-tools tool:ticket_read tool:Bash({"command":"sesame.opens"})',
        "POLICY_TOOL_DENIED",
        "denied_tools",
    ),
}
"""Words for the stand-in, the reason and the field of the rule."""
ALLOWED_ARGUMENTS = {"query": "stand-in"}

type Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """One format. ``marks`` stand in an answer that calls a tool, and in no other; ``stops`` is why a replaced answer
    says that it stopped (nothing where the format does not tell)."""

    name: str
    path: Callable[[bool], str]
    body: Callable[[str, Sequence[str], bool], Body]
    marks: tuple[bytes, ...]
    stops: bytes = b""

    def text(self, body: bytes) -> bytes:
        """With what its frames hold in base64."""
        inner = re.findall(rb'"bytes":"([A-Za-z0-9+/=]+)"', body)
        return body + b"".join(base64.b64decode(each) for each in inner)

    def has_call(self, body: bytes) -> bool:
        text = self.text(body)
        return SECRET in text or any(mark in text for mark in self.marks)


def function(name: str) -> Body:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


def _chat(model: str) -> Callable[[str, Sequence[str], bool], Body]:
    def body(text: str, tools: Sequence[str], stream: bool) -> Body:
        said = [{"role": "user", "content": text}]
        return {"model": model, "messages": said, "stream": stream} | _some("tools", [function(n) for n in tools])

    return body


def _some(key: str, values: list[Any]) -> Body:
    return {key: values} if values else {}


def _responses(text: str, tools: Sequence[str], stream: bool) -> Body:
    declared = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in tools]
    said = [{"role": "user", "content": text}]
    return {"model": CHAT_MODEL, "input": said, "stream": stream, "store": False} | _some("tools", declared)


def _messages(model: Body) -> Callable[[str, Sequence[str], bool], Body]:
    def body(text: str, tools: Sequence[str], stream: bool) -> Body:
        declared = [{"name": name, "input_schema": SCHEMA} for name in tools]
        streamed = {"stream": stream} if "model" in model else {}
        said = [{"role": "user", "content": text}]
        return {**model, "max_tokens": 100, "messages": said, **streamed} | _some("tools", declared)

    return body


def _gemini(text: str, tools: Sequence[str], stream: bool) -> Body:
    declared = [{"functionDeclarations": [{"name": name, "parameters": SCHEMA} for name in tools]}] if tools else []
    return {"contents": [{"role": "user", "parts": [{"text": text + " unsigned"}]}]} | _some("tools", declared)


def _converse(text: str, tools: Sequence[str], stream: bool) -> Body:
    declared = [{"toolSpec": {"name": name, "inputSchema": {"json": SCHEMA}}} for name in tools]
    body: Body = {"messages": [{"role": "user", "content": [{"text": text}]}]}
    return body | ({"toolConfig": {"tools": declared}} if tools else {})


_CHAT_MARKS = (b"tool_calls", b"function_call", b':"ticket_read"')
_MESSAGE_MARKS = (b"tool_use", b"input_json", b':"ticket_read"')
WIRES: Mapping[str, Wire] = {
    wire.name: wire
    for wire in (
        Wire("chat", lambda _: "/openai/v1/chat/completions", _chat(CHAT_MODEL), _CHAT_MARKS, b'"stop"'),
        Wire("openrouter", lambda _: "/openrouter/api/v1/chat/completions", _chat(ROUTED), _CHAT_MARKS, b'"stop"'),
        Wire("responses", lambda _: "/openai/v1/responses", _responses, (b"function_call", b':"ticket_read"')),
        Wire("messages", lambda _: "/anthropic/v1/messages", _messages({"model": CLAUDE}), _MESSAGE_MARKS, b"end_turn"),
        Wire(
            "gemini",
            lambda s: f"/google/v1beta/models/{GEMINI}:{'streamGenerateContent?alt=sse' if s else 'generateContent'}",
            _gemini,
            (b"functionCall", b':"ticket_read"'),
            b'"STOP"',
        ),
        Wire("ollama", lambda _: "/ollama/api/chat", _chat(LLAMA), _CHAT_MARKS, b'"stop"'),
        Wire(
            "converse",
            lambda s: f"/bedrock/model/{BEDROCK_CLAUDE}/converse{'-stream' if s else ''}",
            _converse,
            (b"toolUse", b"tool_use", b':"ticket_read"'),
            b"end_turn",
        ),
        Wire(
            "invoke",
            lambda s: f"/bedrock/model/{BEDROCK_CLAUDE}/invoke{'-with-response-stream' if s else ''}",
            _messages({"anthropic_version": "bedrock-2023-05-31"}),
            _MESSAGE_MARKS,
            b"end_turn",
        ),
    )
}


def written(body: Body) -> bytes:
    return json.dumps(body).encode()
