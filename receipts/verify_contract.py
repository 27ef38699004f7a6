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
J65 a call of a tool in an answer that the agent got is one that the contract allows, by its name (CONTRACT_EXCEEDED);
    where it has rules on its arguments, of which a digest is on record, it is counted (``arguments_not``)

Limits: a record says what the gateway saw. That the request held nothing else is its word, as is a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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


class ContractCheck:
    """One contract against the records of a job, given in order by ``take``; ``tell`` at the end.

    Only what the rules of a record passed (``verify_calls``) may be given.
    """

    def __init__(self, document: JsonObject, path: str) -> None:
        self.counted: Counter[str] = Counter()
        """How many calls were decided again in ``whole``, in ``part``, or not at all (``not``)."""
        self._found = Findings()
        self._open: dict[str, tuple[Mapping[str, Any], JsonObject]] = {}
        """Receipt id -> detail and token of model calls without a receipt so far."""
        self._policy: Policy | None = None
        try:
            self._policy = parse_contract(document).policy
        except ClawproxyError as err:
            self._found.gap("J60", "CONTRACT_NOT_READ", path, err.one_line())
        self._demands = ", ".join(demand.field for demand in self._policy.demands) if self._policy else ""
        self._path = path

    def take(self, entry: Entry, tokens: Mapping[str, JsonObject]) -> None:
        """One more record, with the token facts on record by now."""
        payload = entry.payload
        if entry.kind == "intent":
            self._take_intent(entry, payload["event"]["event_type"], payload["detail"], tokens)
        elif entry.kind == "receipt":
            self._take_receipt(entry, payload["metadata"]["clawproxy"], self._open.pop(payload["receipt_id"], None))
        elif entry.kind == "event" and self._policy is not None:
            token = payload["detail"].get("token")
            refusal = token_life_refusal(token, self._policy) if isinstance(token, dict) else None
            if refusal is not None:
                self._exceeded("J63", join(entry.path, "body.payload.detail.token"), refusal)

    def _take_intent(
        self, entry: Entry, event_type: str, detail: Mapping[str, Any], tokens: Mapping[str, JsonObject]
    ) -> None:
        if self._policy is None or self._demands:
            self.counted["not"] += 1
            return
        path = join(entry.path, "body.payload.detail")
        if event_type == "llm_call":
            token = tokens.get(detail["token_hash_hex"], {})
            self._open[detail["receipt_id"]] = (detail, token)
            rule, again = "J61", redecide_call(detail, token, self._policy)
        else:
            rule, again = "J62", redecide_effect(detail, self._policy)
        self.counted["part" if again.missing else "whole"] += 1
        if again.refusal is not None:
            self._exceeded(rule, path, again.refusal)
        elif again.missing and "facts" in detail:
            what = ", ".join(again.missing)
            self._found.gap("J64", NOT_RECOMPUTED, path, f"cannot be recomputed: not whole on record are {what}")

    def _take_receipt(
        self, entry: Entry, ours: Mapping[str, Any], start: tuple[Mapping[str, Any], JsonObject] | None
    ) -> None:
        if self._policy is None or start is None:
            return
        called = ours.get("called", ())
        for n, item in enumerate(called):
            if item["outcome"] not in _DELIVERED:
                continue
            path = join(entry.path, f"body.payload.metadata.clawproxy.called[{n}]")
            again = redecide_called(item["name"], *start, self._policy)
            if again.refusal is not None:
                self._exceeded("J65", path, again.refusal)
            if again.missing:
                self.counted["arguments_not"] += 1
        if len(called) < ours.get("called_total", 0):
            what = f"{len(called)} of {ours['called_total']} calls of tools are on record"
            self._found.gap("J64", NOT_RECOMPUTED, join(entry.path, "body.payload"), f"cannot be recomputed: {what}")

    def _exceeded(self, rule: str, path: str, refusal: Refusal) -> None:
        detail = f"{refusal.reason}: {refusal.rule}" + (f"; {refusal.detail}" if refusal.detail else "")
        self._found.fail(rule, EXCEEDED, path, detail)

    def tell(self, findings: Findings) -> None:
        """What was found, after what the other rules did."""
        if self._demands and self.counted["not"]:
            detail = f"cannot be recomputed: this version does not judge {self._demands}"
            self._found.gap("J60", NOT_RECOMPUTED, self._path, detail)
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
