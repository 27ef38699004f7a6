"""The contract against the records: every intent is decided again (docs/evidence-format.md, Deciding again). Pure.

J60 the contract is one that this version reads (CONTRACT_NOT_READ, a gap); calls under a contract that demands what
    this version cannot judge are a gap (NOT_RECOMPUTED)
J61 a model call is one that the contract and the scope of its token allow: provider, model and its fallbacks, declared
    tools, tool choice, state held by the provider, URLs that it fetches; and it carries no label and no class of data
    that is denied, nor one that is to be redacted and was not (CONTRACT_EXCEEDED)
J62 a call of a tool goes where ``egress_allowlist`` says: scheme, host, port, method, with the credential of that entry
    (CONTRACT_EXCEEDED)
J63 no token on record lives longer than the contract allows (CONTRACT_EXCEEDED)
J64 facts that are on record only in part are judged as far as they are there, and are a gap (NOT_RECOMPUTED); those
    that no record holds, in evidence of before and of the paths of tools' calls, are counted (``recomputed``)
J92 what the contract refuses in a job that was opened to observe is what its record says would have been refused, with
    the same code and rule (EVIDENCE_MISMATCH); with a contract that the auditor gave it is CONTRACT_EXCEEDED
J65 a call of a tool in an answer that the agent got is one that the contract allows, by its name and by what data the
    call carried (CONTRACT_EXCEEDED); one of which only the name is on record, and that is not allowed, is a gap (J64);
    where its arguments decide, of which a digest is on record, it is counted (``arguments_not``): there are rules on
    them, or they name what a tool that can call any other was to call

Limits: a record says what the gateway saw. That the request held nothing else is its word, as is a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..policies.contract import parse_contract
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .redecide import (
    Redecided,
    data_refusal,
    redecide_call,
    redecide_called,
    redecide_effect,
    token_life_refusal,
    would_refuse_so,
)
from .report import Findings
from .verify_journal import Entry
from .verify_observed import OBSERVE, OPENED_TO_OBSERVE, is_same
from .wire_envelope import join

EXCEEDED = "CONTRACT_EXCEEDED"
NOT_RECOMPUTED = "NOT_RECOMPUTED"
_DELIVERED = ("allowed", "approved")
_MOST_REASONS = 16
_BY_STATE = frozenset({"APPROVAL_REQUIRED", "BUDGET_EXCEEDED", "BUDGET_UNPRICED", "TOO_MANY_CALLS"})
"""What would have refused a call for more than its facts: approvals and budgets have rules of their own."""


@dataclass(frozen=True, slots=True)
class _Under:
    """One contract; ``policy`` None where it cannot be read, ``demands`` what this version does not judge."""

    policy: Policy | None
    demands: str
    path: str


class ContractCheck:
    """The contracts of a job (``add``, the first one first) against its records, given in order by ``take``; ``tell``
    at the end.

    Only what the rules of a record passed (``verify_calls``) may be given.
    """

    def __init__(self, *, strict: bool = False) -> None:
        """With ``strict`` what was let through in a job that was opened to observe fails, as it does elsewhere."""
        self._strict = strict
        self._observed = ""
        """The path of the event that opened the job to observe."""
        self.outside: Counter[str] = Counter()
        """How many ``calls``, and calls of ``tools`` in answers, were let through so."""
        self.counted: Counter[str] = Counter()
        """How many calls were decided again in ``whole``, in ``part``, or not at all (``not``)."""
        self.without: Counter[str] = Counter()
        """What was lacking for the others, in words, and for how many of them."""
        self._found = Findings()
        self._open: dict[str, tuple[Mapping[str, Any], JsonObject, _Under]] = {}
        """Receipt id -> detail, token and contract of model calls without a receipt so far."""
        self._contracts: dict[str, _Under] = {}
        self._in_force: _Under | None = None
        self._not_judged: list[_Under] = []

    def add(self, policy_hash_b64u: str, document: JsonObject, path: str) -> None:
        """A contract of the job, which lies at ``path``."""
        policy: Policy | None = None
        try:
            policy = parse_contract(document).policy
        except ClawproxyError as err:
            self._found.gap("J60", "CONTRACT_NOT_READ", path, err.one_line())
        demands = ", ".join(demand.field for demand in policy.demands) if policy else ""
        under = self._contracts[policy_hash_b64u] = _Under(policy, demands, path)
        self._in_force = self._in_force or under

    def take(self, entry: Entry, tokens: Mapping[str, JsonObject]) -> None:
        """One more record, with the token facts on record by now."""
        payload = entry.payload
        if entry.kind == "intent":
            self._take_intent(entry, payload["event"]["event_type"], payload["detail"], tokens)
        elif entry.kind == "receipt":
            self._take_receipt(entry, payload["metadata"]["clawproxy"], self._open.pop(payload["receipt_id"], None))
        elif entry.kind == "event":
            detail = payload["detail"]
            if detail.get("enforcement") == OBSERVE:
                self._observed = entry.path
            if payload["event"]["event_type"] == "authority_changed":
                self._in_force = self._contracts.get(detail.get("policy_hash_b64u", ""), self._in_force)
            token, policy = detail.get("token"), self._in_force.policy if self._in_force else None
            refusal = token_life_refusal(token, policy) if isinstance(token, dict) and policy is not None else None
            if refusal is not None:
                self._exceeded("J63", join(entry.path, "body.payload.detail.token"), refusal)

    def _take_intent(
        self, entry: Entry, event_type: str, detail: Mapping[str, Any], tokens: Mapping[str, JsonObject]
    ) -> None:
        under = self._in_force
        if under is None or under.policy is None or under.demands:
            self.counted["not"] += 1
            demanded = f"a version that judges {under.demands}" if under and under.demands else ""
            self._lacks(demanded or "a contract that can be read")
            if under is not None and under.demands and under not in self._not_judged:
                self._not_judged.append(under)
            return
        path = join(entry.path, "body.payload.detail")
        if event_type == "llm_call":
            token = tokens.get(detail["token_hash_hex"], {})
            self._open[detail["receipt_id"]] = (detail, token, under)
            rule, again = "J61", redecide_call(detail, token, under.policy)
        else:
            rule, again = "J62", redecide_effect(detail, under.policy)
        self.counted["part" if again.missing else "whole"] += 1
        for what in again.missing:
            self._lacks(what.partition(" (")[0])
        if "would_refuse" in detail:
            self.outside["calls"] += 1
            self._take_observed(rule, path, detail, again, under.policy)
        elif again.refusal is not None:
            self._exceeded(rule, path, again.refusal)
        elif again.missing and "facts" in detail:
            what = ", ".join(again.missing)
            self._found.gap("J64", NOT_RECOMPUTED, path, f"cannot be recomputed: not whole on record are {what}")

    def _lacks(self, what: str) -> None:
        self.without[what if what in self.without or len(self.without) < _MOST_REASONS else "other facts"] += 1

    def _take_observed(self, rule: str, path: str, detail: Mapping[str, Any], again: Redecided, policy: Policy) -> None:
        """J92 for a call that was let through."""
        told = list(detail["would_refuse"])
        if self._strict:
            for each in told:
                self._exceeded(rule, path, Refusal(each["code"], each["rule"], "the job was opened to observe"))
        decided = [each for each in told if each["code"] not in _BY_STATE]
        seen = detail.get("data")
        data = data_refusal(policy.data, seen) if policy.data is not None and seen is not None else None
        if data is not None:
            self._exceeded(rule, path, data)
        elif again.missing and (decided or again.refusal is None):
            if "facts" in detail:
                what = ", ".join(again.missing)
                self._found.gap("J64", NOT_RECOMPUTED, path, f"cannot be recomputed: not whole on record are {what}")
        elif again.refusal is not None and not decided:
            self._exceeded(rule, path, again.refusal)
        elif [is_same(each, again.refusal) for each in decided] != [True] * (again.refusal is not None):
            now = "allows it" if again.refusal is None else f"refuses it by {again.refusal.rule}"
            self._found.fail("J92", "EVIDENCE_MISMATCH", join(path, "would_refuse"), f"the contract {now}")

    def _take_observed_call(self, path: str, item: Mapping[str, Any], again: Redecided, *, right: bool | None) -> None:
        """J92 for a call of a tool in an answer; ``right`` None where it cannot be worked out."""
        told = item["would_refuse"]
        self.outside["tools"] += 1
        if self._strict:
            self._exceeded("J65", path, Refusal(told["code"], told["rule"], "the job was opened to observe"))
        if right is False:
            now = "allows it" if again.refusal is None else f"refuses it by {again.refusal.rule}"
            self._found.fail("J92", "EVIDENCE_MISMATCH", join(path, "would_refuse"), f"the contract {now}")

    def _take_receipt(
        self, entry: Entry, ours: Mapping[str, Any], start: tuple[Mapping[str, Any], JsonObject, _Under] | None
    ) -> None:
        if start is None or start[2].policy is None:
            return
        detail, token, policy = start[0], start[1], start[2].policy
        called = ours.get("called", ())
        for n, item in enumerate(called):
            if item["outcome"] not in _DELIVERED:
                continue
            path = join(entry.path, f"body.payload.metadata.clawproxy.called[{n}]")
            again = redecide_called(item["name"], detail, token, policy, tuple(item.get("inner", ())))
            if "would_refuse" in item:
                right = would_refuse_so(item, detail, token, policy)
                self._take_observed_call(path, item, again, right=right)
            elif again.refusal is not None:
                self._exceeded("J65", path, again.refusal)
            if again.missing:
                self.counted["arguments_not"] += 1
        for n, name in enumerate(() if "called" in ours else ours["tool_calls"]):
            if redecide_called(name, detail, token, policy).refusal:
                path = join(entry.path, f"body.payload.metadata.clawproxy.tool_calls[{n}]")
                what = f"no record says what became of this call of {name[:64]}, which the contract does not allow"
                self._found.gap("J64", NOT_RECOMPUTED, path, what)
        if len(called) < ours.get("called_total", 0):
            what = f"{len(called)} of {ours['called_total']} calls of tools are on record"
            self._found.gap("J64", NOT_RECOMPUTED, join(entry.path, "body.payload"), f"cannot be recomputed: {what}")

    def _exceeded(self, rule: str, path: str, refusal: Refusal) -> None:
        detail = f"{refusal.reason}: {refusal.rule}" + (f"; {refusal.detail}" if refusal.detail else "")
        self._found.fail(rule, EXCEEDED, path, detail)

    def tell(self, findings: Findings) -> None:
        """What was found, after what the other rules did."""
        if self._observed:
            calls, tools = self.outside["calls"], self.outside["tools"]
            what = f"let through that it refuses: {calls} of the calls, and {tools} of the calls of tools in answers"
            detail = f"{OPENED_TO_OBSERVE}; {what}"
            findings.warn("J90", "OBSERVED", self._observed, detail)
        for under in self._not_judged:
            detail = f"cannot be recomputed: this version does not judge {under.demands}"
            self._found.gap("J60", NOT_RECOMPUTED, under.path, detail)
        for finding in self._found.all():
            findings.add(finding)


def recomputed_lines(counted: Mapping[str, int], without: Mapping[str, int], denials: int) -> list[str]:
    """For people: how many decisions were worked out again, and why the others were not."""
    parts = [f"{counted['whole']} in whole"] if counted.get("whole") else []
    if counted.get("part"):
        parts.append(f"{counted['part']} as far as their facts are on record")
    if counted.get("not"):
        parts.append(f"{counted['not']} not")
    if counted.get("arguments_not"):
        noun = "call of a tool" if counted["arguments_not"] == 1 else "calls of tools"
        parts.append(f"{counted['arguments_not']} {noun} without the arguments, of which a digest is on record")
    lines = [f"decisions worked out again: {', '.join(parts)}"] if parts else []
    if without:
        lines.append("lacking for the others: " + "; ".join(f"{what} ({n})" for what, n in without.items()))
    if denials:
        noun = "denial" if denials == 1 else "denials"
        lines.append(
            f"not worked out again here: {denials} {noun}, of which nothing left; "
            "each by itself: clawproxy explain BUNDLE RECEIPT_ID"
        )
    return lines
