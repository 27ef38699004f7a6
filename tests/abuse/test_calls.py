"""Calls of tools in answers (tests/abuse/d_calls.json), which the stand-in makes on every transport and format.

Not one byte of a call that the contract does not allow may reach the agent, whole answer or stream, and the receipt
tells of it. ``SECRET`` stands in the arguments of each; streams have them in pieces, so names are looked for as well.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import tool_gate
from clawproxy.policies.call_rules import CallAllowed
from websockets.exceptions import ConnectionClosed

from ..clawproxy.standin_process import Provider
from ..gateway.bed import Bed, running_bed
from ..gateway.gated_wires import GATED, SECRET, WIRES
from ..gateway.test_websocket import opened
from .bodies import ANY, BASES
from .cases import HERE, CorpusError
from .world import HOSTS, MODELS, PROVIDERS, REGION

CASES: list[dict[str, Any]] = json.loads((HERE / "d_calls.json").read_text())
TRANSPORTS = ("reverse", "bare", "compat", "connect", "websocket", "websocket_connect")
_KEYS = frozenset({"id", "class", "title", "source", "says", "reasons", "formats", "streams", "refuse", "may_call"})
_NO_CALLS = ("openai_embeddings",)
_NAME = re.compile(r"tool:(\w+)")
SCHEMA = {"properties": {"query": {"type": "string", "pattern": "^stand-in$"}}, "additionalProperties": False}
CONTRACT: dict[str, Any] = {
    **GATED,
    "allowed_providers": list(PROVIDERS),
    "allowed_models": ["gpt-4o-mini", "claude-sonnet-5-5", *MODELS.values()],
    "tool_arguments": {**GATED["tool_arguments"], "ticket.read": {"schema": SCHEMA}},
}
_STREAMED = {
    ":generateContent": ":streamGenerateContent?alt=sse",
    "/invoke": "/invoke-with-response-stream",
    "/converse": "/converse-stream",
}


def sections(provider: Provider) -> dict[str, Any]:
    """Of the configuration: every provider is the stand-in."""
    providers: dict[str, Any] = {
        name: {
            "upstream": provider.url,
            "credential": f"file:{provider.key_files[name]}" if name in provider.key_files else "none",
            **({"hosts": [HOSTS[name]]} if name in HOSTS else {}),
        }
        for name in PROVIDERS
    }
    providers["bedrock"]["region"] = REGION
    return {"providers": providers}


async def answered(bed: Bed, transport: str, wire: str, says: str, stream: bool) -> bytes:
    """All that the agent gets, the head of an answer included."""
    base = BASES[wire].on(transport)
    document = json.dumps(base.body).replace('"hello"', json.dumps(says))
    if transport in ("websocket", "websocket_connect"):
        return await heard(bed, "connect" if transport == "websocket_connect" else "reverse", document)
    body, path = json.loads(document), base.target(transport)
    if "stream" in body:
        body["stream"] = stream
    elif stream:
        for whole, streamed in _STREAMED.items():
            path = path.removesuffix(whole) + streamed if path.endswith(whole) else path
    client = await (bed.tunnel(base.host) if transport == "connect" else bed.client())
    more = {"anthropic_version": "2023-06-01"} if base.provider == "anthropic" else {}
    host = base.host if transport == "connect" else "gateway"
    answer = await client.request("POST", path, bed.headers(host=host, **more), json.dumps(body).encode())
    await client.close()
    assert answer.status in (0, 200, 403, 502), answer.body
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    return head.encode() + answer.body


async def heard(bed: Bed, way: str, message: str) -> bytes:
    """What is said on a socket until it is closed, or its response has ended."""
    told: list[str] = []
    async with opened(bed, way=way) as socket:
        await socket.send(message)
        with contextlib.suppress(ConnectionClosed):
            while not told or json.loads(told[-1])["type"] != "response.completed":
                told.append(str(await socket.recv()))
    return "\n".join(told).encode()


def has_name(said: bytes, name: str) -> bool:
    """Whether a call of this tool stands there, beside the list of calls in a receipt."""
    return re.search(rb':\s*"' + re.escape(name.encode()) + rb'"', said.partition(b"_receipt")[0]) is not None


def combinations(case: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Transport, format and form of each execution."""
    if unknown := case.keys() - _KEYS:
        raise CorpusError(f"{case['id']}: unknown keys {sorted(unknown)}")
    found = []
    for wire in case.get("formats", ANY):
        if wire in _NO_CALLS:
            continue
        for transport in TRANSPORTS:
            if BASES[wire].serves(transport):
                forms = [True] if transport.startswith("websocket") else case.get("streams", [True, False])
                found += [(transport, wire, stream) for stream in forms]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_nothing_of_a_call_that_is_not_allowed_arrives(
    tmp_path: Path, provider: Provider, case: dict[str, Any]
) -> None:
    contract = {**CONTRACT, "on_denied_call": "refuse"} if case.get("refuse") else CONTRACT
    async with running_bed(
        tmp_path / "s", provider, contract=contract, sections=sections(provider), max_calls_per_minute_per_job=60_000
    ) as bed:
        for transport, wire, stream in combinations(case):
            said = WIRES["invoke"].text(await answered(bed, transport, wire, case["says"], stream))
            await bed.settled()
            told = bed.records("receipt")[-1]["metadata"]["clawproxy"]
            seen = (transport, wire, stream, told, said)
            assert SECRET not in said, seen
            for name in {"Bash"} if case.get("may_call") else _NAME.findall(case["says"]):
                assert not has_name(said, name), seen
            if told["outcome"] != "call_refused":
                assert (told["outcome"] == "complete") is bool(case["reasons"]), seen
            if told["outcome"] == "complete":
                assert case.get("refuse"), seen
                assert "delivered_hash_b64u" in told, seen
            if case["reasons"]:
                assert any(reason.encode() in said for reason in case["reasons"]), seen
                assert "denied" in [called["outcome"] for called in told["called"]], seen
            if not case.get("may_call"):
                assert "allowed" not in [called["outcome"] for called in told.get("called", [])], seen


@pytest.mark.parametrize("transport", ["reverse", "compat", "connect", "websocket"])
async def test_without_the_verdict_a_case_goes_red(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setattr(tool_gate, "decide_call", lambda *facts: CallAllowed("nobody looked"))
    async with running_bed(tmp_path / "s", provider, contract=CONTRACT, sections=sections(provider)) as bed:
        wire = "openai_responses" if transport == "websocket" else "openai_chat"
        assert has_name(await answered(bed, transport, wire, CASES[0]["says"], True), "Bash")
        if not transport.startswith("websocket"):
            assert SECRET in await answered(bed, transport, wire, CASES[0]["says"], False)


def test_the_cases_cover_every_transport_and_format_and_are_many() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 30
    found = [each for case in CASES for each in combinations(case)]
    assert {transport for transport, _, _ in found} == set(TRANSPORTS)
    assert {wire for _, wire, _ in found} == set(ANY) - set(_NO_CALLS)
    assert len(found) >= 900
