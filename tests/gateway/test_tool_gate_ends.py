"""Where a denied call ends the answer although its contract says ``refuse``, and the gate on every way in: WebSockets,
compatibility routes, tunnels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import tool_gate
from clawproxy.policies.call_rules import CallAllowed
from websockets.exceptions import ConnectionClosed

from ..clawproxy.standin_process import Provider
from .bed import Bed
from .gated_wires import ALLOWED_ARGUMENTS, DENIED, GATED, SECRET, WIRES, Wire, written
from .raw_client import Answer
from .test_tool_gate import REFUSING, TEXT, TOOLS, ask, each_form, gated, last, sealed, sha
from .test_websocket import REALTIME, opened, until

DENY = f"text-first {DENIED['denied'][0]}"
KEPT = {**REFUSING, "allowed_provider_features": ["state:previous_response_id"]}


def ended(wire: Wire, answer: Answer, bed: Bed, stream: bool) -> None:
    """The answer ended with an error, and nothing of the call is in it."""
    text = wire.text(answer.body)
    assert answer.status == (200 if stream else 403), text
    assert not wire.has_call(text), text
    assert b"POLICY_TOOL_DENIED" in text
    told = last(bed)
    assert (told["outcome"], told["delivered_hash_b64u"]) == ("call_refused", sha(answer.body))


# -- refuse that cannot be ---------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("more", [{"store": True}, {"store": None}, {"store": False, "previous_response_id": "resp_1"}])
async def test_where_the_provider_keeps_the_conversation_the_answer_ends(
    tmp_path: Path, provider: Provider, more: dict[str, Any], stream: bool
) -> None:
    wire = WIRES["responses"]
    async with gated(tmp_path, provider, KEPT) as bed:
        body = {name: value for name, value in (wire.body(DENY, TOOLS, stream) | more).items() if value is not None}
        answer = await bed.post(wire.path(stream), written(body), bed.headers())
        await bed.settled()
        ended(wire, answer, bed, stream)
        assert (await ask(bed, wire, DENY, stream)).status == 200
        assert last(bed)["outcome"] == "complete"  # the same question, with the history its own
        await sealed(bed, KEPT)


@each_form
@pytest.mark.parametrize("name", ["messages", "invoke", "converse", "responses"])
async def test_beside_a_signed_thought_nothing_is_replaced(
    tmp_path: Path, provider: Provider, name: str, stream: bool
) -> None:
    wire = WIRES[name]
    async with gated(tmp_path, provider, REFUSING) as bed:
        answer = await ask(bed, wire, f"signed-thought {DENY}", stream)
        ended(wire, answer, bed, stream)
        allowed = await ask(bed, wire, "signed-thought tool:ticket_read", stream)
        assert wire.has_call(allowed.body)
        await sealed(bed, REFUSING)


@each_form
async def test_a_signature_beside_the_call_itself_is_one_as_well(
    tmp_path: Path, provider: Provider, stream: bool
) -> None:
    wire = WIRES["gemini"]
    body = json.loads(written(wire.body(DENY, TOOLS, stream)).replace(b" unsigned", b""))
    async with gated(tmp_path, provider, REFUSING) as bed:
        answer = await bed.post(wire.path(stream), written(body), bed.headers())
        await bed.settled()
        ended(wire, answer, bed, stream)


# -- WebSockets --------------------------------------------------------------------------------------------------------


def create(text: str) -> str:
    declared = [{"type": "function", "name": name, "parameters": {}} for name in TOOLS]
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return json.dumps({"type": "response.create", "model": "gpt-4o-mini", "input": [item], "tools": declared})


async def heard(socket: Any) -> tuple[bytes, int]:
    """All that is said until the socket is closed, and with which code."""
    messages: list[str] = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                messages.append(await socket.recv())
    return "\n".join(messages).encode(), socket.close_code


@pytest.mark.parametrize("contract", [GATED, REFUSING], ids=["error", "refuse"])
@pytest.mark.parametrize("way", ["reverse", "connect"])
async def test_a_denied_call_on_a_socket_closes_it_and_nothing_of_the_call_is_heard(
    tmp_path: Path, provider: Provider, contract: dict[str, Any], way: str
) -> None:
    wire = WIRES["responses"]
    async with gated(tmp_path, provider, contract) as bed:
        for words, reason, rule in DENIED.values():
            async with opened(bed, way=way) as socket:
                await socket.send(create("text-first tool:ticket_read"))
                first = await until(socket, "response.completed")
                calls = [item for item in first[-1]["response"]["output"] if item["type"] == "function_call"]
                assert [json.loads(call["arguments"]) for call in calls] == [ALLOWED_ARGUMENTS]
                await socket.send(create(f"text-first {words}"))
                told, code = await heard(socket)
            assert code == 1008
            assert TEXT in told
            assert SECRET not in told
            assert b'"Bash"' not in told
            if "all-tools" not in words:
                assert not wire.has_call(told), told
            error = json.loads(told.splitlines()[-1])
            assert (error["type"], error["error"]["clawproxy"]["reason"]) == ("error", reason)
            assert rule in error["error"]["clawproxy"]["rule"]
            await bed.settled()
            assert last(bed)["outcome"] == "call_refused"
        await sealed(bed, contract)


async def test_a_denied_call_in_a_realtime_session_closes_it_as_well(tmp_path: Path, provider: Provider) -> None:
    async with gated(tmp_path, provider) as bed:
        async with opened(bed, REALTIME) as socket:
            await until(socket, "session.created")
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": DENY}]}
            await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
            await until(socket, "conversation.item.added")  # which says it again
            await socket.send(json.dumps({"type": "response.create"}))
            told, code = await heard(socket)
        assert code == 1008
        assert TEXT in told
        assert SECRET not in told
        assert b"function_call" not in told
        await bed.settled()
        assert last(bed)["outcome"] == "call_refused"
        assert [called["outcome"] for called in last(bed)["called"]] == ["denied"]
        await sealed(bed, GATED)


async def test_without_the_verdict_a_socket_delivers_the_denied_call(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_gate, "decide_call", lambda *facts: CallAllowed("nobody looked"))
    async with gated(tmp_path, provider) as bed, opened(bed) as socket:
        await socket.send(create(DENY))
        assert SECRET in json.dumps(await until(socket, "response.completed")).encode()


# -- other ways in -----------------------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/proxy/openai"])
async def test_a_compatibility_route_gets_nothing_of_a_denied_call_and_its_digest_is_of_the_body_alone(
    tmp_path: Path, provider: Provider, target: str, stream: bool
) -> None:
    wire = WIRES["chat"]
    for n, contract in enumerate((GATED, REFUSING)):
        async with gated(tmp_path / str(n), provider, contract) as bed:
            answer = await bed.post(target, written(wire.body(DENY, TOOLS, stream)), bed.headers())
            await bed.settled()
            told, said = last(bed), answer.body
            if not stream:  # the receipt has a list of its own
                said = written({name: value for name, value in answer.json.items() if not name.startswith("_receipt")})
            assert not wire.has_call(said), said
            assert b"POLICY_TOOL_DENIED" in said
            assert told["outcome"] == ("complete" if contract is REFUSING else "call_refused")
            delivered = answer.body
            if stream:
                delivered, mark, envelope = answer.body.partition(b":clawproxy_receipt_envelope_b64u=")
                assert mark
                encoded = envelope.split(b"\n")[0]
                receipt = json.loads(base64.urlsafe_b64decode(encoded + b"=="))
                assert receipt["payload"]["metadata"]["clawproxy"]["outcome"] == told["outcome"]
            if stream or contract is GATED:
                assert told["delivered_hash_b64u"] == sha(delivered)
            await sealed(bed, contract)


@each_form
async def test_inside_a_tunnel_the_gate_is_the_same(tmp_path: Path, provider: Provider, stream: bool) -> None:
    wire = WIRES["messages"]
    async with gated(tmp_path, provider) as bed:
        client = await bed.tunnel("api.anthropic.com")
        headers = bed.headers(host="api.anthropic.com", anthropic_version="2023-06-01")
        answer = await client.request("POST", "/v1/messages", headers, written(wire.body(DENY, TOOLS, stream)))
        await bed.settled()
        ended(wire, answer, bed, stream)


async def test_arguments_that_can_be_read_in_two_ways_are_held(tmp_path: Path, provider: Provider) -> None:
    """Twice the same member: a lenient reader takes the last, the contract must not be judged on the other."""
    wire = WIRES["chat"]
    words = 'tool:note_write({"path":"/notes/1","path":"/etc/sesame.opens"})'
    async with gated(tmp_path, provider) as bed:
        for stream in (True, False):
            answer = await ask(bed, wire, f"text-first {words}", stream)
            assert not wire.has_call(answer.body)
            assert b"POLICY_TOOL_ARGUMENTS" in answer.body
