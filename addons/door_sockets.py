"""The sockets of a door, and how they reach a gateway that runs elsewhere: over its admin socket (SCM_RIGHTS).

They are made inside the door's network namespace by whoever made that, bound and listening already; a socket stays in
its namespace wherever its descriptor goes, so the gateway needs no privilege and never enters one. Opens sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..tokens.errors import ClawproxyError
from .admin import call_admin_with_files

MAX_OF_A_KIND = 4


@dataclass(frozen=True, slots=True)
class DoorSockets:
    """``tcp`` listen where rules redirect the job's connections to, ``dns_udp`` (bound) and ``dns_tcp`` (listening) are
    the resolver's. One for each family that the job has."""

    tcp: tuple[socket.socket, ...]
    dns_udp: tuple[socket.socket, ...]
    dns_tcp: tuple[socket.socket, ...]

    def close(self) -> None:
        for sock in (*self.tcp, *self.dns_udp, *self.dns_tcp):
            sock.close()

    def check(self) -> None:
        """Raise ``ClawproxyError`` (DOOR_INVALID) unless these are what a door needs."""
        for kind, found in (("tcp", self.tcp), ("dns_udp", self.dns_udp), ("dns_tcp", self.dns_tcp)):
            if not 0 < len(found) <= MAX_OF_A_KIND:
                raise _invalid(kind, f"{len(found)} sockets", f"1 to {MAX_OF_A_KIND}")
            for sock in found:
                if (fault := _fault(sock, udp=kind == "dns_udp")) is not None:
                    raise _invalid(kind, fault, "bound UDP sockets" if kind == "dns_udp" else "listening TCP sockets")

    @property
    def files(self) -> tuple[int, ...]:
        return tuple(sock.fileno() for sock in (*self.tcp, *self.dns_udp, *self.dns_tcp))


KINDS = ("tcp", "dns_udp", "dns_tcp")


def adopt(files: list[int], counts: Mapping[str, object]) -> DoorSockets:
    """The sockets behind ``files``, so many of each kind as ``counts`` says, in the order of ``KINDS``. They belong to
    what is returned; where this raises ``ClawproxyError`` (DOOR_INVALID), all are closed."""
    left = list(files)
    taken: dict[str, tuple[socket.socket, ...]] = {}
    try:
        for kind in KINDS:
            count = counts.get(kind)
            if not isinstance(count, int) or not 0 < count <= MAX_OF_A_KIND or count > len(left):
                raise _invalid(kind, f"{count} of {len(files)}", f"1 to {MAX_OF_A_KIND} of each kind")
            made: list[socket.socket] = []
            taken[kind] = ()
            while len(made) < count:
                made.append(socket.socket(fileno=left[0]))
                del left[0]
                taken[kind] = tuple(made)
        if left:
            raise _invalid("files", f"{len(left)} more than were announced", "as many")
    except (ClawproxyError, OSError) as err:
        for handle in left:
            os.close(handle)
        for sock in (sock for socks in taken.values() for sock in socks):
            sock.close()
        if isinstance(err, ClawproxyError):
            raise
        raise _invalid("files", "a file that is no socket", "sockets") from None
    return DoorSockets(**taken)


class RemoteDoor:
    """A door of a gateway that runs elsewhere. It is open as long as this is, and as long as the gateway is."""

    def __init__(self, job_id: str, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self.job_id = job_id
        self._writer = writer
        self._reader = reader

    async def close(self) -> None:
        """Tell the gateway to close it. A second time does nothing."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def wait_closed(self) -> None:
        """Until the gateway has closed it, or has gone."""
        with contextlib.suppress(OSError):
            await self._reader.read(1)


async def open_remote_door(admin_socket: Path, job_id: str, handle: str, sockets: DoorSockets) -> RemoteDoor:
    """Let an isolated job into the gateway behind ``admin_socket``. The sockets are the gateway's from here on: this
    process lets go of them, also where this raises ``ClawproxyError`` (DOOR_INVALID, JOB_NOT_FOUND,
    GATEWAY_NOT_RUNNING)."""
    try:
        sockets.check()
        counts = {"tcp": len(sockets.tcp), "dns_udp": len(sockets.dns_udp), "dns_tcp": len(sockets.dns_tcp)}
        _, writer, reader = await call_admin_with_files(
            admin_socket, "open_door", sockets.files, job_id=job_id, handle=handle, **counts
        )
    finally:
        sockets.close()
    return RemoteDoor(job_id, writer, reader)


def _fault(sock: socket.socket, *, udp: bool) -> str | None:
    try:
        family, kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), sock.type
        protocol = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        if family not in (socket.AF_INET, socket.AF_INET6):
            return "a socket of another family"
        if kind != (socket.SOCK_DGRAM if udp else socket.SOCK_STREAM):
            return "a socket of another type"
        if protocol != (socket.IPPROTO_UDP if udp else socket.IPPROTO_TCP):
            return "a socket of another protocol"
        if not udp and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "a socket that does not listen"
        if not sock.getsockname()[1]:
            return "a socket that is not bound"
    except OSError:
        return "not a socket"
    return None


def _invalid(kind: str, got: str, expected: str) -> ClawproxyError:
    return ClawproxyError("DOOR_INVALID", f"not the sockets of a door: {kind}", got=got, expected=expected)
