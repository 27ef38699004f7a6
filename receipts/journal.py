"""Runs one thread and writes files: the committer, the only writer of journals while they are open.

The order of system calls, per batch and per log: one ``write`` (all lines of the batch), one ``fdatasync``, and only
then are the callers told. Lines of one log go to the disk in the order of ``append``. While the disk works on one
batch the next one gathers, and it goes on gathering for as long as each turn of the event loop brings another record,
at most ``GATHER_S``: under load a batch holds what many calls wrote (group commit), and a lone caller waits for two
turns of an idle loop, some microseconds.

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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from ..tokens.errors import ClawproxyError
from .disk import FULL_DISK_ERRNOS, Disk, OsDisk, write_all

MAX_WRITE_BYTES = 256 * 1024
MAX_LINE_BYTES = MAX_WRITE_BYTES
GATHER_S = 0.002


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


type _Results = list[tuple[list[_Item], Fault | None]]


@dataclass(slots=True)
class Journal:
    """The committer. Starts its thread with the first ``append``; ``close`` ends it."""

    disk: Disk = field(default_factory=OsDisk)
    _queue: SimpleQueue[_Item] = field(default_factory=SimpleQueue, init=False)
    _bell: SimpleQueue[bool] = field(default_factory=SimpleQueue, init=False)
    """True: commit what is queued. False: and then end."""
    _gathered: int = field(default=0, init=False)
    _busy: bool = field(default=False, init=False)
    """A batch is gathering, or at the disk."""
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
        self._gathered += 1
        if not self._busy:
            self._gather_next(done.get_loop())
        return done

    def _gather_next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(loop,), name="clawproxy-journal", daemon=True)
            self._thread.start()
        loop.call_soon(self._turn, loop, 0, loop.time() + GATHER_S)

    def _turn(self, loop: asyncio.AbstractEventLoop, before: int, until_s: float) -> None:
        """One turn of the loop: more has come, so wait for the next one; or ring for the committer."""
        if self._gathered != before and loop.time() < until_s:
            loop.call_soon(self._turn, loop, self._gathered, until_s)
        else:
            self._gathered = 0
            self._bell.put(True)

    def _answered(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = False
        if self._gathered:
            self._gather_next(loop)

    def close(self) -> None:
        """Write what is queued, then end the thread. Blocks for as long as the disk takes."""
        self._closed = True
        if self._thread is not None:
            self._bell.put(False)
            self._thread.join()
            self._thread = None

    # -- below: the committer thread -------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        going_on = True
        while going_on:
            going_on = self._bell.get()
            by_log: dict[int, list[_Item]] = {}
            with contextlib.suppress(Empty):
                while True:
                    item = self._queue.get_nowait()
                    by_log.setdefault(id(item.log), []).append(item)
            for items in by_log.values():
                results = self._commit(items)
                _tell(loop, _resolve, results)
            # also where nothing was queued: a batch may have taken along what rang for the next one
            _tell(loop, self._answered, loop)

    def _commit(self, items: list[_Item]) -> _Results:
        log, start = items[0].log, 0
        results: _Results = []
        while start < len(items):
            end, size = start, 0
            while end < len(items) and (end == start or size + len(items[end].line) <= MAX_WRITE_BYTES):
                size += len(items[end].line)
                end += 1
            if size and log.fault is None:
                self._write(log, b"".join(item.line for item in items[start:end]))
            results.append((items[start:end], log.fault))
            start = end
        return results

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


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> None:
    """A loop that is closed has nobody waiting."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what, *arguments)


def _resolve(results: _Results) -> None:
    for items, fault in results:
        for item in items:
            if item.done.done():
                continue
            if fault is None:
                item.done.set_result(None)
            else:
                _fail(item.done, fault)
