"""Answers without their calls of tools: they are what their readers and the real SDKs take for whole answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from clawproxy.addons.wire.events import AwsEventFraming, Framing, JsonArrayFraming, NdjsonFraming, SseFraming
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.reader import ResponseReader
from clawproxy.addons.wire.rewrite import EventRewriter
from clawproxy.tokens.canonical import JsonObject
from hypothesis import given
from hypothesis import strategies as st

from .called import STREAMS, CalledStream
from .called.rewriting import REFUSAL, ended_early, events_in, framing_of, rewritten
from .called.whole import WHOLE

TEXT = "[the gateway refused this call]"
FRAMINGS = (SseFraming, NdjsonFraming, JsonArrayFraming, AwsEventFraming)
WITH_CALLS = sorted(name for name, stream in STREAMS.items() if stream.calls)


def tool(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}


def flat(name: str) -> dict[str, Any]:
    return {"type": "function_call", "id": name, "call_id": name, "name": name, "arguments": "{}"}


REPLACED = [
    name
    for name in WITH_CALLS
    if STREAMS[name].closed and STREAMS[name].ended and not STREAMS[name].signed and "repeated_with" not in name
]


def read_all(stream: CalledStream, data: bytes) -> Any:
    reader = FORMATS[stream.format].new_reader()
    for _, told, _ in events_in(framing_of(stream), data):
        if told is not None:
            reader.on_event(*told)
    return reader


def test_the_error_of_a_gemini_stream_is_also_its_last_candidate_for_clients_that_look_for_no_error() -> None:
    rewriter = FORMATS["gemini"].new_rewriter()
    assert rewriter is not None
    ((_, data),) = rewriter.error(REFUSAL)
    assert data.startswith(b'{"error":')  # where Google's Python SDK looks
    (candidate,) = orjson.loads(data)["candidates"]
    assert candidate["finishReason"] == "OTHER"
    assert REFUSAL.message in candidate["content"]["parts"][0]["text"]


@pytest.mark.parametrize("kind", FRAMINGS)
@given(
    events=st.lists(
        st.tuples(
            st.text("abcdefgXYZ.-_", max_size=12),
            st.dictionaries(st.text(max_size=9), st.text(max_size=30) | st.integers(0, 9), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_a_framing_writes_it_reads(kind: type[Framing], events: list[tuple[str, dict[str, Any]]]) -> None:
    framing = kind()
    told = [(name, orjson.dumps(value)) for name, value in events]
    opened = b"[" if kind is JsonArrayFraming else b""
    data = opened + framing.between.join(framing.write(*event) for event in told) + framing.close
    read = [each for _, each, _ in events_in(kind(), data) if each is not None]
    named = kind in (SseFraming, AwsEventFraming)
    assert read == [(name if named else "", value) for name, value in told]
    if kind is JsonArrayFraming:
        assert orjson.loads(data) == [value for _, value in events]


@pytest.mark.parametrize("name", WITH_CALLS)
def test_an_answer_that_is_ended_early_is_an_error_without_any_call(name: str) -> None:
    stream = STREAMS[name]
    reader = read_all(stream, ended_early(stream))
    assert (reader.ended, reader.failed, reader.unread, reader.tool_calls) == (True, True, False, ())


@pytest.mark.parametrize("name", REPLACED)
def test_an_answer_without_its_calls_is_whole(name: str) -> None:
    stream = STREAMS[name]
    data = rewritten(stream, TEXT)
    assert data is not None
    reader = read_all(stream, data)
    assert (reader.ended, reader.failed, reader.unread, reader.take_calls()) == (True, False, False, [])
    assert reader.usage_known
    assert reader.open_calls == 0
    if stream.content_type == "application/json":
        assert isinstance(orjson.loads(data), list)
    for reason in (b'reason":"tool_calls"', b'reason":"function_call"', b'reason":"tool_use"', b'Reason":"tool_use"'):
        assert reason not in data
    assert TEXT.encode() in data or stream.format == "bedrock_anthropic"


@pytest.mark.parametrize("name", [name for name in WITH_CALLS if "_repeated_with_" in name and "spaces" not in name])
def test_a_whole_response_that_says_something_else_of_a_call_cannot_be_rewritten(name: str) -> None:
    """Whether that call was kept or replaced."""
    assert rewritten(STREAMS[name], TEXT, keep=1) is None
    assert rewritten(STREAMS[name], TEXT) is None


def read_json(name: str, answer: dict[str, Any]) -> ResponseReader:
    reader = FORMATS[name].new_reader()
    reader.read_json(orjson.dumps(answer))
    return reader


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_whole_answer_has_the_text_in_place_of_its_calls(name: str) -> None:
    rewriter = FORMATS[name].new_rewriter()
    assert rewriter is not None
    answer = WHOLE[name]
    new = rewriter.replace_whole(answer, [call.key for call in read_json(name, answer).take_calls()], TEXT)
    assert new is not None
    reader = read_json(name, new)
    assert (reader.take_calls(), reader.unread) == ([], False)
    assert TEXT in orjson.dumps(new).decode()


TWO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "anthropic_messages": (
        {
            "stop_reason": "tool_use",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "tool_use", "id": "a", "name": "good", "input": {}},
                {"type": "server_tool_use", "id": "b", "name": "bad", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "b", "content": []},
            ],
        },
        {"stop_reason": "tool_use"},
    ),
    "openai_chat": (
        {
            "choices": [
                {"message": {"content": "x", "tool_calls": [tool("good"), tool("bad")]}, "finish_reason": "tool_calls"},
                {"message": {"content": None, "tool_calls": [tool("bad")]}, "finish_reason": "tool_calls"},
            ]
        },
        {},
    ),
    "openai_responses": ({"output": [flat("good"), flat("bad")]}, {}),
    "bedrock_converse": (
        {
            "stopReason": "tool_use",
            "output": {"message": {"content": [{"toolUse": {"name": n, "input": {}}} for n in ("good", "bad")]}},
        },
        {"stopReason": "tool_use"},
    ),
    "ollama_chat": ({"message": {"tool_calls": [{"function": {"name": n}} for n in ("good", "bad")]}}, {}),
}


@pytest.mark.parametrize("name", sorted(TWO))
def test_of_several_calls_in_a_whole_answer_only_those_that_are_named_go(name: str) -> None:
    answer, kept = TWO[name]
    rewriter = FORMATS[name].new_rewriter()
    assert rewriter is not None
    gone = [call.key for call in read_json(name, answer).take_calls() if call.name == "bad"]
    new = rewriter.replace_whole(answer, gone, TEXT)
    assert new is not None
    assert [call.name for call in read_json(name, new).take_calls()] == ["good"]
    assert {key: new.get(key) for key in kept} == kept
    if name == "openai_chat":
        assert [choice["finish_reason"] for choice in new["choices"]] == ["tool_calls", "stop"]
        assert new["choices"][1]["message"] == {"content": TEXT}
    if name == "anthropic_messages":
        assert [block["type"] for block in new["content"]] == ["text", "tool_use", "text"]


def test_a_call_that_the_rewriting_leaves_is_seen() -> None:
    """The rewriter reads what it wrote: where a call is still there, nothing was replaced."""

    class Careless(EventRewriter):
        def _events(self, name: str, told: JsonObject, *, calls: bool) -> list[tuple[str, JsonObject]]:
            self._take_text()
            return [(name, told)]

    form = FORMATS["ollama_chat"]
    event = orjson.dumps({"message": {"tool_calls": [{"function": {"name": "x"}}]}})
    assert Careless(form.refusal_body, form.new_reader).replace([("", event)], TEXT) is None
    assert Careless(form.refusal_body, form.new_reader).replace([("", b'{"message":{}}')], TEXT) is not None


def test_results_of_tools_of_the_provider_go_with_their_calls() -> None:
    rewriter = FORMATS["anthropic_messages"].new_rewriter()
    assert rewriter is not None
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    block = [
        {"type": "content_block_start", "index": 1, "content_block": use},
        {"type": "content_block_stop", "index": 1},
    ]
    events = [("", orjson.dumps(event)) for event in block]
    assert rewriter.replace(events, TEXT) is not None
    later = [
        {"type": "content_block_start", "index": 2, "content_block": result},
        {"type": "content_block_stop", "index": 2},
        {"type": "content_block_start", "index": 3, "content_block": {"type": "text", "text": ""}},
    ]
    mended = [new for event in later for new in rewriter.mend(("", orjson.dumps(event)))]
    assert [orjson.loads(data) for _, data in mended] == [later[2] | {"index": 2}]


@pytest.mark.parametrize("name", ["openai_embeddings", "models_list", "fal_router"])
def test_answers_that_call_nothing_have_no_rewriter(name: str) -> None:
    assert FORMATS[name].new_rewriter() is None


def test_the_realtime_api_can_only_say_an_error() -> None:
    rewriter = FORMATS["openai_realtime"].new_rewriter()
    assert rewriter is not None
    assert rewriter.replace([], TEXT) is None
    assert rewriter.replace_whole({}, [], TEXT) is None
    ((_, data),) = rewriter.error(REFUSAL)
    assert orjson.loads(data)["error"]["message"] == REFUSAL.message


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_that_was_replaced_does_not_come_back_under_another_id(order: tuple[int, int]) -> None:
    """A reader takes it for the same call, and does not tell it again."""
    rewriter = FORMATS["openai_responses"].new_rewriter()
    assert rewriter is not None
    item, said = flat("bad"), {"type": "message", "id": "m", "content": []}
    block = [
        {"type": f"response.output_item.{what}", "output_index": 0, "item": item | {"arguments": given}}
        for what, given in (("added", ""), ("done", item["arguments"]))
    ]
    assert rewriter.replace([("", orjson.dumps(event)) for event in block], TEXT) is not None
    output = [item | {"id": "other", "call_id": "another"}, said]
    last = {"type": "response.completed", "response": {"output": [output[n] for n in order]}}
    mended = rewriter.mend(("response.completed", orjson.dumps(last)))
    assert b"function_call" not in mended[0][1]
