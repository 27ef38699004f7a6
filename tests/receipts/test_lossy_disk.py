"""Durability below the file API: whatever a power cut leaves, what was acknowledged is there, and recovery holds.

One life of a job is written to a disk that forgets what was not synced; then the power is cut after each single
operation, in each way that ``LossyDisk.crashes`` knows, and the gateway starts again. The second half takes one sync
away at a time and sees the property fail: each of them is needed, and the test would notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from clawproxy.receipts.calls import Outcome
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError

from .lossy_disk import LossyDisk
from .workshop import Workshop, make_denied, make_end, make_start, trust

ROOT = Path("/state")
JOB_DIR = ROOT / "jobs" / "job-1"


async def live(disk: LossyDisk, keys: Path) -> None:
    """A job from its making to its seal, with calls side by side, a refusal, and a restart in the middle."""
    shop = LossyShop(disk, keys)
    grant = shop.create()
    disk.ack("job")
    job = await shop.job(grant)

    async def whole_call() -> None:
        intended = await job.intend(make_start(grant))
        disk.ack(intended.event_hash_b64u)
        disk.ack(signature(await job.attest(intended, make_end(outcome=Outcome.CLIENT_GONE))))

    await asyncio.gather(whole_call(), whole_call())
    disk.ack(signature(await job.deny(make_denied())))
    left_open = await job.intend(make_start(grant))
    disk.ack(left_open.event_hash_b64u)
    await shop.reopen()  # the call is open, so recovery names it
    job = await shop.job(grant)
    await whole_call()
    await shop.book.seal("job-1")
    disk.ack("seal")
    await shop.end()


class LossyShop(Workshop):
    """A workshop on a lossy disk. Job keys are no evidence and lie on the real one."""

    def __init__(self, disk: LossyDisk, keys: Path) -> None:
        self._keys = keys
        super().__init__(ROOT, disk)

    @property
    def keys_dir(self) -> Path:
        return self._keys


def signature(envelope: JsonObject) -> str:
    text: str = envelope["signature_b64u"]
    return text


def record(keys: Path, ignore: Callable[[str, Path], bool] = lambda kind, path: False) -> LossyDisk:
    disk = LossyDisk(ROOT, ignore, sync_s=0.002)
    asyncio.run(live(disk, keys))
    return disk


def check_crash(left: LossyDisk, acked: Iterable[str], keys: Path) -> None:
    """The property, for one disk that a crash left: first as an auditor finds it, then as the gateway does."""
    acked = set(acked)
    files = left.files(JOB_DIR)
    if not files:
        assert not acked, "an acknowledged job is gone"
        return
    verdict_is_not_failed(files)
    asyncio.run(restart_and_seal(left, keys))
    files = left.files(JOB_DIR)
    lost = [label for label in acked - {"job", "seal"} if label.encode() not in files["receipts.jsonl"]]
    assert not lost, f"{len(lost)} acknowledged records are lost"
    report = verify_job(files, trust())
    gaps = report.counts["gaps"]
    gaps += sum(finding.reason == "TORN_RECORD" for finding in report.findings)  # an intent that nobody was told of
    assert report.verdict is (Verdict.INCOMPLETE if gaps else Verdict.VERIFIED), report.to_json()
    assert gaps <= 4


def verdict_is_not_failed(files: dict[str, bytes]) -> None:
    report = verify_job(files, trust())
    assert report.verdict is not Verdict.FAILED, report.to_json()


async def restart_and_seal(left: LossyDisk, keys: Path) -> None:
    shop = LossyShop(left, keys)
    try:
        await shop.book.seal("job-1")
    except ClawproxyError as err:
        raise AssertionError(err.one_line()) from err
    finally:
        await shop.end()


def check_every_crash(disk: LossyDisk, keys: Path, told_before: Iterable[str] = ()) -> int:
    """The property after each operation, from both ends towards the middle; returns how many disks were tried."""
    seen: set[tuple[object, ...]] = set()
    for n in range(len(disk.ops) + 1):
        prefix = n // 2 if n % 2 else len(disk.ops) - n // 2
        acked = [*told_before, *disk.acked(prefix)]
        for left in disk.crashes(prefix):
            state = (len(acked), tuple(sorted(left.files(ROOT).items())))
            if state not in seen:
                seen.add(state)
                check_crash(left, acked, keys)
    return len(seen)


def torn_disks(disk: LossyDisk) -> Iterator[tuple[LossyDisk, list[str]]]:
    """Crashes that left a journal with a torn tail, and what callers had been told: a cut line, a hole, a hole with
    whole lines behind it."""
    wanted: list[Callable[[bytes], bool]] = [
        lambda journal: not journal.endswith(b"\n") and b"\0" not in journal,
        lambda journal: not journal.endswith(b"\n") and b"\0" in journal,
        lambda journal: b"\0" in journal and journal.rpartition(b"\0")[2].count(b"\n") > 1,
    ]
    for is_wanted in wanted:
        disks = ((left, prefix) for prefix in range(len(disk.ops)) for left in disk.crashes(prefix))
        left, prefix = next((d, p) for d, p in disks if is_wanted(d.files(JOB_DIR).get("receipts.jsonl", b"\n")))
        yield left, disk.acked(prefix)


def test_whatever_a_power_cut_leaves_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    assert check_every_crash(record(tmp_path), tmp_path) > 100


def test_a_power_cut_during_recovery_loses_nothing_either(tmp_path: Path) -> None:
    for left, acked in torn_disks(record(tmp_path)):
        asyncio.run(restart_and_seal(left, tmp_path))
        assert any(name.startswith("torn/") for name in left.files(JOB_DIR))
        assert check_every_crash(left, tmp_path, acked) > 50


NEEDED = [
    ("fdatasync", "jobs/job-1/receipts.jsonl"),
    ("fdatasync", "jobs/.staging/job-1/job.json"),
    ("fdatasync", "jobs/.staging/job-1/contract.json"),
    ("fdatasync", "jobs/.staging/job-1/receipts.jsonl"),
    ("fdatasync", "jobs/.staging/job-1+proof_bundle.json"),
    ("fdatasync", "jobs/.staging/job-1+MANIFEST.json"),
    ("fdatasync", "jobs/.staging/job-1+SEAL.json"),
    ("fsync_dir", ""),
    ("fsync_dir", "jobs"),
    ("fsync_dir", "jobs/.staging/job-1"),
    ("fsync_dir", "jobs/job-1"),
]


@pytest.mark.parametrize(("kind", "where"), NEEDED, ids=lambda value: str(value))
def test_without_this_one_sync_the_property_fails(kind: str, where: str, tmp_path: Path) -> None:
    def ignore(asked: str, path: Path) -> bool:
        return asked == kind and path == ROOT / where

    disk = record(tmp_path, ignore)
    with pytest.raises(AssertionError):
        check_every_crash(disk, tmp_path)


@pytest.mark.parametrize(
    ("kind", "where"),
    [("fdatasync", "jobs/.staging/job-1+torn"), ("fsync_dir", "jobs/job-1/torn"), ("fsync_dir", "jobs/job-1")],
    ids=lambda value: str(value),
)
def test_without_this_one_sync_recovery_loses_torn_bytes(kind: str, where: str, tmp_path: Path) -> None:
    left, acked = next(torn_disks(record(tmp_path)))
    left.ignore = lambda asked, path: asked == kind and path == ROOT / where
    asyncio.run(restart_and_seal(left, tmp_path))
    with pytest.raises(AssertionError):
        check_every_crash(left, tmp_path, acked)
