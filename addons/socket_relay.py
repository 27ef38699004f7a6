"""A WebSocket between agent and provider, message by message, inside the seam (``http_stream.py``).

mitmproxy's own layer for WebSockets is not used: it passes pings on with what is in them, keeps every message, waits
for one verdict with everything, stops included, and rewrites text that an addon has changed. Here

* only whole text messages pass, each as its judge returned it, in one frame. The judge (``holds.FrameJudge``) answers
  at once, or the message waits for ``async seam_frame(frame)`` while what follows queues up within bounds;
* pings are answered here, on both sides, and the reasons of close frames are dropped: no byte passes that was not
  judged;
* binary messages, extensions, too large messages, too many fragments and too many pings end the socket.

``seam_socket_end(end)`` is called once, whatever ended the socket, unless the seam cut it (``error`` then).

Limits: one verdict at a time for both directions; a peer that sends more than the bounds while one is awaited is cut.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from mitmproxy import http
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestProtocolError,
    ResponseData,
    ResponseProtocolError,
)
from wsproto import events as ws
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.utilities import ProtocolError

from .holds import Frame, FrameJudge, SeamFrameHook, SeamSocketEndHook, SocketEnd

_TICK_S = 1.0
_GONE = 1006  # no close frame came
_NORMAL, _AWAY, _FAILED = 1000, 1001, 1011


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Bounds of one socket; those of one message are its judge's."""

    fragments: int = 1024
    """Of one message."""
    waiting_bytes: int = 2 * 1024 * 1024
    """Of whole messages behind one that waits for its verdict, besides one as large as may be."""
    waiting_messages: int = 1024
    controls_per_s: int = 32
    """Pings and pongs of one side."""
    deadline_s: float = 30.0
    """For a verdict."""
    idle_s: float = 3600.0
    """Without a message; a socket without pings ends earlier, with the engine's idle time-out."""


class _Side:
    """One end of the socket."""

    def __init__(self, kind: ConnectionType, message_bytes: int) -> None:
        self.peer = Connection(kind)
        self.message_bytes = message_bytes
        self.text = bytearray()
        self.fragments = 0
        self.waiting_bytes = 0
        self.waiting_messages = 0
        self.deaf = False
        self._second = 0
        self._controls = 0

    def count_control(self) -> int:
        """How many came in this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._controls = second, 0
        self._controls += 1
        return self._controls


class Relay:
    """Both sides of one socket. ``waits_for`` is the layer to which verdicts come back as events (``completed``)."""

    def __init__(
        self,
        flow: http.HTTPFlow,
        judge: FrameJudge,
        context: Context,
        stream_id: int,
        waits_for: object,
        limits: RelayLimits = RelayLimits(),
    ) -> None:
        self.over = False
        self._flow = flow
        self._judge = judge
        self._context = context
        self._stream_id = stream_id
        self._layer = waits_for
        self._limits = limits
        self._client = _Side(ConnectionType.SERVER, judge.client_bytes)
        self._server = _Side(ConnectionType.CLIENT, judge.server_bytes)
        self._asked: SeamFrameHook | None = None
        self._waiting: deque[tuple[_Side, bytes]] = deque()
        self._nap: commands.RequestWakeup | None = None
        self._left_s = 0.0
        self._heard_s = time.monotonic()

    # -- what comes ------------------------------------------------------------------------------------------------

    def received(self, data: bytes, *, from_client: bool) -> CommandGenerator[None]:
        """Bytes of one side."""
        side = self._client if from_client else self._server
        if self.over or side.deaf:
            return
        try:
            side.peer.receive_data(data)
            for event in side.peer.events():
                yield from self._event(side, event)
                if self.over or side.deaf:
                    return
        except ProtocolError as err:
            yield from self._fault(side, type(err).__name__)

    def lost(self, *, from_client: bool) -> CommandGenerator[None]:
        """A side's connection is gone, without a close frame."""
        if not self.over:
            yield from self._closed(self._client if from_client else self._server, _GONE)

    def completed(self, command: commands.Command) -> CommandGenerator[None]:
        """A verdict, or a nap is over."""
        if self.over:
            return
        if command is self._asked:
            assert self._asked is not None
            frame, self._asked = self._asked.frame, None
            yield from self._answered(frame)
        elif command is self._nap:
            self._nap = None
            if self._asked is not None and self._left_s <= 0:
                yield from self._refuse(b"", _FAILED, "no verdict in time")
            elif self._asked is not None:
                yield self._next_nap()

    def _event(self, side: _Side, event: ws.Event) -> CommandGenerator[None]:
        if isinstance(event, ws.TextMessage):
            yield from self._text(side, event)
        elif isinstance(event, ws.Ping | ws.Pong):
            if side.count_control() > self._limits.controls_per_s:
                yield from self._fault(side, "too many pings")
            elif time.monotonic() - self._heard_s > self._limits.idle_s:
                yield from self._end("gateway", _AWAY, _AWAY, "nothing but pings")
            elif isinstance(event, ws.Ping):
                yield self._raw(side, side.peer.send(event.response()))
        elif isinstance(event, ws.CloseConnection):
            yield from self._closed(side, event.code)
        else:
            yield from self._fault(side, "a binary message")

    def _text(self, side: _Side, event: ws.TextMessage) -> CommandGenerator[None]:
        side.text += event.data.encode()
        if len(side.text) > side.message_bytes:
            side.text.clear()
            yield from self._fault(side, f"a message of more than {side.message_bytes} bytes")
        elif event.message_finished:
            data = bytes(side.text)
            side.text, side.fragments = bytearray(), 0
            self._heard_s = time.monotonic()
            yield from self._whole(side, data)
        elif event.frame_finished:
            side.fragments += 1
            if side.fragments > self._limits.fragments:
                yield from self._fault(side, f"a message in more than {self._limits.fragments} fragments")

    # -- what may pass ---------------------------------------------------------------------------------------------

    def _whole(self, side: _Side, data: bytes) -> CommandGenerator[None]:
        if self._asked is None and not self._waiting:
            yield from self._judge_one(side, data)
            return
        limits = self._limits
        side.waiting_bytes += len(data)
        side.waiting_messages += 1
        if (
            side.waiting_bytes > limits.waiting_bytes + side.message_bytes
            or side.waiting_messages > limits.waiting_messages
        ):
            yield from self._fault(side, "too much behind a message that is being judged")
        else:
            self._waiting.append((side, data))

    def _judge_one(self, side: _Side, data: bytes) -> CommandGenerator[None]:
        out = self._judge.take(data, from_client=side is self._client)
        if isinstance(out, Frame):
            yield from self._ask(out)
        else:
            yield from self._pass(side, out)

    def _pass(self, side: _Side, out: bytes | tuple[bytes, ...]) -> CommandGenerator[None]:
        other = self._server if side is self._client else self._client
        for data in (out,) if isinstance(out, bytes) else out:
            if other.peer.state is ConnectionState.OPEN:
                yield self._raw(other, other.peer.send(ws.TextMessage(data=data.decode())))

    def _ask(self, frame: Frame) -> CommandGenerator[None]:
        self._asked = SeamFrameHook(frame)
        self._asked.blocking = self._layer  # type: ignore[assignment]
        self._left_s = self._limits.deadline_s
        if self._nap is None:
            yield self._next_nap()
        yield self._asked

    def _next_nap(self) -> commands.RequestWakeup:
        self._nap = commands.RequestWakeup(min(_TICK_S, self._left_s))
        self._left_s -= _TICK_S
        return self._nap

    def _answered(self, frame: Frame) -> CommandGenerator[None]:
        if frame.verdict is None and frame.again:
            frame.again = False
            yield from self._ask(frame)
            return
        if frame.verdict is None or frame.fault:
            yield from self._refuse(frame.goodbye, frame.code, frame.fault or "refused")
            return
        yield from self._pass(self._client if frame.from_client else self._server, frame.verdict)
        while self._waiting and self._asked is None and not self.over:
            side, data = self._waiting.popleft()
            side.waiting_bytes -= len(data)
            side.waiting_messages -= 1
            yield from self._judge_one(side, data)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _fault(self, side: _Side, what: str) -> CommandGenerator[None]:
        """What a side sends is no message that could be judged: it is heard no more, and the addons are told."""
        side.deaf = True
        side.text.clear()
        self._waiting.clear()
        if self._asked is None:
            yield from self._ask(Frame(self._flow, side is self._client, b"", fault=what))
        else:
            yield from self._refuse(b"", _FAILED if side is self._server else 1008, what)

    def _refuse(self, goodbye: bytes, code: int, why: str) -> CommandGenerator[None]:
        if goodbye:
            yield from self._pass(self._server, goodbye)
        yield from self._end("gateway", code, _AWAY, why)

    def _closed(self, side: _Side, code: int) -> CommandGenerator[None]:
        """A side said goodbye, broke the protocol, or is gone."""
        if side is self._client:
            yield from self._end("client", code, _NORMAL if code == _GONE else code, f"close code {int(code)}")
        else:
            yield from self._end("server", _FAILED if code == _GONE else code, code, f"close code {int(code)}")

    def _end(
        self, by: Literal["client", "server", "gateway"], to_client: int, to_server: int, why: str
    ) -> CommandGenerator[None]:
        self.over = True
        self._waiting.clear()
        for side, code in ((self._server, to_server), (self._client, to_client)):
            if code != _GONE and side.peer.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
                yield self._raw(side, side.peer.send(ws.CloseConnection(code)))
        close = ErrorCode.PASSTHROUGH_CLOSE
        yield SendHttp(RequestProtocolError(self._stream_id, "EOF", close), self._context.server)
        yield SendHttp(ResponseProtocolError(self._stream_id, "EOF", close), self._context.client)
        yield SeamSocketEndHook(SocketEnd(self._flow, by, why))

    def _raw(self, side: _Side, data: bytes) -> SendHttp:
        if side is self._client:
            return SendHttp(ResponseData(self._stream_id, data), self._context.client)
        return SendHttp(RequestData(self._stream_id, data), self._context.server)
