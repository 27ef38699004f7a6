"""Whose refusal it is, where a call was refused before its token was judged: by the job handle that it carries.

A handle is a random name that this gateway gave out for one job, so whoever holds it speaks for that job as much as
any call of it does. A scoped token tells nothing before it is verified, and is not looked at.
"""

from __future__ import annotations

from ..receipts.job import Job
from ..receipts.jobs import JobBook
from ..tokens.errors import ClawproxyError
from .call import Call
from .connections import Connections
from .identity import Leases, collect_token


class HandleHomes:
    """Finds the job of a refused call."""

    def __init__(self, leases: Leases, connections: Connections, jobs: JobBook) -> None:
        self._leases = leases
        self._connections = connections
        self._jobs = jobs

    async def find(self, call: Call) -> Job | None:
        """The job whose handle the call carries, or the tunnel that it came in; opened, if need be.

        None where there is no handle, or another token beside it, where the job is isolated (its handle counts at its
        door alone), and where it takes no records any more.
        """
        tunnel = self._connections.tunnel(call.flow.client_conn)
        found: object = tunnel.credential if tunnel is not None else None
        if found is None:
            found = collect_token(call.flow.request.headers.fields, None)
        lease = self._leases.of(found) if isinstance(found, str) else None
        if lease is None or lease.isolated:
            return None
        try:
            return await self._jobs.job_named(lease.job_id)
        except ClawproxyError:
            return None
