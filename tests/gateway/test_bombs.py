"""Two hundred bombs of every kind leave no memory behind, nor do slow clients or floods of forged tokens; a clean call
is answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.tokens.digests import b64u_encode

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import chat_body
from .bombs import BOMBS, Figures, Line, Target, _head, rogue, run_bombs, settled_bytes, target, throw

GROWTH_MB = 5.0
IDLE_TUNNELS = 500
REFUSED = {
    "400", "413", "431", "closed", "left", "CONTENT_TYPE_REFUSED", "REQUEST_AMBIGUOUS", "REQUEST_TOO_LARGE",
    "UPSTREAM_FAILED",
}  # fmt: skip
ANSWERED = {
    "JSON, a string of 12 MB",  # below the cap of a body: a large call is no attack
    "WebSocket frame of 2^62 bytes",  # its handshake is answered
    "answer: json-deep",  # the agent's own parser sees it; ours reads nothing of it
    "answer: sse-endless-event",  # its head is answered, then it is cut
    "sent behind a running call",  # the call itself
}


@contextlib.asynccontextmanager
async def _target(folder: Path, provider: Provider, **gateway: Any) -> AsyncIterator[Target]:
    async with rogue() as url, target(folder, provider, url, **gateway) as at:
        yield at


def _third_slowest(told: list[float]) -> float:
    """A machine that stands still for a moment holds up a call or two."""
    return sorted(told)[-3:][0]


@pytest.mark.slow
async def test_memory_stays_flat_over_two_hundred_bombs(tmp_path: Path, provider: Provider) -> None:
    async with _target(tmp_path, provider) as at:
        figures: Figures = await run_bombs(at, warm_up=50, count=200)
    print("\n".join(figures.lines()))
    assert set(figures.outcomes) == set(BOMBS)
    assert abs(figures.growth_mb) <= GROWTH_MB
    assert figures.files_after <= figures.files_before + 2
    assert len(figures.clean_s) > 20
    assert figures.held_up_s < 3.0
    assert max(figures.clean_s) < 15.0
    for name, outcomes in figures.outcomes.items():
        assert "silent" not in outcomes, name
        assert name in ANSWERED or set(outcomes) <= REFUSED, (name, outcomes)


@pytest.mark.slow
async def test_large_calls_at_once_leave_no_memory_behind(tmp_path: Path, provider: Provider) -> None:
    """What small calls leave meanwhile would keep the heap from shrinking, with all that the large ones had in it."""

    async def small_calls() -> None:
        while True:
            await at.clean_call()
            await asyncio.sleep(0.02)

    async with _target(tmp_path, provider) as at:
        await at.clean_call()
        before, growth_mb = await settled_bytes(at), []
        for at_once in (1, 2, 3):
            meanwhile = [asyncio.create_task(small_calls()) for _ in range(3)]
            await asyncio.gather(*(throw(at, "JSON, a string of 12 MB") for _ in range(at_once)))
            for task in meanwhile:
                task.cancel()
            await asyncio.gather(*meanwhile, return_exceptions=True)
            growth_mb.append((await settled_bytes(at) - before) / 1e6)
    print("memory after 1, 2, 3 large calls at once:", " ".join(f"{grown:+.1f} MB" for grown in growth_mb))
    assert max(growth_mb) <= GROWTH_MB


@pytest.mark.slow
async def test_slow_clients_are_cut_and_others_are_answered(tmp_path: Path, provider: Provider) -> None:
    async with _target(tmp_path, provider, request_timeout_s=3.0, max_connections_per_peer=2000) as at:
        await at.clean_call()
        before = at.open_files()
        lines: list[Line] = []
        body = chat_body("events:2000", stream=True)
        for n in range(60):
            line = await at.connect()
            lines.append(line)
            if n % 3 == 0:
                await line.send(_head(at))  # a head that never ends
            elif n % 3 == 1:
                await line.send(_head(at, content_length="1000") + b"\r\n{")  # a body of one byte
            else:  # a reader that never reads
                await line.send(_head(at, content_length=str(len(body))) + b"\r\n" + body)
        for n in range(IDLE_TUNNELS):
            line = await at.connect("regular")
            lines.append(line)
            if n % 2:
                await line.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
        told = [await at.clean_call() for _ in range(20)]
        print(
            f"{len(lines)} slow clients: clean calls median {sorted(told)[10] * 1e3:.0f} ms,"
            f" {at.rss_bytes() / 1e6:.0f} MB"
        )
        assert _third_slowest(told) < 3.0
        for n, line in enumerate(lines[:60]):
            if n % 3 != 2:
                assert await line.outcome(60) == "closed"
        for line in lines[60:]:  # a tunnel has the time for a handshake, and 200 stands in front of its end
            with contextlib.suppress(ConnectionError):  # a reset is an end as well
                async with asyncio.timeout(60):
                    while await line.reader.read(4096):
                        pass
        for line in lines:
            line.close()
        await until(lambda: at.open_files() <= before + 4)
        await at.clean_call()


async def _forged(at: Target, count: int) -> None:
    """Calls with the claims of a good token under random signatures, one after the other."""
    start, body = at.bomber.rpartition(".")[0], chat_body()
    line = await at.connect()
    for _ in range(count):
        token = f"{start}.{b64u_encode(os.urandom(64))}"
        head = _head(at, content_length=str(len(body))).replace(at.bomber.encode(), token.encode())
        await line.send(head + b"\r\n" + body)
        told = (await line.reader.readuntil(b"\r\n\r\n")).lower()
        assert b"token_signature_invalid" in told
        await line.reader.readexactly(int(told.split(b"content-length:")[1].split(b"\r\n")[0]))
    line.close()


@pytest.mark.slow
async def test_ten_thousand_forged_tokens_cost_little_and_leave_nothing(tmp_path: Path, provider: Provider) -> None:
    async with _target(tmp_path, provider) as at:
        await at.clean_call()
        await asyncio.gather(*(_forged(at, 500) for _ in range(10)))
        before, cpu_s, told = await settled_bytes(at), at.cpu_s(), []
        flood = asyncio.gather(*(_forged(at, 1000) for _ in range(10)))
        began = time.perf_counter()
        while not flood.done():
            told.append(await at.clean_call())
            await asyncio.sleep(0.1)
        await flood
        took_s, each_us = time.perf_counter() - began, (at.cpu_s() - cpu_s) * 100
        growth_mb = (await settled_bytes(at) - before) / 1e6
    print(
        f"10,000 forged tokens in {took_s:.1f} s, {each_us:.0f} µs of CPU each, memory {growth_mb:+.1f} MB;"
        f" clean calls median {sorted(told)[len(told) // 2] * 1e3:.0f} ms, slowest {max(told) * 1e3:.0f} ms"
    )
    assert abs(growth_mb) <= GROWTH_MB
    assert _third_slowest(told) < 3.0
