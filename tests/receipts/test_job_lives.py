"""Any life of a job, sealed at its end, is VERIFIED, or INCOMPLETE with exactly the gaps that the life had."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from clawproxy.receipts.calls import CallStart
from clawproxy.receipts.disk import OsDisk
from clawproxy.receipts.job import Job
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.scribe import Intended
from clawproxy.tokens.digests import sha256_b64u
from hypothesis import given, settings
from hypothesis import strategies as st

from .workshop import Workshop, call, make_denied, make_end, make_grant, make_start

_steps = st.lists(
    st.sampled_from(["call", "begin", "end", "deny", "token", "note", "harness", "restart", "torn", "cancel"]),
    max_size=25,
)


class QuickDisk(OsDisk):
    """The real one without waiting: what is asked here is what is written, not when it is durable."""

    def fdatasync(self, handle: int) -> None:
        pass

    def fsync_dir(self, directory: Path) -> None:
        pass


@given(_steps, st.booleans())
@settings(max_examples=40)
def test_whatever_happened_to_a_job_its_bundle_says_so(steps: list[str], is_agent: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(live(Path(root), steps, is_agent))


async def live(root: Path, steps: list[str], is_agent: bool) -> None:
    shop = Workshop(root, QuickDisk())
    grant = shop.create() if is_agent else make_grant()
    job = await shop.job(grant)
    begun: list[Intended] = []
    gaps = torn = tokens = 0
    for step in steps:
        if step == "call":
            await call(job, grant)
        elif step == "begin":
            begun.append(await job.intend(make_start(grant)))
        elif step == "end" and begun:
            await job.attest(begun.pop(), make_end())
        elif step == "deny":
            await job.deny(make_denied())
        elif step == "note":
            await job.note("frozen", {"by": "reviewer"})
        elif step == "harness":
            theirs = {"harness_run_id": "run_theirs", "harness_event_hash_b64u": sha256_b64u(b"theirs")}
            await call(job, grant, **theirs)
        elif step == "token":
            tokens += 1
            await shop.job(make_grant("job-1", grant.sub, jti=f"renewed {tokens}"))
        elif step == "cancel":
            await begin_and_cancel(job, make_start(grant))
        elif step in ("restart", "torn"):
            gaps += len(begun)
            begun.clear()
            await shop.reopen()
            if step == "torn":
                torn += 1
                with (shop.jobs_dir / "job-1" / "receipts.jsonl").open("ab") as journal:
                    journal.write(b'{"body":')
            job = await shop.job(grant)
    gaps += len(begun)
    result = await shop.book.seal("job-1", force=True)
    report = shop.verdict()
    assert report.counts["gaps"] == result.counts["gaps"] == gaps
    assert {finding.reason for finding in report.findings} <= {"OUTCOME_UNKNOWN", "TORN_TAIL", "TORN_BYTES"}
    assert report.verdict is (Verdict.INCOMPLETE if gaps else Verdict.VERIFIED), report.to_json()
    assert bool(list((shop.jobs_dir / "job-1").glob("torn/*"))) is bool(torn)
    await shop.end()


async def begin_and_cancel(job: Job, start: CallStart) -> None:
    waiting = asyncio.create_task(job.intend(start))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_job_of_2500_calls_rolls_seals_and_verifies(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, QuickDisk())
    grant = shop.create()
    job = await shop.job(grant)
    for _ in range(50):
        await asyncio.gather(*(call(job, grant) for _ in range(50)))
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED
    assert (report.counts["calls"], report.counts["segments"]) == (2500, 3)
    bundles = sorted(path.name for path in (shop.jobs_dir / "job-1").glob("proof_bundle*"))
    assert bundles == ["proof_bundle.0002.json", "proof_bundle.0003.json", "proof_bundle.json"]
    await shop.end()
