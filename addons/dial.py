"""The only way out: a name is resolved once its call is decided, its addresses are judged, and only those are dialled.

``Resolver`` turns a provider's host into checked addresses (policies/addresses.py), with a small cache, so that a busy
host costs nothing per call. ``Permit`` carries them from the ``server_connect`` hook to the dial, which run in one task
(``ConnectionHandler.open_connection``): in mitmproxy's ``server.py`` the name ``asyncio`` is replaced by a copy whose
``open_connection`` dials what the permit says, in order, and nothing without one. The connection keeps its host name:
SNI, certificate check and reuse go by that.

Look-ups run in threads that a ``Resolver`` has for itself, at most one per host at a time; one that hangs there is
waited for only so long. Names that an agent may choose have a ``Resolver`` of their own, so that those for which no
server answers hold up neither the providers' names nor the files of jobs, which are opened in the loop's threads.

Limits: an address that was public when it was judged is dialled for up to ``CACHE_S`` longer. Jobs whose contracts have
patterns share the threads for the names of tools.
"""

from __future__ import annotations

import asyncio
import socket
import types
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mitmproxy.proxy import server

from ..policies.addresses import address_fault
from ..tokens.errors import clip
from ..tokens.reasons import Refusal

CACHE_S = 30.0
LOOKUP_TIMEOUT_S = 5.0
DIAL_TIMEOUT_S = 20.0
"""For all addresses of a host together."""
ADDRESS_TIMEOUT_S = 8.0
MAX_ADDRESSES = 16
"""So many are dialled; all are judged."""
_MAX_ANSWERS = 64
_MAX_HOSTS = 256
_THREADS = 16
_MAX_LOOKUPS = 64
"""Under way or waiting for a thread."""

type Destination = tuple[str, int]
type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def own_threads() -> Resolve:
    """The system's resolver, in threads that nothing else uses; an address stands for itself. What it returns raises
    ``OSError`` where there is none."""
    pool = ThreadPoolExecutor(_THREADS, "clawproxy-lookup")

    async def resolve(host: str, port: int) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            return [str(entry[4][0]) for entry in found]

        return await asyncio.get_running_loop().run_in_executor(pool, ask)

    return resolve


class Resolver:
    """Checked addresses by destination. ``private`` are the destinations that may have private ones; for the event
    loop alone. ``clock_s`` is monotonic."""

    def __init__(
        self,
        private: frozenset[Destination] = frozenset(),
        *,
        resolve: Resolve | None = None,
        clock_s: Callable[[], float] | None = None,
    ) -> None:
        self._private = private
        self._resolve = resolve or own_threads()
        self._clock_s = clock_s
        self._known: dict[Destination, tuple[float, tuple[str, ...]]] = {}
        self._looking: dict[Destination, asyncio.Task[Sequence[str]]] = {}

    def without_private(self) -> Resolver:
        """One that lets no destination have a private address."""
        return Resolver(resolve=self._resolve, clock_s=self._clock_s)

    def known(self, destination: Destination) -> tuple[str, ...] | None:
        """The addresses of a host that was looked up a moment ago."""
        entry = self._known.get(destination)
        return entry[1] if entry is not None and self._now_s() < entry[0] else None

    async def look_up(self, destination: Destination) -> tuple[str, ...] | Refusal:
        """Ask the resolver, and judge every address of the answer."""
        host, port = destination
        if len(self._looking) >= _MAX_LOOKUPS and destination not in self._looking:
            return Refusal("UPSTREAM_UNREACHABLE", f"{clip(host)}:{port}", "too many look-ups wait", at="intend")
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                found = await asyncio.shield(self._lookup(destination))
        except (OSError, UnicodeError) as err:  # TimeoutError is an OSError
            why = "no answer in time" if isinstance(err, TimeoutError) else "the name does not resolve"
            return Refusal("UPSTREAM_UNREACHABLE", f"{clip(host)}:{port}", why, at="intend")
        return self._judged(destination, found)

    def _lookup(self, destination: Destination) -> asyncio.Task[Sequence[str]]:
        """One at a time per host: who comes meanwhile waits for the same."""
        task = self._looking.get(destination)
        if task is None:
            task = asyncio.ensure_future(self._resolve(*destination))
            self._looking[destination] = task
            task.add_done_callback(lambda done: self._looked(destination, done))
        return task

    def _looked(self, destination: Destination, done: asyncio.Task[Sequence[str]]) -> None:
        self._looking.pop(destination, None)
        if not done.cancelled():
            done.exception()  # whoever asked may be gone

    def _judged(self, destination: Destination, found: Sequence[str]) -> tuple[str, ...] | Refusal:
        host, port = destination
        addresses = tuple(dict.fromkeys(found))
        rule = f"address of {clip(host)}:{port}"
        if not addresses:
            return Refusal("UPSTREAM_UNREACHABLE", rule, "the name has no address", at="intend")
        if len(addresses) > _MAX_ANSWERS:
            return Refusal("DESTINATION_REFUSED", rule, f"more than {_MAX_ANSWERS} addresses")
        private = destination in self._private
        for address in addresses:
            fault = address_fault(address, private=private)
            if fault is not None:
                return Refusal("DESTINATION_REFUSED", rule, fault)
        addresses = addresses[:MAX_ADDRESSES]
        self._known.pop(destination, None)
        while len(self._known) >= _MAX_HOSTS:
            del self._known[next(iter(self._known))]
        self._known[destination] = (self._now_s() + CACHE_S, addresses)
        return addresses

    def _now_s(self) -> float:
        return self._clock_s() if self._clock_s is not None else asyncio.get_running_loop().time()


# -- the dial ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to open one connection to ``destination``, at these addresses."""

    destination: Destination
    addresses: tuple[str, ...]


_permit: ContextVar[Permit | None] = ContextVar("clawproxy_permit", default=None)


def permit(destination: Destination, addresses: tuple[str, ...]) -> None:
    """From a synchronous ``server_connect`` hook: the connection that is about to be opened may be."""
    _permit.set(Permit(destination, addresses))


class NotPermittedError(OSError):
    """A dial without a permit. mitmproxy takes it for a connection that failed."""


async def open_connection(
    host: str, port: int, *, local_addr: object = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``asyncio.open_connection``, to a permitted address of ``host`` and nowhere else. A permit serves once."""
    allowed = _permit.get()
    _permit.set(None)
    if allowed is None or allowed.destination != (host, port) or local_addr is not None:
        raise NotPermittedError("no checked address for this destination")
    last: OSError = NotPermittedError("no address is left")
    async with asyncio.timeout(DIAL_TIMEOUT_S):
        for address in allowed.addresses:
            try:
                async with asyncio.timeout(ADDRESS_TIMEOUT_S):
                    return await asyncio.open_connection(address, port, flags=socket.AI_NUMERICHOST)
            except OSError as err:
                last = err
    raise last


class _EngineAsyncio(types.ModuleType):
    """``asyncio`` as mitmproxy's ``server.py`` sees it."""

    open_connection: Callable[..., Any]


def install() -> None:
    """Set the dial, for the whole process."""
    if is_installed():
        return
    shim = _EngineAsyncio("asyncio")
    shim.__dict__.update(vars(asyncio))
    shim.open_connection = open_connection
    server.asyncio = shim  # type: ignore[attr-defined]


def is_installed() -> bool:
    """Whether mitmproxy's dial is ours."""
    return server.asyncio.open_connection is open_connection  # type: ignore[attr-defined]


def uninstall() -> None:
    """mitmproxy as it comes."""
    server.asyncio = asyncio  # type: ignore[attr-defined]
