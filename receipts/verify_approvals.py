"""Rules of what people approved (docs/evidence-format.md, An approval). Pure.

J44 an ``approval`` event: closed detail; its question is about this job, incarnation, agent and contract
    (EVIDENCE_MISMATCH) and, if about a call, that call is open and the question is bound to its event and its span
    (RECEIPT_UNMATCHED, RECEIPT_BINDING_MISMATCH); the contract asks for it, of this group and within this time
    (EVIDENCE_MISMATCH); the answer is signed over exactly this question (HASH_MISMATCH, SIGNATURE_INVALID,
    EVIDENCE_MISMATCH), in time (APPROVAL_TOO_LATE); its id and nonce occur once (RECEIPT_DUPLICATE). A yes or a no is
    by an approver's key of the group (CLAIM_NOT_FOUND) that has no other role (KEY_IN_TWO_ROLES); that nobody
    answered is the gateway's own word. Gaps: the trust file names no approvers (TRUST_NOT_GIVEN), or not which
    groups the signer is in (APPROVER_GROUP_UNKNOWN)
J45 a call leaves only with a yes to the whole job in force, where the contract wants that; a call of a tool that was
    passed on, and needs an approval, names a yes to this tool and these arguments in this call, which no other one
    names (APPROVAL_MISSING)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..policies.call_rules import approval_of, called_names
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject
from ..tokens.keys import Role
from ..tokens.trust import Trust
from .job_shapes import APPROVAL_DETAIL, APPROVAL_PAYLOAD
from .recorded_facts import is_surely_whole
from .report import Fault, Findings
from .verify_journal import Entry
from .wire_envelope import Signatures, check_shape, check_signature, join, same_json
from .wire_schema import parse_date_time_ms

_LATE_MS = 60_000
"""What the record of an answer may be after its deadline: clocks step, and disks are slow."""
_APPROVE, _TIMEOUT = "explicit_approve", "timeout_deny"


@dataclass(frozen=True, slots=True)
class OpenCall:
    """What an approval may hang on: the event of a call that is open."""

    run_id: str
    event_hash_b64u: str
    tools: tuple[str, ...] = ()
    """The tools that the call declared, as they are on record."""


@dataclass(slots=True)
class ApprovalsSeen:
    """The approvals of one job, in the order of its records. ``policy`` is None while the contract is not read."""

    facts: Mapping[str, Any]
    trust: Trust
    roles: dict[str, str]
    """DID -> its role in this job or in the trust file; approvers are added."""
    policy: Policy | None = None
    signatures: Signatures = field(default_factory=Signatures)
    ids: set[str] = field(default_factory=set)
    given: dict[str, JsonObject] = field(default_factory=dict)
    """Approval id -> scope, of the yeses to calls that no call of a tool has named yet."""
    job_approved: bool = False
    gaps: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Reason -> where it was first, and why."""

    def take_contract(self, policy: Policy) -> None:
        """Another contract is in force: the whole job is approved anew, if that wants it."""
        self.policy = policy
        self.job_approved = False

    def take(
        self,
        entry: Entry,
        detail: JsonObject,
        call: OpenCall | None,
        path: str,
        policy_hash_b64u: str,
        policy: Policy | None,
    ) -> None:
        """J44. ``call`` is the open call that the question names, if there is such a one; ``policy`` its contract, or
        the one in force for a question about the whole job."""
        check_shape(APPROVAL_DETAIL, detail, "J44", path)
        scope, envelope = detail["scope"], detail["approval"]
        payload, inside = envelope["payload"], join(path, "approval.payload")
        check_shape(APPROVAL_PAYLOAD, payload, "J44", inside)
        self._check_scope(scope, call, join(path, "scope"), policy_hash_b64u, policy)
        self._check_answer(entry, scope, envelope, join(path, "approval"))
        self._check_said(scope, envelope, call, inside)
        self._check_time(entry, scope, payload, path)
        self._check_signer(entry, scope, envelope, join(path, "approval"))
        for name in (scope["approval_id"], scope["nonce"]):
            if name in self.ids:
                raise Fault("J44", "RECEIPT_DUPLICATE", join(path, "scope"), f"{name} occurs twice")
            self.ids.add(name)
        granted = payload["approval_type"] == _APPROVE
        if scope["call"] is None:
            self.job_approved = granted
        elif granted:
            self.given[scope["approval_id"]] = scope

    def check_intent(self, path: str, waived: frozenset[str] = frozenset()) -> None:
        """J45 for a call that leaves; ``waived`` are codes that it was let through in spite of."""
        if "APPROVAL_REQUIRED" in waived:
            return
        if self.policy is not None and self.policy.approvals.job is not None and not self.job_approved:
            raise Fault("J45", "APPROVAL_MISSING", path, "the call left without an approval of the job in force")

    def check_called(
        self, receipt_id: str, called: list[JsonObject], path: str, policy: Policy | None, declared: Sequence[str]
    ) -> None:
        """J45 for the calls of tools in an answer, as its receipt lists them; ``policy`` is the call's contract, and
        ``declared`` the tools of its request."""
        for n, item in enumerate(called):
            where = join(path, f"called[{n}]")
            if item["outcome"] == "approved":
                self._check_approved(receipt_id, item, where)
            elif "approval" in item and item["outcome"] == "allowed":
                raise Fault("J45", "EVIDENCE_MISMATCH", join(where, "approval"), "no approval was needed")
            elif item["outcome"] == "allowed" and "would_refuse" not in item and _needs(policy, item["name"], declared):
                raise Fault("J45", "APPROVAL_MISSING", where, "the contract wants it approved, and it was passed on")

    def tell(self, findings: Findings) -> None:
        """The gaps."""
        for reason, (path, why) in self.gaps.items():
            findings.gap("J44", reason, path, why)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check_approved(self, receipt_id: str, item: JsonObject, path: str) -> None:
        scope = self.given.pop(item.get("approval", ""), None)
        if scope is None:
            raise Fault("J45", "APPROVAL_MISSING", path, "no approval on record, or one that was used before")
        bound = (scope["call"], scope["arguments_hash_b64u"])
        short, long = sorted((scope["tool"], item["name"]), key=len)
        same_tool = short == long or (long.startswith(short) and not is_surely_whole(short))  # one may be clipped more
        if bound != (receipt_id, item["arguments_hash_b64u"]) or not same_tool:
            raise Fault("J45", "APPROVAL_MISSING", path, "the approval is for another call, tool or arguments")

    def _check_scope(
        self, scope: JsonObject, call: OpenCall | None, path: str, policy_hash_b64u: str, policy: Policy | None
    ) -> None:
        if scope["policy_hash_b64u"] != policy_hash_b64u:
            raise Fault("J44", "EVIDENCE_MISMATCH", join(path, "policy_hash_b64u"), f"expected {policy_hash_b64u}")
        for member in ("agent_did", "incarnation", "job_id"):
            if scope[member] != self.facts[member]:
                raise Fault("J44", "EVIDENCE_MISMATCH", join(path, member), "not that of job.json")
        about_call = [scope[name] is not None for name in ("action", "arguments_hash_b64u", "event_hash_b64u", "tool")]
        if any(about_call) != (scope["call"] is not None) or any(about_call) != all(about_call):
            raise Fault("J44", "SCHEMA_VALIDATION_FAILED", path, "neither about a whole job nor about a call")
        if scope["call"] is None:
            if not scope["run_id"].startswith(f"{self.facts['run_id']}::"):
                raise Fault("J44", "EVIDENCE_MISMATCH", join(path, "run_id"), "not a run of the job")
        elif call is None:
            raise Fault("J44", "RECEIPT_UNMATCHED", join(path, "call"), f"{scope['call']} is no open model call")
        else:
            for member in ("event_hash_b64u", "run_id"):
                if scope[member] != getattr(call, member):
                    raise Fault("J44", "RECEIPT_BINDING_MISMATCH", join(path, member), "not that of the call's intent")
        self._check_asked_for(scope, path, policy, call.tools if call is not None else ())

    @staticmethod
    def _check_asked_for(scope: JsonObject, path: str, policy: Policy | None, declared: Sequence[str]) -> None:
        if policy is None:
            return
        rules = policy.approvals
        if scope["call"] is None:
            whole = rules.job
            if whole is None or whole.group != scope["group"]:
                raise Fault("J44", "EVIDENCE_MISMATCH", join(path, "group"), "the contract asks for no such approval")
            return
        rule = rules.of(scope["action"])
        entry = approval_of(called_names(scope["tool"], declared), policy)
        if rule is None or entry is None or entry.entry != scope["action"] or rule.group != scope["group"]:
            raise Fault("J44", "EVIDENCE_MISMATCH", join(path, "action"), "the contract asks for no such approval")
        asked_ms, until_ms = parse_date_time_ms(scope["asked_at"]) or 0, parse_date_time_ms(scope["answer_by"]) or 0
        if not 0 <= until_ms - asked_ms <= rule.deadline_s * 1000:
            detail = f"the contract gives {rule.deadline_s} s"
            raise Fault("J44", "EVIDENCE_MISMATCH", join(path, "answer_by"), detail)

    @staticmethod
    def _check_answer(entry: Entry, scope: JsonObject, envelope: JsonObject, path: str) -> None:
        payload = envelope["payload"]
        if entry.sha256_b64u(payload) != envelope["payload_hash_b64u"]:
            raise Fault("J44", "HASH_MISMATCH", join(path, "payload_hash_b64u"), "the hash of the payload is another")
        if entry.sha256_b64u(scope) != payload["scope_hash_b64u"]:
            raise Fault("J44", "HASH_MISMATCH", join(path, "payload.scope_hash_b64u"), "it answers another question")

    @staticmethod
    def _check_said(scope: JsonObject, envelope: JsonObject, call: OpenCall | None, path: str) -> None:
        payload = envelope["payload"]
        for member, value in (
            ("agent_did", scope["agent_did"]),
            ("approver_subject", envelope["signer_did"]),
            ("policy_hash_b64u", scope["policy_hash_b64u"]),
            ("receipt_id", scope["approval_id"]),
            ("timestamp", envelope["issued_at"]),
        ):
            if payload[member] != value:
                raise Fault("J44", "EVIDENCE_MISMATCH", join(path, member), f"expected {value}")
        bound = {"nonce": scope["nonce"], "policy_hash": scope["policy_hash_b64u"], "run_id": scope["run_id"]}
        if call is not None:
            bound["event_hash_b64u"] = call.event_hash_b64u
            bound["parent_span_id"] = "span_" + scope["call"].removeprefix("rcpt_")
        if not same_json(payload["binding"], bound):
            raise Fault("J44", "RECEIPT_BINDING_MISMATCH", join(path, "binding"), f"expected {bound}")

    @staticmethod
    def _check_time(entry: Entry, scope: JsonObject, payload: JsonObject, path: str) -> None:
        if payload["approval_type"] == _TIMEOUT:
            return
        until_ms = parse_date_time_ms(scope["answer_by"]) or 0
        for at in (entry.payload["timestamp"], payload["timestamp"]):
            if (parse_date_time_ms(at) or 0) > until_ms + _LATE_MS:
                raise Fault("J44", "APPROVAL_TOO_LATE", path, f"answered at {at}, asked until {scope['answer_by']}")

    def _check_signer(self, entry: Entry, scope: JsonObject, envelope: JsonObject, path: str) -> None:
        signer, where = envelope["signer_did"], join(path, "signer_did")
        if envelope["payload"]["approval_type"] == _TIMEOUT:
            if signer != entry.envelope["signer_did"]:
                raise Fault("J44", "CLAIM_NOT_FOUND", where, "that nobody answered is for the gateway to say")
        else:
            self._check_approver(signer, scope["group"], where)
        check_signature(self.signatures, signer, envelope["payload_hash_b64u"], envelope["signature_b64u"], "J44", path)

    def _check_approver(self, signer: str, group: str | None, path: str) -> None:
        if (known := self.roles.setdefault(signer, str(Role.APPROVAL))) != Role.APPROVAL:
            raise Fault("J44", "KEY_IN_TWO_ROLES", path, f"it is a {known} key as well")
        approvers = self.trust.signers(Role.APPROVAL)
        if not approvers:
            why = "the trust file names no approvers" if self.trust.given else "no trust file was given"
            self.gaps.setdefault("TRUST_NOT_GIVEN", (path, f"{why}: who approved this is not known"))
            return
        if signer not in approvers:
            raise Fault("J44", "CLAIM_NOT_FOUND", path, "not a trusted approver")
        groups = self.trust.groups_of(signer)
        if group is None or group in groups:
            return
        if groups:
            raise Fault("J44", "CLAIM_NOT_FOUND", path, f"not an approver of the group {group}")
        why = f"the trust file does not say whether {signer} is in the group {group}"
        self.gaps.setdefault("APPROVER_GROUP_UNKNOWN", (path, why))


def _needs(policy: Policy | None, name: str, declared: Sequence[str]) -> bool:
    return policy is not None and approval_of(called_names(name, declared), policy) is not None
