from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clawproxy.receipts.disk import OsDisk
from clawproxy.receipts.journal import MAX_WRITE_BYTES, Journal, JournalError, LogFile

from .faulty_disk import FaultyDisk, failing


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def journal(disk: FaultyDisk) -> AsyncIterator[Journal]:
    journal = Journal(disk)
    yield journal
    await asyncio.to_thread(journal.close)


def make_log(path: Path, disk: OsDisk) -> LogFile:
    path.touch()
    return LogFile(path, disk.open_append(path), 0)


async def test_lines_stand_in_the_order_of_append_whoever_awaits_first(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    log = make_log(tmp_path / "log", disk)
    waiting = [journal.append(log, b"%d\n" % n) for n in range(500)]
    await waiting[-1]
    await asyncio.gather(*reversed(waiting))
    assert log.path.read_bytes() == b"".join(b"%d\n" % n for n in range(500))
    assert log.good_bytes == log.path.stat().st_size


async def test_an_append_is_done_only_after_write_and_sync(journal: Journal, disk: FaultyDisk, tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", disk)
    await journal.append(log, b"a\n")
    assert disk.calls["write"] == disk.calls["fdatasync"] == 1
    assert (tmp_path / "log").read_bytes() == b"a\n"


async def test_many_waiting_writers_share_one_sync(journal: Journal, disk: FaultyDisk, tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", disk)
    await asyncio.gather(*(journal.append(log, b"x" * 100 + b"\n") for _ in range(1000)))
    assert disk.calls["fdatasync"] < 50
    assert disk.calls["write"] == disk.calls["fdatasync"]


async def test_one_write_is_never_longer_than_a_torn_tail_may_be(tmp_path: Path) -> None:
    class Measuring(OsDisk):
        longest = 0

        def write(self, handle: int, data: bytes) -> int:
            self.longest = max(self.longest, len(data))
            return super().write(handle, data)

    disk = Measuring()
    journal = Journal(disk)
    log = make_log(tmp_path / "log", disk)
    await asyncio.gather(*(journal.append(log, b"y" * 50_000 + b"\n") for _ in range(40)))
    await asyncio.to_thread(journal.close)
    assert 50_000 < disk.longest <= MAX_WRITE_BYTES
    assert log.path.stat().st_size == 40 * 50_001


@pytest.mark.parametrize("short", [False, True], ids=["refused", "short"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG])
async def test_a_failed_write_is_cut_off_and_poisons_the_log(
    journal: Journal, disk: FaultyDisk, tmp_path: Path, number: int, short: bool
) -> None:
    log = make_log(tmp_path / "log", disk)
    await journal.append(log, b"good\n")
    disk.fail, disk.short = failing(number, "write", "log"), short
    with pytest.raises(JournalError) as caught:
        await journal.append(log, b"never acknowledged\n")
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    assert caught.value.disk_full is (short or number != errno.EIO)
    assert log.path.read_bytes() == b"good\n"
    disk.fail = lambda operation, path: None
    with pytest.raises(JournalError):
        await journal.append(log, b"the disk is well again\n")
    assert log.path.read_bytes() == b"good\n"


async def test_a_failed_sync_is_never_tried_again(journal: Journal, disk: FaultyDisk, tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", disk)
    disk.fail = failing(errno.EIO, "fdatasync", "log")
    waiting = [journal.append(log, b"%d\n" % n) for n in range(10)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, JournalError) for result in results)
    assert disk.calls["fdatasync"] == 1
    assert log.path.read_bytes() == b""


async def test_other_logs_go_on_when_one_is_poisoned(journal: Journal, disk: FaultyDisk, tmp_path: Path) -> None:
    bad, good = make_log(tmp_path / "bad", disk), make_log(tmp_path / "good", disk)
    disk.fail = failing(errno.EIO, "fdatasync", "bad")
    results = await asyncio.gather(
        *(journal.append(log, b"x\n") for _ in range(20) for log in (bad, good)), return_exceptions=True
    )
    assert good.path.read_bytes() == b"x\n" * 20
    assert [isinstance(result, JournalError) for result in results] == [True, False] * 20


async def test_a_caller_that_leaves_takes_nothing_with_it(journal: Journal, disk: FaultyDisk, tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", disk)
    leaver = asyncio.ensure_future(journal.append(log, b"left\n"))
    leaver.cancel()
    await journal.append(log, b"stayed\n")
    assert log.path.read_bytes() == b"left\nstayed\n"


async def test_closing_writes_what_is_queued_and_takes_no_more(disk: FaultyDisk, tmp_path: Path) -> None:
    journal = Journal(disk)
    log = make_log(tmp_path / "log", disk)
    waiting = [journal.append(log, b"%d\n" % n) for n in range(100)]
    await asyncio.to_thread(journal.close)
    await asyncio.gather(*waiting)
    assert log.path.read_bytes().count(b"\n") == 100
    with pytest.raises(JournalError):
        await journal.append(log, b"late\n")


async def test_a_closed_log_still_gets_what_was_queued_before(
    journal: Journal, disk: FaultyDisk, tmp_path: Path
) -> None:
    log = make_log(tmp_path / "log", disk)
    before = journal.append(log, b"before\n")
    log.closed = True
    with pytest.raises(JournalError):
        await journal.append(log, b"after\n")
    await journal.flush(log)
    assert before.done()
    assert log.path.read_bytes() == b"before\n"


def test_a_real_short_write_leaves_the_acknowledged_bytes_alone(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel write a part and then fail with EFBIG, without root and without a full disk."""
    program = textwrap.dedent(
        """
        import asyncio, resource, signal, sys
        from pathlib import Path
        from clawproxy.receipts.disk import OsDisk
        from clawproxy.receipts.journal import Journal, JournalError, LogFile

        async def main(path):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            path.touch()
            disk = OsDisk()
            journal = Journal(disk)
            log = LogFile(path, disk.open_append(path), 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            acked = 0
            try:
                for _ in range(100):
                    await journal.append(log, b"r" * 999 + b"\\n")
                    acked += 1
                    if acked == 9:
                        await asyncio.gather(*(journal.append(log, b"s" * 999 + b"\\n") for _ in range(5)))
            except JournalError as err:
                print(acked, err.reason, err.disk_full, path.stat().st_size)
            journal.close()

        asyncio.run(main(Path(sys.argv[1])))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ},
    )
    acked, reason, disk_full, size = done.stdout.split()
    assert (reason, disk_full) == ("EVIDENCE_UNAVAILABLE", "True")
    # however many writes the five were: no part of a line is left, and nothing acknowledged is gone
    assert int(size) % 1000 == 0
    assert int(size) >= int(acked) * 1000
