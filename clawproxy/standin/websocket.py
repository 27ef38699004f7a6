"""The WebSocket side: OpenAI's responses transport and realtime, a message of the client answered by many of ours.

Limits: RFC 6455 without extensions (compression is declined), text messages of 16 MiB, 4096 items in a conversation.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

from .formats import Ask, JsonObject, error_object, read_ask
from .formats.encode import objects
from .formats.openai_realtime import item_added, session
from .formats.openai_realtime import steps as realtime_steps
from .formats.openai_responses import steps as responses_steps
from .formats.openai_responses import warm_up
from .request import Request

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_ITEMS = 4096
_READ_BYTES = 64 * 1024


def wants_upgrade(request: Request) -> bool:
    """Whether the request is a whole opening handshake of version 13."""
    tokens = {token.strip().lower() for token in request.header("connection").split(",")}
    named = request.header("upgrade").lower() == "websocket" and "upgrade" in tokens
    return named and request.header("sec-websocket-version") == "13" and bool(request.header("sec-websocket-key"))


def accept_head(request: Request) -> bytes:
    """The head that answers the handshake."""
    digest = hashlib.sha1((request.header("sec-websocket-key") + _GUID).encode("latin-1")).digest()
    accept = base64.b64encode(digest).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        f"sec-websocket-accept: {accept}\r\n\r\n"
    ).encode()


@dataclass(slots=True)
class Socket:
    """One open socket; ``record`` takes each message of the client and the object in it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    realtime: bool
    model: str
    credential: str
    header: str
    record: Callable[[bytes, JsonObject | None], None]
    _connection: Connection = field(default_factory=lambda: Connection(ConnectionType.SERVER))
    _items: list[JsonObject] = field(default_factory=list)

    async def serve(self) -> None:
        """Answer messages until the client closes; what breaks the protocol closes the socket."""
        if self.realtime:
            await self._say([session("session.created", self.model)])
        parts: list[bytes] = []
        size = 0
        while data := await self.reader.read(_READ_BYTES):
            self._connection.receive_data(data)
            for event in self._events():
                match event:
                    case TextMessage() | BytesMessage():
                        part = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                        size += len(part)
                        if size > _MAX_MESSAGE_BYTES:
                            await self._send(CloseConnection(1009))
                            return
                        parts.append(part)
                        if event.message_finished:
                            raw, parts, size = b"".join(parts), [], 0
                            if not await self._answer(raw):
                                return
                    case Ping():
                        await self._send(event.response())
                    case CloseConnection():
                        await self._send(event.response())
                        return

    def _events(self) -> Iterator[Event]:
        """One by one, since a close that came behind a message must not close before the answer."""
        try:
            yield from self._connection.events()
        except RemoteProtocolError as err:
            yield err.event_hint if isinstance(err.event_hint, CloseConnection) else CloseConnection(1002)

    async def _answer(self, raw: bytes) -> bool:
        """Record and answer one message; returns whether the socket stays open."""
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        message: JsonObject | None = body if isinstance(body, dict) else None
        self.record(raw, message)
        if message is None:
            return await self._fail("the message is not a JSON object")
        kind = message.get("type")
        if kind == "response.create":
            return await self._respond(message, raw)
        if not self.realtime:
            return await self._fail("only response.create is known here")
        item = message.get("item")
        if kind == "session.update":
            await self._say([session("session.updated", self.model)])
        elif kind == "conversation.item.create" and isinstance(item, dict) and len(self._items) < _MAX_ITEMS:
            self._items.append(item)
            await self._say([item_added(item, len(self._items))])
        else:
            return await self._fail("this event is not known here")
        return True

    async def _respond(self, message: JsonObject, raw: bytes) -> bool:
        if self.realtime:
            body = message | {"items": self._items}
            ask = read_ask("realtime", body, raw, self.header, self.credential, model=self.model)
            return await self._stream(ask, realtime_steps(ask))
        self._remember(message)
        ask = read_ask("responses", message | {"input": self._items}, raw, self.header, self.credential)
        return await self._stream(ask, warm_up(ask) if message.get("generate") is False else responses_steps(ask))

    def _remember(self, message: JsonObject) -> None:
        """What the conversation of ``previous_response_id`` consists of, as far as this socket saw it."""
        given = message.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(objects(given))
        before = self._items if message.get("previous_response_id") else []
        self._items = [*before, *items][-_MAX_ITEMS:]

    async def _stream(self, ask: Ask, steps: Iterable[JsonObject]) -> bool:
        steering, words = ask.steering, ask.steering.words
        await asyncio.sleep(steering.hang_ms / 1000)
        if "die-before-answer" in words:
            self.writer.transport.abort()
            return False
        if steering.status:
            return await self._fail("as the prompt asked", steering.status)
        told = list(steps)
        if "no-terminal" in words:
            told.pop()
        if "die-mid-stream" in words:
            await self._say(told[: len(told) // 2], slow_ms=steering.slow_ms)
            await asyncio.sleep(0.02)  # lets what is queued leave before the reset discards it
            self.writer.transport.abort()
            return False
        await self._say(told, slow_ms=steering.slow_ms, fragment=7 if "drip" in words else 0)
        return True

    async def _fail(self, text: str, status: int = 400) -> bool:
        await self._say([{"type": "error", "status": status} | error_object("openai", status, text)])
        return True

    async def _say(self, objects: Iterable[JsonObject], *, slow_ms: int = 0, fragment: int = 0) -> None:
        for one in objects:
            if slow_ms:
                await asyncio.sleep(slow_ms / 1000)
            text = json.dumps(one, separators=(",", ":"))
            step = fragment or len(text)
            for start in range(0, len(text), step):
                await self._send(TextMessage(text[start : start + step], message_finished=start + step >= len(text)))

    async def _send(self, event: Event) -> None:
        self.writer.write(self._connection.send(event))
        await self.writer.drain()
