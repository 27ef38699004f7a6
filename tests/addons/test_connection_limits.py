"""How many connections there may be, and for how long without a request; what runs out is never the gateway's own."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import connection_limits
from clawproxy.addons.connection_limits import cap_for, raise_file_limit
from mitmproxy import http

from ..waiting import until
from .engine_rig import DONE, EVENT, Client, json_answer, rig, sse

REGULAR = "regular@127.0.0.1:0"


async def is_closed(client: Client, within_s: float = 30.0) -> bool:
    try:
        return await asyncio.wait_for(client.reader.read(1), within_s) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_peer"])
async def test_connections_over_the_cap_are_closed_and_the_others_are_served(tmp_path: Path, limit: str) -> None:
    options: dict[str, Any] = {limit: 3}
    async with rig(tmp_path, json_answer, **options) as r:
        kept = [await r.client() for _ in range(3)]
        await until(lambda: r.master.connection_count == 3)
        assert await is_closed(await r.client())
        for client in kept:
            await client.post()
            assert (await client.whole()).startswith(b"HTTP/1.1 200")
        kept.pop().close()
        await until(lambda: r.master.connection_count == 2)
        another = await r.client()
        await another.post()
        assert (await another.whole()).startswith(b"HTTP/1.1 200")
        for client in [*kept, another]:
            client.close()


async def test_refused_connections_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with rig(tmp_path, json_answer, max_connections=1) as r:
        kept = await r.client()
        await until(lambda: r.master.connection_count == 1)
        for _ in range(20):
            assert await is_closed(await r.client())
        kept.close()
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "max_connections" in told[0].getMessage()


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"])
async def test_connection_without_a_whole_request_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with rig(tmp_path, json_answer, request_timeout_s=0.2) as r:
        client = await r.client()
        client.writer.write(sent)
        assert await is_closed(client)
        await r.settled()
        assert r.master.connection_count == 0


async def test_connection_whose_request_was_refused_is_closed_and_one_that_went_upstream_is_kept(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, json_answer, request_timeout_s=60) as r:
        served = await r.client()
        await served.post()
        await served.whole()

        def refuse(flow: http.HTTPFlow) -> None:
            flow.response = http.Response.make(403, b"no")

        r.gate.bends["request"] = refuse
        refused = await r.client()
        await refused.post()
        assert (await refused.whole()).startswith(b"HTTP/1.1 403")
        r.later(61)
        assert await is_closed(refused)
        assert not await is_closed(served, 0.3)
        await served.post()
        assert (await served.whole()).startswith(b"HTTP/1.1 403")
        served.close()


async def test_running_call_may_take_longer_than_a_request_may(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with rig(tmp_path, sse(EVENT, go, DONE), request_timeout_s=60) as r:
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        r.later(61)
        await asyncio.sleep(0.1)  # timers that are due run
        go.set()
        assert (await client.until(b"0\r\n\r\n")).endswith(DONE + b"\r\n0\r\n\r\n")
        client.close()


async def test_tunnel_without_a_handshake_is_closed(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer, modes=(REGULAR,), handshake_timeout_s=1.0) as r:
        client = await r.client()
        client.writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        client.writer.write(b"\x16\x03\x01\x02")
        assert await is_closed(client)


async def test_tunnel_with_a_handshake_has_time_for_its_request(tmp_path: Path) -> None:
    established = asyncio.Event()

    class Tells:
        def tls_established_client(self, data: Any) -> None:
            established.set()

    async with rig(tmp_path, json_answer, modes=(REGULAR,), addons=(Tells(),), handshake_timeout_s=20.0) as r:
        client = await r.client()
        client.writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        await client.head()
        context = ssl.create_default_context(cafile=r.master.ca_cert_path)
        await client.writer.start_tls(context, server_hostname="api.test")
        await established.wait()  # the client's side is done before the gateway's
        r.later(25)
        await asyncio.sleep(0.1)  # timers that are due run
        await client.post()
        assert (await client.whole()).startswith(b"HTTP/1.1 200")
        client.close()


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def file_limit() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_soft_limit_of_open_files_is_raised(file_limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, file_limit[1]))
    assert raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256


def test_cap_leaves_a_file_for_each_upstream_and_some_for_journals() -> None:
    assert cap_for(2048, files=65536) == 2048
    assert cap_for(2048, files=512) == 512 // 2 - 64
    assert cap_for(2048, files=100) == 8


def test_failed_accepts_are_told_of_once_a_minute_and_other_faults_as_ever() -> None:
    told: list[str] = []
    now = [0.0]
    quiet = connection_limits.QuietAccepts(lambda loop, context: told.append(context["message"]), lambda: now[0])
    loop = asyncio.new_event_loop()
    accept = {"message": "socket.accept() out of system resource", "exception": OSError(24, "x")}
    for _ in range(5):
        quiet(loop, accept)
    assert quiet.told == 1
    now[0] = 61.0
    quiet(loop, accept)
    assert quiet.told == 2
    assert told == []
    quiet(loop, {"message": "another"})
    assert told == ["another"]
    loop.close()
