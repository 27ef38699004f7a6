"""What is remembered for a client connection: where its tunnel goes, the token it opened it with, and for which jobs it
made calls. Bounded by the number of connections; an entry goes when its connection does."""

from __future__ import annotations

from dataclasses import dataclass, field

from mitmproxy import connection

from .connection_limits import peer_of


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT that was let through, or a transparent connection, which is one without the words."""

    host: str
    port: int
    credential: str | None = field(repr=False)
    way_in: str = "connect"
    presenter: str | None = None
    """Who is at the other end, where that is known by more than the address."""
    home: str | None = None
    """The job that what is refused here belongs to, whatever it presents."""


class Connections:
    """Tunnels and jobs by client connection. A connection counts for each job whose token it presented, at most
    ``max_jobs`` of them."""

    def __init__(self, *, max_per_job: int = 256, max_jobs: int = 64) -> None:
        self.max_per_job = max_per_job
        self._max_jobs = max_jobs
        self._tunnels: dict[str, Tunnel] = {}
        self._greeted: set[str] = set()
        self._jobs: dict[str, set[str]] = {}
        self._clients: dict[str, set[str]] = {}

    def open(self, client: connection.Client, tunnel: Tunnel) -> None:
        self._tunnels[client.id] = tunnel

    def tunnel(self, client: connection.Client) -> Tunnel | None:
        return self._tunnels.get(client.id)

    def party(self, client: connection.Client) -> str:
        """Whose connection this is, for the limit of one party: that of a job's door, or of an address.

        All doors have the same addresses.
        """
        tunnel = self._tunnels.get(client.id)
        return tunnel.presenter if tunnel is not None and tunnel.presenter is not None else peer_of(client)

    def greet(self, client: connection.Client) -> bool:
        """A TLS handshake begins inside the tunnel of this client; False where it is not the first."""
        first = client.id not in self._greeted
        if client.id in self._tunnels:
            self._greeted.add(client.id)
        return first

    def has_greeted(self, client: connection.Client) -> bool:
        return client.id in self._greeted

    def join(self, client: connection.Client, job_id: str) -> bool:
        """Count this connection for a job, once; False where it would be one too many of either."""
        clients = self._clients.get(job_id)
        if clients is not None and client.id in clients:
            return True
        if client.timestamp_end is not None:  # it has gone: nothing would take it out again
            return True
        jobs = self._jobs.get(client.id)
        if (clients is not None and len(clients) >= self.max_per_job) or (jobs and len(jobs) >= self._max_jobs):
            return False
        self._clients.setdefault(job_id, set()).add(client.id)
        self._jobs.setdefault(client.id, set()).add(job_id)
        return True

    def count(self, job_id: str) -> int:
        """Open connections that made calls for a job."""
        return len(self._clients.get(job_id, ()))

    def close(self, client: connection.Client) -> None:
        self._tunnels.pop(client.id, None)
        self._greeted.discard(client.id)
        for job_id in self._jobs.pop(client.id, ()):
            clients = self._clients[job_id]
            clients.discard(client.id)
            if not clients:
                del self._clients[job_id]
