from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from clawproxy.receipts.job import Job, JobLimits
from clawproxy.receipts.jobs import JobBook
from clawproxy.receipts.report import Verdict
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey, load_key, save_key
from clawproxy.tokens.reasons import Refusal

from .faulty_disk import FaultyDisk, failing, full
from .workshop import (
    CONTRACT,
    GATEWAY_ID,
    ISSUER,
    OTHER_HASH,
    POLICY_HASH,
    POLICY_KEY,
    PRESENTER,
    RECEIPT_KEY,
    Workshop,
    call,
    make_denied,
    make_end,
    make_grant,
    make_start,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files in /proc")


def open_below(root: Path) -> list[str]:
    """What this process has open in ``root``: of its other handles, some are garbage of earlier tests and may go."""
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(handle))
    return sorted(link for link in links if link.startswith(str(root)))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(tmp_path, FaultyDisk())
    yield shop
    await shop.end()


def fault(shop: Workshop, fail: Callable[[str, Path], int | None] | None) -> None:
    assert isinstance(shop.disk, FaultyDisk)
    shop.disk.fail = fail or (lambda operation, path: None)


def refusal(found: object) -> Refusal:
    assert isinstance(found, Refusal)
    return found


# -- opening -----------------------------------------------------------------------------------------------------------


async def test_the_first_call_of_a_token_opens_its_job(shop: Workshop) -> None:
    grant = make_grant("fresh")
    job = await shop.job(grant)
    assert (job.job_id, job.agent_did, job.policy_hash_b64u) == ("fresh", grant.sub, grant.policy_hash_b64u)
    assert job.job_did != job.agent_did
    opened = shop.records("fresh")[0]["body"]["payload"]
    assert opened["event"]["event_type"] == "job_opened"
    assert opened["detail"]["containment"] == "not attested"
    assert (opened["detail"]["presenter"], opened["detail"]["way_in"]) == (PRESENTER, "reverse")
    assert (shop.jobs_dir / "fresh" / "contract.json").read_bytes() == jcs_bytes(CONTRACT)
    assert stat.S_IMODE((shop.jobs_dir / "fresh").stat().st_mode) == 0o700
    assert stat.S_IMODE((shop.jobs_dir / "fresh" / "receipts.jsonl").stat().st_mode) == 0o600


async def test_callers_at_the_same_moment_share_one_opening(shop: Workshop) -> None:
    grant = make_grant()
    jobs = await asyncio.gather(*(shop.ask(grant) for _ in range(20)))
    assert all(job is jobs[0] and isinstance(job, Job) for job in jobs)
    assert len(shop.records()) == 1


async def test_a_caller_that_leaves_does_not_stop_the_opening_for_the_others(shop: Workshop) -> None:
    grant = make_grant()
    first, second = asyncio.create_task(shop.ask(grant)), asyncio.create_task(shop.ask(grant))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Job)


async def test_peek_knows_the_open_job_and_nothing_else(shop: Workshop) -> None:
    grant = make_grant()
    assert shop.book.peek(grant, PRESENTER) is None
    job = await shop.job(grant)
    assert shop.book.peek(grant, PRESENTER) is job
    assert shop.book.peek(grant, "uid:0") is None
    assert shop.book.peek(make_grant("other"), PRESENTER) is None
    assert shop.book.peek(make_grant(jti="another token"), PRESENTER) is None
    await shop.book.seal("job-1")
    assert shop.book.peek(grant, PRESENTER) is None


async def test_another_presenter_is_refused_also_after_a_restart(shop: Workshop) -> None:
    grant = shop.create()
    await shop.job(grant)
    assert refusal(await shop.ask(grant, presenter="uid:0")).reason == "PRESENTER_MISMATCH"
    await shop.reopen()
    assert refusal(await shop.ask(grant, presenter="uid:0")).reason == "PRESENTER_MISMATCH"
    assert isinstance(await shop.ask(grant), Job)


async def test_another_contract_or_agent_is_refused_also_after_a_restart(shop: Workshop) -> None:
    grant = shop.create()
    await shop.job(grant)
    for _ in range(2):
        other = make_grant("job-1", grant.sub, policy_hash_b64u=OTHER_HASH)
        assert refusal(await shop.ask(other, policy_hash=OTHER_HASH)).reason == "POLICY_HASH_MISMATCH"
        assert refusal(await shop.ask(other)).reason == "POLICY_HASH_MISMATCH"
        assert refusal(await shop.ask(make_grant("job-1"))).rule == "sub"
        await shop.reopen()


@pytest.mark.parametrize("key", [RECEIPT_KEY, POLICY_KEY, ISSUER], ids=["receipt", "policy", "token"])
async def test_an_agent_whose_key_has_another_role_opens_nothing(shop: Workshop, key: SigningKey) -> None:
    """A verifier refuses a bundle with one key in two roles, so there must be none."""
    found = refusal(await shop.ask(make_grant(sub=key.did)))
    assert (found.reason, found.rule) == ("TOKEN_INVALID_CLAIMS", "sub")
    assert not (shop.jobs_dir / "job-1").exists()


async def test_an_agent_may_be_none_of_the_keys_that_the_gateway_was_told_of(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    book = JobBook(
        shop.jobs_dir, shop.journal, RECEIPT_KEY, GATEWAY_ID, shop.keys_dir, shop.clock, shop.limits,
        receipt_dids=["did:key:zEarlier"], reserved_dids=["did:key:zAnotherReviewer"],
    )  # fmt: skip
    for sub in ("did:key:zEarlier", "did:key:zAnotherReviewer"):
        found = await book.job_for(make_grant(sub=sub), POLICY_HASH, CONTRACT, PRESENTER, "reverse")
        assert refusal(found).reason == "TOKEN_INVALID_CLAIMS"
    await book.close()
    await shop.end()


@pytest.mark.parametrize("key", [RECEIPT_KEY, POLICY_KEY], ids=["receipt", "policy"])
async def test_a_job_key_that_is_another_key_makes_no_job(shop: Workshop, key: SigningKey) -> None:
    shop.keys_dir.mkdir()
    save_key(dataclasses.replace(key, role=Role.JOB), shop.keys_dir / "job-1.pem")
    with pytest.raises(ClawproxyError) as caught:
        shop.create()
    assert caught.value.reason == "KEY_IN_TWO_ROLES"
    assert not (shop.jobs_dir / "job-1").exists()


async def test_a_contract_that_is_not_the_pinned_one_opens_nothing(shop: Workshop) -> None:
    grant = make_grant(policy_hash_b64u=OTHER_HASH)
    assert refusal(await shop.ask(grant, policy_hash=OTHER_HASH)).reason == "POLICY_HASH_MISMATCH"
    assert not (shop.jobs_dir / "job-1").exists()


@pytest.mark.parametrize("job_id", ["../evil", ".locks", "", "a/b", "a\0b", "x" * 129, "job+1", "jöb"])
async def test_a_name_that_is_no_job_id_never_reaches_the_disk(shop: Workshop, job_id: str) -> None:
    assert refusal(await shop.ask(make_grant(job_id))).reason == "TOKEN_INVALID_CLAIMS"
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal(job_id)
    assert caught.value.reason == "JOB_NOT_FOUND"
    assert not shop.jobs_dir.exists()


async def test_a_job_is_open_in_one_process_at_a_time(shop: Workshop) -> None:
    await shop.job(make_grant())
    program = (
        "import sys; from pathlib import Path; from clawproxy.receipts.disk import OsDisk;"
        "print(OsDisk().lock(Path(sys.argv[1])))"
    )
    lock = str(shop.jobs_dir / ".locks" / "job-1")
    asked = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, lock], capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "None"
    second = shop.make_book()
    found = await second.job_for(make_grant(), POLICY_HASH, CONTRACT, PRESENTER, "x")
    assert refusal(found).reason == "EVIDENCE_UNAVAILABLE"
    with pytest.raises(ClawproxyError) as caught:
        await second.seal("job-1")
    assert caught.value.reason == "JOB_LOCKED"


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("create", "job.json"),
        ("write", "contract.json"),
        ("fdatasync", "receipts.jsonl"),
        ("rename", "job-1"),
        ("fsync_dir", "jobs"),
    ],
)
async def test_an_opening_that_fails_refuses_and_can_be_tried_again(shop: Workshop, operation: str, name: str) -> None:
    fault(shop, failing(errno.EIO, operation, name))
    assert refusal(await shop.ask(make_grant())).reason == "EVIDENCE_UNAVAILABLE"
    assert shop.book.open_jobs() == []
    fault(shop, None)
    grant = make_grant()
    job = await shop.job(grant)
    await call(job, grant)
    assert [record["t"] for record in shop.records()] == ["event", "intent", "receipt"]


async def test_a_recovery_that_cannot_be_written_refuses_and_can_be_tried_again(shop: Workshop) -> None:
    grant = shop.create()
    await (await shop.job(grant)).intend(make_start(grant))
    await shop.reopen()
    fault(shop, failing(errno.ENOSPC, "write", "receipts.jsonl"))
    for _ in range(2):
        assert refusal(await shop.ask(grant)).reason == "EVIDENCE_UNAVAILABLE"
    assert [record["t"] for record in shop.records()] == ["event", "event", "intent"]
    fault(shop, None)
    await call(await shop.job(grant), grant)
    assert [record["t"] for record in shop.records()][3:] == ["recovery", "intent", "receipt"]


async def test_idle_jobs_make_room_for_others_and_busy_ones_do_not(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, limits=JobLimits(open_jobs=2, idle_ms=60_000, reserve_bytes=0))
    first, second = make_grant("a"), make_grant("b")
    busy = await shop.job(first)
    await busy.intend(make_start(first))
    idle = await shop.job(second)
    assert refusal(await shop.ask(make_grant("c"))).reason == "EVIDENCE_UNAVAILABLE"
    shop.clock.now_ms += 60_001
    assert isinstance(await shop.ask(make_grant("c")), Job)
    assert {job.job_id for job in shop.book.open_jobs()} == {"a", "c"}
    with pytest.raises(ClawproxyError):
        await idle.deny(make_denied())
    shop.clock.now_ms += 60_001
    assert isinstance(await shop.ask(second), Job)
    await shop.end()


@needs_proc
async def test_after_close_nothing_is_opened_and_no_handle_is_left(shop: Workshop) -> None:
    grant = make_grant()
    job = await shop.job(grant)
    assert len(open_below(shop.root)) == 2  # the journal, and the lock
    await shop.book.close()
    assert refusal(await shop.ask(grant)).reason == "GATEWAY_STOPPING"
    assert refusal(job.reserve("n")).reason == "GATEWAY_STOPPING"
    with pytest.raises(ClawproxyError):
        await job.deny(make_denied())
    assert open_below(shop.root) == []


@needs_proc
async def test_many_openings_and_closings_leave_no_handle(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, limits=JobLimits(open_jobs=1, idle_ms=0, reserve_bytes=0))
    grants = [make_grant(name) for name in "abcd"]
    for grant in grants:
        await shop.job(grant)
    handles = open_below(shop.root)
    for _ in range(10):
        for grant in grants:
            await call(await shop.job(grant), grant)
    assert open_below(shop.root) == handles
    await shop.end()


# -- created without a gateway -----------------------------------------------------------------------------------------


async def test_a_job_made_on_the_command_line_is_bound_to_its_first_presenter(shop: Workshop) -> None:
    grant = shop.create()
    opened = shop.records()[0]["body"]["payload"]["detail"]
    assert opened["presenter"] is None
    assert "token_hash_hex" not in opened["token"]
    assert opened["token"]["sub"] == grant.sub
    assert load_key(shop.keys_dir / "job-1.pem", Role.JOB).did == grant.sub
    job = await shop.job(grant)
    await call(job, grant)
    changed = shop.records()[1]["body"]["payload"]
    assert changed["event"]["event_type"] == "authority_changed"
    assert changed["detail"]["presenter"] == PRESENTER
    assert changed["detail"]["token"]["token_hash_hex"] == grant.token_hash_hex


async def test_a_job_is_made_once(shop: Workshop) -> None:
    shop.create()
    with pytest.raises(ClawproxyError) as caught:
        shop.create()
    assert caught.value.reason == "JOB_EXISTS"
    with pytest.raises(ClawproxyError):
        shop.create("../x")


async def test_half_a_job_key_from_a_crash_is_made_anew(shop: Workshop) -> None:
    shop.keys_dir.mkdir()
    (shop.keys_dir / "job-1.pem.new").write_text("half a k")
    grant = shop.create()
    assert load_key(shop.keys_dir / "job-1.pem", Role.JOB).did == grant.sub


# -- sealing -----------------------------------------------------------------------------------------------------------


async def test_a_sealed_job_verifies_and_is_closed_for_good(shop: Workshop) -> None:
    grant = shop.create()
    job = await shop.job(grant)
    for _ in range(3):
        await call(job, grant)
    await job.deny(make_denied())
    result = await shop.book.seal("job-1")
    assert result.sealed_now
    assert result.counts == {"calls": 3, "denials": 1, "events": 6, "gaps": 0, "receipts": 3, "segments": 1}
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED
    assert report.facts["head_b64u"] == result.head_b64u
    assert refusal(await shop.ask(grant)).reason == "JOB_SEALED"
    assert refusal(job.reserve("n")).reason == "JOB_SEALED"
    await shop.reopen()
    assert refusal(await shop.ask(grant)).reason == "JOB_SEALED"
    again = await shop.book.seal("job-1")
    assert not again.sealed_now
    assert (again.head_b64u, again.final_seq, again.counts) == (result.head_b64u, result.final_seq, result.counts)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (shop.jobs_dir / "job-1").rglob("*")}
    assert all(not mode & 0o222 for mode in modes.values()), modes


async def test_a_job_of_another_agent_ends_with_the_seal_alone(shop: Workshop) -> None:
    grant = make_grant()
    await call(await shop.job(grant), grant)
    await shop.book.seal("job-1")
    assert not list((shop.jobs_dir / "job-1").glob("proof_bundle*"))
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_a_job_without_a_call_seals(shop: Workshop) -> None:
    shop.create()
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED
    assert report.counts["calls"] == 0


async def test_a_job_with_calls_open_is_sealed_only_by_force_and_says_so(shop: Workshop) -> None:
    grant = shop.create()
    job = await shop.job(grant)
    left = await job.intend(make_start(grant))
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_BUSY"
    await call(job, grant)  # it goes on
    await shop.book.seal("job-1", force=True)
    report = shop.verdict()
    assert report.verdict is Verdict.INCOMPLETE
    assert [finding.reason for finding in report.findings] == ["OUTCOME_UNKNOWN"]
    with pytest.raises(ClawproxyError):
        await job.attest(left, make_end())


async def test_two_seals_at_the_same_moment_make_one(shop: Workshop) -> None:
    shop.create()
    results = await asyncio.gather(*(shop.book.seal("job-1") for _ in range(3)))
    assert sorted(result.sealed_now for result in results) == [False, False, True]


async def test_a_job_that_is_not_there_cannot_be_sealed_and_is_not_made(shop: Workshop) -> None:
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-9")
    assert caught.value.reason == "JOB_NOT_FOUND"
    assert not (shop.jobs_dir / "job-9").exists()


@pytest.mark.parametrize("operation", ["write", "fdatasync", "rename", "fsync_dir"])
@pytest.mark.parametrize("name", ["proof_bundle.json", "MANIFEST.json", "SEAL.json"])
async def test_a_seal_that_was_cut_off_is_done_again_and_gives_the_same_bytes(
    shop: Workshop, operation: str, name: str
) -> None:
    grant = shop.create()
    await call(await shop.job(grant), grant)
    target = {"rename": name, "fsync_dir": "job-1"}.get(operation, f"job-1+{name}")
    fault(shop, failing(errno.EIO, operation, target))
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    assert shop.verdict().verdict is not Verdict.FAILED
    half = {path.name: path.read_bytes() for path in (shop.jobs_dir / "job-1").iterdir()}
    fault(shop, None)
    await shop.reopen()
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED
    for path_name, content in half.items():
        assert (shop.jobs_dir / "job-1" / path_name).read_bytes() == content


async def test_a_full_disk_can_still_be_sealed_from_the_reserve(tmp_path: Path) -> None:
    disk = FaultyDisk()
    shop = Workshop(tmp_path, disk, limits=JobLimits(reserve_bytes=1 << 16))
    grant = shop.create()
    job = await shop.job(grant)
    await call(job, grant)
    reserve = shop.jobs_dir / ".reserve"
    assert reserve.stat().st_size == 1 << 16
    disk.fail = lambda operation, path: full()(operation, path) if reserve.exists() else None
    with pytest.raises(ClawproxyError):
        await job.intend(make_start(grant))
    result = await shop.book.seal("job-1")
    assert result.counts["receipts"] == 1
    assert shop.verdict().verdict is Verdict.VERIFIED
    await shop.end()


async def test_a_disk_that_stays_full_says_so_and_loses_nothing(shop: Workshop) -> None:
    grant = shop.create()
    await call(await shop.job(grant), grant)
    fault(shop, full())
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    assert "no space left" in str(caught.value)
    fault(shop, None)
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "proof_bundle.json", "proof_bundle.9999.json", "MANIFEST.json", "torn/x", "torn", "empty/"],
)
async def test_a_file_that_is_not_the_gateways_is_named_before_a_seal_writes_anything(
    shop: Workshop, name: str
) -> None:
    grant = shop.create()
    await call(await shop.job(grant), grant)
    directory = shop.jobs_dir / "job-1"
    stray = directory / name
    if name.endswith("/"):
        stray.mkdir()
    else:
        stray.parent.mkdir(exist_ok=True)
        stray.write_text("{}")
    before = sorted(directory.rglob("*")), (directory / "receipts.jsonl").read_bytes()
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_DAMAGED"
    assert name.rstrip("/") in str(caught.value)
    assert (sorted(directory.rglob("*")), (directory / "receipts.jsonl").read_bytes()) == before
    await call(await shop.job(grant), grant)  # it goes on
    stray.rmdir() if name.endswith("/") else stray.unlink()
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_a_bundle_that_a_seal_cut_off_did_not_make_is_not_sealed_in(shop: Workshop) -> None:
    grant = make_grant()  # of an agent with a key of its own, so there are no proof bundles
    await call(await shop.job(grant), grant)
    fault(shop, failing(errno.EIO, "write", "job-1+MANIFEST.json"))
    with pytest.raises(ClawproxyError):
        await shop.book.seal("job-1")
    fault(shop, None)
    (shop.jobs_dir / "job-1" / "proof_bundle.json").write_text("{}")
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_DAMAGED"
    assert not (shop.jobs_dir / "job-1" / "SEAL.json").exists()


async def test_a_job_that_was_sealed_and_then_deleted_is_not_opened_again(shop: Workshop) -> None:
    """Within one life of the gateway; what was there before a start, nobody outside the directory remembers."""
    grant = shop.create()
    await shop.job(grant)
    await shop.book.seal("job-1")
    directory = shop.jobs_dir / "job-1"
    directory.chmod(0o700)
    shutil.rmtree(directory)
    assert refusal(await shop.ask(grant)).reason == "JOB_SEALED"
    shop.create()  # as an operator could, under the old name
    assert refusal(await shop.ask(grant)).reason == "JOB_SEALED"
    directory.chmod(0o700)
    shutil.rmtree(directory)
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_NOT_FOUND"
    assert not directory.exists()
