"""What the messages of sockets ask for: sessions without any socket. And what ends a realtime response."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clawproxy.addons.wire.openai_realtime import RealtimeReader, RealtimeSession
from clawproxy.addons.wire.responses_session import ResponsesSession
from clawproxy.tokens.errors import ClawproxyError

MODEL = "gpt-realtime"


def _tool(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {}}


def _created(name: str) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": name}}


def _create(**more: Any) -> dict[str, Any]:
    return {"type": "response.create", "model": "gpt-5", "stream": True, "input": [], **more}


def test_a_response_of_this_connection_carries_its_tools_on_and_is_no_unread_state() -> None:
    session = ResponsesSession("openai", "responses_ws")
    lite = {"type": "additional_tools", "role": "developer", "tools": [_tool("b"), _tool("a")]}
    assert session.read(_create(tools=[_tool("a")])).asks
    session.heard(_created("r1"))
    second = session.read(_create(previous_response_id="r1", input=[lite])).facts
    assert second is not None
    assert (second.tools, second.provider_state) == (("a", "b"), ())
    session.heard(_created("r2"))
    third = session.read(_create(previous_response_id="r2", tool_choice={"type": "function", "name": "b"})).facts
    assert third is not None
    assert (third.tools, third.tool_choice, third.model) == (("a", "b"), "b", "gpt-5")
    branch = session.read(_create(previous_response_id="r1")).facts
    assert branch is not None
    assert branch.tools == ("a",)


def test_tools_that_can_call_any_other_stay_such_in_later_requests() -> None:
    session = ResponsesSession("openai", "responses_ws")
    namespace = {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}
    first = session.read(_create(input=[{"type": "additional_tools", "role": "developer", "tools": [namespace]}])).facts
    session.heard(_created("r1"))
    second = session.read(_create(previous_response_id="r1")).facts
    assert first is not None
    assert second is not None
    assert first.tools == second.tools == ("functions.exec",)
    assert first.any_tools == second.any_tools


@pytest.mark.parametrize("previous", ["r2", "", 7, None])
def test_a_response_that_is_not_of_this_connection_stays_unread_state(previous: Any) -> None:
    session = ResponsesSession("openai", "responses_ws")
    session.read(_create(tools=[_tool("a")]))
    session.heard(_created("r1"))
    facts = session.read(_create(previous_response_id=previous)).facts
    assert facts is not None
    assert facts.tools == ()
    assert facts.provider_state == (() if previous is None else ("previous_response_id",))


def test_only_the_last_256_responses_are_known() -> None:
    session = ResponsesSession("openai", "responses_ws")
    session.read(_create())
    for n in range(257):
        session.heard(_created(f"r{n}"))
    known = [session.read(_create(previous_response_id=name)).facts for name in ("r0", "r1", "r256")]
    assert [facts.provider_state for facts in known if facts] == [("previous_response_id",), (), ()]


def test_too_many_tools_on_one_connection_are_refused() -> None:
    session = ResponsesSession("openai", "responses_ws")
    session.read(_create(tools=[_tool(f"a{n}") for n in range(1000)]))
    session.heard(_created("r1"))
    with pytest.raises(ClawproxyError, match="too many tools"):
        session.read(_create(previous_response_id="r1", tools=[_tool(f"b{n}") for n in range(25)]))


@pytest.mark.parametrize(
    "message",
    [
        {"type": "response.cancel"},
        {"type": "Response.create"},
        {"type": None},
        {},
        _create(Type="x"),
        _create(event_id=1),
        _create(session={}),
    ],
)
def test_messages_of_the_responses_api_are_a_closed_list(message: dict[str, Any]) -> None:
    with pytest.raises(ClawproxyError) as caught:
        ResponsesSession("openai", "responses_ws").read(message)
    assert caught.value.reason == "INVALID_REQUEST"


def _session() -> RealtimeSession:
    return RealtimeSession("openai", "realtime", MODEL)


def test_what_a_session_was_given_holds_for_every_response_and_a_response_may_say_otherwise() -> None:
    session = _session()
    session.read({"type": "session.update", "session": {"tools": [_tool("a")], "max_output_tokens": 9}})
    session.read({"type": "session.update", "session": {"instructions": "be brief"}})
    first = session.read({"type": "response.create"})
    assert first.asks
    assert first.facts is not None
    assert (first.facts.tools, first.facts.model, first.facts.max_output_tokens) == (("a",), MODEL, 9)
    own = session.read(
        {"type": "response.create", "response": {"tools": [_tool("b")], "max_output_tokens": "inf"}}
    ).facts
    assert own is not None
    assert (own.tools, own.max_output_tokens) == (("b",), None)
    again = session.read({"type": "response.create", "response": {"conversation": "none"}}).facts
    assert again is not None
    assert again.tools == ("a",)


def test_an_mcp_server_of_a_session_is_a_tool_by_its_label_and_its_host() -> None:
    tool = {"type": "mcp", "server_label": "files", "server_url": "https://mcp.example.com/x"}
    facts = _session().read({"type": "session.update", "session": {"tools": [tool]}}).facts
    assert facts is not None
    assert facts.tools == ("mcp", "mcp:files", "mcp:mcp.example.com")


def test_an_image_that_the_provider_would_fetch_is_a_fact_of_its_item() -> None:
    part = {"type": "input_image", "image_url": "https://example.com/x.png"}
    item = {"type": "message", "role": "user", "content": [part]}
    facts = _session().read({"type": "conversation.item.create", "item": item}).facts
    assert facts is not None
    assert facts.remote_urls == ("image_url",)


@pytest.mark.parametrize("turns", [None, {"type": "server_vad", "create_response": False}])
@pytest.mark.parametrize("nested", [True, False])
def test_audio_is_taken_once_the_provider_begins_no_response_by_itself(turns: Any, nested: bool) -> None:
    session, audio = _session(), {"type": "input_audio_buffer.append", "audio": "AAAA"}
    with pytest.raises(ClawproxyError, match="responses of its own"):
        session.read(audio)
    told = {"audio": {"input": {"turn_detection": turns}}} if nested else {"turn_detection": turns}
    session.read({"type": "session.update", "session": told})
    assert session.read(audio).facts is None
    with pytest.raises(ClawproxyError, match="responses of its own"):
        session.read({"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad"}}})


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.update"},
        {"type": "session.update", "session": {"type": "transcription"}},
        {"type": "session.update", "session": {"input_audio_transcription": {"model": "whisper-1"}}},
        {"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"idle_timeout_ms": 5}}}}},
        {"type": "session.update", "session": {"audio": {"other": {}}}},
        {"type": "session.update", "session": {"client_secret": {}}},
        {"type": "session.update", "session": {}, "model": "x"},
        {"type": "conversation.item.create", "item": {"type": "mystery"}},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "tools": []}},
        {"type": "conversation.item.delete", "item_id": 7},
        {"type": "input_audio_buffer.append", "audio": 7},
        {"type": "response.create", "response": []},
        {"type": "response.create", "response": {"model": "gpt-5"}},
        {"type": "output_audio_buffer.clear"},
    ],
)
def test_realtime_messages_are_a_closed_list_of_closed_shapes(message: dict[str, Any]) -> None:
    with pytest.raises(ClawproxyError) as caught:
        _session().read(message)
    assert caught.value.reason == "INVALID_REQUEST"


def _told(reader: RealtimeReader, *events: dict[str, Any]) -> list[bool]:
    return [reader.on_event("", json.dumps(event).encode()) for event in events]


def test_a_realtime_response_ends_with_done_and_tells_calls_and_usage() -> None:
    reader = RealtimeReader()
    call = {"type": "function_call", "name": "ticket_read", "call_id": "c", "arguments": "{}"}
    usage = {"input_tokens": 5, "output_tokens": 2, "input_token_details": {"cached_tokens": 3}}
    done = {"type": "response.done", "response": {"status": "completed", "output": [call], "usage": usage}}
    item = {"type": "response.output_item.done", "output_index": 0, "item": call}
    assert _told(reader, _created("r"), {"type": "error", "error": {}}, item, done) == [False, False, False, True]
    assert reader.tool_calls == ("ticket_read",)
    assert (reader.tokens_input, reader.tokens_cached, reader.tokens_output) == (5, 3, 2)
    assert not reader.failed


def test_an_error_before_the_response_has_begun_is_its_end() -> None:
    reader = RealtimeReader()
    assert _told(reader, {"type": "rate_limits.updated"}, {"type": "error", "error": {}}) == [False, True]
    assert reader.failed


AUDIO = {"type": "input_audio_buffer.append", "audio": "AAAA"}
QUIET = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}}


def test_a_response_cannot_say_that_the_provider_begins_none_by_itself() -> None:
    session = _session()
    with pytest.raises(ClawproxyError, match="cannot judge this key"):
        session.read({"type": "response.create", "response": {"audio": {"input": {"turn_detection": None}}}})
    with pytest.raises(ClawproxyError, match="responses of its own"):
        session.read(AUDIO)


@pytest.mark.parametrize(
    "said",
    [
        {"type": "error", "error": {"message": "speed is out of range"}},
        {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}},
        {"type": "session.updated", "session": {"turn_detection": {"type": "server_vad", "create_response": True}}},
    ],
)
def test_no_audio_is_taken_after_the_provider_turned_down_what_keeps_it_quiet(said: dict[str, Any]) -> None:
    session = _session()
    session.read(QUIET)
    session.read(AUDIO)
    session.heard(said)
    with pytest.raises(ClawproxyError, match="responses of its own"):
        session.read(AUDIO)
    session.read(QUIET)
    session.heard({"type": "session.updated", "session": {"audio": {"input": {"turn_detection": None}}}})
    session.heard({"type": "error", "error": {"message": "about something else"}})
    assert session.read(AUDIO).facts is None
