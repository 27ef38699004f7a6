"""A server that tools call: HTTP and HTTPS on loopback, in the test's own event loop. It keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from clawproxy.standin.certificate import ensure_certificates


@dataclass
class ToolServer:
    """``requests`` are (head, body) as they came; ``answers`` say what comes back, by path."""

    port: int = 0
    plain_port: int = 0
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    connections: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str, n: int = -1) -> list[str]:
        """The values of a header field of the ``n``-th request."""
        lines = self.requests[n][0].decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines if line]
        return [value.strip() for key, _, value in pairs if key.lower() == name]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                self.requests.append((head, await reader.readexactly(length)))
                path = head.split(b" ")[1].decode("latin-1").partition("?")[0]
                pieces = self.answers.get(path, [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"])
                for piece in pieces:
                    if piece == b"WAIT":
                        await self.held.wait()
                    elif piece == b"CLOSE":
                        return
                    else:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0.01)
        writer.close()


@contextlib.asynccontextmanager
async def tool_server(certificates: Path) -> AsyncIterator[ToolServer]:
    """A running server whose certificate the stand-in's CA (``certificates``) signed, for ``localhost``."""
    _, chain = ensure_certificates(certificates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = ToolServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await server.serve(reader, writer)
        finally:
            writer.close()

    with_tls = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = with_tls.sockets[0].getsockname()[1]
    server.plain_port = plain.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        with_tls.close()
        plain.close()
