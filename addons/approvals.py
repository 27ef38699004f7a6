"""The desk where people are asked: holds questions until an approver answers, the deadline passes, or the agent leaves.

``ask`` is the port that the tool gate awaits. A question lives in memory alone; what is answered, or timed out, is a
record in the job's journal before anybody acts on it. Only the signature of an approver's key counts as an answer:
nothing that a job holds (its token, its handle, its key) gives one. Each way out of ``ask`` but a recorded yes is a no.

Limits: open questions end with the gateway, as a no. The desk cannot tell a person who reads from one who does not.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from ..policies.approval_rules import DEFAULT_DEADLINE_S, JobApproval
from ..policies.policy import Policy
from ..receipts.approvals import ENVELOPE_TYPE as APPROVAL_ENVELOPE
from ..receipts.approvals import (
    ApprovalType,
    Scope,
    approval_detail,
    approval_payload,
    clip_tool,
    open_approval,
)
from ..receipts.job import Job
from ..receipts.payloads import clip_text
from ..tokens.canonical import JsonObject
from ..tokens.envelope import build_envelope, timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from ..tokens.reasons import Refusal
from .approvers import Approvers
from .call import Call
from .rates import Buckets

log = logging.getLogger("clawproxy.approvals")

MAX_TEXT_CHARS = 4096
"""So much of the arguments is kept for the person who is asked."""
_LISTED_BYTES = 512 * 1024
"""All arguments in one list, as JSON: the admin socket's answers are one line of a bounded size."""
_REASON_CHARS = 200
_MAX_WAITING_JOBS = 256


class Verdict(StrEnum):
    """How a question ended."""

    GRANTED = "granted"
    DENIED = "denied"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class AskedApproval:
    """One call of a tool that needs an approval.

    ``action`` is the contract's word, ``tool`` the name on the wire. ``arguments_text`` is what the person sees, as
    the agent's model wrote it; only the digest is recorded.
    """

    action: str
    tool: str
    arguments_hash_b64u: str
    arguments_text: str = field(repr=False)
    group: str | None
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of a question. ``approval_id`` is empty where nobody was asked; then ``detail`` says why."""

    verdict: Verdict
    detail: str
    approval_id: str = ""

    @property
    def granted(self) -> bool:
        return self.verdict is Verdict.GRANTED

    @property
    def reason(self) -> str:
        """The reason code of a call that is not passed on."""
        return "APPROVAL_TIMEOUT" if self.verdict is Verdict.TIMED_OUT else "APPROVAL_DENIED"


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """How many questions may be open, for one job and in all, and how many a job may ask in a minute."""

    per_job: int = 16
    in_all: int = 256
    per_minute: int = 60


@dataclass(slots=True, eq=False)
class _Question:
    scope: Scope
    job: Job
    contract: str
    text: str
    ends_s: float
    """By the clock of the event loop."""
    answered: asyncio.Future[Decision] | None
    """None for a question about a whole job, which nobody awaits."""
    taken: bool = False
    """Its one answer is on its way to the journal, or there."""


class ApprovalDesk:
    """``clock_ms`` is Unix milliseconds; ``receipt_key`` signs that nobody answered in time. For the event loop."""

    def __init__(
        self,
        approvers: Approvers,
        receipt_key: SigningKey,
        clock_ms: Callable[[], int],
        limits: DeskLimits | None = None,
    ) -> None:
        self._approvers = approvers
        self._key = receipt_key
        self._clock_ms = clock_ms
        self._limits = limits or DeskLimits()
        self._rates = Buckets(self._limits.per_minute)
        self._open: dict[str, _Question] = {}
        self._waiting: dict[str, JsonObject] = {}
        """Jobs that were refused for want of an approval, by id."""
        self._closed = False

    def renew(self, approvers: Approvers) -> None:
        """Go on with other approvers, for open questions and approved jobs too."""
        self._approvers = approvers

    # -- calls of tools ------------------------------------------------------------------------------------------------

    async def ask(self, call: Call, asked: AskedApproval) -> Decision:
        """Wait for the answer; returns with its record durable. Cancelled, the question is gone.

        Never raises but when cancelled: what goes wrong is a no.
        """
        question = self._new_question(call, asked)
        if isinstance(question, Decision):
            return question
        assert question.answered is not None
        self._open[question.scope.approval_id] = question
        try:
            await asyncio.wait([question.answered], timeout=asked.deadline_s)
            if not question.taken:
                question.taken = True
                await self._time_out(question, question.answered)
            return await question.answered
        finally:
            self._open.pop(question.scope.approval_id, None)

    def _new_question(self, call: Call, asked: AskedApproval) -> _Question | Decision:
        """The question, or why nobody is asked."""
        job, intended = call.job, call.intended
        if self._closed or job is None or intended is None or call.policy is None:
            return Decision(Verdict.DENIED, "the gateway takes no questions now")
        if not self._approvers.of(asked.group):
            where = (
                f'trust.approvers has no key for the group "{asked.group}"' if asked.group else "there is no approver"
            )
            return Decision(Verdict.DENIED, where)
        of_job = sum(1 for question in self._open.values() if question.job is job and question.answered is not None)
        if of_job >= self._limits.per_job or len(self._open) >= self._limits.in_all:
            return Decision(Verdict.DENIED, "too many questions are open")
        if job.refusal is not None or job.is_full:
            return Decision(Verdict.DENIED, "the job takes no more records")
        if self._rates.take(job.job_id):
            return Decision(Verdict.DENIED, f"the job asks more than {self._limits.per_minute} times a minute")
        scope = self._scope(
            job,
            asked.group,
            asked.deadline_s,
            policy_hash_b64u=call.policy.policy_hash_b64u,
            run_id=intended.run_id,
            call=call.receipt_id,
            event_hash_b64u=intended.event_hash_b64u,
            action=asked.action,
            tool=clip_tool(asked.tool),
            arguments_hash_b64u=asked.arguments_hash_b64u,
        )
        loop = asyncio.get_running_loop()
        text = asked.arguments_text[: MAX_TEXT_CHARS + 1]
        return _Question(scope, job, call.policy.name, text, loop.time() + asked.deadline_s, loop.create_future())

    async def _time_out(self, question: _Question, answered: asyncio.Future[Decision]) -> None:
        """Nobody answered: the gateway says so itself."""
        at = timestamp(self._clock_ms())
        payload = approval_payload(question.scope, ApprovalType.TIMEOUT, self._key.did, at)
        decision = Decision(Verdict.TIMED_OUT, "nobody answered in time", question.scope.approval_id)
        try:
            await self._record(question, build_envelope(APPROVAL_ENVELOPE, payload, self._key, at))
        except ClawproxyError as err:
            log.error("job %s: the end of a question could not be written: %s", question.job.job_id, err)
            decision = Decision(Verdict.TIMED_OUT, "nobody answered in time")
        answered.set_result(decision)

    # -- whole jobs ----------------------------------------------------------------------------------------------------

    def job_refusal(self, job: Job, policy: Policy) -> Refusal | None:
        """Why a call of ``job`` may not go out yet, if its contract wants the job approved."""
        rule = policy.approvals.job
        if rule is None:
            return None
        approval = job.approval
        if approval is not None and approval.given and approval.signer_did in self._approvers_of(job, rule.group):
            return None
        self._remember_waiting(job, policy, rule)
        if approval is None:
            detail = "nobody has approved the job"
        elif approval.given:
            detail = f"who gave {approval.approval_id} may not approve any more"
        else:
            detail = f"it was denied, {approval.approval_id}"
        group = f"approvals.approver_group {rule.group}" if rule.group is not None else "approvals.required"
        return Refusal("APPROVAL_REQUIRED", group, detail)

    def question_about(self, job: Job, policy: Policy) -> JsonObject:
        """A question about the whole job for an approver to answer, as ``listed`` shows it.

        Raises ``ClawproxyError`` (APPROVAL_NOT_NEEDED, APPROVAL_INVALID).
        """
        rule = policy.approvals.job
        if rule is None:
            raise ClawproxyError(
                "APPROVAL_NOT_NEEDED", "the contract does not want the job approved", where=job.job_id, got=policy.name
            )
        self._forget_late()
        if len(self._open) >= self._limits.in_all or self._closed or job.refusal is not None or job.is_full:
            raise ClawproxyError("APPROVAL_INVALID", "no more questions can be taken", where=job.job_id)
        scope = self._scope(
            job, rule.group, DEFAULT_DEADLINE_S, policy_hash_b64u=policy.policy_hash_b64u, run_id=job.run_id
        )
        ends_s = asyncio.get_running_loop().time() + DEFAULT_DEADLINE_S
        question = self._open[scope.approval_id] = _Question(scope, job, policy.name, "", ends_s, None)
        return self._shown(question)

    def _remember_waiting(self, job: Job, policy: Policy, rule: JobApproval) -> None:
        while len(self._waiting) >= _MAX_WAITING_JOBS:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[job.job_id] = {"job_id": job.job_id, "contract": policy.name, "group": rule.group}

    def forget_waiting(self, job_id: str) -> None:
        """Nobody is asked about this job: it goes on without."""
        self._waiting.pop(job_id, None)

    def _forget_late(self) -> None:
        """Questions about jobs that nobody answered; those of calls end in ``ask``."""
        now_s = asyncio.get_running_loop().time()
        late = [name for name, q in self._open.items() if q.answered is None and not q.taken and q.ends_s <= now_s]
        for name in late:
            del self._open[name]

    # -- answers -------------------------------------------------------------------------------------------------------

    def listed(self, approval_id: str = "") -> JsonObject:
        """The open questions, or the one that is named, and the jobs that wait for an approval.

        So many questions that their arguments would not fit into one answer are shown with the beginning of each.
        """
        self._forget_late()
        rows = [row for row in self._open.values() if not row.taken and approval_id in ("", row.scope.approval_id)]
        room_bytes = _LISTED_BYTES // max(1, len(rows))
        return {"pending": [self._shown(row, room_bytes) for row in rows], "jobs": list(self._waiting.values())}

    async def answer(self, envelope: object) -> JsonObject:
        """Take a signed answer; returns ``approval_id``, ``job_id`` and ``decision``, with the record durable.

        Raises ``ClawproxyError``: APPROVAL_NOT_FOUND (no such question is open: answered, too late, or never asked),
        or as ``open_approval`` and the journal do. A question takes one answer that holds; one that does not hold
        leaves it open.
        """
        question = self._asked_by(envelope)
        scope = question.scope
        rule_signers = self._approvers_of(question.job, scope.group)
        kind = open_approval(envelope, scope, rule_signers, self._clock_ms())
        assert isinstance(envelope, dict)
        question.taken = True  # before the first await: a second answer finds no question
        said = str(envelope["payload"]["scope_summary"]).partition("; ")[2][:_REASON_CHARS]
        verdict = Verdict.GRANTED if kind is ApprovalType.APPROVE else Verdict.DENIED
        detail = "an approver said yes" if kind is ApprovalType.APPROVE else "an approver said no"
        decision = Decision(Verdict.DENIED, "the answer could not be recorded")
        try:
            await self._record(question, envelope)
            decision = Decision(verdict, f"{detail}: {said}" if said else detail, scope.approval_id)
        finally:
            if question.answered is not None and not question.answered.done():
                question.answered.set_result(decision)
            self._open.pop(scope.approval_id, None)
        if scope.call is None and decision.granted:
            self._waiting.pop(scope.job_id, None)
        return {"approval_id": scope.approval_id, "job_id": scope.job_id, "decision": str(verdict)}

    def _asked_by(self, envelope: object) -> _Question:
        payload = envelope.get("payload") if isinstance(envelope, dict) else None
        approval_id = payload.get("receipt_id") if isinstance(payload, dict) else None
        question = self._open.get(approval_id) if isinstance(approval_id, str) else None
        if question is None or question.taken or question.ends_s <= asyncio.get_running_loop().time():
            raise ClawproxyError(
                "APPROVAL_NOT_FOUND",
                "no such question is open: it was answered, its time is over, or its call has ended",
                got=approval_id,
                remedy="see: clawproxy approve list",
            )
        return question

    def _approvers_of(self, job: Job, group: str | None) -> frozenset[str]:
        """Who may answer for this job: never a key that the job itself has, whatever the configuration says."""
        return self._approvers.of(group) - {job.agent_did, job.job_did, self._key.did}

    async def _record(self, question: _Question, envelope: JsonObject) -> None:
        await question.job.note("approval", approval_detail(question.scope, envelope))

    def _scope(
        self, job: Job, group: str | None, deadline_s: float, *, policy_hash_b64u: str, run_id: str, **about_call: str
    ) -> Scope:
        now_ms = self._clock_ms()
        return Scope(
            approval_id=f"apr_{uuid.uuid4()}",
            job_id=job.job_id,
            incarnation=job.facts.incarnation,
            agent_did=job.agent_did,
            run_id=run_id,
            policy_hash_b64u=policy_hash_b64u,
            group=group,
            nonce=secrets.token_hex(16),
            asked_at=timestamp(now_ms),
            answer_by=timestamp(now_ms + int(deadline_s * 1000)),
            **about_call,
        )

    @staticmethod
    def _shown(question: _Question, room_bytes: int = _LISTED_BYTES) -> JsonObject:
        text = clip_text(question.text[:MAX_TEXT_CHARS], room_bytes)
        return {
            "scope": question.scope.to_json(),
            "contract": question.contract,
            "arguments": text,
            "arguments_whole": text == question.text and len(text) < MAX_TEXT_CHARS,
            "seconds_left": max(0, int(question.ends_s - asyncio.get_running_loop().time())),
        }

    def close(self) -> None:
        """The gateway stops: what is open is a no, and nothing new is asked."""
        self._closed = True
        for question in list(self._open.values()):
            if question.answered is not None and not question.taken:
                question.taken = True
                question.answered.set_result(Decision(Verdict.DENIED, "the gateway is stopping"))
