"""How large a job may get: the writer stops where a verifier can still read all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from clawproxy.receipts.create import build_facts
from clawproxy.receipts.job import MAX_CALL_BYTES, JobLimits
from clawproxy.receipts.payloads import authority_detail, token_facts
from clawproxy.receipts.progress import SEGMENT_CALLS
from clawproxy.receipts.reader import BOUNDS
from clawproxy.receipts.recover import new_progress
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.scribe import Intended, Scribe
from clawproxy.receipts.verify_journal import MAX_RECORDS
from clawproxy.tokens.claims import MAX_TEXT_CHARS

from .workshop import POLICY_HASH, RECEIPT_KEY, Workshop, make_denied, make_end, make_grant, make_start


@pytest.mark.parametrize("limit", [{"records": 7}, {"journal_bytes": 60_000}])
async def test_a_full_job_takes_no_call_and_no_denial_and_can_be_ended(tmp_path: Path, limit: dict[str, int]) -> None:
    shop = Workshop(tmp_path, limits=JobLimits(reserve_bytes=0, **limit))
    grant = shop.create()
    job = await shop.job(grant)
    intended: list[Intended] = []
    while job.reserve(nonce := f"n{len(intended)}") is None:
        intended.append(await job.intend(make_start(grant, nonce=nonce)))
    assert intended
    assert getattr(job.reserve("next"), "reason", None) == "JOB_FULL"
    assert not job.takes_denial()
    for one in intended:
        await job.attest(one, make_end())
    assert len(shop.records()) <= limit.get("records", 100) + 1  # the last call may begin one below
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED
    await shop.end()


async def test_a_job_takes_so_many_denials_in_all_also_after_a_restart(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, limits=JobLimits(denials=3, reserve_bytes=0))
    grant = shop.create()
    for _ in range(3):
        job = await shop.job(grant)
        assert job.takes_denial()
        await job.deny(make_denied())
        await shop.reopen()
    job = await shop.job(grant)
    assert not job.takes_denial()
    assert job.reserve("a call") is None
    await shop.end()


def longest_lines() -> tuple[int, int, int]:
    """Of an intent, a receipt and a denial, in bytes: every text as long as it is kept."""
    text, names = "\x1f" * 4096, ("\x1f" * 300,) * 300
    texts = dict.fromkeys(("provider", "route", "model", "presenter", "way_in"), text)
    grant = make_grant()
    start = make_start(grant, **texts, nonce=text, tools=names, harness_run_id=text, harness_event_hash_b64u=text)
    end = make_end(response_model=text, tool_calls=names, detail=text)
    facts = build_facts("j" * 128, "\x1f" * MAX_TEXT_CHARS, "d" * 256, RECEIPT_KEY, "g" * 256, POLICY_HASH, 0)
    scribe = Scribe(new_progress(facts), RECEIPT_KEY, facts.gateway_id, facts.agent_did)
    scribe.event("job_opened", authority_detail(token_facts(grant), text, text), 0)
    intent, intended = scribe.intent(start, 0)
    denied = make_denied(**texts, rule=text, detail=text, method=text, policy_hash_b64u=text)
    return len(intent.line), len(scribe.receipt(intended, end).line), len(scribe.denial(denied).line)


def test_a_full_job_stays_within_what_a_verifier_reads() -> None:
    """The writer's bounds against the reader's, at the most open calls that can be configured."""
    limits = JobLimits()
    intent, receipt, denial = longest_lines()
    assert intent + receipt <= MAX_CALL_BYTES
    assert limits.denials * denial <= limits.journal_bytes // 2
    # beyond the limit come receipts of open calls, which it counts, one batch, renewed tokens, and the end
    beyond_bytes, beyond_records = 32 * 1024 * 1024, 10_000
    assert limits.journal_bytes + beyond_bytes <= BOUNDS.file_bytes
    assert limits.records + beyond_records <= MAX_RECORDS
    # proof bundles hold each receipt and each event once more
    assert 2 * (limits.journal_bytes + beyond_bytes) <= BOUNDS.total_bytes
    assert limits.records // SEGMENT_CALLS <= BOUNDS.files // 2
