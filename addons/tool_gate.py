"""The tool gate: calls of tools in an answer, judged before a byte of them reaches the agent (step 10).

The tap (``stream_tap``) holds a block of events from the first that begins a call to the one after which no call is
open, and asks here. Most blocks are judged at once; one with large arguments, or with a call that a person must
approve, waits in the seam (``settle``). What is not allowed ends the answer with an error in the provider's shape, or,
where the contract says ``on_denied_call: refuse`` and the conversation is the client's own, a text takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ..policies.approval_rules import DEFAULT_DEADLINE_S
from ..policies.call_rules import CallAllowed, CallAsks, ToolCall, decide_call
from ..policies.meta_tools import META_TOOLS
from ..policies.policy import OnDeniedCall
from ..receipts.calls import CalledOutcome, JudgedCall, Outcome, WouldRefuse
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .approvals import MAX_TEXT_CHARS, AskedApproval, Decision
from .observing import is_observed, observed_verdict
from .refusal import text_of
from .wire.called import CalledTool
from .wire.inner_calls import inner_names
from .wire.reader import load_object
from .wire.refusal_text import RefusalText

if TYPE_CHECKING:
    from .call import Call
    from .wire.reader import ResponseReader
    from .wire.rewrite import AnswerRewriter, Event

INLINE_CHARS = 32 * 1024
"""Arguments of a block that are judged on the event loop; longer ones in a thread."""
_TOO_MANY = Refusal("POLICY_TOOL_NOT_ALLOWED", "calls of tools in one answer", "more than are judged", at="observe")


class Desk(Protocol):
    """Where a person is asked (``approvals.ApprovalDesk``)."""

    async def ask(self, call: Call, asked: AskedApproval) -> Decision: ...


@dataclass(frozen=True, slots=True)
class CallJudges:
    """What a call of a tool must pass beside the contract's tool rules: each of ``further``, in their order, and the
    ``desk`` where the contract wants a person's yes."""

    desk: Desk
    further: tuple[Callable[[Call, ToolCall], Refusal | None], ...] = ()


class Waits(Enum):
    """A block that cannot be judged at once."""

    WAITS = "waits"


WAITS = Waits.WAITS


@dataclass(frozen=True, slots=True)
class _Judged:
    called: CalledTool
    asked: ToolCall
    digest_b64u: str
    verdict: CallAllowed | CallAsks | Refusal
    would_refuse: WouldRefuse | None = None
    """What would have refused it, where its job was opened to observe."""


class ToolGate:
    """The gate of one answer."""

    def __init__(self, call: Call, rewriter: AnswerRewriter | None, judges: CallJudges) -> None:
        self.refusal: Refusal | None = None
        """Why the answer was ended."""
        self.inline_chars = INLINE_CHARS
        self.replaced = False
        """A text stands in place of at least one block."""
        self._call = call
        self._rewriter = rewriter
        self._judges = judges
        self._waiting: list[CalledTool] = []
        self._too_many = False
        self._keys: list[object] = []

    # -- judging ---------------------------------------------------------------------------------------------------

    def judge(self, reader: ResponseReader) -> Refusal | Waits | None:
        """The block that the reader has just seen: None lets it pass."""
        called = reader.take_calls()
        self._keys = [each.key for each in called]
        self._too_many = reader.more_calls
        if sum(len(each.text) for each in called) > self.inline_chars:
            self._waiting = called
            return WAITS
        judged = self._judge(called)
        if self._too_many and not judged:
            return _TOO_MANY
        if any(isinstance(each.verdict, CallAsks) for each in judged) and _first_refusal(judged) is None:
            self._waiting = called
            return WAITS
        self._note(judged)
        return _first_refusal(judged)

    async def settle(self) -> Refusal | None:
        """The block that waits: judged in a thread, then approved call by call."""
        judged = await asyncio.to_thread(self._judge, self._waiting)
        refusal = _first_refusal(judged)
        approvals: dict[int, str] = {}
        for n, each in enumerate(judged):
            if refusal is None and isinstance(each.verdict, CallAsks):
                decision = await self._judges.desk.ask(self._call, self._question(each, each.verdict))
                approvals[n] = decision.approval_id
                if not decision.granted:
                    refusal = Refusal(decision.reason, each.verdict.rule, decision.detail, at="observe")
                    judged[n] = replace(each, verdict=refusal)
        for n, each in enumerate(judged):  # an order may have come while a person thought
            if refusal is None and (late := self._refuse_further(each.asked)) is not None:
                refusal = late
                judged[n] = replace(each, verdict=late)
        self._waiting = []
        self._note(judged, approvals)
        return refusal

    def _question(self, judged: _Judged, asks: CallAsks) -> AskedApproval:
        assert self._call.policy is not None
        rule = self._call.policy.approvals.of(asks.action)
        return AskedApproval(
            action=asks.action,
            tool=judged.called.name,
            arguments_hash_b64u=judged.digest_b64u,
            arguments_text=judged.called.text[:MAX_TEXT_CHARS],
            group=rule.group if rule is not None else None,
            deadline_s=rule.deadline_s if rule is not None else DEFAULT_DEADLINE_S,
        )

    def _judge(self, called: Sequence[CalledTool]) -> list[_Judged]:
        call = self._call
        assert call.facts is not None
        assert call.grant is not None
        assert call.policy is not None
        judged = []
        for each in called:
            asked = _as_judged(each)
            verdict: CallAllowed | CallAsks | Refusal = _TOO_MANY
            would: WouldRefuse | None = None
            if not self._too_many:
                verdict = decide_call(asked, call.facts, call.grant, call.policy)
                verdict, would = observed_verdict(call, asked, verdict)
            if not isinstance(verdict, Refusal):
                verdict = self._refuse_further(asked) or verdict
            judged.append(_Judged(each, asked, each.digest_b64u(), verdict, would))
        return judged

    def _refuse_further(self, asked: ToolCall) -> Refusal | None:
        return next(filter(None, (further(self._call, asked) for further in self._judges.further)), None)

    def _note(self, judged: Sequence[_Judged], approvals: dict[int, str] | None = None) -> None:
        """For the receipt. In a block with a refusal, what would have passed is withheld."""
        refused = _first_refusal(judged) is not None
        for n, each in enumerate(judged):
            approval = (approvals or {}).get(n) or None
            if isinstance(each.verdict, Refusal):
                outcome, rule = CalledOutcome.DENIED, f"{each.verdict.reason}: {each.verdict.rule}"
            else:
                outcome, rule = CalledOutcome.APPROVED if approval else CalledOutcome.ALLOWED, each.verdict.rule
                outcome = CalledOutcome.WITHHELD if refused else outcome
            told = JudgedCall(each.called.name, each.digest_b64u, outcome, rule, approval)
            if is_observed(self._call):
                would = each.would_refuse if outcome is CalledOutcome.ALLOWED else None
                told = replace(told, would_refuse=would, inner=each.asked.inner)
            self._call.called.append(told)

    def abandon(self, reader: ResponseReader) -> None:
        """The answer is over: calls that were not judged never left."""
        waiting, self._waiting = self._waiting, []
        for each in (*waiting, *reader.take_calls()):
            self._call.called.append(JudgedCall(each.name, each.digest_b64u(), CalledOutcome.WITHHELD, "", None))

    # -- what leaves instead ---------------------------------------------------------------------------------------

    def replacement(self, events: Sequence[Event], refusal: Refusal, reader: ResponseReader) -> Sequence[Event] | None:
        """Events in place of a refused block; None where the answer must end instead."""
        if self._rewriter is None or not self._may_replace(reader):
            return None
        events = self._rewriter.replace(events, self._text(refusal)) or ()
        self.replaced = self.replaced or bool(events)
        return events or None

    @property
    def may_replace_later(self) -> bool:
        """Whether a later block may be replaced, so that the rewriter must hear of those before it."""
        assert self._call.policy is not None
        return self._rewriter is not None and self._call.policy.on_denied_call is OnDeniedCall.REFUSE

    def keep(self, events: Sequence[Event]) -> None:
        """A block that passes."""
        assert self._rewriter is not None
        self._rewriter.keep(events)

    def mend(self, event: Event) -> Sequence[Event]:
        """An event behind a replaced block."""
        assert self._rewriter is not None
        return self._rewriter.mend(event)

    def replaced_whole(self, body: bytes, refusal: Refusal, reader: ResponseReader) -> bytes | None:
        """A whole answer with a text in place of its calls; None where an error must be given instead."""
        answer = load_object(body)
        if self._rewriter is None or answer is None or not self._may_replace(reader):
            return None
        changed = self._rewriter.replace_whole(answer, self._keys, self._text(refusal))
        self.replaced = changed is not None
        return None if changed is None else orjson.dumps(changed)

    def refuse(self, refusal: Refusal) -> None:
        """The answer is not delivered, or no further."""
        self.refusal = refusal
        self._call.outcome = Outcome.CALL_REFUSED
        self._call.detail = f"{refusal.reason}: {refusal.rule}"

    def end(self, refusal: Refusal, held: Sequence[Event]) -> Sequence[Event]:
        """The answer ends here: what the agent gets in place of the ``held`` events and the rest."""
        self.refuse(refusal)
        return () if self._rewriter is None else self._rewriter.error(self._refusal_text(refusal), held)

    def _may_replace(self, reader: ResponseReader) -> bool:
        """Only where the history is the client's own, and no signed thought would stand beside a changed call."""
        call = self._call
        assert call.facts is not None
        assert call.policy is not None
        kept = call.facts.provider_state or call.facts.kept_by_provider
        return call.policy.on_denied_call is OnDeniedCall.REFUSE and not kept and not reader.signed_reasoning

    def unreadable(self) -> ClawproxyError:
        """What to raise where the answer cannot be judged."""
        self._call.outcome, self._call.detail = Outcome.UPSTREAM_FAILED, "the provider's answer cannot be read"
        return ClawproxyError("GATEWAY_FAULT", "the provider's answer cannot be read, so its calls cannot be judged")

    def _text(self, refusal: Refusal) -> str:
        return f"[{refusal.rule}: the gateway refused this call ({refusal.reason}, receipt {self._call.receipt_id}).]"

    def _refusal_text(self, refusal: Refusal) -> RefusalText:
        call = self._call
        return text_of(refusal, receipt_id=call.receipt_id, policy_hash=call.policy_hash_b64u, job_id=call.job_id)


async def done_within(timeout_s: float, task: asyncio.Task[Any], gone: asyncio.Event) -> bool:
    """Whether the verdict is there by then. It is given up as soon as nobody waits for it any more (``gone``)."""
    left = asyncio.get_running_loop().create_task(gone.wait())
    try:
        await asyncio.wait({task, left}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
    if task.done():
        return True
    if gone.is_set():
        task.cancel()
    return False


def _as_judged(called: CalledTool) -> ToolCall:
    try:
        arguments = called.arguments()
    except ClawproxyError:
        arguments = None
    is_meta = called.name in META_TOOLS
    return ToolCall(called.name, arguments, is_meta, inner_names(called) if is_meta else ())


def _first_refusal(judged: Sequence[_Judged]) -> Refusal | None:
    return next((each.verdict for each in judged if isinstance(each.verdict, Refusal)), None)
