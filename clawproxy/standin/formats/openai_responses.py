"""OpenAI responses, as JSON and as the events that SSE and the WebSocket share. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import SIGNATURE, Ask, Call
from .encode import CREATED_S, JsonObject, named_event, pieces_of


def _object(ask: Ask, status: str, output: list[JsonObject]) -> JsonObject:
    usage = None
    if status == "completed" and "no-usage" not in ask.steering.words:
        usage = {
            "input_tokens": ask.all_input_tokens,
            "input_tokens_details": {"cached_tokens": ask.steering.cached},
            "output_tokens": ask.all_output_tokens,
            "output_tokens_details": {"reasoning_tokens": ask.steering.reasoning},
            "total_tokens": ask.total_tokens,
        }
    return {
        "id": f"resp_{ask.seed}",
        "object": "response",
        "created_at": CREATED_S,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": ask.named_model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }


def _call_item(call: Call, *, done: bool) -> JsonObject:
    kind, where = ("custom_tool_call", "input") if call.free_text else ("function_call", "arguments")
    ids = {"id": f"{'ctc' if call.free_text else 'fc'}_{call.ident}", "call_id": f"call_{call.ident}"}
    named = {"name": call.name} | ({"namespace": call.namespace} if call.namespace else {})
    state = {where: _written(call) if done else "", "status": "completed" if done else "in_progress"}
    return {"type": kind, **ids, **named, **state}


def _written(call: Call) -> str:
    return call.input if call.free_text else call.written


def _message_item(ask: Ask, *, done: bool) -> JsonObject:
    content = [{"type": "output_text", "text": ask.text, "annotations": []}] if done else []
    status = "completed" if done else "in_progress"
    return {"type": "message", "id": f"msg_{ask.seed}", "role": "assistant", "status": status, "content": content}


def _thought_item(ask: Ask) -> JsonObject:
    return {"type": "reasoning", "id": f"rs_{ask.seed}", "summary": [], "encrypted_content": SIGNATURE}


def answer(ask: Ask) -> JsonObject:
    """The whole response."""
    items = [_thought_item(ask)] if ask.thinks else []
    items += [_message_item(ask, done=True)] if ask.speaks else []
    items += [_call_item(call, done=True) for call in ask.calls]
    return _object(ask, "completed", items)


def steps(ask: Ask) -> Iterator[JsonObject]:
    """The events of the response, numbered."""
    for number, event in enumerate(_steps(ask)):
        yield event | {"sequence_number": number}


def warm_up(ask: Ask) -> Iterator[JsonObject]:
    """What ``"generate": false`` is answered with over the WebSocket: a response without output."""
    for number, status in enumerate(("created", "completed")):
        state = "completed" if status == "completed" else "in_progress"
        yield {"type": f"response.{status}", "response": _object(ask, state, []), "sequence_number": number}


def events(ask: Ask) -> Iterator[bytes]:
    """The events of the response as server-sent events."""
    return (named_event(step) for step in steps(ask))


def _steps(ask: Ask) -> Iterator[JsonObject]:
    yield {"type": "response.created", "response": _object(ask, "in_progress", [])}
    yield {"type": "response.in_progress", "response": _object(ask, "in_progress", [])}
    if ask.thinks:
        yield {"type": "response.output_item.added", "output_index": 0, "item": _thought_item(ask)}
        yield {"type": "response.output_item.done", "output_index": 0, "item": _thought_item(ask)}
    if ask.speaks:
        yield from _message_steps(ask, int(ask.thinks))
    for index, call in enumerate(ask.calls, ask.thinks + ask.speaks):
        item = _call_item(call, done=False)
        place = {"item_id": item["id"], "output_index": index}
        yield {"type": "response.output_item.added", "output_index": index, "item": item}
        kind, where = (
            ("custom_tool_call_input", "input") if call.free_text else ("function_call_arguments", "arguments")
        )
        for piece in pieces_of(_written(call)):
            yield {"type": f"response.{kind}.delta", **place, "delta": piece}
        yield {"type": f"response.{kind}.done", **place, where: _written(call)}
        yield {"type": "response.output_item.done", "output_index": index, "item": _call_item(call, done=True)}
    yield {"type": "response.completed", "response": answer(ask)}


def _message_steps(ask: Ask, index: int) -> Iterator[JsonObject]:
    item = _message_item(ask, done=False)
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": item}
    yield {"type": "response.content_part.added", **place, "part": part}
    for piece in ask.pieces:
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": ask.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part | {"text": ask.text}}
    yield {"type": "response.output_item.done", "output_index": index, "item": _message_item(ask, done=True)}
