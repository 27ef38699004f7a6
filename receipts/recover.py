"""Touches files: opens the journal of a job that exists, after whatever ended its last writer.

In order: read and verify every record, signatures included, in bounded memory; put a torn tail into ``torn/`` and cut
it off; take away a contract that no event names (``contract_files``); hand over the log and its ``Progress``. ``Job``
then appends the recovery record that names the torn files and the calls whose outcome nobody knows. Each step can die
and be done again: a tail that was copied but not cut is found again under the same name, and a torn file that no record
names yet is named by the next.

What is torn: bytes after the last LF, which no caller was ever told about. And, since the sectors of one write may
reach the disk in any order, bytes from the first line that holds a NUL (no record does), as long as a crash can leave
them (``torn``). Everything else that does not verify is damage: refused, and never cut.

Limits: a sector at the very end that goes bad long after its write looks torn as well; its bytes are kept and named.
A journal cut at a line's end is a shorter journal: nothing outside the state directory remembers its length.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from .attachments import settle_attachments
from .contract_files import MAX_CONTRACT_BYTES, settle_contracts, stray_file
from .disk import Disk, place_file, read_whole
from .job_facts import MAX_FACTS_BYTES, JobFacts, parse_job_facts
from .job_paths import JobPaths
from .journal import MAX_LINE_BYTES, MAX_WRITE_BYTES, LogFile
from .progress import Progress
from .records import Record, read_record
from .torn import records_within, why_not_torn

_MAX_TORN_BYTES = MAX_WRITE_BYTES
_TORN_NAME = re.compile(r"(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A journal that verifies, open for appending. ``torn`` are the torn files that no record names yet."""

    facts: JobFacts
    progress: Progress
    log: LogFile
    torn: tuple[JsonObject, ...]


def open_log(disk: Disk, paths: JobPaths, signers: frozenset[str]) -> OpenedLog:
    """Verify and open the journal of an existing job; the caller holds the job's lock.

    ``signers`` are the receipt keys, past and present, that this gateway owns. Raises ``ClawproxyError`` (JOB_DAMAGED,
    with the line) or ``OSError``.
    """
    facts = load_facts(disk, paths)
    check_torn_names(disk, paths)
    progress = new_progress(facts)
    good_bytes = 0
    tail = b""
    for record in walk_journal(disk, paths, facts, signers):
        if isinstance(record, bytes):
            tail = record
            break
        progress_take(progress, record, paths)
        good_bytes += len(record.line)
    if not progress.next_seq or (tail and progress.sealed):
        raise _damaged(paths, progress.next_seq, "the journal has no first record, or goes on after its end")
    handle = disk.open_append(paths.journal)
    try:
        # what a killed writer left unsynced is about to be built upon
        disk.fdatasync(handle)
        if tail:
            _quarantine(disk, paths, good_bytes, tail)
            disk.ftruncate(handle, good_bytes)
            disk.fdatasync(handle)
        torn = tuple(_torn_files(disk, paths, progress, signers))
        settle_contracts(disk, paths, progress.contracts - {facts.policy_hash_b64u})
        settle_attachments(disk, paths, progress.attachments)
    except BaseException:
        disk.close(handle)
        raise
    return OpenedLog(facts, progress, LogFile(paths.journal, handle, good_bytes), torn)


def load_facts(disk: Disk, paths: JobPaths) -> JobFacts:
    """job.json of a job, after seeing that its files are there and belong together and to its directory."""
    try:
        facts = parse_job_facts(read_whole(disk, paths.facts, MAX_FACTS_BYTES))
        contract = parse_json_object(read_whole(disk, paths.contract, MAX_CONTRACT_BYTES))
        if disk.size(paths.journal) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(paths.journal))
    except FileNotFoundError as err:
        raise ClawproxyError("JOB_DAMAGED", "a file of the job is missing", where=str(err.filename)) from None
    except ClawproxyError as err:
        raise ClawproxyError("JOB_DAMAGED", err.message, where=str(paths.directory / err.where)) from None
    if facts.job_id != paths.job_id or contract.get("payload_hash_b64u") != facts.policy_hash_b64u:
        raise ClawproxyError("JOB_DAMAGED", "job.json names another job or contract", where=str(paths.facts))
    return facts


def new_progress(facts: JobFacts) -> Progress:
    """The state before the first record."""
    return Progress(
        facts.job_id, facts.incarnation, facts.run_id, facts.hash_b64u, policy_hash_b64u=facts.policy_hash_b64u
    )


def walk_journal(disk: Disk, paths: JobPaths, facts: JobFacts, signers: frozenset[str]) -> Iterator[Record | bytes]:
    """Every record of the journal, verified, then at most once the bytes of a torn tail.

    Raises ``ClawproxyError`` (JOB_DAMAGED) at the first line that is neither.
    """
    seq, offset, prev = 0, 0, facts.hash_b64u
    lines = _lines(disk, paths)
    for line in lines:
        if not line.endswith(b"\n") or b"\0" in line:
            yield _torn_tail(paths, seq, offset, line, lines)
            return
        try:
            record = read_record(line[:-1], seq=seq, prev_b64u=prev, signers=signers)
        except ClawproxyError as err:
            raise _damaged(paths, seq, err.message) from None
        yield record
        seq, offset, prev = seq + 1, offset + len(line), record.h_b64u


def progress_take(progress: Progress, record: Record, paths: JobPaths) -> None:
    """``Progress.take`` for a record read back; raises ``ClawproxyError`` (JOB_DAMAGED) where it does not follow."""
    payload = record.payload
    try:
        stated = payload["metadata"]["clawproxy"] if record.kind == "receipt" else payload
        if record.kind in ("event", "intent"):
            if payload["event"]["event_type"] == "segment_opened" and payload["segment"] == progress.current + 1:
                progress.begin_segment()
            progress.check_event(payload)
        place = progress.place(stated["segment"])
        if {name: stated[name] for name in place} != place or payload["timestamp"] != record.envelope["issued_at"]:
            raise ValueError("a record does not state its own place")
        if payload["timestamp"] < progress.last_timestamp:
            raise ValueError("time goes back")
        progress.take(record.kind, payload, record.h_b64u)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        message = str(err) if isinstance(err, ValueError) else "a member is missing or of the wrong type"
        raise _damaged(paths, record.seq, message) from None


def _lines(disk: Disk, paths: JobPaths) -> Iterator[bytes]:
    """Lines with their LF; the last one may lack it. A line longer than any record comes as it is, cut."""
    held = b""
    for block in disk.read_blocks(paths.journal):
        held += block
        *whole, held = held.split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(held) > MAX_LINE_BYTES:
            break
    if held:
        yield held


def _torn_tail(paths: JobPaths, seq: int, offset: int, first: bytes, rest: Iterator[bytes]) -> bytes:
    tail = first
    for line in rest:
        tail += line
        if len(tail) > _MAX_TORN_BYTES:
            break
    if why := why_not_torn(tail, offset, seq):
        raise _damaged(paths, seq, why)
    return tail


def _quarantine(disk: Disk, paths: JobPaths, offset: int, tail: bytes) -> None:
    """Keep ``tail`` as ``torn/<offset>.<n>``, durable on return; once, even if recovery itself is cut off."""
    disk.mkdir(paths.torn)
    disk.fsync_dir(paths.directory)
    number = 0
    while disk.size(paths.torn / f"{offset}.{number}") is not None:
        if read_whole(disk, paths.torn / f"{offset}.{number}", 2 * _MAX_TORN_BYTES) == tail:
            disk.fsync_dir(paths.torn)
            return
        number += 1
    place_file(disk, paths.staged("torn"), paths.torn / f"{offset}.{number}", tail)


def check_torn_names(disk: Disk, paths: JobPaths) -> None:
    """That ``torn/`` holds nothing but what recovery puts there; raises ``ClawproxyError`` (JOB_DAMAGED)."""
    for name in disk.names(paths.torn):
        if not _TORN_NAME.fullmatch(name) or disk.size(paths.torn / name) is None:
            raise stray_file(paths, f"torn/{name}")


def _torn_files(disk: Disk, paths: JobPaths, progress: Progress, signers: frozenset[str]) -> Iterator[JsonObject]:
    for name in disk.names(paths.torn):
        if f"torn/{name}" not in progress.torn_named:
            data = read_whole(disk, paths.torn / name, 2 * _MAX_TORN_BYTES)
            entry: JsonObject = {"path": f"torn/{name}", "sha256_b64u": sha256_b64u(data), "size_bytes": len(data)}
            if records := records_within(data, signers):
                entry["records"] = records
            yield dict(sorted(entry.items()))


def _damaged(paths: JobPaths, seq: int, message: str) -> ClawproxyError:
    return ClawproxyError(
        "JOB_DAMAGED",
        message,
        where=f"{paths.journal} line {seq + 1}",
        remedy=f"look at it with: clawproxy verify {paths.directory}",
    )
