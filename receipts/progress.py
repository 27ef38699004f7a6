"""Where a job's journal stands: what the next record must say, and what a sealed one will count. Pure.

``take`` is the one transition. The writer calls it with each record it has built, and recovery with each record it has
read, so a reopened job stands exactly where the writer stood.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policies.budget_rules import Amounts
from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from .budget import Tally, charged_in, reserved_in
from .records import event_hash

SEGMENT_CALLS = 900
SEGMENT_EVENTS = 990
"""A segment takes no more calls or events than this; the wire format's bundle holds 1,000 (protocol.md E.2, E.8)."""


@dataclass(slots=True)
class Segment:
    """One stretch of the event chain, which becomes one proof bundle."""

    number: int
    run_id: str
    events: int = 0
    calls: int = 0
    last_event_hash_b64u: str | None = None
    root_span: str | None = None
    last_span: str | None = None
    """The spans of its first and of its last receipt so far."""

    @property
    def is_full(self) -> bool:
        return self.calls >= SEGMENT_CALLS or self.events >= SEGMENT_EVENTS


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call whose intent is in the journal and whose receipt is not."""

    seq: int
    segment: int
    is_effect: bool = False
    """A tool's, not a model's."""
    anchor_span: str | None = None
    """The last span of the segment when a tool's call left: what the tool acts upon."""
    reserved: Amounts | None = None
    """What it may use of the job's budgets."""


@dataclass(frozen=True, slots=True)
class JobApproved:
    """An approver's answer about the whole job, as it stands on record."""

    approval_id: str
    signer_did: str
    given: bool


@dataclass(slots=True)
class Progress:
    """The state of one journal. ``head_b64u`` is the ``h`` of the last record, at first the hash of job.json."""

    job_id: str
    incarnation: str
    base_run_id: str
    head_b64u: str
    next_seq: int = 0
    policy_hash_b64u: str = ""
    """The contract in force: that of the last ``authority_changed`` that names one, at first that of job.json."""
    contracts: set[str] = field(default_factory=set)
    """Every contract that was ever in force."""
    contract_changes: int = 0
    issued_s: float = 0
    """When the newest token on record was issued, Unix seconds; 0 before there is one."""
    last_timestamp: str = ""
    hosts_observed: set[tuple[str, int | None]] = field(default_factory=set)
    """Host and port of the ``host_observed`` events on record."""
    observe: bool = False
    """The job was opened to observe."""
    segments: dict[int, Segment] = field(default_factory=dict)
    """The current segment and, while they have calls open, those before."""
    current: int = 1
    open_calls: dict[str, OpenCall] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    receipt_ids: set[str] = field(default_factory=set)
    """Of calls and of denials: no id occurs twice."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Token hash -> scope hash, of the tokens on record."""
    jtis: set[str] = field(default_factory=set)
    """Ids of the tokens on record."""
    orders: dict[int, JsonObject] = field(default_factory=dict)
    """Number -> detail, of the operator's orders on record that no later record lifts."""
    orders_named: set[int] = field(default_factory=set)
    presenter: str | None = None
    torn_named: set[str] = field(default_factory=set)
    calls: int = 0
    events: int = 0
    receipts: int = 0
    denials: int = 0
    gaps: int = 0
    effects: int = 0
    """So many of the calls are those of tools."""
    approval: JobApproved | None = None
    """The last answer about the whole job."""
    tally: Tally = field(default_factory=Tally)
    """What the job's calls used of its budgets."""
    warned: set[tuple[str, int]] = field(default_factory=set)
    """Budget and percentage of the warnings on record."""
    labels: set[str] = field(default_factory=set)
    """Labels that calls on record carried."""
    classes: set[str] = field(default_factory=set)
    """Classes of data that were found in calls on record, and left with them."""
    attachments: dict[str, int] = field(default_factory=dict)
    """Digest -> size of the files in ``attachments/``."""
    attached: int = 0
    door_counted: bool = False
    """Whether a ``door_counted`` event is on record."""
    sealed: bool = False

    def __post_init__(self) -> None:
        self.segments[self.current] = Segment(self.current, self.run_id(self.current))
        self.contracts.add(self.policy_hash_b64u)

    def run_id(self, segment: int) -> str:
        return f"{self.base_run_id}::{segment:04d}"

    @property
    def segment(self) -> Segment:
        """The segment that takes the next event."""
        return self.segments[self.current]

    @property
    def counts(self) -> dict[str, int]:
        """As SEAL.json states them; ``effects`` only where there are some."""
        effects = {"effects": self.effects} if self.effects else {}
        return {
            "calls": self.calls,
            "denials": self.denials,
            **effects,
            "events": self.events,
            "gaps": self.gaps,
            "receipts": self.receipts,
            "segments": self.current,
        }

    def place(self, segment: int) -> JsonObject:
        """What makes the place of the next record: repeated inside what is signed."""
        return {
            "incarnation": self.incarnation,
            "job_id": self.job_id,
            "prev_b64u": self.head_b64u,
            "segment": segment,
            "seq": self.next_seq,
        }

    def begin_segment(self) -> Segment:
        """Turn to a new segment; its ``segment_opened`` event must be the next record."""
        if not any(call.segment == self.current for call in self.open_calls.values()):
            del self.segments[self.current]
        self.current += 1
        segment = self.segments[self.current] = Segment(self.current, self.run_id(self.current))
        return segment

    def check_event(self, payload: JsonObject) -> None:
        """That the event of a record read back continues the chain; raises ``ValueError``."""
        entry, segment = payload["event"], self.segment
        begins = segment.last_event_hash_b64u is None
        expected_type = None if not begins else "job_opened" if segment.number == 1 else "segment_opened"
        if (
            payload["segment"] != segment.number
            or entry["run_id"] != segment.run_id
            or entry["prev_hash_b64u"] != segment.last_event_hash_b64u
            or entry["event_hash_b64u"] != event_hash(entry)
            or entry["payload_hash_b64u"] != sha256_b64u(jcs_bytes(payload["detail"]))
            or entry["timestamp"] != payload["timestamp"]
            or (expected_type is not None and entry["event_type"] != expected_type)
        ):
            raise ValueError("an event does not continue the event chain")

    def take(self, kind: str, payload: JsonObject, h_b64u: str) -> None:
        """Move on by one record. Raises ``ValueError`` or ``KeyError`` where it cannot follow what came before."""
        if self.sealed:
            raise ValueError("a record follows the end of the job")
        if kind == "receipt":
            self._take_receipt(payload)
        elif kind == "effect":
            self._take_effect(payload)
        elif kind == "denial":
            self._use_receipt_id(payload["receipt_id"])
            self.denials += 1
        elif kind == "recovery":
            self._take_recovery(payload)
        else:
            self._take_event(kind, payload)
        self.last_timestamp = payload["timestamp"]
        self.head_b64u = h_b64u
        self.next_seq += 1

    def _take_event(self, kind: str, payload: JsonObject) -> None:
        entry, detail, segment = payload["event"], payload["detail"], self.segment
        event_type = entry["event_type"]
        if kind == "intent":
            if event_type not in ("llm_call", "tool_egress") or detail["nonce"] in self.nonces:
                raise ValueError("an intent is not the start of one call")
            self._use_receipt_id(detail["receipt_id"])
            is_effect = event_type == "tool_egress"
            anchor = segment.last_span if is_effect else None
            reserved = reserved_in(detail)
            opened = OpenCall(payload["seq"], segment.number, is_effect, anchor, reserved)
            self.open_calls[detail["receipt_id"]] = opened
            if reserved is not None:
                self.tally.reserve(reserved)
            if (data := detail.get("data")) is not None:
                self.labels.update(data["labels"])
                self.classes |= {row["of"] for row in data["found"]} - {row["of"] for row in data["redacted"]}
            self.nonces.add(detail["nonce"])
            self.calls += 1
            self.effects += is_effect
            segment.calls += 1
        elif event_type in ("job_opened", "authority_changed"):
            if (token_hash := detail["token"].get("token_hash_hex")) is not None:
                self.tokens[token_hash] = detail["token"]["token_scope_hash_b64u"]
                if isinstance(jti := detail["token"].get("jti"), str):
                    self.jtis.add(jti)
                if type(issued_s := detail["token"].get("iat")) in (int, float):
                    self.issued_s = max(self.issued_s, issued_s)
            self.presenter = detail["presenter"]
            self.observe = self.observe or (event_type == "job_opened" and detail.get("enforcement") == "observe")
            if "policy_hash_b64u" in detail:
                self._take_contract(detail["previous_policy_hash_b64u"], detail["policy_hash_b64u"])
        elif event_type == "approval" and detail["scope"]["call"] is None:
            if detail["scope"]["policy_hash_b64u"] != self.policy_hash_b64u:
                raise ValueError("an approval of the job under a contract that is not in force")
            answer = detail["approval"]["payload"]
            given = answer["approval_type"] == "explicit_approve"
            self.approval = JobApproved(answer["receipt_id"], detail["approval"]["signer_did"], given)
        elif event_type in ("stopped", "revoked") and "number" in detail:
            self.orders[detail["number"]] = detail
            self.orders_named.add(detail["number"])
        elif event_type == "resumed":
            del self.orders[detail["lifts"]]
        elif event_type == "attached":
            self.attached += 1
            if detail["stored"]:
                self.attachments[detail["sha256_b64u"]] = detail["size_bytes"]
        elif event_type == "door_counted":
            self.door_counted = True
        elif event_type == "host_observed":
            self.hosts_observed.add((detail["host"], detail["port"]))
        elif event_type == "budget_warning":
            self.warned.add((detail["budget"], detail["percent"]))
        self.sealed = event_type == "job_sealed"
        self.events += 1
        segment.events += 1
        segment.last_event_hash_b64u = entry["event_hash_b64u"]

    def _take_contract(self, before: str, after: str) -> None:
        """Approvals of the job and warnings about its budgets begin anew; what was used stays used."""
        if before != self.policy_hash_b64u or after == before:
            raise ValueError("a change of contract does not begin with the one in force")
        self.policy_hash_b64u = after
        self.contracts.add(after)
        self.contract_changes += 1
        self.approval = None
        self.warned = set()

    def _take_receipt(self, payload: JsonObject) -> None:
        ours = payload["metadata"]["clawproxy"]
        call = self._answered(payload["receipt_id"], ours, is_effect=False)
        if call.reserved is not None:
            self.tally.close(call.reserved, charged_in(ours) or call.reserved)
        segment = self.segments[call.segment]
        if (span := payload["binding"].get("span_id")) is not None:
            segment.root_span, segment.last_span = segment.root_span or span, span
        self._forget_segment(call.segment)

    def _take_effect(self, payload: JsonObject) -> None:
        receipt = payload["side_effect"]
        call = self._answered(receipt["receipt_id"], payload, is_effect=True)
        if receipt["binding"].get("parent_span_id") != call.anchor_span:
            raise ValueError("a side effect hangs on another call")
        self._forget_segment(call.segment)

    def _answered(self, receipt_id: str, place: JsonObject, *, is_effect: bool) -> OpenCall:
        call = self.open_calls.pop(receipt_id)
        if (place["intent_seq"], place["segment"], is_effect) != (call.seq, call.segment, call.is_effect):
            raise ValueError("a receipt is not that of its intent")
        self.receipts += 1
        return call

    def _use_receipt_id(self, receipt_id: str) -> None:
        if receipt_id in self.receipt_ids:
            raise ValueError("a receipt id occurs twice")
        self.receipt_ids.add(receipt_id)

    def _take_recovery(self, payload: JsonObject) -> None:
        for receipt_id in payload["open_calls"]:
            call = self.open_calls.pop(receipt_id)
            self.gaps += 1
            if call.reserved is not None:
                self.tally.close(call.reserved, call.reserved)
            self._forget_segment(call.segment)
        self.torn_named.update(item["path"] for item in payload["torn"])

    def _forget_segment(self, number: int) -> None:
        """An older segment is kept for as long as a call of it is open."""
        if number != self.current and not any(call.segment == number for call in self.open_calls.values()):
            self.segments.pop(number, None)
