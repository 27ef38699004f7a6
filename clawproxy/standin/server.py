"""The stand-in's HTTP/1.1 server: opens sockets, writes the record file, reads the clock.

    python -m clawproxy.standin --dir D --record FILE [--port 0] [--plain] [--follow-stdin]

prints one JSON line when it listens: ``{"ready":true,"url","port","ca","credentials":{"openai","anthropic"},"pid"}``,
and ends on SIGTERM, on SIGINT, or (``--follow-stdin``) when its standard input closes.

``D`` holds the certificates (``certificate``) and the credentials ``openai.key`` and ``anthropic.key`` (0600), made
where absent. A request without the right one gets 401, so an injection that is missing shows.

The record: one JSON line per request, written with one ``write`` before the first byte of the answer, so that it
survives the death of any process: ``{"n","at_ms","method","path","host","provider","model","stream","body_bytes",
"body_sha256_b64u","credential","leaks","headers"}``. ``credential`` is ``right``, ``wrong`` or ``none``. ``leaks``
names what should never reach a provider: a CST header, proxy authorization, and anything that looks like a JWT, in a
header or in the body. ``headers`` are the names of the request's headers, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .certificate import ensure_certificates
from .formats import Ask, JsonObject, error_answer, json_answer, models_answer, read_ask, stream_answer

_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 64 * 1024 * 1024
_ROUTES = {
    "/v1/chat/completions": ("openai", "chat"),
    "/v1/responses": ("openai", "responses"),
    "/v1/messages": ("anthropic", "messages"),
    "/v1/messages/count_tokens": ("anthropic", "count_tokens"),
}
_CLIENT_ONLY = ("x-cst", "x-scoped-token", "x-clawproxy-token", "proxy-authorization", "x-provider-api-key")
_LOOKS_LIKE_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{40,}")
_REASON_PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}


class _Bad(Exception):
    """The request cannot be read; the connection is closed."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request | None:
    """The next request, or None when the client is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as err:
        if err.partial:
            raise _Bad("cut in the head") from None
        return None
    except asyncio.LimitOverrunError:
        raise _Bad("head too large") from None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _version = lines[0].split(" ")
        headers = tuple((k.lower(), v.strip()) for k, v in (line.split(":", 1) for line in lines[1:] if line))
    except ValueError:
        raise _Bad("malformed head") from None
    named = dict(headers)
    if named.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if named.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        length = named.get("content-length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            raise _Bad("content-length")
        body = await reader.readexactly(int(length))
    return _Request(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        try:
            size = int((await reader.readline()).split(b";")[0], 16)
        except ValueError:
            raise _Bad("chunk size") from None
        total += size
        if total > _MAX_BODY_BYTES:
            raise _Bad("body too large")
        if size == 0:
            while (await reader.readline()) not in (b"\r\n", b""):
                pass
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)


class Standin:
    """Answers connections and keeps the record (``record_fd``, open for appending); ``credentials`` are by provider."""

    def __init__(self, credentials: dict[str, str], record_fd: int) -> None:
        self._credentials = credentials
        self._record_fd = record_fd
        self._count = 0

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the connection ends; a broken client costs nothing but its connection."""
        try:
            while (request := await _read_request(reader, writer)) is not None:
                if not await self._answer(request, writer):
                    break
        except (_Bad, asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, TimeoutError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Record, then answer; returns whether the connection stays open."""
        path = request.path.split("?")[0]
        provider, kind = _ROUTES.get(path, ("anthropic" if request.header("anthropic-version") else "openai", ""))
        sent = _sent_credential(request)
        right = hmac.compare_digest(sent.encode("latin-1"), self._credentials[provider].encode())
        body = _json_object(request.body)
        self._record(request, provider, body, "right" if right else "wrong" if sent else "none")
        if not right:
            message = "the stand-in did not get the credential that the gateway should inject"
            return await _send(writer, 401, error_answer(kind, 401, message))
        if request.method == "GET" and path == "/v1/models":
            return await _send(writer, 200, models_answer(provider == "anthropic"))
        if not kind or request.method != "POST":
            return await _send(writer, 404, error_answer(kind, 404, f"no such route: {request.method} {path[:60]}"))
        if body is None:
            return await _send(writer, 400, error_answer(kind, 400, "the body is not a JSON object"))
        if kind == "count_tokens":
            return await _send(writer, 200, b'{"input_tokens":%d}' % max(1, len(request.body) // 4))
        return await _answer_ask(read_ask(kind, body, request.body, request.header("x-standin"), sent), writer)

    def _record(self, request: _Request, provider: str, body: JsonObject | None, credential: str) -> None:
        self._count += 1
        line = {
            "n": self._count,
            "at_ms": time.time_ns() // 1_000_000,
            "method": request.method,
            "path": request.path,
            "host": request.header("host"),
            "provider": provider,
            "model": (body or {}).get("model"),
            "stream": (body or {}).get("stream") is True,
            "body_bytes": len(request.body),
            "body_sha256_b64u": base64.urlsafe_b64encode(hashlib.sha256(request.body).digest()).decode().rstrip("="),
            "credential": credential,
            "leaks": _leaks(request),
            "headers": [name for name, _ in request.headers],
        }
        os.write(self._record_fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _sent_credential(request: _Request) -> str:
    if key := request.header("x-api-key"):
        return key
    scheme, _, value = request.header("authorization").partition(" ")
    return value if scheme.lower() == "bearer" else ""


def _leaks(request: _Request) -> list[str]:
    found = [name for name, _ in request.headers if name in _CLIENT_ONLY]
    found += [f"{k}: looks like a JWT" for k, v in request.headers if _LOOKS_LIKE_JWT.search(v.encode("latin-1"))]
    return found + ["body: looks like a JWT"] * bool(_LOOKS_LIKE_JWT.search(request.body))


def _json_object(raw: bytes) -> JsonObject | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def _answer_ask(ask: Ask, writer: asyncio.StreamWriter) -> bool:
    steering = ask.steering
    if steering.hang_ms:
        await asyncio.sleep(steering.hang_ms / 1000)
    if "die-before-answer" in steering.words:
        writer.transport.abort()
        return False
    if steering.status:
        return await _send(writer, steering.status, error_answer(ask.kind, steering.status, "as the prompt asked"))
    if "not-json" in steering.words:
        return await _send(writer, 200, b"<html>this is not JSON</html>")
    if ask.stream:
        return await _send_stream(ask, writer)
    if steering.slow_ms:
        await asyncio.sleep(steering.slow_ms / 1000)
    body = json_answer(ask)
    if steering.words & {"short-body", "die-mid-stream"}:
        writer.write(_head(200, len(body)) + body[: len(body) // 2])
        await writer.drain()
        if "die-mid-stream" in steering.words:
            await asyncio.sleep(0.02)  # lets the first half leave before the reset discards what is queued
            writer.transport.abort()
        return False
    return await _send(writer, 200, body, drip="drip" in steering.words)


def _head(status: int, length: int | None, content_type: str = "application/json") -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    phrase = _REASON_PHRASES.get(status, "Status")
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{framing}\r\nx-request-id: standin\r\n\r\n"
    ).encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, *, drip: bool = False) -> bool:
    head = _head(status, len(body))
    if drip:
        writer.write(head)
        for n in range(len(body)):
            writer.write(body[n : n + 1])
            await writer.drain()
            await asyncio.sleep(0)
    else:
        writer.write(head + body)
    await writer.drain()
    return True


async def _send_stream(ask: Ask, writer: asyncio.StreamWriter) -> bool:
    words, events = ask.steering.words, stream_answer(ask)
    if "no-terminal" in words:
        events.pop()
    cut = len(events) // 2 if "die-mid-stream" in words else len(events)
    writer.write(_head(200, None, "text/event-stream; charset=utf-8"))
    if "drip" in words:
        events = [byte.to_bytes() for event in events for byte in event]
        cut = len(events) if cut else 0
    for event in events[:cut]:
        if ask.steering.slow_ms:
            await asyncio.sleep(ask.steering.slow_ms / 1000)
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
    if "die-mid-stream" in words:
        await asyncio.sleep(0.02)  # as above
        writer.transport.abort()
        return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


# -- the process -------------------------------------------------------------------------------------------------


def _ensure_credential(path: Path) -> str:
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"sk-standin-{secrets.token_hex(16)}\n")
    return path.read_text().strip()


def _prepare(args: argparse.Namespace) -> tuple[Standin, ssl.SSLContext | None, JsonObject]:
    """The stand-in, its TLS context, and what the ready line says of the files."""
    folder = Path(args.dir)
    folder.mkdir(parents=True, exist_ok=True)
    key_files = {provider: folder / f"{provider}.key" for provider in ("openai", "anthropic")}
    credentials = {provider: _ensure_credential(path) for provider, path in key_files.items()}
    context: ssl.SSLContext | None = None
    ca_path = ""
    if not args.plain:
        ca, server_pem = ensure_certificates(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(server_pem)
        ca_path = str(ca)
    record_fd = os.open(args.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    files = {"ca": ca_path, "credentials": {provider: str(path) for provider, path in key_files.items()}}
    return Standin(credentials, record_fd), context, files


async def _run(args: argparse.Namespace) -> None:
    standin, context, files = _prepare(args)
    server = await asyncio.start_server(
        standin.serve_connection, "127.0.0.1", args.port, ssl=context, limit=_MAX_HEAD_BYTES, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    ready = {"ready": True, "url": url, "port": port, "pid": os.getpid()} | files
    print(json.dumps(ready), flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if args.follow_stdin:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_input, stop)
    await stop.wait()
    server.close()
    server.abort_clients()


def _stop_at_end_of_input(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m clawproxy.standin", description="a model provider stand-in")
    parser.add_argument("--dir", "--tls-dir", required=True, help="certificates and credentials, made where absent")
    parser.add_argument("--record", required=True, help="one JSON line per request is appended here")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--plain", action="store_true", help="plain HTTP instead of TLS")
    parser.add_argument("--follow-stdin", action="store_true", help="end when standard input closes")
    asyncio.run(_run(parser.parse_args()))
