"""The gate: mitmproxy's hooks, each leading into the twelve steps (``steps.py``), and one record for every call.

What holds here, whatever a step does: a refusal, a fault, a time-out or a cancellation up to ``forward`` leaves no
upstream byte; after it, the answer is cut rather than passed on as whole; and a call has exactly one record, a receipt
once its intent is durable, a denial before that. Runs tasks on the event loop.

Limits: a request that mitmproxy cannot parse at all (no method, no Host on the proxy port) is answered 400 by it
without any hook, and leaves no record.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from mitmproxy import connection, http, tls
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from ..policies.addresses import bracketed
from ..policies.door_plan import WAY_IN
from ..receipts.calls import Outcome
from ..receipts.presenters import presenter_at
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import REASONS, Refusal
from . import client_hello
from .call import Call
from .connection_limits import TOO_LATE
from .connections import Connections, Tunnel
from .dial import permit
from .ending import Ending, Origin
from .heap import LARGE_BYTES, Sweeper
from .http_stream import CUT, SOCKET, Hold, Watch
from .stream_tap import redact
from .tool_gate import done_within
from .tunnel_start import ClosedLayer, first_bytes_fault, hello_fault, may_become_tls, redirected

log = logging.getLogger("clawproxy.gate")

_SPOKEN_UPSTREAM = (b"http/1.1",)

_ORPHAN_GRACE_S = 2.0
_PING_S = 5.0
"""A client whose answer waits for a person hears a comment this often."""
_PATIENCE_S = 3700.0
_RECORDED = "clawproxy.recorded"
_ADDRESS = re.compile(r" ?\('[^']{0,64}', [0-9]{1,5}[^)]{0,32}\)")
_OF_THE_SERVER = ("answer is too large", "the upstream answered")
_SMALL_BODY_BYTES = 64 * 1024
_BODIES_AT_ONCE = 16
_BY_HEAD = 3  # admit, collect, authenticate need no body

type Verdict = Refusal | None


class Steps(Protocol):
    """The steps of a call, in order; ``steps.LiveSteps`` is the real one, tests put faults in between."""

    def admit(self, call: Call) -> Verdict: ...
    def collect(self, call: Call) -> Verdict: ...
    def authenticate(self, call: Call) -> Verdict: ...
    def pin(self, call: Call) -> Verdict | Awaitable[Verdict]: ...
    def read(self, call: Call) -> Verdict: ...
    def decide(self, call: Call) -> Verdict | Awaitable[Verdict]: ...
    def reserve(self, call: Call) -> Verdict: ...
    def intend(self, call: Call) -> Verdict | Awaitable[Verdict]: ...
    def forward(self, call: Call) -> Verdict: ...
    def observe(self, call: Call) -> None: ...
    def judge_calls(self, call: Call) -> Awaitable[None] | None:
        """The part of ``observe`` that may wait: calls of tools in the answer."""
        ...

    def attest(self, call: Call) -> Awaitable[None]: ...

    def tunnel(self, call: Call) -> Verdict | Awaitable[Verdict]:
        """The part of ``admit`` that a CONNECT asks for."""
        ...


class Gate:
    """The addon. ``steps`` judge, ``ending`` writes the one record and the refusal."""

    def __init__(
        self,
        steps: Steps,
        ending: Ending,
        connections: Connections,
        clock_ms: Callable[[], int],
        *,
        step_timeout_s: float,
        max_body_bytes: int,
    ) -> None:
        self._steps = steps
        self._max_body_bytes = max_body_bytes
        self._room_bytes = _BODIES_AT_ONCE * max_body_bytes
        self._before_egress: tuple[tuple[str, Callable[[Call], Any]], ...] = (
            ("admit", steps.admit),
            ("collect", steps.collect),
            ("authenticate", steps.authenticate),
            ("pin", steps.pin),
            ("read", steps.read),
            ("decide", steps.decide),
            ("reserve", steps.reserve),
            ("intend", steps.intend),
            ("forward", steps.forward),
        )
        self._ending = ending
        self._connections = connections
        self._clock_ms = clock_ms
        self._step_timeout_s = step_timeout_s
        self._open: dict[str, Call] = {}
        self._sweeps: set[asyncio.Task[None]] = set()
        self._sweeper = Sweeper()
        self.stopping = False

    # -- the way in ------------------------------------------------------------------------------------------------

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """CONNECT: a tunnel only to a provider's host. Its credential counts for every call inside."""
        call = self._begin(flow)
        await self._judge(call, (("admit", self._steps.tunnel),))
        self._forget(call)

    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A head has arrived: from here on the call gets a record. A large body is read only for a known token."""
        call = self._begin(flow)
        size = flow.request.headers.get("content-length", "0")
        chunked = "transfer-encoding" in flow.request.headers
        if flow.error is not None or (not chunked and len(size) < 10 and int(size) <= _SMALL_BODY_BYTES):
            return None
        unknown = chunked or len(size) >= 10
        return self._judge_head(call, self._max_body_bytes if unknown else min(int(size), self._max_body_bytes))

    async def _judge_head(self, call: Call, body_bytes: int) -> None:
        """Steps 1 to 3 for a call with a large body; then room for it. What is refused here needs none: its body is
        thrown away as it comes."""
        await self._judge(call, self._before_egress[:_BY_HEAD])
        if call.release:
            return
        if body_bytes > self._room_bytes:
            busy = Refusal("GATEWAY_BUSY", "request bodies held at once", "too many large requests are being read")
            await self._ending.refuse(call, busy)
        else:
            self._hold_room(call, body_bytes)

    def _hold_room(self, call: Call, body_bytes: int) -> None:
        self._room_bytes += call.held_bytes - body_bytes
        call.held_bytes = body_bytes

    async def request(self, flow: http.HTTPFlow) -> None:
        """The whole request is here: steps 1 to 9. A token that was judged by the head is judged again: it may have
        expired while the body came."""
        call = self._call(flow)
        if call.release:
            return
        self._hold_room(call, len(flow.request.raw_content or b"") if call.held_bytes else 0)
        await self._judge(call, self._before_egress[min(call.steps_done, _BY_HEAD - 1) :])

    async def _judge(self, call: Call, steps: tuple[tuple[str, Callable[[Call], Any]], ...]) -> None:
        call.judging = True
        try:
            refusal = await self.verdict(call, steps)
            if refusal is not None:
                await self._ending.refuse(call, refusal)
        finally:
            call.judging = False

    async def verdict(self, call: Call, steps: tuple[tuple[str, Callable[[Call], Any]], ...]) -> Verdict:
        """What the steps say, in their order: the first refusal, a fault, or None. Never raises."""
        if self.stopping:
            return Refusal("GATEWAY_STOPPING", "shutdown", "the gateway takes no new calls")
        try:
            for name, step in steps:
                call.step = name
                verdict = step(call)
                if verdict is not None and verdict.__class__ is not Refusal:
                    async with asyncio.timeout(self._step_timeout_s):
                        verdict = await verdict
                if verdict is not None:
                    return verdict if isinstance(verdict, Refusal) else _fault(call, "not a verdict")
                if call.halt is not None:
                    return call.halt
                call.steps_done += 1
        except TimeoutError:
            log.error("call %s: step %s took longer than %s s", call.receipt_id, call.step, self._step_timeout_s)
            return Refusal("GATEWAY_TIMEOUT", f"step {call.step}", "the step did not finish in time", at=call.step)
        except ClawproxyError as err:
            log.error("call %s: step %s: %s", call.receipt_id, call.step, err)
            code = err.reason if err.reason in REASONS else "GATEWAY_FAULT"
            return Refusal(code, f"step {call.step}", err.message, at=call.step)
        except BaseException as err:  # a cancelled hook would leave its flow hanging for ever (docs/engine.md 3)
            log.exception("call %s: step %s failed", call.receipt_id, call.step)
            return _fault(call, type(err).__name__)
        return None

    # -- towards the provider --------------------------------------------------------------------------------------

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """The last lock: a connection opens only to where a decided call of this client goes."""
        wanted = {
            call.destination: call.addresses
            for call in self._open.values()
            if call.intended is not None
            and call.destination is not None
            and call.halt is None
            and call.flow.client_conn.id == data.client.id
        }
        destination = tuple(data.server.address[:2]) if data.server.address is not None else None
        if destination not in wanted or data.server.transport_protocol != "tcp" or data.server.via is not None:
            data.server.error = "no decided call goes there"
        else:
            permit(destination, wanted[destination])
            # mitmproxy would offer what the client offered: names that an agent chose, unread by any step
            data.server.alpn_offers = _SPOKEN_UPSTREAM

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        for call in self._open.values():
            if call.intended is not None and call.flow.client_conn.id == data.client.id:
                call.outcome = call.outcome or Outcome.UPSTREAM_UNREACHABLE

    def tls_failed_server(self, data: tls.TlsData) -> None:
        """The provider's certificate, or what it speaks: the request was not sent."""
        for call in self._open.values():
            if call.intended is not None and call.flow.client_conn.id == data.context.client.id:
                call.outcome = call.outcome or Outcome.UPSTREAM_UNREACHABLE

    def tls_clienthello(self, data: tls.ClientHelloData) -> Awaitable[None] | None:
        """Inside a tunnel, one handshake for the tunnel's host; anything else ends here, with a record."""
        client = data.context.client
        tunnel = self._connections.tunnel(client)
        if tunnel is None and isinstance(client.proxy_mode, mode_specs.TransparentMode):
            tunnel = redirected(client, data.client_hello.sni)
            self._connections.open(client, tunnel)
            data.context.server.address = (tunnel.host, tunnel.port)
        if tunnel is None:
            return None
        fault = hello_fault(tunnel, data.client_hello.sni, again=not self._connections.greet(client))
        if fault is None:
            return None
        client_hello.refuse(client)
        return self._deny_connection(client, tunnel, fault)

    def next_layer(self, data: NextLayer) -> Awaitable[None] | None:
        """What a tunnel begins with is TLS, or a request that can be answered; anything else ends here."""
        client = data.context.client
        tunnel = self._connections.tunnel(client)
        if tunnel is None and not isinstance(client.proxy_mode, mode_specs.TransparentMode):
            return None
        if self._connections.has_greeted(client):
            return None
        first: bytes = data.data_client()  # type: ignore[no-untyped-call]
        if may_become_tls(first):
            data.layer = None  # mitmproxy would take it for HTTP
            return None
        fault = first_bytes_fault(first)
        if fault is None:
            return None
        data.layer = ClosedLayer(data.context)
        return self._deny_connection(client, tunnel, fault)

    def _deny_connection(self, client: connection.Client, tunnel: Tunnel | None, fault: Refusal) -> Awaitable[None]:
        presenter = tunnel.presenter if tunnel is not None else None
        origin = Origin(
            presenter or presenter_of(client),
            tunnel.way_in if tunnel is not None else WAY_IN,
            tunnel.home if tunnel is not None else None,
        )
        destination = f"{bracketed(tunnel.host)}:{tunnel.port}" if tunnel is not None and tunnel.host else None
        return self._ending.deny_connection(origin, fault, destination)

    # -- the way back ----------------------------------------------------------------------------------------------

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The head of the answer is here: step 10 chooses how its body is read."""
        call = self._open.get(flow.id)
        if call is not None and call.release:  # mitmproxy shows us our own refusal here
            return
        if call is None or call.intended is None or call.recorded:
            flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy leaves it untyped
            return
        call.step = "observe"
        self._steps.observe(call)

    async def seam_watch(self, watch: Watch) -> None:
        """Armed as soon as there is an upstream connection; ``Call.stop`` cuts through it."""
        call = self._open.get(watch.flow.id)
        if call is None:
            watch.stop = "no open call"
            return
        call.watch = watch
        if call.halt is not None:
            watch.stop = call.halt.reason
            return
        await watch.over.wait()

    async def seam_hold(self, hold: Hold) -> None:
        """Calls of tools, held back until they are judged; or the end of an answer: step 11, then it leaves. Without a
        verdict it is cut."""
        call = self._open.get(hold.flow.id)
        if call is None or (not call.recorded and not await self._judge_calls(call, hold)):
            return
        if hold.kind == "part":
            hold.verdict = call.released
            call.released = b""
            return
        if not call.recorded:
            call.step = "attest"
            async with asyncio.timeout(self._step_timeout_s):
                await self._steps.attest(call)
        if call.release:
            # what came behind the terminal event was looked at piece by piece, so here once more as a whole
            held = redact(hold.held, call.credential.encode())
            hold.verdict = held + self._ending.trailer(call, held)

    async def _judge_calls(self, call: Call, hold: Hold) -> bool:
        """Judge the calls of tools that are held: of a stream the part, of a whole answer all. False while a person is
        asked, or when nobody waits any more; the seam asks again then, or cuts."""
        if call.settling is None:
            if hold.kind == "end" and (call.judged or call.tap is not None or call.gate is None):
                return True
            call.step = "observe"
            waiting = self._steps.judge_calls(call)
            if waiting is None:
                return True
            call.settling = asyncio.get_running_loop().create_task(_patiently(waiting))
        if await done_within(_PING_S, call.settling, hold.gone):
            settled, call.settling = call.settling, None
            await settled
            return True
        if not hold.gone.is_set():
            hold.ping = call.framing.comment if call.framing is not None else b""
        return False

    def response(self, flow: http.HTTPFlow) -> None:
        """The last hook of a call that was answered."""
        self._forget(self._call(flow))

    async def error(self, flow: http.HTTPFlow) -> None:
        """The last hook of a call that was not: aborted, upstream dead, cut, or not HTTP."""
        await self._abandon(self._call(flow), flow.error.msg if flow.error else "")

    async def client_disconnected(self, client: connection.Client) -> None:
        """What is open a moment later will get no hook of its own (docs/engine.md 3): it gets its record then."""
        self._connections.close(client)
        self._sweeper.ask()  # what its layers held is garbage from now on
        left = [call for call in self._open.values() if call.flow.client_conn.id == client.id]
        if left:
            task = asyncio.get_running_loop().create_task(self._sweep(left))
            self._sweeps.add(task)
            task.add_done_callback(self._sweeps.discard)

    async def hook_fault(self, hook: str, subject: object, error: BaseException) -> None:
        """The dispatcher's word that a hook failed; its flow is being cut already (``guard.py``)."""
        flow = subject if isinstance(subject, http.HTTPFlow) else getattr(subject, "flow", None)
        if not isinstance(flow, http.HTTPFlow) or _RECORDED in flow.metadata:
            return
        call = self._call(flow)
        call.outcome, call.detail = Outcome.FAULT, f"hook {hook}: {type(error).__name__}"
        if hook in ("http_connect", "response", "error"):  # no hook comes after these
            await self._abandon(call, "")

    # -- every call once -------------------------------------------------------------------------------------------

    @property
    def open_calls(self) -> list[Call]:
        return list(self._open.values())

    def call_of(self, flow: http.HTTPFlow) -> Call | None:
        """The open call of a flow."""
        return self._open.get(flow.id)

    def adopt(self, call: Call) -> None:
        """A call that is no flow of its own (``websocket``) is open, until it is dropped."""
        self._open[call.receipt_id] = call

    def drop(self, call: Call) -> None:
        self._open.pop(call.receipt_id, None)

    def _begin(self, flow: http.HTTPFlow) -> Call:
        mode = flow.client_conn.proxy_mode
        tunnel = None
        if isinstance(mode, mode_specs.ReverseMode):
            way_in = "reverse"
        elif (tunnel := self._connections.tunnel(flow.client_conn)) is not None:
            way_in = tunnel.way_in
        else:
            way_in = WAY_IN if isinstance(mode, mode_specs.TransparentMode) else "regular"
        if tunnel is None or tunnel.presenter is None:
            call = Call(flow, way_in, presenter_of(flow.client_conn), self._clock_ms())
        else:
            call = Call(flow, way_in, tunnel.presenter, self._clock_ms(), home=tunnel.home)
        call.recorded = _RECORDED in flow.metadata
        self._open[flow.id] = call
        return call

    def _call(self, flow: http.HTTPFlow) -> Call:
        return self._open.get(flow.id) or self._begin(flow)

    def _forget(self, call: Call) -> None:
        call.flow.metadata[_RECORDED] = True
        if call.job is None or call.held_bytes >= LARGE_BYTES or _answer_bytes(call.flow) >= LARGE_BYTES:
            self._sweeper.ask()
        self._hold_room(call, 0)
        if call.settling is not None:
            call.settling.cancel()
        self._open.pop(call.flow.id, None)
        if call.watch is not None and SOCKET not in call.flow.metadata:  # a socket is watched until its own end
            call.watch.over.set()

    async def _abandon(self, call: Call, message: str) -> None:
        try:
            if not call.recorded and call.intended is not None:
                call.outcome = call.outcome or outcome_of(message)
                call.detail = call.detail or detail_of(message)
                await self._ending.attest(call, call.outcome)
                self._ending.explain(call, call.outcome)
            elif not call.recorded:
                await self._ending.refuse(call, refusal_of(call, message))
        finally:
            self._forget(call)
            self._sweeper.ask()  # what was read of either body hangs in the layers of its connection

    async def _sweep(self, calls: list[Call]) -> None:
        await asyncio.sleep(_ORPHAN_GRACE_S)
        for call in calls:
            while call.judging:  # noqa: ASYNC110 - rare, ends with the steps' time-out; an event would cost every call
                await asyncio.sleep(_ORPHAN_GRACE_S)
            if call.flow.id in self._open:
                await self._abandon(call, "client disconnected")


async def _patiently(waiting: Awaitable[None]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        await waiting


def presenter_of(client: connection.Client) -> str:
    return presenter_at(client.peername[0])


def outcome_of(message: str) -> Outcome:
    """mitmproxy's error text as an outcome of an intended call."""
    text = message.lower()
    if "client disconnected" in text or "stream reset by client" in text:
        return Outcome.CLIENT_GONE
    if "killed" in text:
        return Outcome.STOPPED
    if text.startswith(CUT) and not any(words in text for words in _OF_THE_SERVER):
        return Outcome.FAULT
    return Outcome.UPSTREAM_FAILED


def detail_of(message: str) -> str:
    """mitmproxy's error text as the agent and the record get it: without the address that was dialled, which is the
    house's own affair. What a provider sent instead of HTTP is in none (``http1_guards``)."""
    return _ADDRESS.sub("", message)


def refusal_of(call: Call, message: str) -> Refusal:
    """mitmproxy's error text as the refusal of a call that never got to its intent."""
    text = message.lower()
    if call.outcome is Outcome.FAULT:
        return _fault(call, call.detail)
    if "too large" in text or "body_size_limit" in text or "exceed" in text:
        return Refusal("REQUEST_TOO_LARGE", "gateway.max_body_bytes", "the request body is over the limit")
    if call.flow.client_conn.error == TOO_LATE:
        return Refusal("REQUEST_TIMEOUT", "gateway.request_timeout_s", "the request did not come in time")
    if "disconnected" in text or "reset by client" in text or "peer closed" in text:
        return Refusal("REQUEST_INCOMPLETE", "HTTP framing", "the client left before its request was whole")
    return Refusal("REQUEST_AMBIGUOUS", "HTTP framing", "the request is not well-formed HTTP")


def _answer_bytes(flow: http.HTTPFlow) -> int:
    return len(flow.response.raw_content or b"") if flow.response is not None else 0


def _fault(call: Call, what: str) -> Refusal:
    return Refusal("GATEWAY_FAULT", f"step {call.step}", what, at=call.step)
