"""A reload: the configuration read again and taken over as one step, or not at all. Runs on the event loop.

Everything that can fail (the file, the keys, the secrets) is read first, in a thread; what follows has no ``await``.
Calls under way keep the steps and the credential that they began with. What a reload changed is logged, answered and
written into the gateway's own journal; that it allows more is said in so many words.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from ..policies.pin import Pinner
from ..receipts.jobs import JobBook
from ..receipts.refusals import RefusalLog
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.revocation import Revocations
from ..tokens.verify import TokenVerifier
from .approvals import ApprovalDesk
from .connections import Connections
from .dial import Resolve, Resolver
from .egress_steps import EgressSteps
from .live_settings import Live, changes, read_live, refuse_fixed
from .settings import Settings
from .switch import Switch

log = logging.getLogger("clawproxy.reload")


class Reloading:
    """Reloads one gateway. ``reread`` reads the configuration again; ``live`` is what holds now."""

    def __init__(
        self,
        live: Live,
        reread: Callable[[], Settings],
        switch: Switch,
        steps: EgressSteps,
        *,
        pinner: Pinner,
        revocations: Revocations,
        jobs: JobBook,
        approvals: ApprovalDesk,
        connections: Connections,
        refusal_log: RefusalLog,
        own_did: str,
        resolve: Resolve | None,
    ) -> None:
        self.live = live
        self._reread = reread
        self._switch = switch
        self._steps = steps
        self._pinner = pinner
        self._revocations = revocations
        self._jobs = jobs
        self._approvals = approvals
        self._connections = connections
        self._refusal_log = refusal_log
        self._own_did = own_did
        self._resolve = resolve
        self._lock = asyncio.Lock()

    async def reload(self) -> JsonObject:
        """Take the configuration over; returns what changed. Raises ``ClawproxyError``, and then nothing has."""
        async with self._lock:
            try:
                after = await asyncio.to_thread(self._read)
            except ClawproxyError as err:
                log.error("not reloaded, all stays as it was: %s", err.one_line())
                raise
            found = changes(self.live, after)
            self._take(after)
        widens = [change for change in found if change.widens]
        for change in found:
            say = log.warning if change.widens else log.info
            say("reloaded: %s: %s%s", change.key, change.what, "; this allows more than before" * change.widens)
        told: JsonObject = {"changes": [change.to_json() for change in found], "widens": bool(widens)}
        recorded = await self._refusal_log.note("reload", "gateway_reload", told) if found else True
        return {**told, "recorded": recorded}

    def _read(self) -> Live:
        settings = self._reread()
        refuse_fixed(self.live.settings, settings)
        return read_live(settings, self._own_did)

    def _take(self, after: Live) -> None:
        limits = after.settings.gateway
        same_rate = (
            limits.max_calls_per_minute_per_job == self.live.settings.gateway.max_calls_per_minute_per_job
        )  # buckets that are kept stay as full as they are
        verifier = TokenVerifier(after.issuers, frozenset(limits.audience), self._revocations)
        self._pinner.renew(after.source, after.reviewers)
        self._steps = self._steps.renewed(
            after, verifier, lambda: Resolver(after.private, resolve=self._resolve), same_rate=same_rate
        )
        self._switch.current = self._steps
        self._connections.max_per_job = limits.max_connections_per_job
        self._approvals.renew(after.approvers)
        reserved = after.issuers | after.reviewers | after.approvers.everyone
        self._jobs.renew(lambda known: replace(known, open_calls=limits.max_open_calls_per_job), reserved)
        self.live = after
