"""The stand-in's HTTP/1.1 server: opens sockets, writes the record file, reads the clock.

    python -m clawproxy.standin --dir D --record FILE [--port 0] [--plain] [--follow-stdin]

prints one JSON line when it listens: ``{"ready":true,"url","port","ca","credentials":{<provider>: <file>},"pid"}``,
and ends on SIGTERM, on SIGINT, or (``--follow-stdin``) when its standard input closes.

``D`` holds the certificates (``certificate``) and the credentials (``credentials``), made where absent. A request
without the right one gets 401 (Bedrock: 403), so an injection that is missing shows. ``routes`` tells which provider
answers, ``formats`` what, ``websocket`` what it says over sockets.

The record: one JSON line per request, written with one ``write`` before the first byte of the answer, so that it
survives the death of any process: ``{"n","at_ms","method","path","query","target","sni","host","provider","model",
"stream","body_bytes","body_sha256_b64u","credential","fault","keys","leaks","headers"}``. ``target`` is the host that
is meant (without a port), ``sni`` the name of the TLS handshake. ``credential`` is ``right``, ``wrong`` or ``none``,
``fault`` what a signature lacks. ``keys`` names the providers whose credential stands anywhere in the request.
``leaks`` names what should never reach a provider: a CST header, proxy authorization, and anything that looks like a
JWT, in a header or in the body. ``headers`` are the names of the request's headers, in order. A message that arrives
over a WebSocket has a line of its own, of the same shape, with ``"ws":true`` and its ``"type"``; body and hash are the
message's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import ssl
import sys
import time
from dataclasses import replace
from pathlib import Path

from .certificate import ensure_certificates
from .credentials import KEYED, Judgement, ensure_credential, judge, keys_seen
from .formats import (
    Ask,
    JsonObject,
    error_answer,
    json_answer,
    models_answer,
    read_ask,
    stream_answer,
    stream_type,
    streams,
    terminal_events,
)
from .request import MAX_HEAD_BYTES, BadRequest, Request, read_request
from .routes import Route, find_route
from .websocket import Socket, accept_head, wants_upgrade

_CLIENT_ONLY = ("x-cst", "x-scoped-token", "x-clawproxy-token", "proxy-authorization", "x-provider-api-key")
_LOOKS_LIKE_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{40,}")
_REASON_PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
_REASON_PHRASES |= {302: "Found", 307: "Temporary Redirect", 403: "Forbidden"}
_ALT_SVC = (("alt-svc", 'h3=":443"; ma=86400, h2="elsewhere.invalid:443"'), ("set-cookie", "standin=1; Path=/"))


class Standin:
    """Answers connections and keeps the record (``record_fd``, open for appending); ``credentials`` are by provider."""

    def __init__(self, credentials: dict[str, str], record_fd: int) -> None:
        self._credentials = credentials
        self._record_fd = record_fd
        self._count = 0

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the connection ends; a broken client costs nothing but its connection."""
        try:
            while (request := await read_request(reader, writer)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        except (BadRequest, asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, TimeoutError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Record, then answer; returns whether the connection stays open."""
        route = find_route(request.method, request.bare_path, request.query, request.target, dict(request.headers))
        judged = judge(request, route.provider, self._credentials, time.time())
        body = _json_object(request.body)
        sni = _sni(writer)
        self._record(request, route, body, judged, sni)
        if route.provider in KEYED and judged.verdict != "right":
            status = 403 if route.provider == "bedrock" else 401
            reason = f": {judged.fault}" if judged.fault else ""
            message = f"the stand-in did not get the credential that the gateway should inject{reason}"
            return await _send(writer, status, error_answer(route.provider, status, message))
        if route.kind.startswith("ws-") and wants_upgrade(request):
            return await self._serve_socket(request, route, judged, sni, reader, writer)
        if not route.kind or route.kind.startswith("ws-"):
            message = f"no such route: {request.method} {request.bare_path[:60]}"
            return await _send(writer, 404, error_answer(route.provider, 404, message))
        if route.kind == "models":
            return await _send(writer, 200, models_answer(route.provider, request.query))
        if body is None:
            return await _send(writer, 400, error_answer(route.provider, 400, "the body is not a JSON object"))
        ask = read_ask(
            route.kind,
            body,
            request.body,
            request.header("x-standin"),
            judged.sent,
            provider=route.provider,
            model=route.model,
            stream=route.stream,
        )
        return await _answer_ask(ask, request, writer)

    async def _serve_socket(
        self,
        request: Request,
        route: Route,
        judged: Judgement,
        sni: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        realtime = route.kind == "ws-realtime"
        model = next((pair[6:] for pair in request.query.split("&") if pair.startswith("model=")), "")

        def record(raw: bytes, message: JsonObject | None) -> None:
            body = {"model": model} if realtime else message
            extra = {"ws": True, "type": (message or {}).get("type")}
            self._record(replace(request, body=raw), route, body, judged, sni, extra)

        writer.write(accept_head(request))
        await writer.drain()
        await Socket(reader, writer, realtime, model, judged.sent, request.header("x-standin"), record).serve()
        return False

    def _record(
        self,
        request: Request,
        route: Route,
        body: JsonObject | None,
        judged: Judgement,
        sni: str,
        extra: JsonObject | None = None,
    ) -> None:
        self._count += 1
        asked = body or {}
        line = {
            "n": self._count,
            "at_ms": time.time_ns() // 1_000_000,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "target": request.target,
            "sni": sni,
            "host": request.header("host"),
            "provider": route.provider,
            "model": route.model or asked.get("model"),
            "stream": asked.get("stream") is True if route.stream is None else route.stream,
            "body_bytes": len(request.body),
            "body_sha256_b64u": base64.urlsafe_b64encode(hashlib.sha256(request.body).digest()).decode().rstrip("="),
            "credential": judged.verdict,
            "fault": judged.fault,
            "keys": keys_seen(request, self._credentials),
            "leaks": _leaks(request),
            "headers": [name for name, _ in request.headers],
        } | (extra or {})
        os.write(self._record_fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _leaks(request: Request) -> list[str]:
    found = [name for name, _ in request.headers if name in _CLIENT_ONLY]
    found += [f"{k}: looks like a JWT" for k, v in request.headers if _LOOKS_LIKE_JWT.search(v.encode("latin-1"))]
    return found + ["body: looks like a JWT"] * bool(_LOOKS_LIKE_JWT.search(request.body))


def _json_object(raw: bytes) -> JsonObject | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# -- one answer --------------------------------------------------------------------------------------------------

type _Headers = tuple[tuple[str, str], ...]


def _redirect(ask: Ask, request: Request) -> tuple[int, str] | None:
    """Status and Location, if the prompt asked for a redirect."""
    host, words = request.header("host"), ask.steering.words
    if "redirect-home" in words:
        return 307, "/v1/elsewhere"
    if "redirect-other" in words:
        return 302, "https://elsewhere.invalid" + request.bare_path
    return (307, f"http://{host}{request.bare_path}") if "redirect-plain" in words else None


async def _answer_ask(ask: Ask, request: Request, writer: asyncio.StreamWriter) -> bool:
    steering = ask.steering
    extra = _ALT_SVC if "alt-svc" in steering.words else ()
    if steering.hang_ms:
        await asyncio.sleep(steering.hang_ms / 1000)
    if "die-before-answer" in steering.words:
        writer.transport.abort()
        return False
    if steering.status:
        body = error_answer(ask.provider, steering.status, "as the prompt asked")
        return await _send(writer, steering.status, body, extra=extra)
    if redirect := _redirect(ask, request):
        status, location = redirect
        body = error_answer(ask.provider, status, "as the prompt asked")
        return await _send(writer, status, body, extra=(*extra, ("location", location)))
    if "not-json" in steering.words:
        return await _send(writer, 200, b"<html>this is not JSON</html>", extra=extra)
    if streams(ask):
        return await _send_stream(ask, writer, extra)
    if steering.slow_ms:
        await asyncio.sleep(steering.slow_ms / 1000)
    body = json_answer(ask)
    if steering.words & {"short-body", "die-mid-stream"}:
        writer.write(_head(200, len(body), extra=extra) + body[: len(body) // 2])
        await writer.drain()
        if "die-mid-stream" in steering.words:
            await asyncio.sleep(0.02)  # lets the first half leave before the reset discards what is queued
            writer.transport.abort()
        return False
    return await _send(writer, 200, body, extra=extra, drip="drip" in steering.words)


def _head(status: int, length: int | None, content_type: str = "application/json", extra: _Headers = ()) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    phrase = _REASON_PHRASES.get(status, "Status")
    more = "".join(f"{name}: {value}\r\n" for name, value in extra)
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{framing}\r\nx-request-id: standin\r\n"
        f"{more}\r\n"
    ).encode("latin-1")


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, *, extra: _Headers = (), drip: bool = False
) -> bool:
    head = _head(status, len(body), extra=extra)
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


async def _send_stream(ask: Ask, writer: asyncio.StreamWriter, extra: _Headers) -> bool:
    words, events = ask.steering.words, stream_answer(ask)
    if "no-terminal" in words:
        del events[-terminal_events(ask.kind) :]
    cut = len(events) // 2 if "die-mid-stream" in words else len(events)
    writer.write(_head(200, None, stream_type(ask.kind), extra))
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


def _remember_sni(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    tls.standin_sni = name or ""  # type: ignore[attr-defined]


def _sni(writer: asyncio.StreamWriter) -> str:
    return str(getattr(writer.get_extra_info("ssl_object"), "standin_sni", ""))


def _prepare(args: argparse.Namespace) -> tuple[Standin, ssl.SSLContext | None, JsonObject]:
    """The stand-in, its TLS context, and what the ready line says of the files."""
    folder = Path(args.dir)
    folder.mkdir(parents=True, exist_ok=True)
    key_files = {provider: folder / f"{provider}.key" for provider in KEYED}
    credentials = {provider: ensure_credential(path, provider) for provider, path in key_files.items()}
    context: ssl.SSLContext | None = None
    ca_path = ""
    if not args.plain:
        ca, server_pem = ensure_certificates(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(server_pem)
        context.sni_callback = _remember_sni
        ca_path = str(ca)
    record_fd = os.open(args.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    files = {"ca": ca_path, "credentials": {provider: str(path) for provider, path in key_files.items()}}
    return Standin(credentials, record_fd), context, files


async def _run(args: argparse.Namespace) -> None:
    standin, context, files = _prepare(args)
    server = await asyncio.start_server(
        standin.serve_connection, "127.0.0.1", args.port, ssl=context, limit=MAX_HEAD_BYTES, backlog=1024
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
