"""Changes to mitmproxy that only make it faster; together they halve its CPU per call (docs/performance.md).

Each has a reason, the functions it stands on (their fingerprints must be the known ones, or it is left out), and a name
by which it can be turned off. None changes what is decided, recorded or sent. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, server
from mitmproxy.utils import asyncio_utils

from .engine_checks import moved_functions
from .engine_prints import PRINTS
from .guard import Dispatch
from .heap import fix_thresholds
from .http1_guards import where

log = logging.getLogger("clawproxy.engine")

_SERVER = "proxy/server.py:ConnectionHandler."
_STOCK_SERVER_EVENT = server.ConnectionHandler.server_event
_STOCK_DRAIN = server.ConnectionHandler.drain_writers
_STOCK_POST_INIT = http.MessageData.__post_init__

_tasks: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Patch:
    """One change: what for, what it stands on, how to make it and how to take it back."""

    name: str
    reason: str
    stands_on: tuple[str, ...]
    apply: Callable[[], None]
    revert: Callable[[], None]


# -- coalesced writes ----------------------------------------------------------------------------------------------


async def _server_event(self: server.ConnectionHandler, event: events.Event) -> None:
    """One event through the layers. What it sends is written at once per connection, not piece by piece; order against
    hooks, opens and closes is kept. A crash closes the client's connection (mitmproxy only logs it)."""
    async with self._server_event_lock:  # and no await in here
        self.timeout_watchdog.register_activity()  # type: ignore[no-untyped-call]
        pending: list[commands.SendData] = []
        todo = [event]  # grows by the completions of hooks that were done at once
        try:
            for current in todo:
                for command in self.layer.handle_event(current):
                    if isinstance(command, commands.SendData):
                        pending.append(command)
                    elif isinstance(command, commands.Log):
                        self.log(command.message, command.level)
                    else:
                        if pending:
                            _write(self, pending)
                        if _obey(self, command) and command.blocking:
                            assert isinstance(command, commands.StartHook)
                            todo.append(events.HookCompleted(command))
        except Exception as err:
            log.error("the proxy layers failed: %s", where(err))
            if self.client in self.transports:
                self.close_connection(self.client)
        if pending:
            _write(self, pending)


def _write(self: server.ConnectionHandler, pending: list[commands.SendData]) -> None:
    """Send what has gathered, in order, joined where neighbours go the same way."""
    at = 0
    while at < len(pending):
        connection, pieces = pending[at].connection, [pending[at].data]
        at += 1
        while at < len(pending) and pending[at].connection is connection:
            pieces.append(pending[at].data)
            at += 1
        transport = self.transports.get(connection)
        if transport is not None and transport.writer is not None and not transport.writer.is_closing():
            transport.writer.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    pending.clear()


def _obey(self: server.ConnectionHandler, command: commands.Command) -> bool:
    """Do what a layer asks for. True for a hook that is over already."""
    if isinstance(command, commands.StartHook):
        return _start_hook(self, command)
    if isinstance(command, commands.RequestWakeup):
        _wake_later(self, command)
    elif isinstance(command, commands.OpenConnection):
        assert command.connection not in self.transports
        task = asyncio_utils.create_task(
            self.open_connection(command),
            name=f"server connection {command.connection.address}",
            keep_ref=False,
            client=self.client.peername,
        )
        self.transports[command.connection] = server.ConnectionIO(handler=task)
    elif isinstance(command, commands.CloseConnection):
        if command.connection in self.transports:
            half = isinstance(command, commands.CloseTcpConnection) and command.half_close
            self.close_connection(command.connection, half)
    else:
        raise TypeError(f"unexpected command: {type(command).__name__}")
    return False


def _start_hook(self: server.ConnectionHandler, command: commands.StartHook) -> bool:
    dispatch = getattr(self.master.addons.handle_lifecycle, "__self__", None) if _hooks_in_place else None  # type: ignore[attr-defined]
    if not isinstance(dispatch, Dispatch):
        _spawn(self.hook_task(command))
        return False
    rest = dispatch.begin(command)
    if rest is None:
        return True
    _spawn(_finish_hook(self, command, rest))
    return False


async def _finish_hook(
    self: server.ConnectionHandler, command: commands.StartHook, rest: Coroutine[Any, Any, None]
) -> None:
    with self.timeout_watchdog.disarm():
        await rest
    if command.blocking:
        await self.server_event(events.HookCompleted(command))


def _spawn(coroutine: Coroutine[Any, Any, None]) -> None:
    task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
    if not task.done():
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def _wake_later(self: server.ConnectionHandler, command: commands.RequestWakeup) -> None:
    """A timer instead of a sleeping task: every held answer asks for one."""

    def fire() -> None:
        self.wakeup_timer.discard(timer)
        _spawn(self.server_event(events.Wakeup(command)))

    timer = asyncio.get_running_loop().call_later(command.delay, fire)
    self.wakeup_timer.add(timer)  # type: ignore[arg-type]


def _set_server_event() -> None:
    server.ConnectionHandler.server_event = _server_event  # type: ignore[method-assign]


def _stock_server_event() -> None:
    server.ConnectionHandler.server_event = _STOCK_SERVER_EVENT  # type: ignore[method-assign]


# -- hooks in place (as part of _server_event), drains only where something waits ---------------------------------

_hooks_in_place = False


def _set_hooks_in_place() -> None:
    global _hooks_in_place
    _hooks_in_place = True


def _stock_hooks() -> None:
    global _hooks_in_place
    _hooks_in_place = False


async def _drain_writers(self: server.ConnectionHandler) -> None:
    for transport in self.transports.values():
        writer = transport.writer
        if writer is None:
            continue
        stream = getattr(writer, "transport", None)
        if stream is None or stream.is_closing() or stream.get_write_buffer_size() > 0:
            await _STOCK_DRAIN(self)  # type: ignore[no-untyped-call]
            return


def _set_drain() -> None:
    server.ConnectionHandler.drain_writers = _drain_writers  # type: ignore[method-assign]


def _stock_drain() -> None:
    server.ConnectionHandler.drain_writers = _STOCK_DRAIN  # type: ignore[method-assign]


# -- no type check per message -------------------------------------------------------------------------------------


def _no_check(self: http.MessageData) -> None:
    """Nothing to do after ``__init__``."""


def _unset_type_check() -> None:
    http.MessageData.__post_init__ = _no_check  # type: ignore[method-assign]


def _stock_type_check() -> None:
    http.MessageData.__post_init__ = _STOCK_POST_INIT  # type: ignore[method-assign]


PATCHES = (
    Patch(
        "coalesced_writes",
        "mitmproxy makes one system call per chunk and one sleeping task per timer; an event often brings several",
        tuple(
            _SERVER + name
            for name in ("server_event", "close_connection", "hook_task", "wakeup", "handle_client", "open_connection")
        ),
        _set_server_event,
        _stock_server_event,
    ),
    Patch(
        "hooks_in_place",
        "mitmproxy starts a task for each hook; most of ours return at once, and then need none",
        (
            _SERVER + "server_event",
            _SERVER + "hook_task",
            "proxy/mode_servers.py:ProxyConnectionHandler.handle_hook",
            "proxy/server.py:TimeoutWatchdog.disarm",
        ),
        _set_hooks_in_place,
        _stock_hooks,
    ),
    Patch(
        "idle_drains",
        "mitmproxy waits for every writer of a connection after every read; mostly there is nothing to wait for",
        (_SERVER + "drain_writers",),
        _set_drain,
        _stock_drain,
    ),
    Patch(
        "no_type_check",
        "mitmproxy checks the type of each field of each request and response that it has parsed itself",
        ("http.py:MessageData.__post_init__",),
        _unset_type_check,
        _stock_type_check,
    ),
)


def tune(off: Collection[str] = ()) -> tuple[str, ...]:
    """Make all changes but those named in ``off``; the names of those made. A change whose ground moved is left out."""
    made = []
    for patch in PATCHES:
        if patch.name in off:
            continue
        moved = moved_functions({name: PRINTS[name] for name in patch.stands_on})
        if moved:
            log.warning("engine tuning %s is left out: %s changed", patch.name, ", ".join(moved))
            continue
        patch.apply()
        made.append(patch.name)
    return tuple(made)


HEAP = "settled_heap"
"""The name by which ``settle_heap`` is turned off."""
_heap_settled = False


def settle_heap(off: Collection[str] = ()) -> None:
    """Take what is loaded by now out of every later garbage collection; once per process, when all is imported.

    A full collection walks some 150,000 objects of code and tables, which stops every stream for more than 100 ms.
    """
    global _heap_settled
    if _heap_settled or HEAP in off:
        return
    _heap_settled = True
    fix_thresholds()
    gc.collect()
    gc.freeze()


def untune() -> None:
    """mitmproxy at its own speed: for tests and benchmarks."""
    for patch in PATCHES:
        patch.revert()
