"""What is read from an answer: usage, model, tool calls, the end; and that nonsense never raises."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from clawproxy.addons.wire.format import FORMATS, ResponseReader
from clawproxy.addons.wire.reader import MAX_TOOL_CALLS, MORE_TOOL_CALLS
from hypothesis import given
from hypothesis import strategies as st

from . import payloads as p

EVERY = sorted(set(FORMATS) - {"models_list"})
"""The formats whose answers a model writes."""
CALL_NO_TOOLS = {"openai_embeddings", "fal_router"}


def reader_of(name: str) -> ResponseReader:
    return FORMATS[name].new_reader()


def tell(reader: ResponseReader, *events: dict[str, Any]) -> list[bool]:
    return [reader.on_event(event.get("type", ""), orjson.dumps(event)) for event in events]


def heard(reader: ResponseReader) -> tuple[int, int, str | None, tuple[str, ...]]:
    return reader.tokens_input, reader.tokens_output, reader.model, reader.tool_calls


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("openai_chat", p.CHAT_ANSWER, (31, 7, "gpt-5-2026", ("read_file", "bash", "old"))),
        ("openai_responses", p.RESPONSES_ANSWER, (31, 7, "gpt-5-2026", p.RESPONSES_CALLS)),
        ("anthropic_messages", p.ANTHROPIC_ANSWER, (31, 7, "claude-x-1", p.ANTHROPIC_CALLS)),
    ],
)
def test_a_whole_answer_is_read(name: str, answer: dict[str, Any], expected: object) -> None:
    reader = reader_of(name)
    reader.read_json(orjson.dumps(answer))
    assert heard(reader) == expected
    assert (reader.usage_known, reader.ended, reader.failed, reader.unread) == (True, True, False, False)


@pytest.mark.parametrize("name", EVERY)
def test_an_error_answer_is_an_end_without_usage(name: str) -> None:
    reader = reader_of(name)
    reader.read_json(b'{"type":"error","error":{"type":"overloaded_error","message":"later"}}')
    assert (reader.ended, reader.failed, reader.usage_known) == (True, True, False)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b"\xff", b'{"a":', b"[" * 5000])
def test_a_body_that_is_no_json_object_is_marked_unread(name: str, body: bytes) -> None:
    reader = reader_of(name)
    reader.read_json(body)
    assert (reader.unread, reader.ended, reader.usage_known) == (True, False, False)


@pytest.mark.parametrize("name", EVERY)
def test_usage_that_is_no_usage_is_not_taken(name: str) -> None:
    for value in (True, -1, 1.5, "9", None, 2**53, [1]):
        keys = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
        reader = reader_of(name)
        reader.read_json(orjson.dumps({"usage": dict.fromkeys(keys, value)}))
        assert (reader.tokens_input, reader.tokens_output, reader.usage_known) == (0, 0, False)


# -- chat ----------------------------------------------------------------------------------------------------------


def test_a_chat_tool_name_may_come_in_pieces_or_again_and_again() -> None:
    reader = reader_of("openai_chat")
    tell(
        reader,
        p.chat_chunk(p.tool_piece(0, name="get_", id="a")),
        p.chat_chunk(p.tool_piece(1, name="other", id="b")),
        p.chat_chunk(p.tool_piece(0, name="weather")),
        p.chat_chunk(p.tool_piece(1, name="other", id="b")),
        p.chat_chunk(p.tool_piece(1, name="third", id="c")),
        p.chat_chunk(p.tool_piece(0, name="in_the_second_choice", id="d"), choice=1),
        p.chat_chunk({"function_call": {"name": "old", "arguments": ""}}),
    )
    assert reader.tool_calls == ("get_weather", "other", "third", "in_the_second_choice", "old")


def test_a_chat_error_chunk_is_an_end() -> None:
    reader = reader_of("openai_chat")
    assert tell(reader, p.chat_chunk({"content": "x"}), {"error": {"message": "m", "code": 502}}) == [False, True]
    assert (reader.ended, reader.failed) == (True, True)


def test_a_chat_chunk_with_a_null_error_is_not_an_end() -> None:
    reader = reader_of("openai_chat")
    assert (
        tell(reader, p.chat_chunk({"content": "x"}, error=None), p.chat_chunk({"name": "x"}, error={})) == [False] * 2
    )
    assert not reader.ended


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE]", b"[DONE] "])
def test_done_ends_a_chat_stream(data: bytes) -> None:
    reader = reader_of("openai_chat")
    assert reader.on_event("", data)
    assert reader.ended


# -- responses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "failed"), [("completed", False), ("incomplete", False), ("failed", True)])
def test_each_last_event_ends_a_response(kind: str, failed: bool) -> None:
    event = {"type": f"response.{kind}", "response": {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}}
    for name in (event["type"], ""):
        reader = reader_of("openai_responses")
        assert reader.on_event(str(name), orjson.dumps(event))
        assert (reader.ended, reader.failed) == (True, failed)
        assert heard(reader) == (3, 2, "m", ())


def test_an_error_event_ends_a_response() -> None:
    reader = reader_of("openai_responses")
    assert tell(reader, {"type": "error", "code": "server_error", "message": "m"}) == [True]
    assert (reader.ended, reader.failed) == (True, True)


def test_done_holds_a_response_that_has_not_ended_but_does_not_end_it() -> None:
    reader = reader_of("openai_responses")
    assert reader.on_event("", b"[DONE]")
    assert not reader.ended


def test_a_call_is_noted_once_though_it_is_told_three_times() -> None:
    reader = reader_of("openai_responses")
    item = {"type": "function_call", "name": "a"}
    tell(
        reader,
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"output": [item, {"type": "shell_call"}]}},
    )
    assert reader.tool_calls == ("a", "shell")


def test_the_calls_of_a_response_that_is_cut_short_are_known() -> None:
    reader = reader_of("openai_responses")
    event = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "name": "a"}}
    assert reader.markers.search(orjson.dumps(event))
    assert tell(reader, event) == [False]
    assert (reader.tool_calls, reader.ended) == (("a",), False)


# -- anthropic -----------------------------------------------------------------------------------------------------


def test_cached_input_counts_as_input_and_the_last_figures_win() -> None:
    reader = reader_of("anthropic_messages")
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 10, "output_tokens": 1}
    tell(reader, {"type": "message_start", "message": {"model": "m", "usage": usage}})
    assert heard(reader)[:2] == (115, 1)
    tell(reader, {"type": "message_delta", "usage": {"input_tokens": 6, "output_tokens": 40}})
    assert heard(reader)[:2] == (116, 40)


@pytest.mark.parametrize("event", [{"type": "message_stop"}, {"type": "error", "error": {"type": "overloaded_error"}}])
def test_each_last_event_ends_a_message(event: dict[str, Any]) -> None:
    reader = reader_of("anthropic_messages")
    assert tell(reader, {"type": "ping"}, event) == [False, True]
    assert (reader.ended, reader.failed) == (True, event["type"] == "error")


@pytest.mark.parametrize(("name", "event"), [("anthropic_messages", "message_stop"), ("openai_responses", "error")])
def test_a_last_event_that_cannot_be_read_is_held_but_does_not_end_the_answer(name: str, event: str) -> None:
    for data in (b"", b'{"type', b"[]"):
        reader = reader_of(name)
        assert reader.on_event(event, data)
        assert (reader.ended, reader.unread) == (False, True)


def test_a_fallback_block_changes_the_model() -> None:
    reader = reader_of("anthropic_messages")
    block = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}
    tell(reader, {"type": "message_start", "message": {"model": "a"}})
    tell(reader, {"type": "content_block_start", "index": 0, "content_block": block})
    assert reader.model == "b"


# -- bounds and nonsense -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in EVERY if name not in CALL_NO_TOOLS])
def test_names_and_their_number_are_bounded(name: str) -> None:
    many = range(MAX_TOOL_CALLS + 5)
    answer: dict[str, Any] = {
        "model": "m" * 5000,
        "choices": [{"message": {"tool_calls": [{"function": {"name": f"{n}" * 500}} for n in many]}}],
        "message": {"tool_calls": [{"function": {"name": f"{n}" * 500}} for n in many]},
        "output": [{"type": "function_call", "name": f"{n}" * 500} for n in many],
        "content": [{"type": "tool_use", "name": f"{n}" * 500} for n in many],
        "candidates": [{"content": {"parts": [{"functionCall": {"name": f"{n}" * 500}} for n in many]}}],
    }
    if name == "bedrock_converse":
        answer["output"] = {"message": {"content": [{"toolUse": {"name": f"{n}" * 500}} for n in many]}}
    reader = reader_of(name)
    reader.read_json(orjson.dumps(answer))
    assert len(reader.tool_calls) == MAX_TOOL_CALLS + 1
    assert reader.tool_calls[-1] == MORE_TOOL_CALLS
    assert max(map(len, (*reader.tool_calls, reader.model or ""))) <= 256


def test_a_chat_stream_of_endless_calls_stays_bounded() -> None:
    reader = reader_of("openai_chat")
    for n in range(2 * MAX_TOOL_CALLS):
        tell(reader, p.chat_chunk(p.tool_piece(n, name="x", id=str(n))))
        tell(reader, p.chat_chunk(p.tool_piece(0, name="x", id=f"again{n}")))
    assert len(reader.tool_calls) == MAX_TOOL_CALLS + 1


def test_keys_written_with_escapes_are_read_as_well() -> None:
    reader = reader_of("openai_chat")
    data = b'{"choices":[{"delta":{"tool_calls":[{"function":{"n\\u0061me":"x"}}]}}],"\\u006dodel":"m"}'
    assert reader.markers.search(data)
    reader.on_event("", data)
    assert heard(reader)[2:] == ("m", ("x",))


def test_a_type_written_with_escapes_is_an_end_as_well() -> None:
    for name, data in (
        ("openai_responses", b'{"type":"response\\u002ecompleted"}'),
        ("openai_responses", b'{"type":"\\u0065rror"}'),
        ("anthropic_messages", b'{"type":"message\\u005Fstop"}'),
    ):
        assert reader_of(name).on_event("", data)


KEYS = st.sampled_from(
    [
        *("type", "model", "usage", "choices", "delta", "message", "tool_calls", "function", "name", "index", "id"),
        *("output", "item", "output_index", "response", "content", "content_block", "error", "input_tokens", "to"),
        *("prompt_tokens", "function_call", "custom", "namespace", "server_label", "toolset_name"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(
        [
            *("message_start", "content_block_start", "response.completed", "response.output_item.added", "tool_use"),
            *("function_call", "mcp_call", "fallback", "error"),
        ]
    )
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@given(name=st.sampled_from(EVERY), tree=TREES, event=st.sampled_from(["", "error", "message_stop", "response.failed"]))
def test_no_json_makes_a_reader_raise(name: str, tree: Any, event: str) -> None:
    data = json.dumps(tree).encode()
    reader = reader_of(name)
    reader.on_event(event, data)
    reader.read_json(data)
    assert all(isinstance(call, str) for call in reader.tool_calls)
    assert reader.tokens_input >= 0
    assert reader.tokens_output >= 0


@given(name=st.sampled_from(EVERY), data=st.binary(max_size=80), event=st.text(max_size=12))
def test_no_bytes_make_a_reader_raise(name: str, data: bytes, event: str) -> None:
    reader = reader_of(name)
    reader.on_event(event, data)
    reader.on_event(event, b'{"usage":' + data)
    reader.read_json(data)
