"""A door for tests that need no namespace: listeners on loopback, and a destination that the test names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from clawproxy.addons.door_sockets import DoorSockets
from clawproxy.addons.doors import Door
from clawproxy.receipts.containment import Containment, Kind, ProbeOutcome
from mitmproxy.dns import DNSMessage, Question

from ..waiting import until
from .bed import Bed
from .raw_client import RawClient

ISOLATED = Containment(
    Kind.ISOLATED,
    "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
    (("direct-ipv4", ProbeOutcome.BLOCKED), ("direct-ipv6", ProbeOutcome.NOT_TRIED)),
    uid_changed=True,
    limits=(("memory_bytes", 1 << 30),),
)
TYPES = {"A": 1, "NS": 2, "MX": 15, "TXT": 16, "AAAA": 28, "SVCB": 64, "HTTPS": 65, "ANY": 255}


def tcp_listener(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen(64)
    return sock


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def new_sockets() -> DoorSockets:
    """Such as a door's, on loopback."""
    return DoorSockets((tcp_listener(),), (udp_socket(),), (tcp_listener(),))


def query(name: str, kind: str = "A", number: int = 7) -> DNSMessage:
    return DNSMessage(
        timestamp=None, id=number, query=True, op_code=0, authoritative_answer=False, truncation=False,
        recursion_desired=True, recursion_available=False, reserved=0, response_code=0,
        questions=[Question(name, TYPES[kind], 1)], answers=[], authorities=[], additionals=[],
    )  # fmt: skip


@dataclass
class DoorRig:
    """An open door of ``job_id``; ``destination`` is where the next connection was made to."""

    bed: Bed
    job_id: str
    handle: str
    sockets: DoorSockets
    door: Door
    destinations: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)

    async def open(self, host: str, port: int = 443, *, address: str | None = None) -> RawClient:
        """A connection as if it had been made to ``host`` (or ``address``) and redirected."""
        if address is None:
            found = self.door.names.addresses(host)
            assert found is not None, host
            address = str(found[0])
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self.destinations[sock.getsockname()] = (address, port)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.sockets.tcp[0].getsockname())
        client = RawClient(*await asyncio.open_connection(sock=sock))
        self.bed.clients.append(client)
        return client

    async def tls(self, host: str, *, sni: str | None = None, port: int = 443) -> RawClient:
        client = await self.open(host, port)
        await client.start_tls(ssl.create_default_context(cafile=self.bed.gateway.ca_file), sni or host)
        return client

    async def ask(self, name: str, kind: str = "A") -> DNSMessage:
        """One lookup over UDP."""
        return DNSMessage.unpack(await self.ask_raw(query(name, kind).packed))

    async def ask_raw(self, wire: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        with contextlib.closing(sock):
            await loop.sock_connect(sock, self.sockets.dns_udp[0].getsockname())
            await loop.sock_sendall(sock, wire)
            return await asyncio.wait_for(loop.sock_recv(sock, 4096), 30)

    def headers(self, host: str, **more: str) -> dict[str, str]:
        return {"host": host, "content-type": "application/json", "authorization": "Bearer unused", **more}

    async def denials(self, at_least: int = 1) -> list[dict[str, Any]]:
        """The denials of the job, once there are so many."""
        await until(lambda: len(self.bed.records("denial", self.job_id)) >= at_least)
        return self.bed.records("denial", self.job_id)


@contextlib.asynccontextmanager
async def open_door(bed: Bed, job_id: str = "caged", *, observe: bool = False) -> AsyncIterator[DoorRig]:
    """An isolated job on ``bed`` with its door."""
    lease = await bed.gateway.lease(bed.policy_hash, job_id, containment=ISOLATED, observe=observe)
    sockets = new_sockets()
    destinations: dict[tuple[str, int], tuple[str, int]] = {}

    def destination_of(sock: socket.socket) -> tuple[str, int]:
        return destinations[sock.getpeername()[:2]]

    bed.gateway.destination_of = destination_of
    door = await bed.gateway.open_door(job_id, lease.handle, sockets)
    try:
        yield DoorRig(bed, job_id, lease.handle, sockets, door, destinations)
    finally:
        await door.close()
