"""The transparent listener: connections that a rule of the host redirects here. Runs on the event loop.

Of such a connection the port that it was made to counts, and the name in its TLS handshake (or, for plain HTTP, in its
Host field); the address does not, and is never dialled. Who calls is told by the token in the call's own header fields,
as on the base-URL listener. What nobody redirected is closed: a rule that is missing is noticed, and nothing that the
gateway itself sends can come back in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ..policies.door_plan import WAY_IN
from ..receipts.presenters import presenter_at
from ..tokens.reasons import Refusal
from .connections import Tunnel
from .ending import Ending, Origin
from .master import cannot_listen

_DENIALS_AT_ONCE = 32


class Redirected:
    """Says where connections of the transparent listener go. ``destination_of`` is what the kernel tells."""

    def __init__(self, ending: Ending, destination_of: Callable[[socket.socket], tuple[str, int]]) -> None:
        self._ending = ending
        self._destination_of = destination_of
        self._denying: set[asyncio.Task[None]] = set()

    def arrive(self, sock: socket.socket) -> Tunnel | None:
        """A tunnel to a name that is not known yet, at the port of the connection; None for nowhere."""
        try:
            destination: tuple[str, int] | None = self._destination_of(sock)
        except OSError:
            destination = None
        if destination is None or _plain(destination) == _plain(sock.getsockname()):
            self._refuse(sock)
            return None
        return Tunnel("", destination[1], None, WAY_IN)

    def _refuse(self, sock: socket.socket) -> None:
        if len(self._denying) >= _DENIALS_AT_ONCE:
            return
        refusal = Refusal("CONNECTION_REFUSED", "listen.transparent", "no rule of the host redirected the connection")
        origin = Origin(presenter_at(sock.getpeername()[0]), WAY_IN)
        task = asyncio.get_running_loop().create_task(self._ending.deny_connection(origin, refusal, None))
        self._denying.add(task)
        task.add_done_callback(self._denying.discard)


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    """An IPv4 address in IPv6 clothes, as a listener on ``::`` has it, is the IPv4 address."""
    return address[0].removeprefix("::ffff:"), address[1]


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ``ClawproxyError`` (PORT_IN_USE, ADDRESS_UNUSABLE)."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except OSError as err:
        sock.close()
        raise cannot_listen(f"listen.transparent: {host}:{port}", err) from None
    return sock
