"""The seam on real sockets: what the sans-io tests cannot show, that connections really break and are reused."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from .engine_rig import DONE, EVENT, SSE_HEAD, DoneTap, chunk, json_answer, rig, sse


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """Sends a head and one event, then nothing."""
    writer.write(SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk(EVENT))
    await reader.read(1)
    raise ConnectionResetError


@pytest.mark.parametrize("framing", ["chunked", "length", "eof"])
async def test_stream_arrives_whole_and_reframed_whatever_the_upstream_framing(tmp_path: Path, framing: str) -> None:
    async with rig(tmp_path, sse(EVENT, 0.01, EVENT, DONE, framing=framing)) as r:
        client = await r.client()
        for _ in range(20):
            await client.post()
            answer = await client.chunked()
            assert b"content-length" not in answer
            assert answer.count(EVENT) == 2
            assert answer.endswith(DONE + b"\r\n0\r\n\r\n")
        client.close()
        await r.settled()
        assert r.gate.ends() == ["response"] * 20
        assert r.upstream.connections == (20 if framing == "eof" else 1)
        assert r.gate.faults == []


async def test_first_event_does_not_wait_for_the_end(tmp_path: Path) -> None:
    seen = asyncio.Event()
    async with rig(tmp_path, sse(EVENT, seen, DONE)) as r:
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        seen.set()
        await client.until(b"0\r\n\r\n")
        client.close()


@pytest.mark.parametrize("script", [sse(EVENT, close=True), sse(EVENT, framing="short", close=True)])
async def test_upstream_that_dies_in_the_middle_never_looks_like_an_end(tmp_path: Path, script: Any) -> None:
    async with rig(tmp_path, script) as r:
        client = await r.client()
        await client.post()
        answer = await client.rest()
        assert EVENT in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert len(r.gate.errors) == 1


async def test_eof_framed_stream_that_ends_without_terminal_event_is_cut_when_it_is_not_released(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, sse(EVENT, framing="eof")) as r:
        r.gate.bends["seam_hold"] = lambda hold: None
        client = await r.client()
        await client.post()
        answer = await client.rest()
        assert EVENT in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert r.gate.errors == ["cut by the gateway: not released"]


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_client_that_leaves_is_one_error_and_the_upstream_is_told(tmp_path: Path, how: str) -> None:
    async with rig(tmp_path, _silent) as r:
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        if how == "rst":
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        client.close()
        await asyncio.wait_for(r.upstream.lost.wait(), 30)
        await r.settled()
        assert r.gate.errors == ["Client disconnected."]
        assert r.gate.watches[0].over.is_set()


async def test_client_that_leaves_while_a_part_is_held_is_noticed_at_once(tmp_path: Path) -> None:
    """The best of up to five rounds counts, since others share these cores."""
    rounds: list[float] = []
    async with rig(tmp_path, sse(EVENT, b"PART", 20.0, DONE), end_deadline_s=20.0) as r:

        async def wait(hold: Any) -> None:
            await hold.gone.wait()

        r.gate.bends["seam_hold"] = wait
        while len(rounds) < 5 and min(rounds, default=1.0) >= 0.5:
            client = await r.client()
            await client.post()
            await client.until(EVENT)
            started = time.perf_counter()
            client.close()
            await r.settled()
            rounds.append(time.perf_counter() - started)
            assert r.gate.errors == ["Client disconnected."] * len(rounds)
    assert min(rounds) < 0.5


@pytest.mark.parametrize("state", ["idle", "held", "attesting"])
async def test_stop_cuts_within_milliseconds(tmp_path: Path, state: str) -> None:
    """The best of up to five rounds counts, since others share these cores."""
    script = {"idle": _silent, "held": sse(EVENT, b"PART", 20.0), "attesting": sse(EVENT, DONE)}[state]
    rounds: list[float] = []
    async with rig(tmp_path, script, end_deadline_s=20.0) as r:
        if state != "idle":

            async def wait(hold: Any) -> None:
                await hold.gone.wait()

            r.gate.bends["seam_hold"] = wait
        while len(rounds) < 5 and min(rounds, default=1.0) >= 0.25:
            client = await r.client()
            await client.post()
            await client.until(EVENT)
            await asyncio.sleep(0.05)
            started = time.perf_counter()
            r.gate.watches[-1].stop = "test"
            r.gate.watches[-1].over.set()
            answer = await client.rest()
            rounds.append(time.perf_counter() - started)
            assert b"[DONE]" not in answer
            assert not answer.endswith(b"0\r\n\r\n")
            assert r.gate.errors == ["cut by the gateway: stopped"] * len(rounds)
    assert min(rounds) < 0.25


async def test_held_part_makes_the_provider_wait_instead_of_our_memory(tmp_path: Path) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(chunk(b"PART"))
        for _ in range(320):
            writer.write(chunk(b"x" * 65536))
            await writer.drain()
            sent += 65536
        writer.write(chunk(DONE) + b"0\r\n\r\n")

    release = asyncio.Event()
    taps: list[DoneTap] = []

    async def wait(hold: Any) -> None:
        await release.wait()
        hold.verdict = hold.held

    def tap(flow: Any) -> DoneTap:
        taps.append(DoneTap(flow))
        return taps[-1]

    async with rig(tmp_path, flood) as r:
        r.gate.bends["seam_hold"] = wait
        r.gate.tap = tap
        client = await r.client()
        await client.post()
        await client.head()
        stalled, quiet = -1, 0
        while quiet < 2:  # kernel buffers fill, then the provider waits
            await asyncio.sleep(0.4)
            stalled, quiet = sent, quiet + 1 if sent == stalled else 0
            assert sent < 12 * 1024 * 1024
        release.set()
        total = 0
        while (size := int(await client.until(b"\r\n"), 16)) != 0:
            total += len(await client.reader.readexactly(size + 2)) - 2
        assert total == 4 + 320 * 65536 + len(DONE)
        client.close()


async def test_http_1_0_client_gets_a_length_and_a_cut_sends_it_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, sse(EVENT, DONE)) as r:
        client = await r.client()
        await client.post(version="1.0")
        answer = await client.rest()
        assert b"content-length: %d" % len(EVENT + DONE) in answer
        assert answer.endswith(EVENT + DONE)
        r.gate.bends["seam_hold"] = lambda hold: None
        client = await r.client()
        await client.post(version="1.0")
        assert await client.rest() == b""


async def test_request_body_over_the_limit_is_413_and_nothing_goes_upstream(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer, max_body_bytes=1000) as r:
        client = await r.client()
        await client.post(b"x" * 1001)
        assert (await client.rest()).startswith(b"HTTP/1.1 413")
        client = await r.client()
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 1001))
        assert (await client.rest()).startswith(b"HTTP/1.1 413")
        assert r.upstream.connections == 0
        assert len(r.gate.errors) == 2


async def test_long_stream_is_not_subject_to_the_request_limit(tmp_path: Path) -> None:
    async with rig(tmp_path, sse(*[EVENT * 100] * 20, DONE), max_body_bytes=1000) as r:
        client = await r.client()
        await client.post()
        assert (await client.chunked()).count(EVENT) == 2000
        client.close()


@pytest.mark.parametrize(
    "smuggle",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
    ],
)
async def test_conflicting_lengths_are_refused_before_the_upstream(tmp_path: Path, smuggle: str) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(f"POST / HTTP/1.1\r\nHost: x\r\n{smuggle}\r\n\r\n".encode() + b"0\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        assert r.upstream.connections == 0


async def test_trailers_of_a_request_do_not_hang(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: y\r\n\r\n"
        )
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        await r.settled()
        assert r.gate.errors == ["HTTP/1: trailers are not accepted"]
        assert r.upstream.connections == 0


async def test_answer_written_while_the_disk_is_slow_comes_after_it(tmp_path: Path) -> None:
    async def slow(hold: Any) -> None:
        await asyncio.sleep(0.25)
        hold.verdict = hold.held

    async with rig(tmp_path, json_answer) as r:
        r.gate.bends["seam_hold"] = slow
        client = await r.client()
        started = time.perf_counter()
        await client.post()
        await client.whole()
        assert time.perf_counter() - started >= 0.25
        client.close()


async def test_answer_in_another_transfer_coding_is_not_passed_on(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: gzip, chunked\r\n\r\n")
        writer.write(chunk(DONE) + b"0\r\n\r\n")

    async with rig(tmp_path, script) as r:
        client = await r.client()
        await client.post()
        assert (await client.rest()).startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("script", [json_answer, sse(EVENT, DONE)], ids=["whole", "stream"])
async def test_connection_is_closed_after_the_answer_if_the_client_asks_for_it(tmp_path: Path, script: Any) -> None:
    def rebuild(flow: Any) -> None:
        flow.request.headers.pop("connection", None)

    async with rig(tmp_path, script) as r:
        r.gate.bends["request"] = rebuild
        client = await r.client()
        await client.post()
        assert b"connection: close" not in (await client.head()).lower()
        client.close()
        client = await r.client()
        await client.post(extra="Connection: close\r\n")
        answer = await client.rest()
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert answer.endswith((b'{"ok":true}', DONE + b"\r\n0\r\n\r\n"))
        await r.settled()
        assert r.gate.ends() == ["response"] * 2
