"""Dispatch of mitmproxy's hooks that fails closed, from a table made once.

mitmproxy's own dispatcher logs an exception in an addon and goes on: the request leaves. Here any fault in a hook (an
exception, ``SystemExit`` and ``CancelledError`` included, or the time-out) stops what the hook was about:

===============================================  ========================================================
hook                                             what a fault does
===============================================  ========================================================
requestheaders, request, responseheaders,        the flow is killed: nothing (more) goes to either side
response
http_connect                                     answered 403, no tunnel
seam_hold, seam_frame                            no verdict: the seam cuts
seam_watch                                       stop: the seam cuts
client_connected, server_connect                 the connection is refused
tls_start_client, tls_start_server               no TLS context: the handshake fails
next_layer, tls_clienthello, tls_established_*,  the client's connection is closed
http_connected, server_connected, others
error, *_error, *_disconnected, tls_failed_*     nothing is left to stop; the other addons are still called
===============================================  ========================================================

Then ``hook_fault(name, data, error)`` is called on every addon that has it, guarded itself, so that the gate can write
the record. Protocols that nobody judges (raw TCP, UDP, DNS, QUIC, SOCKS, mitmproxy's own WebSocket layer) are closed
in the same way.

Runs on the event loop; time-outs use its clock.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import ModuleType
from typing import Any

from mitmproxy import addonmanager, connection, hooks, http, tcp, tls, udp
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.flow import Error, Flow
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from . import client_hello
from .holds import Frame, Hold, Watch
from .http1_guards import where

log = logging.getLogger("clawproxy.guard")

_UNBOUNDED = frozenset({"seam_frame", "seam_hold", "seam_watch"})
"""These wait for the disk, for people, and for the end of the call; the seam bounds them."""

_TOLD_ANYWAY = frozenset(
    {
        "client_disconnected",
        "error",
        "http_connect_error",
        "seam_pressure",
        "seam_socket_end",
        "server_connect_error",
        "server_disconnected",
        "tls_failed_client",
        "tls_failed_server",
    }
)
"""Hooks that only tell: a fault in one addon keeps the news from no other."""

CLOSED_WORLD = frozenset(
    {
        "dns_request",
        "http_connect_upstream",
        "quic_start_client",
        "quic_start_server",
        "socks5_auth",
        "tcp_message",
        "tcp_start",
        "udp_message",
        "udp_start",
        "websocket_message",
        "websocket_start",
    }
)
"""Beginnings and messages of protocols that the gateway does not judge."""


_NOBODY: tuple[str, tuple[Callable[..., Any], ...]] = ("", ())


class Dispatch:
    """Install with ``master.addons.handle_lifecycle = Dispatch(addons, …).handle_lifecycle``.

    ``addons`` are in calling order, mitmproxy's own included; the table is fixed from here on. Every hook but the
    seam's gets ``hook_timeout_s`` in each addon.
    """

    def __init__(self, addons: Sequence[object], *, hook_timeout_s: float) -> None:
        self._hook_timeout_s = hook_timeout_s
        self.running = 0
        """Hooks that are being waited for."""
        everything = list(addonmanager.traverse(addons))  # type: ignore[no-untyped-call]
        self._proxyserver = next((addon for addon in everything if isinstance(addon, Proxyserver)), None)
        self._told_of_faults = _methods(everything, "hook_fault")
        self._table: dict[str, tuple[str, tuple[Callable[..., Any], ...]]] = {}
        for name, hook in hooks.all_hooks.items():
            fields = tuple(hook.__dataclass_fields__)  # type: ignore[attr-defined]
            methods = _methods(everything, name)
            if name in CLOSED_WORLD:
                methods = (_refuse_protocol, *methods)
            if len(fields) == 1:
                self._table[name] = (fields[0], methods)

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Call every addon's method for this hook; see the module's docstring for faults. Raises nothing."""
        rest = self.begin(event)
        if rest is not None:
            await rest

    def begin(self, event: hooks.Hook) -> Coroutine[Any, Any, None] | None:
        """``handle_lifecycle`` as far as it goes without waiting; what is left to await, if anything."""
        name = event.name
        field, methods = self._table.get(name, _NOBODY)
        data = getattr(event, field) if methods else None
        for place, method in enumerate(methods):
            try:
                outcome = method(data)
            except BaseException as err:
                return self._rest(name, methods[place:], data, fault=err)
            if outcome is not None and inspect.isawaitable(outcome):
                return self._rest(name, methods[place:], data, outcome=outcome)
        return data.wait_for_resume() if getattr(data, "intercepted", False) else None  # type: ignore[union-attr]

    async def _rest(
        self,
        name: str,
        methods: Sequence[Callable[..., Any]],
        data: object,
        *,
        outcome: Any = None,
        fault: BaseException | None = None,
    ) -> None:
        """What ``begin`` could not finish. The first of ``methods`` was called: with this outcome, or this fault."""
        self.running += 1
        for place, method in enumerate(methods):
            try:
                if place > 0:
                    outcome = method(data)
                elif fault is not None:
                    raise fault
                if outcome is not None and inspect.isawaitable(outcome):
                    await self._bounded(name, outcome)
            except BaseException as err:  # a cancelled hook would leave its flow hanging for ever
                await self._fault(name, method, data, err)
                if name not in _TOLD_ANYWAY:
                    break
        if isinstance(data, Flow) and data.intercepted:
            await data.wait_for_resume()  # type: ignore[no-untyped-call]
        self.running -= 1

    async def _bounded(self, name: str, outcome: Awaitable[object]) -> None:
        if name in _UNBOUNDED:
            await outcome
            return
        async with asyncio.timeout(self._hook_timeout_s) as limit:
            await outcome
        if limit.expired():  # it swallowed the cancellation: late is late
            raise TimeoutError

    async def _fault(self, name: str, method: Callable[..., Any], data: object, err: BaseException) -> None:
        log.error("hook %s of %s failed: %s", name, getattr(method, "__qualname__", method), where(err))
        try:
            self._stop(name, data)
        except BaseException as failure:
            log.critical("hook %s could not be stopped: %s", name, where(failure))
        for told in self._told_of_faults:
            try:
                outcome = told(name, data, err)
                if outcome is not None and inspect.isawaitable(outcome):
                    async with asyncio.timeout(self._hook_timeout_s):
                        await outcome
            except BaseException as failure:
                log.error("hook_fault for %s failed: %s", name, where(failure))

    def _stop(self, name: str, data: object) -> None:
        if isinstance(data, Hold):
            data.verdict = data.ping = None
        elif isinstance(data, Frame):
            data.verdict = None
        elif isinstance(data, Watch):
            data.stop = data.stop or "the watch failed"
        elif name == "http_connect" and isinstance(data, http.HTTPFlow):
            data.response = http.Response.make(403, b"clawproxy: the tunnel could not be judged\n")
            _unpause(data)
        elif isinstance(data, ServerConnectionHookData) and name == "server_connect":
            data.server.error = "the connection could not be judged"
        elif isinstance(data, connection.Client) and name == "client_connected":
            data.error = "the connection could not be judged"
        elif name in ("tls_start_client", "tls_start_server"):
            data.ssl_conn = None  # type: ignore[attr-defined]
        elif name in ("requestheaders", "request", "responseheaders", "response"):
            _kill(data)
        elif isinstance(data, tls.ClientHelloData):
            client_hello.refuse(data.context.client)
            self._close(data)
        elif name not in _TOLD_ANYWAY:
            _kill(data)
            self._close(data)

    def _close(self, data: object) -> None:
        """Break the client's connection: for hooks that mitmproxy gives no way to veto."""
        client = _client_of(data)
        handler = self._proxyserver.connections.get(client.id) if self._proxyserver and client else None
        transport = handler.transports.get(handler.client) if handler else None
        if transport is None:
            return
        if transport.handler is not None:
            transport.handler.cancel("closed by the guard")
        elif transport.writer is not None:
            transport.writer.close()


class ProtocolRefused(Exception):
    """A protocol that the gateway does not judge. Caught by the dispatcher, which closes the connection."""


def _refuse_protocol(data: object) -> None:
    raise ProtocolRefused(type(data).__name__)


def _methods(addons: Iterable[object], name: str) -> tuple[Callable[..., Any], ...]:
    found = (getattr(addon, name, None) for addon in addons)
    return tuple(method for method in found if callable(method) and not isinstance(method, ModuleType))


def _kill(data: object) -> None:
    """``flow.kill()`` without its conditions: whatever state an addon left the flow in, nothing of it may go on."""
    if isinstance(data, Flow):
        data.error = Error(Error.KILLED_MESSAGE)
        data.live = False
        _unpause(data)
    if isinstance(data, http.HTTPFlow):
        data.request.stream = False
        if data.websocket is not None:
            for message in data.websocket.messages[-1:]:
                message.drop()  # type: ignore[no-untyped-call]
    elif isinstance(data, (tcp.TCPFlow, udp.UDPFlow)):
        for passed in data.messages[-1:]:
            passed.content = b""


def _unpause(flow: Flow) -> None:
    if flow.intercepted:
        flow.resume()  # type: ignore[no-untyped-call]


def _client_of(data: object) -> connection.Client | None:
    if isinstance(data, connection.Client):
        return data
    if isinstance(data, Flow):
        return data.client_conn
    if isinstance(data, NextLayer):
        return data.context.client
    context = getattr(data, "context", None)
    client = getattr(data, "client", None) or getattr(data, "client_conn", None) or getattr(context, "client", None)
    return client if isinstance(client, connection.Client) else None


def take_over(master: Any, *, hook_timeout_s: float) -> Dispatch:
    """Replace the dispatcher of a mitmproxy master with a table of the addons that it has now."""
    dispatch = Dispatch(master.addons.chain, hook_timeout_s=hook_timeout_s)
    master.addons.handle_lifecycle = dispatch.handle_lifecycle
    return dispatch
