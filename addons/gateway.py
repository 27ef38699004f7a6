"""A gateway, put together: the list of its parts, read top to bottom. Reads keys and the clock, listens, runs tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mitmproxy import connection

from ..policies.addresses import bracketed
from ..policies.door_names import DoorNames
from ..policies.door_plan import WAY_IN
from ..policies.pin import Pinner
from ..policies.policy import Policy
from ..policies.stops import Stops
from ..receipts.budget_ledger import BudgetLedger
from ..receipts.containment import NOT_CONTAINED, Containment, Kind
from ..receipts.create import create_job
from ..receipts.job import Job, JobLimits
from ..receipts.jobs import JobBook
from ..receipts.journal import Journal
from ..receipts.order_book import OrderBook
from ..receipts.presenters import presenter_in_namespace
from ..receipts.refusals import RefusalLog
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, load_key
from ..tokens.mint import mint
from ..tokens.reasons import Refusal
from ..tokens.revocation import Revocations
from ..tokens.verify import TokenVerifier
from .admin import AdminSocket
from .approval_operations import ApprovalOperations
from .approvals import ApprovalDesk
from .budgeting import Budgeting
from .ca import ensure_ca
from .connections import Connections
from .data_gate import DataGate, configured_classes
from .dial import Resolve, Resolver
from .door_sockets import DoorSockets
from .doors import Door, Doors
from .egress_steps import EgressSteps
from .ending import Ending
from .gate import Gate, Steps
from .handle_homes import HandleHomes
from .identity import Lease, Leases
from .json_body import JsonBounds
from .live_settings import read_live
from .master import EngineOptions, GatewayMaster
from .observing import notice_name
from .operations import Operations
from .original_destination import original_destination
from .price_settings import configured_prices
from .redirected import Redirected, listener
from .reloading import Reloading
from .settings import Settings, check_ca_file, check_listeners, parse_address
from .steps import LiveSteps
from .stopping import Stopping, stopped_call
from .switch import Switch
from .tool_gate import CallJudges
from .untrusting import Untrusting
from .websocket import Sockets

log = logging.getLogger("clawproxy.gateway")

DEFAULT_TTL_S = 1800
_SCOPE = ("clawproxy:call",)
_CUT_GRACE_S = 2.0
_HEAD_MARGIN_BYTES = 16 * 1024
_SEAL_TIMEOUT_S = 30


def clock_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Gateway:
    """One gateway on one state directory. ``wrap_steps`` and ``addons`` are where tests put faults in between, and
    ``resolve`` where they answer for the DNS. ``reread`` reads the configuration again, for a reload; without it a
    reload reads what ``settings`` refer to: keys, secrets and contracts."""

    def __init__(
        self,
        settings: Settings,
        *,
        wrap_steps: Callable[[Steps], Steps] = lambda steps: steps,
        addons: Callable[[Gate], Sequence[object]] = lambda gate: [gate],
        resolve: Resolve | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.addresses: dict[str, str] = {}
        state = settings.state_dir
        limits = settings.gateway

        self._receipt_key = load_key(state / "keys" / "receipt.pem", Role.RECEIPT)
        live = read_live(settings, self._receipt_key.did)
        self.catalogue, issuers, reviewers = live.catalogue, live.issuers, live.reviewers
        self.revocations, stops = Revocations(), Stops()
        self._verifier = TokenVerifier(issuers, frozenset(limits.audience), self.revocations)
        classes = configured_classes(settings.data.classes)
        self._pinner = Pinner(live.source, reviewers, data_classes=classes)
        json_bounds = JsonBounds(limits.max_json_depth, limits.max_json_nodes)
        self.data = DataGate(
            classes,
            budget_s=settings.data.scan_budget_ms / 1000,
            max_body_bytes=limits.max_body_bytes,
            json_bounds=json_bounds,
        )
        self.approvals = ApprovalDesk(live.approvers, self._receipt_key, clock_ms)
        self._leases = Leases()
        self._doors = Doors()
        self.destination_of: Callable[[socket.socket], tuple[str, int]] = original_destination
        """Where a transparent connection was made to; tests have no rules that redirect."""
        self._connections = Connections(max_per_job=limits.max_connections_per_job)

        reserved = issuers | reviewers | live.approvers.everyone
        self._journal = Journal()
        self.jobs = JobBook(
            state / "jobs", self._journal, self._receipt_key, limits.gateway_id, state / "keys" / "jobs", clock_ms,
            JobLimits(open_calls=limits.max_open_calls_per_job), reserved_dids=reserved,
        )  # fmt: skip
        self._refusal_log = RefusalLog(state / "gateway", self._journal, self._receipt_key, limits.gateway_id, clock_ms)
        self._ledger = BudgetLedger(state)
        self._budgeting = Budgeting(
            configured_prices(settings), self._ledger, clock_ms,
            default_max_output_tokens=limits.default_max_output_tokens, unread_input_tokens=limits.unread_input_tokens,
        )  # fmt: skip
        ending = self._ending = Ending(
            self._refusal_log, self._receipt_key, limits.gateway_id, clock_ms,
            timeout_s=limits.step_timeout_s, budgeting=self._budgeting, clean=self.data.clean,
            opened=self.jobs.opened, by_handle=HandleHomes(self._leases, self._connections, self.jobs).find,
        )  # fmt: skip
        judges = CallJudges(self.approvals, (stopped_call(stops), self.data.judge_call))
        models = LiveSteps(
            catalogue=self.catalogue,
            connections=self._connections,
            leases=self._leases,
            verifier=self._verifier,
            pinner=self._pinner,
            jobs=self.jobs,
            ending=ending,
            credentials=live.credentials,
            signers=live.signers,
            resolver=Resolver(live.private, resolve=resolve),
            clock_ms=clock_ms,
            max_body_bytes=limits.max_body_bytes,
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
            json_bounds=json_bounds,
            data=self.data,
            calls_per_minute=limits.max_calls_per_minute_per_job,
            approvals=self.approvals,
            stops=stops,
            judges=judges,
            budgeting=self._budgeting,
        )
        both = EgressSteps(
            models,
            catalogue=self.catalogue,
            connections=self._connections,
            resolver=Resolver(live.private, resolve=resolve),
            credentials=live.egress,
            ending=ending,
            clock_ms=clock_ms,
            max_body_bytes=limits.max_body_bytes,
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
            refuse_inside=limits.refuse_inside_tunnels,
        )
        switch = Switch(both)
        steps = wrap_steps(switch)
        self.gate = Gate(
            steps,
            ending,
            self._connections,
            clock_ms,
            step_timeout_s=limits.step_timeout_s,
            max_body_bytes=limits.max_body_bytes,
        )
        self._budgeting.open_calls = lambda: self.gate.open_calls
        self.ca_file = ensure_ca(state / "ca")
        self.sockets = Sockets(
            self.gate,
            steps,
            ending,
            clock_ms,
            step_timeout_s=limits.step_timeout_s,
            max_body_bytes=limits.max_body_bytes,
            json_bounds=json_bounds,
            data=self.data,
            judges=judges,
        )
        self.untrusting = Untrusting(clock_ms)
        self._addons = [*addons(self.gate), self.sockets, self.untrusting]
        self._master: GatewayMaster | None = None
        self.stopping = Stopping(
            OrderBook(state / "orders", self._receipt_key), stops, self.revocations, self.jobs, self._leases,
            lambda: self.gate.open_calls, lambda: self.sockets.open_sockets, self._hang_up, clock_ms,
        )  # fmt: skip
        self.reloading = Reloading(
            live, reread or (lambda: settings), switch, both, pinner=self._pinner, revocations=self.revocations,
            jobs=self.jobs, approvals=self.approvals, connections=self._connections, refusal_log=self._refusal_log,
            own_did=self._receipt_key.did, resolve=resolve,
        )  # fmt: skip
        operations = Operations(self)
        self._admin = AdminSocket(
            state / "admin.sock",
            {**operations.by_name(), **ApprovalOperations(self.approvals, self.jobs, self._pinner).by_name},
            operations.with_files(),
        )

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises ``ClawproxyError`` for a port in use, an engine we do not know, another gateway; then nothing
        of it stays open."""
        try:
            await self._open()
        except BaseException:
            await self.stop(0)
            raise

    async def _open(self) -> None:
        if self.settings.listen.admin:
            await self._admin.check_free()  # before anything here finds the other one's files in use
        await self._refusal_log.open()
        await self.stopping.open()
        await self._ledger.open()
        if self.settings.listen.admin:
            await self._admin.start()
            self.addresses["admin"] = str(self._admin.path)
        modes, options = _engine_options(self.settings)
        options = replace(options, party_of=self._connections.party)
        self._master = GatewayMaster.build(options, self._addons)
        try:
            await self._master.start()
        except ClawproxyError as err:
            raise _as_configured(err) from None
        for name, (host, port) in zip(modes, self._master.addresses(), strict=True):
            self.addresses[name] = f"http://{bracketed(host)}:{port}"
        if self.settings.listen.transparent:
            await self._listen_redirected(*parse_address(self.settings.listen.transparent, where="listen.transparent"))
        log.info("listening on %s", self.addresses)

    async def _listen_redirected(self, host: str, port: int) -> None:
        assert self._master is not None
        sock = listener(host, port)
        host, port = sock.getsockname()[:2]
        self.addresses["transparent"] = f"tcp://{bracketed(host)}:{port}"
        redirected = Redirected(self._ending, lambda arrived: self.destination_of(arrived))
        await self._master.listen_on(sock, redirected.arrive)

    def _hang_up(self, client: connection.Client) -> None:
        if self._master is not None:
            self._master.hang_up(client)

    async def stop(self, drain_s: float = 10.0) -> None:
        """No new calls; those that are open may end for ``drain_s`` seconds, then they are cut; then all is closed."""
        self.gate.stopping = True
        self._doors.stop_listening()
        self.approvals.close()
        await self.stopping.close()
        if self.settings.listen.admin:
            await self._admin.stop()
        if self._master is not None:
            await self._master.drain(drain_s, lambda: not self.gate.open_calls)
            for call in self.gate.open_calls:
                call.stop("the gateway is stopping")
            await self._master.drain(_CUT_GRACE_S, lambda: not self.gate.open_calls)
            await self._master.stop()
            self._master = None
        self._budgeting.stop()
        await self.jobs.close()
        await self._ledger.close()
        await self._refusal_log.close()
        await asyncio.to_thread(self._journal.close)
        self.data.close()

    # -- what the admin socket and `clawproxy run` ask for -----------------------------------------------------------

    async def lease(
        self,
        policy_hash_b64u: str,
        job_id: str | None = None,
        ttl_s: int | None = None,
        containment: Containment = NOT_CONTAINED,
        *,
        observe: bool = False,
    ) -> Lease:
        """Open a job under a contract, and a handle for it; the gateway mints and renews its tokens.

        ``ttl_s`` is the life of each token, at most what the contract allows. ``containment`` is signed in the job's
        first record; a job that is isolated is bound to its namespace from the start, so that ``open_door`` is the only
        way in for its handle. With ``observe`` what the contract refuses is let through and recorded (``observing``).
        """
        state = self.settings.state_dir
        key = await asyncio.to_thread(load_key, state / "keys" / "token.pem", Role.TOKEN)
        policy = await self._pinner.policy_of(policy_hash_b64u)
        if policy.demands:
            raise ClawproxyError(
                "WPC_UNENFORCEABLE",
                "the contract demands what this gateway cannot enforce yet",
                got=", ".join(demand.field for demand in policy.demands),
                remedy="take the fields out and sign again, or use a version that enforces them",
            )
        life_s = min(ttl_s or DEFAULT_TTL_S, policy.max_ttl_s)
        limits = self.settings.gateway
        job_id = job_id or f"job-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        presenter = presenter_in_namespace(job_id) if containment.kind is Kind.ISOLATED else None
        opened = await asyncio.to_thread(
            create_job,
            state / "jobs",
            state / "keys" / "jobs",
            receipt_key=self._receipt_key,
            gateway_id=limits.gateway_id,
            policy_hash_b64u=policy_hash_b64u,
            contract_envelope=policy.envelope,
            now_ms=clock_ms(),
            job_id=job_id,
            token_template={"token_version": "1", "aud": limits.audience[:1], "scope": list(_SCOPE)},
            presenter=presenter,
            way_in="run",
            containment=containment,
            observe=observe,
        )

        def renew() -> tuple[str, int]:
            now_s = clock_ms() // 1000
            token = mint(
                key=key,
                sub=opened.job_did,
                aud=limits.audience[:1],
                scope=_SCOPE,
                job_id=opened.job_id,
                policy_hash_b64u=policy_hash_b64u,
                now_s=now_s,
                ttl_s=life_s,
            )
            return token, now_s + life_s

        return self._leases.grant(
            opened.job_id, policy_hash_b64u, renew, margin_s=min(120, life_s // 2), isolated=presenter is not None
        )

    async def open_door(self, job_id: str, handle: str, sockets: DoorSockets) -> Door:
        """Let an isolated job in by ``sockets``, which listen in its door's namespace. The door owns them from here on,
        also where this raises: ``ClawproxyError`` (DOOR_INVALID; JOB_NOT_FOUND, for a handle that is not the job's)."""
        try:
            sockets.check()
            self._doors.check_free(job_id)
            lease = self._leases.of(handle)
            if lease is None or lease.job_id != job_id or not lease.isolated:
                raise ClawproxyError(
                    "JOB_NOT_FOUND", "the handle is not that of an isolated job", where=job_id,
                    remedy="lease the job with what contains it",
                )  # fmt: skip
            if self._master is None:
                raise ClawproxyError("GATEWAY_STOPPING", "the gateway is stopping")
            job, policy = await self._admit_namespace(lease)
            names = DoorNames(policy, lambda: self.reloading.live.catalogue, observe=job.observe)
            names.noticed = lambda name: notice_name(job, name)
            door = Door(
                job_id, handle, names, sockets,
                engine=self._master, connections=self._connections, ending=self._ending, clock_ms=clock_ms,
                closed=self._doors.forget, destination_of=self.destination_of,
            )  # fmt: skip
        except BaseException:
            sockets.close()
            raise
        return await self._doors.open(door)

    async def count_door(self, job_id: str, packets: Mapping[str, object]) -> None:
        """Record what the rules of a job's door turned away, and how many denials it left out. Raises
        ``ClawproxyError``."""
        await self.jobs.record_door(job_id, packets, self._doors.left_out(job_id))

    async def _admit_namespace(self, lease: Lease) -> tuple[Job, Policy]:
        """Open the job and bind it to its namespace before there is a call: what its door refuses belongs there."""
        grant = self._verifier.authenticate(lease.token(clock_ms() // 1000), clock_ms() // 1000)
        if isinstance(grant, Refusal):
            raise ClawproxyError(grant.reason, grant.detail or grant.rule, where=lease.job_id)
        policy = await self._pinner.pin(grant)
        if isinstance(policy, Refusal):
            raise ClawproxyError(policy.reason, policy.detail or policy.rule, where=lease.job_id)
        presenter = presenter_in_namespace(lease.job_id)
        hash_b64u, envelope = policy.policy_hash_b64u, policy.envelope
        job = await self.jobs.job_for(grant, hash_b64u, envelope, presenter, WAY_IN, may_change=False)
        if isinstance(job, Refusal):
            raise ClawproxyError(job.reason, job.detail or job.rule, where=lease.job_id)
        return job, policy

    async def seal(self, job_id: str, *, force: bool = False) -> JsonObject:
        """End a job: cut what is open, seal its bundle, forget its handles (step 12).

        Raises ``ClawproxyError`` (JOB_BUSY) for calls that do not end, unless by ``force``: their outcome is unknown.
        """
        self._leases.end(job_id)
        await self._doors.close(job_id)
        await self.end_calls(job_id, "the job was sealed")
        sealed = await self.jobs.seal(job_id, force=force)
        self.data.marks.forget(job_id)
        return {"job_id": job_id, "directory": str(sealed.directory), "counts": sealed.counts}

    async def end_calls(self, job_id: str, why: str) -> None:
        """Cut what a job has open, and wait until all of it has its record, or for so long as a seal waits."""
        for call in self.gate.open_calls:
            if call.job_id == job_id:
                call.stop(why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEAL_TIMEOUT_S):
                while any(call.job_id == job_id for call in self.gate.open_calls):  # noqa: ASYNC110 - once per job
                    await asyncio.sleep(0.01)

    def status(self) -> JsonObject:
        """Addresses, open jobs, open calls, where budgets stand, and clients that do not trust the CA."""
        return {
            "addresses": self.addresses,
            "budgets": self._budgeting.standing(),
            "ca": str(self.ca_file),
            "jobs": sorted(job.job_id for job in self.jobs.open_jobs()),
            "open_calls": len(self.gate.open_calls),
            "gateway_did": self._receipt_key.did,
            "untrusting": [
                {"host": host, "remedy": remedy, "count": n} for (host, remedy), n in self.untrusting.seen.items()
            ],
        }


def _engine_options(settings: Settings) -> tuple[list[str], EngineOptions]:
    """The names of the listeners, and the engine's options with their modes in the same order."""
    check_listeners(settings)
    modes: dict[str, str] = {}
    if settings.listen.reverse:
        host, port = parse_address(settings.listen.reverse, where="listen.reverse")
        # the target is never dialled: every call is pointed at its provider, and the gate refuses any other connection
        modes["reverse"] = f"reverse:http://127.0.0.1:9@{bracketed(host)}:{port}"
    if settings.listen.regular:
        host, port = parse_address(settings.listen.regular, where="listen.regular")
        modes["regular"] = f"regular@{bracketed(host)}:{port}"
    if settings.upstream_ca:
        check_ca_file(Path(settings.upstream_ca))
    step_s = settings.gateway.step_timeout_s
    return list(modes), EngineOptions(
        modes=tuple(modes.values()),
        confdir=settings.state_dir / "ca",
        max_body_bytes=settings.gateway.max_body_bytes,
        # above the gate's own limit, so that a head that is only a little too large is refused with a record
        max_head_bytes=settings.gateway.max_header_bytes + _HEAD_MARGIN_BYTES,
        max_connections=settings.gateway.max_connections,
        max_connections_per_peer=settings.gateway.max_connections_per_peer,
        request_timeout_s=settings.gateway.request_timeout_s,
        handshake_timeout_s=settings.gateway.handshake_timeout_s,
        upstream_ca_file=Path(settings.upstream_ca) if settings.upstream_ca else None,
        hook_timeout_s=2 * step_s,
        end_deadline_s=2 * step_s,
        idle_timeout_s=settings.gateway.idle_timeout_s,
    )


def _as_configured(err: ClawproxyError) -> ClawproxyError:
    """An error about a listener names it as the configuration does, not as a mode of the engine."""
    kind, at, address = err.where.partition("@")
    if at and kind.startswith(("reverse", "regular")):
        err.where = f"listen.{kind.partition(':')[0]}: {address}"
    return err
