"""Faster, and otherwise the same: what is written, in which order, and that each change can be left out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import engine_tuning
from clawproxy.addons.engine_prints import PRINTS
from clawproxy.addons.engine_tuning import PATCHES, tune, untune
from mitmproxy import http
from mitmproxy.proxy import server

from .engine_rig import DONE, EVENT, json_answer, rig, sse

NAMES = tuple(patch.name for patch in PATCHES)


@pytest.fixture(autouse=True)
def _stock() -> Iterator[None]:
    untune()
    yield
    untune()


def test_each_change_can_be_turned_off() -> None:
    assert tune() == NAMES
    untune()
    stock = (server.ConnectionHandler.server_event, http.MessageData.__post_init__)
    assert tune(off=NAMES) == ()
    assert (server.ConnectionHandler.server_event, http.MessageData.__post_init__) == stock
    for name in NAMES:
        assert tune(off={name}) == tuple(other for other in NAMES if other != name)
        untune()


def test_heap_is_settled_once_and_only_if_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(engine_tuning, "_heap_settled", False)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    engine_tuning.settle_heap(off={engine_tuning.HEAP})
    assert frozen == []
    engine_tuning.settle_heap()
    engine_tuning.settle_heap()
    assert frozen == [1]


def test_change_whose_ground_moved_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = PRINTS | {"http.py:MessageData.__post_init__": "0" * 16}
    monkeypatch.setattr(engine_tuning, "PRINTS", moved)
    assert tune() == tuple(name for name in NAMES if name != "no_type_check")


def test_every_change_says_why_and_stands_on_known_functions() -> None:
    for patch in PATCHES:
        assert patch.reason
        assert set(patch.stands_on) <= set(PRINTS)


@pytest.mark.parametrize("off", [(), NAMES], ids=["tuned", "stock"])
async def test_client_sees_the_same_bytes_with_and_without(tmp_path: Path, off: tuple[str, ...]) -> None:
    async with rig(tmp_path, sse(EVENT * 3, 0.01, EVENT, DONE), tuning_off=off) as r:
        client = await r.client()
        for _ in range(3):
            await client.post()
            answer = await client.chunked()
            assert answer.count(EVENT) == 4
            assert answer.endswith(DONE + b"\r\n0\r\n\r\n")
        client.close()
    async with rig(tmp_path, json_answer, tuning_off=off) as r:
        client = await r.client()
        await client.post()
        assert (await client.whole()).endswith(b'{"ok":true}')
        client.close()


@pytest.mark.parametrize("off", [(), NAMES], ids=["tuned", "stock"])
async def test_bytes_before_a_hook_are_written_before_the_hook_runs(tmp_path: Path, off: tuple[str, ...]) -> None:
    seen = asyncio.Event()

    async def wait(hold: Any) -> None:
        await seen.wait()
        hold.verdict = hold.held

    async with rig(tmp_path, sse(EVENT + DONE), tuning_off=off) as r:
        r.gate.bends["seam_hold"] = wait
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        seen.set()
        await client.until(b"0\r\n\r\n")
        client.close()


async def test_one_event_with_many_pieces_is_one_write(tmp_path: Path) -> None:
    writes: list[bytes] = []

    def spy(flow: http.HTTPFlow) -> None:
        handler = r.master._proxyserver.connections[flow.client_conn.id]
        writer = handler.transports[flow.client_conn].writer
        assert isinstance(writer, asyncio.StreamWriter)
        write = writer.write

        def noted(data: Any) -> None:
            writes.append(bytes(data))
            write(data)

        writer.write = noted  # type: ignore[method-assign]

    burst = b"".join(b"%x\r\n%s\r\n" % (len(EVENT), EVENT) for _ in range(50))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(burst)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE))

    async with rig(tmp_path, script) as r:
        r.gate.bends["request"] = spy
        client = await r.client()
        await client.post()
        await client.chunked()
        client.close()
    assert len(writes) <= 5
    assert any(data.count(EVENT) == 50 for data in writes)


async def test_crash_in_the_layers_closes_the_client(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:

        def crash(flow: http.HTTPFlow) -> None:
            handler = r.master._proxyserver.connections[flow.client_conn.id]

            def broken(event: Any) -> Any:
                raise RuntimeError("layer")

            handler.layer.handle_event = broken  # type: ignore[method-assign]

        r.gate.bends["request"] = crash
        client = await r.client()
        await client.post()
        assert await client.rest() == b""
        assert r.upstream.requests == []


class _Fails:
    """Plain functions, as most hooks are: these are done in place."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)
        self.told: list[str] = []

    def _fail(self, data: Any) -> None:
        raise SystemExit

    async def hook_fault(self, name: str, data: object, error: BaseException) -> None:
        await asyncio.sleep(0)
        self.told.append(name)


@pytest.mark.parametrize("off", [(), ("hooks_in_place",)], ids=["in place", "in tasks"])
@pytest.mark.parametrize("hook", ["requestheaders", "request", "server_connect", "responseheaders", "seam_hold"])
async def test_plain_hook_that_fails_stops_the_call_before_anything_else_happens(
    tmp_path: Path, hook: str, off: tuple[str, ...]
) -> None:
    fails = _Fails(hook)
    async with rig(tmp_path, json_answer, tuning_off=off, addons=(fails,)) as r:
        told_first: list[bool] = []
        r.gate.bends["error"] = lambda flow: told_first.append(bool(fails.told))
        client = await r.client()
        await client.post()
        answer = await client.rest()
        assert b"ok" not in answer
        assert len(r.upstream.requests) == (hook in ("responseheaders", "seam_hold"))
        assert fails.told == [hook]
        assert told_first == [True]


async def test_plain_hook_that_returns_something_to_await_is_awaited(tmp_path: Path) -> None:
    order: list[str] = []

    class Plain:
        def request(self, flow: http.HTTPFlow) -> Any:
            async def later() -> None:
                await asyncio.sleep(0.05)
                order.append("awaited")

            return later()

    async with rig(tmp_path, json_answer, addons=(Plain(),)) as r:
        r.gate.bends["request"] = lambda flow: order.append("next")
        client = await r.client()
        await client.post()
        await client.whole()
        assert order == ["awaited", "next"]
        client.close()
