"""Rules of what the records say together: event chain, calls, authority, recovery (docs/evidence-format.md). Pure.

J31 an event continues its segment's chain: run id, hash before (null at its start), its own hash, that of its detail,
    its time; event ids occur once (RECORD_OUT_OF_PLACE, HASH_MISMATCH)
J32 ``job_opened`` comes first, once; ``segment_opened`` begins each later segment and names the head before;
    ``job_sealed`` is the last record of all and counts right; ``llm_call`` and
    ``tool_egress`` events are intents (EVENT_OUT_OF_PLACE)
J33 a segment holds at most 900 calls and 990 events, the end not counted (SEGMENT_OVERFULL)
J34 ``job_opened`` and ``authority_changed``: the token is this job's, agent's and contract's (EVIDENCE_MISMATCH), its
    scope hash that of its claims (TOKEN_SCOPE_HASH_MISMATCH), its issuer one that the trust file names, if that names
    any (CLAIM_NOT_FOUND), and has no other role (KEY_IN_TWO_ROLES); a job may be opened before there is a token, and
    stays with one presenter, unless the operator binds it anew (verify_presenter), and under its contract, unless a
    later token brings another (verify_change)
J35 an intent: closed detail, the contract in force, a token of that contract and the presenter on record before it
    (EVIDENCE_MISMATCH); one that was made before its token was issued, or after it expired, by more than a minute, is a
    gap (TOKEN_NOT_VALID_THEN)
J36 a receipt answers one open intent of its segment (RECEIPT_UNMATCHED); ids and nonces occur once (RECEIPT_DUPLICATE)
J37 a receipt says what its intent said, names the job's agent, and its model identity has its hash (EVIDENCE_MISMATCH,
    HASH_MISMATCH); its parts of tokens are no more than the whole, all are 0 where nothing was used, and where the
    answer names no model nothing is said of it (EVIDENCE_MISMATCH)
J38 a receipt is bound to its event, contract and token, or to the harness's chain with ours in the metadata; its span
    is its own, its parent that of the segment's first receipt (RECEIPT_BINDING_MISMATCH, CAUSAL_REFERENCE_DANGLING)
J39 a denial has an id of its own, and stands in the segment of its time (RECEIPT_DUPLICATE, RECORD_OUT_OF_PLACE)
J40 a recovery record names open calls, once each, and torn files, once each (RECOVERY_INVALID)
J41 after the end, no call is open (RECEIPT_MISSING); before it, an open call is a gap
J42 files in ``torn`` are those that recovery records name, with their bytes (TORN_FILE_MISMATCH); before the end, one
    that is not named yet is a gap. One that is named is a note (TORN_BYTES), and a gap if a whole intent, receipt or
    denial lies in it (TORN_RECORD), as it does where somebody cut no more than an LF, or if no crash leaves such bytes

J43 the record of a side effect answers an open ``tool_egress`` intent, says what that said, names the job's agent, is
    bound to the intent's event, contract and token, and hangs on the last receipt that its segment had when it left
    (reasons as in J36 to J38)

J90 to J92, jobs that were opened to observe: verify_observed
J44 and J45, what people approved: verify_approvals
J46, what keeps the agent from other ways out: verify_containment
J70 to J74, budgets: verify_budgets
J80 and J81, attachments and audits: verify_attachments

A call that recovery names is a gap, whatever else holds: it went out, perhaps, and nobody knows how it ended.

Limits: that a token's signature held is the gateway's word; the token itself is not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..policies.facts import NO_MODEL
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.scope_hash import token_scope_hash
from . import verify_observed
from .job_shapes import CALL_START, DIGEST, EFFECT_START, NAME, TOKEN_HASH
from .report import Fault, Findings
from .verify_approvals import ApprovalsSeen, OpenCall
from .verify_attachments import EVENTS as ATTACHED
from .verify_attachments import AttachedSeen
from .verify_budgets import BudgetsSeen
from .verify_change import ContractSeen
from .verify_containment import ContainmentSeen
from .verify_journal import JOURNAL, Entry, crash_leaves
from .verify_observed import check_enforcement
from .verify_orders import EVENTS, OrdersSeen
from .verify_presenter import check_presenter, is_rebinding
from .verify_proof import event_hash
from .wire_envelope import check_shape, join, same_json
from .wire_schema import Obj, parse_date_time_ms

SEGMENT_CALLS = 900
SEGMENT_EVENTS = 990
TOKEN_SKEW_S = 60
_TOKEN = Obj(
    required={"issuer_did": NAME, "token_hash_hex": TOKEN_HASH, "token_scope_hash_b64u": DIGEST},
    open=True,
)
_EGRESS = "tool_egress"
_CALLS = ("llm_call", _EGRESS)
_SAME_IN_EFFECT = ("credential", "host", "method", "port", "presenter", "request_bytes", "scheme", "way_in")
_SAME_IN_SIDE_EFFECT = ("request_hash_b64u", "target_hash_b64u")
_SAME_IN_RECEIPT = ("request_hash_b64u", "provider")
_TOLD = ("model_match", "usage")
_SAME_IN_METADATA = ("presenter", "request_bytes", "route", "stream", "tools", "tools_total", "way_in")


@dataclass(slots=True)
class SegmentSeen:
    """One stretch of the event chain, as the journal has it."""

    number: int
    run_id: str
    policy_hash_b64u: str
    """The contract that its calls are under."""
    events: list[JsonObject] = field(default_factory=list)
    receipts: list[JsonObject] = field(default_factory=list)
    """Receipt envelopes bound to our chain; those bound to a harness's are only counted."""
    calls: int = 0
    harness_bound: int = 0
    denials: int = 0
    gaps: int = 0
    root_span: str | None = None
    last_span: str | None = None
    effects: list[JsonObject] = field(default_factory=list)
    """Side effects that hang on a receipt of the segment."""
    effects_total: int = 0
    approvals: list[JsonObject] = field(default_factory=list)
    """Payloads of the approvals that are on record in the segment and name a call."""
    approvals_total: int = 0

    @property
    def anchored_approvals(self) -> list[JsonObject]:
        """Those that hang on a receipt of the segment."""
        spans = {receipt["payload"]["binding"].get("span_id") for receipt in self.receipts}
        return [item for item in self.approvals if item["binding"]["parent_span_id"] in spans]

    @property
    def last_hash_b64u(self) -> str | None:
        return self.events[-1]["event_hash_b64u"] if self.events else None


@dataclass(slots=True)
class Call:
    """One call, from its intent on."""

    entry: Entry
    segment: SegmentSeen
    detail: JsonObject
    is_effect: bool
    anchor_span: str | None


@dataclass(slots=True)
class JobSeen:
    """What the records of a job amount to, after ``take`` has seen them in order."""

    facts: Mapping[str, Any]
    """job.json."""
    issuers: frozenset[str]
    """Token issuers that the trust file names; empty where it names none."""
    roles: dict[str, str]
    """DID -> the role that it has in this job or in the trust file."""
    approvals: ApprovalsSeen
    contract: ContractSeen
    """Which contract is in force."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Hash -> contract, of those in the bundle."""
    segments: list[SegmentSeen] = field(default_factory=list)
    open_calls: dict[str, Call] = field(default_factory=dict)
    tokens: dict[str, JsonObject] = field(default_factory=dict)
    """Token hash -> token facts, of the tokens on record."""
    out_of_time: list[tuple[str, str]] = field(default_factory=list)
    """(path, why) of intents that were made outside of their token's time."""
    presenter: str | None = None
    presenter_strengths: set[str] = field(default_factory=set)
    """What the bindings to presenters are worth, as recorded."""
    receipt_ids: set[str] = field(default_factory=set)
    nonces: set[str] = field(default_factory=set)
    event_ids: set[str] = field(default_factory=set)
    torn: dict[str, JsonObject] = field(default_factory=dict)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    """(receipt id, path) of calls whose outcome is unknown."""
    calls: int = 0
    receipts: int = 0
    denials: int = 0
    effects: int = 0
    """So many of the calls are those of tools."""
    events: int = 0
    containment: ContainmentSeen = field(init=False)
    orders: OrdersSeen = field(init=False)
    """The operator's orders on record (verify_orders)."""
    budgets: BudgetsSeen = field(default_factory=lambda: BudgetsSeen(None, 0))
    """J70 to J74: the rules of ``verify_budgets``."""
    attached: AttachedSeen = field(default_factory=AttachedSeen)
    """J80 and J81: the rules of ``verify_attachments``."""
    told: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _TOLD})
    """Of ``usage`` and ``model_match``, how many receipts say what; those of before say neither."""
    observe: bool = False
    """The job was opened to observe."""
    hosts_observed: set[tuple[str, int | None]] = field(default_factory=set)
    """Of ``host_observed`` events."""
    ended: bool = False

    opened_at: str = ""
    ended_at: str = ""
    """Times of the first record and of the last one."""

    def __post_init__(self) -> None:
        self.containment = ContainmentSeen(self.facts["job_id"])
        self.orders = OrdersSeen(self.facts, self.contract.named)

    def counts(self) -> dict[str, int]:
        """As SEAL.json counts."""
        return {
            "calls": self.calls,
            "denials": self.denials,
            **({"effects": self.effects} if self.effects else {}),
            "events": self.events,
            "gaps": len(self.gaps),
            "receipts": self.receipts,
            "segments": len(self.segments),
        }

    def take(self, entry: Entry) -> None:
        """One more record, whose place and signature hold. Raises ``Fault``."""
        if self.ended:
            raise Fault("J32", "EVENT_OUT_OF_PLACE", entry.path, "a record after the end of the job")
        self.ended_at = entry.payload["timestamp"]
        self.opened_at = self.opened_at or self.ended_at
        if not self.segments and entry.kind != "event":
            raise Fault("J32", "EVENT_OUT_OF_PLACE", entry.path, "the first record is not job_opened")
        match entry.kind:
            case "event" | "intent":
                self._take_event(entry)
            case "receipt":
                self._take_receipt(entry)
            case "effect":
                self._take_effect(entry)
            case "denial":
                self._take_denial(entry)
            case _:
                self._take_recovery(entry)

    # -- events --------------------------------------------------------------------------------------------------

    def _take_event(self, entry: Entry) -> None:
        payload, path = entry.payload, join(entry.path, "body.payload")
        event, detail = payload["event"], payload["detail"]
        event_type = event["event_type"]
        if (event_type in _CALLS) != (entry.kind == "intent"):
            raise Fault("J32", "EVENT_OUT_OF_PLACE", join(path, "event.event_type"), f"{event_type} in a {entry.kind}")
        segment = self._segment_for(event_type, payload["segment"], path)
        self._check_chain(entry, segment, path)
        if event_type == "job_sealed":
            self._take_end(detail, path)
        elif event_type in ("job_opened", "authority_changed"):
            self._take_authority(event_type, detail, join(path, "detail"))
        elif event_type in EVENTS:
            self.orders.take(event_type, detail, join(path, "detail"))
        elif event_type in ATTACHED:
            self.attached.take(event_type, detail, self.contract.in_force, join(path, "detail"))
        elif event_type == "door_counted":
            self.containment.take_counts(detail, join(path, "detail"))
        elif event_type == "host_observed":
            verify_observed.check_host(detail, join(path, "detail"), self.hosts_observed, observe=self.observe)
        elif event_type == "budget_warning":
            self.budgets.take_warning(detail, payload["timestamp"], join(path, "detail"))
        elif event_type in _CALLS:
            self._take_intent(entry, detail, segment, join(path, "detail"))
        elif event_type == "approval":
            self._take_approval(entry, detail, segment, join(path, "detail"))
        elif event_type == "segment_opened" and not self._names_segment_before(detail, entry):
            raise Fault("J32", "EVENT_OUT_OF_PLACE", join(path, "detail"), "it names another segment before")
        segment.events.append(event)
        self.events += 1
        if event_type != "job_sealed" and len(segment.events) > SEGMENT_EVENTS:
            raise Fault("J33", "SEGMENT_OVERFULL", path, f"more than {SEGMENT_EVENTS} events in a segment")

    def _segment_for(self, event_type: str, number: int, path: str) -> SegmentSeen:
        opens = {"job_opened": 1, "segment_opened": max(len(self.segments) + 1, 2)}.get(event_type)
        if opens is not None and opens == len(self.segments) + 1:
            run_id = f"{self.facts['run_id']}::{opens:04d}"
            self.segments.append(SegmentSeen(opens, run_id, self.contract.in_force))
        elif opens is not None or not self.segments:
            raise Fault("J32", "EVENT_OUT_OF_PLACE", join(path, "event.event_type"), f"{event_type} cannot stand here")
        if number != len(self.segments):
            detail = f"got {number}, expected {len(self.segments)}"
            raise Fault("J31", "RECORD_OUT_OF_PLACE", join(path, "segment"), detail)
        return self.segments[-1]

    def _names_segment_before(self, detail: JsonObject, entry: Entry) -> bool:
        before = self.segments[-2]
        return detail == {
            "head_b64u": entry.prev_b64u,
            "previous_event_hash_b64u": before.last_hash_b64u,
            "previous_run_id": before.run_id,
        }

    def _check_chain(self, entry: Entry, segment: SegmentSeen, path: str) -> None:
        payload, where = entry.payload, join(path, "event")
        event, detail = payload["event"], payload["detail"]
        for member, expected in (
            ("run_id", segment.run_id),
            ("prev_hash_b64u", segment.last_hash_b64u),
            ("timestamp", payload["timestamp"]),
        ):
            if event[member] != expected:
                raise Fault("J31", "RECORD_OUT_OF_PLACE", join(where, member), f"expected {expected}")
        if event["payload_hash_b64u"] != entry.sha256_b64u(detail):
            raise Fault("J31", "HASH_MISMATCH", join(where, "payload_hash_b64u"), "the hash of the detail is another")
        if event["event_hash_b64u"] != event_hash(event):
            raise Fault("J31", "HASH_MISMATCH", join(where, "event_hash_b64u"), "the hash of the event is another")
        if event["event_id"] in self.event_ids:
            raise Fault("J31", "RECORD_OUT_OF_PLACE", join(where, "event_id"), "the event id occurs twice")
        self.event_ids.add(event["event_id"])

    def _take_end(self, detail: JsonObject, path: str) -> None:
        if self.open_calls:
            raise Fault("J41", "RECEIPT_MISSING", path, f"the job ends with {len(self.open_calls)} calls open")
        if not same_json(detail, {"counts": self.counts()}):
            raise Fault("J32", "EVENT_OUT_OF_PLACE", join(path, "detail.counts"), f"expected {self.counts()}")
        self.ended = True

    def _take_authority(self, event_type: str, detail: JsonObject, path: str) -> None:
        presenter, token = detail.get("presenter"), detail.get("token")
        if not isinstance(token, dict) or not (presenter is None or isinstance(presenter, str)):
            raise Fault("J34", "SCHEMA_VALIDATION_FAILED", path, "no token and presenter")
        self.observe = check_enforcement(event_type, detail, path) or self.observe
        self.containment.take(event_type, detail, path)
        self.presenter = check_presenter(event_type, detail, self.presenter, path)
        if (strength := detail.get("presenter_strength")) is not None:
            self.presenter_strengths.add(strength)
        where = join(path, "token")
        begins = [event["event_type"] for event in self.segments[-1].events] == ["segment_opened"]
        if self.contract.take(event_type, detail, begins_segment=begins, path=path):
            self._take_contract()
        for member, expected in (
            ("mission_id", self.facts["job_id"]),
            ("sub", self.facts["agent_did"]),
            ("policy_hash_b64u", self.contract.in_force),
        ):
            if token.get(member) != expected:
                raise Fault("J34", "EVIDENCE_MISMATCH", join(where, member), f"expected {expected}")
        if "token_hash_hex" in token:
            self._take_token(token, where)
        elif event_type != "job_opened" and not is_rebinding(event_type, detail):
            raise Fault("J34", "SCHEMA_VALIDATION_FAILED", join(where, "token_hash_hex"), "missing")

    def _take_token(self, token: JsonObject, path: str) -> None:
        check_shape(_TOKEN, token, "J34", path)
        try:
            computed = token_scope_hash(token)
        except ClawproxyError as err:
            raise Fault.of(err, "J34", path) from None
        if token["token_scope_hash_b64u"] != computed:
            detail = "not the scope hash of these claims"
            raise Fault("J34", "TOKEN_SCOPE_HASH_MISMATCH", join(path, "token_scope_hash_b64u"), detail)
        if self.issuers and token["issuer_did"] not in self.issuers:
            raise Fault("J34", "CLAIM_NOT_FOUND", join(path, "issuer_did"), "not a trusted token issuer")
        if (known := self.roles.setdefault(token["issuer_did"], str(Role.TOKEN))) != Role.TOKEN:
            raise Fault("J34", "KEY_IN_TWO_ROLES", join(path, "issuer_did"), f"it is a {known} key as well")
        self.tokens[token["token_hash_hex"]] = token
        self.contract.take_token(token)

    def _take_contract(self) -> None:
        """Another contract is in force: what it allows from here on, and what calls may use."""
        self.segments[-1].policy_hash_b64u = self.contract.in_force
        policy = self.policies[self.contract.in_force]
        self.approvals.take_contract(policy)
        self.budgets.take_contract(policy.budgets, self.segments[-1].number)

    def _take_approval(self, entry: Entry, detail: JsonObject, segment: SegmentSeen, path: str) -> None:
        scope = detail.get("scope")
        call = self.open_calls.get(str(scope.get("call"))) if isinstance(scope, dict) else None
        event = call.entry.payload["event"] if call is not None and not call.is_effect else None
        under = self.contract.in_force
        anchor = None
        if call is not None and event is not None:
            under = call.detail["policy_hash_b64u"]
            anchor = OpenCall(event["run_id"], event["event_hash_b64u"], tuple(call.detail["tools"]))
        self.approvals.take(entry, detail, anchor, path, under, self.policies.get(under))
        segment.approvals_total += 1
        if call is not None:
            segment.approvals.append(detail["approval"]["payload"])

    # -- calls ---------------------------------------------------------------------------------------------------

    def _take_intent(self, entry: Entry, detail: JsonObject, segment: SegmentSeen, path: str) -> None:
        is_effect = entry.payload["event"]["event_type"] == _EGRESS
        check_shape(EFFECT_START if is_effect else CALL_START, detail, "J35", path)
        receipt_id = detail["receipt_id"]
        self._use_id(receipt_id, join(path, "receipt_id"))
        if detail["policy_hash_b64u"] != self.contract.in_force:
            raise Fault("J35", "EVIDENCE_MISMATCH", join(path, "policy_hash_b64u"), "not the contract in force")
        token = self.tokens.get(detail["token_hash_hex"], {})
        if token.get("token_scope_hash_b64u") != detail["token_scope_hash_b64u"]:
            raise Fault("J35", "EVIDENCE_MISMATCH", join(path, "token_hash_hex"), "no such token is on record before")
        if token.get("policy_hash_b64u") != self.contract.in_force:
            raise Fault("J35", "EVIDENCE_MISMATCH", join(path, "token_hash_hex"), "its token is under another contract")
        if detail["presenter"] != self.presenter:
            raise Fault("J35", "EVIDENCE_MISMATCH", join(path, "presenter"), "not the presenter on record")
        waived = verify_observed.check_intent(detail, path, observe=self.observe)
        self.approvals.check_intent(path, waived)
        self.containment.check_intent(detail, path)
        self.orders.check_intent(detail, token, path, is_effect=is_effect)
        if why := _out_of_time(token, entry.payload["timestamp"]):
            self.out_of_time.append((entry.path, why))
        if not is_effect:
            self.budgets.take_intent(detail, segment.number, entry.payload["timestamp"], path, waived)
        self.open_calls[receipt_id] = Call(entry, segment, detail, is_effect, segment.last_span)
        self.calls += 1
        self.effects += is_effect
        segment.calls += 1
        if segment.calls > SEGMENT_CALLS:
            raise Fault("J33", "SEGMENT_OVERFULL", path, f"more than {SEGMENT_CALLS} calls in a segment")

    def _use_id(self, receipt_id: str, path: str) -> None:
        if receipt_id in self.receipt_ids:
            raise Fault("J36", "RECEIPT_DUPLICATE", path, f"{receipt_id} occurs twice")
        self.receipt_ids.add(receipt_id)

    def _take_receipt(self, entry: Entry) -> None:
        payload, path = entry.payload, join(entry.path, "body.payload")
        ours, where = payload["metadata"]["clawproxy"], join(path, "metadata.clawproxy")
        call = self._answered(payload, ours, path, where, is_effect=False)
        self._check_same(entry, call, path)
        if "usage" in ours:
            _check_used(payload, ours, path)
            for name, seen in self.told.items():
                seen[ours[name]] += 1
        self._check_binding(payload, call, path)
        policy = self.policies.get(call.detail["policy_hash_b64u"])
        verify_observed.check_same(ours, call.detail, where)
        verify_observed.check_called(ours.get("called", []), where, observe=self.observe)
        declared = call.detail["tools"]
        self.approvals.check_called(payload["receipt_id"], ours.get("called", []), where, policy, declared)
        self.budgets.take_receipt(payload, path)
        self.receipts += 1
        if call.detail["harness_run_id"] and call.detail["harness_event_hash_b64u"]:
            call.segment.harness_bound += 1
        else:
            call.segment.receipts.append(entry.envelope)

    def _answered(self, receipt: JsonObject, ours: JsonObject, path: str, where: str, *, is_effect: bool) -> Call:
        """J36: the intent that ``receipt`` (at ``path``) answers; ``ours`` (at ``where``) states its place."""
        call = self.open_calls.pop(receipt["receipt_id"], None)
        if call is None or call.is_effect is not is_effect:
            detail = f"{receipt['receipt_id']} answers no open intent"
            raise Fault("J36", "RECEIPT_UNMATCHED", join(path, "receipt_id"), detail)
        for member, expected in (("intent_seq", call.entry.seq), ("segment", call.segment.number)):
            if ours[member] != expected:
                raise Fault("J36", "RECEIPT_UNMATCHED", join(where, member), f"expected {expected}")
        nonce = receipt["binding"]["nonce"]
        if nonce in self.nonces:
            raise Fault("J36", "RECEIPT_DUPLICATE", join(path, "binding.nonce"), "the nonce occurs twice")
        self.nonces.add(nonce)
        return call

    def _take_effect(self, entry: Entry) -> None:
        """J43."""
        payload, where = entry.payload, join(entry.path, "body.payload")
        receipt, path = payload["side_effect"], join(where, "side_effect")
        call = self._answered(receipt, payload, path, where, is_effect=True)
        segment, detail, event = call.segment, call.detail, call.entry.payload["event"]
        for stated, at, members in ((payload, where, _SAME_IN_EFFECT), (receipt, path, _SAME_IN_SIDE_EFFECT)):
            for member in members:
                if stated[member] != detail[member]:
                    raise Fault("J43", "EVIDENCE_MISMATCH", join(at, member), "not what the intent said")
        verify_observed.check_same(payload, detail, where)
        for member, value in (("agent_did", self.facts["agent_did"]), ("timestamp", payload["timestamp"])):
            if receipt[member] != value:
                raise Fault("J43", "EVIDENCE_MISMATCH", join(path, member), f"expected {value}")
        bound = {
            "event_hash_b64u": event["event_hash_b64u"],
            "nonce": detail["nonce"],
            "policy_hash": detail["policy_hash_b64u"],
            "run_id": event["run_id"],
            "token_scope_hash_b64u": detail["token_scope_hash_b64u"],
        }
        binding = receipt["binding"]
        for member, value in bound.items():
            if binding[member] != value:
                raise Fault("J43", "RECEIPT_BINDING_MISMATCH", join(path, f"binding.{member}"), f"expected {value}")
        spans = (binding["span_id"], binding.get("parent_span_id"))
        right = ("span_" + receipt["receipt_id"].removeprefix("rcpt_"), call.anchor_span)
        if spans != right:
            detail_text = f"got spans {spans}, expected {right}"
            raise Fault("J43", "CAUSAL_REFERENCE_DANGLING", join(path, "binding"), detail_text)
        self.receipts += 1
        segment.effects_total += 1
        if call.anchor_span is not None:
            segment.effects.append(receipt)

    def _check_same(self, entry: Entry, call: Call, path: str) -> None:
        payload = entry.payload
        ours, detail = payload["metadata"]["clawproxy"], call.detail
        if ours["agent_did"] != self.facts["agent_did"]:
            where = join(path, "metadata.clawproxy.agent_did")
            raise Fault("J37", "EVIDENCE_MISMATCH", where, "not the agent of job.json")
        expected = {name: detail[name] for name in _SAME_IN_RECEIPT} | {"model": detail["model"] or NO_MODEL}
        for member, value in expected.items():
            if payload[member] != value:
                raise Fault("J37", "EVIDENCE_MISMATCH", join(path, member), "not what the intent said")
        for member in _SAME_IN_METADATA:
            if ours[member] != detail[member]:
                where = join(path, f"metadata.clawproxy.{member}")
                raise Fault("J37", "EVIDENCE_MISMATCH", where, "not what the intent said")
        for member in ("upstream", "upstream_model"):
            if payload["metadata"].get(member) != detail.get(member):
                raise Fault("J37", "EVIDENCE_MISMATCH", join(path, f"metadata.{member}"), "not what the intent said")
        if not same_json(ours.get("data"), detail.get("data")):
            raise Fault("J37", "EVIDENCE_MISMATCH", join(path, "metadata.clawproxy.data"), "not what the intent said")
        identity = payload["metadata"]["model_identity"]
        where = join(path, "metadata.model_identity")
        if identity.get("model") != {"name": payload["model"], "provider": payload["provider"]}:
            raise Fault("J37", "EVIDENCE_MISMATCH", where, "not the receipt's model and provider")
        if entry.sha256_b64u(identity) != payload["metadata"]["model_identity_hash_b64u"]:
            raise Fault("J37", "HASH_MISMATCH", f"{where}_hash_b64u", "the hash of the model identity is another")

    def _check_binding(self, payload: JsonObject, call: Call, path: str) -> None:
        binding, ours, detail = payload["binding"], payload["metadata"]["clawproxy"], call.detail
        event = call.entry.payload["event"]
        harness = bool(detail["harness_run_id"] and detail["harness_event_hash_b64u"])
        own = {"run_id": event["run_id"], "event_hash_b64u": event["event_hash_b64u"]}
        theirs = {"run_id": detail["harness_run_id"], "event_hash_b64u": detail["harness_event_hash_b64u"]}
        expected: dict[str, Any] = {
            **(theirs if harness else own),
            "policy_hash": detail["policy_hash_b64u"],
            "token_scope_hash_b64u": detail["token_scope_hash_b64u"],
        }
        where = join(path, "binding")
        for member, value in expected.items():
            if binding[member] != value:
                raise Fault("J38", "RECEIPT_BINDING_MISMATCH", join(where, member), f"expected {value}")
        if not binding["nonce"].startswith(detail["nonce"]):  # the intent's may be clipped
            raise Fault("J38", "RECEIPT_BINDING_MISMATCH", join(where, "nonce"), "not the intent's nonce")
        stated = {name: ours[name] for name in own if name in ours}
        if stated != (own if harness else {}):
            detail_text = "our own run and event stand there for harness-bound receipts alone"
            raise Fault("J38", "RECEIPT_BINDING_MISMATCH", join(path, "metadata.clawproxy"), detail_text)
        segment = call.segment
        spans = {name: binding[name] for name in ("span_id", "parent_span_id") if name in binding}
        right: dict[str, str] = {}
        if not harness:
            right["span_id"] = "span_" + payload["receipt_id"].removeprefix("rcpt_")
            if segment.root_span is not None:
                right["parent_span_id"] = segment.root_span
            segment.root_span = segment.root_span or right["span_id"]
            segment.last_span = right["span_id"]
        if spans != right:
            raise Fault("J38", "CAUSAL_REFERENCE_DANGLING", where, f"got spans {spans}, expected {right}")

    def _take_denial(self, entry: Entry) -> None:
        payload, path = entry.payload, join(entry.path, "body.payload")
        self._use_id(payload["receipt_id"], join(path, "receipt_id"))
        if payload["segment"] != len(self.segments):
            raise Fault("J39", "RECORD_OUT_OF_PLACE", join(path, "segment"), f"expected {len(self.segments)}")
        self.denials += 1
        self.segments[-1].denials += 1

    # -- recovery ------------------------------------------------------------------------------------------------

    def _take_recovery(self, entry: Entry) -> None:
        payload, path = entry.payload, join(entry.path, "body.payload")
        if payload["segment"] != len(self.segments):
            raise Fault("J40", "RECORD_OUT_OF_PLACE", join(path, "segment"), f"expected {len(self.segments)}")
        for n, receipt_id in enumerate(payload["open_calls"]):
            call = self.open_calls.pop(receipt_id, None)
            if call is None:
                detail = f"{receipt_id} is no open call"
                raise Fault("J40", "RECOVERY_INVALID", join(path, f"open_calls[{n}]"), detail)
            self.gaps.append((receipt_id, call.entry.path))
            call.segment.gaps += 1
            self.budgets.take_gap(receipt_id, call.entry.path)
        for n, item in enumerate(payload["torn"]):
            if item["path"] in self.torn:
                raise Fault("J40", "RECOVERY_INVALID", join(path, f"torn[{n}].path"), "the file is named twice")
            self.torn[item["path"]] = item


def _check_used(payload: JsonObject, ours: JsonObject, path: str) -> None:
    """J37: tokens and the model that answered."""
    where = join(path, "metadata.clawproxy")
    read, wrote = payload["tokens_input"], payload["tokens_output"]
    parts = {"tokens_cached": read, "tokens_cache_write": read - ours["tokens_cached"], "tokens_reasoning": wrote}
    for member, whole in parts.items():
        if ours[member] > whole:
            raise Fault("J37", "EVIDENCE_MISMATCH", join(where, member), "a part that is more than the whole")
    if ours["usage"] == "none" and read + wrote > 0:
        raise Fault("J37", "EVIDENCE_MISMATCH", join(where, "usage"), "tokens where nothing was used")
    if ours["response_model"] is None and ours["model_match"] != "unknown":
        raise Fault("J37", "EVIDENCE_MISMATCH", join(where, "model_match"), "the answer names no model")


def _out_of_time(token: JsonObject, timestamp: str) -> str:
    """Why ``token`` was not valid at ``timestamp``, or empty."""
    at_ms = parse_date_time_ms(timestamp)
    for member, sign in (("iat", -1), ("exp", 1)):
        limit_s = token.get(member)
        if at_ms is None or limit_s.__class__ not in (int, float):
            return f"the token on record has no {member}"
        if sign * (at_ms - limit_s * 1000) > TOKEN_SKEW_S * 1000:
            return f"the call left at {timestamp}, and its token's {member} is {limit_s}"
    return ""


def check_end(seen: JobSeen, files: Mapping[str, bytes], findings: Findings) -> None:
    """J41 and J42 after the last record, and the gaps. Raises ``Fault``."""
    for receipt_id, path in seen.gaps:
        findings.gap("J40", "OUTCOME_UNKNOWN", path, f"{receipt_id} went out, and recovery found no end of it")
    for receipt_id, call in seen.open_calls.items():
        findings.gap("J41", "CALL_OPEN", call.entry.path, f"{receipt_id} has no receipt yet")
    seen.budgets.tell_overruns(findings, observe=seen.observe)
    for path, why in seen.out_of_time:
        findings.gap("J35", "TOKEN_NOT_VALID_THEN", path, why)
    seen.approvals.tell(findings)
    seen.contract.check_end(files, findings, ended=seen.ended)
    seen.attached.check_end(files, findings, ended=seen.ended)
    there = {path for path in files if path.startswith("torn/")}
    for path, item in seen.torn.items():
        if path not in there:
            raise Fault("J42", "TORN_FILE_MISMATCH", path, "a recovery record names it, and it is not there")
        if sha256_b64u(files[path]) != item["sha256_b64u"] or len(files[path]) != item["size_bytes"]:
            raise Fault("J42", "TORN_FILE_MISMATCH", path, "not the bytes that the recovery record names")
        _tell_torn(path, files[path], findings)
    for path in sorted(there - seen.torn.keys()):
        if seen.ended:
            raise Fault("J42", "TORN_FILE_MISMATCH", path, f"no recovery record in {JOURNAL} names it")
        findings.gap("J42", "TORN_TAIL", path, "no recovery record names it yet")


def _tell_torn(path: str, content: bytes, findings: Findings) -> None:
    """J42: what a torn file that is named amounts to."""
    kinds = sorted({kind for line in content.split(b"\n") if (kind := _call_record(line.replace(b"\0", b"")))})
    offset = int(path.removeprefix("torn/").partition(".")[0])
    if kinds:
        findings.gap("J42", "TORN_RECORD", path, f"a whole record ({', '.join(kinds)}) was cut off with it")
    elif not crash_leaves(content, offset):
        findings.gap("J42", "TORN_RECORD", path, "no crash leaves such bytes, so records were cut off with them")
    else:
        findings.note("J42", "TORN_BYTES", path, f"{len(content)} bytes that a crash left were cut off")


def _call_record(line: bytes) -> str:
    """The kind of the record that ``line`` is, if it is one that tells of a call."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    kind = record.get("t") if isinstance(record, dict) else None
    return kind if kind in ("intent", "receipt", "effect", "denial") else ""
