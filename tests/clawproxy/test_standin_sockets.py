"""The stand-in's WebSocket side, spoken to by the websockets package and by the openai SDK."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .standin_process import Provider, running_standin


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("standin")) as running:
        yield running


@contextmanager
def socket(provider: Provider, path: str = "/v1/responses", key: str = "") -> Iterator[ClientConnection]:
    url = provider.url.replace("https://", "wss://") + path
    headers = {"Authorization": f"Bearer {key or provider.key('openai')}"}
    trust = ssl.create_default_context(cafile=provider.ca)
    # long: the library may wait for ever for its reader once this has run out on a busy machine
    with connect(url, additional_headers=headers, ssl=trust, proxy=None, open_timeout=120) as open_socket:
        yield open_socket


def turn(text: str, **more: Any) -> str:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return json.dumps({"type": "response.create", "model": "gpt-5", "stream": True, "input": [item]} | more)


def until(open_socket: ClientConnection, *last: str) -> list[dict[str, Any]]:
    events = [json.loads(open_socket.recv(timeout=10))]
    while events[-1]["type"] not in last:
        events.append(json.loads(open_socket.recv(timeout=10)))
    return events


def test_a_message_is_answered_by_the_events_of_the_sse_stream(provider: Provider) -> None:
    body = turn("hello events:3")
    with socket(provider) as open_socket:
        open_socket.send(body)
        events = until(open_socket, "response.completed")
    headers = {"authorization": f"Bearer {provider.key('openai')}"}
    with httpx2.Client(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False) as client:
        sse = client.post(provider.url + "/v1/responses", content=body, headers=headers).text
    assert events == [json.loads(line[6:]) for line in sse.splitlines() if line.startswith("data: ")]


def test_a_warm_up_has_no_output_and_the_next_turn_may_follow(provider: Provider) -> None:
    before = len(provider.seen())
    warm = json.dumps({"type": "response.create", "model": "gpt-5", "input": [], "generate": False})
    tool = {"type": "function", "name": "lookup", "parameters": {"type": "object"}}
    with socket(provider) as open_socket:
        open_socket.send(warm)
        created, completed = until(open_socket, "response.completed")
        assert created["type"] == "response.created"
        assert completed["response"]["output"] == []
        told = turn("use-a-tool", previous_response_id=completed["response"]["id"], tools=[tool])
        open_socket.send(told)
        events = until(open_socket, "response.completed")
    assert [item["name"] for item in events[-1]["response"]["output"]] == ["lookup"]
    handshake, first, second = provider.seen()[before:]
    assert (handshake["method"], handshake["credential"], "ws" in handshake) == ("GET", "right", False)
    assert [line["ws"] for line in (first, second)] == [True, True]
    assert (second["provider"], second["model"], second["type"]) == ("openai", "gpt-5", "response.create")
    digest = base64.urlsafe_b64encode(hashlib.sha256(told.encode()).digest()).decode().rstrip("=")
    assert second["body_sha256_b64u"] == digest


def test_a_later_turn_that_sends_only_the_result_is_answered_in_its_conversation(provider: Provider) -> None:
    with socket(provider) as open_socket:
        open_socket.send(turn("tool:lookup echo-result"))
        first = until(open_socket, "response.completed")[-1]["response"]
        result = {"type": "function_call_output", "call_id": "c", "output": "it is 21 degrees"}
        more = {"input": [result], "previous_response_id": first["id"]}
        open_socket.send(json.dumps({"type": "response.create", "model": "gpt-5"} | more))
        events = until(open_socket, "response.completed")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "it is 21 degrees"


def test_faults_and_steering_reach_the_client(provider: Provider) -> None:
    with socket(provider) as open_socket:
        open_socket.send(turn("status:429"))
        assert json.loads(open_socket.recv(timeout=10))["status"] == 429
        open_socket.send("not json")
        assert json.loads(open_socket.recv(timeout=10))["type"] == "error"
        open_socket.send(json.dumps({"type": "session.update"}))
        assert json.loads(open_socket.recv(timeout=10))["type"] == "error"
        open_socket.send(turn("events:2 drip"))
        assert until(open_socket, "response.completed")[-1]["response"]["usage"]["output_tokens"] == 2
        open_socket.send(turn("no-terminal"))
        assert until(open_socket, "response.output_item.done")
        open_socket.send(turn("die-mid-stream"))
        with pytest.raises(ConnectionClosed):
            until(open_socket, "response.completed")


def test_a_message_in_many_frames_is_one_message(provider: Provider) -> None:
    body = turn("hello events:2")
    with socket(provider) as open_socket:
        open_socket.send([body[:10], body[10:20], body[20:]])
        open_socket.ping()
        until(open_socket, "response.completed")
    assert provider.seen()[-1]["body_bytes"] == len(body)


def test_a_message_above_the_bound_closes_the_socket(provider: Provider) -> None:
    def flood(open_socket: ClientConnection) -> None:
        open_socket.send(["x" * 1024 * 1024 for _ in range(17)])
        open_socket.recv(timeout=10)

    before = len(provider.seen())
    with socket(provider) as open_socket:
        with pytest.raises(ConnectionClosed) as closed:
            flood(open_socket)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    assert len(provider.seen()) == before + 1


def test_without_the_credential_there_is_no_socket(provider: Provider) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(provider, key="wrong"):
        pass
    assert refused.value.response.status_code == 401


def test_a_plain_get_is_no_socket(provider: Provider) -> None:
    headers = {"authorization": f"Bearer {provider.key('openai')}"}
    with httpx2.Client(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False) as client:
        assert client.get(provider.url + "/v1/responses", headers=headers).status_code == 404


def test_realtime_by_hand_tells_usage_and_calls_tools(provider: Provider) -> None:
    with socket(provider, "/v1/realtime?model=gpt-realtime") as open_socket:
        created = json.loads(open_socket.recv(timeout=10))
        assert (created["type"], created["session"]["model"]) == ("session.created", "gpt-realtime")
        response = {"instructions": "tool:lookup cached:9"}
        open_socket.send(json.dumps({"type": "response.create", "response": response}))
        done = until(open_socket, "response.done")[-1]["response"]
    assert done["output"][0]["name"] == "lookup"
    assert done["usage"]["input_token_details"]["cached_tokens"] == 9
    assert (provider.seen()[-1]["model"], provider.seen()[-1]["ws"]) == ("gpt-realtime", True)


def test_the_openai_sdk_speaks_realtime(provider: Provider) -> None:
    client = openai.OpenAI(api_key=provider.key("openai"), base_url=provider.url + "/v1")
    options: Any = {"ssl": ssl.create_default_context(cafile=provider.ca), "proxy": None}
    said: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello events:3"}]}
    with client.realtime.connect(model="gpt-realtime", websocket_connection_options=options) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        connection.conversation.item.create(item=said)
        connection.response.create()
        types = []
        for event in connection:
            types.append(event.type)
            if event.type == "response.done":
                assert event.response.usage is not None
                assert event.response.usage.output_tokens == 3
                break
    assert types[:4] == ["session.created", "session.updated", "conversation.item.added", "response.created"]
    assert types.count("response.output_text.delta") == 3
