"""Streams of Gemini that call tools, as server-sent events and as one JSON array."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .shape import ARGUMENTS, Block, Called, CalledStream, block, pieces, sse

Event = dict[str, Any]


def chunk(*parts: Event, index: int = 0, **more: Any) -> Event:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": index, **more}
    usage = {"promptTokenCount": 31, "candidatesTokenCount": 7, "totalTokenCount": 38}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-x", "responseId": "r1"}


def said(text: str, index: int = 0) -> list[Event]:
    return [chunk({"text": piece}, index=index) for piece in pieces(text)]


def call(name: str = "read_file", args: Any = ARGUMENTS, **more: str) -> Event:
    return {"functionCall": {"name": name, "args": args}, **more}


def ends(*parts: Event, index: int = 0) -> Event:
    return chunk(*(parts or ({"text": ""},)), index=index, finishReason="STOP")


type Shape = tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]


def shapes() -> Iterator[Shape]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    ls = call("bash", {"command": "ls"})
    yield "one", [[chunk(call())], ends()], (read,), {}
    yield "in_the_last_chunk", [*said("So."), [ends(call())]], (read,), {}
    yield "after_text", [*said("I shall call a function"), [chunk(call())], *said("ok"), ends()], (read,), {}
    yield "parallel", [[chunk(call(), ls)], ends()], (read, bash), {}
    yield "interleaved", [[chunk(call())], *said("and"), [chunk(ls)], ends()], (read, bash), {}
    yield "beside_text", [[chunk({"text": "first"}, call(), {"text": "then"})], ends()], (read,), {}
    yield (
        "several_choices",
        [*said("a"), [chunk(call(), index=1)], [chunk(ls)], ends(), ends(index=1)],
        (Called("read_file", ARGUMENTS, 1), bash),
        {},
    )
    yield "no_arguments", [[chunk({"functionCall": {"name": "look"}})], ends()], (Called("look", {}),), {}
    yield "signed", [[chunk(call(thoughtSignature="c2ln"))], ends()], (read,), {"signed": True}
    thinks = chunk({"text": "hm", "thought": True})
    signed = chunk({"text": "", "thoughtSignature": "c2ln"})
    yield "reasoning", [thinks, signed, [chunk(call())], ends()], (read,), {"signed": True}
    code = {"language": "PYTHON", "code": "print(1)"}
    result = chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}})
    yield "code", [[chunk({"executableCode": code})], result, ends()], (Called("code_execution", code),), {}
    hosted = {"toolCall": {"toolType": "GOOGLE_MAPS", "args": {"q": "x"}, "id": "1"}}
    yield "run_by_the_provider", [[chunk(hosted)], ends()], (Called("google_maps", {"q": "x"}),), {}
    found = [
        chunk({"text": "x"}, groundingMetadata={"webSearchQueries": words}) for words in (["a"], ["a"], ["a", "b"])
    ]
    yield (
        "searches",
        [[found[0]], found[1], [found[2]], ends()],
        (Called("google_search", {"asked": ["a"]}), Called("google_search", {"asked": ["b"]})),
        {},
    )
    yield "no_calls", [*said("Only text."), ends()], (), {}
    yield "no_finish_reason", [*said("x"), [chunk(call())]], (read,), {"ended": False}


def streams() -> Iterator[CalledStream]:
    for name, events, calls, more in shapes():
        parts: list[bytes | Block] = [block(map(sse, p)) if isinstance(p, list) else sse(p) for p in events]
        yield CalledStream(f"gemini_{name}", "gemini", "text/event-stream", tuple(parts), calls, **more)
        yield CalledStream(f"gemini_array_{name}", "gemini", "application/json", tuple(array(events)), calls, **more)


def array(events: list[Any]) -> Iterator[bytes | Block]:
    """What stands between two elements is a part of its own."""
    between = b"["
    for part in events:
        for event in part if isinstance(part, list) else [part]:
            shown = json.dumps(event, indent=2).encode()
            yield between
            yield block([shown]) if isinstance(part, list) else shown
            between = b",\r\n"
    yield b"]"
