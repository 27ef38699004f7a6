"""One open job: reserve, intend, attest, deny, note. Single event loop; the journal's thread does the waiting.

Each record is built, chained, signed and queued in one step without an ``await``, so the order on the loop is the order
in the journal. What a method returns is durable.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..policies.budget_rules import Amounts
from ..policies.orders import Revocation, StopOrder, parse_revocation, parse_stop
from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .calls import CallDenied, CallEnd, CallStart, Outcome, Usage, WouldRefuse
from .contract_files import MAX_CONTRACT_CHANGES
from .effects import EffectEnd, EffectStart
from .job_facts import JobFacts
from .journal import Journal, JournalError, LogFile
from .payloads import MAX_NONCE_CHARS, authority_detail, clip_text, observed_host, token_facts
from .per_second import PerSecond
from .presenters import NAMESPACE
from .progress import JobApproved
from .records import Record
from .scribe import Intended, Scribe

MAX_CALL_BYTES = 48 * 1024
"""More than the intent and the receipt of one call ever have in the journal."""
MAX_HOSTS_OBSERVED = 512
_NOTHING_B64U = sha256_b64u(b"")
_OPEN_CALLS_PER_RECORD = 1000
_SEALED = Refusal("JOB_SEALED", "the job's seal")
_NOTED = (
    "approval", "attached", "config_audited", "config_compared", "door_counted", "frozen", "resumed", "revoked",
    "stopped",
)  # fmt: skip
_RECEIPT_ID = re.compile(r"rcpt_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds of what agents can hold open, and the space kept for sealing on a full disk (0: none).

    ``open_calls`` is per job, between intent and receipt. A job whose journal has ``journal_bytes`` or ``records`` is
    full: it takes no new call, so that what is open and the end still fit into what a verifier reads
    (``reader.Bounds``). Of denials its journal takes ``denials_per_second``, and ``denials`` in all, of some kilobytes
    each at most, so that an agent cannot fill it by refusals. A job that was idle for ``idle_ms`` may be closed when
    there are ``open_jobs`` and another needs its place.
    """

    open_calls: int = 256
    journal_bytes: int = 400 * 1024 * 1024
    records: int = 900_000
    denials_per_second: int = 50
    denials: int = 20_000
    open_jobs: int = 512
    idle_ms: int = 60_000
    reserve_bytes: int = 8 * 1024 * 1024


class Job:
    """A job that takes calls. Made by ``JobBook``; every public method is for the event loop alone."""

    def __init__(
        self,
        facts: JobFacts,
        scribe: Scribe,
        journal: Journal,
        log: LogFile,
        clock_ms: Callable[[], int],
        limits: JobLimits,
    ) -> None:
        self.facts = facts
        self.log = log
        self.used_ms = clock_ms()
        self._scribe = scribe
        self._progress = scribe.progress
        self._journal = journal
        self._clock_ms = clock_ms
        self._reserved: set[str] = set()
        self._holds: dict[str, Amounts] = {}
        """By nonce, what calls without an intent yet may use of the budgets."""
        self.limits = limits
        self._denials = PerSecond(limits.denials_per_second)
        self._closed = _SEALED if scribe.progress.sealed else None

    @property
    def job_id(self) -> str:
        return self.facts.job_id

    @property
    def policy_hash_b64u(self) -> str:
        """The contract in force."""
        return self._progress.policy_hash_b64u

    @property
    def contracts(self) -> frozenset[str]:
        """Hashes of the contracts that were ever in force, the present one too."""
        return frozenset(self._progress.contracts)

    @property
    def agent_did(self) -> str:
        return self.facts.agent_did

    @property
    def job_did(self) -> str:
        return self.facts.job_did

    @property
    def run_id(self) -> str:
        """The run id of the current segment, as receipts of new calls will bear it."""
        return self._progress.segment.run_id

    @property
    def open_calls(self) -> int:
        """Calls between intent and receipt."""
        return len(self._progress.open_calls)

    @property
    def head_b64u(self) -> str:
        """``h`` of the last record built, which may not be durable yet."""
        return self._progress.head_b64u

    @property
    def counts(self) -> dict[str, int]:
        """Calls, receipts, denials, gaps, events and segments so far, as SEAL.json will state them."""
        return self._progress.counts

    @property
    def approval(self) -> JobApproved | None:
        """The last answer about the whole job, also from before a restart."""
        return self._progress.approval

    @property
    def data_carried(self) -> tuple[frozenset[str], frozenset[str]]:
        """Labels that its calls carried, and classes of data that left with them, also from before a restart."""
        return frozenset(self._progress.labels), frozenset(self._progress.classes)

    @property
    def observe(self) -> bool:
        """Whether what the contract refuses is let through and recorded, as was signed with the job's opening."""
        return self._progress.observe

    @property
    def is_full(self) -> bool:
        """Whether the journal is as large as it may be, but for what is open and the end."""
        limits, open_calls = self.limits, self.open_calls
        return (
            self._progress.next_seq + open_calls >= limits.records
            or self.log.good_bytes + open_calls * MAX_CALL_BYTES >= limits.journal_bytes
        )

    @property
    def standing_orders(self) -> list[StopOrder | Revocation]:
        """The operator's orders that the journal names and does not lift."""
        return [parse_stop(d) if "scope" in d else parse_revocation(d) for d in self._progress.orders.values()]

    @property
    def named_orders(self) -> set[int]:
        """Numbers of the orders that the journal names, lifted ones too."""
        return self._progress.orders_named

    @property
    def attachments(self) -> Mapping[str, int]:
        """Digest -> size in bytes, of the stored attachments on record."""
        return self._progress.attachments

    @property
    def attached(self) -> int:
        """How many attachments are on record, those without their file too."""
        return self._progress.attached

    def has_token(self, token_hash_hex: str) -> bool:
        """Whether this token is on record."""
        return token_hash_hex in self._progress.tokens

    def has_jti(self, jti: str) -> bool:
        """Whether a token of this id is on record."""
        return jti in self._progress.jtis

    @property
    def refusal(self) -> Refusal | None:
        """Why the job takes no more calls, if it does not."""
        if self.log.fault is not None:
            return Refusal("EVIDENCE_UNAVAILABLE", "the job's journal", self.log.fault.message)
        return self._closed

    def knows(self, grant: Grant, presenter: str) -> bool:
        """Whether this token and presenter were judged before, and nothing has changed since."""
        return (
            grant.token_hash_hex in self._progress.tokens
            and grant.policy_hash_b64u == self.policy_hash_b64u
            and presenter == self._progress.presenter
            and grant.sub == self.facts.agent_did
            and self.refusal is None
        )

    def admit(self, grant: Grant, policy_hash: str, presenter: str, way_in: str) -> Refusal | None:
        """Judge a token and a presenter against the job; what is new about them becomes ``authority_changed``.

        That event is queued before any later intent; nobody waits for it alone.
        """
        progress = self._progress
        self.used_ms = self._clock_ms()
        if self.refusal is not None:
            return self.refusal
        if policy_hash != self.policy_hash_b64u or grant.policy_hash_b64u != policy_hash:
            return Refusal("POLICY_HASH_MISMATCH", "contract", f"the job has contract {self.policy_hash_b64u}")
        refusal = self._other_holder(grant, presenter)
        if refusal is not None:
            return refusal
        presenter = clip_text(presenter)
        if progress.presenter is None or grant.token_hash_hex not in progress.tokens:
            detail = authority_detail(token_facts(grant), presenter, way_in, None)
            self._queue_event("authority_changed", detail)
        return None

    def _other_holder(self, grant: Grant, presenter: str) -> Refusal | None:
        if grant.sub != self.facts.agent_did:
            return Refusal("POLICY_HASH_MISMATCH", "sub", "the job was opened for another agent")
        bound = self._progress.presenter
        if bound not in (None, clip_text(presenter)):
            return Refusal("PRESENTER_MISMATCH", "presenter", f"the job is bound to {bound}")
        return None

    def change_refusal(self, grant: Grant, policy_hash: str, presenter: str) -> Refusal | None:
        """Why ``grant``, of a trusted issuer, does not bring the job under another contract, if it does not.

        Only forward: it is issued later than every token on record, and before there is one, than the job was opened.
        Else an agent that holds tokens under two contracts would choose the wider.
        """
        self.used_ms = self._clock_ms()
        if self.refusal is not None:
            return self.refusal
        if grant.policy_hash_b64u != policy_hash:
            return Refusal("POLICY_HASH_MISMATCH", "contract", f"the token is under {grant.policy_hash_b64u}")
        refusal = self._other_holder(grant, presenter)
        if refusal is not None:
            return refusal
        if grant.iat_s <= (self._progress.issued_s or self.facts.opened_ms // 1000):
            detail = f"the job has contract {self.policy_hash_b64u}; only a token issued later brings another"
            return Refusal("POLICY_HASH_MISMATCH", "contract", detail)
        if self.is_full or self._progress.contract_changes >= MAX_CONTRACT_CHANGES:
            return Refusal("JOB_FULL", "changes of contract", f"{self._progress.contract_changes} are on record")
        return None

    def change_contract(self, grant: Grant, policy_hash: str, presenter: str, way_in: str) -> Refusal | None:
        """Bring the job under another contract, whose file is durable. Its segment begins with the event, so that the
        receipts of one proof bundle name one contract. Calls that are open go on under theirs."""
        refusal = self.change_refusal(grant, policy_hash, presenter)
        if refusal is not None:
            return refusal
        detail = authority_detail(token_facts(grant), clip_text(presenter), way_in, None)
        detail |= {"policy_hash_b64u": policy_hash, "previous_policy_hash_b64u": self.policy_hash_b64u}
        self._queue(self._scribe.new_segment(self._clock_ms()))
        self._queue_event("authority_changed", detail)
        return None

    async def rebind(self, presenter: str | None) -> None:
        """Bind the job to another presenter, or to the next one that uses it; durable when it returns.

        Raises ``JournalError``, or ``ClawproxyError`` (JOB_BUSY) while calls of the former one are open.
        """
        self._check_open()
        if (self._progress.presenter or "").startswith(NAMESPACE):
            raise ClawproxyError(
                "PRESENTER_MISMATCH", "a job in a network namespace of its own stays there", where=self.job_id
            )
        if self.open_calls:
            raise ClawproxyError("JOB_BUSY", "the job has calls open", where=self.job_id, got=f"{self.open_calls} open")
        token: JsonObject = {
            "mission_id": self.job_id,
            "policy_hash_b64u": self.policy_hash_b64u,
            "sub": self.agent_did,
        }
        detail = authority_detail(token, presenter, "operator", None)
        detail |= {"presenter_before": self._progress.presenter, "rebound": True}
        await self._queue_event("authority_changed", detail)

    def reserve(self, nonce: str) -> Refusal | None:
        """Take ``nonce`` for one call; with its intent it is never free again, also after a restart.

        A call that is refused before its intent has not left: ``release`` then frees the nonce.
        """
        if self.refusal is not None:
            return self.refusal
        if self.is_full:
            return Refusal("JOB_FULL", "size of the job", f"{self._progress.next_seq} records are on record")
        if not (0 < len(nonce) <= MAX_NONCE_CHARS and nonce.isascii() and nonce.isprintable()):
            detail = f"got {len(nonce)} characters, expected 1 to {MAX_NONCE_CHARS} printable ASCII"
            return Refusal("INVALID_REQUEST", "idempotency key", detail, at="reserve")
        if nonce in self._reserved or nonce in self._progress.nonces:
            return Refusal("IDEMPOTENCY_KEY_IN_USE", "idempotency key")
        if self.open_calls >= self.limits.open_calls:
            return Refusal("TOO_MANY_CALLS", "open calls of the job", f"{self.limits.open_calls} are open")
        self._reserved.add(nonce)
        return None

    def release(self, nonce: str) -> None:
        """Give back what ``reserve`` took, for a call that was refused since. Not for one that has an intent."""
        self._reserved.discard(nonce)
        self._holds.pop(nonce, None)

    @property
    def spent(self) -> Amounts:
        """What calls that have ended used of the job's budgets."""
        return self._progress.tally.spent

    @property
    def held(self) -> Amounts:
        """What calls that are open may use."""
        return sum(self._holds.values(), self._progress.tally.held)

    @property
    def metered_calls(self) -> int:
        """Calls that are open and count as requests."""
        return self._progress.tally.open_calls + sum(held.requests > 0 for held in self._holds.values())

    def hold(self, nonce: str, amounts: Amounts) -> None:
        """Take ``amounts`` from the budgets for the call with this nonce, until its intent or its release."""
        self._holds[nonce] = amounts

    def warn(self, detail: JsonObject) -> asyncio.Future[None] | None:
        """Record that a budget is nearly used up, once per budget and percentage."""
        if (detail["budget"], detail["percent"]) in self._progress.warned or self.refusal is not None:
            return None
        return self._queue_event("budget_warning", detail)

    def observe_host(self, refusal: WouldRefuse, host: str, port: int | None) -> asyncio.Future[None] | None:
        """Record that an observed job looked up a name (no ``port``), or opened a tunnel, that its contract refuses:
        once each, and so many at most. None where nothing is written."""
        known, key = self._progress.hosts_observed, (clip_text(host), port)
        if not self.observe or self.refusal is not None or self.is_full:
            return None
        if key in known or len(known) >= MAX_HOSTS_OBSERVED:
            return None
        return self._queue_event("host_observed", observed_host(refusal, host, port))

    async def intend(self, start: CallStart | EffectStart) -> Intended:
        """Record that a call is about to leave. Durable when it returns, so the first upstream byte may go.

        Raises ``JournalError`` (EVIDENCE_UNAVAILABLE, JOB_SEALED): nothing may go out. A caller that is cancelled while
        it waits has sent nothing, and the call is attested as such.
        """
        self._check_open()
        self._check_start(start)
        if (opened := self._scribe.next_segment(self._clock_ms())) is not None:
            self._queue(opened)
        record, intended = self._scribe.intent(start, self._clock_ms())
        self.release(start.nonce)
        try:
            await self._queue(record)
        except asyncio.CancelledError:
            self._abandon(intended)
            raise
        return intended

    async def attest(self, intended: Intended, end: CallEnd | EffectEnd) -> JsonObject:
        """Sign the receipt; returns its envelope, durable. Once per call: a second time raises ``ClawproxyError``."""
        record = self._receipt(intended, end)
        await self._queue(record)
        return record.envelope

    def takes_denial(self) -> bool:
        """Whether a denial made now has a place here; else the gateway's own journal counts it, so that an agent cannot
        fill the disk, or the job, with refusals."""
        if self.is_full or self._progress.denials >= self.limits.denials:
            return False
        return self._denials.take(self._clock_ms())

    async def deny(self, denied: CallDenied) -> JsonObject:
        """Sign the denial of a call that did not go out; returns its envelope, durable. Raises ``JournalError``."""
        self._check_open()
        self._check_receipt_id(denied.receipt_id)
        record = self._scribe.denial(denied)
        await self._queue(record)
        return record.envelope

    async def note_door(self, detail: JsonObject) -> None:
        """Append what the door of an isolated job turned away (``door_counts``), once; durable when it returns.

        Raises ``ClawproxyError`` (INVALID_REQUEST) for a job that has no door, or of which it is on record."""
        if not (self._progress.presenter or "").startswith(NAMESPACE) or self._progress.door_counted:
            why = "it is on record already" if self._progress.door_counted else "the job has no door"
            raise ClawproxyError("INVALID_REQUEST", f"what a door counted is not taken: {why}", where=self.job_id)
        await self.note("door_counted", detail)

    async def note(self, event_type: str, detail: JsonObject) -> None:
        """Append an event that is not about one call (``stopped``); durable when it returns.

        Keys in ``detail`` must be ours alone; what an agent chose is a value.
        """
        self._check_open()
        if event_type not in _NOTED:
            raise ClawproxyError("GATEWAY_FAULT", "not an event to note", got=event_type, expected=", ".join(_NOTED))
        scope = detail["scope"] if event_type == "approval" else {"call": ""}
        if scope["call"] is None and scope["policy_hash_b64u"] != self.policy_hash_b64u:
            raise ClawproxyError(
                "APPROVAL_INVALID", "the job came under another contract since the question", where=self.job_id
            )
        if event_type == "approval" and scope["call"] is not None and scope["call"] not in self._progress.open_calls:
            raise ClawproxyError("APPROVAL_NOT_FOUND", "the call has ended since the question", where=self.job_id)
        await self._queue_event(event_type, detail)

    # -- for JobBook -------------------------------------------------------------------------------------------------

    async def record_recovery(self, torn: tuple[JsonObject, ...]) -> None:
        """Name the torn files and the calls that the last writer, or a seal by force, left open."""
        left = list(self._progress.open_calls)
        while torn or left:
            # one torn file per record, so that the record stays a line whatever they hold
            record = self._scribe.recovery(torn[:1], left[:_OPEN_CALLS_PER_RECORD], self._clock_ms())
            torn, left = torn[1:], left[_OPEN_CALLS_PER_RECORD:]
            await self._queue(record)

    async def record_end(self, *, force: bool) -> None:
        """Append ``job_sealed``, the last record, unless it is there. Raises ``ClawproxyError`` (JOB_BUSY)."""
        if self._progress.sealed:
            await self._journal.flush(self.log)
            return
        if self.open_calls and not force:
            raise ClawproxyError(
                "JOB_BUSY",
                "the job has calls open",
                where=self.job_id,
                got=f"{self.open_calls} open",
                expected="none",
                remedy="let them end, or seal by force: their outcome is then recorded as unknown",
            )
        self._closed = _SEALED
        await self.record_recovery(())
        await self._queue_event("job_sealed", {"counts": self.counts})

    async def stop(self, refusal: Refusal) -> None:
        """Take nothing more, and wait until what was taken is on the disk or failed: then the log may be closed."""
        self._closed = refusal
        self.log.closed = True
        await asyncio.wait([self._journal.flush(self.log)])

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.log.fault is not None:
            raise self.log.fault.error()
        if self._closed is not None:
            raise JournalError(self._closed.reason, "the job takes no more records", where=self.job_id)

    def _check_start(self, start: CallStart | EffectStart) -> None:
        """That the call goes out on an authority that is on record, under ids of its own; else the gateway is wrong."""
        progress = self._progress
        if start.policy_hash_b64u != self.policy_hash_b64u and start.policy_hash_b64u in progress.contracts:
            raise ClawproxyError(
                "POLICY_HASH_MISMATCH", "the job came under another contract while the call was judged"
            )
        known = (
            start.policy_hash_b64u == self.policy_hash_b64u
            and progress.tokens.get(start.token_hash_hex) == start.token_scope_hash_b64u
            and clip_text(start.presenter) == progress.presenter
        )
        if not known:
            raise ClawproxyError("GATEWAY_FAULT", "the token, contract or presenter is not on the job's record")
        if start.nonce in progress.nonces:
            raise ClawproxyError("GATEWAY_FAULT", "the nonce was used before; reserve it first", where=start.receipt_id)
        self._check_enforced(bool(start.would_refuse), start.receipt_id)
        self._check_receipt_id(start.receipt_id)

    def _check_enforced(self, outside: bool, receipt_id: str) -> None:
        """What the contract refuses goes out of a job that was opened to observe, and of no other."""
        if outside and not self.observe:
            raise ClawproxyError("GATEWAY_FAULT", "the contract of this job is enforced", where=receipt_id)

    def _check_receipt_id(self, receipt_id: str) -> None:
        if receipt_id in self._progress.receipt_ids or not _RECEIPT_ID.fullmatch(receipt_id):
            raise ClawproxyError(
                "GATEWAY_FAULT", "not a receipt id, or used before", got=receipt_id, expected="rcpt_ and a random UUID"
            )

    def _queue(self, record: Record) -> asyncio.Future[None]:
        return self._journal.append(self.log, record.line)

    def _queue_event(self, event_type: str, detail: JsonObject) -> asyncio.Future[None]:
        if event_type != "job_sealed" and (opened := self._scribe.next_segment(self._clock_ms())) is not None:
            self._queue(opened)
        return self._queue(self._scribe.event(event_type, detail, self._clock_ms()))

    def _receipt(self, intended: Intended, end: CallEnd | EffectEnd) -> Record:
        if intended.attested or intended.receipt_id not in self._progress.open_calls:
            raise ClawproxyError("GATEWAY_FAULT", "a call is attested once, by its own job", where=intended.receipt_id)
        if isinstance(end, CallEnd):
            self._check_enforced(any(called.would_refuse for called in end.called), intended.receipt_id)
        record = self._scribe.receipt(intended, end)
        intended.attested = True
        return record

    def _abandon(self, intended: Intended) -> None:
        if self.log.fault is not None:
            return
        ended_ms = max(self._clock_ms(), intended.start.started_ms)
        detail = "cancelled while the intent was being written: nothing was sent"
        if isinstance(intended.start, EffectStart):
            effect = EffectEnd(Outcome.FAULT, None, _NOTHING_B64U, 0, None, ended_ms, detail)
            self._queue(self._receipt(intended, effect))
            return
        end = CallEnd(
            outcome=Outcome.FAULT,
            status=None,
            response_hash_b64u=_NOTHING_B64U,
            response_bytes=0,
            tokens_input=0,
            tokens_output=0,
            usage=Usage.NONE,
            response_model=None,
            tool_calls=(),
            first_byte_ms=None,
            ended_ms=ended_ms,
            detail=detail,
            sent=False,
        )
        self._queue(self._receipt(intended, end))
