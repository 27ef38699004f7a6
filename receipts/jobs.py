"""The jobs that this gateway has open: opens, reopens, seals. Touches files in threads, through ``Disk``.

For the event loop alone. A job's files are opened once, however many calls come for it at the same moment, and stay
open and locked until ``seal``, ``close``, or until the job has been idle while others need its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..tokens.canonical import JsonObject
from ..tokens.claims import is_job_id
from ..tokens.errors import ClawproxyError
from ..tokens.grant import Grant
from ..tokens.keys import Role, SigningKey, load_key
from ..tokens.reasons import Refusal
from .attachments import (
    MAX_ATTACHED_BYTES,
    MAX_ATTACHMENTS,
    Attachment,
    drop_staged,
    place_attachment,
    settle_attachments,
)
from .audits import audit_detail
from .contract_files import place_contract, settle_contracts
from .create import build_facts, create_files, create_job, ensure_job_key, locked, make_directories, unavailable
from .disk import FULL_DISK_ERRNOS, Disk
from .door_counts import door_detail
from .job import Job, JobLimits
from .job_paths import JobPaths, job_key_path
from .journal import Journal, JournalError
from .order_events import Event
from .payloads import authority_detail, token_facts
from .recover import OpenedLog, open_log
from .scribe import Scribe
from .seal import SealResult, check_directory, names_of_a_seal, protect, read_seal, write_seal

__all__ = ["JobBook", "JobLimits", "create_job"]

_CLOSED_REMEMBERED = 4096
_SEALED = Refusal("JOB_SEALED", "the job's seal")
_IDLE = Refusal("EVIDENCE_UNAVAILABLE", "the job's journal", "it was idle and has been closed; send the call again")
_NOT_RECOVERED = Refusal("EVIDENCE_UNAVAILABLE", "the job's journal", "it is being opened again")


@dataclass(slots=True)
class _Entry:
    job: Job
    lock: int
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the job comes under another contract, and while it ends."""


class JobBook:
    """Every job of this gateway, by id.

    ``receipt_dids`` are receipt keys that this gateway used before the present one: records by others are damage.
    ``reserved_dids`` are keys that the gateway knows as issuers or reviewers: no agent may be one of them.
    ``disk`` is the journal's.
    """

    def __init__(
        self,
        jobs_dir: Path,
        journal: Journal,
        receipt_key: SigningKey,
        gateway_id: str,
        job_keys_dir: Path,
        clock_ms: Callable[[], int],
        limits: JobLimits | None = None,
        receipt_dids: Iterable[str] = (),
        reserved_dids: Iterable[str] = (),
    ) -> None:
        self._jobs_dir = jobs_dir
        self._journal = journal
        self._disk: Disk = journal.disk
        self._key = receipt_key
        self._gateway_id = gateway_id
        self._job_keys_dir = job_keys_dir
        self._clock_ms = clock_ms
        self._limits = limits or JobLimits()
        self._signers = frozenset({receipt_key.did, *receipt_dids})
        self._reserved_dids = self._signers | frozenset(reserved_dids)
        self._entries: dict[str, _Entry] = {}
        self._opening: dict[str, asyncio.Task[Job]] = {}
        self._changing: set[asyncio.Task[Refusal | None]] = set()
        self._closed_jobs: dict[str, Refusal] = {}
        self._sealed_jobs: set[str] = set()
        """Sealed by this gateway since it started: none of them is opened again, whatever becomes of its directory."""
        self._seal_lock = asyncio.Lock()
        self._reserve_in_use = False
        self._stopped = False
        self.on_open: Callable[[Job], list[Event]] = lambda job: []
        """What a job that is opened must have on record before its first call: the operator's orders."""

    # -- calls ---------------------------------------------------------------------------------------------------------

    def peek(self, grant: Grant, presenter: str) -> Job | None:
        """The open job of ``grant`` where token and presenter were judged before; else None, and ``job_for`` judges."""
        entry = self._entries.get(grant.job_id)
        if entry is None or not entry.job.knows(grant, presenter):
            return None
        entry.job.used_ms = self._clock_ms()
        return entry.job

    async def job_for(
        self,
        grant: Grant,
        policy_hash: str,
        contract_envelope: JsonObject,
        presenter: str,
        way_in: str,
        *,
        may_change: bool = True,
    ) -> Job | Refusal:
        """The job that ``grant`` names, opened or reopened if need be, and brought under its contract if it may.

        ``may_change`` is false for tokens that the gateway mints itself, each time under the contract of before.
        Refusals: TOKEN_INVALID_CLAIMS (no job id, or an agent whose key has another role), POLICY_HASH_MISMATCH (the
        job has another contract, which the token does not change, or another agent), JOB_FULL, PRESENTER_MISMATCH,
        JOB_SEALED, JOB_DAMAGED, EVIDENCE_UNAVAILABLE.
        """
        job_id = grant.job_id
        if not is_job_id(job_id):
            return Refusal("TOKEN_INVALID_CLAIMS", "mission_id", "not a job id")
        if grant.sub in self._reserved_dids or grant.sub in (grant.issuer_did, contract_envelope.get("signer_did")):
            # a key in two roles: no verifier would accept the bundle
            return Refusal("TOKEN_INVALID_CLAIMS", "sub", "the agent's key is one that issues, reviews or attests")
        if (closed := _SEALED if job_id in self._sealed_jobs else self._closed_jobs.get(job_id)) is not None:
            return closed
        if (entry := self._entries.get(job_id)) is not None:
            return await self._admit(entry.job, grant, policy_hash, contract_envelope, presenter, way_in, may_change)

        def make() -> None:
            self._make(grant, policy_hash, contract_envelope, presenter, way_in)

        try:
            job = await self._open_once(job_id, make)
        except (ClawproxyError, OSError) as err:
            return self._refused(job_id, err)
        return await self._admit(job, grant, policy_hash, contract_envelope, presenter, way_in, may_change)

    async def job_named(self, job_id: str) -> Job:
        """A job that exists, opened if need be, without a token. Raises ``ClawproxyError`` (JOB_NOT_FOUND, JOB_SEALED,
        JOB_DAMAGED, JOB_LOCKED, EVIDENCE_UNAVAILABLE)."""
        if not is_job_id(job_id):
            raise _not_found(job_id)
        if (closed := _SEALED if job_id in self._sealed_jobs else self._closed_jobs.get(job_id)) is not None:
            raise ClawproxyError(closed.reason, "the job takes no more records", where=job_id)
        if (entry := self._entries.get(job_id)) is not None:
            return entry.job
        try:
            return await self._open_once(job_id, None)
        except (ClawproxyError, OSError) as err:
            raise self._as_error(job_id, err) from None

    def open_jobs(self) -> list[Job]:
        """The jobs that are open now."""
        return [entry.job for entry in self._entries.values()]

    def renew(self, limits: Callable[[JobLimits], JobLimits], reserved_dids: Iterable[str]) -> None:
        """Go on with other limits, for open jobs too, and more keys that no agent may be."""
        self._limits = limits(self._limits)
        self._reserved_dids |= frozenset(reserved_dids)
        for entry in self._entries.values():
            entry.job.limits = self._limits

    def opened(self, job_id: str) -> Job | None:
        """The job of this id, if it is open now."""
        entry = self._entries.get(job_id)
        return None if entry is None else entry.job

    async def rebind(self, job_id: str, presenter: str | None) -> None:
        """Bind a job to another presenter, or (None) to the next one that uses it. Raises ``ClawproxyError``."""
        if not is_job_id(job_id):
            raise _not_found(job_id)
        try:
            job = self.opened(job_id) or await self._open_once(job_id, None)
            await job.rebind(presenter)
        except OSError as err:
            raise self._as_error(job_id, err) from None

    async def attach(self, job_id: str, attachment: Attachment) -> None:
        """Take other evidence of the run into a job; its file, if it is stored, was staged. Durable on return.

        Raises ``ClawproxyError``: JOB_NOT_FOUND, JOB_SEALED, JOB_FULL (too many, too large together), JOB_LOCKED,
        ATTACHMENT_INVALID, EVIDENCE_UNAVAILABLE.
        """
        try:
            job = await self._for_evidence(job_id)
            async with self._entries[job_id].changing:
                room = MAX_ATTACHED_BYTES - sum(job.attachments.values())
                new = attachment.stored and attachment.sha256_b64u not in job.attachments
                if job.attached >= MAX_ATTACHMENTS or (new and attachment.size_bytes > room):
                    raise ClawproxyError(
                        "JOB_FULL", "the job takes no such attachment any more", where=job_id,
                        expected=f"at most {MAX_ATTACHMENTS}, of {MAX_ATTACHED_BYTES} bytes together",
                    )  # fmt: skip
                if attachment.stored:
                    await asyncio.to_thread(place_attachment, self._disk, self._paths(job_id), attachment)
                await job.note("attached", attachment.to_json())
        except (ClawproxyError, OSError) as err:
            if attachment.stored:
                with contextlib.suppress(OSError):
                    drop_staged(self._disk, self._paths(job_id), attachment.sha256_b64u)
            raise self._as_error(job_id, err) from None

    async def record_audit(self, job_id: str, event_type: str, told: JsonObject) -> None:
        """Record an audit of the agent's configuration (``audits``); durable on return. Raises ``ClawproxyError``."""
        detail = audit_detail(event_type, told)
        job = await self._for_evidence(job_id)
        if detail.get("policy_hash_b64u", job.policy_hash_b64u) != job.policy_hash_b64u:
            raise ClawproxyError(
                "POLICY_HASH_MISMATCH", "the job is under another contract than the one compared with", where=job_id,
                got=detail["policy_hash_b64u"], expected=job.policy_hash_b64u,
            )  # fmt: skip
        await job.note(event_type, detail)

    async def record_door(self, job_id: str, packets: Mapping[str, object], left_out: int = 0) -> None:
        """Record what the door of a job turned away (``door_counts``); durable on return. Raises ``ClawproxyError``."""
        detail = door_detail(packets, left_out)
        await (await self._for_evidence(job_id)).note_door(detail)

    async def _for_evidence(self, job_id: str) -> Job:
        job = await self.job_named(job_id)
        if job.is_full:
            raise ClawproxyError("JOB_FULL", "the job's evidence is as large as a verifier reads", where=job_id)
        return job

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def seal(self, job_id: str, *, force: bool = False) -> SealResult:
        """End a job and write its bundle; done already, it says so (``sealed_now`` False).

        Raises ``ClawproxyError``: JOB_BUSY while calls are open, unless by ``force``, which records their outcome as
        unknown; JOB_NOT_FOUND, JOB_LOCKED, JOB_DAMAGED, EVIDENCE_UNAVAILABLE. On a full disk the reserve is given up.
        """
        if not is_job_id(job_id):
            raise _not_found(job_id)
        async with self._seal_lock:
            try:
                return await self._seal(job_id, force=force)
            except (JournalError, OSError) as err:
                if not _is_disk_full(err):
                    raise self._as_error(job_id, err) from None
            self._reserve_in_use = True
            try:
                await asyncio.to_thread(self._release_reserve)
                return await self._seal(job_id, force=force)
            except OSError as err:
                raise self._as_error(job_id, err) from None
            finally:
                self._reserve_in_use = False

    async def close(self) -> None:
        """Let go of every job, their journals durable. New calls are refused from here on."""
        self._stopped = True
        if self._opening:
            await asyncio.wait(self._opening.values())
        if self._changing:
            await asyncio.wait(self._changing)
        for job_id in list(self._entries):
            await self._let_go(job_id, Refusal("GATEWAY_STOPPING", "the gateway"))

    # -- another contract ----------------------------------------------------------------------------------------------

    async def _admit(
        self,
        job: Job,
        grant: Grant,
        policy_hash: str,
        contract_envelope: JsonObject,
        presenter: str,
        way_in: str,
        may_change: bool,
    ) -> Job | Refusal:
        entry = self._entries.get(job.job_id)
        if policy_hash == job.policy_hash_b64u or not may_change or entry is None or entry.job is not job:
            return job.admit(grant, policy_hash, presenter, way_in) or job
        # a caller that goes away leaves no file behind that no event names
        task = asyncio.create_task(self._change(entry, grant, policy_hash, contract_envelope, presenter, way_in))
        self._changing.add(task)
        task.add_done_callback(self._changed)
        return await asyncio.shield(task) or job

    def _changed(self, task: asyncio.Task[Refusal | None]) -> None:
        self._changing.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where the caller has gone

    async def _change(
        self, entry: _Entry, grant: Grant, policy_hash: str, envelope: JsonObject, presenter: str, way_in: str
    ) -> Refusal | None:
        """First the file, durable, then the event that names it. One change at a time, and none while a job ends."""
        job, paths = entry.job, self._paths(entry.job.job_id)
        async with entry.changing:
            if policy_hash == job.policy_hash_b64u:
                return job.admit(grant, policy_hash, presenter, way_in)
            refusal = job.change_refusal(grant, policy_hash, presenter)
            if refusal is not None:
                return refusal
            if policy_hash not in job.contracts:
                try:
                    await asyncio.to_thread(place_contract, self._disk, paths, policy_hash, envelope)
                except (ClawproxyError, OSError) as err:
                    return self._refused(job.job_id, err)  # a file without its event goes when the job is sealed
            return job.change_contract(grant, policy_hash, presenter, way_in)

    # -- opening -------------------------------------------------------------------------------------------------------

    async def _open_once(self, job_id: str, make: Callable[[], None] | None) -> Job:
        """One opening per job at a time; a caller that is cancelled does not cancel it for the others."""
        task = self._opening.get(job_id)
        if task is None:
            task = self._opening[job_id] = asyncio.create_task(self._open(job_id, make))
            task.add_done_callback(lambda done: self._opened(job_id, done))
        return await asyncio.shield(task)

    def _opened(self, job_id: str, done: asyncio.Task[Job]) -> None:
        del self._opening[job_id]
        if not done.cancelled():
            done.exception()  # seen, also where every caller has gone

    async def _open(self, job_id: str, make: Callable[[], None] | None) -> Job:
        """Raises ``ClawproxyError`` or ``OSError``."""
        if self._stopped:
            raise ClawproxyError("GATEWAY_STOPPING", "the gateway is stopping")
        await self._make_room()
        lock, opened = await asyncio.to_thread(self._open_files, self._paths(job_id), make)
        scribe = Scribe(opened.progress, self._key, self._gateway_id, opened.facts.agent_did)
        job = Job(opened.facts, scribe, self._journal, opened.log, self._clock_ms, self._limits)
        self._entries[job_id] = _Entry(job, lock)
        try:
            await job.record_recovery(opened.torn)
            if job.refusal is None:
                for event in self.on_open(job):
                    await job.note(event.type, event.detail)
        except BaseException:
            await self._let_go(job_id, _NOT_RECOVERED)
            raise
        return job

    def _open_files(self, paths: JobPaths, make: Callable[[], None] | None) -> tuple[int, OpenedLog]:
        """In a thread: lock, make if new, verify, open."""
        make_directories(self._disk, paths)
        self._keep_reserve(paths)
        lock = self._disk.lock(paths.lock)
        if lock is None:
            raise locked(paths)
        try:
            if self._disk.size(paths.seal) is not None:
                raise ClawproxyError("JOB_SEALED", "the job is sealed", where=paths.job_id)
            if not self._disk.is_dir(paths.directory):
                if make is None:
                    raise _not_found(paths.job_id)
                make()
            return lock, open_log(self._disk, paths, self._signers)
        except BaseException:
            self._disk.close(lock)
            raise

    def _make(self, grant: Grant, policy_hash: str, contract_envelope: JsonObject, presenter: str, way_in: str) -> None:
        paths = self._paths(grant.job_id)
        job_key = ensure_job_key(self._job_keys_dir, grant.job_id)
        facts = build_facts(
            grant.job_id, grant.sub, job_key.did, self._key, self._gateway_id, policy_hash, self._clock_ms()
        )
        detail = authority_detail(token_facts(grant), presenter, way_in)
        create_files(self._disk, paths, facts, contract_envelope, self._key, detail)

    def _refused(self, job_id: str, err: ClawproxyError | OSError) -> Refusal:
        error = self._as_error(job_id, err)
        if error.reason in ("JOB_SEALED", "JOB_DAMAGED"):
            return self._remember_closed(job_id, Refusal(error.reason, "the job's evidence", error.one_line()))
        if error.reason in ("POLICY_HASH_MISMATCH", "GATEWAY_STOPPING"):
            return Refusal(error.reason, "the job", error.one_line())
        return Refusal("EVIDENCE_UNAVAILABLE", "the job's evidence", error.one_line())

    def _remember_closed(self, job_id: str, refusal: Refusal) -> Refusal:
        while len(self._closed_jobs) >= _CLOSED_REMEMBERED:
            self._closed_jobs.pop(next(iter(self._closed_jobs)))
        self._closed_jobs[job_id] = refusal
        return refusal

    async def _make_room(self) -> None:
        """Let go of the job that has been idle longest, if there are too many and it has been idle long enough."""
        if len(self._entries) < self._limits.open_jobs:
            return
        idle = [job for job in self.open_jobs() if not job.open_calls]
        oldest = min(idle, key=lambda job: job.used_ms, default=None)
        if oldest is None or self._clock_ms() - oldest.used_ms < self._limits.idle_ms:
            raise ClawproxyError("EVIDENCE_UNAVAILABLE", "too many jobs are in use", got=f"{len(self._entries)} jobs")
        await self._let_go(oldest.job_id, _IDLE)

    async def _let_go(self, job_id: str, refusal: Refusal) -> None:
        """Stop a job, its journal durable as far as it can be, and give up its files and its lock."""
        entry = self._entries.pop(job_id)
        async with entry.changing:
            await entry.job.stop(refusal)
        self._disk.close(entry.job.log.handle)
        self._disk.close(entry.lock)

    # -- sealing -------------------------------------------------------------------------------------------------------

    async def _seal(self, job_id: str, *, force: bool) -> SealResult:
        paths = self._paths(job_id)
        entry = self._entries.get(job_id)
        if entry is not None and entry.job.log.fault is not None:
            await self._let_go(job_id, _NOT_RECOVERED)  # what it could not write is gone; the rest is read again
            entry = None
        if entry is not None:
            job = entry.job
        elif (sealed := await asyncio.to_thread(self._sealed_before, paths)) is not None:
            return sealed
        else:
            job = await self._open_once(job_id, None)
        left = tuple(names_of_a_seal(job.facts, job.counts["segments"])) if job.refusal == _SEALED else ()
        async with self._entries[job_id].changing:
            later = set(job.contracts - {job.facts.policy_hash_b64u})
            await asyncio.to_thread(settle_contracts, self._disk, paths, later)
            await asyncio.to_thread(settle_attachments, self._disk, paths, job.attachments, whole=True)
            await asyncio.to_thread(check_directory, self._disk, paths, left)
            await job.record_end(force=force)
        job_key_file = job_key_path(self._job_keys_dir, job_id)

        def write() -> SealResult:
            job_key = load_key(job_key_file, Role.JOB) if job.facts.gateway_is_agent else None
            return write_seal(self._disk, paths, job.facts, self._signers, self._key, job_key, job.counts["segments"])

        result = await asyncio.to_thread(write)
        self._sealed_jobs.add(job_id)
        await self._let_go(job_id, _SEALED)
        return result

    def _sealed_before(self, paths: JobPaths) -> SealResult | None:
        result = read_seal(self._disk, paths)
        if result is not None:
            protect(self._disk, paths)
        return result

    def _keep_reserve(self, paths: JobPaths) -> None:
        """Space that sealing may use when the disk is full. Without room for it, go on without."""
        if self._limits.reserve_bytes and not self._reserve_in_use and self._disk.size(paths.reserve) is None:
            with contextlib.suppress(OSError):
                handle = self._disk.create(paths.reserve)
                try:
                    self._disk.preallocate(handle, self._limits.reserve_bytes)
                finally:
                    self._disk.close(handle)

    def _release_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._disk.unlink(JobPaths(self._jobs_dir, "x").reserve)

    def _paths(self, job_id: str) -> JobPaths:
        return JobPaths(self._jobs_dir, job_id)

    def _as_error(self, job_id: str, err: ClawproxyError | OSError) -> ClawproxyError:
        return err if isinstance(err, ClawproxyError) else unavailable(self._paths(job_id), err)


def _is_disk_full(err: JournalError | OSError) -> bool:
    return err.disk_full if isinstance(err, JournalError) else err.errno in FULL_DISK_ERRNOS


def _not_found(job_id: str) -> ClawproxyError:
    return ClawproxyError("JOB_NOT_FOUND", "there is no such job", got=job_id, remedy="see: clawproxy job list")
