"""A gateway engine with an addon that tests can bend, a scripted upstream, a raw client. All on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawproxy.addons.dial import permit
from clawproxy.addons.http_stream import Hold, Watch
from clawproxy.addons.master import EngineOptions, GatewayMaster
from mitmproxy import http

type Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]

EVENT = b'data: {"t":"x"}\n\n'
DONE = b"data: [DONE]\n\n"


class DoneTap:
    """Holds the end at ``[DONE]``; without it, whatever is left at the end of message is held with nothing in it."""

    def __init__(self, flow: http.HTTPFlow) -> None:
        self.flow = flow
        self.seen = bytearray()
        self.closed = False

    def feed(self, data: bytes) -> bytes | Hold:
        self.seen += data
        now, mark, held = data.partition(b"data: [DONE]")
        if mark:
            return Hold(self.flow, "end", now, mark + held)
        now, mark, held = data.partition(b"PART")
        return Hold(self.flow, "part", now, mark + held) if mark else data

    def close(self) -> tuple[bytes, bytes]:
        self.closed = True
        return b"", b""


class EventTap(DoneTap):
    """The same for events that arrive in pieces."""

    carry = b""

    def feed(self, data: bytes) -> bytes | Hold:
        whole, mark, self.carry = (self.carry + data).rpartition(b"\n\n")
        return super().feed(whole + mark)

    def close(self) -> tuple[bytes, bytes]:
        return self.carry, b""


@dataclass
class Gate:
    """Routes every call to ``upstream``, taps event streams, releases holds; notes every hook. ``bends`` change it."""

    upstream: tuple[str, int]
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    flows: list[http.HTTPFlow] = field(default_factory=list)
    bends: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    tap: Callable[[http.HTTPFlow], Any] = DoneTap

    async def _bent(self, name: str, data: Any) -> bool:
        self.notes.append(name)
        bend = self.bends.get(name)
        if bend is None:
            return False
        outcome = bend(data)
        if outcome is not None:
            await outcome
        return True

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        await self._bent("http_connect", flow)

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        await self._bent("requestheaders", flow)

    async def request(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)
        flow.request.scheme, flow.request.host, flow.request.port = "http", *self.upstream
        await self._bent("request", flow)

    async def server_connect(self, data: Any) -> None:
        permit(self.upstream, self.upstream[:1])
        await self._bent("server_connect", data)

    async def server_connected(self, data: Any) -> None:
        await self._bent("server_connected", data)

    async def client_connected(self, data: Any) -> None:
        await self._bent("client_connected", data)

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response and "event-stream" in flow.response.headers.get("content-type", ""):
            flow.response.stream = self.tap(flow)
        await self._bent("responseheaders", flow)

    async def seam_watch(self, watch: Watch) -> None:
        self.watches.append(watch)
        if not await self._bent("seam_watch", watch):
            await watch.over.wait()

    async def seam_hold(self, hold: Hold) -> None:
        self.holds.append(hold)
        if not await self._bent("seam_hold", hold):
            hold.verdict = hold.held

    async def response(self, flow: http.HTTPFlow) -> None:
        await self._bent("response", flow)

    async def error(self, flow: http.HTTPFlow) -> None:
        self.errors.append(flow.error.msg if flow.error else "")
        await self._bent("error", flow)

    async def client_disconnected(self, client: Any) -> None:
        await self._bent("client_disconnected", client)

    def hook_fault(self, name: str, data: object, error: BaseException) -> None:
        self.faults.append(f"{name}:{type(error).__name__}")

    def ends(self) -> list[str]:
        """The hooks that ended a call."""
        return [name for name in self.notes if name in ("response", "error")]


class Upstream:
    """Answers each request with ``script``; counts what it saw."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.lost = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
                self.requests.append(head + await reader.readexactly(length))
                await self.script(reader, writer, head)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost.set()
        finally:
            writer.close()


class Client:
    """A raw HTTP/1.1 client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def post(self, body: bytes = b"{}", *, method: str = "POST", version: str = "1.1", extra: str = "") -> None:
        head = f"{method} /v1/x HTTP/{version}\r\nHost: api.test\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)

    async def until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), 30)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), 30)
        except ConnectionError:
            return b""

    async def chunked(self) -> bytes:
        """A head and a whole chunked body."""
        return await self.head() + await self.until(b"0\r\n\r\n")

    async def whole(self) -> bytes:
        """A head and a body of its Content-Length."""
        head = await self.head()
        length = next(int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
        return head + await asyncio.wait_for(self.reader.readexactly(length), 30)

    def close(self) -> None:
        self.writer.close()


@dataclass
class Rig:
    gate: Gate
    upstream: Upstream
    master: GatewayMaster

    async def client(self, listener: int = 0) -> Client:
        host, port = self.master.addresses()[listener]
        return Client(*await asyncio.open_connection(host, port))

    def later(self, seconds: float) -> None:
        """So much time is over at once, for every timer that runs now, those of the test included."""
        loop = asyncio.get_running_loop()
        now_s = loop.time
        loop.time = lambda: now_s() + seconds  # type: ignore[method-assign]

    async def settled(self, seconds: float = 20.0) -> None:
        """Wait until every call has its end hook and no connection is open."""
        for _ in range(round(seconds / 0.01)):
            if not (self.master.connection_count or self.master._dispatch.running):
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def rig(
    tmp_path: Path,
    script: Script,
    *,
    modes: tuple[str, ...] = ("reverse:http://127.0.0.1:9@127.0.0.1:0",),
    addons: tuple[object, ...] = (),
    **options: Any,
) -> AsyncIterator[Rig]:
    upstream = Upstream(script)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    gate = Gate(server.sockets[0].getsockname()[:2])
    options = {"max_body_bytes": 1 << 20, "hook_timeout_s": 30.0, "end_deadline_s": 10.0} | options
    master = GatewayMaster.build(EngineOptions(modes=modes, confdir=tmp_path, **options), [*addons, gate])
    await master.start()
    try:
        yield Rig(gate, upstream, master)
    finally:
        await master.stop(grace_s=1.0)
        server.close()


# -- scripts -------------------------------------------------------------------------------------------------------

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def json_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n")
    if not head.startswith(b"HEAD"):
        writer.write(b'{"ok":true}')


def sse(*pieces: bytes | float | asyncio.Event, framing: str = "chunked", close: bool = False) -> Script:
    """An event stream: bytes are sent as they are, numbers are pauses in seconds, an ``Event`` is waited for."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        body = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        frame = {
            "chunked": b"transfer-encoding: chunked\r\n",
            "length": b"content-length: %d\r\n" % len(body),
            "eof": b"",
            "short": b"content-length: %d\r\n" % (len(body) + 10),
        }[framing]
        writer.write(SSE_HEAD + frame + b"\r\n")
        for piece in pieces:
            if isinstance(piece, float):
                await writer.drain()
                await asyncio.sleep(piece)
            elif isinstance(piece, asyncio.Event):
                await writer.drain()
                await piece.wait()
            else:
                writer.write(chunk(piece) if framing == "chunked" else piece)
        if framing == "chunked" and not close:
            writer.write(b"0\r\n\r\n")
        if framing == "eof" or close:
            await writer.drain()
            writer.close()
            raise ConnectionResetError

    return script
