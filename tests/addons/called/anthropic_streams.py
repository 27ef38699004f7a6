"""Streams of Anthropic's messages API that call tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .shape import ARGUMENTS, CODE, WRITTEN, Block, Called, CalledStream, block, pieces, sse

Event = dict[str, Any]


def start() -> Event:
    usage = {"input_tokens": 20, "output_tokens": 1}
    message: Event = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    return {"type": "message_start", "message": message}


def ends(reason: str = "tool_use") -> list[Event]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}, {"type": "message_stop"}]


def begins(index: int, content: Event) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **more: str) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def stop(index: int) -> Event:
    return {"type": "content_block_stop", "index": index}


def said(index: int, text: str) -> list[Event]:
    shown = [delta(index, "text_delta", text=piece) for piece in pieces(text)]
    return [begins(index, {"type": "text", "text": ""}), *shown, stop(index)]


def thought(index: int) -> list[Event]:
    return [
        begins(index, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(index, "thinking_delta", thinking="a file, then"),
        delta(index, "signature_delta", signature="c2ln"),
        stop(index),
    ]


def use(index: int, name: str = "read_file", written: str = WRITTEN, **more: Any) -> list[Event]:
    content = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}, **more}
    return [
        begins(index, content),
        *[delta(index, "input_json_delta", partial_json=piece) for piece in ("", *pieces(written))],
        stop(index),
    ]


def one(name: str) -> list[Event]:
    """A call without arguments, whose one piece is empty."""
    return use(0, name, "")


type Shape = tuple[str, list[Event | list[Event]], tuple[Called, ...], dict[str, Any]]


def shapes() -> Iterator[Shape]:
    """Name, events (those of a block as a list of their own), calls, and what else is to say."""
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    ping = {"type": "ping"}
    yield "one", [start(), ping, use(0), *ends()], (read,), {}
    yield "after_text", [start(), *said(0, "I shall read input_json_delta"), use(1), *ends()], (read,), {}
    yield "no_arguments", [start(), one("look"), *ends()], (Called("look", {}),), {}
    yield (
        "parallel",
        [start(), *said(0, "Both."), use(1), use(2, "bash", '{"command": "ls"}'), *said(3, "Done."), *ends()],
        (read, bash),
        {},
    )
    first, second = use(1), use(2, "bash", '{"command": "ls"}')
    mixed = [event for n in range(max(len(first), len(second))) for event in (*first[n : n + 1], *second[n : n + 1])]
    text = said(3, "between")
    woven = [*mixed[:4], text[0], ping, *mixed[4:-1], *text[1:-1], mixed[-1]]
    yield "interleaved", [start(), *said(0, "Mixed."), woven, text[-1], *ends()], (read, bash), {}
    yield "reasoning", [start(), *thought(0), *said(1, "So:"), use(2), *ends()], (read,), {"signed": True}
    hidden = [begins(0, {"type": "redacted_thinking", "data": "eA=="}), stop(0)]
    yield "hidden_reasoning", [start(), *hidden, use(1), *ends()], (read,), {"signed": True}
    whole = [begins(0, {"type": "tool_use", "id": "toolu_0", "name": "read_file", "input": ARGUMENTS}), stop(0)]
    yield "whole_arguments", [start(), whole, *ends()], (read,), {}
    in_one = use(0)
    del in_one[2:-1]
    in_one[1] = delta(0, "input_json_delta", partial_json=WRITTEN)
    yield "arguments_in_one_event", [start(), in_one, *ends()], (read,), {}
    code = '{"code": ' + sse(CODE).decode().removeprefix("data: ").strip() + "}"
    yield "code_mode", [start(), use(0, "exec", code), *ends()], (Called("exec", {"code": CODE}),), {}
    mcp = use(1, "read", type="mcp_tool_use", server_name="tickets")
    server = use(0, "web_search", '{"query": "q"}', type="server_tool_use")
    result = [begins(2, {"type": "web_search_tool_result", "tool_use_id": "toolu_0", "content": []}), stop(2)]
    toolset = use(3, "zoom", toolset_name="browser")
    yield (
        "run_by_the_provider",
        [start(), server, mcp, *result, toolset, *ends()],
        (
            Called("web_search", {"query": "q"}),
            Called("mcp:tickets.read", ARGUMENTS),
            Called("browser.zoom", ARGUMENTS),
        ),
        {},
    )
    yield "no_stop_of_the_block", [start(), *said(0, "x"), [*use(1)[:-1], *ends()]], (read,), {"closed": False}
    yield "cut_off", [start(), use(0)[:2]], (Called("read_file", {}),), {"closed": False, "ended": False}
    yield "no_calls", [start(), *said(0, "Only text."), *ends("end_turn")], (), {}
    at_start = start()
    at_start["message"]["content"] = [whole[0]["content_block"]]
    yield "in_message_start", [[at_start], *ends()], (read,), {}


def streams() -> Iterator[CalledStream]:
    for name, events, calls, more in shapes():
        closed = more.pop("closed", True)
        parts: list[bytes | Block] = [
            block([sse(one, named=True) for one in part], closed=closed)
            if isinstance(part, list)
            else sse(part, named=True)
            for part in events
        ]
        yield CalledStream(f"anthropic_{name}", "anthropic_messages", "text/event-stream", tuple(parts), calls, **more)
