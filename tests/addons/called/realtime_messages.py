"""Responses of OpenAI's realtime API that call tools, as messages of a WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .responses_streams import told
from .shape import ARGUMENTS, WRITTEN, Called, CalledMessages, messages_of, pieces

Event = dict[str, Any]


def response(status: str, output: list[Event]) -> Event:
    usage = {"total_tokens": 38, "input_tokens": 31, "output_tokens": 7}
    return {"object": "realtime.response", "id": "resp_1", "status": status, "output": output, "usage": usage}


def use(index: int, name: str = "read_file", text: str = WRITTEN) -> tuple[list[Event], Event]:
    item = {"id": f"item_{index}", "object": "realtime.item", "type": "function_call", "call_id": f"call_{index}"}
    opened = item | {"status": "in_progress", "name": name, "arguments": ""}
    whole = item | {"status": "completed", "name": name, "arguments": text}
    place = {"response_id": "resp_1", "item_id": item["id"], "output_index": index, "call_id": item["call_id"]}
    return [
        told("added", index, opened),
        {"type": "conversation.item.added", "item": opened},
        *[{"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in pieces(text)],
        {"type": "response.function_call_arguments.done", **place, "name": name, "arguments": text},
        {"type": "conversation.item.done", "item": whole},
        told("done", index, whole),
    ], whole


def messages() -> Iterator[CalledMessages]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    begins = {"type": "response.created", "response": response("in_progress", [])}
    first, item = use(0)
    second, other = use(1, "bash", '{"command": "ls"}')
    evil = item | {"arguments": '{"path": "/etc/shadow"}'}
    both = (read, Called("read_file", {"path": "/etc/shadow"}))

    def ends(*items: Event) -> Event:
        return {"type": "response.done", "response": response("completed", list(items))}

    shapes: list[tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]] = [
        ("one", [begins, first, ends(item)], (read,), {}),
        ("parallel", [begins, first, second, ends(item, other)], (read, bash), {}),
        (
            "interleaved",
            [begins, [first[0], *second[:-1], *first[1:], second[-1]], ends(item, other)],
            (read, bash),
            {},
        ),
        ("only_in_the_whole_response", [begins, [ends(item)]], (read,), {}),
        ("repeated_with_other_arguments", [begins, first, [ends(evil)]], both, {}),
        (
            "another_item_joins",
            [begins, first, [{"type": "conversation.item.done", "item": evil}], ends(item)],
            both,
            {},
        ),
        ("cut_off", [begins, first[:2]], (Called("read_file", {}),), {"closed": False, "ended": False}),
        ("no_calls", [begins, ends()], (), {}),
    ]
    for name, events, calls, more in shapes:
        yield messages_of(f"realtime_{name}", "openai_realtime", events, calls, **more)
