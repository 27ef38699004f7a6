"""What anybody can send without a token, on real sockets: it costs neither the event loop nor memory."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.http1_guards import head_fault, request_fault
from clawproxy.addons.http_stream import Hold
from h11._receivebuffer import ReceiveBuffer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .engine_rig import DONE, EVENT, Client, DoneTap, json_answer, rig, sse

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: api.test\r\n"
EMPTY_CALL = HEAD + b"Content-Length: 0\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Lag:
    """The longest time for which the event loop did nothing else: of its thread, so that a busy machine is no fault."""

    worst_s: float = 0.0


@asynccontextmanager
async def lag() -> AsyncIterator[Lag]:
    measured = Lag()

    async def tick() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            measured.worst_s, last = max(measured.worst_s, now - last), now

    task = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    gc.disable()  # a collection walks the heap of the whole run of tests
    try:
        yield measured
    finally:
        await asyncio.sleep(0.01)
        task.cancel()
        gc.enable()


async def flood(client: Client, *pieces: bytes) -> int:
    """Send as much of ``pieces`` as the gateway takes; how many bytes that were."""
    sent = 0
    try:
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.wait_for(client.writer.drain(), 2)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    return sent


def buffered(r: Any) -> int:
    """Bytes of clients that wait in HTTP/1 buffers of the gateway."""
    layers = [handler.layer for handler in r.master._proxyserver.connections.values()]
    total = 0
    while layers:
        layer = layers.pop()
        layers += [inner for name in ("layer", "child_layer") if (inner := getattr(layer, name, None)) is not None]
        total += sum(len(inner.buf) for inner in getattr(layer, "connections", {}).values() if hasattr(inner, "buf"))
    return total


# -- heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", EMPTY_CALL], ids=["first", "behind another request"])
@pytest.mark.parametrize("fold", [b" \n", b"\t\n"], ids=["space", "tab"])
async def test_folded_head_does_not_block_the_loop(tmp_path: Path, start: bytes, fold: bytes) -> None:
    async with rig(tmp_path, json_answer) as r, lag() as measured:
        client = await r.client()
        await flood(client, start + b"POST / HTTP/1.1\r\na: b\r\n" + fold * 150_000 + b"\r\n\r\n")
        await client.rest()
    assert measured.worst_s < 0.5


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"x-a: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"x-a: 1\r\n\t2\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"x-a: 1\n 2\nContent-Length: 0\n\n",
        b" " + EMPTY_CALL,
        HEAD.replace(b"\r\n", b"\r\n ", 1) + b"Content-Length: 0\r\n\r\n",
    ],
    ids=["space", "tab", "bare LF", "first line", "second line"],
)
async def test_head_with_a_folded_line_is_400(tmp_path: Path, head: bytes) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(head)
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        assert r.upstream.connections == 0


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["no end", "whole"])
async def test_head_over_the_cap_is_431_whether_it_is_whole_or_not(tmp_path: Path, end: bytes) -> None:
    async with rig(tmp_path, json_answer, max_head_bytes=4096) as r:
        client = await r.client()
        client.writer.write(HEAD + b"x-a: " + b"y" * 5000 + end)
        assert (await client.rest()).startswith(b"HTTP/1.1 431")
        assert r.upstream.connections == 0


async def test_head_below_the_cap_may_have_a_body_far_above_it(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer, max_head_bytes=4096) as r:
        client = await r.client()
        for _ in range(2):
            await client.post(b"\n " * 100_000, extra="x-a: " + "y" * 3000 + "\r\n")
            assert (await client.whole()).startswith(b"HTTP/1.1 200")
        client.close()


@pytest.mark.parametrize("answer", [b"x-a: " + b"y" * 100_000, b"a: b\r\n" + b" \n" * 100_000], ids=["long", "folded"])
async def test_provider_with_a_hostile_head_is_502_and_does_not_block_the_loop(tmp_path: Path, answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + answer + b"\r\ncontent-length: 0\r\n\r\n")

    async with rig(tmp_path, script) as r, lag() as measured:
        client = await r.client()
        await client.post()
        assert (await client.rest()).startswith(b"HTTP/1.1 502")
    assert measured.worst_s < 0.3


@settings(max_examples=150, deadline=None)
@example(b"\raaaaaaaa\r\na\r\n\r\n")
@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b" ", b"\t", b":"]), max_size=24).map(b"".join))
def test_no_head_that_would_be_read_has_a_folded_line_or_is_over_the_cap(received: bytes) -> None:
    buf = ReceiveBuffer()
    buf += received
    lines = buf.maybe_extract_lines()
    before = len(received) - len(received.lstrip(b"\r\n"))  # line ends before a head have a bound of their own
    if head_fault(received, 12) is None:
        assert len(received) - len(buf) <= before + 12 + len(b"\n\r\n") if lines else True
        assert not [line for line in lines or [] if line.startswith((b" ", b"\t"))]


@pytest.mark.parametrize(
    "head",
    [
        b"POST  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST\t/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1 \r\nhost: a\r\n\r\n",
        b"POST / x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\n\n",
        b"POST / HTTP/1.1\r\nhost: a\r\n\nsmuggled: b\r\n\r\n",
    ],
)
def test_a_head_that_another_server_could_read_otherwise_is_refused(head: bytes) -> None:
    assert request_fault(head) is not None


def test_a_head_as_http_has_it_passes_and_a_part_of_it_waits() -> None:
    head = b"POST /v1/x?y=z HTTP/1.1\r\nhost: a\r\nx: y z\r\n\r\nbody\n\n"
    assert [request_fault(head[:n]) for n in range(len(head) + 1)] == [None] * (len(head) + 1)


async def test_bytes_behind_a_running_call_are_bounded(tmp_path: Path) -> None:
    async with rig(tmp_path, sse(EVENT, asyncio.Event(), DONE)) as r:
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        await flood(client, *[b"x" * 65536] * 64)
        assert buffered(r) < 256 * 1024
        await r.settled()
        assert r.gate.errors
        assert r.gate.errors[0].startswith("Client disconnected")


async def test_small_requests_behind_a_running_call_wait_for_their_turn(tmp_path: Path) -> None:
    async with rig(tmp_path, sse(EVENT, 0.1, DONE)) as r:
        client = await r.client()
        for _ in range(4):
            await client.post(b"x" * 10_000)
        for _ in range(4):
            assert (await client.chunked()).endswith(DONE + b"\r\n0\r\n\r\n")
        client.close()


# -- chunked bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"1;", b"0\r\n", b"2"], ids=["extension", "trailers", "size"])
async def test_chunk_line_or_trailers_without_end_are_refused_and_not_gathered(tmp_path: Path, start: bytes) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        assert await flood(client, CHUNKED + start, *[b"2" * 65536] * 128) < 8 << 20
        assert buffered(r) < 256 * 1024
        await r.settled()
        assert len(r.gate.errors) == 1
        assert r.upstream.connections == 0


async def test_refused_chunk_line_is_a_400(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(CHUNKED + b"1;" + b"a" * 5000)
        assert (await client.rest()).startswith(b"HTTP/1.1 400")


async def test_spaces_in_a_chunk_line_do_not_block_the_loop(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r, lag() as measured:
        client = await r.client()
        await flood(client, CHUNKED, b"1;" + b" " * 60_000, b"\nx\r\n")
        await client.rest()
    assert measured.worst_s < 0.3


async def test_request_in_tiny_chunks_is_refused_before_it_costs_time(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        started = time.process_time()
        await flood(client, CHUNKED, *[b"1\r\na\r\n" * 10_000] * 20)
        assert (await client.rest()).startswith(b"HTTP/1.1 400") or r.gate.errors
        assert time.process_time() - started < 0.5
        await r.settled()
        assert len(r.gate.errors) == 1
        assert r.upstream.connections == 0


async def test_provider_whose_chunk_line_never_ends_is_cut(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1;")
        for _ in range(128):
            writer.write(b"a" * 65536)
            await writer.drain()

    async with rig(tmp_path, script) as r:
        client = await r.client()
        await client.post()
        await client.rest()
        assert len(r.gate.errors) == 1
        await asyncio.wait_for(r.upstream.lost.wait(), 30)


async def test_chunks_of_one_read_reach_the_tap_as_one_piece(tmp_path: Path) -> None:
    pieces: list[bytes] = []

    class Counting(DoneTap):
        def feed(self, data: bytes) -> bytes | Hold:
            pieces.append(data)
            return super().feed(data)

    async with rig(tmp_path, sse(*[EVENT] * 200, DONE)) as r:
        r.gate.tap = Counting
        client = await r.client()
        await client.post()
        assert (await client.chunked()).count(EVENT) == 200
        client.close()
    assert b"".join(pieces) == EVENT * 200 + DONE
    assert len(pieces) < 50
