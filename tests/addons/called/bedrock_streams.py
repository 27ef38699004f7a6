"""Streams of Bedrock that call tools: Converse, and Anthropic's events in frames."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from . import anthropic_streams
from .shape import ARGUMENTS, CODE, WRITTEN, Block, Called, CalledStream, block, pieces

Event = dict[str, Any]
STREAM = "application/vnd.amazon.eventstream"


def frame(kind: str, told: Event) -> bytes:
    """One message of an AWS event stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    head = b"".join(
        struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    data = json.dumps(told).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(data), len(head))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + data
    return whole + struct.pack(">I", zlib.crc32(whole))


def at(kind: str, index: int, **more: Any) -> bytes:
    return frame(kind, {"contentBlockIndex": index, **more})


def said(index: int, text: str) -> list[bytes]:
    shown = [at("contentBlockDelta", index, delta={"text": piece}) for piece in pieces(text)]
    return [*shown, at("contentBlockStop", index)]


def use(index: int, name: str = "read_file", written: str = WRITTEN) -> list[bytes]:
    return [
        at("contentBlockStart", index, start={"toolUse": {"toolUseId": f"tooluse_{index}", "name": name}}),
        *[at("contentBlockDelta", index, delta={"toolUse": {"input": piece}}) for piece in pieces(written)],
        at("contentBlockStop", index),
    ]


def ends(reason: str = "tool_use") -> list[bytes]:
    usage = {"inputTokens": 31, "outputTokens": 7, "totalTokens": 38}
    return [frame("messageStop", {"stopReason": reason}), frame("metadata", {"usage": usage, "metrics": {}})]


START = frame("messageStart", {"role": "assistant"})


def thought(index: int, **piece: str) -> list[bytes]:
    shown = [{"text": "hm"}, piece]
    deltas = [at("contentBlockDelta", index, delta={"reasoningContent": one}) for one in shown]
    return [*deltas, at("contentBlockStop", index)]


type Shape = tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]


def shapes() -> Iterator[Shape]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    second = use(2, "bash", '{"command": "ls"}')
    yield "one", [START, use(0), *ends()], (read,), {}
    yield "after_text", [START, *said(0, "I shall use a tool"), use(1), *ends()], (read,), {}
    yield "no_arguments", [START, use(0, "look", ""), *ends()], (Called("look", {}),), {}
    yield "parallel", [START, *said(0, "Both."), use(1), second, *said(3, "x"), *ends()], (read, bash), {}
    first = use(1)
    woven = [event for n in range(len(first)) for event in (*first[n : n + 1], *second[n : n + 1])]
    yield "interleaved", [START, woven, *ends()], (read, bash), {}
    in_one = [use(0)[0], at("contentBlockDelta", 0, delta={"toolUse": {"input": WRITTEN}}), use(0)[-1]]
    yield "arguments_in_one_event", [START, in_one, *ends()], (read,), {}
    code = json.dumps({"code": CODE})
    yield "code_mode", [START, use(0, "exec", code), *ends()], (Called("exec", {"code": CODE}),), {}
    yield "reasoning", [START, *thought(0, signature="c2ln"), use(1), *ends()], (read,), {"signed": True}
    yield "hidden_reasoning", [START, *thought(0, redactedContent="eA=="), use(1), *ends()], (read,), {"signed": True}
    yield "no_stop_of_the_block", [START, [*use(0)[:-1], *ends()]], (read,), {"closed": False}
    yield "cut_off", [START, use(0)[:1]], (Called("read_file", {}),), {"closed": False, "ended": False}
    yield "no_calls", [START, *said(0, "Only text."), *ends("end_turn")], (), {}


def streams() -> Iterator[CalledStream]:
    for name, parts, calls, more in shapes():
        closed = more.pop("closed", True)
        shown = tuple(block(part, closed=closed) if isinstance(part, list) else part for part in parts)
        yield CalledStream(f"bedrock_converse_{name}", "bedrock_converse", STREAM, shown, calls, **more)
    for name, events, calls, more in anthropic_streams.shapes():
        closed = more.pop("closed", True)
        wrapped: list[bytes | Block] = [
            block(map(chunk, part), closed=closed) if isinstance(part, list) else chunk(part) for part in events
        ]
        yield CalledStream(f"bedrock_anthropic_{name}", "bedrock_anthropic", STREAM, tuple(wrapped), calls, **more)


def chunk(event: Event) -> bytes:
    return frame("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"})
