"""Bedrock invoke (Anthropic bodies) and converse, as JSON and as event streams. Pure.

Limits: invoke speaks the Anthropic shape for every model; the order in which real models need other bodies is not kept.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from . import anthropic_messages
from .ask import SIGNATURE, THOUGHT, Ask
from .encode import JsonObject, dump, pieces_of
from .event_stream import event


def invoke_events(ask: Ask) -> Iterator[bytes]:
    """The events of an Anthropic message, each in a ``chunk`` frame; the last one has the invocation's metrics."""
    for step in anthropic_messages.steps(ask):
        if step["type"] == "message_stop" and "no-usage" not in ask.steering.words:
            figures = {"inputTokenCount": ask.input_tokens, "outputTokenCount": ask.all_output_tokens}
            if ask.steering.cached:
                figures["cacheReadInputTokenCount"] = ask.steering.cached
            step |= {"amazon-bedrock-invocationMetrics": figures | {"invocationLatency": 7, "firstByteLatency": 3}}
        inner = dump(step)
        yield event("chunk", dump({"bytes": base64.b64encode(inner).decode(), "p": "abcdefgh"[: 1 + len(inner) % 8]}))


def _usage(ask: Ask) -> JsonObject:
    if "no-usage" in ask.steering.words:
        return {}
    figures = {"inputTokens": ask.input_tokens, "outputTokens": ask.all_output_tokens, "totalTokens": ask.total_tokens}
    if ask.steering.cached:
        figures["cacheReadInputTokens"] = ask.steering.cached
    return {"usage": figures}


def _stop_reason(ask: Ask) -> str:
    return "tool_use" if ask.calls else "end_turn"


def converse(ask: Ask) -> JsonObject:
    """The whole answer of converse."""
    content: list[JsonObject] = []
    if ask.thinks:
        content.append({"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": SIGNATURE}}})
    if ask.speaks:
        content.append({"text": ask.text})
    content += [
        {"toolUse": {"toolUseId": f"tooluse_{call.ident}", "name": call.name, "input": call.arguments}}
        for call in ask.calls
    ]
    message = {"role": "assistant", "content": content}
    stop = {"stopReason": _stop_reason(ask), "metrics": {"latencyMs": 7}}
    return {"output": {"message": message}} | stop | _usage(ask)


def converse_events(ask: Ask) -> Iterator[bytes]:
    """The frames of converse-stream; ``messageStop`` and ``metadata`` are the end."""

    def step(name: str, payload: JsonObject) -> bytes:
        return event(name, dump(payload))

    yield step("messageStart", {"role": "assistant"})
    if ask.thinks:
        for said in ({"text": THOUGHT}, {"signature": SIGNATURE}):
            yield step("contentBlockDelta", {"delta": {"reasoningContent": said}, "contentBlockIndex": 0})
        yield step("contentBlockStop", {"contentBlockIndex": 0})
    if ask.speaks:
        place = {"contentBlockIndex": int(ask.thinks)}
        for piece in ask.pieces:
            yield step("contentBlockDelta", {"delta": {"text": piece}} | place)
        yield step("contentBlockStop", place)
    for index, call in enumerate(ask.calls, ask.thinks + ask.speaks):
        place = {"contentBlockIndex": index}
        start = {"toolUse": {"toolUseId": f"tooluse_{call.ident}", "name": call.name}}
        yield step("contentBlockStart", {"start": start} | place)
        for piece in pieces_of(call.written):
            yield step("contentBlockDelta", {"delta": {"toolUse": {"input": piece}}} | place)
        yield step("contentBlockStop", place)
    yield step("messageStop", {"stopReason": _stop_reason(ask)})
    yield step("metadata", _usage(ask) | {"metrics": {"latencyMs": 7}})
