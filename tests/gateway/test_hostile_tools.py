"""Servers of tools that mean harm, and agents that work with them."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons import http1_guards
from clawproxy.addons.dial import Resolver
from clawproxy.tokens.reasons import Refusal

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, running_bed
from .test_egress import SECRET, _call, _inside, egress_bed

_ECHOES = {
    "a line without a colon": b"HTTP/1.1 200 OK\r\nx-echo " + SECRET.encode() + b"\r\ncontent-length: 0\r\n\r\n",
    "a first line that is none": b"HTTP/1.1 " + SECRET.encode() + b" OK\r\ncontent-length: 0\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: " + SECRET.encode() + b"\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: " + SECRET.encode() + b"\r\n\r\n",
    "a name that is none": b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b" x: 1\r\ncontent-length: 0\r\n\r\n",
    "no HTTP": SECRET.encode() + b"\r\n",
    "a version that is none": SECRET.encode() + b" 200 OK\r\n\r\n",
    "a chunk size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
}


@pytest.mark.parametrize("echo", _ECHOES.values(), ids=_ECHOES.keys())
async def test_an_answer_that_is_no_http_tells_nobody_what_was_in_it(
    tmp_path: Path, provider: Provider, echo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        tool.answers = {"/v1/a": [echo, b"CLOSE"]}
        answer = await _call(bed, tool)
        await bed.settled()
        [effect] = bed.records("effect")
        assert effect["outcome"] == "upstream_failed"
        told = [answer.body, repr(answer.headers).encode(), caplog.text.encode()]
        told.append((bed.state / "jobs" / "job-1" / "receipts.jsonl").read_bytes())
        for n, text in enumerate(told):
            assert SECRET.encode() not in text, n


@pytest.mark.parametrize("words", [b"client disconnected", b"killed", b"cut by the gateway: "])
async def test_a_server_cannot_choose_the_outcome_by_what_it_sends(
    tmp_path: Path, provider: Provider, words: bytes
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/a": [words + b" 200 OK\r\n\r\n", b"CLOSE"]}
        assert (await _call(bed, tool)).status == 502
        await bed.settled()
        assert [effect["outcome"] for effect in bed.records("effect")] == ["upstream_failed"]


async def test_without_the_guard_of_errors_an_echo_would_reach_the_agent_and_the_record(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1_guards, "_QUOTING", ("nothing",))
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        tool.answers = {"/v1/a": [_ECHOES["a line without a colon"], b"CLOSE"]}
        assert SECRET.encode() in (await _call(bed, tool)).body
        await bed.settled()
        assert SECRET.encode() in (bed.state / "jobs" / "job-1" / "receipts.jsonl").read_bytes()


async def test_names_that_no_server_answers_for_hold_up_nothing_else(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent whose contract has a pattern chooses the names, and who owns the domain how long a look-up takes."""
    over, real = threading.Event(), socket.getaddrinfo

    def slow(host: Any, *args: Any, **more: Any) -> Any:
        if str(host).endswith(".slow.example"):
            over.wait(30)
            raise socket.gaierror
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    contract = {**CONTRACT, "egress_allowlist": [{"host": "*.slow.example", "scheme": "http", "paths": ["/*"]}]}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert (await bed.chat()).status == 200
        tasks = []
        for n in range(100):
            client = await bed.client("regular")
            fields = {"host": f"n{n}.slow.example", "x-cst": bed.token()}
            tasks.append(asyncio.create_task(client.request("GET", f"http://n{n}.slow.example/", fields)))
        await asyncio.sleep(1)
        try:
            async with asyncio.timeout(20):  # a look-up takes thirty seconds
                assert (await bed.chat(token=bed.token("job-2"))).status == 200
        finally:
            answers = await asyncio.gather(*tasks)
            over.set()
        assert {answer.status for answer in answers} <= {502, 503}


async def test_look_ups_that_wait_are_bounded() -> None:
    never = asyncio.Event()

    async def hang(_host: str, _port: int) -> list[str]:
        await never.wait()
        return []

    resolver = Resolver(resolve=hang)
    asked = [asyncio.create_task(resolver.look_up((f"n{n}.example", 443))) for n in range(64)]
    await asyncio.sleep(0)
    refused = await resolver.look_up(("n64.example", 443))
    assert isinstance(refused, Refusal)
    assert refused.detail == "too many look-ups wait"
    never.set()
    assert all(isinstance(answer, Refusal) for answer in await asyncio.gather(*asked))


async def test_a_bare_cr_begins_no_field_of_an_answer(tmp_path: Path, provider: Provider) -> None:
    """Python's http.client begins a new field there, so a server could forge the marks of the gateway."""
    forged = (
        b"HTTP/1.1 200 OK\r\nx-a: b\rx-clawproxy-receipt-id: rcpt_forged\rset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
    )
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/plain": [forged]}
        address = urlsplit(bed.gateway.addresses["regular"])
        host = f"localhost:{tool.plain_port}"
        fields = {"x-cst": bed.token(), "host": host}

        def ask() -> list[tuple[str, str]]:
            client = http.client.HTTPConnection(str(address.hostname), address.port)
            client.request("GET", f"http://{host}/plain", headers=fields)
            return client.getresponse().getheaders()

        told = await asyncio.to_thread(ask)
        [effect] = bed.records("effect")
        assert [value for name, value in told if name.lower() == "x-clawproxy-receipt-id"] == [
            effect["side_effect"]["receipt_id"]
        ]
        assert "set-cookie" not in {name.lower() for name, _ in told}


async def test_a_credential_of_the_agents_own_is_dropped_in_either_spelling(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        client = await _inside(bed, tool)
        names = ("X_Api_Key", "proxy_authorization", "api_key", "transfer_encoding", "x_clawproxy_job", "x_kept")
        fields = {"host": f"localhost:{tool.port}", **dict.fromkeys(names, "own")}
        assert (await client.request("GET", "/v1/a", fields)).status == 200
        assert [name for name in names if tool.header(name.lower())] == ["x_kept"]


@pytest.mark.parametrize(("credential", "kept"), [("crm", False), (None, True)])
async def test_where_a_credential_is_added_nobody_asks_for_a_part_of_an_answer(
    tmp_path: Path, provider: Provider, credential: str | None, kept: bool
) -> None:
    more: dict[str, Any] = {"credential": credential} if credential else {}
    async with egress_bed(tmp_path, provider, **more) as (bed, tool):
        client = await _inside(bed, tool)
        fields = {"host": f"localhost:{tool.port}", "range": "bytes=0-9", "if-range": '"x"'}
        assert (await client.request("GET", "/v1/a", fields)).status == 200
        assert [bool(tool.header(name)) for name in ("range", "if-range")] == [kept, kept]


async def test_an_interim_answer_is_the_servers_fault_and_not_the_gateways(tmp_path: Path, provider: Provider) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/a": [early]}
        assert not (await _call(bed, tool)).complete
        await bed.settled()
        assert [effect["outcome"] for effect in bed.records("effect")] == ["upstream_failed"]
