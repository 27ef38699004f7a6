from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.job import Job, JobLimits
from clawproxy.receipts.journal import JournalError
from clawproxy.receipts.payloads import MAX_NONCE_CHARS
from clawproxy.receipts.report import Verdict
from clawproxy.tokens.envelope import check_envelope_signature
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.reasons import Refusal

from .faulty_disk import FaultyDisk, failing
from .workshop import OTHER_HASH, Workshop, call, make_denied, make_end, make_grant, make_start


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(tmp_path, FaultyDisk())
    yield shop
    await shop.end()


@pytest.fixture
async def grant(shop: Workshop) -> Grant:
    return await asyncio.to_thread(shop.create)


@pytest.fixture
async def job(shop: Workshop, grant: Grant) -> Job:
    return await shop.job(grant)


def break_disk(shop: Workshop, number: int, operation: str = "fdatasync", name: str = "receipts.jsonl") -> None:
    assert isinstance(shop.disk, FaultyDisk)
    shop.disk.fail = failing(number, operation, name)


def reason(refused: object) -> str:
    assert isinstance(refused, Refusal)
    return refused.reason


async def test_an_intent_is_on_the_disk_before_intend_returns(shop: Workshop, job: Job, grant: Grant) -> None:
    intended = await job.intend(make_start(grant))
    last = shop.records()[-1]
    assert last["t"] == "intent"
    assert last["body"]["payload"]["event"]["event_hash_b64u"] == intended.event_hash_b64u
    assert last["body"]["payload"]["detail"]["receipt_id"] == intended.receipt_id
    assert job.open_calls == 1


async def test_a_receipt_is_on_the_disk_before_attest_returns_and_binds_to_its_event(
    shop: Workshop, job: Job, grant: Grant
) -> None:
    intended = await job.intend(make_start(grant))
    envelope = await job.attest(intended, make_end())
    assert shop.records()[-1]["body"] == envelope
    check_envelope_signature(envelope)
    assert envelope["payload"]["binding"]["event_hash_b64u"] == intended.event_hash_b64u
    assert envelope["payload"]["binding"]["run_id"] == job.run_id
    assert envelope["payload"]["metadata"]["clawproxy"]["intent_seq"] == intended.seq
    assert job.open_calls == 0


async def test_a_call_is_attested_exactly_once(shop: Workshop, job: Job, grant: Grant) -> None:
    intended = await job.intend(make_start(grant))
    await job.attest(intended, make_end())
    with pytest.raises(ClawproxyError) as caught:
        await job.attest(intended, make_end())
    assert caught.value.reason == "GATEWAY_FAULT"
    assert [record["t"] for record in shop.records()].count("receipt") == 1


async def test_two_ends_of_one_call_at_the_same_moment_give_one_receipt(shop: Workshop, job: Job, grant: Grant) -> None:
    intended = await job.intend(make_start(grant))
    ends = await asyncio.gather(*(job.attest(intended, make_end()) for _ in range(2)), return_exceptions=True)
    assert sorted(isinstance(end, ClawproxyError) for end in ends) == [False, True]
    assert [record["t"] for record in shop.records()].count("receipt") == 1


async def test_another_jobs_call_cannot_be_attested_here(shop: Workshop, job: Job, grant: Grant) -> None:
    other_grant = make_grant("job-2")
    other = await shop.job(other_grant)
    intended = await other.intend(make_start(other_grant))
    with pytest.raises(ClawproxyError):
        await job.attest(intended, make_end())
    assert other.open_calls == 1


async def test_a_receipt_id_is_used_once_whether_for_a_call_or_a_denial(job: Job, grant: Grant) -> None:
    start = make_start(grant)
    await job.intend(start)
    for again in (job.deny(make_denied(receipt_id=start.receipt_id)), job.intend(make_start(grant, receipt_id="x"))):
        with pytest.raises(ClawproxyError) as caught:
            await again
        assert caught.value.reason == "GATEWAY_FAULT"


@pytest.mark.parametrize(
    "over",
    [
        {"token_hash_hex": "0" * 64},
        {"token_scope_hash_b64u": OTHER_HASH},
        {"policy_hash_b64u": OTHER_HASH},
        {"presenter": "uid:0"},
    ],
    ids=lambda over: next(iter(over)),
)
async def test_no_call_goes_out_on_an_authority_that_is_not_on_record(
    shop: Workshop, job: Job, grant: Grant, over: dict[str, Any]
) -> None:
    await job.note("frozen", {"by": "test"})  # what was queued before is on the disk now
    before = len(shop.records())
    with pytest.raises(ClawproxyError) as caught:
        await job.intend(make_start(grant, **over))
    assert caught.value.reason == "GATEWAY_FAULT"
    await job.note("frozen", {"by": "test"})
    assert len(shop.records()) == before + 1


async def test_a_nonce_is_used_once_also_after_a_restart(shop: Workshop, job: Job, grant: Grant) -> None:
    assert job.reserve("once") is None
    assert reason(job.reserve("once")) == "IDEMPOTENCY_KEY_IN_USE"
    await job.attest(await job.intend(make_start(grant, nonce="once")), make_end())
    assert reason(job.reserve("once")) == "IDEMPOTENCY_KEY_IN_USE"
    await shop.reopen()
    assert reason((await shop.job(grant)).reserve("once")) == "IDEMPOTENCY_KEY_IN_USE"


@pytest.mark.parametrize("nonce", ["", "x" * (MAX_NONCE_CHARS + 1), "a\nb", "ü", "\ud800"])
def test_a_nonce_that_would_not_be_recorded_as_it_is_is_refused(nonce: str, tmp_path: Path) -> None:
    async def reserve() -> object:
        shop = Workshop(tmp_path)
        job = await shop.job(shop.create())
        try:
            return job.reserve(nonce)
        finally:
            await shop.end()

    refusal = asyncio.run(reserve())
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.step) == ("INVALID_REQUEST", "reserve")


async def test_a_job_has_so_many_calls_open_and_no_more(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, limits=JobLimits(open_calls=2, reserve_bytes=0))
    grant = shop.create()
    job = await shop.job(grant)
    calls = [await job.intend(make_start(grant)) for _ in range(2)]
    assert reason(job.reserve("third")) == "TOO_MANY_CALLS"
    await job.attest(calls[0], make_end())
    assert job.reserve("third") is None
    await shop.end()


async def test_a_nonce_is_free_again_after_a_refusal_and_never_after_an_intent(job: Job, grant: Grant) -> None:
    assert job.reserve("once") is None
    job.release("once")
    assert job.reserve("once") is None
    await job.intend(make_start(grant, nonce="once"))
    job.release("once")
    assert reason(job.reserve("once")) == "IDEMPOTENCY_KEY_IN_USE"
    job.release("never taken")


async def test_a_caller_cancelled_while_the_intent_is_written_leaves_one_receipt_that_says_so(
    shop: Workshop, job: Job, grant: Grant
) -> None:
    waiting = asyncio.create_task(job.intend(make_start(grant)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await job.note("frozen", {"by": "test"})
    intent, receipt = shop.records()[-3:-1]
    assert (intent["t"], receipt["t"]) == ("intent", "receipt")
    ours = receipt["body"]["payload"]["metadata"]["clawproxy"]
    assert (ours["outcome"], ours["status"]) == ("fault", None)
    assert "nothing was sent" in ours["detail"]
    assert job.open_calls == 0


async def test_a_caller_cancelled_while_the_receipt_is_written_leaves_it_written(
    shop: Workshop, job: Job, grant: Grant
) -> None:
    intended = await job.intend(make_start(grant))
    waiting = asyncio.create_task(job.attest(intended, make_end()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await job.note("frozen", {"by": "test"})
    assert [record["t"] for record in shop.records()[-3:]] == ["intent", "receipt", "event"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("operation", ["write", "fdatasync"])
async def test_no_call_may_go_out_on_a_disk_that_fails(
    shop: Workshop, job: Job, grant: Grant, number: int, operation: str
) -> None:
    await shop.journal.flush(job.log)  # the token's own event is queued without anyone waiting for it
    before = len(shop.records())
    break_disk(shop, number, operation)
    with pytest.raises(JournalError) as caught:
        await job.intend(make_start(grant))
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    break_disk(shop, 0, "nothing")
    for refused in (job.intend(make_start(grant)), job.deny(make_denied()), job.note("frozen", {})):
        with pytest.raises(JournalError):
            await refused
    assert reason(job.reserve("n")) == "EVIDENCE_UNAVAILABLE"
    assert shop.book.peek(grant, "uid:1000") is None
    assert reason(await shop.ask(grant)) == "EVIDENCE_UNAVAILABLE"
    assert len(shop.records()) == before


async def test_after_a_restart_a_job_on_a_disk_that_failed_goes_on_where_it_was_acknowledged(
    shop: Workshop, job: Job, grant: Grant
) -> None:
    await call(job, grant)
    lost = await job.intend(make_start(grant))
    break_disk(shop, errno.EIO)
    with pytest.raises(JournalError):
        await job.attest(lost, make_end())
    break_disk(shop, 0, "nothing")
    await shop.reopen()
    await call(await shop.job(grant), grant)
    recovery = next(record for record in shop.records() if record["t"] == "recovery")
    assert recovery["body"]["payload"]["open_calls"] == [lost.receipt_id]
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.INCOMPLETE
    assert report.counts["gaps"] == 1


async def test_a_new_token_is_on_record_before_the_first_call_on_it(shop: Workshop, job: Job, grant: Grant) -> None:
    renewed = make_grant("job-1", grant.sub, jti="token 2")
    assert shop.book.peek(renewed, "uid:1000") is None
    same = await shop.job(renewed)
    assert same is job
    await call(job, renewed)
    await call(job, grant)  # the old one is still known, and may still be valid
    events = [r["body"]["payload"]["event"]["event_type"] for r in shop.records() if r["t"] in ("event", "intent")]
    assert events == ["job_opened", "authority_changed", "authority_changed", "llm_call", "llm_call"]
    assert shop.book.peek(renewed, "uid:1000") is job
    assert shop.book.peek(grant, "uid:1000") is job


async def test_a_denial_is_signed_and_takes_no_place_in_the_event_chain(shop: Workshop, job: Job, grant: Grant) -> None:
    events = job.counts["events"]
    envelope = await job.deny(make_denied(model="gpt-5"))
    assert shop.records()[-1]["body"] == envelope
    assert envelope["payload"]["reason"] == "POLICY_MODEL_NOT_ALLOWED"
    assert (job.counts["events"], job.counts["denials"]) == (events, 1)


async def test_the_events_that_make_the_chain_cannot_be_noted_by_hand(job: Job) -> None:
    for event_type in ("job_sealed", "llm_call", "authority_changed", "anything"):
        with pytest.raises(ClawproxyError):
            await job.note(event_type, {})


async def test_time_never_goes_back_in_the_journal(shop: Workshop, job: Job, grant: Grant) -> None:
    await call(job, grant)
    shop.clock.now_ms -= 3_600_000
    intended = await job.intend(make_start(grant))
    await job.attest(intended, make_end(ended_ms=5))
    times = [record["body"]["issued_at"] for record in shop.records()]
    assert times == sorted(times)


async def test_a_segment_rolls_and_a_call_in_flight_is_attested_in_its_own(
    shop: Workshop, job: Job, grant: Grant
) -> None:
    early = await job.intend(make_start(grant))
    for batch in range(30):
        intents = await asyncio.gather(*(job.intend(make_start(grant)) for _ in range(30)))
        await asyncio.gather(*(job.attest(intended, make_end()) for intended in intents))
        if batch == 10:
            await job.deny(make_denied())
    assert job.run_id.endswith("::0002")
    late = await job.attest(early, make_end())
    assert late["payload"]["binding"]["run_id"].endswith("::0001")
    assert late["payload"]["metadata"]["clawproxy"]["segment"] == 1
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.to_json()
    assert report.counts["segments"] == 2


async def test_a_segment_rolls_on_events_too(shop: Workshop, job: Job, grant: Grant) -> None:
    for _ in range(10):
        await asyncio.gather(*(job.note("frozen", {"by": "test"}) for _ in range(100)))
    await call(job, grant)
    assert job.counts["segments"] == 2
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_harness_bound_and_own_receipts_seal_together(shop: Workshop, job: Job, grant: Grant) -> None:
    theirs = {"harness_run_id": "run_theirs", "harness_event_hash_b64u": OTHER_HASH}
    await call(job, grant, **theirs)
    await call(job, grant)
    await call(job, grant, **theirs)
    await call(job, grant)
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED
