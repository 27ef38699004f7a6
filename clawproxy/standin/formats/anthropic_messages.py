"""Anthropic messages and count_tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import SIGNATURE, THOUGHT, Ask
from .encode import JsonObject, named_event, pieces_of


def _usage(ask: Ask, *, opening: bool) -> JsonObject:
    """Cached input is told apart from the input; reasoning is part of the output and told again in the details."""
    if "no-usage" in ask.steering.words:
        return {}
    figures: JsonObject = {
        "input_tokens": ask.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": ask.steering.cached,
        "output_tokens": 1 if opening else ask.all_output_tokens,
    }
    if ask.steering.reasoning and not opening:
        figures["output_tokens_details"] = {"thinking_tokens": ask.steering.reasoning}
    return {"usage": figures}


def _message(ask: Ask, content: list[JsonObject], stop: str | None, *, opening: bool) -> JsonObject:
    return {
        "id": f"msg_{ask.seed}",
        "type": "message",
        "role": "assistant",
        "model": ask.named_model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
    } | _usage(ask, opening=opening)


def _stop_reason(ask: Ask) -> str:
    return "tool_use" if ask.calls else "end_turn"


def answer(ask: Ask) -> JsonObject:
    """The whole message."""
    content: list[JsonObject] = []
    if ask.thinks:
        content.append({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
    if ask.speaks:
        content.append({"type": "text", "text": ask.text})
    content += [
        {"type": "tool_use", "id": f"toolu_{call.ident}", "name": call.name, "input": call.arguments}
        for call in ask.calls
    ]
    return _message(ask, content, _stop_reason(ask), opening=False)


def count(ask: Ask) -> JsonObject:
    """The answer of count_tokens."""
    return {"input_tokens": ask.all_input_tokens}


def steps(ask: Ask) -> Iterator[JsonObject]:
    """The events of the message, from ``message_start`` to ``message_stop``."""
    yield {"type": "message_start", "message": _message(ask, [], None, opening=True)}
    blocks: list[tuple[JsonObject, list[JsonObject]]] = [
        (
            {"type": "tool_use", "id": f"toolu_{call.ident}", "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": piece} for piece in pieces_of(call.written)],
        )
        for call in ask.calls
    ]
    text = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in ask.pieces])
    blocks = [text, *blocks] if ask.speaks else blocks
    if ask.thinks:
        thought = {"type": "thinking", "thinking": "", "signature": ""}
        written = {"type": "thinking_delta", "thinking": THOUGHT}
        blocks.insert(0, (thought, [written, {"type": "signature_delta", "signature": SIGNATURE}]))
    for index, (block, deltas) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": _stop_reason(ask), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop} | _usage(ask, opening=False)
    yield {"type": "message_stop"}


def events(ask: Ask) -> Iterator[bytes]:
    """The message as server-sent events."""
    return (named_event(step) for step in steps(ask))
