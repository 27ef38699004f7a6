"""OpenAI realtime with text output: the events of a session and of its responses. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import Ask
from .encode import JsonObject, pieces_of


def session(kind: str, model: str) -> JsonObject:
    """``session.created`` or ``session.updated``."""
    state = {"type": "realtime", "object": "realtime.session", "id": "sess_standin", "model": model}
    return {"type": kind, "event_id": "event_session", "session": state | {"output_modalities": ["text"]}}


def item_added(item: JsonObject, number: int) -> JsonObject:
    """The acknowledgement of ``conversation.item.create``."""
    named = item | {"id": item.get("id") or f"item_{number}", "object": "realtime.item"}
    return {
        "type": "conversation.item.added",
        "event_id": f"event_item_{number}",
        "previous_item_id": None,
        "item": named,
    }


def _usage(ask: Ask) -> JsonObject | None:
    if "no-usage" in ask.steering.words:
        return None
    cached = ask.steering.cached
    return {
        "total_tokens": ask.total_tokens,
        "input_tokens": ask.all_input_tokens,
        "output_tokens": ask.all_output_tokens,
        "input_token_details": {"text_tokens": ask.all_input_tokens, "audio_tokens": 0, "cached_tokens": cached},
        "output_token_details": {"text_tokens": ask.all_output_tokens, "audio_tokens": 0},
    }


def _response(ask: Ask, output: list[JsonObject] | None) -> JsonObject:
    return {
        "object": "realtime.response",
        "id": f"resp_{ask.seed}",
        "status": "in_progress" if output is None else "completed",
        "output": output or [],
        "output_modalities": ["text"],
        "usage": None if output is None else _usage(ask),
    }


def steps(ask: Ask) -> Iterator[JsonObject]:
    """The events of one response, from ``response.created`` to ``response.done``."""
    for number, event in enumerate(_steps(ask)):
        yield {"event_id": f"event_{ask.seed}_{number}"} | event


def _steps(ask: Ask) -> Iterator[JsonObject]:
    ident = f"resp_{ask.seed}"
    yield {"type": "response.created", "response": _response(ask, None)}
    output: list[JsonObject] = []
    if ask.speaks:
        item = {"id": f"item_{ask.seed}", "object": "realtime.item", "type": "message", "role": "assistant"}
        place = {"response_id": ident, "output_index": 0}
        at = place | {"item_id": item["id"], "content_index": 0}
        output.append(item | {"status": "completed", "content": [{"type": "output_text", "text": ask.text}]})
        yield {"type": "response.output_item.added", **place, "item": item | {"status": "in_progress", "content": []}}
        yield {"type": "response.content_part.added", **at, "part": {"type": "text", "text": ""}}
        for piece in ask.pieces:
            yield {"type": "response.output_text.delta", **at, "delta": piece}
        yield {"type": "response.output_text.done", **at, "text": ask.text}
        yield {"type": "response.content_part.done", **at, "part": {"type": "text", "text": ask.text}}
        yield {"type": "response.output_item.done", **place, "item": output[-1]}
    for index, call in enumerate(ask.calls, int(ask.speaks)):
        called: JsonObject = {"id": f"item_{call.ident}", "object": "realtime.item", "type": "function_call"}
        called |= {"call_id": f"call_{call.ident}", "name": call.name}
        place = {"response_id": ident, "output_index": index}
        at = place | {"item_id": called["id"], "call_id": called["call_id"]}
        opened, done = ({"status": "in_progress", "arguments": ""}, {"status": "completed"})
        output.append(called | done | {"arguments": call.written})
        yield {"type": "response.output_item.added", **place, "item": called | opened}
        for piece in pieces_of(call.written):
            yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **at, "arguments": call.written}
        yield {"type": "response.output_item.done", **place, "item": output[-1]}
    yield {"type": "response.done", "response": _response(ask, output)}
