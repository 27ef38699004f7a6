"""The seam: a response whose end waits for its receipt, inside mitmproxy's HTTP stream.

Stock mitmproxy sends what a stream callable returns at once, and calls the ``response`` hook after the last byte:
nothing can wait for the disk, or for a person, before the end of an answer leaves. ``SeamStream`` replaces
``HttpStream`` and asks the addons instead (``holds.py`` has what is passed):

``async seam_watch(watch)``
    as soon as an upstream connection exists. Setting ``watch.stop`` and returning cuts the call, in any later state.
``async seam_hold(hold)``
    when the end of an answer (``kind="end"``), or a part of one that is judged (``"part"``), is held back. What leaves
    is ``hold.verdict``; ``None`` (no addon, an exception, a cancellation, the deadline) means that the call is cut.
``seam_pressure(hold)``
    when too much has queued up behind a held part (``hold.pressed``), and again when it is released.
``async seam_frame(frame)`` and ``seam_socket_end(end)``
    for a WebSocket (``socket_relay.py``), into which a call turns where ``UPGRADE`` was set before it left, the
    provider answers 101, and ``SOCKET`` holds the judge of its messages by then. The 101 itself waits like any answer.

A streamed answer has a ``Tap`` as ``flow.response.stream``, set in ``responseheaders``; anything else there is refused.
Every other answer, refusals made by an addon included, is held whole: ``seam_hold`` may still change ``flow.response``,
and releases it with ``b""``; ``response`` comes afterwards and changes nothing.

How it works: a hook whose ``blocking`` is the layer instead of ``True`` does not pause the stream, yet its completion
comes back as an event. So while addons wait, the stream still sees the client leave, the upstream die, and the stop.

What a cut means: no held byte leaves, the client's connection (or h2 stream) breaks, the upstream is cancelled,
``error`` is called with a message that begins with ``CUT``. Every tapped answer is framed so that a cut cannot pass for
an end (``framing.py``).

Limits: trailers of a response are dropped; HTTP/1.0 clients get a tapped answer in one piece; a cut does not take back
bytes that are already in a socket buffer.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections import deque
from dataclasses import dataclass, replace

from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.net.http.http1.read import connection_close
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import http as engine
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpResponseHook

from . import http1_guards
from .framing import frame_tapped, frame_whole, is_eof_framed
from .holds import FrameJudge, Hold, SeamHoldHook, SeamPressureHook, SeamWatchHook, Tap, Watch
from .socket_relay import Relay

__all__ = ["CUT", "Hold", "SeamLimits", "SeamStream", "Tap", "Watch", "install", "uninstall"]

log = logging.getLogger("clawproxy.seam")

LAST_WORDS = "clawproxy.last_words"
"""In ``flow.metadata``, set by an addon's ``error`` hook: the answer to send where none has begun, in place of
mitmproxy's error page or of a broken connection."""

UPGRADE = "clawproxy.upgrade"
"""In ``flow.metadata``, set before the request leaves: it may become a WebSocket. The key of its handshake."""

SOCKET = "clawproxy.socket"
"""In ``flow.metadata``, set in ``responseheaders`` of a 101: the ``FrameJudge`` of the WebSocket."""

CUT = "cut by the gateway: "
"""How ``flow.error.msg`` begins when it was the seam that ended a call."""

_TICK_S = 1.0
"""Deadlines are counted in short naps: a pending one keeps its stream in memory, and none can be cancelled."""


@dataclass(frozen=True, slots=True)
class SeamLimits:
    """Bounds of the seam. Set them with ``install``."""

    end_deadline_s: float = 10.0
    part_deadline_s: float = 3600.0
    grace_s: float = 0.15
    """How long the upstream may take to end its message after the terminal event, before it is cancelled."""
    backlog_high_bytes: int = 256 * 1024
    backlog_cap_bytes: int = 2 * 1024 * 1024
    whole_cap_bytes: int = 64 * 1024 * 1024
    """The largest answer that is held whole."""
    head_cap_bytes: int = http1_guards.HEAD_CAP_BYTES
    """The largest head of an HTTP/1 message."""


_limits = SeamLimits()


class _CutError(Exception):
    """Raised inside the seam to cut with a reason of its own."""


class _Phase(enum.Enum):
    STOCK = enum.auto()  # mitmproxy's own states: request, response head, untapped body
    FLOW = enum.auto()  # a tapped body is passing
    PART = enum.auto()  # a part is held; what follows queues up
    GRACE = enum.auto()  # the end is held; the upstream has not ended its message yet
    ATTEST = enum.auto()  # the end is held and seam_hold is at work
    SOCKET = enum.auto()  # the call has become a WebSocket


class SeamStream(engine.HttpStream):
    """One request and its response. See the module's docstring."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self.phase = _Phase.STOCK
        self.live = False  # the hot path: a tapped body, sent on as it comes
        self.tap: Tap | None = None
        self.hold: Hold | None = None
        self.watch: Watch | None = None
        self._watch_hook: SeamWatchHook | None = None
        self._hold_hook: SeamHoldHook | None = None
        self._nap: commands.RequestWakeup | None = None
        self._left_s = 0.0
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._stored: list[bytes] | None = None  # HTTP/1.0: the whole answer, sent at its end
        self._stored_bytes = 0
        self._chunked = False  # the client reads HTTP/1.1 chunks
        self._upstream_busy = False  # it owes us (the rest of) a response
        self._eof_framed = False
        self._last_call = False  # the client wants its connection closed after the answer
        self._ended = False  # the upstream's message is over, cleanly or because we cancelled it
        self._client_gone = False
        self._relay: Relay | None = None
        self._over = False

    # -- events ----------------------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.live and event.__class__ is ResponseData:
            assert self.tap is not None
            try:
                out = self.tap.feed(event.data)
            except BaseException as err:  # a CancelledError raised in here must not pass for a clean end either
                log.error("a tap failed: %s", type(err).__name__)
                yield from self.cut("tap fault")
                return
            if out.__class__ is bytes:
                if out:
                    yield self._piece(out)
                return
            event = _Held(out)
        try:
            yield from self._slow(event)
        except _CutError as err:
            yield from self.cut(str(err))
        except Exception as err:
            log.error("the seam failed: %s", http1_guards.where(err))
            yield from self.cut("seam fault")
        if self._over:
            self.__dict__.pop("flow", None)  # a pending nap may keep the stream for a while, but not its bodies

    def _slow(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.CommandCompleted):
            yield from self._completed(event.command)
        elif self.phase is _Phase.STOCK:
            if event.__class__ is ResponseEndOfMessage:
                yield from self._upstream_done()
            yield from super()._handle_event(event)
            if self.state_errored in (self.client_state, self.server_state):
                self._finished()
        elif self._relay is not None:
            yield from self._socket_event(self._relay, event)
        elif isinstance(event, (RequestProtocolError, ResponseProtocolError)):
            yield from self._broken(event)
        elif isinstance(event, ResponseData):
            yield from self._arrived(event.data)
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._upstream_done()
            yield from self._end_of_message()
        elif isinstance(event, _Held):
            yield from self._taken(event.out)
        elif not isinstance(event, ResponseTrailers):
            yield from super()._handle_event(event)

    def _completed(self, command: commands.Command) -> CommandGenerator[None]:
        """A detached hook returned, or a nap is over. Answers to a question nobody asks any more are ignored."""
        if command is self._watch_hook:
            if self.watch is not None and self.watch.stop is not None:
                yield from self.cut("stopped")
        elif self._relay is not None:
            yield from self._relay.completed(command)
            yield from self._after_relay(self._relay)
        elif command is self._hold_hook:
            self._hold_hook = None
            yield from self._answered()
        elif command is self._nap:
            self._nap = None
            if self.phase is _Phase.GRACE:
                yield from self._cancel_upstream("no end of message after the terminal event")
                self._ended = True
                yield from self._attest()
            elif self.phase in (_Phase.PART, _Phase.ATTEST) and self.hold is not None:
                if self._left_s <= 0:
                    yield from self.cut("held past the deadline")
                else:
                    yield self._next_nap()

    def _deaf(self, event: events.Event) -> CommandGenerator[None]:
        yield from ()

    def state_wait_for_request_headers(self, event: RequestHeaders) -> CommandGenerator[None]:
        """What the client says about its connection is kept: the gate rebuilds the header fields."""
        self._last_call = connection_close(event.request.http_version, event.request.headers)  # type: ignore[no-untyped-call]
        yield from super().state_wait_for_request_headers(event)

    # -- towards the upstream --------------------------------------------------------------------------------------

    def start_request_stream(self) -> CommandGenerator[None]:
        """Refused: a streamed request would leave before it is decided."""
        raise _CutError("a request is never streamed")
        yield

    def make_server_connection(self) -> CommandGenerator[bool]:
        """Get the upstream connection, then arm the stop switch."""
        ok = yield from super().make_server_connection()
        if ok:
            self._upstream_busy = True
            self.watch = Watch(self.flow)
            self._watch_hook = SeamWatchHook(self.watch)
            self._watch_hook.blocking = self  # type: ignore[assignment]
            yield self._watch_hook
        return ok

    def _upstream_done(self) -> CommandGenerator[None]:
        self._upstream_busy = False
        if (
            self._eof_framed and self.tap is not None
        ):  # re-framing hides from Http1Client that this connection is used up
            yield commands.CloseConnection(self.context.server)

    def _cancel_upstream(self, why: str) -> CommandGenerator[None]:
        if self._upstream_busy:
            self._upstream_busy = False
            yield self._close_upstream(why)

    def _close_upstream(self, why: str) -> engine.SendHttp:
        return engine.SendHttp(RequestProtocolError(self.stream_id, why, ErrorCode.CANCEL), self.context.server)

    # -- the head of the response ----------------------------------------------------------------------------------

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> CommandGenerator[None]:
        """Switched protocols are refused: what follows would be bytes without receipts. But a WebSocket may be asked
        for, and judged."""
        asked_for = event.response.status_code == 101 and UPGRADE in self.flow.metadata
        if event.response.status_code < 200 and not asked_for:
            self.flow.response = event.response
            raise _CutError(f"the upstream answered {event.response.status_code}")
        self._eof_framed = not event.end_stream and is_eof_framed(self.flow.request, event.response)
        yield from super().state_wait_for_response_headers(event)

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        """mitmproxy's limit for requests; for answers our own, and only for those held whole."""
        if request and self.flow.response is not None:  # refused by its head: what still comes is thrown away
            self.request_body_buf.clear()  # type: ignore[no-untyped-call]
            return False
        if request:
            return (yield from super().check_body_size(True))
        if len(self.response_body_buf) <= _limits.whole_cap_bytes:
            return False
        self.response_body_buf.clear()  # type: ignore[no-untyped-call]
        yield from self._cancel_upstream("too large")
        yield from self.handle_protocol_error(
            ResponseProtocolError(self.stream_id, f"{CUT}the answer is too large", ErrorCode.RESPONSE_TOO_LARGE)
        )
        self.client_state = self.server_state = self.state_errored
        return True

    def start_response_stream(self) -> CommandGenerator[None]:
        """The head of a tapped answer leaves, re-framed."""
        assert self.flow.response is not None
        tap: object = self.flow.response.stream
        if not isinstance(tap, Tap):
            raise _CutError("a streamed answer without a tap")
        self.tap = tap
        self.phase = _Phase.FLOW
        self.server_state = self.state_stream_response_body
        frame_tapped(self.flow.request, self.flow.response)
        if self.flow.request.http_version == "HTTP/1.0":  # no framing there shows where an answer was cut
            self._stored = []
            return
        self._chunked = self.flow.request.http_version == "HTTP/1.1"
        self.live = True
        yield self._send_head()

    def _send_head(self) -> engine.SendHttp:
        assert self.flow.response is not None
        if self._last_call:
            self.flow.response.headers["connection"] = "close"
        return engine.SendHttp(
            ResponseHeaders(self.stream_id, self.flow.response, end_stream=False), self.context.client
        )

    def _piece(self, data: bytes) -> commands.Command:
        """A piece of a tapped body. In HTTP/1.1 it is framed here: mitmproxy would look the framing up for each one."""
        if self._chunked:
            return commands.SendData(self.context.client, b"%x\r\n%s\r\n" % (len(data), data))
        return engine.SendHttp(ResponseData(self.stream_id, data), self.context.client)

    # -- the body --------------------------------------------------------------------------------------------------

    def _emit(self, data: bytes) -> CommandGenerator[None]:
        if self._stored is not None:
            self._stored.append(data)
            self._stored_bytes += len(data)
            if self._stored_bytes > _limits.whole_cap_bytes:
                raise _CutError("the answer is too large for an HTTP/1.0 client")
        elif data:
            yield self._piece(data)

    def _feed(self, data: bytes) -> object:
        assert self.tap is not None
        try:
            return self.tap.feed(data)
        except BaseException as err:
            log.error("a tap failed: %s", type(err).__name__)
            raise _CutError("tap fault") from None

    def _arrived(self, data: bytes) -> CommandGenerator[None]:
        if self.phase is _Phase.FLOW:
            yield from self._taken(self._feed(data))
        elif self.phase is _Phase.PART:
            assert self.hold is not None
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if self._backlog_bytes > _limits.backlog_cap_bytes:
                raise _CutError("too much behind a held part")
            if self._backlog_bytes > _limits.backlog_high_bytes:
                self.hold.pressed = True
                yield SeamPressureHook(self.hold)  # each time: the reader may have resumed on its own
        elif self.phase is _Phase.GRACE:
            assert self.hold is not None
            out = self._feed(data)
            self.hold.held += out if isinstance(out, bytes) else _held_bytes(out)
            if len(self.hold.held) > _limits.backlog_cap_bytes:
                raise _CutError("too much behind the terminal event")
        elif self._is_switching:  # the first messages of a socket come behind the head that waits
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if self._backlog_bytes > _limits.backlog_cap_bytes:
                raise _CutError("too much behind the answer to an upgrade")

    def _taken(self, out: object) -> CommandGenerator[None]:
        """What the tap made of a piece."""
        if isinstance(out, bytes):
            yield from self._emit(out)
            return
        if not isinstance(out, Hold) or out.kind not in ("end", "part"):
            raise _CutError("tap fault")
        yield from self._emit(out.now)
        self.hold, self.live = out, False
        if out.kind == "part":
            self.phase = _Phase.PART
            yield from self._ask(_limits.part_deadline_s)
        elif self._ended:
            yield from self._attest()
        else:
            self.phase = _Phase.GRACE
            self._nap = commands.RequestWakeup(_limits.grace_s)
            yield self._nap

    def _end_of_message(self) -> CommandGenerator[None]:
        self._ended = True
        if self.phase is _Phase.FLOW:
            assert self.tap is not None
            try:
                now, held = self.tap.close()
            except BaseException as err:
                log.error("a tap failed at the end: %s", type(err).__name__)
                raise _CutError("tap fault") from None
            yield from self._taken(Hold(self.flow, "end", now, held))
        elif self.phase is _Phase.GRACE:
            yield from self._attest()

    def _broken(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """The client left, or the upstream died."""
        if self.phase is _Phase.ATTEST:
            self._client_gone |= isinstance(event, RequestProtocolError)
        elif self.phase is _Phase.GRACE and isinstance(event, ResponseProtocolError):
            self._upstream_busy = False  # it died after its terminal event: that answer is complete
            yield from self._end_of_message()
        else:
            self._let_go()
            yield from super()._handle_event(event)
            self._finished()

    # -- holding ---------------------------------------------------------------------------------------------------

    def _ask(self, deadline_s: float) -> CommandGenerator[None]:
        assert self.hold is not None
        self._left_s = deadline_s
        yield self._next_nap()
        yield self._question()

    def _question(self) -> SeamHoldHook:
        assert self.hold is not None
        self._hold_hook = SeamHoldHook(self.hold)
        self._hold_hook.blocking = self  # type: ignore[assignment]
        return self._hold_hook

    def _next_nap(self) -> commands.RequestWakeup:
        self._nap = commands.RequestWakeup(min(_TICK_S, self._left_s))
        self._left_s -= _TICK_S
        return self._nap

    def _attest(self) -> CommandGenerator[None]:
        self.phase = _Phase.ATTEST
        yield from self._ask(_limits.end_deadline_s)

    def _answered(self) -> CommandGenerator[None]:
        hold = self.hold
        if hold is None:
            return
        if hold.verdict is None and hold.ping is not None:
            ping, hold.ping = hold.ping, None
            self._left_s = max(self._left_s, _limits.end_deadline_s)  # who asks for patience is alive
            if self.tap is not None and self._stored is None:
                yield from self._emit(ping)
            yield self._question()
        elif not isinstance(hold.verdict, bytes):
            raise _CutError("not released")
        elif hold.kind == "part":
            yield from self._resume(hold.verdict)
        else:
            yield from self._finish(hold.verdict)

    def _resume(self, verdict: bytes) -> CommandGenerator[None]:
        """A part is released: it, then the backlog, which the tap may hold again."""
        assert self.hold is not None
        released, self.hold = self.hold, None
        self.phase = _Phase.FLOW
        yield from self._emit(verdict)
        backlog, self._backlog, self._backlog_bytes = self._backlog, deque(), 0
        ended, self._ended = self._ended, False
        yield from self._taken(self._feed(b""))  # what the tap had behind the part
        for data in backlog:
            yield from self._arrived(data)
        if released.pressed:
            released.pressed = False
            yield SeamPressureHook(released)
        if ended:
            yield from self._end_of_message()
        elif self.phase is _Phase.FLOW:
            self.live = self._stored is None

    def send_response(self, already_streamed: bool = False) -> CommandGenerator[None]:
        """An untapped answer is whole: all of it waits, head included."""
        assert self.flow.response is not None
        if already_streamed or (self.flow.response.status_code < 200 and not self._is_switching):
            raise _CutError(f"a {self.flow.response.status_code} answer")
        self.hold = Hold(self.flow, "end", b"", b"")
        yield from self._attest()

    def _finish(self, verdict: bytes) -> CommandGenerator[None]:
        """The record is durable: the rest leaves, and the end of message with it."""
        self.hold = None
        if self._client_gone:
            self.client_state = self.server_state = self.state_errored
            yield HttpResponseHook(self.flow)
            self.flow.live = False
            if self._is_switching:
                yield self._close_upstream("the client left")
            yield engine.DropStream(self.stream_id)
        elif self.tap is None:
            assert self.flow.response is not None
            if not self._is_switching:
                frame_whole(self.flow.request, self.flow.response)
            if self._last_call and not self._is_switching:
                self.flow.response.headers["connection"] = "close"
            yield from super().send_response(False)
        else:
            yield HttpResponseHook(self.flow)
            self.server_state = self.state_done
            if not (yield from self.check_killed(False)):
                yield from self._emit(verdict)
                if self._stored is not None:
                    yield from self._send_stored(b"".join(self._stored))
                yield from self.flow_done()
        if self._relay is None or self._relay.over:
            self._finished()

    def _send_stored(self, body: bytes) -> CommandGenerator[None]:
        assert self.flow.response is not None
        self.flow.response.headers["content-length"] = str(len(body))
        yield self._send_head()
        if body:
            yield engine.SendHttp(ResponseData(self.stream_id, body), self.context.client)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """As in mitmproxy, but where nothing was sent yet, ``LAST_WORDS`` go instead of its error page."""
        commanding = super().handle_protocol_error(event)
        answer: object = None
        with contextlib.suppress(StopIteration):
            while True:
                command = commanding.send(answer)
                words = self.flow.metadata.get(LAST_WORDS) if self.tap is None else None
                if words is not None and isinstance(command, engine.SendHttp) and command.event is event:
                    yield from self._say(words)
                    answer = None
                else:
                    answer = yield command

    def _killed_by_us(self) -> bool:
        return self.flow.error is not None and self.flow.error.msg == mflow.Error.KILLED_MESSAGE

    def _say(self, words: http.Response) -> CommandGenerator[None]:
        if self._last_call:
            words.headers["connection"] = "close"
        for part in (
            ResponseHeaders(self.stream_id, words, False),
            ResponseData(self.stream_id, words.raw_content or b""),
            ResponseEndOfMessage(self.stream_id),
        ):
            yield engine.SendHttp(part, self.context.client)

    # -- a socket --------------------------------------------------------------------------------------------------

    @property
    def _is_switching(self) -> bool:
        """The provider agreed to a WebSocket, and somebody will judge its messages."""
        flow = self.__dict__.get("flow")
        return (
            flow is not None
            and flow.response is not None
            and flow.response.status_code == 101
            and isinstance(flow.metadata.get(SOCKET), FrameJudge)
        )

    def flow_done(self) -> CommandGenerator[None]:
        """As in mitmproxy; but a 101 that left becomes a socket of ours, or the connection ends."""
        if not self._is_switching:
            yield from super().flow_done()
            return
        judge = self.flow.metadata[SOCKET]
        self._relay = relay = Relay(self.flow, judge, self.context, self.stream_id, self)
        self.phase = _Phase.SOCKET
        self._upstream_busy = True  # until the socket ends
        yield engine.SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        backlog, self._backlog, self._backlog_bytes = self._backlog, deque(), 0
        for data in backlog:
            yield from relay.received(data, from_client=False)
        if self._ended:
            yield from relay.lost(from_client=False)
        yield from self._after_relay(relay)

    def _socket_event(self, relay: Relay, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, (RequestData, ResponseData)):
            yield from relay.received(event.data, from_client=isinstance(event, RequestData))
        elif isinstance(event, (RequestEndOfMessage, RequestProtocolError)):
            yield from relay.lost(from_client=True)
        elif isinstance(event, (ResponseEndOfMessage, ResponseProtocolError)):
            yield from relay.lost(from_client=False)
        yield from self._after_relay(relay)

    def _after_relay(self, relay: Relay) -> CommandGenerator[None]:
        if relay.over and not self._over:
            self._upstream_busy = False
            self.flow.live = False
            self._finished()
            yield engine.DropStream(self.stream_id)

    # -- the end ---------------------------------------------------------------------------------------------------

    def check_killed(self, emit_error_hook: bool) -> CommandGenerator[bool]:
        """As in mitmproxy, and the upstream is told as well. A call that an addon killed gets its ``LAST_WORDS`` where
        nothing was sent yet."""
        commanding = super().check_killed(emit_error_hook)
        answer: object = None
        killed = False
        with contextlib.suppress(StopIteration):
            while True:
                command = commanding.send(answer)
                killed = killed or isinstance(command, engine.SendHttp)
                words = self.flow.metadata.get(LAST_WORDS) if self.tap is None and self._killed_by_us() else None
                if words is not None and isinstance(command, engine.SendHttp):
                    yield from self._say(words)
                    answer = None
                else:
                    answer = yield command
        if killed:
            yield from self._cancel_upstream("killed")
            yield engine.DropStream(self.stream_id)
        return killed

    def cut(self, why: str) -> CommandGenerator[None]:
        """Bytes stop first, then the addons are told. Idempotent. Who has asked and got no byte yet is told the
        ``LAST_WORDS``."""
        if self._over:
            return
        flow: http.HTTPFlow | None = self.__dict__.get("flow")
        waits = flow is not None and flow.response is None and self.client_state == self.state_done
        self._let_go()
        self.client_state = self.server_state = self.state_errored
        self._finished()
        broken = engine.SendHttp(ResponseProtocolError(self.stream_id, CUT + why, ErrorCode.KILL), self.context.client)
        if not waits:
            yield broken
        yield from self._cancel_upstream(why)
        if flow is not None:
            flow.error = mflow.Error(CUT + why)
            yield HttpErrorHook(flow)
            flow.live = False
            if waits:
                words = flow.metadata.get(LAST_WORDS)
                if words is not None:
                    yield from self._say(words)
                else:
                    yield broken
        yield engine.DropStream(self.stream_id)
        self.__dict__.pop("flow", None)

    def _let_go(self) -> None:
        self.live = False
        self._backlog.clear()
        self._stored = None
        if self.hold is not None:
            self.hold.gone.set()
            self.hold = None

    def _finished(self) -> None:
        self.live = False
        self._over = True
        self._handle_event = self._deaf  # type: ignore[method-assign]
        if self.watch is not None:
            self.watch.over.set()


class _Held(events.Event):
    """What the tap returned on the hot path, if it was not plain bytes."""

    def __init__(self, out: object) -> None:
        self.out = out


def _held_bytes(out: object) -> bytes:
    if not isinstance(out, Hold):
        raise _CutError("tap fault")
    return out.now + out.held


# -- into mitmproxy ------------------------------------------------------------------------------------------------

_STOCK_MAKE_STREAM = engine.HttpLayer.make_stream


def _make_stream(self: engine.HttpLayer, stream_id: int) -> CommandGenerator[None]:
    stream = SeamStream(self.context.fork(), stream_id)
    self.streams[stream_id] = stream
    yield from self.event_to_child(stream, events.Start())


def install(
    *,
    end_deadline_s: float | None = None,
    part_deadline_s: float | None = None,
    grace_s: float | None = None,
    whole_cap_bytes: int | None = None,
    backlog_cap_bytes: int | None = None,
    backlog_high_bytes: int | None = None,
    head_cap_bytes: int | None = None,
) -> None:
    """Put the seam into mitmproxy, for the whole process. May be called again to change limits; None keeps a limit."""
    global _limits
    _limits = replace(_limits, **{name: value for name, value in locals().items() if value is not None})
    engine.HttpLayer.make_stream = _make_stream  # type: ignore[method-assign]
    http1_guards.install(_limits.head_cap_bytes)


def uninstall() -> None:
    """Stock mitmproxy again, with default limits: for tests that show what the seam is for."""
    global _limits
    _limits = SeamLimits()
    engine.HttpLayer.make_stream = _STOCK_MAKE_STREAM  # type: ignore[method-assign]
    http1_guards.uninstall()
