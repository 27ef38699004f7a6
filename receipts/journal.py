"""Runs one thread and writes files: the committer, the only writer of journals while they are open.

The order of system calls, per batch and per log: one ``write`` (all lines of the batch), one ``fdatasync``, and only
then are the callers told. Lines of one log go to the disk in the order of ``append``. While the disk works on one
batch the next one gathers, so 32 waiting callers cost one ``fdatasync`` (group commit), and a lone caller waits for no
window.

Errors poison the log: after a short write, ENOSPC, EFBIG or a failed ``fdatasync`` the file is cut back to the last
acknowledged byte before anything else happens, ``fdatasync`` is never tried again (Linux drops the dirty pages and
reports success the second time), and every later append to that log fails. Other logs go on. The way back is to
reopen and verify the log.

Limits: one event loop. A batch is at most ``MAX_WRITE_BYTES`` per write, which is also how long a torn tail can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from ..tokens.errors import ClawproxyError
from .disk import FULL_DISK_ERRNOS, Disk, OsDisk, write_all

MAX_WRITE_BYTES = 256 * 1024
MAX_LINE_BYTES = MAX_WRITE_BYTES
_MAX_BATCH_ITEMS = 4096


class JournalError(ClawproxyError):
    """A record could not be made durable; ``reason`` is EVIDENCE_UNAVAILABLE, or JOB_SEALED for a closed job."""

    disk_full = False
    """Whether more space would help."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a log takes no more records."""

    where: str
    message: str
    disk_full: bool = False

    def error(self) -> JournalError:
        error = JournalError(
            "EVIDENCE_UNAVAILABLE",
            f"the journal could not be written: {self.message}",
            where=self.where,
            remedy="free the disk or repair it, then restart the gateway",
        )
        error.disk_full = self.disk_full
        return error


@dataclass(slots=True)
class LogFile:
    """An open log. ``good_bytes`` is its acknowledged length and belongs to the committer, as does ``fault``.

    ``closed`` is the owner's: what is queued still goes to the disk, and nothing more is taken, so that after ``flush``
    the handle can be closed.
    """

    path: Path
    handle: int
    good_bytes: int
    fault: Fault | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    log: LogFile
    line: bytes
    done: asyncio.Future[None]


@dataclass(slots=True)
class Journal:
    """The committer. Starts its thread with the first ``append``; ``close`` ends it."""

    disk: Disk = field(default_factory=OsDisk)
    _queue: SimpleQueue[_Item | None] = field(default_factory=SimpleQueue, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def append(self, log: LogFile, line: bytes) -> asyncio.Future[None]:
        """Queue ``line`` (with its LF); the future is done when it is durable, or fails with ``JournalError``.

        The line's place is fixed by this call, not by the awaiting; a future that nobody awaits is no leak.
        """
        if log.closed or self._closed:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            _fail(done, log.fault or Fault(str(log.path), "it is closed"))
            return done
        return self._put(log, line)

    def flush(self, log: LogFile) -> asyncio.Future[None]:
        """Done when everything queued for ``log`` is durable; fails where it is not."""
        return self._put(log, b"")

    def _put(self, log: LogFile, line: bytes) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if log.fault is not None:
            _fail(done, log.fault)
            return done
        self._queue.put(_Item(log, line, done))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="clawproxy-journal", daemon=True)
            self._thread.start()
        return done

    def close(self) -> None:
        """Write what is queued, then end the thread. Blocks for as long as the disk takes."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    # -- below: the committer thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ending = self._gather(first)
            by_log: dict[int, list[_Item]] = {}
            for item in batch:
                by_log.setdefault(id(item.log), []).append(item)
            for items in by_log.values():
                self._commit(items)
            if ending:
                return

    def _gather(self, first: _Item) -> tuple[list[_Item], bool]:
        batch = [first]
        with contextlib.suppress(Empty):
            while len(batch) < _MAX_BATCH_ITEMS:
                item = self._queue.get_nowait()
                if item is None:
                    return batch, True
                batch.append(item)
        return batch, False

    def _commit(self, items: list[_Item]) -> None:
        log, start = items[0].log, 0
        while start < len(items):
            end, size = start, 0
            while end < len(items) and (end == start or size + len(items[end].line) <= MAX_WRITE_BYTES):
                size += len(items[end].line)
                end += 1
            if size and log.fault is None:
                self._write(log, b"".join(item.line for item in items[start:end]))
            _tell(items[start:end], log.fault)
            start = end

    def _write(self, log: LogFile, lines: bytes) -> None:
        try:
            write_all(self.disk, log.handle, lines)
            self.disk.fdatasync(log.handle)
            log.good_bytes += len(lines)
        except Exception as err:  # whatever it is, the log is not to be trusted, and the thread must live
            # first of all: what follows must not be glued to torn bytes, nor build on pages the disk has dropped
            with contextlib.suppress(Exception):
                self.disk.ftruncate(log.handle, log.good_bytes)
            number = err.errno if isinstance(err, OSError) else None
            message = os.strerror(number).lower() if number else type(err).__name__
            log.fault = Fault(str(log.path), message, number in FULL_DISK_ERRNOS)


def _fail(done: asyncio.Future[None], fault: Fault) -> None:
    done.set_exception(fault.error())
    done.exception()  # seen: the fault stands in the log, and whoever awaits gets it all the same


def _tell(items: list[_Item], fault: Fault | None) -> None:
    """One wake-up of the loop for the whole batch; a loop that is closed has nobody waiting."""
    with contextlib.suppress(RuntimeError):
        items[0].done.get_loop().call_soon_threadsafe(_resolve, items, fault)


def _resolve(items: list[_Item], fault: Fault | None) -> None:
    for item in items:
        if item.done.done():
            continue
        if fault is None:
            item.done.set_result(None)
        else:
            _fail(item.done, fault)
