"""Streams of OpenAI's chat completions that call tools, and of OpenRouter's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .shape import ARGUMENTS, CODE, WRITTEN, Block, Called, CalledStream, block, pieces, sse

Event = dict[str, Any]
DONE = b"data: [DONE]\n\n"


def chunk(delta: Event, choice: int = 0, finish: str | None = None, **more: Any) -> Event:
    choices = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-5-2026",
        "choices": choices,
        **more,
    }


def usage() -> Event:
    return chunk({}, usage={"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}) | {"choices": []}


def said(text: str, choice: int = 0) -> list[Event]:
    return [chunk({"content": piece}, choice) for piece in pieces(text)]


def called(index: int, choice: int = 0, **more: Any) -> Event:
    return chunk({"tool_calls": [{"index": index, **more}]}, choice)


def use(index: int, name: str = "read_file", written: str = WRITTEN, choice: int = 0) -> list[Event]:
    first = {"name": name, "arguments": ""}
    return [
        called(index, choice, id=f"call_{choice}_{index}", type="function", function=first),
        *[called(index, choice, function={"arguments": piece}) for piece in pieces(written)],
    ]


def custom(index: int, name: str, written: str) -> list[Event]:
    first = {"name": name, "input": ""}
    return [
        called(index, id=f"call_{index}", type="custom", custom=first),
        *[called(index, custom={"input": piece}) for piece in pieces(written)],
    ]


def ends(finish: str = "tool_calls", choice: int = 0) -> Event:
    return chunk({}, choice, finish)


type Shape = tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]


def shapes() -> Iterator[Shape]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    opens: Event = chunk({"role": "assistant", "content": None, "tool_calls": []})
    tail = [usage(), DONE]
    two = use(1, "bash", '{"command": "ls"}')
    yield "one", [opens, [*use(0), ends()], *tail], (read,), {}
    yield "after_text", [opens, *said('I say "tool_calls" and name'), [*use(0), ends()], *tail], (read,), {}
    yield "parallel", [opens, [*use(0), *two, ends()], *tail], (read, bash), {}
    one = use(0)
    woven = [event for n in range(len(one)) for event in (*one[n : n + 1], *two[n : n + 1])]
    yield "interleaved", [opens, *said("Both."), [*woven, ends()], *tail], (read, bash), {}
    together = chunk({"tool_calls": [use(n, name)[0]["choices"][0]["delta"]["tool_calls"][0] for n, name in LOOKS]})
    yield "both_in_one_event", [opens, [together, ends()], *tail], (Called("look", {}), Called("see", {})), {}
    other = [*use(0, "bash", '{"command": "ls"}', choice=1), ends(choice=1)]
    yield (
        "several_choices",
        [opens, *said("a", 1), [*use(0), *other[:2], ends(), *other[2:]], *said("z", 2), ends("stop", 2), *tail],
        (read, Called("bash", {"command": "ls"}, 1)),
        {},
    )
    yield (
        "choices_one_after_the_other",
        [opens, [*use(0), ends()], *said("z", 1), other, *tail],
        (read, Called("bash", {"command": "ls"}, 1)),
        {},
    )
    named = [
        called(0, id="call_1", type="function", function={"name": "read", "arguments": ""}),
        called(0, function={"name": "_file", "arguments": WRITTEN[:3]}),
        called(0, function={"arguments": WRITTEN[3:]}),
    ]
    yield "name_in_pieces", [opens, [*named, ends()], *tail], (read,), {}
    late = [called(0, id="call_1", type="function"), called(0, function={"name": "read_file", "arguments": WRITTEN})]
    yield "name_after_the_id", [opens, [*late, ends()], *tail], (read,), {}
    again = [
        called(0, id="call_1", type="function", function={"name": "read_file", "arguments": piece})
        for piece in pieces(WRITTEN)
    ]
    yield "name_again_and_again", [opens, [*again, ends()], *tail], (read,), {}
    same_index = [*use(0), *[called(0, id="other", type="function", function={"name": "bash", "arguments": "{}"})]]
    yield "new_id_at_the_same_index", [opens, [*same_index, ends()], *tail], (read, Called("bash", {})), {}
    in_one = chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "read_file", "arguments": WRITTEN}}]})
    yield "arguments_in_one_event", [opens, [in_one, ends()], *tail], (read,), {}
    at_once = chunk(in_one["choices"][0]["delta"], 0, "tool_calls")
    yield "all_in_one_event", [opens, [at_once], *tail], (read,), {}
    yield "code_mode", [opens, [*custom(0, "exec", CODE), ends()], *tail], (Called("exec", {"input": CODE}),), {}
    old = [
        chunk({"function_call": {"name": "read_file", "arguments": ""}}),
        *[chunk({"function_call": {"arguments": piece}}) for piece in pieces(WRITTEN)],
        ends("function_call"),
    ]
    yield "older_kind", [opens, old, *tail], (read,), {}
    yield "no_finish_reason", [opens, [*use(0), *tail]], (read,), {"closed": False}
    yield "cut_off", [opens, use(0)[:1]], (Called("read_file", {}),), {"closed": False, "ended": False}
    yield "no_calls", [opens, *said("Only text."), ends("stop"), *tail], (), {}
    google = {"google": {"thought_signature": "c2ln"}}
    marked = called(0, id="c", function={"name": "read_file", "arguments": WRITTEN}, extra_content=google)
    yield "a_signed_call", [opens, [marked, ends()], *tail], (read,), {"signed": True}


def thoughts() -> Iterator[Shape]:
    """As OpenRouter alone sends them."""
    opens, tail, read = chunk({"role": "assistant", "content": ""}), [usage(), DONE], Called("read_file", ARGUMENTS)
    details = {"type": "reasoning.text", "text": "hm", "signature": None, "index": 0}
    thinks = [chunk({"reasoning_details": [{**details, **more}]}) for more in ({}, {"signature": "c2ln"})]
    yield "reasoning", [opens, *thinks, [*use(0), ends()], *tail], (read,), {"signed": True}
    hidden = chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "eA=="}]})
    yield "hidden_reasoning", [opens, hidden, [*use(0), ends()], *tail], (read,), {"signed": True}


LOOKS = ((0, "look"), (1, "see"))


def streams() -> Iterator[CalledStream]:
    both, thinks = list(shapes()), list(thoughts())
    for form, told in (("openai_chat", both), ("openrouter_chat", [*both, *thinks])):
        for name, events, calls, more in told:
            flags = dict(more)
            closed = flags.pop("closed", True)
            parts: list[bytes | Block] = [b": OPENROUTER PROCESSING\n\n"] if form == "openrouter_chat" else []
            parts += [block(map(raw, part), closed=closed) if isinstance(part, list) else raw(part) for part in events]
            yield CalledStream(f"{form}_{name}", form, "text/event-stream", tuple(parts), calls, **flags)


def raw(event: Event | bytes) -> bytes:
    return event if isinstance(event, bytes) else sse(event)
