"""What is remembered for a client connection: where its tunnel goes, and the token it opened it with. Bounded by the
number of connections; an entry goes when its connection does."""

from __future__ import annotations

from dataclasses import dataclass, field

from mitmproxy import connection


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT that was let through."""

    host: str
    port: int
    credential: str | None = field(repr=False)


class Connections:
    """Tunnels by client connection."""

    def __init__(self) -> None:
        self._tunnels: dict[str, Tunnel] = {}

    def open(self, client: connection.Client, tunnel: Tunnel) -> None:
        self._tunnels[client.id] = tunnel

    def tunnel(self, client: connection.Client) -> Tunnel | None:
        return self._tunnels.get(client.id)

    def close(self, client: connection.Client) -> None:
        self._tunnels.pop(client.id, None)
