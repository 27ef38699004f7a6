"""The WebSockets of OpenAI's responses and realtime APIs: each message that asks for a response is a call of its own.

The handshake is a call (``gate``): judged, an intent before it leaves, a receipt before the client sees the 101. Then

* every message of the client is read strictly and decided with what the connection knows (``wire.session``), the token
  being judged again; one that asks for a response gets its intent before it leaves;
* the events of the response are hashed and read as they pass, and the one that ends it waits for its receipt;
* what cannot be judged, or may not be, is refused: the denial is recorded, the agent gets an error event in the
  provider's shape, and the socket is closed.

One response at a time. The request digest of a call covers all messages of the client since the response before it.
Runs on the event loop; the bytes are ``socket_relay``'s.

Limits: what a client sends last on a realtime socket, without asking for a response afterwards, is in no digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mitmproxy import connection, http

from ..receipts.calls import Outcome
from ..tokens.digests import b64u_encode
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .call import Call
from .data_gate import AnswerWatch, DataGate
from .ending import Ending
from .holds import Frame, SocketEnd, Watch
from .http_stream import SOCKET
from .json_body import JsonBounds, parse_body, refusal_of_body
from .stream_tap import MAX_BLOCK_BYTES, MAX_EVENT_BYTES, redact
from .tool_gate import CallJudges, ToolGate, Waits, done_within
from .usage import SAMPLE_BYTES
from .wire.openai_realtime import RealtimeSession
from .wire.reader import load_object
from .wire.responses_session import ResponsesSession
from .wire.session import Session

if TYPE_CHECKING:
    from .gate import Gate, Steps

log = logging.getLogger("clawproxy.websocket")

_ORPHAN_GRACE_S = 2.0
_MAX_UNASKED = 100_000
_AGAIN_S = 5.0
_UNASKED_BODIES = 4
"""Of messages that ask for no response, between two that do: so many, and so many times the largest body in bytes."""
_OUTCOMES = {"client": Outcome.CLIENT_GONE, "server": Outcome.UPSTREAM_FAILED, "gateway": Outcome.STOPPED}


class FrameTap:
    """Hashes the messages of one response, one after the other."""

    def __init__(self, started_ms: int, clock_ms: Callable[[], int]) -> None:
        self.seen_bytes = 0
        self.sample = bytearray()
        self.first_byte_ms: int | None = None
        self._started_ms = started_ms
        self._clock_ms = clock_ms
        self._hash = hashlib.sha256()

    @property
    def digest_b64u(self) -> str:
        """SHA-256 of the payloads so far."""
        return b64u_encode(self._hash.digest())

    def feed(self, data: bytes) -> None:
        """The next message."""
        if self.first_byte_ms is None:
            self.first_byte_ms = max(0, self._clock_ms() - self._started_ms)
        self._hash.update(data)
        self.sample += data[: max(0, SAMPLE_BYTES - len(self.sample))]
        self.seen_bytes += len(data)


class Socket:
    """One open socket: the judge of its messages (``holds.FrameJudge``). ``call`` is the response that is open,
    ``judged`` the message that is being judged."""

    def __init__(
        self,
        handshake: Call,
        session: Session,
        clock_ms: Callable[[], int],
        max_body_bytes: int,
        json_bounds: JsonBounds,
        judges: CallJudges,
        *,
        new_watch: Callable[[Call], AnswerWatch | None] = lambda _: None,
    ) -> None:
        self._new_watch = new_watch
        self._screen: AnswerWatch | None = None
        self.reworded: bytes | None = None
        """The message that is judged now, after something in it was redacted."""
        self.client_bytes = max_body_bytes
        self.json_bounds = json_bounds
        self.server_bytes = MAX_EVENT_BYTES
        self.handshake = handshake
        self.watch: Watch | None = handshake.watch
        self.call: Call | None = None
        self.judged: Call | None = None
        self.ended: SocketEnd | None = None
        self.over = asyncio.Event()
        self.settling: asyncio.Task[Refusal | None] | None = None
        self._judges = judges
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._session = session
        self._clock_ms = clock_ms
        self._said = hashlib.sha256()
        self._said_bytes = 0
        self._said_count = 0
        self._context_tokens = 0

    # -- the provider ----------------------------------------------------------------------------------------------

    def take(self, data: bytes, *, from_client: bool) -> bytes | tuple[bytes, ...] | Frame:
        """See ``holds.FrameJudge``: what the client says always waits; of the provider's events the last one, and those
        that call tools, from the first of a call to the one after which none is open."""
        if self.ended is not None:
            raise ClawproxyError("GATEWAY_FAULT", "a message on a socket that has ended")
        if from_client:
            return Frame(self.handshake.flow, True, data)
        told = load_object(data)
        kind = told.get("type") if told is not None else None
        if told is None or not isinstance(kind, str):
            return self._strange("a message that is no event")
        clean = redact(data, self.handshake.credential.encode())
        call = self.call
        if call is None:
            if not self._session.may_come(told):
                return self._strange("an event that nobody asked for")
            self._session.heard(told)
            return clean
        assert isinstance(call.tap, FrameTap)
        assert call.reader is not None
        call.tap.feed(data)
        if self._screen is not None and (refusal := self._screen.event(data)) is not None:
            return self._strange(f"an event that the contract keeps from the agent ({refusal.reason})")
        self._session.heard(told)
        terminal = call.reader.on_event("", data)
        if call.reader.unread:
            return self._strange("an event that cannot be judged")
        if self._block or call.reader.untaken:
            self._block.append(clean)
            self._block_bytes += len(clean)
            if self._block_bytes > MAX_BLOCK_BYTES:
                return self._strange("a call of a tool that is too large")
            if call.reader.open_calls and not terminal:
                return ()
            block, self._block, self._block_bytes = tuple(self._block), [], 0
            return Frame(self.handshake.flow, False, clean if terminal else b"", block=block)
        if terminal:
            return Frame(self.handshake.flow, False, clean)
        return clean

    def _strange(self, what: str) -> Frame:
        return Frame(self.handshake.flow, False, b"", fault=what)

    # -- the client ------------------------------------------------------------------------------------------------

    def new_call(self) -> Call:
        """For one message of the client. Header fields of the handshake say nothing about it."""
        first = self.handshake
        call = Call(first.flow, first.way_in, first.presenter, self._clock_ms())
        call.match, call.format, call.token, call.watch = first.match, first.format, first.token, self.watch
        call.frame_bytes = 0
        call.context_tokens = self._context_tokens
        return call

    def heard_all(self, call: Call) -> None:
        """A response has ended. What it read and wrote may be read again by the next, without being said again."""
        assert call.reader is not None
        told = call.reader.tokens_input + call.reader.tokens_output
        if not call.reader.usage_known and call.reservation is not None:
            told = call.reservation.amounts.total_tokens
        self._context_tokens = max(self._context_tokens, told)

    def read(self, call: Call, data: bytes) -> Refusal | None:
        """Step 5 for a message: strictly, with what the connection knows."""
        self.reworded = None
        self._sum_up(call, data)
        assert call.frame_bytes is not None
        if call.frame_bytes > _UNASKED_BODIES * self.client_bytes or self._said_count >= _MAX_UNASKED:
            return Refusal("REQUEST_TOO_LARGE", "messages without a response", "too much is said and nothing asked")
        try:
            told = self._session.read(parse_body(data, self.client_bytes, self.json_bounds))
        except ClawproxyError as err:
            return refusal_of_body(err, "message")
        if told.asks and self.call is not None:
            return Refusal("INVALID_REQUEST", "response.create", "a response is open on this connection", at="read")
        call.facts, call.asks = told.facts, told.asks
        return None

    def _sum_up(self, call: Call, data: bytes) -> None:
        """Digest and size of the request that ends with this message."""
        said = self._said.copy()
        said.update(data)
        call.request_hash_b64u = b64u_encode(said.digest())
        call.frame_bytes = self._said_bytes + len(data)

    def reword(self, call: Call, data: bytes) -> None:
        """The message that is judged now leaves as ``data``."""
        self.reworded = data
        self._sum_up(call, data)

    def passes(self, call: Call, data: bytes) -> None:
        """The message leaves."""
        if not call.asks:
            self._said.update(data)
            self._said_bytes += len(data)
            self._said_count += 1
            return
        self._said, self._said_bytes, self._said_count = hashlib.sha256(), 0, 0
        call.reader = self._session.new_reader()
        call.tap = FrameTap(call.started_ms, self._clock_ms)
        self._screen = self._new_watch(call)
        call.gate = ToolGate(call, None, self._judges)
        self.call = call


class Sockets:
    """The addon. It stands behind the gate, which has judged the handshake by then."""

    def __init__(
        self,
        gate: Gate,
        steps: Steps,
        ending: Ending,
        clock_ms: Callable[[], int],
        *,
        step_timeout_s: float,
        max_body_bytes: int,
        json_bounds: JsonBounds | None = None,
        judges: CallJudges,
        data: DataGate,
    ) -> None:
        self._gate = gate
        self._judges = judges
        self._data = data
        self._steps = steps
        self._ending = ending
        self._clock_ms = clock_ms
        self._step_timeout_s = step_timeout_s
        self._max_body_bytes = max_body_bytes
        self._json_bounds = json_bounds or JsonBounds()
        self._open: dict[str, Socket] = {}
        self._sweeps: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Sockets that are open."""
        return len(self._open)

    @property
    def open_sockets(self) -> list[Socket]:
        return list(self._open.values())

    # -- it begins -------------------------------------------------------------------------------------------------

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The provider answers the handshake, and the gate has let that pass."""
        call = self._gate.call_of(flow)
        agreed = flow.response is not None and flow.response.status_code == 101 and flow.error is None
        if not agreed or call is None or call.match is None or not call.match.route.websocket:
            return
        socket = Socket(
            call,
            _session_of(call),
            self._clock_ms,
            self._max_body_bytes,
            self._json_bounds,
            self._judges,
            new_watch=self._data.watch,
        )
        self._open[flow.id] = socket
        flow.metadata[SOCKET] = socket

    # -- messages --------------------------------------------------------------------------------------------------

    async def seam_frame(self, frame: Frame) -> None:
        """A message waits. Without a verdict the socket is closed."""
        socket = self._open.get(frame.flow.id)
        if socket is None:
            return
        if frame.fault:
            await self._refuse_fault(socket, frame)
        elif frame.from_client:
            await self._judge(socket, frame)
        elif not frame.block or await self._judge_calls(socket, frame):
            async with asyncio.timeout(self._step_timeout_s):
                await self._attest(socket, frame)

    async def _judge(self, socket: Socket, frame: Frame) -> None:
        """Steps 3 to 8 for a message of the client."""
        call, data, steps = socket.new_call(), frame.data, self._steps

        def if_asked(step: Callable[[Call], Any]) -> Callable[[Call], Any]:
            return lambda call: step(call) if call.asks else None

        call.judging, socket.judged = True, call
        refusal = await self._gate.verdict(
            call,
            (
                ("authenticate", steps.authenticate),
                ("pin", steps.pin),
                ("read", lambda call: socket.read(call, data)),
                ("decide", lambda call: steps.decide(call) if call.facts is not None else None),
                ("decide", lambda call: self._data.judge_message(call, data, lambda body: socket.reword(call, body))),
                ("reserve", if_asked(steps.reserve)),
                ("intend", if_asked(steps.intend)),
            ),
        )
        call.judging, socket.judged = False, None
        if refusal is not None:
            await self._refuse(socket, frame, call, refusal)
            return
        data = socket.reworded or data
        socket.passes(call, data)
        if call.asks:
            self._gate.adopt(call)
        if socket.ended is not None:  # meanwhile
            await self._settle(socket, socket.ended)
            return
        frame.verdict = data

    async def _refuse(self, socket: Socket, frame: Frame, call: Call, refusal: Refusal) -> None:
        await self._ending.record_refusal(call, refusal)
        frame.goodbye = self._ending.goodbye(call, refusal)
        frame.code = 1011 if refusal.status >= 500 else 1008
        if socket.call is not None:
            socket.call.detail = socket.call.detail or f"the socket was closed: {refusal.reason}"

    async def _refuse_fault(self, socket: Socket, frame: Frame) -> None:
        """What came is no message that could be judged."""
        call = socket.new_call()
        first = socket.handshake
        call.grant, call.policy, call.job = first.grant, first.policy, first.job
        if frame.from_client:
            large = frame.fault.startswith(("a message", "too much"))
            reason = "REQUEST_TOO_LARGE" if large else "PROTOCOL_REFUSED"
            await self._refuse(socket, frame, call, Refusal(reason, "WebSocket messages", frame.fault, at="read"))
            return
        log.warning("call %s: the provider sent %s on its socket", first.receipt_id, frame.fault)
        open_call = socket.call
        if open_call is not None:
            open_call.outcome, open_call.detail = Outcome.UPSTREAM_FAILED, f"the provider sent {frame.fault}"
            await self._settle(socket, SocketEnd(frame.flow, "server", frame.fault))
        refusal = Refusal("UPSTREAM_FAILED", "WebSocket messages", f"the provider sent {frame.fault}")
        frame.goodbye, frame.code = self._ending.goodbye(open_call or first, refusal), 1011

    async def _judge_calls(self, socket: Socket, frame: Frame) -> bool:
        """Calls of tools are held: False where they are not allowed, while a person is asked, or when nobody waits.

        Nothing takes their place here: the provider keeps the conversation of a socket.
        """
        call = socket.call
        if call is None or call.gate is None or call.reader is None:
            return False
        if socket.settling is None:
            verdict = call.gate.judge(call.reader)
            if not isinstance(verdict, Waits):
                return verdict is None or await self._refuse_calls(socket, frame, call, call.gate, verdict)
            socket.settling = asyncio.get_running_loop().create_task(call.gate.settle())
        if not await done_within(_AGAIN_S, socket.settling, socket.over):
            frame.again = not socket.over.is_set()
            return False
        settled, socket.settling = socket.settling, None
        refusal = await settled
        return refusal is None or await self._refuse_calls(socket, frame, call, call.gate, refusal)

    async def _refuse_calls(self, socket: Socket, frame: Frame, call: Call, gate: ToolGate, refusal: Refusal) -> bool:
        """The response ends here, and the socket with it: its record, and an error for the agent."""
        gate.refuse(refusal)
        await self._settle(socket, SocketEnd(frame.flow, "gateway"))
        frame.goodbye, frame.code = self._ending.goodbye(call, refusal), 1008
        return False

    async def _attest(self, socket: Socket, frame: Frame) -> None:
        """The last event of a response: its receipt, durable; then it leaves, with what was held before it."""
        call = socket.call
        if call is None or call.reader is None:
            return
        if frame.block and not frame.data:
            frame.verdict = frame.block
            return
        await self._ending.attest(call, call.outcome or Outcome.COMPLETE)
        if call.outcome is Outcome.COMPLETE:
            frame.verdict = frame.block or frame.data
            socket.heard_all(call)
            socket.call = None
            self._gate.drop(call)

    # -- it ends ---------------------------------------------------------------------------------------------------

    async def seam_socket_end(self, end: SocketEnd) -> None:
        """The socket is closed, whoever closed it."""
        await self._end(end)

    async def error(self, flow: http.HTTPFlow) -> None:
        """Its call was cut (a stop, a fault), or the handshake came to nothing."""
        await self._end(SocketEnd(flow, "gateway", flow.error.msg if flow.error else ""))

    async def client_disconnected(self, client: connection.Client) -> None:
        """A socket of this client that is open a moment later gets no hook of its own."""
        left = [flow_id for flow_id, s in self._open.items() if s.handshake.flow.client_conn.id == client.id]
        if left:
            task = asyncio.get_running_loop().create_task(self._sweep(left))
            self._sweeps.add(task)
            task.add_done_callback(self._sweeps.discard)

    async def _sweep(self, flow_ids: list[str]) -> None:
        await asyncio.sleep(_ORPHAN_GRACE_S)
        for flow_id in flow_ids:
            if (socket := self._open.get(flow_id)) is not None:
                await self._end(SocketEnd(socket.handshake.flow, "client", "client disconnected"))

    async def _end(self, end: SocketEnd) -> None:
        socket = self._open.pop(end.flow.id, None)
        if socket is None:
            return
        socket.ended = end
        socket.over.set()
        if socket.watch is not None:
            socket.watch.over.set()
        await self._settle(socket, end)

    async def _settle(self, socket: Socket, end: SocketEnd) -> None:
        """The record of a response that was open when the socket ended."""
        call, socket.call = socket.call, None
        if socket.settling is not None:
            socket.settling.cancel()
        if call is None:
            return
        try:
            call.outcome = call.outcome or _OUTCOMES[end.by]
            call.detail = call.detail or end.why
            await self._ending.attest(call, call.outcome)
        finally:
            self._gate.drop(call)


def _session_of(call: Call) -> Session:
    assert call.match is not None
    provider, route = call.match.provider.name, call.match.route
    if route.format == "openai_realtime":
        return RealtimeSession(provider, route.name, call.match.model or "")
    return ResponsesSession(provider, route.name)
