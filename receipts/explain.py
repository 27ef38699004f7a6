"""Why a call was allowed or refused, worked out again from the bundle alone: no gateway, no network. Pure.

The contract in the bundle is read and decides once more, over the facts that the intent recorded and the token facts
that stood on record before it. What was decided then and what is decided now should agree; where they do not, or where
the record does not hold all that the decision rests on, the explanation says so.

Limits: evidence of before has no facts but provider, model and tools; long lists are clipped by the writer, of a denial
a name that is no plain word is left out, and the path of a tool's call is on record as a digest alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..policies.contract import Contract, parse_contract
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.reasons import REASONS
from ..tokens.trust import Trust
from .approvals import said_reason
from .budget_view import BudgetView, in_words, told_of_budgets
from .containment import containment_words
from .presenters import WORTH
from .redecide import DECIDED, Redecided, redecide_call, redecide_denied, redecide_effect
from .report import Finding, Report, Verdict
from .verify_job import CONTRACT_FILE, JobBundle, examine_job
from .verify_journal import Entry
from .verify_observed import OPENED_TO_OBSERVE, outside

_TOKEN_CLAIMS = ("sub", "aud", "scope", "iat", "exp", "jti", "issuer_did", "token_hash_hex", "token_scope_hash_b64u")
_USED = ("usage", "tokens_cached", "tokens_cache_write", "tokens_reasoning", "model_match")
"""Receipts of before have none of them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known about one call. ``kind`` is ``allowed``, ``refused``, ``answer_refused`` (it went out, and a call
    of a tool in its answer was refused), ``observed`` (it, or a call of a tool in its answer, went out only since its
    job was opened to observe) or ``unknown`` (it went out; no receipt)."""

    receipt_id: str
    kind: str
    report: Report
    """The verification of the bundle: without it, an explanation is only what the bundle says."""
    place: Mapping[str, Any]
    contract: Mapping[str, Any]
    call: Mapping[str, Any]
    token: Mapping[str, Any]
    decision: Mapping[str, Any]
    """``then``, ``now``, ``agrees`` (None where it cannot be worked out), ``rules`` or a refusal, ``note``."""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What became of the calls of tools in the answer, where it has some that were judged."""

    def to_json(self) -> dict[str, Any]:
        return {
            "receipt_id": self.receipt_id,
            "kind": self.kind,
            "bundle": {"verdict": str(self.report.verdict), "reason_code": self.report.reason},
            "place": dict(self.place),
            "contract": dict(self.contract),
            "call": dict(self.call),
            "token": dict(self.token),
            "decision": dict(self.decision),
            "answer": dict(self.answer),
            "outcome": dict(self.outcome),
        }

    def lines(self) -> list[str]:
        """The explanation as text, one fact per line; nothing in it is printed unescaped."""
        out = [f"{self.receipt_id}: {_KINDS.get(self.kind, self.kind)}{_shown(_cut(self.outcome))}"]
        bundle = {"verdict": str(self.report.verdict), "reason": self.report.reason}
        if "observed" in self.report.facts:
            bundle["job"] = OPENED_TO_OBSERVE
        parts = (("bundle", bundle),)
        for title, facts in (*parts, *((name, getattr(self, name)) for name in _SECTIONS)):
            if facts:
                out.append(title)
            out += [f"  {name}: {_shown(value)}" for name, value in facts.items() if value not in (None, "", [], ())]
        return out


_KINDS = {
    "answer_refused": "allowed, but a call of a tool in its answer was refused",
    "observed": "let through in observe; would have been refused",
}
_STOP = re.compile(r"STOPPED_BY_OPERATOR: [^;]*; (order \d+) of [^ ]+?(?:: (.*))?", re.DOTALL)
"""What a receipt says of a call that an order cut: the order as it was given, its number and time, and its reason."""
_SECTIONS = ("decision", "answer", "call", "contract", "token", "outcome", "place")


def _cut(outcome: Mapping[str, Any]) -> str:
    """What a heading adds of a call that the gateway cut: by which order of the operator and why, or what else."""
    if outcome.get("outcome") != "stopped":
        return ""
    detail = str(outcome.get("detail") or "")
    told = _STOP.fullmatch(detail)
    if told is None:
        return f", then stopped: {detail}" if detail else ", then stopped"
    return f", then stopped by {told[1]}" + (f": {told[2]}" if told[2] else "")


def readable_bundle(files: Mapping[str, bytes], trust: Trust, refused: Sequence[Finding]) -> JobBundle:
    """A job bundle of which at least one record holds. ``refused`` is what the reader of its files did not take.

    Raises ``ClawproxyError`` with the reason of the first finding when its journal or contract cannot be read at all.
    """
    bundle = examine_job(files, trust, None, refused)
    if bundle.facts is None or not bundle.entries:
        first = bundle.report.findings[0] if bundle.report.findings else None
        strange = bundle.report.reason == "CLAIM_NOT_FOUND"
        raise ClawproxyError(
            bundle.report.reason,
            f"{'who signed it is not trusted' if strange else 'the journal does not hold'}, so it explains nothing",
            where=first.path if first else "",
            remedy="is it this gateway's trust file? see: clawproxy verify" if strange else "see: clawproxy verify",
        )
    return bundle


def explain(files: Mapping[str, bytes], receipt_id: str, trust: Trust, refused: Sequence[Finding] = ()) -> Explanation:
    """Explain one call of a job bundle. ``refused`` is what the reader of its files did not take.

    Raises ``ClawproxyError``: RECEIPT_NOT_FOUND, or, with the reason of the first finding, when the bundle's journal or
    contract cannot be read at all.
    """
    bundle = readable_bundle(files, trust, refused)
    try:
        names = (CONTRACT_FILE, *sorted(name for name in files if name.startswith("contracts/")))
        contracts = [parse_contract(orjson.loads(files[name])["payload"]) for name in names]
        approvers = {key.did: key.name for key in trust.keys if key.role is Role.APPROVAL}
        story = _Story(bundle.entries, contracts, bundle.report, approvers)
        told = story.tell(receipt_id)
        worth = f"{story.strength}: {WORTH.get(story.strength, 'not known')}" if story.strength else None
        contained = containment_words(bundle.report.facts.get("containment", ""))
        return replace(told, call={**told.call, "presenter_strength": worth, "containment": contained or None})
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        # possible only in a bundle that failed before its records were checked
        raise ClawproxyError(
            bundle.report.reason, f"a record cannot be read: {type(err).__name__}", remedy="see: clawproxy verify"
        ) from None


class _Approvals:
    """What people said about one call: to the whole job before it left, and to calls of tools in its answer."""

    def __init__(self, receipt_id: str, names: Mapping[str, str]) -> None:
        """``names`` are what the auditor's trust file calls approvers' keys."""
        self._receipt_id = receipt_id
        self._names = names
        self._left = False
        self._of_job = ""
        self._of_call: list[str] = []

    def take(self, entry: Entry) -> None:
        """The next record of the journal."""
        event = entry.payload.get("event")
        if event is None:
            self._left = self._left or (entry.kind == "denial" and entry.payload["receipt_id"] == self._receipt_id)
            return
        detail = entry.payload["detail"]
        if event["event_type"] == "approval":
            scope, envelope = detail["scope"], detail["approval"]
            answer = f"{_answered(scope, envelope, self._names)} ({scope['approval_id']})"
            if scope["call"] is None:
                self._of_job = self._of_job if self._left else f"the whole job: {answer}"
            elif scope["call"] == self._receipt_id:
                about = f"{scope['action']}: {scope['tool']}, arguments {scope['arguments_hash_b64u']}"
                self._of_call.append(f"{about}: {answer}")
        elif entry.kind == "intent" and detail["receipt_id"] == self._receipt_id:
            self._left = True

    def add_to(self, explanation: Explanation) -> Explanation:
        """With ``approvals`` in its decision, if there are some."""
        lines = [self._of_job, *self._of_call] if self._of_job else self._of_call
        return replace(explanation, decision={**explanation.decision, "approvals": lines}) if lines else explanation


def _answered(scope: JsonObject, envelope: JsonObject, names: Mapping[str, str]) -> str:
    """Which answer, by whom, when and why. The reason is the approver's own words, so it stands in quotes."""
    payload, signer = envelope["payload"], envelope["signer_did"]
    known, reason = names.get(signer), said_reason(scope, payload)
    who = f"{signer}, {json.dumps(known, ensure_ascii=False)} in the trust file," if known else signer
    why = f", reason: {json.dumps(reason, ensure_ascii=False)}" if reason else ""
    return f"{payload['approval_type']} by {who} at {payload['timestamp']}{why}"


class _Story:
    """The records of one job, asked about one call."""

    def __init__(
        self, entries: tuple[Entry, ...], contracts: list[Contract], report: Report, names: Mapping[str, str]
    ) -> None:
        self.names = names
        self.entries = entries
        self.contract = contracts[0]
        """The one that the call was judged by: it was in force then."""
        self.contracts = {contract.policy_hash_b64u: contract for contract in contracts}
        self.report = report
        self.strength: str | None = None
        """What the job's binding to a presenter was worth at the time of the call."""

    def tell(self, receipt_id: str) -> Explanation:
        start = end = denial = None
        token: JsonObject = {}
        tokens: dict[str, JsonObject] = {}
        told = _Approvals(receipt_id, self.names)
        budgets = BudgetView()
        for entry in self.entries:
            payload = entry.payload
            told.take(entry)
            if denial is None:
                budgets.take({"t": entry.kind, "body": {"payload": payload}})
            if entry.kind == "event" and "token" in payload["detail"]:
                if start is None and denial is None:
                    self.strength = payload["detail"].get("presenter_strength")
                    named = payload["detail"].get("policy_hash_b64u")
                    self.contract = self.contracts.get(named, self.contract)
                found = payload["detail"]["token"]
                tokens[str(found.get("token_hash_hex"))] = found
            elif entry.kind == "intent" and payload["detail"]["receipt_id"] == receipt_id:
                start, token = entry, tokens.get(payload["detail"]["token_hash_hex"], {})
            elif entry.kind == "receipt" and payload["receipt_id"] == receipt_id:
                end = entry
            elif entry.kind == "denial" and payload["receipt_id"] == receipt_id:
                denial, token = entry, tokens.get(str(payload["token_hash_hex"]), {})
            elif entry.kind == "effect" and payload["side_effect"]["receipt_id"] == receipt_id:
                end = entry
        if denial is not None:
            return told.add_to(self._refused(receipt_id, denial, token, budgets))
        if start is None and self.report.verdict is Verdict.FAILED:
            raise ClawproxyError(
                self.report.reason,
                "the journal is not whole, and as far as it holds it has no such call",
                got=receipt_id,
                remedy="see: clawproxy verify",
            )
        if start is None:
            raise ClawproxyError(
                "RECEIPT_NOT_FOUND",
                "the job's journal has no such call",
                got=receipt_id,
                remedy="ids are those of calls (rcpt_…; an approval's line in clawproxy job tail names its call); "
                "calls without a known job are in the gateway's own journal",
            )
        if start.payload["event"]["event_type"] == "tool_egress":
            return told.add_to(self._egress(receipt_id, start, end, token))
        return told.add_to(self._allowed(receipt_id, start, end, token))

    def _egress(self, receipt_id: str, start: Entry, end: Entry | None, token: JsonObject) -> Explanation:
        """A call of a tool. Its path is on record as a digest alone, so the decision is worked out without it."""
        detail = start.payload["detail"]
        names = ("scheme", "host", "port", "method", "credential", "presenter", "way_in")
        place = {**_place(start), "event_hash_b64u": start.payload["event"]["event_hash_b64u"]}
        outcome: dict[str, Any] = {"outcome": "unknown: no record answers this intent"}
        if end is not None:
            payload = end.payload
            outcome = {
                **{name: payload[name] for name in ("outcome", "status", "response_bytes", "detail", "timestamp")},
                **{name: payload["side_effect"][name] for name in ("latency_ms", "response_hash_b64u")},
            }
            place |= {"receipt": end.path, "receipt_seq": end.seq}
        digests = ("target_hash_b64u", "request_hash_b64u")
        return Explanation(
            receipt_id,
            "unknown" if end is None else "observed" if "would_refuse" in detail else "allowed",
            self.report,
            place,
            self._contract(),
            {name: detail[name] for name in (*names, *digests)},
            {name: token[name] for name in _TOKEN_CLAIMS if name in token},
            _went_out(detail, redecide_effect(detail, self.contract.policy)),
            outcome,
        )

    def _allowed(self, receipt_id: str, start: Entry, end: Entry | None, token: JsonObject) -> Explanation:
        detail = start.payload["detail"]
        names = ("provider", "route", "model", "stream", "tools", "presenter", "way_in", "request_hash_b64u")
        place = {**_place(start), "event_hash_b64u": start.payload["event"]["event_hash_b64u"]}
        outcome: dict[str, Any] = {"outcome": "unknown: no receipt answers this intent"}
        if end is not None:
            payload = end.payload
            ours = payload["metadata"]["clawproxy"]
            outcome = {
                **{name: ours[name] for name in ("outcome", "status", "response_model", "tool_calls", "detail")},
                **{name: payload[name] for name in ("tokens_input", "tokens_output", "latency_ms", "timestamp")},
                **{name: ours[name] for name in _USED if name in ours},
            }
            place |= {"receipt": end.path, "receipt_seq": end.seq}
        told = end.payload["metadata"]["clawproxy"] if end is not None else {}
        outcome |= told_of_budgets(detail, told)
        answer = _answer(told)
        observed = "observed" if any(outside({**told, **detail})) else "allowed"
        return Explanation(
            receipt_id,
            "unknown" if end is None else "answer_refused" if "reason" in answer else observed,
            self.report,
            place,
            self._contract(),
            {**{name: detail[name] for name in names}, **_data(detail)},
            {name: token[name] for name in _TOKEN_CLAIMS if name in token},
            _went_out(detail, redecide_call(detail, token, self.contract.policy)),
            outcome,
            answer,
        )

    def _refused(self, receipt_id: str, denial: Entry, token: JsonObject, budgets: BudgetView) -> Explanation:
        payload = denial.payload
        outcome = {"timestamp": payload["timestamp"]}
        if payload["reason"].startswith("BUDGET_") and self.contract.policy.budgets is not None:
            outcome["budgets_then"] = in_words(budgets.state_then(self.contract.policy.budgets))
        names = ["provider", "route", "model", "method", "presenter", "way_in", "request_hash_b64u"]
        names += ["destination"] * ("destination" in payload)
        row = REASONS.get(payload["reason"])
        decision = {
            "then": "refuse",
            **self._decide_refused(payload, token),
            **{name: payload[name] for name in ("step", "reason", "rule", "detail")},
            "meaning": row.meaning if row else None,
            "remedy": row.remedy if row else None,
        }
        return Explanation(
            receipt_id,
            "refused",
            self.report,
            _place(denial),
            self._contract(),
            {name: payload[name] for name in names},
            {name: token[name] for name in _TOKEN_CLAIMS if name in token},
            decision,
            outcome,
        )

    def _decide_refused(self, payload: JsonObject, token: JsonObject) -> dict[str, Any]:
        if payload["reason"] not in DECIDED:
            note = "it rests on facts that a denial does not record, and is not worked out again"
            return {"agrees": None, "note": note}
        again = redecide_denied(payload, token, self.contract.policy)
        if again.refusal is not None:
            now = {"now": f"refuse {again.refusal.reason}", "now_rule": again.refusal.rule}
            if again.refusal.reason == payload["reason"]:
                return {**now, "agrees": True}
            return {**now, "agrees": None if again.missing else False, **_missing(again)}
        if again.missing:
            return {"agrees": None, **_missing(again)}
        return {"now": "allow", "agrees": False, "note": "the contract in this bundle allows it"}

    def _contract(self) -> dict[str, Any]:
        policy = self.contract.policy
        return {"name": policy.name, "shape": str(policy.shape), "policy_hash_b64u": policy.policy_hash_b64u}


def _went_out(detail: Mapping[str, Any], again: Redecided) -> dict[str, Any]:
    """The decision about a call that went out, whether the contract allowed it or the job was opened to observe."""
    told = [f"{each['code']}: {each['rule']}" for each in detail.get("would_refuse", ())]
    if not told:
        return _allowed_then(again)
    now = f"refuse {again.refusal.reason}" if again.refusal is not None else "allow, as far as its facts say"
    words = f"let through in observe; would have been refused: {', '.join(told)}"
    return {"then": "let through in observe", "would_refuse": told, "now": now, "note": words}


def _allowed_then(again: Redecided) -> dict[str, Any]:
    """The decision about a call that went out."""
    if again.refusal is not None:
        refusal = {"now": "refuse", "agrees": False, "reason": again.refusal.reason, "rule": again.refusal.rule}
        return {"then": "allow", **refusal, "detail": again.refusal.detail, "note": "the record says that it went out"}
    if not again.rules:
        return {"then": "allow", "agrees": None, **_missing(again)}
    agrees = {} if again.missing else {"now": "allow"}
    return {"then": "allow", **agrees, "agrees": again.allowed, "rules": list(again.rules), **_missing(again)}


def _answer(told: Mapping[str, Any]) -> dict[str, Any]:
    """The calls of tools in an answer, and why the first that was refused was; empty where none was judged."""
    called = told.get("called", ())
    if not called:
        return {}
    shown = [" ".join(filter(None, (item["name"], item["outcome"], item.get("rule"), _would(item)))) for item in called]
    refused = next((str(item.get("rule", "")) for item in called if item["outcome"] == "denied"), None)
    if refused is None:
        return {"calls": shown}
    reason, _, rule = refused.partition(": ")
    row = REASONS.get(reason)
    told_why = {"meaning": row.meaning, "remedy": row.remedy} if row else {}
    return {"calls": shown, "reason": reason, "rule": rule, **told_why}


def _would(item: Mapping[str, Any]) -> str:
    told = item.get("would_refuse")
    return "" if told is None else f"(let through in observe; would have been refused: {told['code']}: {told['rule']})"


def _data(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What detectors found in a request, and what of it was redacted before it left."""
    data = detail.get("data") or {}
    shown = {f"data_{name}": [f"{row['count']} {row['of']}" for row in data.get(name, ())] for name in _DATA}
    return {**shown, "data_labels": list(data["labels"])} if data.get("labels") else shown


_DATA = ("found", "redacted")


def _missing(again: Redecided) -> dict[str, Any]:
    """What a decision cannot be worked out without, said plainly."""
    if not again.missing:
        return {}
    return {"note": f"cannot be recomputed in whole: not on record, or not whole, are {', '.join(again.missing)}"}


def _place(entry: Entry) -> dict[str, Any]:
    return {"record": entry.path, "seq": entry.seq, "h_b64u": entry.h_b64u, "prev_b64u": entry.prev_b64u}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
