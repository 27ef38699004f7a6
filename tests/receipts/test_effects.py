"""Calls of tools in the journal: one record per intent, hung on the model call before, and verified like those."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from clawproxy.receipts.calls import Outcome
from clawproxy.receipts.effects import EffectEnd, EffectStart
from clawproxy.receipts.job import Job
from clawproxy.receipts.records import build_record
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant

from .workshop import POLICY_HASH, PRESENTER, RECEIPT_KEY, START_MS, Workshop, call, make_end, make_start, trust

Bundle = dict[str, bytes]
TRUST = trust()


def effect_start(grant: Grant, **over: Any) -> EffectStart:
    receipt_id = f"rcpt_{uuid.uuid4()}"
    start = EffectStart(
        receipt_id=receipt_id,
        nonce=receipt_id,
        scheme="https",
        host="tickets.example.com",
        port=443,
        method="POST",
        target_hash_b64u=sha256_b64u(b"https://tickets.example.com/v1/a"),
        request_hash_b64u=sha256_b64u(b"request"),
        request_bytes=7,
        credential="crm",
        token_hash_hex=grant.token_hash_hex,
        token_scope_hash_b64u=grant.token_scope_hash_b64u,
        policy_hash_b64u=POLICY_HASH,
        presenter=PRESENTER,
        way_in="connect",
        started_ms=START_MS,
    )
    return dataclasses.replace(start, **over)


def effect_end(**over: Any) -> EffectEnd:
    end = EffectEnd(Outcome.COMPLETE, 200, sha256_b64u(b"answer"), 6, 3, START_MS + 40)
    return dataclasses.replace(end, **over)


async def effect(job: Job, grant: Grant) -> JsonObject:
    """One whole call of a tool; returns its record's payload."""
    payload: JsonObject = (await job.attest(await job.intend(effect_start(grant)), effect_end()))["payload"]
    return payload


async def _job(root: Path, *, sealed: bool) -> Bundle:
    """Effect, model call, effect, model call, effect."""
    shop = Workshop(root)
    grant = shop.create()
    job = await shop.job(grant)
    for n in range(5):
        await (call if n % 2 else effect)(job, grant)
    if sealed:
        await shop.book.seal("job-1")
    await shop.end()
    return load_bundle(shop.jobs_dir / "job-1").files


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return asyncio.run(_job(tmp_path_factory.mktemp("sealed"), sealed=True))


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return asyncio.run(_job(tmp_path_factory.mktemp("unsealed"), sealed=False))


def _lines(files: Bundle) -> list[bytes]:
    return files["receipts.jsonl"].splitlines(keepends=True)


def _places(files: Bundle, kind: str) -> list[int]:
    return [n for n, line in enumerate(_lines(files)) if orjson.loads(line)["t"] == kind]


def test_a_sealed_job_counts_and_carries_its_effects(bundle: Bundle) -> None:
    report = verify_job(bundle, TRUST)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    assert (report.counts["calls"], report.counts["receipts"], report.counts["effects"]) == (5, 5, 3)
    payload = orjson.loads(bundle["proof_bundle.json"])["payload"]
    spans = [receipt["payload"]["binding"]["span_id"] for receipt in payload["receipts"]]
    anchors = [receipt["binding"]["parent_span_id"] for receipt in payload["side_effect_receipts"]]
    assert sorted(anchors) == sorted(spans)
    assert payload["metadata"]["clawproxy"]["effects"] == 3
    assert payload["metadata"]["clawproxy"]["effects_unanchored"] == 1


def test_a_job_without_effects_says_nothing_of_them(tmp_path: Path) -> None:
    async def run() -> Bundle:
        shop = Workshop(tmp_path)
        grant = shop.create()
        await call(await shop.job(grant), grant)
        await shop.book.seal("job-1")
        await shop.end()
        return load_bundle(shop.jobs_dir / "job-1").files

    files = asyncio.run(run())
    assert b"effects" not in b"".join(files.values())
    assert verify_job(files, TRUST).verdict is Verdict.VERIFIED


# -- tampering ---------------------------------------------------------------------------------------------------------


def _assert_failed(files: Bundle) -> Report:
    report = verify_job(files, TRUST)
    assert report.verdict is Verdict.FAILED
    return report


def test_each_sampled_byte_change_of_an_effect_fails(bundle: Bundle) -> None:
    chance = random.Random(5)
    for n in _places(bundle, "effect"):
        for _ in range(150):
            lines = _lines(bundle)
            at = chance.randrange(len(lines[n]))
            lines[n] = lines[n][:at] + bytes([lines[n][at] ^ chance.choice((1, 2, 32))]) + lines[n][at + 1 :]
            _assert_failed({**bundle, "receipts.jsonl": b"".join(lines)})


@pytest.mark.parametrize("sealed", [True, False])
def test_an_effect_that_is_dropped_doubled_or_moved_fails(bundle: Bundle, unsealed: Bundle, sealed: bool) -> None:
    files = bundle if sealed else unsealed
    first, second = _places(files, "effect")[:2]
    lines = _lines(files)
    dropped = [*lines[:first], *lines[first + 1 :]]
    doubled = [*lines[:first], lines[first], *lines[first:]]
    swapped = list(lines)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    for changed in (dropped, doubled, swapped):
        _assert_failed({**files, "receipts.jsonl": b"".join(changed)})


def test_an_effect_left_out_of_the_proof_bundle_fails(bundle: Bundle) -> None:
    envelope = orjson.loads(bundle["proof_bundle.json"])
    envelope["payload"]["side_effect_receipts"].pop()
    _assert_failed({**bundle, "proof_bundle.json": jcs_bytes(envelope)})


def _resigned(files: Bundle, change: Callable[[list[JsonObject]], None]) -> Bundle:
    """The journal with ``change`` made to its records, every place, hash and signature made right again."""
    records: list[JsonObject] = [orjson.loads(line) for line in _lines(files)]
    change(records)
    lines, prev = [], sha256_b64u(files["job.json"])
    for seq, record in enumerate(records):
        payload = copy.deepcopy(record["body"]["payload"])
        place = payload["metadata"]["clawproxy"] if record["t"] == "receipt" else payload
        place |= {"seq": seq, "prev_b64u": prev}
        made = build_record(record["t"], payload, RECEIPT_KEY, seq=seq, prev_b64u=prev, timestamp=payload["timestamp"])
        lines.append(made.line)
        prev = made.h_b64u
    return {**files, "receipts.jsonl": b"".join(lines)}


def test_a_journal_that_is_signed_again_unchanged_holds(unsealed: Bundle) -> None:
    report = verify_job(_resigned(unsealed, lambda records: None), TRUST)
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_SEALED")


_INTENT_SAYS = ("credential", "host", "method", "port", "presenter", "request_bytes", "scheme", "way_in")
_OTHER: dict[str, Any] = {"scheme": "http", "port": 8443, "request_bytes": 8}


@pytest.mark.parametrize("member", _INTENT_SAYS)
def test_an_effect_that_says_other_than_its_intent_fails(unsealed: Bundle, member: str) -> None:
    last = _places(unsealed, "effect")[-1]

    def change(records: list[JsonObject]) -> None:
        records[last]["body"]["payload"][member] = _OTHER.get(member, "other")

    report = _assert_failed(_resigned(unsealed, change))
    assert (report.findings[0].rule, report.reason) == ("J43", "EVIDENCE_MISMATCH")


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("agent_did",), "did:key:zOther", "J43"),
        (("request_hash_b64u",), sha256_b64u(b"other"), "J43"),
        (("target_hash_b64u",), sha256_b64u(b"other"), "J43"),
        (("binding", "event_hash_b64u"), sha256_b64u(b"other"), "J43"),
        (("binding", "policy_hash"), sha256_b64u(b"other"), "J43"),
        (("binding", "run_id"), "run_other", "J43"),
        (("binding", "nonce"), "other", "J43"),
        (("binding", "span_id"), "span_other", "J43"),
        (("binding", "parent_span_id"), "span_other", "J43"),
        (("effect_class",), "filesystem_write", "J25"),
        (("receipt_id",), f"rcpt_{uuid.UUID(int=7, version=4)}", "J36"),
    ],
)
def test_a_side_effect_receipt_that_is_not_its_intents_fails(
    unsealed: Bundle, path: tuple[str, ...], value: str, rule: str
) -> None:
    last = _places(unsealed, "effect")[-1]

    def change(records: list[JsonObject]) -> None:
        owner = records[last]["body"]["payload"]["side_effect"]
        for name in path[:-1]:
            owner = owner[name]
        owner[path[-1]] = value

    assert _assert_failed(_resigned(unsealed, change)).findings[0].rule == rule


def test_an_effect_hung_on_another_call_or_on_none_fails(unsealed: Bundle) -> None:
    first, _, last = _places(unsealed, "effect")
    span = orjson.loads(_lines(unsealed)[_places(unsealed, "receipt")[0]])["body"]["payload"]["binding"]["span_id"]

    def bind(n: int, to: str | None) -> Callable[[list[JsonObject]], None]:
        def change(records: list[JsonObject]) -> None:
            binding = records[n]["body"]["payload"]["side_effect"]["binding"]
            binding.pop("parent_span_id", None)
            binding |= {} if to is None else {"parent_span_id": to}

        return change

    for n, to in ((first, span), (last, span), (last, None)):
        report = _assert_failed(_resigned(unsealed, bind(n, to)))
        assert (report.findings[0].rule, report.reason) == ("J43", "CAUSAL_REFERENCE_DANGLING")


def test_two_ends_of_one_intent_fail_also_when_signed_again(unsealed: Bundle) -> None:
    n = _places(unsealed, "effect")[0]
    report = _assert_failed(_resigned(unsealed, lambda records: records.insert(n, copy.deepcopy(records[n]))))
    assert report.reason == "RECEIPT_UNMATCHED"


# -- crashes and limits ------------------------------------------------------------------------------------------------


async def test_an_effect_that_was_open_in_a_crash_is_a_gap_and_later_ones_go_on(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grant = shop.create()
    job = await shop.job(grant)
    await call(job, grant)
    await job.intend(effect_start(grant))
    await shop.reopen()
    job = await shop.job(grant)
    payload = await effect(job, grant)
    assert "parent_span_id" in payload["side_effect"]["binding"]  # recovery knows the spans again
    assert job.counts == {"calls": 3, "denials": 0, "effects": 2, "events": 5, "gaps": 1, "receipts": 2, "segments": 1}
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN")
    await shop.end()


async def test_a_cancelled_intent_is_attested_as_not_sent(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grant = shop.create()
    job = await shop.job(grant)
    task = asyncio.ensure_future(job.intend(effect_start(grant)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED
    outcomes = [record["body"]["payload"]["outcome"] for record in shop.records() if record["t"] == "effect"]
    assert outcomes == ["fault"]
    await shop.end()


async def test_a_call_of_one_kind_has_no_end_of_the_other(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grant = shop.create()
    job = await shop.job(grant)
    with pytest.raises(ClawproxyError):
        await job.attest(await job.intend(effect_start(grant)), make_end())
    with pytest.raises(ClawproxyError):
        await job.attest(await job.intend(make_start(grant)), effect_end())
    await shop.end()


async def test_a_segment_rolls_with_effects_in_it_and_anchors_begin_anew(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grant = shop.create()
    job = await shop.job(grant)
    await call(job, grant)
    for _ in range(90):
        await asyncio.gather(*(effect(job, grant) for _ in range(10)))
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    assert (report.counts["segments"], report.counts["effects"]) == (2, 900)
    files = load_bundle(shop.jobs_dir / "job-1").files
    first = orjson.loads(files["proof_bundle.json"])["payload"]
    second = orjson.loads(files["proof_bundle.0002.json"])["payload"]
    assert len(first["side_effect_receipts"]) == 899
    assert "side_effect_receipts" not in second
    assert second["metadata"]["clawproxy"]["effects_unanchored"] == 1
    await shop.end()
