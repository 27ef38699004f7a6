"""WebSockets end to end: what each side gets to see, and what is on record, with a real client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clawproxy.addons import socket_relay
from clawproxy.addons.call import Call
from clawproxy.addons.websocket import Socket, Sockets
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.digests import sha256_b64u
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from ..clawproxy.standin_process import Provider
from .bed import Bed, running_bed
from .rogue_socket import Line, rogue, switched
from .test_the_checks_can_fail import Without

MODEL = "gpt-4o-mini"
RESPONSES = "/openai/v1/responses"
REALTIME = f"/openai/v1/realtime?model={MODEL}"
ALLOWED = {"type": "function", "name": "ticket_read", "parameters": {}}
DENIED = {"type": "function", "name": "Bash", "parameters": {}}


def create(text: str = "hello", **more: Any) -> str:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return json.dumps({"type": "response.create", "model": MODEL, "stream": True, "input": [item], **more})


@contextlib.asynccontextmanager
async def opened(
    bed: Bed, path: str = RESPONSES, *, way: str = "reverse", token: str | None = None, **more: Any
) -> AsyncIterator[ClientConnection]:
    token = token or bed.token()
    if way == "connect":
        proxy = bed.gateway.addresses["regular"].replace("http://", f"http://agent:{token}@")
        trust = ssl.create_default_context(cafile=bed.gateway.ca_file)
        url = f"wss://api.openai.com{path.removeprefix('/openai')}"
        options: dict[str, Any] = {"proxy": proxy, "ssl": trust}
    else:
        url = bed.gateway.addresses["reverse"].replace("http", "ws") + path
        options = {"proxy": None, "additional_headers": {"authorization": f"Bearer {token}"}}
    options = {"compression": None, "close_timeout": 1, "open_timeout": 20, **options, **more}
    async with connect(url, **options) as socket:
        yield socket


async def until(socket: ClientConnection, *last: str) -> list[dict[str, Any]]:
    events = [json.loads(await asyncio.wait_for(socket.recv(), 30))]
    while events[-1]["type"] not in (*last, "error"):
        events.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))
    return events


async def turn(socket: ClientConnection, text: str = "hello", **more: Any) -> dict[str, Any]:
    await socket.send(create(text, **more))
    last = (await until(socket, "response.completed", "response.failed"))[-1]
    assert last["type"] == "response.completed", last
    found: dict[str, Any] = last["response"]
    return found


async def refused(socket: ClientConnection) -> tuple[str, int]:
    """The reason in the error event, and the close code."""
    reason = ""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                told = json.loads(await socket.recv())
                if told["type"] == "error":
                    reason = told["error"]["clawproxy"]["reason"]
    assert socket.close_code is not None
    return reason, socket.close_code


async def refused_while_sending(bed: Bed, send: Callable[[ClientConnection], Awaitable[None]]) -> list[tuple[str, int]]:
    """What is told to who sends without end, on sockets one after the other. Up to fifty times until it arrives: what
    was still on its way when the gateway closed resets the connection (one in ten), and what it said may be lost."""
    told: list[tuple[str, int]] = []
    while len(told) < 50 and (not told or told[-1][1] == 1006):
        async with opened(bed) as socket:
            with contextlib.suppress(ConnectionClosed):
                await send(socket)
            told.append(await refused(socket))
        await bed.settled()
    return told


def outcomes(bed: Bed) -> list[str]:
    return [receipt["metadata"]["clawproxy"]["outcome"] for receipt in bed.records("receipt")]


def reasons(bed: Bed) -> list[str]:
    return [denial["reason"] for denial in bed.records("denial")]


def said(provider: Provider, before: int) -> list[dict[str, Any]]:
    """What the provider has heard over sockets since."""
    return [line for line in provider.seen()[before:] if line.get("ws")]


# -- what works ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["reverse", "connect"])
async def test_a_session_of_codex_leaves_a_receipt_per_response_and_verifies(
    tmp_path: Path, provider: Provider, way: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with opened(bed, way=way, compression="deflate") as socket:
            assert socket.response is not None
            assert "sec-websocket-extensions" not in socket.response.headers
            warm = await turn(socket, generate=False, tools=[ALLOWED])
            declared = {"type": "additional_tools", "role": "developer", "tools": [ALLOWED]}
            asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "tool:ticket_read"}]}
            first = await turn(socket, previous_response_id=warm["id"], input=[declared, asked])
            call = first["output"][0]
            assert (call["type"], call["name"]) == ("function_call", "ticket_read")
            result = {"type": "function_call_output", "call_id": call["call_id"], "output": "closed"}
            await turn(socket, previous_response_id=first["id"], input=[result])
            await (await socket.ping())
        await bed.settled()
        assert outcomes(bed) == ["complete"] * 4
        intents = [record["detail"] for record in bed.records("intent")]
        assert [(detail["model"], detail["tools"]) for detail in intents] == [
            ("unknown", []),
            *[(MODEL, ["ticket_read"])] * 3,
        ]
        third = bed.records("receipt")[2]
        assert third["metadata"]["clawproxy"]["tool_calls"] == ["ticket_read"]
        assert third["tokens_output"] > 0
        sealed = await bed.gateway.seal("job-1")
        report = verify_path(Path(str(sealed["directory"])), bed.trust())
        assert str(report.verdict) == "VERIFIED", report


async def test_the_last_event_leaves_after_its_receipt_and_the_digests_are_of_what_went_over_the_wire(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        body = create("events:3")
        heard: list[str] = []
        await socket.send(body)
        while not heard or json.loads(heard[-1])["type"] != "response.completed":
            heard.append(str(await socket.recv()))
        receipt = bed.records("receipt")[1]  # on the disk by now
        assert receipt["request_hash_b64u"] == sha256_b64u(body.encode())
        assert receipt["response_hash_b64u"] == sha256_b64u("".join(heard).encode())


async def test_a_realtime_session_is_judged_with_what_it_set_up(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed, REALTIME) as socket:
        assert (await until(socket, "session.created"))[-1]["type"] == "session.created"
        update = {"type": "realtime", "tools": [ALLOWED], "instructions": "be brief", "output_modalities": ["text"]}
        await socket.send(json.dumps({"type": "session.update", "session": update}))
        await until(socket, "session.updated")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "tool:ticket_read"}]}
        await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await until(socket, "conversation.item.added")
        await socket.send('{"type":"response.create"}')
        done = (await until(socket, "response.done"))[-1]
        assert done["response"]["output"][0]["name"] == "ticket_read"
        record, receipt = bed.records("intent")[1]["detail"], bed.records("receipt")[1]
        assert (record["model"], record["tools"], record["route"]) == (MODEL, ["ticket_read"], "realtime")
        assert receipt["metadata"]["clawproxy"]["tool_calls"] == ["ticket_read"]
        assert receipt["tokens_input"] > 0


async def test_the_openai_sdk_speaks_realtime_through_the_base_url(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = AsyncOpenAI(api_key=bed.token(), base_url=bed.gateway.addresses["reverse"] + "/openai/v1")
        said: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        options: Any = {"proxy": None}
        async with client.realtime.connect(model=MODEL, websocket_connection_options=options) as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await connection.conversation.item.create(item=said)
            await connection.response.create()
            async for event in connection:
                if event.type == "response.done":
                    break
        await bed.settled()
        assert outcomes(bed) == ["complete", "complete"]


async def test_an_echoed_credential_does_not_reach_the_agent(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        answer = json.dumps(await turn(socket, "echo-credential"))
        assert provider.key("openai") not in answer
        assert "redacted" in answer


async def test_500_responses_on_one_socket_leave_nothing_behind(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        previous: dict[str, Any] = {}
        for _ in range(500):
            answer = await turn(socket, generate=False, tools=[ALLOWED], **previous)
            previous = {"previous_response_id": answer["id"]}
        [held] = bed.gateway.sockets._open.values()
        given = held._session._given  # type: ignore[attr-defined]
        assert len(given) == 256
        assert len({id(declared.tools) for declared in given.values()}) <= 256
        assert held.handshake.flow.websocket is None
        assert bed.gateway.gate.open_calls == []
        assert outcomes(bed) == ["complete"] * 501


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (create(tools=[DENIED]), "POLICY_TOOL_DENIED"),
        (create(input=[{"type": "additional_tools", "role": "developer", "tools": [DENIED]}]), "POLICY_TOOL_DENIED"),
        (create(model="gpt-5"), "POLICY_MODEL_NOT_ALLOWED"),
        (create(previous_response_id="resp_of_another"), "POLICY_STATE_NOT_READABLE"),
        (create(conversation="conv_1"), "POLICY_STATE_NOT_READABLE"),
        (create(background=True), "INVALID_REQUEST"),
        (create(stream=False), "INVALID_REQUEST"),
        (create(generate="no"), "INVALID_REQUEST"),
        (create(type="session.update"), "INVALID_REQUEST"),
        ('{"type":"response.create","type":"response.create"}', "REQUEST_AMBIGUOUS"),
        ("[]", "INVALID_REQUEST"),
        ("", "INVALID_REQUEST"),
        ("not json", "INVALID_REQUEST"),
        (b"binary", "PROTOCOL_REFUSED"),
    ],
)
async def test_a_later_message_that_may_not_be_sent_is_refused_on_record_and_closes_the_socket(
    tmp_path: Path, provider: Provider, message: str | bytes, reason: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await turn(socket)
        before = len(provider.seen())
        await socket.send(message)
        assert await refused(socket) == (reason, 1008)
        assert said(provider, before) == []
        assert reasons(bed) == [reason]
        await bed.settled()
        assert outcomes(bed) == ["complete", "complete"]
        assert bed.gateway.sockets.count == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "session.update", "session": {"tools": [DENIED]}}, "POLICY_TOOL_DENIED"),
        ({"type": "response.create", "response": {"tools": [DENIED]}}, "POLICY_TOOL_DENIED"),
        ({"type": "session.update", "session": {"model": "gpt-5"}}, "INVALID_REQUEST"),
        ({"type": "session.update", "session": {"prompt": {"id": "p"}}}, "POLICY_STATE_NOT_READABLE"),
        ({"type": "session.update", "session": {"turn_detection": {"type": "server_vad"}}}, "INVALID_REQUEST"),
        (
            {"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}},
            "INVALID_REQUEST",
        ),
        ({"type": "session.update", "session": {"tracing": "auto"}}, "INVALID_REQUEST"),
        ({"type": "session.update", "session": {"new_key": 1}}, "INVALID_REQUEST"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "INVALID_REQUEST"),
        (
            {"type": "conversation.item.create", "item": {"type": "item_reference", "id": "x"}},
            "POLICY_STATE_NOT_READABLE",
        ),
        ({"type": "transcription_session.update"}, "INVALID_REQUEST"),
        ({"type": "response.create", "response": {"conversation": "c"}}, "INVALID_REQUEST"),
    ],
)
async def test_a_realtime_message_that_may_not_be_sent_is_refused(
    tmp_path: Path, provider: Provider, message: dict[str, Any], reason: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed, REALTIME) as socket:
        before = len(provider.seen())
        await socket.send(json.dumps(message))
        assert await refused(socket) == (reason, 1008)
        assert said(provider, before) == []
        assert reasons(bed) == [reason]


async def test_a_response_of_another_connection_cannot_be_built_on(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with opened(bed) as one:
            given = await turn(one)
        async with opened(bed) as two:
            await two.send(create(previous_response_id=given["id"]))
            assert await refused(two) == ("POLICY_STATE_NOT_READABLE", 1008)


async def test_a_second_response_while_one_is_open_is_refused_and_the_first_recorded(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await socket.send(create("events:3000 slow:20"))
        await until(socket, "response.created")
        await socket.send(create())
        assert await refused(socket) == ("INVALID_REQUEST", 1008)
        await bed.settled()
        assert outcomes(bed) == ["complete", "stopped"]


async def test_a_token_is_judged_again_for_each_message(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        async with opened(bed, token=token) as socket:
            await turn(socket)
            bed.gateway.revocations.revoke_job("job-1")
            before = len(provider.seen())
            await socket.send(create())
            assert await refused(socket) == ("TOKEN_REVOKED", 1008)
            assert said(provider, before) == []


async def test_a_sealed_job_takes_no_further_message(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await turn(socket)
        await bed.gateway.seal("job-1")
        before = len(provider.seen())
        await socket.send(create())
        assert await refused(socket) == ("JOB_SEALED", 1008)
        assert said(provider, before) == []


# -- what breaks the protocol --------------------------------------------------------------------------------------


async def test_a_message_larger_than_may_be_is_refused_while_it_comes(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_body_bytes=64 * 1024) as bed:

        async def endless() -> AsyncIterator[str]:
            for _ in range(100_000):
                yield "x" * 1000

        told = await refused_while_sending(bed, lambda socket: socket.send(endless()))
        assert told[-1][1] == 1008
        assert reasons(bed) == ["REQUEST_TOO_LARGE"] * len(told)


async def test_a_message_in_too_many_fragments_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:

        async def crumbs() -> AsyncIterator[str]:
            for _ in range(5000):
                yield ""

        told = await refused_while_sending(bed, lambda socket: socket.send(crumbs()))
        assert told[-1][1] == 1008
        assert reasons(bed) == ["REQUEST_TOO_LARGE"] * len(told)


async def _flood(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for n in range(500):
            await socket.ping(f"{n}")


async def test_a_flood_of_pings_ends_the_socket_and_no_ping_reaches_the_provider(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        told = await refused_while_sending(bed, _flood)
        assert told[-1] == ("PROTOCOL_REFUSED", 1008)
        assert reasons(bed) == ["PROTOCOL_REFUSED"] * len(told)


async def test_pings_alone_keep_no_socket_open(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = 0.0
    monkeypatch.setattr(socket_relay, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s))
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await turn(socket)
        await (await socket.ping("a"))
        ahead_s = socket_relay.RelayLimits().idle_s
        with contextlib.suppress(ConnectionClosed):
            await (await socket.ping("b"))
        assert await refused(socket) == ("", 1001)
        assert bed.gateway.sockets.count == 0


@pytest.mark.parametrize("raw", [b"\xc1\x80\0\0\0\0", b"\x81\x02hi", b"\x83\x80\0\0\0\0", b"\x81\x82\0\0\0\0\xff\xff"])
async def test_frames_that_are_none_end_the_socket(tmp_path: Path, provider: Provider, raw: bytes) -> None:
    """Compressed though nothing was agreed, unmasked, of an unknown opcode, not UTF-8."""
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        before = len(provider.seen())
        socket.transport.write(raw)
        assert (await refused(socket))[1] in (1002, 1007)
        assert said(provider, before) == []
        assert bed.gateway.sockets.count == 0


# -- how responses end ---------------------------------------------------------------------------------------------


async def test_the_stop_switch_cuts_a_socket_at_once(tmp_path: Path, provider: Provider) -> None:
    """The best of up to five rounds counts, since others share these cores."""
    rounds: list[float] = []
    async with running_bed(tmp_path / "s", provider) as bed:
        while len(rounds) < 5 and min(rounds, default=1.0) >= 0.2:
            async with opened(bed) as socket:
                await socket.send(create("events:3000 slow:20"))
                await until(socket, "response.created")
                [call] = bed.gateway.gate.open_calls
                at = time.monotonic()
                call.stop("a test stops it")
                with pytest.raises(ConnectionClosed):
                    await until(socket, "response.completed")
                rounds.append(time.monotonic() - at)
            await bed.settled()
        assert min(rounds) < 0.2
        assert outcomes(bed) == ["complete", "stopped"] * len(rounds)


async def test_a_provider_that_dies_is_recorded_and_the_agent_told_by_the_close_code(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await socket.send(create("events:20 die-mid-stream"))
        assert await refused(socket) == ("", 1011)
        await bed.settled()
        assert outcomes(bed) == ["complete", "upstream_failed"]


async def test_a_client_that_leaves_is_recorded(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with opened(bed) as socket:
            await socket.send(create("events:3000 slow:20"))
            await until(socket, "response.created")
            socket.transport.abort()
        await bed.settled()
        assert outcomes(bed) == ["complete", "client_gone"]
        assert bed.gateway.sockets.count == 0


async def test_a_gateway_that_stops_ends_its_sockets_and_records_what_is_open(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as idle, opened(bed) as busy:
        await busy.send(create("events:3000 slow:20"))
        await until(busy, "response.created")
        await bed.gateway.stop(drain_s=0.1)
        assert sorted(outcomes(bed)) == ["complete", "complete", "stopped"]
        assert (await refused(idle))[1] in (1000, 1001, 1006, 1011)


# -- handshakes ----------------------------------------------------------------------------------------------------

KEY = base64.b64encode(b"sixteen bytes ok").decode()
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY,
}


@pytest.mark.parametrize(
    ("method", "path", "fields", "reason"),
    [
        ("GET", RESPONSES, {"upgrade": "h2c"}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"upgrade": "websocket, h2c"}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"upgrade": None}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"connection": None}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"connection": "Upgrade, x-cst"}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"sec-websocket-version": "8"}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"sec-websocket-key": "c2hvcnQ="}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"sec-websocket-key": None}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-1"}, "PROTOCOL_REFUSED"),
        ("GET", RESPONSES, {"content-length": "2"}, "REQUEST_AMBIGUOUS"),
        ("GET", RESPONSES, {"x-cst": "none"}, "TOKEN_MALFORMED"),
        ("GET", "/openai/v1/responses?model=x", {}, "PROTOCOL_REFUSED"),
        ("GET", "/openai/v1/realtime", {}, "INVALID_REQUEST"),
        ("GET", "/openai/v1/realtime?model=gpt-5", {}, "POLICY_MODEL_NOT_ALLOWED"),
        ("GET", "/openai/v1/realtime/calls", {}, "PROTOCOL_REFUSED"),
        ("GET", "/anthropic/v1/messages", {}, "PROTOCOL_REFUSED"),
        ("POST", "/openai/v1/responses", {}, "PROTOCOL_REFUSED"),
        ("POST", "/openai/v1/chat/completions", {}, "PROTOCOL_REFUSED"),
    ],
)
async def test_a_handshake_that_is_not_one_is_refused_and_nothing_leaves(
    tmp_path: Path, provider: Provider, method: str, path: str, fields: dict[str, str | None], reason: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await bed.client()
        told = {"x-cst": bed.token(), "host": "gateway", **UPGRADE, **fields}
        body = b"{}" if told.get("content-length") else b""
        answer = await client.request(method, path, {n: v for n, v in told.items() if v is not None}, body)
        assert answer.refusal["reason"] == reason
        assert len(provider.seen()) == before


async def test_a_header_of_the_handshake_that_occurs_twice_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        head = f"GET {RESPONSES} HTTP/1.1\r\nhost: x\r\nx-cst: {bed.token()}\r\n"
        head += "".join(f"{n}: {v}\r\n" for n, v in UPGRADE.items()) + f"Sec-WebSocket-Key: {KEY}\r\n\r\n"
        await client.send(head.encode())
        assert b"REQUEST_AMBIGUOUS" in await client.reader.read(65536)


async def test_the_provider_gets_a_handshake_of_our_own(tmp_path: Path, provider: Provider) -> None:
    heads: list[bytes] = []

    async def script(line: Line) -> None:
        heads.append(line.head)
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed:
        extra = {"openai-beta": "responses_websockets=2026-02-06", "originator": "codex_exec", "x-cst": bed.token()}
        async with opened(bed, additional_headers=extra, compression="deflate") as socket:
            assert socket.response is not None
            assert socket.response.headers["x-clawproxy-receipt-id"] == bed.records("receipt")[0]["receipt_id"]
    head = heads[0].decode().lower()
    assert "sec-websocket-extensions" not in head
    assert "originator" not in head
    assert "x-cst" not in head
    assert "openai-beta: responses_websockets=2026-02-06" in head
    assert f"bearer {provider.key('openai').lower()}" in head


# -- providers that misbehave --------------------------------------------------------------------------------------

CREATED = json.dumps({"type": "response.created", "response": {"id": "resp_1"}})
COMPLETED = json.dumps({"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}})


async def _nothing(line: Line) -> None:
    await line.hear()


@pytest.mark.parametrize(
    "change",
    [
        {"sec_websocket_accept": "bm90IHRoZSBhbnN3ZXI="},
        {"sec_websocket_accept": ""},
        {"sec_websocket_extensions": "permessage-deflate"},
        {"sec_websocket_protocol": "realtime"},
        {"upgrade": "h2c"},
        {"upgrade": ""},
        {"connection": "keep-alive"},
    ],
)
async def test_a_101_that_does_not_answer_the_handshake_is_cut(
    tmp_path: Path, provider: Provider, change: dict[str, str]
) -> None:
    async with (
        rogue(provider, _nothing, lambda head: switched(head, **change)) as bad,
        running_bed(tmp_path / "s", bad) as bed,
    ):
        with pytest.raises((InvalidStatus, InvalidMessage)):
            async with opened(bed):
                pass
        await bed.settled()
        assert outcomes(bed) == ["upstream_failed"]
        assert bed.gateway.sockets.count == 0


async def test_a_101_that_nobody_asked_for_passes_nothing(tmp_path: Path, provider: Provider) -> None:
    async def talk(line: Line) -> None:
        await line.say("raw bytes")

    async with rogue(provider, talk) as bad, running_bed(tmp_path / "s", bad) as bed:
        answer = await bed.chat()
        assert answer.status == 502 or not answer.complete
        assert b"raw bytes" not in answer.body
        await bed.settled()
        assert outcomes(bed) in (["upstream_failed"], ["fault"])


async def test_a_handshake_that_the_provider_refuses_is_a_plain_answer_on_record(
    tmp_path: Path, provider: Provider
) -> None:
    body = b'{"error":{"message":"no"}}'
    head = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with rogue(provider, _nothing, lambda _: head + body) as bad, running_bed(tmp_path / "s", bad) as bed:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(bed):
                pass
        assert caught.value.response.status_code == 403
        assert outcomes(bed) == ["complete"]
        assert bed.records("receipt")[0]["metadata"]["clawproxy"]["status"] == 403


@pytest.mark.parametrize(
    "events",
    [
        [CREATED],
        [COMPLETED],
        ['{"type":"response.output_text.delta","delta":"x"}'],
        ['{"type":"session.created"}'],
        ["[]"],
        ["not json"],
        ["x" * 1_100_000],
    ],
)
async def test_what_a_provider_says_unasked_does_not_reach_the_agent(
    tmp_path: Path, provider: Provider, events: list[str]
) -> None:
    async def script(line: Line) -> None:
        await line.say(*events)
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed) as socket:
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011)
        assert bed.gateway.sockets.count == 0


async def test_what_follows_the_last_event_does_not_pass_and_the_receipt_stands(
    tmp_path: Path, provider: Provider
) -> None:
    async def script(line: Line) -> None:
        await line.hear()
        await line.say(CREATED, COMPLETED, COMPLETED)
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed) as socket:
        await socket.send(create())
        assert [event["type"] for event in await until(socket, "response.completed")][-1] == "response.completed"
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011)
        assert outcomes(bed) == ["complete", "complete"]


async def test_a_binary_message_of_a_provider_ends_the_response_as_failed(tmp_path: Path, provider: Provider) -> None:
    async def script(line: Line) -> None:
        await line.hear()
        await line.say(CREATED)
        line.writer.write(b"\x82\x02hi")
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed) as socket:
        await socket.send(create())
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011)
        await bed.settled()
        assert outcomes(bed) == ["complete", "upstream_failed"]


async def test_a_close_of_the_provider_passes_without_its_reason(tmp_path: Path, provider: Provider) -> None:
    async def script(line: Line) -> None:
        line.writer.write(line.socket._proto.close(4001, provider.key("openai")[:100]))
        await line.reader.read(100)

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed) as socket:
        assert await refused(socket) == ("", 4001)
        assert socket.close_reason == ""


async def test_a_realtime_response_that_nobody_asked_for_is_cut(tmp_path: Path, provider: Provider) -> None:
    async def script(line: Line) -> None:
        await line.say('{"type":"session.created"}', CREATED)
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed, REALTIME) as socket:
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011)


CALL = {"id": "i1", "type": "function_call", "call_id": "c1", "name": "shell_exec", "arguments": '{"cmd":"rm"}'}


def _item_event(kind: str, **over: Any) -> str:
    return json.dumps({"type": kind, "item": {**CALL, **over}})


@pytest.mark.parametrize("kind", ["added", "done", "created", "retrieved"])
@pytest.mark.parametrize("over", [{}, {"arguments": ""}, {"type": "custom_tool_call", "input": "rm"}])
async def test_a_call_of_a_tool_between_responses_that_nobody_judged_is_cut(
    tmp_path: Path, provider: Provider, kind: str, over: dict[str, Any]
) -> None:
    async def script(line: Line) -> None:
        await line.say('{"type":"session.created"}', _item_event(f"conversation.item.{kind}", **over))
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed, REALTIME) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011)


async def test_calls_of_the_client_and_of_responses_may_be_told_again_between_responses(
    tmp_path: Path, provider: Provider
) -> None:
    answered = {**CALL, "id": "i2", "call_id": "c2", "name": "ticket_read", "arguments": '{"id": 1}'}

    async def script(line: Line) -> None:
        await line.hear()
        await line.say(_item_event("conversation.item.added", id="other"))
        await line.hear()
        response = {"id": "resp_1", "status": "completed", "output": [answered]}
        await line.say(CREATED, json.dumps({"type": "response.done", "response": response}))
        await line.say(json.dumps({"type": "conversation.item.retrieved", "item": answered}))
        await line.say(_item_event("conversation.item.done", arguments="{}"))
        await line.hear()

    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed, REALTIME) as socket:
        await socket.send(json.dumps({"type": "conversation.item.create", "item": CALL}))
        assert json.loads(await socket.recv())["item"]["name"] == "shell_exec", "what the client said itself"
        await socket.send(json.dumps({"type": "response.create", "response": {"tools": [ALLOWED]}}))
        told = await until(socket, "conversation.item.retrieved")
        assert told[-1]["item"] == answered, told
        assert await refused(socket) == ("UPSTREAM_FAILED", 1011), "the client's call with other arguments"


# -- each guard taken out, in the test's process -------------------------------------------------------------------


async def test_without_decide_a_denied_tool_reaches_the_provider(tmp_path: Path, provider: Provider) -> None:
    def blind(real: Any) -> Without:
        return Without(real, decide=lambda call: None)

    async with running_bed(tmp_path / "s", provider, wrap_steps=blind) as bed, opened(bed) as socket:
        before = len(provider.seen())
        await turn(socket, tools=[DENIED])
        assert len(said(provider, before)) == 1


async def test_without_authenticate_a_revoked_token_still_speaks(tmp_path: Path, provider: Provider) -> None:
    def once(real: Any) -> Without:
        def authenticate(call: Call) -> Any:
            grant = getattr(once, "grant", None)
            if grant is None:
                verdict = real.authenticate(call)
                once.grant = call.grant  # type: ignore[attr-defined]
                return verdict
            call.grant = grant
            return None

        return Without(real, authenticate=authenticate)

    async with running_bed(tmp_path / "s", provider, wrap_steps=once) as bed, opened(bed) as socket:
        bed.gateway.revocations.revoke_job("job-1")
        await turn(socket)


async def test_without_the_wait_for_the_receipt_the_last_event_leaves_before_it(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hasty(_self: Sockets, _socket: Socket, frame: Any) -> None:
        frame.verdict = frame.data

    monkeypatch.setattr(Sockets, "_attest", hasty)
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await turn(socket)
        assert outcomes(bed) == ["complete"]  # that of the handshake


async def test_without_the_judge_of_unasked_events_they_reach_the_agent(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(line: Line) -> None:
        await line.say(CREATED)
        await line.hear()

    monkeypatch.setattr("clawproxy.addons.wire.responses_session.ResponsesSession.may_come", lambda *_: True)
    async with rogue(provider, script) as bad, running_bed(tmp_path / "s", bad) as bed, opened(bed) as socket:
        assert json.loads(await socket.recv())["type"] == "response.created"


async def test_without_the_check_of_the_answer_an_extension_is_agreed_to(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.addons.answer_steps.answer_fault", lambda *_: None)
    change = {"sec_websocket_extensions": "permessage-deflate", "sec_websocket_accept": "bm9uZQ=="}
    async with (
        rogue(provider, _nothing, lambda head: switched(head, **change)) as bad,
        running_bed(tmp_path / "s", bad) as bed,
        opened(bed),
    ):
        assert bed.gateway.sockets.count == 1


async def test_without_the_bounds_of_the_relay_pings_and_fragments_have_none(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = socket_relay.RelayLimits(fragments=10**9, controls_per_s=10**9)
    monkeypatch.setattr(socket_relay.Relay.__init__, "__defaults__", (loose,))

    async def crumbs() -> AsyncIterator[str]:
        for _ in range(5000):
            yield ""
        yield create()

    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await _flood(socket)
        await socket.send(crumbs())
        assert (await until(socket, "response.completed"))[-1]["type"] == "response.completed"


async def test_a_101_without_a_judge_of_its_messages_is_cut(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sockets, "responseheaders", lambda *_: None)
    async with running_bed(tmp_path / "s", provider) as bed:
        with pytest.raises((InvalidStatus, InvalidMessage)):
            async with opened(bed):
                pass
        await bed.settled()
        assert outcomes(bed) == ["fault"]
