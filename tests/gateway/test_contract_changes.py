"""A running job that is brought under another contract, end to end."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from clawproxy.policies.contract import sign_contract
from clawproxy.receipts.explain import explain
from clawproxy.receipts.job import Job
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.receipts.verify_wire import verify_wire_file
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.keys import Role, SigningKey

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, Bed, chat_body, running_bed
from .raw_client import Answer

WIDE = {**CONTRACT, "allowed_models": ["gpt-4o-mini", "gpt-4o"]}
TIGHT = {**CONTRACT, "policy_name": "tightened", "allowed_models": ["gpt-4o-mini"]}


def add_contract(bed: Bed, document: dict[str, Any], key: SigningKey | None = None) -> str:
    """Sign a contract into the state directory; returns its hash."""
    envelope = sign_contract(document, key or bed.keys[Role.POLICY], "2026-01-01T00:00:00.000Z")
    (bed.state / "contracts" / f"{document['policy_name']}.json").write_bytes(jcs_bytes(envelope))
    return str(envelope["payload_hash_b64u"])


def token(bed: Bed, policy_hash: str, ago_s: int, **over: Any) -> str:
    return bed.token(policy_hash_b64u=policy_hash, now_s=int(time.time()) - ago_s, **over)


def reason(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["clawproxy"]["reason"]) if answer.status != 200 else "OK"


async def test_a_job_is_tightened_mid_way_and_its_bundle_verifies(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        wide, unseen, tight = (
            token(bed, bed.policy_hash, 60),
            token(bed, bed.policy_hash, 40),
            token(bed, tight_hash, 30),
        )
        assert (await bed.chat(token=wide, model="gpt-4o")).status == 200
        assert (await bed.chat(token=tight)).status == 200
        refused = await bed.chat(token=tight, model="gpt-4o")
        assert (refused.status, reason(refused)) == (403, "POLICY_MODEL_NOT_ALLOWED")
        for old in (wide, unseen):
            assert reason(await bed.chat(token=old)) == "POLICY_HASH_MISMATCH"
        await bed.settled()
        await bed.gateway.seal("job-1")
        directory = bed.state / "jobs" / "job-1"
        report = verify_path(directory, bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.facts["recomputed"]["whole"] == 2
        assert (directory / "contracts" / f"{tight_hash}.json").exists()
        receipts = bed.records("receipt")
        assert [r["binding"]["policy_hash"] for r in receipts] == [bed.policy_hash, tight_hash]
        files = load_directory(directory).files
        told = [explain(files, r["receipt_id"], bed.trust()) for r in receipts]
        assert [t.contract["policy_hash_b64u"] for t in told] == [bed.policy_hash, tight_hash]
        assert [t.decision["agrees"] for t in told] == [True, True]


async def test_an_issuer_or_reviewer_that_nobody_trusts_changes_nothing(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        stranger = SigningKey.generate(Role.POLICY)
        foreign_hash = add_contract(bed, {**TIGHT, "policy_name": "foreign"}, stranger)
        wide = token(bed, bed.policy_hash, 60)
        assert (await bed.chat(token=wide)).status == 200
        forged = await bed.chat(token=token(bed, tight_hash, 30, key=SigningKey.generate(Role.TOKEN)))
        assert forged.status in (401, 403)
        assert reason(forged).startswith("TOKEN_")
        foreign = await bed.chat(token=token(bed, foreign_hash, 30))
        assert foreign.status == 403
        assert not (bed.state / "jobs" / "job-1" / "contracts").exists()
        assert (await bed.chat(token=wide, model="gpt-4o")).status == 200


async def test_a_stream_that_was_let_out_before_goes_on_to_its_end(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        wide, tight = token(bed, bed.policy_hash, 60), token(bed, tight_hash, 30)
        body = chat_body("events:30 slow:100", model="gpt-4o", stream=True)
        stream = asyncio.create_task(bed.post("/openai/v1/chat/completions", body, bed.headers(wide)))
        await until(lambda: bed.records("intent"))
        assert (await bed.chat(token=tight)).status == 200
        assert not stream.done()
        answer = await stream
        assert answer.status == 200
        assert b"[DONE]" in answer.body
        await bed.settled()
        await bed.gateway.seal("job-1")
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings


async def test_a_handle_does_not_bring_the_contract_of_before_back(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        lease = await bed.gateway.lease(bed.policy_hash, "job-1")
        job_did = json.loads((bed.state / "jobs" / "job-1" / "job.json").read_bytes())["agent_did"]
        tight = token(bed, tight_hash, -20, sub=job_did)
        assert (await bed.chat(token=lease.handle)).status == 200
        assert (await bed.chat(token=tight)).status == 200
        lease._exp_s = 0
        now_s = int(time.time()) + 40
        lease.renew = lambda: (token(bed, bed.policy_hash, -40, sub=job_did), now_s + 600)
        assert reason(await bed.chat(token=lease.handle)) == "POLICY_HASH_MISMATCH"
        assert (await bed.chat(token=tight)).status == 200


async def test_without_the_rule_that_it_goes_forward_only_an_old_token_undoes_a_tightening(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard taken out: the job goes back, and a verifier sees it."""
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        wide, unseen, tight = (
            token(bed, bed.policy_hash, 60),
            token(bed, bed.policy_hash, 40),
            token(bed, tight_hash, 30),
        )
        for each in (wide, tight):
            assert (await bed.chat(token=each)).status == 200
        monkeypatch.setattr(Job, "change_refusal", lambda self, grant, policy_hash, presenter: None)
        assert (await bed.chat(token=unseen, model="gpt-4o")).status == 200
        await bed.settled()
        await bed.gateway.seal("job-1")
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert (report.verdict, report.reason) == (Verdict.FAILED, "EVIDENCE_MISMATCH")


async def test_what_was_used_stays_used_under_the_limits_of_the_contract_in_force(
    tmp_path: Path, provider: Provider
) -> None:
    wide = {**WIDE, "budgets": {"requests": 10, "per_contract": {"requests": 20}}}
    async with running_bed(tmp_path / "s", provider, contract=wide) as bed:
        tight = {**TIGHT, "budgets": {"requests": 3, "per_contract": {"requests": 20}}}
        tight_hash = add_contract(bed, tight)
        first, second = token(bed, bed.policy_hash, 60), token(bed, tight_hash, 30)
        for _ in range(2):
            assert (await bed.chat(token=first)).status == 200
        assert (await bed.chat(token=second)).status == 200
        assert reason(await bed.chat(token=second)) == "BUDGET_EXCEEDED"
        await bed.settled()
        states = [r["metadata"]["clawproxy"]["budget"] for r in bed.records("receipt")]
        assert [s["state"]["requests"]["limit"] for s in states] == [10, 10, 3]
        assert [s["state"]["requests"]["used"] for s in states] == [1, 2, 3]
        assert [s["per_contract"]["requests"]["used"] for s in states] == [1, 2, 1]
        await bed.gateway.seal("job-1")
        directory = bed.state / "jobs" / "job-1"
        report = verify_path(directory, bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings
        claims = [
            json.loads((directory / name).read_bytes())["payload"]["rate_limit_claims"][0]
            for name in ("proof_bundle.json", "proof_bundle.0002.json")
            if (directory / name).exists()
        ]
        assert [(c["max_requests"], c["observed_requests"]) for c in claims] in ([], [(10, 2), (3, 1)])


async def test_each_proof_bundle_of_a_changed_job_holds_by_itself(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=WIDE) as bed:
        tight_hash = add_contract(bed, TIGHT)
        lease = await bed.gateway.lease(bed.policy_hash, "job-1")
        job_did = json.loads((bed.state / "jobs" / "job-1" / "job.json").read_bytes())["agent_did"]
        assert (await bed.chat(token=lease.handle)).status == 200
        assert (await bed.chat(token=token(bed, tight_hash, -2, sub=job_did))).status == 200
        await bed.settled()
        await bed.gateway.seal("job-1")
        directory = bed.state / "jobs" / "job-1"
        report = verify_path(directory, bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings
        for name in ("proof_bundle.json", "proof_bundle.0002.json"):
            bundle = json.loads((directory / name).read_bytes())
            assert len(bundle["payload"]["receipts"]) == 1
            alone = verify_wire_file(bundle, bed.trust(), int(time.time() * 1000))
            assert alone.verdict is not Verdict.FAILED, alone.findings
