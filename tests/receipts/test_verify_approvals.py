"""Approvals in the evidence: signed by an approver, bound to one call, in the proof bundle, and hard to fake."""

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
from clawproxy.policies.contract import sign_contract
from clawproxy.receipts.approvals import (
    ApprovalType,
    Scope,
    approval_detail,
    approval_payload,
    read_scope,
    said_reason,
    sign_approval,
)
from clawproxy.receipts.calls import CalledOutcome, JudgedCall
from clawproxy.receipts.explain import explain
from clawproxy.receipts.job import Job
from clawproxy.receipts.records import build_record
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.scribe import Intended
from clawproxy.receipts.verify import load_bundle
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.envelope import build_envelope, timestamp
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

from .workshop import ISSUER, POLICY_KEY, RECEIPT_KEY, Workshop, make_denied, make_end, make_start, trust

Bundle = dict[str, bytes]
ANNA = SigningKey.from_seed(Role.APPROVAL, b"anna".ljust(32, b"."))
BEN = SigningKey.from_seed(Role.APPROVAL, b"ben".ljust(32, b"."))
ARGUMENTS = sha256_b64u(b'{"to":"a"}')
LISTED = build_trust(
    [
        *trust().keys,
        TrustedKey(ANNA.did, Role.APPROVAL, "Anna", ("Ops",)),
        TrustedKey(BEN.did, Role.APPROVAL, "Ben", ("Finance",)),
    ]
)


def signed(approvals: Any) -> JsonObject:
    document = {
        "policy_name": "workshop",
        "allowed_providers": ["openai"],
        "allowed_models": ["gpt-*"],
        "allowed_tools": ["mcp__tickets__read"],
        "approvals": approvals,
    }
    return sign_contract(document, POLICY_KEY, "2030-01-01T00:00:00.000Z")


ACTIONS = signed([{"action": "send_mail", "approver_group": "Ops", "deadline_s": 60}])
WHOLE = signed({"required": True, "approver_group": "Ops"})


class Stage:
    """A job whose approvals are written as the desk writes them."""

    def __init__(self, root: Path, contract: JsonObject) -> None:
        self.shop = Workshop(root, contract=contract)
        self.grant: Grant = self.shop.create()

    async def open(self) -> Job:
        self.job = await self.shop.job(self.grant)
        return self.job

    async def intend(self) -> Intended:
        return await self.job.intend(make_start(self.grant))

    def scope(self, intended: Intended | None = None, **over: Any) -> Scope:
        now_ms = self.shop.clock()
        about: dict[str, Any] = {"run_id": self.job.run_id}
        if intended is not None:
            about = {
                "run_id": intended.run_id,
                "call": intended.receipt_id,
                "event_hash_b64u": intended.event_hash_b64u,
                "action": "send_mail",
                "tool": "send_mail",
                "arguments_hash_b64u": ARGUMENTS,
            }
        scope = Scope(
            approval_id=f"apr_{uuid.uuid4()}",
            job_id="job-1",
            incarnation=self.job.facts.incarnation,
            agent_did=self.job.agent_did,
            policy_hash_b64u=self.job.policy_hash_b64u,
            group="Ops",
            nonce=uuid.uuid4().hex,
            asked_at=timestamp(now_ms),
            answer_by=timestamp(now_ms + 60_000),
            **about,
        )
        return dataclasses.replace(scope, **over)

    async def answer(
        self, scope: Scope, kind: ApprovalType = ApprovalType.APPROVE, key: SigningKey = ANNA, reason: str = ""
    ) -> None:
        envelope = sign_approval(scope, kind, key, self.shop.clock(), reason)
        await self.job.note("approval", approval_detail(scope, envelope))

    async def time_out(self, scope: Scope) -> None:
        at = timestamp(self.shop.clock())
        payload = approval_payload(scope, ApprovalType.TIMEOUT, RECEIPT_KEY.did, at)
        await self.job.note(
            "approval", approval_detail(scope, build_envelope("human_approval_receipt", payload, RECEIPT_KEY, at))
        )

    async def end(self, *, sealed: bool = True) -> Bundle:
        if sealed:
            await self.shop.book.seal("job-1")
        await self.shop.end()
        return load_bundle(self.shop.jobs_dir / "job-1").files


async def _calls(root: Path, *, sealed: bool) -> Bundle:
    """Three calls: one granted, one denied, one that nobody answered."""
    stage = Stage(root, ACTIONS)
    job = await stage.open()
    for kind in ApprovalType:
        intended = await stage.intend()
        scope = stage.scope(intended)
        await (stage.time_out(scope) if kind is ApprovalType.TIMEOUT else stage.answer(scope, kind))
        await job.attest(intended, make_end(tool_calls=()))
    return await stage.end(sealed=sealed)


async def _whole(root: Path, *kinds: ApprovalType, sealed: bool = True, reason: str = "") -> Bundle:
    """A job with these answers about it, each for this reason, then a call."""
    stage = Stage(root, WHOLE)
    job = await stage.open()
    for kind in kinds:
        await stage.answer(stage.scope(), kind, reason=reason)
    await job.attest(await stage.intend(), make_end())
    return await stage.end(sealed=sealed)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return asyncio.run(_calls(tmp_path_factory.mktemp("sealed"), sealed=True))


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return asyncio.run(_calls(tmp_path_factory.mktemp("unsealed"), sealed=False))


def _lines(files: Bundle) -> list[bytes]:
    return files["receipts.jsonl"].splitlines(keepends=True)


def _places(files: Bundle) -> list[int]:
    rows = [orjson.loads(line) for line in _lines(files)]
    return [n for n, row in enumerate(rows) if row["body"]["payload"].get("event", {}).get("event_type") == "approval"]


def _rule(report: Report) -> tuple[str, str]:
    return report.findings[0].rule, report.reason


# -- what holds -------------------------------------------------------------------------------------------------------


def test_a_sealed_job_carries_its_approvals_and_verifies(sealed: Bundle) -> None:
    report = verify_job(sealed, LISTED)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    payload = orjson.loads(sealed["proof_bundle.json"])["payload"]
    spans = {receipt["payload"]["binding"]["span_id"] for receipt in payload["receipts"]}
    approvals = payload["human_approval_receipts"]
    assert {item["approval_type"] for item in approvals} == {"explicit_approve", "explicit_deny", "timeout_deny"}
    assert {item["binding"]["parent_span_id"] for item in approvals} == spans
    ours = payload["metadata"]["clawproxy"]
    assert (ours["approvals"], ours["approvals_unanchored"]) == (3, 0)


def test_a_job_without_approvals_says_nothing_of_them(tmp_path: Path) -> None:
    async def run() -> Bundle:
        shop = Workshop(tmp_path)
        grant = shop.create()
        job = await shop.job(grant)
        await job.attest(await job.intend(make_start(grant)), make_end())
        await shop.book.seal("job-1")
        await shop.end()
        return load_bundle(shop.jobs_dir / "job-1").files

    files = asyncio.run(run())
    assert b"approval" not in files["proof_bundle.json"] + files["receipts.jsonl"]
    assert verify_job(files, trust()).verdict is Verdict.VERIFIED


def test_an_answer_that_comes_as_its_call_ends_is_not_taken_and_the_bundle_holds(tmp_path: Path) -> None:
    async def run() -> Bundle:
        stage = Stage(tmp_path, ACTIONS)
        job = await stage.open()
        intended = await stage.intend()
        scope = stage.scope(intended)
        await job.attest(intended, make_end(tool_calls=()))
        for late in (stage.answer(scope), stage.time_out(scope)):
            with pytest.raises(ClawproxyError, match="APPROVAL_NOT_FOUND"):
                await late
        return await stage.end()

    report = verify_job(asyncio.run(run()), LISTED)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())


@pytest.mark.parametrize("asked", [True, False])
def test_an_approval_for_a_declared_type_covers_what_the_answer_calls_otherwise(tmp_path: Path, asked: bool) -> None:
    document = {
        "policy_name": "workshop",
        "allowed_providers": ["openai"],
        "allowed_models": ["gpt-*"],
        "allowed_tools": ["any"],
        "approvals": [{"action": "desktop", "approver_group": "Ops", "deadline_s": 60}],
        "tool_classes": {"any": ["*"], "desktop": ["computer_use_preview"]},
    }

    async def run() -> Bundle:
        stage = Stage(tmp_path, sign_contract(document, POLICY_KEY, "2030-01-01T00:00:00.000Z"))
        job = await stage.open()
        intended = await job.intend(make_start(stage.grant, tools=("computer_use_preview",)))
        outcome, approval = CalledOutcome.ALLOWED, None
        if asked:
            scope = stage.scope(intended, action="desktop", tool="computer")
            await stage.answer(scope)
            outcome, approval = CalledOutcome.APPROVED, scope.approval_id
        called = JudgedCall("computer", ARGUMENTS, outcome, 'approvals["desktop"]', approval)
        await job.attest(intended, make_end(tool_calls=("computer",), called=(called,)))
        return await stage.end()

    report = verify_job(asyncio.run(run()), LISTED)
    expected = (Verdict.VERIFIED, "OK") if asked else (Verdict.FAILED, "APPROVAL_MISSING")
    assert (report.verdict, report.reason) == expected, report.findings


def test_the_approval_of_a_job_comes_before_any_receipt_and_stays_out_of_the_proof_bundle(tmp_path: Path) -> None:
    files = asyncio.run(_whole(tmp_path, ApprovalType.APPROVE))
    report = verify_job(files, LISTED)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    payload = orjson.loads(files["proof_bundle.json"])["payload"]
    assert "human_approval_receipts" not in payload
    ours = payload["metadata"]["clawproxy"]
    assert (ours["approvals"], ours["approvals_unanchored"]) == (1, 1)


def test_an_approval_whose_call_has_no_receipt_hangs_on_nothing(tmp_path: Path) -> None:
    async def run() -> Bundle:
        stage = Stage(tmp_path, ACTIONS)
        await stage.open()
        await stage.answer(stage.scope(await stage.intend()))
        await stage.shop.reopen()
        await stage.open()
        return await stage.end()

    files = asyncio.run(run())
    report = verify_job(files, LISTED)
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN")
    payload = orjson.loads(files["proof_bundle.json"])["payload"]
    assert "human_approval_receipts" not in payload
    assert payload["metadata"]["clawproxy"]["approvals_unanchored"] == 1


# -- whom the auditor trusts ------------------------------------------------------------------------------------------


def _with(*keys: TrustedKey) -> Trust:
    return build_trust([*trust().keys, *keys])


@pytest.mark.parametrize(
    ("listed", "verdict", "reason"),
    [
        (trust(), Verdict.INCOMPLETE, "TRUST_NOT_GIVEN"),
        (_with(TrustedKey(BEN.did, Role.APPROVAL, groups=("Ops",))), Verdict.FAILED, "CLAIM_NOT_FOUND"),
        (_with(TrustedKey(ANNA.did, Role.APPROVAL, groups=("Finance",))), Verdict.FAILED, "CLAIM_NOT_FOUND"),
        (_with(TrustedKey(ANNA.did, Role.APPROVAL)), Verdict.INCOMPLETE, "APPROVER_GROUP_UNKNOWN"),
        (_with(TrustedKey(ANNA.did, Role.APPROVAL, groups=("Finance", "Ops"))), Verdict.VERIFIED, ""),
    ],
)
def test_the_auditors_trust_file_says_who_may_approve(
    sealed: Bundle, listed: Trust, verdict: Verdict, reason: str
) -> None:
    report = verify_job(sealed, listed)
    assert report.verdict is verdict
    if reason:
        assert report.reason == reason


def test_an_approver_whom_the_auditor_knows_in_another_role_fails_the_job(sealed: Bundle) -> None:
    for role in (Role.TOKEN, Role.POLICY, Role.LOG):
        report = verify_job(sealed, _with(TrustedKey(ANNA.did, role)))
        assert (report.verdict, report.reason) == (Verdict.FAILED, "KEY_IN_TWO_ROLES")


# -- tampering --------------------------------------------------------------------------------------------------------


def test_each_sampled_byte_change_of_an_approval_fails(sealed: Bundle) -> None:
    chance = random.Random(7)
    for n in _places(sealed):
        for _ in range(60):
            lines = _lines(sealed)
            at = chance.randrange(len(lines[n]))
            lines[n] = lines[n][:at] + bytes([lines[n][at] ^ chance.choice((1, 2, 32))]) + lines[n][at + 1 :]
            assert verify_job({**sealed, "receipts.jsonl": b"".join(lines)}, LISTED).verdict is Verdict.FAILED


def test_an_approval_taken_out_of_or_added_to_the_proof_bundle_fails(sealed: Bundle) -> None:
    for number in (2, 4):
        envelope = orjson.loads(sealed["proof_bundle.json"])
        items = envelope["payload"]["human_approval_receipts"]
        envelope["payload"]["human_approval_receipts"] = [*items, items[0]][:number]
        assert verify_job({**sealed, "proof_bundle.json": jcs_bytes(envelope)}, LISTED).verdict is Verdict.FAILED


def _resigned(files: Bundle, change: Callable[[list[JsonObject]], None]) -> Bundle:
    """The journal with ``change`` made to its payloads, and all that the gateway's key can make right made right."""
    records: list[JsonObject] = [orjson.loads(line) for line in _lines(files)]
    payloads = [copy.deepcopy(record["body"]["payload"]) for record in records]
    change(payloads)
    lines, prev, event_hash = [], sha256_b64u(files["job.json"]), None
    renamed: dict[str, str] = {}
    from clawproxy.receipts.records import event_hash as hash_of

    for seq, (record, payload) in enumerate(zip(records, payloads, strict=True)):
        place = payload["metadata"]["clawproxy"] if record["t"] == "receipt" else payload
        place |= {"seq": seq, "prev_b64u": prev}
        if (event := payload.get("event")) is not None:
            before = event["event_hash_b64u"]
            event["payload_hash_b64u"] = sha256_b64u(jcs_bytes(payload["detail"]))
            event["prev_hash_b64u"] = event_hash
            event["event_hash_b64u"] = event_hash = hash_of(event)
            renamed[before] = event_hash
        elif record["t"] == "receipt":
            payload["binding"]["event_hash_b64u"] = renamed[payload["binding"]["event_hash_b64u"]]
        made = build_record(record["t"], payload, RECEIPT_KEY, seq=seq, prev_b64u=prev, timestamp=payload["timestamp"])
        lines.append(made.line)
        prev = made.h_b64u
    return {**files, "receipts.jsonl": b"".join(lines)}


def _changed(files: Bundle, nth: int, change: Callable[[JsonObject], None]) -> Report:
    """The verdict after ``change`` to the detail of the ``nth`` approval, everything around it made right."""
    at = _places(files)[nth]
    report = verify_job(_resigned(files, lambda payloads: change(payloads[at]["detail"])), LISTED)
    assert report.verdict is Verdict.FAILED
    return report


def test_a_journal_that_is_signed_again_unchanged_holds(unsealed: Bundle) -> None:
    report = verify_job(_resigned(unsealed, lambda payloads: None), LISTED)
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_SEALED")


def _answer_again(detail: JsonObject, key: SigningKey, kind: ApprovalType = ApprovalType.APPROVE, **over: Any) -> None:
    scope = dataclasses.replace(read_scope(detail["scope"]), **over)
    at = detail["approval"]["issued_at"]
    payload = approval_payload(scope, kind, key.did, at)
    detail |= approval_detail(scope, build_envelope("human_approval_receipt", payload, key, at))


@pytest.mark.parametrize(
    "key", [RECEIPT_KEY, ISSUER, POLICY_KEY, BEN], ids=["gateway", "issuer", "reviewer", "other group"]
)
def test_the_gateway_cannot_make_up_a_grant(unsealed: Bundle, key: SigningKey) -> None:
    report = _changed(unsealed, 1, lambda detail: _answer_again(detail, key))
    assert _rule(report) in {("J44", "KEY_IN_TWO_ROLES"), ("J44", "CLAIM_NOT_FOUND")}


def test_a_denial_cannot_be_turned_into_a_grant(unsealed: Bundle) -> None:
    def edit(detail: JsonObject) -> None:
        detail["approval"]["payload"]["approval_type"] = "explicit_approve"

    def edit_and_hash(detail: JsonObject) -> None:
        edit(detail)
        detail["approval"]["payload_hash_b64u"] = sha256_b64u(jcs_bytes(detail["approval"]["payload"]))

    assert _rule(_changed(unsealed, 1, edit)) == ("J44", "HASH_MISMATCH")
    assert _rule(_changed(unsealed, 1, edit_and_hash)) == ("J44", "SIGNATURE_INVALID")


_OTHERS: dict[str, tuple[Any, str]] = {
    "arguments_hash_b64u": (sha256_b64u(b"other"), "HASH_MISMATCH"),
    "tool": ("send_mail2", "EVIDENCE_MISMATCH"),
    "action": ("other", "EVIDENCE_MISMATCH"),
    "group": ("Finance", "EVIDENCE_MISMATCH"),
    "job_id": ("job-2", "EVIDENCE_MISMATCH"),
    "incarnation": ("0" * 32, "EVIDENCE_MISMATCH"),
    "agent_did": ("did:key:zOther", "EVIDENCE_MISMATCH"),
    "policy_hash_b64u": (sha256_b64u(b"other"), "EVIDENCE_MISMATCH"),
    "call": (f"rcpt_{uuid.UUID(int=7, version=4)}", "RECEIPT_UNMATCHED"),
    "event_hash_b64u": (sha256_b64u(b"other"), "RECEIPT_BINDING_MISMATCH"),
    "run_id": ("run_other::0001", "RECEIPT_BINDING_MISMATCH"),
    "nonce": ("0" * 32, "HASH_MISMATCH"),
    "approval_id": (f"apr_{uuid.UUID(int=7, version=4)}", "HASH_MISMATCH"),
    "answer_by": ("2999-01-01T00:00:00.000Z", "EVIDENCE_MISMATCH"),
    "asked_at": ("2000-01-01T00:00:00.000Z", "EVIDENCE_MISMATCH"),
}


@pytest.mark.parametrize("member", _OTHERS)
def test_a_question_that_is_changed_after_its_answer_fails(unsealed: Bundle, member: str) -> None:
    value, reason = _OTHERS[member]
    report = _changed(unsealed, 0, lambda detail: detail["scope"].update({member: value}))
    assert _rule(report) == ("J44", reason)


@pytest.mark.parametrize(
    "member", [name for name in _OTHERS if name not in ("arguments_hash_b64u", "nonce", "approval_id")]
)
def test_an_approvers_own_signature_over_another_question_fails(unsealed: Bundle, member: str) -> None:
    value, reason = _OTHERS[member]
    report = _changed(unsealed, 0, lambda detail: _answer_again(detail, ANNA, **{member: value}))
    assert _rule(report) == ("J44", reason)


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("agent_did", "did:key:zOther", "EVIDENCE_MISMATCH"),
        ("approver_subject", BEN.did, "EVIDENCE_MISMATCH"),
        ("policy_hash_b64u", sha256_b64u(b"other"), "EVIDENCE_MISMATCH"),
        ("receipt_id", f"apr_{uuid.UUID(int=7, version=4)}", "EVIDENCE_MISMATCH"),
        ("timestamp", "2030-01-01T00:00:00.000Z", "EVIDENCE_MISMATCH"),
        ("binding", {"nonce": "0" * 32, "policy_hash": sha256_b64u(b"x"), "run_id": "r"}, "RECEIPT_BINDING_MISMATCH"),
        ("approval_type", "auto_approve", "SCHEMA_VALIDATION_FAILED"),
        ("more", "x", "SCHEMA_VALIDATION_FAILED"),
    ],
)
def test_an_answer_that_says_something_of_its_own_fails(unsealed: Bundle, member: str, value: Any, reason: str) -> None:
    def change(detail: JsonObject) -> None:
        payload = {**detail["approval"]["payload"], member: value}
        detail["approval"] = build_envelope("human_approval_receipt", payload, ANNA, detail["approval"]["issued_at"])

    assert _rule(_changed(unsealed, 0, change)) == ("J44", reason)


def test_nobody_but_the_gateway_says_that_nobody_answered(unsealed: Bundle) -> None:
    report = _changed(unsealed, 2, lambda detail: _answer_again(detail, ANNA, ApprovalType.TIMEOUT))
    assert _rule(report) == ("J44", "CLAIM_NOT_FOUND")


def test_an_answer_long_after_its_deadline_fails(unsealed: Bundle) -> None:
    def change(detail: JsonObject) -> None:
        asked = read_scope(detail["scope"])
        _answer_again(detail, ANNA, asked_at="2000-01-01T00:00:00.000Z", answer_by="2000-01-01T00:00:05.000Z")
        assert asked.answer_by > "2000"

    assert _rule(_changed(unsealed, 0, change)) == ("J44", "APPROVAL_TOO_LATE")


def test_an_answer_counts_once(unsealed: Bundle) -> None:
    """The same nonce, or the same id, for a second question."""
    first = orjson.loads(_lines(unsealed)[_places(unsealed)[0]])["body"]["payload"]["detail"]["scope"]
    for member in ("nonce", "approval_id"):

        def change(detail: JsonObject, name: str = member) -> None:
            _answer_again(detail, ANNA, **{name: first[name]})

        assert _rule(_changed(unsealed, 1, change)) == ("J44", "RECEIPT_DUPLICATE")


def test_an_approval_after_its_calls_receipt_fails(tmp_path: Path) -> None:
    async def run() -> Bundle:
        stage = Stage(tmp_path, ACTIONS)
        job = await stage.open()
        intended = await stage.intend()
        scope = stage.scope(intended)
        await job.attest(intended, make_end())
        envelope = sign_approval(scope, ApprovalType.APPROVE, ANNA, stage.shop.clock())
        await job._queue_event("approval", approval_detail(scope, envelope))  # a job takes no such answer
        return await stage.end()

    assert _rule(verify_job(asyncio.run(run()), LISTED)) == ("J44", "RECEIPT_UNMATCHED")


@pytest.mark.parametrize("contract", [WHOLE, signed([])], ids=["for the job alone", "for nothing"])
def test_an_approval_that_the_contract_does_not_ask_for_fails(tmp_path: Path, contract: JsonObject) -> None:
    async def run() -> Bundle:
        stage = Stage(tmp_path, contract)
        job = await stage.open()
        if contract is WHOLE:
            await stage.answer(stage.scope())
        intended = await stage.intend()
        await stage.answer(stage.scope(intended))
        await job.attest(intended, make_end())
        return await stage.end()

    assert _rule(verify_job(asyncio.run(run()), LISTED)) == ("J44", "EVIDENCE_MISMATCH")


# -- what needed one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds",
    [(), (ApprovalType.DENY,), (ApprovalType.APPROVE, ApprovalType.DENY)],
    ids=["none", "denied", "taken back"],
)
def test_a_call_of_a_job_that_nobody_approved_fails(tmp_path: Path, kinds: tuple[ApprovalType, ...]) -> None:
    assert _rule(verify_job(asyncio.run(_whole(tmp_path, *kinds)), LISTED)) == ("J45", "APPROVAL_MISSING")


def _judged(scope: Scope | None, **over: Any) -> JudgedCall:
    approval = None if scope is None else scope.approval_id
    judged = JudgedCall("send_mail", ARGUMENTS, CalledOutcome.APPROVED, 'approvals["send_mail"]', approval)
    return dataclasses.replace(judged, **over)


async def _passed_on(root: Path, *, answered: bool, twice: bool = False, **over: Any) -> Bundle:
    """A call whose receipt says that it passed on a call of the tool, as an approved one unless ``over`` says else."""
    stage = Stage(root, ACTIONS)
    job = await stage.open()
    scope = None
    for _ in range(2 if twice else 1):
        intended = await stage.intend()
        if answered and scope is None:
            scope = stage.scope(intended)
            await stage.answer(scope)
        await job.attest(intended, make_end(tool_calls=("send_mail",), called=(_judged(scope, **over),)))
    return await stage.end()


def test_a_call_that_was_passed_on_with_its_approval_holds(tmp_path: Path) -> None:
    report = verify_job(asyncio.run(_passed_on(tmp_path, answered=True)), LISTED)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())


@pytest.mark.parametrize(
    ("answered", "over"),
    [
        (False, {}),
        (False, {"outcome": CalledOutcome.ALLOWED}),
        (False, {"approval": f"apr_{uuid.UUID(int=7, version=4)}"}),
        (True, {"arguments_hash_b64u": sha256_b64u(b"other")}),
        (True, {"name": "send_money"}),
        (True, {"name": "send"}),
        (True, {"outcome": CalledOutcome.ALLOWED, "approval": None}),
    ],
    ids=[
        "no approval",
        "simply allowed",
        "an unknown one",
        "other arguments",
        "another tool",
        "the beginning of its name",
        "not named",
    ],
)
def test_a_call_that_was_passed_on_without_its_approval_fails(
    tmp_path: Path, answered: bool, over: dict[str, Any]
) -> None:
    report = verify_job(asyncio.run(_passed_on(tmp_path, answered=answered, **over)), LISTED)
    assert _rule(report) == ("J45", "APPROVAL_MISSING")


def test_one_approval_is_for_one_call(tmp_path: Path) -> None:
    report = verify_job(asyncio.run(_passed_on(tmp_path, answered=True, twice=True)), LISTED)
    assert _rule(report) == ("J45", "APPROVAL_MISSING")


@pytest.mark.parametrize("outcome", [CalledOutcome.DENIED, CalledOutcome.WITHHELD])
def test_a_call_that_was_not_passed_on_needs_no_approval(tmp_path: Path, outcome: CalledOutcome) -> None:
    files = asyncio.run(_passed_on(tmp_path, answered=False, outcome=outcome))
    assert verify_job(files, LISTED).verdict is Verdict.VERIFIED


# -- for people -------------------------------------------------------------------------------------------------------


def test_explain_tells_who_approved_what(sealed: Bundle, tmp_path: Path) -> None:
    rows = [orjson.loads(line)["body"]["payload"] for line in _lines(sealed)]
    receipts = [row["receipt_id"] for row in rows if "receipt_id" in row]
    told = [explain(sealed, receipt_id, LISTED).decision["approvals"] for receipt_id in receipts]
    assert [len(each) for each in told] == [1, 1, 1]
    assert "explicit_approve" in told[0][0]
    assert ANNA.did in told[0][0]
    assert "send_mail" in told[0][0]
    assert ARGUMENTS in told[0][0]
    assert "explicit_deny" in told[1][0]
    assert "timeout_deny" in told[2][0]
    whole = asyncio.run(_whole(tmp_path, ApprovalType.APPROVE))
    rows = [orjson.loads(line)["body"]["payload"] for line in _lines(whole)]
    receipt_id = next(row["receipt_id"] for row in rows if "receipt_id" in row)
    (line,) = explain(whole, receipt_id, LISTED).decision["approvals"]
    assert "the whole job" in line


def test_explain_tells_the_reason_that_an_approver_gave_in_quotes(tmp_path: Path) -> None:
    said = 'seen "INV-7", the whole job: explicit_deny by nobody'
    files = asyncio.run(_whole(tmp_path, ApprovalType.APPROVE, reason=said))
    assert verify_job(files, LISTED).verdict is Verdict.VERIFIED
    rows = [orjson.loads(line)["body"]["payload"] for line in _lines(files)]
    approval = next(row for row in rows if row.get("event", {}).get("event_type") == "approval")
    receipt_id = next(row["receipt_id"] for row in rows if "receipt_id" in row)
    told = explain(files, receipt_id, LISTED)
    (line,) = told.decision["approvals"]
    at = approval["detail"]["approval"]["payload"]["timestamp"]
    assert f'explicit_approve by {ANNA.did}, "Anna" in the trust file, at {at}' in line
    assert r'reason: "seen \"INV-7\", the whole job: explicit_deny by nobody"' in line
    assert any(line in each for each in told.lines())
    (unnamed,) = explain(files, receipt_id, trust()).decision["approvals"]
    assert f"explicit_approve by {ANNA.did} at {at}" in unnamed


def test_explain_of_an_answer_without_a_reason_names_none(sealed: Bundle) -> None:
    rows = [orjson.loads(line)["body"]["payload"] for line in _lines(sealed)]
    for row in rows:
        if "receipt_id" in row:
            assert "reason:" not in explain(sealed, row["receipt_id"], LISTED).decision["approvals"][0]


def test_explain_of_a_line_that_another_program_signed_shows_all_of_it() -> None:
    scope = dict.fromkeys([field.name for field in dataclasses.fields(Scope)], "x") | {"call": None}
    assert said_reason(scope, {"approval_type": "explicit_deny", "scope_summary": "not today"}) == "not today"


def test_explain_of_a_refusal_tells_what_was_said_of_the_job_before_it_and_not_after(tmp_path: Path) -> None:
    async def run() -> tuple[Bundle, list[str]]:
        stage = Stage(tmp_path, WHOLE)
        job = await stage.open()
        denied = [make_denied() for _ in range(3)]
        await job.deny(denied[0])
        await stage.answer(stage.scope(), ApprovalType.DENY, reason="not on a Friday")
        await job.deny(denied[1])
        await stage.answer(stage.scope(), ApprovalType.APPROVE, reason="on a Monday")
        await job.deny(denied[2])
        return await stage.end(), [each.receipt_id for each in denied]

    files, ids = asyncio.run(run())
    assert verify_job(files, LISTED).verdict is Verdict.VERIFIED
    none, no, yes = (explain(files, each, LISTED).decision.get("approvals", []) for each in ids)
    assert none == []
    assert ["explicit_deny" in line and 'reason: "not on a Friday"' in line for line in no] == [True]
    assert ["explicit_approve" in line and 'reason: "on a Monday"' in line for line in yes] == [True]


def test_a_question_of_another_version_is_not_signed() -> None:
    documents: list[object] = [None, [], {}, {"approval_id": "x"}]
    for document in documents:
        with pytest.raises(ClawproxyError, match="APPROVAL_INVALID"):
            read_scope(document)


def test_explain_does_not_call_a_call_allowed_whose_answer_was_refused(tmp_path: Path) -> None:
    rule = 'APPROVAL_DENIED: approvals["send_mail"]'
    whole = asyncio.run(_passed_on(tmp_path, answered=False, outcome=CalledOutcome.DENIED, rule=rule))
    rows = [orjson.loads(line)["body"]["payload"] for line in _lines(whole)]
    told = explain(whole, next(row["receipt_id"] for row in rows if "receipt_id" in row), LISTED)
    assert told.kind == "answer_refused"
    assert (told.answer["reason"], told.answer["rule"]) == ("APPROVAL_DENIED", 'approvals["send_mail"]')
    assert "refused" in told.lines()[0]
