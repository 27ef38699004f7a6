"""How many client connections there may be, and how long one may stay without a request. Runs on the event loop.

A connection is closed at once when there are too many, in all or from its address. One that has not produced a whole
request in ``request_timeout_s`` is closed too, also after a request that was refused; a TLS handshake, once it has
begun, has ``handshake_timeout_s``. A connection over which a call went upstream is trusted: only mitmproxy's idle
time-out ends it. Nothing is timed while a call runs.

Also here: the limit of open files is raised, the caps leave room in it for upstreams and journals, and the event loop's
word that it could not accept a connection is logged at most once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mitmproxy import connection, http, tls
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

log = logging.getLogger("clawproxy.connections")

MAX_CONNECTIONS = 2048
MAX_CONNECTIONS_PER_PEER = 512
REQUEST_TIMEOUT_S = 30.0
HANDSHAKE_TIMEOUT_S = 10.0
TOO_LATE = "no request in time"
"""The error of a client connection that was closed for it."""

_SPARE_FILES = 64
"""For journals, seals, the admin socket and listeners."""
_FEWEST = 8
_WANTED_FILES = 65536
_TOLD_EVERY_S = 60.0


@dataclass(slots=True)
class _Seat:
    """One client connection."""

    client: connection.Client
    party: str
    trusted: bool = False
    calls: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None


class Seldom:
    """Lets one of many like messages through per minute. ``clock_s`` is monotonic, in seconds."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic, every_s: float = _TOLD_EVERY_S) -> None:
        self._clock_s = clock_s
        self._every_s = every_s
        self._again_at = float("-inf")
        self._kept_back = 0

    def due(self) -> int | None:
        """None to say nothing now; else the number of messages since the last, this one included."""
        self._kept_back += 1
        now = self._clock_s()
        if now < self._again_at:
            return None
        self._again_at = now + self._every_s
        count, self._kept_back = self._kept_back, 0
        return count


class ConnectionLimits:
    """The addon. It stands before all others, so that a refused connection costs least."""

    def __init__(
        self,
        proxyserver: Proxyserver,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_connections_per_peer: int = MAX_CONNECTIONS_PER_PEER,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        party_of: Callable[[connection.Client], str] | None = None,
    ) -> None:
        """``party_of`` says whose connections count together: those from one address, where nothing else is known."""
        self._party_of = party_of or peer_of
        self._proxyserver = proxyserver
        self._max_connections = max_connections
        self._max_per_peer = max_connections_per_peer
        self._request_timeout_s = request_timeout_s
        self._handshake_timeout_s = handshake_timeout_s
        self._seats: dict[str, _Seat] = {}
        self._by_peer: Counter[str] = Counter()
        self._refusals = Seldom()

    # -- how many --------------------------------------------------------------------------------------------------

    def client_connected(self, client: connection.Client) -> None:
        peer = self._party_of(client)
        if len(self._seats) >= self._max_connections:
            self._refuse(client, f"max_connections ({self._max_connections})")
        elif self._by_peer[peer] >= self._max_per_peer:
            self._refuse(client, f"max_connections_per_peer ({self._max_per_peer})")
        else:
            self._by_peer[peer] += 1
            seat = self._seats[client.id] = _Seat(client, peer)
            self._wait(seat, self._request_timeout_s)

    def _refuse(self, client: connection.Client, limit: str) -> None:
        client.error = "too many connections"
        count = self._refusals.due()
        if count is not None:
            log.warning("connections are closed at once: %s is reached; %d since this was last said", limit, count)

    def client_disconnected(self, client: connection.Client) -> None:
        seat = self._seats.pop(client.id, None)
        if seat is None:
            return
        self._rest(seat)
        peer = seat.party
        self._by_peer[peer] -= 1
        if self._by_peer[peer] <= 0:
            del self._by_peer[peer]

    # -- how long --------------------------------------------------------------------------------------------------

    def http_connected(self, flow: http.HTTPFlow) -> None:
        """A tunnel is open: a handshake comes next."""
        self._wait_anew(flow.client_conn, self._handshake_timeout_s)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        self._wait_anew(data.context.client, self._handshake_timeout_s)

    def tls_established_client(self, data: tls.TlsData) -> None:
        self._wait_anew(data.context.client, self._request_timeout_s)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The body must follow, also on a connection that is trusted."""
        seat = self._seats.get(flow.client_conn.id)
        if seat is not None and seat.trusted:
            self._wait(seat, self._request_timeout_s)

    def request(self, flow: http.HTTPFlow) -> None:
        """A whole request is here: a call runs."""
        seat = self._seats.get(flow.client_conn.id)
        if seat is None:
            return
        self._rest(seat)
        if not seat.trusted:
            seat.calls.add(flow.id)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """A decided call goes upstream."""
        seat = self._seats.get(data.client.id)
        if seat is not None:
            seat.trusted = True
            seat.calls.clear()
            self._rest(seat)

    def response(self, flow: http.HTTPFlow) -> None:
        seat = self._seats.get(flow.client_conn.id)
        if seat is not None and seat.trusted:
            self._rest(seat)
        elif seat is not None:
            seat.calls.discard(flow.id)
            if not seat.calls:
                self._wait(seat, self._request_timeout_s)

    error = response

    def _wait_anew(self, client: connection.Client, seconds: float) -> None:
        seat = self._seats.get(client.id)
        if seat is not None and not seat.trusted and not seat.calls:
            self._wait(seat, seconds)

    def _wait(self, seat: _Seat, seconds: float) -> None:
        self._rest(seat)
        seat.timer = asyncio.get_running_loop().call_later(seconds, self._late, seat)

    def _rest(self, seat: _Seat) -> None:
        if seat.timer is not None:
            seat.timer.cancel()
            seat.timer = None

    def _late(self, seat: _Seat) -> None:
        seat.timer = None
        handler = self._proxyserver.connections.get(seat.client.id)
        transport = handler.transports.get(seat.client) if handler is not None else None
        if transport is not None and transport.handler is not None:
            seat.client.error = TOO_LATE
            transport.handler.cancel(TOO_LATE)


def peer_of(client: connection.Client) -> str:
    """The address of a client."""
    return str(client.peername[0]) if client.peername else ""


# -- files ---------------------------------------------------------------------------------------------------------


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as it may be and is of use; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _WANTED_FILES
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft


def cap_for(max_connections: int, *, files: int) -> int:
    """``max_connections``, or fewer where ``files`` open files are too few for as many upstreams and what we write."""
    return min(max_connections, max(_FEWEST, files // 2 - _SPARE_FILES))


type _ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


class QuietAccepts:
    """An exception handler of an event loop that says seldom that connections cannot be accepted."""

    def __init__(self, before: _ExceptionHandler | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._before = before
        self._seldom = Seldom(clock_s)
        self.told = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not str(context.get("message", "")).startswith("socket.accept()"):
            if self._before is not None:
                self._before(loop, context)
            else:
                loop.default_exception_handler(context)
            return
        count = self._seldom.due()
        if count is not None:
            self.told += 1
            log.error("connections cannot be accepted: %s; %d times", type(context.get("exception")).__name__, count)
