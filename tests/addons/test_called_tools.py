"""Calls of tools in answers are told with their arguments, where they begin and where they end."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
import pytest
from clawproxy.addons.wire.called import CalledTool
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.inner_calls import inner_names
from clawproxy.addons.wire.reader import ResponseReader
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .called import MESSAGES, STREAMS, Called, CalledStream
from .called.whole import ARGS, FUNCTION, TEXT, WHOLE

EVERY = sorted(STREAMS)


def told(reader: ResponseReader) -> tuple[Called, ...]:
    return tuple(Called(call.name, call.arguments(), call.choice) for call in reader.take_calls())


def blocks_of(stream: CalledStream, reader: ResponseReader) -> list[tuple[int, int]]:
    """Where calls were open, as a tap sees it that asks ``markers`` first."""
    framing = FORMATS[stream.format].framing(stream.content_type, stream=True)
    assert framing is not None
    found, begun, at, known = [], None, 0, 0
    buffer = bytearray(stream.data)
    while (end := framing.end(buffer, start := framing.begin(buffer, at), 0)) > 0:
        if reader.open_calls or not framing.ends or reader.markers.search(buffer, start, end):
            read = framing.read(bytes(buffer[start:end]), first=start == 0)
            if read is not None:
                reader.on_event(*read)
        if begun is None and len(reader._calls) > known:
            begun = start
        known, at = len(reader._calls), end
        if begun is not None and not reader.open_calls:
            found.append((begun, end))
            begun = None
    return [*found, (begun, len(buffer))] if begun is not None else found


@pytest.mark.parametrize("name", EVERY)
def test_every_call_of_a_stream_is_told_with_its_arguments_and_its_place(name: str) -> None:
    stream = STREAMS[name]
    reader = FORMATS[stream.format].new_reader()
    blocks = blocks_of(stream, reader)
    assert told(reader) == stream.calls
    assert tuple(blocks) == stream.blocks
    assert (reader.open_calls == 0, reader.ended) == (stream.closed, stream.ended)
    assert (reader.signed_reasoning, reader.unread, reader.more_calls) == (stream.signed, False, False)
    assert reader.tool_calls == tuple(call.name for call in stream.calls)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_call_on_a_socket_is_told_with_its_arguments_and_its_place(name: str) -> None:
    response = MESSAGES[name]
    reader = FORMATS[response.format].new_reader()
    blocks, begun = [], None
    for n, message in enumerate(response.messages):
        known = len(reader._calls)
        reader.on_event("", message)
        if begun is None and len(reader._calls) > known:
            begun = n
        if begun is not None and not reader.open_calls:
            blocks.append((begun, n + 1))
            begun = None
    if begun is not None:
        blocks.append((begun, len(response.messages)))
    assert told(reader) == response.calls
    assert tuple(blocks) == response.blocks
    assert (reader.open_calls == 0, reader.ended) == (response.closed, response.ended)
    assert (reader.signed_reasoning, reader.unread, reader.more_calls) == (response.signed, False, False)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_calls_of_a_whole_answer_are_told_with_their_arguments(name: str) -> None:
    reader = FORMATS[name].new_reader()
    reader.read_json(orjson.dumps(WHOLE[name]))
    assert told(reader) == (Called("read", ARGS),)
    assert (reader.open_calls, reader.unread, reader.signed_reasoning) == (0, False, False)


def test_calls_are_taken_once() -> None:
    reader = FORMATS["openai_responses"].new_reader()
    reader.read_json(orjson.dumps({"output": [FUNCTION, FUNCTION | {"call_id": "d"}]}))
    assert [call.name for call in reader.take_calls()] == ["read", "read"]
    assert reader.take_calls() == []


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"openrouter_chat"}))
def test_a_call_without_a_name_is_told_all_the_same(name: str) -> None:
    reader = FORMATS[name].new_reader()
    reader.read_json(orjson.dumps(WHOLE[name]).replace(b'"name":"read"', b'"title":"read"'))
    assert [call.name for call in reader.take_calls()] == [""]
    assert reader.tool_calls == ()


def started(index: int = 0, **more: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": "t", "name": "read", "input": {}, **more}
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(text: str, index: Any = 0) -> dict[str, Any]:
    delta = {"type": "input_json_delta", "partial_json": text}
    return {"type": "content_block_delta", "index": index, "delta": delta}


STOP = {"type": "content_block_stop", "index": 0}


def feed(name: str, *events: dict[str, Any]) -> ResponseReader:
    reader = FORMATS[name].new_reader()
    for event in events:
        data = orjson.dumps(event)
        if reader.open_calls or reader.markers.search(data):
            reader.on_event("", data)
    return reader


def chat_piece(finish: str | None = None, **call: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call] if call else []}, "finish_reason": finish}]}


def item_event(what: str, **item: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{what}", "output_index": 0, "item": FUNCTION | item}


WRITES = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"}


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("anthropic_messages", [piece("{}")]),
        ("anthropic_messages", [started(), STOP, piece("{}")]),
        ("anthropic_messages", [started(), piece("{}", 1)]),
        ("anthropic_messages", [started(), piece("{}", "0")]),
        ("anthropic_messages", [started(), started()]),
        ("openai_chat", [chat_piece(id="a", function={"name": "read"}), chat_piece("stop"), chat_piece(index=0)]),
        ("openai_chat", [{"choices": [{"delta": {"tool_calls": "read"}}]}]),
        ("openai_chat", [{"choices": {"0": chat_piece(id="a", function={"name": "read"})["choices"][0]}}]),
        ("openai_chat", [chat_piece(id="a", function={"name": "re"}), chat_piece(index="1", function={"name": "ad"})]),
        ("openai_chat", [chat_piece(id="a", function={"name": "re"}), chat_piece(index=1.0, function={"name": "ad"})]),
        ("anthropic_messages", [{"type": "message_start", "message": {"content": {"0": started()["content_block"]}}}]),
        ("gemini", [{"candidates": {"0": {"content": {"parts": [{"functionCall": {"name": "read"}}]}}}}]),
        ("gemini", [{"candidates": [{"content": {"parts": {"0": {"functionCall": {"name": "read"}}}}}]}]),
        ("openai_responses", [WRITES]),
        ("openai_responses", [item_event("added"), item_event("done"), WRITES]),
        ("openai_responses", [{"type": "response.output_item.added", "item": "read"}]),
        ("gemini", [{"candidates": [{"content": {"parts": [{"functionCall": {"name": "a", "willContinue": True}}]}}]}]),
        ("ollama_chat", [{"message": {"tool_calls": ["read"]}}]),
    ],
)
def test_pieces_that_no_call_can_have_are_not_read(name: str, events: list[dict[str, Any]]) -> None:
    assert feed(name, *events).unread


@pytest.mark.parametrize("name", sorted(set(WHOLE)))
def test_an_object_in_place_of_a_list_of_an_answer_is_not_read(name: str) -> None:
    """A client in JavaScript that takes element 0 of either finds the call there."""

    def forms(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [{**value, key: form} for key, inner in value.items() for form in forms(inner)]
        if not isinstance(value, list) or not any(isinstance(item, dict) for item in value):
            return []
        inside = [[*value[:n], form, *value[n + 1 :]] for n, item in enumerate(value) for form in forms(item)]
        return [{str(n): item for n, item in enumerate(value)}, *inside]

    assert forms(WHOLE[name])
    for form in forms(WHOLE[name]):
        reader = FORMATS[name].new_reader()
        reader.read_json(orjson.dumps(form))
        assert reader.unread or reader.take_calls(), form


def test_what_comes_after_the_end_of_a_call_is_another_call() -> None:
    more: dict[str, Any] = {"index": 0, "function": {"arguments": ', "b": 2}'}}
    reader = feed("openai_chat", chat_piece(id="a", function={"name": "read"}), chat_piece("stop"), chat_piece(**more))
    assert [(call.name, call.text) for call in reader.take_calls()] == [("read", ""), ("", ', "b": 2}')]
    assert reader.open_calls == 1


def test_arguments_that_stand_there_twice_cannot_be_read() -> None:
    reader = feed("anthropic_messages", started(input={"path": "a"}), piece('{"path": "b"}'), STOP)
    (call,) = reader.take_calls()
    with pytest.raises(ClawproxyError):
        call.arguments()
    assert call.digest_b64u()


def test_a_value_that_is_deeper_than_anybody_judges_is_refused_not_a_crash() -> None:
    deep: Any = []
    for _ in range(600):
        deep = [deep]
    reader = FORMATS["anthropic_messages"].new_reader()
    reader.read_json(json.dumps({"content": [{"type": "tool_use", "name": "read", "input": {"a": deep}}]}).encode())
    (call,) = reader.take_calls()
    with pytest.raises(ClawproxyError):
        call.arguments()
    assert call.digest_b64u()


def test_the_done_event_of_the_arguments_may_not_say_something_else() -> None:
    done = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"path": "b"}'}
    reader = feed("openai_responses", item_event("added"), done, item_event("done"))
    assert told(reader) == (Called("read", ARGS), Called("read", {"path": "b"}))
    named = {**done, "arguments": TEXT, "name": "write"}
    reader = feed("openai_responses", item_event("added"), named, item_event("done"))
    assert [call.name for call in told(reader)] == ["read", "write"]


def test_a_call_that_is_repeated_equally_by_a_whole_response_is_told_once_and_twice_if_it_stands_there_twice() -> None:
    both = {"type": "response.completed", "response": {"output": [FUNCTION, FUNCTION]}}
    assert len(told(feed("openai_responses", item_event("added"), item_event("done"), both))) == 2


@pytest.mark.parametrize("name", EVERY)
def test_no_call_is_missed_where_letters_are_escaped(name: str) -> None:
    """Markers find the first event of a call though each letter of its keys and types is written as ``\\u…``."""
    stream = STREAMS[name]
    if stream.content_type == "application/vnd.amazon.eventstream" or not stream.calls:
        return
    form = FORMATS[stream.format]
    reader, framing = form.new_reader(), form.framing(stream.content_type, stream=True)
    assert framing is not None
    for event in stream.events:
        read = framing.read(event, first=False)
        if read is None or not read[1].startswith(b"{"):
            continue
        data = re.sub(rb'(?<!\\)"([a-z])', lambda found: b'"\\u%04x' % ord(found[1]), read[1])
        if reader.open_calls or reader.markers.search(data):
            reader.on_event("", data)
    assert [call.name for call in reader.take_calls()] == [call.name for call in stream.calls]


KINDS = st.sampled_from(
    [
        *("content_block_start", "content_block_delta", "content_block_stop", "message_start", "input_json_delta"),
        *("tool_use", "function_call", "custom_tool_call", "mcp_call", "shell_call", "program", "reasoning"),
        *("response.output_item.added", "response.output_item.done", "response.completed", "response.done"),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done", "thinking"),
        *("conversation.item.done", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop"),
    ]
)
KEYS = st.sampled_from(
    [
        *("type", "index", "content_block", "delta", "item", "output_index", "item_id", "id", "call_id", "name"),
        *("arguments", "input", "partial_json", "choices", "tool_calls", "function_call", "function", "custom"),
        *("finish_reason", "message", "response", "output", "content", "contentBlockIndex", "start", "toolUse"),
        *("candidates", "parts", "functionCall", "executableCode", "groundingMetadata", "webSearchQueries", "args"),
        *("signature", "thoughtSignature", "reasoning_details", "extra_content", "google", "operation", "diff"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "a", "b", "{}", '{"a":1}']) | KINDS
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=16
)
EVENTS = st.tuples(KINDS, st.dictionaries(KEYS, TREES, max_size=7), KINDS | st.none()).map(
    lambda made: (made[0], orjson.dumps(made[1] | ({"type": made[2]} if made[2] else {})))
)


@given(name=st.sampled_from(sorted(FORMATS)), events=st.lists(EVENTS, max_size=8))
def test_no_sequence_of_events_makes_a_reader_raise_or_lose_count(name: str, events: list[tuple[str, bytes]]) -> None:
    reader = FORMATS[name].new_reader()
    calls: list[CalledTool] = []
    for event, data in events:
        reader.on_event(event, data)
        assert reader.open_calls == sum(not call.ended for call in reader._calls.values())
        calls += reader.take_calls()
    assert len({call.key for call in calls}) == len(calls) == len(reader._calls)
    for call in calls:
        assert call.digest_b64u()
        inner_names(call)


@given(
    name=st.sampled_from(sorted(set(FORMATS) - {"openai_embeddings", "models_list", "fal_router"})),
    kept=st.lists(EVENTS, max_size=4),
    block=st.lists(EVENTS, min_size=1, max_size=5),
    later=st.lists(EVENTS, max_size=3),
)
def test_whatever_a_rewriter_writes_in_place_of_a_block_calls_nothing(
    name: str, kept: list[tuple[str, bytes]], block: list[tuple[str, bytes]], later: list[tuple[str, bytes]]
) -> None:
    form = FORMATS[name]
    rewriter = form.new_rewriter()
    assert rewriter is not None
    rewriter.keep(kept)
    written = rewriter.replace(block, "refused")
    if written is not None:
        reader = form.new_reader()
        for event in (*kept, *written):
            reader.on_event(*event)
        before = form.new_reader()
        for event in kept:
            before.on_event(*event)
        assert [call.name for call in reader.take_calls()] == [call.name for call in before.take_calls()]
    for event in later:
        rewriter.mend(event)
