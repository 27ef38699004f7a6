"""A plain HTTP/1.1 client that tells how an answer ended: tests must see a cut that an SDK would hide."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any

import h11
import orjson


@dataclass(slots=True)
class Answer:
    """What came back. ``complete`` is False when the connection ended before the message did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def refusal(self) -> dict[str, Any]:
        """The machine-readable part of a refusal."""
        told: dict[str, Any] = self.json["error"]["clawproxy"]
        return told


class RawClient:
    """One connection. ``through`` is the proxy's address for CONNECT, ``tls`` trusts the gateway's CA."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._h11 = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, host: str, port: int) -> RawClient:
        return cls(*await asyncio.open_connection(host, port))

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        await self.writer.start_tls(context, server_hostname=name)

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def request(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, timeout_s: float = 30
    ) -> Answer:
        """Send one request and read its whole answer."""
        fields = {"content-length": str(len(body)), **headers}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n"
        await self.send(head.encode() + body)
        self._h11.send(h11.Request(method=method, target=target, headers=list({"host": "x", **fields}.items())))
        if body:
            self._h11.send(h11.Data(data=body))
        self._h11.send(h11.EndOfMessage())
        return await self.answer(timeout_s=timeout_s)

    async def answer(self, *, timeout_s: float = 30) -> Answer:
        """Read an answer to its end, or to the end of the connection."""
        answer = Answer()
        try:
            async with asyncio.timeout(timeout_s):
                while not answer.complete:
                    event = self._h11.next_event()
                    if event is h11.NEED_DATA:
                        data = await self.reader.read(65536)
                        self._h11.receive_data(data)
                    elif isinstance(event, h11.Response):
                        answer.status = event.status_code
                        answer.headers = {n.decode(): v.decode() for n, v in event.headers}
                    elif isinstance(event, h11.Data):
                        answer.body += bytes(event.data)
                    elif isinstance(event, h11.EndOfMessage):
                        answer.complete = True
                    else:
                        break
        except (h11.RemoteProtocolError, ConnectionError, ssl.SSLError):
            pass
        if answer.complete and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return answer

    async def rest(self) -> bytes:
        """What comes before the connection ends; nothing where it is reset."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), 30)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
