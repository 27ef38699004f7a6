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
J65 a call of a tool in an answer that the agent got is one that the contract allows, by its name and by what data the
    call carried (CONTRACT_EXCEEDED); one of which only the name is on record, and that is not allowed, is a gap (J64);
    where it has rules on its arguments, of which a digest is on record, it is counted (``arguments_not``)

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
from .redecide import redecide_call, redecide_called, redecide_effect, token_life_refusal
from .report import Findings
from .verify_journal import Entry
from .wire_envelope import join

EXCEEDED = "CONTRACT_EXCEEDED"
NOT_RECOMPUTED = "NOT_RECOMPUTED"
_DELIVERED = ("allowed", "approved")


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

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        """How many calls were decided again in ``whole``, in ``part``, or not at all (``not``)."""
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
        if again.refusal is not None:
            self._exceeded(rule, path, again.refusal)
        elif again.missing and "facts" in detail:
            what = ", ".join(again.missing)
            self._found.gap("J64", NOT_RECOMPUTED, path, f"cannot be recomputed: not whole on record are {what}")

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
            again = redecide_called(item["name"], detail, token, policy)
            if again.refusal is not None:
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
        for under in self._not_judged:
            detail = f"cannot be recomputed: this version does not judge {under.demands}"
            self._found.gap("J60", NOT_RECOMPUTED, under.path, detail)
        for finding in self._found.all():
            findings.add(finding)


def recomputed_line(counted: Mapping[str, int]) -> str:
    """For people: how many decisions were worked out again."""
    parts = [f"{counted['whole']} in whole"] if counted.get("whole") else []
    if counted.get("part"):
        parts.append(f"{counted['part']} as far as their facts are on record")
    if counted.get("not"):
        parts.append(f"{counted['not']} not")
    if counted.get("arguments_not"):
        noun = "call of a tool" if counted["arguments_not"] == 1 else "calls of tools"
        parts.append(f"{counted['arguments_not']} {noun} without the arguments")
    return ", ".join(parts)
