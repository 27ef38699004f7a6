"""``on_denied_tool: strip`` end to end: what the provider is sent, what is on record, what is refused all the same."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from clawproxy.addons import steps
from clawproxy.addons.strip import strip_tools
from clawproxy.policies.decide import decide
from clawproxy.tokens.digests import sha256_b64u

from ..clawproxy.standin_process import Provider
from .bed import Bed
from .gated_wires import ALLOWED_ARGUMENTS, GATED, WIRES, Wire, function, written
from .raw_client import Answer
from .test_tool_gate import each_form, each_wire, gated, last, sealed
from .test_websocket import opened, refused

STRIPPING = {**GATED, "on_denied_tool": "strip"}
DECLARED = ("Bash", "ticket_read", "launch_rocket")


async def send(bed: Bed, path: str, body: dict[str, Any] | bytes) -> Answer:
    raw = body if isinstance(body, bytes) else written(body)
    answer = await bed.post(path, raw, bed.headers(anthropic_version="2023-06-01"))
    await bed.settled()
    return answer


@each_wire
async def test_the_provider_gets_the_request_without_the_tool_and_the_record_says_so(
    tmp_path: Path, provider: Provider, wire: Wire
) -> None:
    async with gated(tmp_path, provider, STRIPPING) as bed:
        for stream in (True, False):
            answer = await send(bed, wire.path(stream), wire.body("use-a-tool", DECLARED, stream))
            assert answer.status == 200, answer.body
            # the first tool that the provider was told of
            assert [called["name"] for called in last(bed)["called"]] == ["ticket_read"]
            sent = orjson.dumps(wire.body("use-a-tool", ["ticket_read"], stream))
            seen, intent = provider.seen()[-1], bed.records("intent")[-1]
            assert (seen["body_sha256_b64u"], seen["body_bytes"]) == (sha256_b64u(sent), len(sent))
            assert bed.records("receipt")[-1]["request_hash_b64u"] == seen["body_sha256_b64u"]
            assert intent["detail"]["stripped"] == ["Bash", "launch_rocket"]
            assert intent["detail"]["tools"] == ["ticket_read"]
            # all of it
            answer = await send(bed, wire.path(stream), wire.body("use-a-tool", ["Bash"], stream))
            assert answer.status == 200, answer.body
            assert "called" not in last(bed)
            sent = orjson.dumps(wire.body("use-a-tool", [], stream))
            assert provider.seen()[-1]["body_sha256_b64u"] == sha256_b64u(sent)
            # nothing to take out: as it came
            raw = json.dumps(wire.body("tool:ticket_read", ["ticket_read"], stream), indent=1).encode()
            assert (await send(bed, wire.path(stream), raw)).status == 200
            assert provider.seen()[-1]["body_sha256_b64u"] == sha256_b64u(raw)
            assert "stripped" not in bed.records("intent")[-1]["detail"]
        await sealed(bed, STRIPPING)


async def test_what_was_taken_out_and_is_called_all_the_same_does_not_arrive(
    tmp_path: Path, provider: Provider
) -> None:
    wire = WIRES["chat"]
    async with gated(tmp_path, provider, STRIPPING) as bed:
        answer = await send(bed, wire.path(False), wire.body('tool:Bash({"command":"sesame.opens"})', DECLARED, False))
        assert answer.status == 403
        assert not wire.has_call(answer.body)
        await sealed(bed, STRIPPING)


def _with(wire: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return wire, WIRES[wire].body("hello", DECLARED, False) | more


_CALLED = [{"functionDeclarations": [{"name": "Bash"}, {"name": "ticket_read"}]}]
_CHOSEN = {"tools": [{"toolSpec": {"name": "Bash", "inputSchema": {"json": {}}}}], "toolChoice": {"any": {}}}
REFUSED = {
    "chat choice": _with("chat", tool_choice={"type": "function", "function": {"name": "Bash"}}),
    "chat required": _with("chat", tools=[function("Bash")], tool_choice="required"),
    "responses choice": _with("responses", tool_choice={"type": "function", "name": "Bash"}),
    "messages choice": _with("messages", tool_choice={"type": "tool", "name": "Bash"}),
    "converse choice": _with("converse", toolConfig=_CHOSEN),
    "older functions": _with("chat", functions=[{"name": "Bash"}]),
    "tools in input": _with(
        "responses",
        input=[{"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "Bash"}]}],
    ),
    "gemini allowed names": _with(
        "gemini",
        tools=_CALLED,
        toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["Bash"]}},
    ),
    "another member as well": _with("chat", model="gpt-of-nobody"),
    "a text that cannot be written": _with("chat", user="\ud800"),
}


async def test_what_cannot_be_taken_out_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with gated(tmp_path, provider, STRIPPING) as bed:
        before = len(provider.seen())
        for name, (wire, body) in REFUSED.items():
            answer = await send(bed, WIRES[wire].path(False), body)
            assert 400 <= answer.status < 500, (name, answer.status, answer.body)
            assert "x-clawproxy-receipt-id" in answer.headers, name
        assert len(provider.seen()) == before
        assert len(bed.records("denial")) == len(REFUSED)
        await sealed(bed, STRIPPING)


async def test_on_a_socket_a_refused_tool_is_refused(tmp_path: Path, provider: Provider) -> None:
    """What a message declares is known to the provider for all that follows; it is not rewritten."""
    async with gated(tmp_path, provider, STRIPPING) as bed:
        before = len(provider.seen())
        async with opened(bed) as socket:
            tools = [{"type": "function", "name": name, "parameters": {}} for name in DECLARED]
            await socket.send(
                json.dumps({"type": "response.create", "model": "gpt-4o-mini", "input": "x", "tools": tools})
            )
            assert await refused(socket) == ("POLICY_TOOL_DENIED", 1008)
        assert [line for line in provider.seen()[before:] if line.get("ws")] == []


@each_form
async def test_a_stripped_call_is_an_ordinary_one(tmp_path: Path, provider: Provider, stream: bool) -> None:
    """Calls of what is left are judged, and arrive."""
    wire = WIRES["messages"]
    async with gated(tmp_path, provider, STRIPPING) as bed:
        body = wire.body("text-first tool:ticket_read", DECLARED, stream)
        answer = await send(bed, wire.path(stream), body)
        assert (answer.status, wire.has_call(answer.body)) == (200, True)
        digest = last(bed)["called"][0]["arguments_hash_b64u"]
        assert digest == sha256_b64u(orjson.dumps(ALLOWED_ARGUMENTS))


async def test_many_tools_are_judged_in_a_thread_of_their_own(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes about 0.1 ms; a thousand would hold up every other call."""
    threads: list[int] = []

    def told(*asked: Any) -> Any:
        threads.append(threading.get_ident())
        return strip_tools(*asked)

    monkeypatch.setattr(steps, "strip_tools", told)
    async with gated(tmp_path, provider, STRIPPING) as bed:
        for number in (3, 1000):
            body = WIRES["chat"].body("hello", [f"rocket_{n}" for n in range(number)], False)
            assert (await send(bed, WIRES["chat"].path(False), body)).status == 200
            assert bed.records("intent")[-1]["detail"]["stripped_total"] == number
    assert [thread == threading.get_ident() for thread in threads] == [True, False]


async def test_without_the_second_reading_the_refused_tool_would_be_sent(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That what leaves is what was judged: with the body left as it came, the provider calls the tool."""
    monkeypatch.setattr(steps, "write", lambda _: written(WIRES["chat"].body("use-a-tool", ["Bash"], False)))
    async with gated(tmp_path, provider, STRIPPING) as bed:
        before = len(provider.seen())
        answer = await send(bed, WIRES["chat"].path(False), WIRES["chat"].body("use-a-tool", DECLARED, False))
        assert answer.status == 403  # judged again, so it is refused still
        monkeypatch.setattr(steps, "decide", lambda facts, grant, policy: _first(facts, grant, policy))
        answer = await send(bed, WIRES["chat"].path(False), WIRES["chat"].body("use-a-tool", DECLARED, False))
        assert len(provider.seen()) == before + 1


def _first(facts: Any, grant: Any, policy: Any, *, real: Any = decide) -> Any:
    """``decide`` for the request as it came, and nothing for what is left."""
    return real(facts, grant, policy) if len(facts.tools) > 1 else None
