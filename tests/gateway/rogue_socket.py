"""A provider that does with sockets what no provider should: a TLS server whose every byte a test decides."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from ..clawproxy.standin_process import Provider

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def switched(head: bytes, **more: str) -> bytes:
    """The right answer to a handshake; ``more`` changes or adds fields, and takes those away that are empty."""
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    key = found[1].decode() if found else ""
    accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
    fields = {"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_accept": accept, **more}
    told = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 101 Switching Protocols\r\n{told}\r\n".encode()


@dataclass
class Line:
    """The provider's end of one connection."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    socket: Connection

    async def send(self, *events: Event) -> None:
        for event in events:
            self.writer.write(self.socket.send(event))
        await self.writer.drain()

    async def say(self, *texts: str) -> None:
        await self.send(*(TextMessage(data=text) for text in texts))

    async def hear(self) -> str | int:
        """The next whole message of the gateway; a close code where it closes; 0 where the connection ends."""
        text = ""
        while True:
            for event in self.socket.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        return text
                elif isinstance(event, CloseConnection):
                    return int(event.code)
                assert not isinstance(event, Ping | BytesMessage), "the gateway passed on what nobody judged"
            data = await self.reader.read(65536)
            if not data:
                return 0
            self.socket.receive_data(data)


type Script = Callable[[Line], Awaitable[None]]


@contextlib.asynccontextmanager
async def rogue(
    provider: Provider, script: Script, answer: Callable[[bytes], bytes] = switched
) -> AsyncIterator[Provider]:
    """A provider that answers every request with ``answer(head)`` and then follows ``script``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(head))
            await script(Line(head, reader, writer, Connection(ConnectionType.SERVER)))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(provider.ca).parent / "server.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield replace(provider, url=f"https://127.0.0.1:{port}")
    finally:
        server.close()
