"""Touches files, through ``Disk``: the gateway's own journal, for refusals before a job is known.

One file per start of the gateway, ``refusals-<opened_ms>-<incarnation>.jsonl``, with the records of a job's journal
(one JCS line, hash chain, signed envelope), but without a job: the place is
``{"gateway_id","incarnation","prev_b64u","seq"}``, ``prev`` of the first record is sha256_b64u(incarnation), and a file
that a crash cut off is left as it is. Anyone who reaches the listener can cause records here, so at most ``per_second``
are written, and none beyond ``max_bytes``; the rest is counted by reason in ``summary`` records. Every refusal is
signed for the caller all the same; one that is not in the file says ``"recorded": false``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.envelope import build_envelope, timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .calls import CallDenied
from .journal import Journal, JournalError, LogFile
from .payloads import denial_fields
from .per_second import PerSecond
from .records import ENVELOPE_TYPES, Record, build_record

SUMMARY_EVERY_S = 1.0


class RefusalLog:
    """Refusals without a job. For the event loop alone; ``open`` first, ``close`` last."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        receipt_key: SigningKey,
        gateway_id: str,
        clock_ms: Callable[[], int],
        *,
        per_second: int = 20,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._key = receipt_key
        self._gateway_id = gateway_id
        self._clock_ms = clock_ms
        self._rate = PerSecond(per_second)
        self._room_bytes = max_bytes
        self._incarnation = secrets.token_hex(16)
        self._head_b64u = sha256_b64u(self._incarnation.encode("ascii"))
        self._next_seq = 0
        self._log: LogFile | None = None
        self._uncounted: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Make the file. Raises ``ClawproxyError`` (EVIDENCE_UNAVAILABLE)."""
        path = self._directory / f"refusals-{self._clock_ms()}-{self._incarnation}.jsonl"
        try:
            handle = await asyncio.to_thread(self._create, path)
        except OSError as err:
            raise ClawproxyError(
                "EVIDENCE_UNAVAILABLE",
                f"the journal of refusals cannot be made: {(err.strerror or type(err).__name__).lower()}",
                where=str(path),
                remedy="free the disk or repair it",
            ) from None
        self._log = LogFile(path, handle, 0)

    async def deny(self, denied: CallDenied) -> JsonObject:
        """The signed denial; durable when it returns, unless it says ``"recorded": false``. Does not fail."""
        fields = {**denial_fields(denied), "timestamp": timestamp(denied.at_ms)}
        if self._may_record():
            record = self._sign("denial", fields, ENVELOPE_TYPES["denial"])
            with contextlib.suppress(JournalError):
                await self._append(record)
                return record.envelope
        self._uncounted[denied.reason] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SUMMARY_EVERY_S, self._summarise)
        place = {"gateway_id": self._gateway_id, "incarnation": self._incarnation, "recorded": False}
        payload = dict(sorted({**place, **fields}.items()))
        return build_envelope(ENVELOPE_TYPES["denial"], payload, self._key, fields["timestamp"])

    async def note(self, kind: str, envelope_type: str, fields: JsonObject) -> bool:
        """Write what happened to the gateway itself; whether it is durable. Does not fail."""
        if self._log is None or self._log.fault is not None or self._log.closed or self._room_bytes <= 0:
            return False
        record = self._sign(kind, {**fields, "timestamp": timestamp(self._clock_ms())}, envelope_type)
        try:
            await self._append(record)
        except JournalError:
            return False
        return True

    async def close(self) -> None:
        """Count what is uncounted, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        if self._log is None:
            return
        self._summarise()
        self._log.closed = True
        await asyncio.wait([self._journal.flush(self._log)])
        self._journal.disk.close(self._log.handle)
        self._log = None

    def _create(self, path: Path) -> int:
        disk = self._journal.disk
        disk.mkdir(self._directory)
        disk.fsync_dir(self._directory.parent)
        handle = disk.create(path)
        try:
            disk.fsync_dir(self._directory)
        except BaseException:
            disk.close(handle)
            raise
        return handle

    def _may_record(self) -> bool:
        if self._log is None or self._log.fault is not None or self._log.closed or self._room_bytes <= 0:
            return False
        return self._rate.take(self._clock_ms())

    def _summarise(self) -> None:
        """What was refused without a record of its own; nobody waits for this one."""
        self._timer = None
        if not self._uncounted or self._log is None:
            return
        counts = [{"count": count, "reason": reason} for reason, count in sorted(self._uncounted.items())]
        self._uncounted.clear()
        fields: JsonObject = {"counts": counts, "timestamp": timestamp(self._clock_ms())}
        self._append(self._sign("summary", fields, "gateway_refusals"))

    def _sign(self, kind: str, fields: JsonObject, envelope_type: str) -> Record:
        place = {
            "gateway_id": self._gateway_id,
            "incarnation": self._incarnation,
            "prev_b64u": self._head_b64u,
            "seq": self._next_seq,
        }
        record = build_record(
            kind,
            dict(sorted({**place, **fields}.items())),
            self._key,
            seq=self._next_seq,
            prev_b64u=self._head_b64u,
            timestamp=fields["timestamp"],
            envelope_type=envelope_type,
        )
        self._head_b64u = record.h_b64u
        self._next_seq += 1
        return record

    def _append(self, record: Record) -> asyncio.Future[None]:
        assert self._log is not None
        self._room_bytes -= len(record.line)
        return self._journal.append(self._log, record.line)
