"""The engine: listeners, dispatch and the end of a run. Opens sockets; runs on the event loop.

mitmproxy's Master with four of its own addons, ours behind them, one fail-closed dispatch table (``guard.py``), the
seam (``http_stream.py``), and the settings that make it a gateway rather than a debugging proxy: connections upstream
only after the decision (lazy), no raw TCP, no WebSocket, strict header validation, verified TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitmproxy import connection, exceptions
from mitmproxy.addons.core import Core
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.master import Master
from mitmproxy.net.free_port import get_free_port
from mitmproxy.options import Options
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers.modes import TransparentProxy
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from ..tokens.errors import ClawproxyError
from . import client_hello, dial, http_stream
from .backpressure import Backpressure
from .ca import CERT_FILE, ensure_ca
from .connection_limits import (
    HANDSHAKE_TIMEOUT_S,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_PEER,
    REQUEST_TIMEOUT_S,
    ConnectionLimits,
    QuietAccepts,
    cap_for,
    peer_of,
    raise_file_limit,
)
from .connections import Tunnel
from .engine_checks import check_engine
from .engine_tuning import settle_heap, tune
from .guard import Dispatch, take_over
from .http1_guards import HEAD_CAP_BYTES, where

log = logging.getLogger("clawproxy.master")

NOWHERE = "transparent.invalid"
"""In place of a destination's name, as long as none is known."""
_POLL_S = 0.02
_ANY_PORT_TRIES = 5
_LOG_LEVELS = {
    "mitmproxy": logging.WARNING,  # each connection is several lines below that
    "mitmproxy.addons.proxyserver": logging.CRITICAL,  # what it would say is raised by start()
    "hpack": logging.WARNING,
}

type Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine needs to know. Times in seconds."""

    modes: tuple[str, ...]
    """mitmproxy mode specs with their listen address: ``reverse:http://127.0.0.1:9@127.0.0.1:8081`` (what it names as
    upstream is never used: the gate sets each call's), ``regular@127.0.0.1:8080``. Port 0 takes a free one."""
    confdir: Path
    """Where the CA lies."""
    max_body_bytes: int
    """Larger requests are answered 413 before anything goes upstream."""
    max_head_bytes: int = HEAD_CAP_BYTES
    """Longer heads are answered 431, or 502 where it is the upstream's; before any hook, so without a record."""
    upstream_ca_file: Path | None = None
    """PEM; instead of the built-in list of authorities."""
    hook_timeout_s: float = 30.0
    end_deadline_s: float = 10.0
    idle_timeout_s: float = 1800.0
    """A connection on which nothing moves is closed. Above the longest hold: mitmproxy counts those as idle too."""
    http2: bool = False
    """Towards clients. Without it a client that grants no window cannot make us buffer without bound."""
    max_connections: int = MAX_CONNECTIONS
    """Client connections in all; fewer where the limit of open files is too low for as many upstreams."""
    max_connections_per_peer: int = MAX_CONNECTIONS_PER_PEER
    """Client connections from one address."""
    request_timeout_s: float = REQUEST_TIMEOUT_S
    """For the first whole request of a connection, and for the next after one that did not go upstream."""
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    """For a TLS handshake of a client."""
    party_of: Callable[[connection.Client], str] = peer_of
    """Whose connections ``max_connections_per_peer`` counts together."""
    tuning_off: Collection[str] = ()
    """Names of ``engine_tuning`` that are left out."""


class GatewayMaster:
    """Build it in a running loop, ``start``, ``drain``, ``stop``. One per process: mitmproxy has global state."""

    def __init__(
        self,
        options: EngineOptions,
        master: Master,
        proxyserver: Proxyserver,
        dispatch: Dispatch,
        addons: Sequence[object],
    ) -> None:
        self.options = options
        self.ca_cert_path = options.confdir / CERT_FILE
        """What clients of the proxy port must trust."""
        self._dispatch = dispatch
        self._master = master
        self._proxyserver = proxyserver
        self._addons = tuple(addons)
        self._task_factory: Any = None
        self._exception_handler: Any = None
        self._started = False
        self._extra_servers: list[asyncio.Server] = []

    @classmethod
    def build(cls, options: EngineOptions, addons: Sequence[object]) -> GatewayMaster:
        """Check the engine, install seam and tuning, make the CA, load the addons. Opens no socket.

        Raises ``ClawproxyError``: ENGINE_UNKNOWN, CA_UNUSABLE, ADDON_FAILED, ENGINE_OPTIONS (a mode spec or file that
        mitmproxy refuses).
        """
        http_stream.install(end_deadline_s=options.end_deadline_s, head_cap_bytes=options.max_head_bytes)
        client_hello.install()
        dial.install()
        check_engine()
        tune(off=options.tuning_off)
        ensure_ca(options.confdir)
        for name, level in _LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        master = Master(Options())
        master._legacy_log_events.uninstall()  # it would dispatch a hook for every log line
        proxyserver = Proxyserver()  # type: ignore[no-untyped-call]
        files = raise_file_limit()
        limits = ConnectionLimits(
            proxyserver,
            max_connections=cap_for(options.max_connections, files=files),
            max_connections_per_peer=options.max_connections_per_peer,
            request_timeout_s=options.request_timeout_s,
            handshake_timeout_s=options.handshake_timeout_s,
            party_of=options.party_of,
        )
        ours = (limits, Backpressure(proxyserver), *addons)
        with _no_addon_fails():
            master.addons.add(Core(), proxyserver, NextLayer(), TlsConfig(), *ours)  # type: ignore[no-untyped-call]
            _set_options(master.options, options)
        _check_options(master.options)
        dispatch = take_over(master, hook_timeout_s=options.hook_timeout_s)
        return cls(options, master, proxyserver, dispatch, addons)

    async def start(self) -> None:
        """Open the listeners. Raises ``ClawproxyError`` (PORT_IN_USE, ADDRESS_UNUSABLE, ADDON_FAILED)."""
        loop = asyncio.get_running_loop()
        self._task_factory = loop.get_task_factory()
        loop.set_task_factory(asyncio.eager_task_factory)  # as mitmproxy's own run() does
        self._exception_handler = loop.get_exception_handler()
        loop.set_exception_handler(QuietAccepts(self._exception_handler))
        self._started = True
        try:
            for left in reversed(range(_ANY_PORT_TRIES)):
                try:
                    await self._listen()
                    break
                except ClawproxyError:
                    if left == 0 or not any(_wants_any_port(mode) for mode in self.options.modes):
                        raise
                    self._master.options.update(  # type: ignore[no-untyped-call]
                        mode=_with_ports(self.options.modes)
                    )
            for addon in self._addons:
                await _call(addon, "running")
            settle_heap(off=self.options.tuning_off)
        except BaseException:
            await self.stop()
            raise

    async def _listen(self) -> None:
        servers = self._proxyserver.servers
        for server in list(servers):
            if server.is_running:
                await server.stop()
        servers._instances.clear()
        await self._proxyserver.setup_servers()
        for server in servers:
            if server.last_exception is not None:
                raise cannot_listen(server.mode.full_spec, server.last_exception)

    def addresses(self) -> tuple[Address, ...]:
        """Where the open listeners really are, in the order of ``options.modes``."""
        first = (server.listen_addrs[0] for server in self._proxyserver.servers if server.listen_addrs)
        return tuple((str(address[0]), int(address[1])) for address in first)

    async def listen_on(
        self,
        sock: socket.socket,
        arrive: Callable[[socket.socket], Tunnel | None],
        opened: Callable[[connection.Client, Tunnel | None], None] = lambda client, tunnel: None,
    ) -> asyncio.Server:
        """Take transparent connections from ``sock``, which listens already, until what is returned is closed.

        ``arrive`` says where each goes before a byte is read; None closes it. ``opened`` is told of the client before
        its first hook, with its tunnel, and without one when it has left. Raises ``OSError``.
        """
        mode = mode_specs.ProxyMode.parse("transparent")

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                tunnel = arrive(writer.get_extra_info("socket"))
            except Exception as err:
                log.error("a connection could not be judged: %s", where(err))
                tunnel = None
            if tunnel is None or not self._started:
                writer.transport.abort()
                return
            handler = ProxyConnectionHandler(  # type: ignore[no-untyped-call]
                self._master, reader, writer, self._master.options, mode
            )
            client = handler.client
            context = handler.layer.context
            # never dialled: each call is pointed at where it goes, and the gate refuses any other connection
            client.sockname = context.server.address = (tunnel.host or NOWHERE, tunnel.port)
            handler.layer = TransparentProxy(context)
            opened(client, tunnel)
            try:
                with self._proxyserver.register_connection(client.id, handler):
                    await handler.handle_client()
            finally:
                opened(client, None)

        server = await asyncio.start_server(take, sock=sock)
        self._extra_servers.append(server)
        return server

    @property
    def connection_count(self) -> int:
        """Client connections that are open now."""
        return len(self._proxyserver.connections)

    def hang_up(self, client: connection.Client) -> None:
        """Not one byte more to or from this client, from now on; its layers learn of it as of a client that left."""
        handler = self._proxyserver.connections.get(client.id)
        transport = handler.transports.get(client) if handler else None
        if transport is not None and isinstance(transport.writer, asyncio.StreamWriter):
            socket_ = transport.writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it is gone already
                socket_.shutdown(socket.SHUT_RDWR)

    async def drain(self, deadline_s: float, is_idle: Callable[[], bool]) -> bool:
        """Close the listeners and wait until ``is_idle`` says so, at most ``deadline_s``. Whether it became idle."""
        await self._close_listeners()
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        while not is_idle():
            if loop.time() >= until:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def stop(self, grace_s: float = 5.0) -> None:
        """Close listeners and connections, wait for their last hooks (at most ``grace_s``), end the addons."""
        if not self._started:
            return
        self._started = False
        await self._close_listeners()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        told: set[object] = set()  # a second cancellation would hit the hooks that follow the first
        while (self._proxyserver.connections or self._dispatch.running) and loop.time() < until:
            for handler in list(self._proxyserver.connections.values()):
                transport = handler.transports.get(handler.client)
                if transport is not None and transport.handler is not None and transport.handler not in told:
                    told.add(transport.handler)
                    transport.handler.cancel("the gateway stops")
            await asyncio.sleep(_POLL_S)
        for addon in self._addons:
            try:
                await _call(addon, "done")
            except ClawproxyError as err:
                log.error("%s", err)
        loop.set_task_factory(self._task_factory)
        loop.set_exception_handler(self._exception_handler)

    async def _close_listeners(self) -> None:
        for extra in self._extra_servers:
            extra.close()
        self._extra_servers.clear()
        for server in self._proxyserver.servers:
            if server.is_running:
                with contextlib.suppress(OSError):
                    await server.stop()


def _set_options(target: Options, options: EngineOptions) -> None:
    try:
        target.update(  # type: ignore[no-untyped-call]
            mode=_with_ports(options.modes),
            confdir=str(options.confdir),
            body_size_limit=str(options.max_body_bytes),
            connection_strategy="lazy",
            http2=options.http2,
            http3=False,
            keep_host_header=True,  # the gate compares it, then sets its own
            normalize_outbound_headers=True,
            rawtcp=False,
            show_ignored_hosts=False,
            ssl_insecure=False,
            ssl_verify_upstream_trusted_ca=str(options.upstream_ca_file) if options.upstream_ca_file else None,
            store_streamed_bodies=False,
            stream_large_bodies=None,
            tcp_timeout=max(1, round(options.idle_timeout_s)),
            upstream_cert=False,
            validate_inbound_headers=True,
            websocket=False,
        )
    except (exceptions.OptionsError, KeyError, TypeError, ValueError) as err:
        raise ClawproxyError(
            "ENGINE_OPTIONS",
            f"mitmproxy refuses these settings: {err}",
            where="listen",
            remedy="correct the listen address",
        ) from None


def _check_options(found: Options) -> None:
    """What an addon may not have changed while it was loaded."""
    wanted = {
        "connection_strategy": "lazy",
        "ssl_insecure": False,
        "validate_inbound_headers": True,
        "rawtcp": False,
        "websocket": False,
        "stream_large_bodies": None,
        "ignore_hosts": [],
        "allow_hosts": [],
        "tcp_hosts": [],
        "udp_hosts": [],
    }
    for name, value in wanted.items():
        got = getattr(found, name)
        if got != value:
            raise ClawproxyError("ENGINE_OPTIONS", f"{name} was changed", got=got, expected=str(value))


def _wants_any_port(mode: str) -> bool:
    return mode.endswith((":0", "@0"))


def _with_ports(modes: Sequence[str]) -> list[str]:
    """Listeners with port 0 are the same address to mitmproxy, so free ports are looked up here, each another one."""
    taken: set[int] = set()
    concrete = []
    for mode in modes:
        if _wants_any_port(mode):
            while (port := get_free_port()) in taken:
                pass
            taken.add(port)
            mode = f"{mode[:-1]}{port}"
        concrete.append(mode)
    return concrete


def cannot_listen(spec: str, err: Exception) -> ClawproxyError:
    """Why a listener cannot be opened: PORT_IN_USE or ADDRESS_UNUSABLE."""
    code = err.errno if isinstance(err, OSError) else None
    if code == errno.EADDRINUSE:
        return ClawproxyError(
            "PORT_IN_USE",
            "another program listens there",
            where=spec,
            remedy="stop it, or choose another address under [listen]",
        )
    reason = errno.errorcode.get(code, "") if code is not None else type(err).__name__
    remedy = "choose a port from 1024 up" if code == errno.EACCES else "choose an address that this host has"
    return ClawproxyError("ADDRESS_UNUSABLE", "cannot listen there", where=spec, got=reason, remedy=remedy)


async def _call(addon: object, name: str) -> None:
    method = getattr(addon, name, None)
    if method is None:
        return
    try:
        outcome = method()
        if outcome is not None:
            await outcome
    except ClawproxyError:
        raise
    except Exception as err:
        log.error("%s of %s failed: %s", name, type(addon).__name__, where(err))
        raise ClawproxyError(
            "ADDON_FAILED", f"{name} failed: {type(err).__name__}", where=type(addon).__name__
        ) from err


class _Faults(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self.names.append(kind.__name__ if kind else "error")


@contextlib.contextmanager
def _no_addon_fails() -> Iterator[None]:
    """mitmproxy only logs what an addon raises while it is configured; here that ends the start."""
    faults = _Faults()
    logger = logging.getLogger("mitmproxy.addonmanager")
    logger.addHandler(faults)
    try:
        yield
    finally:
        logger.removeHandler(faults)
    if faults.names:
        raise ClawproxyError("ADDON_FAILED", "an addon failed while it was loaded", got=", ".join(faults.names))
