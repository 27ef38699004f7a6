"""Answers that are not streams, each with the call ``read`` of the arguments ``ARGS``."""

from __future__ import annotations

from typing import Any


def message(text: str = "x") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


ARGS = {"path": "a"}
TEXT = '{"path": "a"}'
FUNCTION = {"type": "function_call", "id": "f", "call_id": "c", "name": "read", "arguments": TEXT}
TOOL_USE = {"type": "tool_use", "name": "read", "input": ARGS}
CONVERSE: dict[str, Any] = {"toolUse": {"toolUseId": "t", "name": "read", "input": ARGS}}
WHOLE: dict[str, dict[str, Any]] = {
    "anthropic_messages": {"content": [{"type": "text", "text": ""}, TOOL_USE]},
    "bedrock_anthropic": {"content": [TOOL_USE]},
    "openai_chat": {"choices": [{"message": {"tool_calls": [{"function": {"name": "read", "arguments": TEXT}}]}}]},
    "openrouter_chat": {"choices": [{"message": {"function_call": {"name": "read", "arguments": TEXT}}}]},
    "openai_responses": {"output": [message(), FUNCTION]},
    "openrouter_responses": {"output": [FUNCTION]},
    "gemini": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "read", "args": ARGS}}]}}]},
    "bedrock_converse": {"output": {"message": {"content": [{"text": "x"}, CONVERSE]}}},
    "ollama_chat": {"message": {"tool_calls": [{"function": {"name": "read", "arguments": ARGS}}]}},
}
