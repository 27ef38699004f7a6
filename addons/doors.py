"""Doors: the way in of a job that has a network namespace of its own. Runs on the event loop.

Whoever made the namespace hands over sockets that listen in it. A connection on them was made to an address that stands
for one name (``door_names``), so it is a tunnel to that name which nobody had to ask for: from its first byte on it is
judged as what follows a CONNECT is, with the job's own handle as its token. A connection to any other address or port
is closed at once. Both, and lookups of names that the contract does not have, leave a denial in the job.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from mitmproxy import connection

from ..policies.addresses import bracketed
from ..policies.door_names import DoorNames
from ..policies.door_plan import WAY_IN
from ..receipts.per_second import PerSecond
from ..receipts.presenters import presenter_in_namespace
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .connections import Connections, Tunnel
from .door_dns import TcpResolver, UdpResolver
from .door_sockets import DoorSockets
from .ending import Ending, Origin
from .original_destination import original_destination

DENIALS_PER_SECOND = 10
_TOLD_AGAIN_MS = 2000
_TOLD_NAMES = 256
_DENIALS_AT_ONCE = 32
_CLOSED_DOORS = 512

type Arrival = Tunnel | None
"""Where a new connection goes; None for nowhere: it is closed."""


class Engine(Protocol):
    """What a door needs of the engine (``master.GatewayMaster``)."""

    async def listen_on(
        self, sock: socket.socket, arrive: Callable[[socket.socket], Arrival], opened: Callable[..., None]
    ) -> asyncio.Server: ...

    def hang_up(self, client: connection.Client) -> None: ...


class Door:
    """An open door of one job. ``close`` ends its listeners and the connections that came by it."""

    def __init__(
        self,
        job_id: str,
        handle: str,
        names: DoorNames,
        sockets: DoorSockets,
        *,
        engine: Engine,
        connections: Connections,
        ending: Ending,
        clock_ms: Callable[[], int],
        closed: Callable[[Door], None],
        destination_of: Callable[[socket.socket], tuple[str, int]] = original_destination,
    ) -> None:
        self.job_id = job_id
        self.names = names
        self._handle = handle
        self._sockets = sockets
        self._engine = engine
        self._connections = connections
        self._ending = ending
        self._clock_ms = clock_ms
        self._closed = closed
        self._destination_of = destination_of
        self._origin = Origin(presenter_in_namespace(job_id), WAY_IN, job_id)
        self._servers: list[asyncio.Server] = []
        self._resolvers: list[asyncio.BaseTransport] = []
        self._tcp_resolver = TcpResolver(names, self._refuse_name)
        self._clients: dict[str, connection.Client] = {}
        self._rate = PerSecond(DENIALS_PER_SECOND)
        self._told: OrderedDict[str, int] = OrderedDict()
        self.left_out = 0
        """How many denials were not recorded, since there were too many at once."""
        self._denying: set[asyncio.Task[None]] = set()
        self._is_open = True
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Listen on all its sockets; raises ``OSError``."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets.tcp:
            self._servers.append(await self._engine.listen_on(sock, self._arrive, self._note_client))
        for sock in self._sockets.dns_udp:
            sock.setblocking(False)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: UdpResolver(self.names, self._refuse_name, self._clock_ms), sock=sock
            )
            self._resolvers.append(transport)
        for sock in self._sockets.dns_tcp:
            self._servers.append(await asyncio.start_server(self._tcp_resolver.serve, sock=sock))

    async def close(self) -> None:
        """Stop listening, hang up what is open. A second time does nothing."""
        if not self._is_open:
            return
        self.stop_listening()
        for client in list(self._clients.values()):
            self._engine.hang_up(client)
        if self._denying:
            await asyncio.wait(self._denying)

    async def wait_closed(self) -> None:
        """Until it takes no connections any more."""
        await self._over.wait()

    def stop_listening(self) -> None:
        """No new connection and no name; those that are open go on."""
        if not self._is_open:
            return
        self._is_open = False
        self._over.set()
        self._closed(self)
        for server in self._servers:
            server.close()
        for transport in self._resolvers:
            transport.close()
        self._tcp_resolver.close()
        self._sockets.close()

    # -- connections -------------------------------------------------------------------------------------------------

    def _arrive(self, sock: socket.socket) -> Arrival:
        if not self._is_open:
            return None
        try:
            address, port = self._destination_of(sock)
        except OSError:
            self._refuse("CONNECTION_REFUSED", "the door's address", "not a redirected connection", "(no host name)")
            return None
        name = self.names.name_at(address)
        if name is None:
            shown = f"{bracketed(address)}:{port}"
            self._refuse("CONNECTION_REFUSED", "addresses of names", "no allowed name has this address", shown)
            return None
        if not self.names.takes(name, port):
            detail = "the contract allows no call to this port"
            self._refuse("CONNECTION_REFUSED", "ports of names", detail, f"{name}:{port}")
            return None
        return Tunnel(name, port, self._handle, WAY_IN, self._origin.presenter, self.job_id)

    def _note_client(self, client: connection.Client, tunnel: Tunnel | None) -> None:
        """A client of this door begins (with its tunnel), or has left."""
        if tunnel is None:
            self._clients.pop(client.id, None)
            self._connections.close(client)
        else:
            self._clients[client.id] = client
            self._connections.open(client, tunnel)

    # -- denials -----------------------------------------------------------------------------------------------------

    def _refuse_name(self, name: str) -> None:
        self._refuse("NAME_NOT_ALLOWED", "names of the contract", "the name does not exist here", name, "DNS")

    def _refuse(self, reason: str, rule: str, detail: str, destination: str, method: str = "CONNECT") -> None:
        """A denial in the job: once for what a client asks again within a moment, and so many a second at most."""
        now_ms = self._clock_ms()
        told = f"{reason} {destination}"
        if self._told.get(told, 0) > now_ms:
            return
        self._told[told] = now_ms + _TOLD_AGAIN_MS
        self._told.move_to_end(told)
        if len(self._told) > _TOLD_NAMES:
            self._told.popitem(last=False)
        if len(self._denying) >= _DENIALS_AT_ONCE or not self._rate.take(now_ms):
            self.left_out += 1
            return
        self._spawn(
            self._ending.deny_connection(self._origin, Refusal(reason, rule, detail), destination, method=method)
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._denying.add(task)
        task.add_done_callback(self._denying.discard)


class Doors:
    """The open doors of a gateway: one for each job at most."""

    def __init__(self) -> None:
        self._by_job: dict[str, Door] = {}
        self._left_out: OrderedDict[str, int] = OrderedDict()
        """What doors that are closed left out, for a while."""

    def check_free(self, job_id: str) -> None:
        """Raise ``ClawproxyError`` (DOOR_INVALID) where the job has a door already."""
        if job_id in self._by_job:
            raise ClawproxyError("DOOR_INVALID", "the job has an open door", where=job_id, remedy="close that first")

    async def open(self, door: Door) -> Door:
        """Take it in and let it listen; it is closed where that fails. Raises ``ClawproxyError`` (DOOR_INVALID)."""
        self.check_free(door.job_id)
        self._by_job[door.job_id] = door
        try:
            await door.start()
        except (OSError, ValueError) as err:
            await door.close()
            raise ClawproxyError("DOOR_INVALID", "the door cannot listen", got=type(err).__name__) from None
        except BaseException:
            await door.close()
            raise
        return door

    def forget(self, door: Door) -> None:
        if self._by_job.get(door.job_id) is not door:
            return
        del self._by_job[door.job_id]
        if door.left_out:
            self._left_out[door.job_id] = self._left_out.pop(door.job_id, 0) + door.left_out
            if len(self._left_out) > _CLOSED_DOORS:
                self._left_out.popitem(last=False)

    def left_out(self, job_id: str) -> int:
        """How many denials the doors of a job have not recorded."""
        door = self._by_job.get(job_id)
        return self._left_out.get(job_id, 0) + (door.left_out if door is not None else 0)

    def stop_listening(self) -> None:
        for door in list(self._by_job.values()):
            door.stop_listening()

    async def close(self, job_id: str) -> None:
        """Close the door of a job, if it has one."""
        door = self._by_job.get(job_id)
        if door is not None:
            await door.close()
