"""Bombs against a gateway in a process of its own: what each is told, what memory it leaves, how a clean call fares.

``python -m tests.gateway.bombs`` prints the figures again. Every bomb is bounded on this side too, and ends with its
connection closed. The clean calls go to the stand-in; the anthropic provider is a rogue of this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import ssl
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import brotli  # type: ignore[import-untyped]  # it has no stubs
import zstandard
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.mint import mint

from ..clawproxy.standin_process import Provider, running_standin
from .bed import CONTRACT, chat_body, make_state
from .raw_client import RawClient

CHAT = "/openai/v1/chat/completions"
ROGUE = "/anthropic/v1/messages"
_UNPACKED_BYTES = 512 * 1024 * 1024
_SEND_AT_MOST = 24 * 1024 * 1024
_BOMB_S = 60.0
_PIECE = bytes(1 << 20)
_QUIET_S = 4.0
"""Longer than the gateway sweeps after the last connection's end."""
_QUIET_BYTES = 256 * 1024
_SETTLE_AT_MOST_S = 20.0


@dataclass
class Target:
    """A gateway that runs elsewhere."""

    pid: int
    reverse: str
    regular: str
    ca: Path
    keys: dict[Role, SigningKey]
    policy_hash: str
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def token(self, job_id: str) -> str:
        return mint(
            key=self.keys[Role.TOKEN], sub="did:key:zTester", aud=["clawproxy.local"], scope=["clawproxy:call"],
            job_id=job_id, policy_hash_b64u=self.policy_hash, now_s=int(time.time()), ttl_s=1500,
        )  # fmt: skip

    @functools.cached_property
    def bomber(self) -> str:
        return self.token("bombs")

    @functools.cached_property
    def clean(self) -> str:
        return self.token("clean")

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def connect(self, listener: str = "reverse") -> Line:
        url = urlsplit(self.reverse if listener == "reverse" else self.regular)
        return Line(*await asyncio.open_connection(url.hostname, url.port))

    async def clean_call(self) -> float:
        """Seconds that a small clean call takes, connection included; raises where it is not answered."""
        url = urlsplit(self.reverse)
        began = time.perf_counter()
        client = await RawClient.open(str(url.hostname), int(url.port or 0))
        headers = {"host": "gateway", "content-type": "application/json", "x-cst": self.clean}
        answer = await client.request("POST", CHAT, headers, chat_body())
        await client.close()
        if answer.status != 200 or not answer.complete:
            raise AssertionError(f"the clean call: {answer.status} {answer.body[:300]!r}")
        return time.perf_counter() - began


class Line:
    """One connection that sends as far as it is let."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def flood(self, piece: bytes, at_most: int = _SEND_AT_MOST) -> None:
        """``piece`` again and again, until it is refused or ``at_most`` bytes are sent."""
        for _ in range(max(1, at_most // len(piece))):
            if self.reader._eof or self.reader._buffer or self.writer.is_closing():  # type: ignore[attr-defined]
                return
            await self.send(piece)
            await asyncio.sleep(0)

    async def outcome(self, timeout_s: float = 20.0) -> str:
        """The reason of the answer, its status, ``closed`` or ``silent``."""
        try:
            async with asyncio.timeout(timeout_s):
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        except TimeoutError:
            return "silent"
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return "closed"
        for line in head.split("\r\n"):
            if line.startswith("x-clawproxy-reason:"):
                return line.partition(":")[2].strip().upper()
        return head.split(" ")[1]

    async def rest(self, at_most: int = 64 * 1024 * 1024) -> int:
        """How many bytes still come, until none does for half a second."""
        count = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while count < at_most:
                async with asyncio.timeout(0.5):
                    data = await self.reader.read(1 << 16)
                if not data:
                    break
                count += len(data)
        return count

    def close(self) -> None:
        self.writer.close()


def _head(target: Target, path: str = CHAT, **more: str) -> bytes:
    fields = {"host": "gateway", "content-type": "application/json", "x-cst": target.bomber}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return f"POST {path} HTTP/1.1\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields.items())


async def _send_body(line: Line, target: Target, body: bytes, *, chunked: bool = False, **more: str) -> str:
    if chunked:
        await line.send(_head(target, transfer_encoding="chunked", **more) + b"\r\n")
        for at in range(0, len(body), 1 << 16):
            piece = body[at : at + (1 << 16)]
            await line.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await line.send(b"0\r\n\r\n")
    else:
        await line.send(_head(target, content_length=str(len(body)), **more) + b"\r\n" + body)
    return await line.outcome()


# -- packed bodies -------------------------------------------------------------------------------------------------


@functools.cache
def packed(kind: str) -> bytes:
    """Half a gigabyte of zeros, packed."""
    pieces = _UNPACKED_BYTES // len(_PIECE)
    if kind == "zstd":
        zstd = zstandard.ZstdCompressor(level=3).compressobj()
        return b"".join(zstd.compress(_PIECE) for _ in range(pieces)) + zstd.flush()
    if kind == "br":
        br = brotli.Compressor(quality=1)
        return bytes(b"".join(br.process(_PIECE) for _ in range(pieces)) + br.finish())
    if kind == "gzip":
        gzip = zlib.compressobj(6, wbits=31)
        return b"".join(gzip.compress(_PIECE) for _ in range(pieces)) + gzip.flush()
    inner = packed("zstd")
    stacked = zlib.compressobj(9, wbits=31)
    return stacked.compress(inner) + stacked.flush()


def _packed(kind: str, label: str, *, chunked: bool = False) -> Callable[[Target, Line], Awaitable[str]]:
    return lambda target, line: _send_body(line, target, packed(kind), chunked=chunked, content_encoding=label)


def _said(make: Callable[[], bytes], *, chunked: bool = False) -> Callable[[Target, Line], Awaitable[str]]:
    return lambda target, line: _send_body(line, target, make(), chunked=chunked)


def _around(middle: bytes) -> bytes:
    return b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}],"metadata":' + middle + b"}"


# -- heads and framing ---------------------------------------------------------------------------------------------


async def _endless_headers(target: Target, line: Line) -> str:
    await line.send(_head(target))
    await line.flood(b"x-more: " + b"y" * 1000 + b"\r\n")
    return await line.outcome()


async def _endless_short_headers(target: Target, line: Line) -> str:
    await line.send(_head(target))
    await line.flood(b"a:b\r\n" * 1000)
    return await line.outcome()


async def _endless_request_line(_target: Target, line: Line) -> str:
    await line.send(b"POST /")
    await line.flood(b"a" * 65536)
    return await line.outcome()


async def _endless_chunk_extension(target: Target, line: Line) -> str:
    await line.send(_head(target, transfer_encoding="chunked") + b"\r\n5;")
    await line.flood(b"e" * 65536)
    return await line.outcome()


async def _endless_trailers(target: Target, line: Line) -> str:
    await line.send(_head(target, transfer_encoding="chunked") + b"\r\n0\r\n")
    await line.flood(b"t: " + b"u" * 1000 + b"\r\n")
    return await line.outcome()


async def _endless_body(target: Target, line: Line) -> str:
    await line.send(_head(target, transfer_encoding="chunked") + b"\r\n")
    await line.flood(b"10000\r\n" + b" " * 65536 + b"\r\n")
    return await line.outcome()


async def _tiny_chunks(target: Target, line: Line) -> str:
    await line.send(_head(target, transfer_encoding="chunked") + b"\r\n")
    await line.flood(b"1\r\nx\r\n" * 5000, 4 * 1024 * 1024)
    return await line.outcome()


async def _behind_a_call(target: Target, line: Line) -> str:
    body = chat_body("events:20 slow:50", stream=True)
    await line.send(_head(target, content_length=str(len(body))) + b"\r\n" + body)
    await line.flood(b"POST " + b"z" * 65000)
    return await line.outcome()


# -- other protocols -----------------------------------------------------------------------------------------------

_H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_WINDOW = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_H2_HEADERS = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" + b"\x82" * 16384


async def _h2_prior_knowledge(_target: Target, line: Line) -> str:
    await line.send(_H2 + _NO_WINDOW)
    await line.flood(_H2_HEADERS, 4 * 1024 * 1024)
    return await line.outcome()


async def _tunnel(target: Target) -> Line:
    line = await target.connect("regular")
    auth = f"proxy-authorization: Bearer {target.bomber}\r\n"
    await line.send(f"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n{auth}\r\n".encode())
    assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return line


async def _h2_in_a_tunnel(target: Target, line: Line) -> str:
    line.close()
    inner = await _tunnel(target)
    context = ssl.create_default_context(cafile=target.ca)
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(30):
            await inner.writer.start_tls(context, server_hostname="api.openai.com")
        await inner.send(_H2 + _NO_WINDOW)
        await inner.flood(_H2_HEADERS, 4 * 1024 * 1024)
        return await inner.outcome()
    finally:
        inner.close()


async def _hello_flood(target: Target, line: Line) -> str:
    """A ClientHello that says it is large, in many records, and never ends."""
    line.close()
    inner = await _tunnel(target)
    record = b"\x16\x03\x01\x00\x40" + b"\x00" * 0x40
    try:
        await inner.send(b"\x16\x03\x01\x00\x44\x01\xff\xff\xff" + b"\x00" * 0x40)
        await inner.flood(record * 200, 4 * 1024 * 1024)
        return await inner.outcome()
    finally:
        inner.close()


async def _handshakes(target: Target, line: Line) -> str:
    """Handshakes that end after the first flight."""
    line.close()
    for _ in range(5):
        inner = await _tunnel(target)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        tls = context.wrap_bio(into, out, server_hostname="api.openai.com")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        await inner.send(out.read())
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                await inner.reader.read(65536)
        inner.close()
    return "left"


async def _socket_frames(target: Target, line: Line) -> str:
    """A WebSocket whose first frame says that it has 2^62 bytes."""
    fields = {"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_version": "13"}
    head = _head(target, "/openai/v1/responses", sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==", **fields)
    head = head.replace(b"POST", b"GET", 1).replace(b"content-type: application/json\r\n", b"")
    await line.send(head + b"\r\n")
    first = await line.outcome()
    if first == "101":
        await line.send(b"\x81\xff\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
        with contextlib.suppress(OSError):
            await line.flood(b"a" * 65536)
        await line.rest()
    return first


# -- answers -------------------------------------------------------------------------------------------------------


async def _rogue_answer(mode: str, target: Target, line: Line) -> str:
    asked = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 9,
        "stream": "sse" in mode,
        "messages": [{"role": "user", "content": mode}],
    }
    body = json.dumps(asked).encode()
    await line.send(_head(target, ROGUE, content_length=str(len(body))) + b"\r\n" + body)
    outcome = await line.outcome(30)
    await line.rest()
    return outcome


class Rogue:
    """A provider whose answers are bombs, chosen by a word in the request. Plain HTTP, without a credential."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(size)
            for mode, script in self.SCRIPTS.items():
                if mode.encode() in body:
                    await script(self, writer)
                    break
        writer.close()

    async def _flood(self, writer: asyncio.StreamWriter, head: bytes, piece: bytes, at_most: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(at_most // len(piece)):
            if writer.is_closing():
                return
            writer.write(piece)
            await writer.drain()

    async def _sse_endless_event(self, writer: asyncio.StreamWriter) -> None:
        head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        first = b"event: message_start\ndata: "
        await self._flood(
            writer, head + b"%x\r\n%b\r\n" % (len(first), first), b"10000\r\n%b\r\n" % (b"a" * 65536), 48 << 20
        )

    async def _gzip_answer(self, writer: asyncio.StreamWriter) -> None:
        body = packed("gzip")
        head = b"content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + body)
        await writer.drain()

    async def _json_gigabyte(self, writer: asyncio.StreamWriter) -> None:
        head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (1 << 30)
        await self._flood(writer, head, b'{"a":' * 13107, 1 << 30)

    async def _json_endless(self, writer: asyncio.StreamWriter) -> None:
        head = b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        await self._flood(writer, head, b"10000\r\n%b\r\n" % (b" " * 65536), 1 << 30)

    async def _headers_endless(self, writer: asyncio.StreamWriter) -> None:
        await self._flood(writer, b"", b"x: " + b"y" * 1000 + b"\r\n", 8 << 20)

    async def _json_deep(self, writer: asyncio.StreamWriter) -> None:
        body = b"[" * 1_000_000
        head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + body)
        await writer.drain()

    SCRIPTS: ClassVar[dict[str, Callable[[Rogue, asyncio.StreamWriter], Awaitable[None]]]] = {
        "sse-endless-event": _sse_endless_event,
        "gzip-answer": _gzip_answer,
        "json-gigabyte": _json_gigabyte,
        "json-endless": _json_endless,
        "headers-endless": _headers_endless,
        "json-deep": _json_deep,
    }


@contextlib.asynccontextmanager
async def rogue() -> AsyncIterator[str]:
    """A rogue provider in this process; its address."""
    server = await asyncio.start_server(Rogue().answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


BOMBS: dict[str, Callable[[Target, Line], Awaitable[str]]] = {
    "zstd, 16 KB to 512 MB": _packed("zstd", "zstd"),
    "zstd, chunked": _packed("zstd", "zstd", chunked=True),
    "gzip": _packed("gzip", "gzip"),
    "br": _packed("br", "br", chunked=True),
    "gzip of zstd": _packed("stacked", "zstd, gzip"),
    "zstd without a label": lambda target, line: _send_body(line, target, packed("zstd")),
    "JSON, 100,000 levels": _said(lambda: _around(b"[" * 100_000 + b"]" * 100_000)),
    "JSON, 100,000 objects deep": _said(lambda: _around(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), chunked=True),
    "JSON, a million keys": _said(lambda: _around(b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}")),
    "JSON, a string of 12 MB": _said(lambda: _around(b'{"a":"' + b"s" * (12 << 20) + b'"}')),
    "JSON, a number of 1 MB": _said(lambda: _around(b"9" * (1 << 20))),
    "endless header fields": _endless_headers,
    "endless short header fields": _endless_short_headers,
    "endless request line": _endless_request_line,
    "endless chunk extension": _endless_chunk_extension,
    "endless trailers": _endless_trailers,
    "endless body": _endless_body,
    "tiny chunks": _tiny_chunks,
    "sent behind a running call": _behind_a_call,
    "h2 without window, prior knowledge": _h2_prior_knowledge,
    "h2 without window, in a tunnel": _h2_in_a_tunnel,
    "ClientHello without end": _hello_flood,
    "handshakes that are left": _handshakes,
    "WebSocket frame of 2^62 bytes": _socket_frames,
} | {f"answer: {mode}": functools.partial(_rogue_answer, mode) for mode in Rogue.SCRIPTS}


@dataclass
class Figures:
    """What a run saw."""

    before_bytes: int = 0
    after_bytes: int = 0
    highest_bytes: int = 0
    samples: list[int] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    clean_s: list[float] = field(default_factory=list)
    clean_meanwhile_s: dict[str, list[float]] = field(default_factory=dict)
    """By bomb, for each time that it was thrown: the slowest of the clean calls that were under way."""
    idle_s: list[float] = field(default_factory=list)
    files_before: int = 0
    files_after: int = 0

    @property
    def growth_mb(self) -> float:
        return (self.after_bytes - self.before_bytes) / 1e6

    @property
    def held_up_s(self) -> float:
        """How long a clean call takes while the worst of the bombs is at work. Of each bomb the best time counts: a
        machine that stands still for a moment is no work of the bomb."""
        return max(min(rounds) for rounds in self.clean_meanwhile_s.values())

    def lines(self) -> list[str]:
        told = [
            f"{name:38} {', '.join(f'{r} ×{n}' for r, n in self.outcomes[name].items()):40} {self.slowest[name]:6.2f} s"
            for name in sorted(self.outcomes)
        ]
        steps = " ".join(f"{(sample - self.before_bytes) / 1e6:+.1f}" for sample in self.samples)
        return [
            *told,
            f"memory after the warm-up {self.before_bytes / 1e6:.1f} MB, at the end {self.growth_mb:+.1f} MB ({steps}),"
            f" highest {self.highest_bytes / 1e6:.1f} MB; files {self.files_before} → {self.files_after}",
            f"clean calls meanwhile: {len(self.clean_s)}, median {_part(self.clean_s, 0.5) * 1e3:.0f} ms, 95 % "
            f"{_part(self.clean_s, 0.95) * 1e3:.0f} ms, slowest {max(self.clean_s) * 1e3:.0f} ms "
            f"(quiet: median {_part(self.idle_s, 0.5) * 1e3:.0f} ms)",
        ]


def _part(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@contextlib.asynccontextmanager
async def target(folder: Path, provider: Provider, rogue_url: str, **gateway: Any) -> AsyncIterator[Target]:
    """A gateway in a process of its own, in front of the stand-in and the rogue."""
    state = folder / "s"
    keys, policy_hash = make_state(state, CONTRACT)
    settings = folder / "settings.json"
    document = {
        "gateway": {"state_dir": str(state), "request_timeout_s": 10.0, **gateway},
        "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False},
        "upstream_ca": provider.ca,
        "providers": {
            "openai": {"upstream": provider.url, "credential": f"file:{provider.key_files['openai']}"},
            "anthropic": {"upstream": rogue_url, "credential": "none"},
        },
    }
    settings.write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.killable", str(settings),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"go\n")
    ready = json.loads(await process.stdout.readline())
    try:
        ca = state / "ca" / "mitmproxy-ca-cert.pem"
        yield Target(ready["pid"], ready["reverse"], ready["regular"], ca, keys, policy_hash)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(ready["pid"], 15)
        process.stdin.close()
        process.terminate()
        await process.wait()


async def throw(at: Target, name: str) -> str:
    """One bomb, to its end."""
    line = await at.connect()
    try:
        async with asyncio.timeout(_BOMB_S):
            return await BOMBS[name](at, line)
    except TimeoutError:
        return "silent"
    except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
        # cut while it was sending: what it was told is there all the same, if the kernel kept it
        return await line.outcome(0.2)
    finally:
        line.close()


async def settled_bytes(at: Target, files: int | None = None) -> int:
    """Memory once nothing moves any more, without further traffic: no more than ``files`` open, and the same memory for
    as long as a sweep takes. A loaded machine needs a while to end what is open. What it is after 20 s in any case."""
    loop = asyncio.get_running_loop()
    until, since, level = loop.time() + _SETTLE_AT_MOST_S, loop.time(), at.rss_bytes()
    while loop.time() < until and loop.time() - since < _QUIET_S:
        await asyncio.sleep(0.1)
        now = at.rss_bytes()
        if abs(now - level) > _QUIET_BYTES or (files is not None and at.open_files() > files):
            since, level = loop.time(), now
    return at.rss_bytes()


async def run_bombs(at: Target, *, warm_up: int = 50, count: int = 200) -> Figures:
    """``warm_up`` bombs of mixed kinds, then ``count``, with clean calls meanwhile."""
    figures, names = Figures(), list(BOMBS)
    for _ in range(20):
        figures.idle_s.append(await at.clean_call())
    over = asyncio.Event()
    spans: list[tuple[float, float]] = []
    throws: list[tuple[str, float, float]] = []

    async def clean_calls() -> None:
        while not over.is_set():
            began = time.perf_counter()
            figures.clean_s.append(await at.clean_call())
            spans.append((began, time.perf_counter()))
            await asyncio.sleep(0.1)

    for n in range(warm_up):
        await throw(at, names[n % len(names)])
    figures.before_bytes, figures.files_before = await settled_bytes(at), at.open_files()
    calling = asyncio.create_task(clean_calls())
    for n in range(count):
        name = names[(warm_up + n) % len(names)]
        began = time.perf_counter()
        outcome = await throw(at, name)
        figures.outcomes.setdefault(name, Counter())[outcome] += 1
        throws.append((name, began, time.perf_counter()))
        figures.slowest[name] = max(figures.slowest.get(name, 0.0), throws[-1][2] - began)
        figures.highest_bytes = max(figures.highest_bytes, at.rss_bytes())
        if n % 25 == 24:
            figures.samples.append(at.rss_bytes())
    over.set()
    await calling
    for name, began, ended in throws:
        slowest = max((end - start for start, end in spans if start < ended and end > began), default=0.0)
        figures.clean_meanwhile_s.setdefault(name, []).append(slowest)
    figures.after_bytes, figures.files_after = await settled_bytes(at, figures.files_before), at.open_files()
    return figures


async def main() -> None:
    with tempfile.TemporaryDirectory() as name, running_standin(Path(name)) as provider:
        async with rogue() as url, target(Path(name), provider, url) as at:
            figures = await run_bombs(at)
    print("\n".join(figures.lines()))


if __name__ == "__main__":
    asyncio.run(main())
