"""The desk where people are asked: what counts as an answer, what does not, and what the journal says afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from clawproxy.addons.approvals import MAX_TEXT_CHARS, ApprovalDesk, AskedApproval, Decision, DeskLimits, Verdict
from clawproxy.addons.approvers import Approvers
from clawproxy.addons.call import Call
from clawproxy.policies.approval_rules import ApprovalRules, JobApproval
from clawproxy.policies.policy import Policy, Shape
from clawproxy.receipts.approvals import ApprovalType, Scope, read_scope, sign_approval
from clawproxy.receipts.job import Job, JobLimits
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.envelope import build_envelope
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.reasons import Refusal

from ..receipts.workshop import ISSUER, POLICY_HASH, POLICY_KEY, RECEIPT_KEY, Workshop, make_end, make_start
from ..waiting import PATIENCE_S

ANNA = SigningKey.from_seed(Role.APPROVAL, b"anna".ljust(32, b"."))
BEN = SigningKey.from_seed(Role.APPROVAL, b"ben".ljust(32, b"."))
STRANGER = SigningKey.from_seed(Role.APPROVAL, b"nobody".ljust(32, b"."))
APPROVERS = Approvers({"Ops": frozenset({ANNA.did}), "Finance": frozenset({BEN.did})}, frozenset({ANNA.did, BEN.did}))
DIGEST = sha256_b64u(b'{"to":"a"}')


def asked(**over: Any) -> AskedApproval:
    said = AskedApproval("mail.send", "send_mail", DIGEST, '{"to":"a"}', "Ops", 60.0)
    return dataclasses.replace(said, **over)


def a_policy(group: str | None = "Ops", *, job: bool = True) -> Policy:
    rules = ApprovalRules(job=JobApproval(group)) if job else ApprovalRules()
    return Policy(POLICY_HASH, Shape.CLAW, "workshop", None, None, None, approvals=rules)


class Bench:
    """A desk over a real journal, with calls whose intents are durable."""

    def __init__(self, root: Path, **limits: int) -> None:
        self.shop = Workshop(root)
        self.desk = self.make_desk(APPROVERS, **limits)
        self.grants: dict[str, Grant] = {}

    def make_desk(self, approvers: Approvers = APPROVERS, **limits: int) -> ApprovalDesk:
        return ApprovalDesk(approvers, RECEIPT_KEY, self.shop.clock, DeskLimits(**limits))

    async def job(self, job_id: str = "job-1") -> Job:
        if job_id not in self.grants:
            self.grants[job_id] = self.shop.create(job_id)
        return await self.shop.job(self.grants[job_id])

    async def call(self, job_id: str = "job-1") -> Call:
        job = await self.job(job_id)
        call = Call(cast("Any", None), "reverse", "uid:1000", self.shop.clock())
        call.job, call.policy = job, a_policy(job=False)
        call.intended = await job.intend(make_start(self.grants[job_id], receipt_id=call.receipt_id))
        return call

    async def waiting(self, number: int = 1) -> list[Scope]:
        """The questions about calls, once there are so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(pending := self.desk.listed()["pending"]) < number:  # noqa: ASYNC110
                await asyncio.sleep(0)  # the desk has no event for it, and needs none
        return [read_scope(row["scope"]) for row in pending]

    def sign(
        self, scope: Scope, kind: ApprovalType = ApprovalType.APPROVE, key: SigningKey = ANNA, **how: Any
    ) -> JsonObject:
        return sign_approval(scope, kind, key, how.pop("now_ms", self.shop.clock()), **how)

    def notes(self, job_id: str = "job-1") -> list[JsonObject]:
        """What the journal says of approvals, on the disk now."""
        payloads = [line["body"]["payload"] for line in self.shop.records(job_id) if line["t"] == "event"]
        return [payload["detail"] for payload in payloads if payload["event"]["event_type"] == "approval"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.shop.end()


async def refused(bench: Bench, envelope: object, reason: str) -> None:
    """The answer is not taken, and the question stays open."""
    before = len(bench.desk.listed()["pending"])
    with pytest.raises(ClawproxyError) as caught:
        await bench.desk.answer(envelope)
    assert caught.value.reason == reason
    assert len(bench.desk.listed()["pending"]) == before
    assert bench.notes() == []


# -- yes, no, nobody --------------------------------------------------------------------------------------------------


async def test_a_grant_lets_the_call_go_on_and_is_on_the_disk_before_it_does(bench: Bench) -> None:
    call = await bench.call()
    task = asyncio.create_task(bench.desk.ask(call, asked()))
    (scope,) = await bench.waiting()
    assert (scope.tool, scope.action, scope.arguments_hash_b64u, scope.call) == (
        "send_mail",
        "mail.send",
        DIGEST,
        call.receipt_id,
    )
    on_disk: list[int] = []
    task.add_done_callback(lambda _: on_disk.append(len(bench.notes())))
    envelope = bench.sign(scope)
    answer = await bench.desk.answer(envelope)
    decision = await task
    await asyncio.sleep(0)
    assert decision == Decision(Verdict.GRANTED, "an approver said yes", scope.approval_id)
    assert answer == {"approval_id": scope.approval_id, "job_id": "job-1", "decision": "granted"}
    assert on_disk == [1]
    assert bench.notes() == [{"approval": envelope, "scope": scope.to_json()}]
    assert bench.desk.listed()["pending"] == []


async def test_a_denial_says_no_with_the_approvers_reason(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    await bench.desk.answer(bench.sign(scope, ApprovalType.DENY, reason="ask finance first"))
    decision = await task
    assert (decision.verdict, decision.reason) == (Verdict.DENIED, "APPROVAL_DENIED")
    assert decision.detail == "an approver said no: ask finance first"
    assert bench.notes()[0]["approval"]["payload"]["approval_type"] == "explicit_deny"


async def test_nobody_answers_and_that_is_a_no_which_the_gateway_signs(bench: Bench) -> None:
    decision = await bench.desk.ask(await bench.call(), asked(deadline_s=0.05))
    assert (decision.verdict, decision.reason) == (Verdict.TIMED_OUT, "APPROVAL_TIMEOUT")
    (note,) = bench.notes()
    assert note["approval"]["signer_did"] == RECEIPT_KEY.did
    assert note["approval"]["payload"]["approval_type"] == "timeout_deny"
    assert note["approval"]["payload"]["receipt_id"] == decision.approval_id


async def test_an_answer_after_the_deadline_is_refused(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked(deadline_s=0.05)))
    (scope,) = await bench.waiting()
    await task
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))
    assert len(bench.notes()) == 1


async def test_a_second_answer_is_refused_also_while_the_first_is_being_written(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    first = asyncio.create_task(bench.desk.answer(bench.sign(scope, ApprovalType.DENY)))
    await asyncio.sleep(0)  # it is on its way to the disk
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))
    await first
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))
    assert (await task).verdict is Verdict.DENIED
    assert len(bench.notes()) == 1


# -- whose word counts ------------------------------------------------------------------------------------------------


def _keys(bench: Bench) -> dict[str, SigningKey]:
    from clawproxy.receipts.job_paths import job_key_path
    from clawproxy.tokens.keys import load_key

    return {
        "another group's approver": BEN,
        "a stranger": STRANGER,
        "the job's own key": load_key(job_key_path(bench.shop.keys_dir, "job-1"), Role.JOB),
        "the token issuer": ISSUER,
        "the reviewer": POLICY_KEY,
        "the gateway": RECEIPT_KEY,
    }


@pytest.mark.parametrize(
    "who",
    ["another group's approver", "a stranger", "the job's own key", "the token issuer", "the reviewer", "the gateway"],
)
async def test_only_an_approver_of_the_group_can_grant(bench: Bench, who: str) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    await refused(bench, bench.sign(scope, key=_keys(bench)[who]), "APPROVER_NOT_TRUSTED")
    await bench.desk.answer(bench.sign(scope))
    assert (await task).granted


async def test_a_jobs_own_key_never_counts_whatever_the_configuration_says(bench: Bench) -> None:
    call = await bench.call()
    own = _keys(bench)["the job's own key"]
    everyone = frozenset({own.did, ANNA.did, RECEIPT_KEY.did})
    bench.desk = bench.make_desk(Approvers({"Ops": everyone}, everyone))
    task = asyncio.create_task(bench.desk.ask(call, asked()))
    (scope,) = await bench.waiting()
    await refused(bench, bench.sign(scope, key=own), "APPROVER_NOT_TRUSTED")
    await refused(bench, bench.sign(scope, key=RECEIPT_KEY), "APPROVER_NOT_TRUSTED")
    task.cancel()


async def test_an_envelope_that_names_an_approver_without_their_signature_is_refused(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    forged = {**bench.sign(scope, key=STRANGER), "signer_did": ANNA.did}
    await refused(bench, forged, "SIGNATURE_INVALID")
    edited = bench.sign(scope, ApprovalType.DENY)
    edited["payload"] = {**edited["payload"], "approval_type": "explicit_approve"}
    await refused(bench, edited, "HASH_MISMATCH")
    task.cancel()


@pytest.mark.parametrize("envelope", [None, [], "yes", {}, {"payload": []}, {"payload": {"receipt_id": ["x"]}}])
async def test_what_is_no_envelope_is_no_answer(bench: Bench, envelope: object) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    await bench.waiting()
    await refused(bench, envelope, "APPROVAL_NOT_FOUND")
    task.cancel()


async def test_a_group_without_keys_asks_nobody(bench: Bench) -> None:
    decision = await bench.desk.ask(await bench.call(), asked(group="Nobody", deadline_s=3600))
    assert (decision.verdict, decision.approval_id) == (Verdict.DENIED, "")
    assert "Nobody" in decision.detail


async def test_without_a_group_any_approver_may_answer(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked(group=None)))
    (scope,) = await bench.waiting()
    await refused(bench, bench.sign(scope, key=STRANGER), "APPROVER_NOT_TRUSTED")
    await bench.desk.answer(bench.sign(scope, key=BEN))
    assert (await task).granted


# -- what it counts for -----------------------------------------------------------------------------------------------


_OTHERS: dict[str, Any] = {
    "arguments_hash_b64u": sha256_b64u(b"other"),
    "tool": "send_money",
    "action": "money.send",
    "job_id": "job-2",
    "incarnation": "0" * 32,
    "call": "rcpt_00000000-0000-4000-8000-000000000000",
    "event_hash_b64u": sha256_b64u(b"other"),
    "nonce": "0" * 32,
    "policy_hash_b64u": sha256_b64u(b"other"),
    "agent_did": STRANGER.did,
    "run_id": "run_other::0001",
    "group": None,
    "answer_by": "2999-01-01T00:00:00.000Z",
    "asked_at": "2000-01-01T00:00:00.000Z",
}


@pytest.mark.parametrize("member", _OTHERS)
async def test_a_grant_for_anything_else_is_refused(bench: Bench, member: str) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    other = dataclasses.replace(scope, **{member: _OTHERS[member]})
    await refused(bench, bench.sign(other), "APPROVAL_INVALID")
    task.cancel()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("approval_type", "auto_approve"),
        ("approval_type", "timeout_deny"),
        ("approver_subject", BEN.did),
        ("scope_summary", "two\nlines"),
        ("scope_summary", "x" * 513),
        ("timestamp", "2030-03-17T17:46:40Z"),
        ("more", "x"),
    ],
)
async def test_an_answer_says_nothing_of_its_own(bench: Bench, member: str, value: str) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    good = bench.sign(scope)
    bad = build_envelope("human_approval_receipt", {**good["payload"], member: value}, ANNA, good["issued_at"])
    await refused(bench, bad, "APPROVAL_INVALID")
    task.cancel()


async def test_a_grant_signed_an_hour_ago_is_refused(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    await refused(bench, bench.sign(scope, now_ms=bench.shop.clock() - 3_600_000), "APPROVAL_INVALID")
    task.cancel()


async def test_a_grant_is_worth_nothing_for_the_same_call_in_another_job(bench: Bench) -> None:
    first = asyncio.create_task(bench.desk.ask(await bench.call("job-1"), asked()))
    (scope,) = await bench.waiting()
    second = asyncio.create_task(bench.desk.ask(await bench.call("job-2"), asked()))
    other = next(each for each in await bench.waiting(2) if each.job_id == "job-2")
    envelope = bench.sign(scope)
    await bench.desk.answer(envelope)
    assert (await first).granted
    lifted = build_envelope(
        "human_approval_receipt",
        {**envelope["payload"], "receipt_id": other.approval_id},
        STRANGER,
        envelope["issued_at"],
    )
    for replay in (envelope, {**envelope, "payload": lifted["payload"]}, lifted):
        with pytest.raises(ClawproxyError):
            await bench.desk.answer(replay)
    assert not second.done()
    assert bench.notes("job-2") == []
    second.cancel()


# -- the agent leaves, asks too much, or the gateway ends -------------------------------------------------------------


async def test_a_question_goes_with_the_agent_that_leaves(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.desk.listed()["pending"] == []
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))
    assert bench.notes() == []


async def test_an_answer_that_was_given_is_recorded_though_the_agent_leaves_meanwhile(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    answering = asyncio.create_task(bench.desk.answer(bench.sign(scope)))
    await asyncio.sleep(0)
    task.cancel()
    await answering
    assert len(bench.notes()) == 1


async def test_a_flood_of_questions_is_bounded_for_each_job_and_in_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path, per_job=3, in_all=5)
    calls = [await bench.call("job-1") for _ in range(6)] + [await bench.call("job-2") for _ in range(4)]
    tasks = [asyncio.create_task(bench.desk.ask(call, asked())) for call in calls]
    scopes = await bench.waiting(5)
    assert [scope.job_id for scope in scopes] == ["job-1"] * 3 + ["job-2"] * 2
    done = [task.result() for task in tasks if task.done()]
    assert len(done) == 5
    assert {(decision.verdict, decision.detail) for decision in done} == {
        (Verdict.DENIED, "too many questions are open")
    }
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bench.desk.listed()["pending"] == []
    await bench.shop.end()


async def test_a_job_that_asks_all_the_time_is_denied_without_asking_anybody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, per_minute=2)
    for _ in range(2):
        assert (await bench.desk.ask(await bench.call(), asked(deadline_s=0.01))).verdict is Verdict.TIMED_OUT
    decision = await bench.desk.ask(await bench.call(), asked())
    assert (decision.verdict, decision.approval_id) == (Verdict.DENIED, "")
    assert len(bench.notes()) == 2
    await bench.shop.end()


async def test_of_long_arguments_the_person_gets_the_beginning_and_is_told(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked(arguments_text="x" * 100_000)))
    await bench.waiting()
    (row,) = bench.desk.listed()["pending"]
    assert (row["arguments"], row["arguments_whole"]) == ("x" * MAX_TEXT_CHARS, False)
    task.cancel()


async def test_arguments_are_in_no_record(bench: Bench) -> None:
    await bench.desk.ask(await bench.call(), asked(arguments_text="a very secret word", deadline_s=0.01))
    assert "secret" not in str(bench.shop.records())


async def test_the_end_of_the_gateway_is_a_no(bench: Bench) -> None:
    task = asyncio.create_task(bench.desk.ask(await bench.call(), asked()))
    (scope,) = await bench.waiting()
    bench.desk.close()
    assert (await task).verdict is Verdict.DENIED
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))
    assert (await bench.desk.ask(await bench.call(), asked())).verdict is Verdict.DENIED


async def test_a_grant_that_cannot_be_recorded_is_a_no(bench: Bench) -> None:
    call = await bench.call()
    task = asyncio.create_task(bench.desk.ask(call, asked()))
    (scope,) = await bench.waiting()
    assert call.job is not None
    await call.job.stop(Refusal("JOB_SEALED", "test"))
    with pytest.raises(ClawproxyError):
        await bench.desk.answer(bench.sign(scope))
    assert await task == Decision(Verdict.DENIED, "the answer could not be recorded")


async def test_a_deadline_that_cannot_be_recorded_is_a_no_all_the_same(bench: Bench) -> None:
    call = await bench.call()
    task = asyncio.create_task(bench.desk.ask(call, asked(deadline_s=0.05)))
    await bench.waiting()
    assert call.job is not None
    await call.job.stop(Refusal("JOB_SEALED", "test"))
    assert (await task).verdict is Verdict.TIMED_OUT


# -- whole jobs -------------------------------------------------------------------------------------------------------


async def test_a_job_waits_for_its_approval_and_takes_calls_from_then_on(bench: Bench) -> None:
    job, policy = await bench.job(), a_policy()
    refusal = bench.desk.job_refusal(job, policy)
    assert refusal is not None
    assert (refusal.reason, refusal.step, refusal.status) == ("APPROVAL_REQUIRED", "pin", 403)
    assert "approve grant --job" in refusal.remedy
    assert [row["job_id"] for row in bench.desk.listed()["jobs"]] == ["job-1"]
    scope = read_scope(bench.desk.question_about(job, policy)["scope"])
    for key in (BEN, *_keys(bench).values()):
        await refused(bench, bench.sign(scope, key=key), "APPROVER_NOT_TRUSTED")
    await bench.desk.answer(bench.sign(scope))
    assert bench.desk.job_refusal(job, policy) is None
    assert bench.desk.listed() == {"pending": [], "jobs": []}
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
        await bench.desk.answer(bench.sign(scope))


async def test_a_jobs_approval_survives_a_restart_and_ends_with_its_approver(bench: Bench) -> None:
    policy = a_policy()
    scope = read_scope(bench.desk.question_about(await bench.job(), policy)["scope"])
    open_still = read_scope(bench.desk.question_about(await bench.job(), policy)["scope"])
    await bench.desk.answer(bench.sign(scope))
    await bench.shop.reopen()
    bench.desk = bench.make_desk()
    job = await bench.job()
    assert bench.desk.job_refusal(job, policy) is None
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):  # a question ends with its gateway
        await bench.desk.answer(bench.sign(open_still))
    bench.desk = bench.make_desk(Approvers({"Ops": frozenset({BEN.did})}, frozenset({BEN.did})))
    refusal = bench.desk.job_refusal(job, policy)
    assert refusal is not None
    assert "may not approve any more" in refusal.detail


async def test_a_no_after_a_yes_ends_what_the_job_may_do(bench: Bench) -> None:
    job, policy = await bench.job(), a_policy()
    for kind, allowed in ((ApprovalType.APPROVE, True), (ApprovalType.DENY, False), (ApprovalType.APPROVE, True)):
        scope = read_scope(bench.desk.question_about(job, policy)["scope"])
        await bench.desk.answer(bench.sign(scope, kind))
        assert (bench.desk.job_refusal(job, policy) is None) is allowed


async def test_the_approval_of_a_call_approves_no_job(bench: Bench) -> None:
    call = await bench.call()
    task = asyncio.create_task(bench.desk.ask(call, asked()))
    (scope,) = await bench.waiting()
    await bench.desk.answer(bench.sign(scope))
    assert (await task).granted
    assert call.job is not None
    assert bench.desk.job_refusal(call.job, a_policy()) is not None


async def test_a_contract_that_wants_no_approval_asks_for_none(bench: Bench) -> None:
    job, policy = await bench.job(), a_policy(job=False)
    assert bench.desk.job_refusal(job, policy) is None
    with pytest.raises(ClawproxyError, match="APPROVAL_NOT_NEEDED"):
        bench.desk.question_about(job, policy)


async def test_questions_about_jobs_are_bounded_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, in_all=2)
    job, policy = await bench.job(), a_policy()
    for _ in range(2):
        bench.desk.question_about(job, policy)
    with pytest.raises(ClawproxyError, match="no more questions"):
        bench.desk.question_about(job, policy)
    await bench.shop.end()


async def test_a_full_job_asks_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.shop.limits = JobLimits(reserve_bytes=0, records=2)
    bench.shop.book = bench.shop.make_book()
    call = await bench.call()
    assert (await bench.desk.ask(call, asked())).detail == "the job takes no more records"
    assert call.job is not None
    assert call.intended is not None
    await call.job.attest(call.intended, make_end())
    await bench.shop.end()
