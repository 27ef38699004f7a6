"""Calls through a door: to hosts of tools by name, plain HTTP where the contract says so, sockets, real SDKs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from websockets.asyncio.client import connect

from ..clawproxy.standin_process import Provider
from .bed import running_bed
from .door_rig import DoorRig, open_door
from .test_egress import egress_bed
from .test_websocket import turn


async def test_a_listed_host_is_called_over_tls_as_by_a_tunnel(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool), open_door(bed) as rig:
        client = await rig.tls("localhost", port=tool.port)
        fields = {"host": f"localhost:{tool.port}", "authorization": "Bearer of-the-tool"}
        answer = await client.request("POST", "/v1/a?q=1", fields, b"body")
        assert (answer.status, answer.body) == (200, b"hello")
        assert tool.header("authorization") == []
        refused = await client.request("GET", "/admin", fields)
        assert refused.refusal["reason"] == "EGRESS_NOT_ALLOWED"
        (effect,) = bed.records("effect", "caged")
        assert (effect["host"], effect["port"], effect["way_in"]) == ("localhost", tool.port, "transparent")
        (denial,) = await rig.denials()
        assert denial["destination"] == f"localhost:{tool.port}"
        await bed.gateway.seal("caged")
        assert verify_path(bed.state / "jobs" / "caged", bed.trust()).verdict is Verdict.VERIFIED


async def test_plain_http_goes_out_where_the_contract_says_http_and_is_answered_elsewhere(
    tmp_path: Path, provider: Provider
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool), open_door(bed) as rig:
        client = await rig.open("localhost", tool.plain_port)
        answer = await client.request("GET", "/plain", {"host": f"localhost:{tool.plain_port}"})
        assert (answer.status, answer.body) == (200, b"hello")
        for port, host in ((80, "localhost"), (tool.port, f"localhost:{tool.port}")):
            client = await rig.open("localhost", port)
            answer = await client.request("GET", "/plain", {"host": host})
            assert answer.refusal["reason"] == "EGRESS_NOT_ALLOWED", answer.body
        client = await rig.tls("localhost", port=tool.plain_port)
        answer = await client.request("GET", "/plain", {"host": f"localhost:{tool.plain_port}"})
        assert answer.refusal["reason"] == "EGRESS_NOT_ALLOWED"
        client = await rig.open("localhost", tool.plain_port)
        answer = await client.request("GET", "/plain", {"host": "evil.example"})
        assert answer.refusal["reason"] == "DESTINATION_MISMATCH"
        assert tool.connections == 1


async def test_the_name_is_not_looked_up_before_a_call_is_decided(tmp_path: Path, provider: Provider) -> None:
    looked_up: list[str] = []
    async with egress_bed(tmp_path, provider, looked_up=looked_up) as (bed, tool), open_door(bed) as rig:
        client = await rig.tls("localhost", port=tool.port)
        await client.request("GET", "/admin", {"host": f"localhost:{tool.port}"})
        assert looked_up == []
        await client.request("GET", "/v1/a", {"host": f"localhost:{tool.port}"})
        assert looked_up == ["localhost"]


@contextlib.asynccontextmanager
async def _socket(rig: DoorRig) -> Any:
    """A WebSocket to OpenAI, dialled as if by name inside the namespace."""
    found = rig.door.names.addresses("api.openai.com")
    assert found
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    rig.destinations[sock.getsockname()] = (str(found[0]), 443)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, rig.sockets.tcp[0].getsockname())
    trust = ssl.create_default_context(cafile=rig.bed.gateway.ca_file)
    url = "wss://api.openai.com/v1/responses"
    async with connect(
        url, sock=sock, ssl=trust, server_hostname="api.openai.com", compression="deflate", proxy=None
    ) as opened:
        yield opened


async def test_a_session_of_codex_runs_through_a_door_and_verifies(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with open_door(bed) as rig, _socket(rig) as opened:
            first = await turn(opened, "hello")
            await turn(opened, "again", previous_response_id=first["id"])
        await bed.settled()
        assert [i["detail"]["way_in"] for i in bed.records("intent", "caged")] == ["transparent"] * 3
        sealed = await bed.gateway.seal("caged")
        report = verify_path(Path(str(sealed["directory"])), bed.trust())
        assert report.verdict is Verdict.VERIFIED, report


async def test_sealing_cuts_a_stream_that_came_by_a_door(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig, _socket(rig) as opened:
        await turn(opened, "hello")
        await bed.gateway.seal("caged")
        with pytest.raises(Exception, match=r"close|received|no close"):
            await asyncio.wait_for(opened.recv(), 30)
