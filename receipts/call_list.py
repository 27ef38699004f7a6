"""The calls and refusals of a job, one line each, for who wants to ask about one of them (``explain``). Pure.

As far as the journal's records hold. A call is listed when it left, a refusal when it was recorded; each has the kind
that its explanation has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..policies.facts import NO_MODEL
from ..tokens.canonical import JsonObject
from ..tokens.errors import clip
from ..tokens.trust import Trust
from .explain import readable_bundle
from .report import Finding, Report, Verdict
from .verify_journal import JOURNAL, Entry
from .verify_observed import OPENED_TO_OBSERVE, outside

MAX_LISTED = 1000
"""So many are listed, the last ones."""
_TEXT_CHARS = 120


@dataclass(frozen=True, slots=True)
class ListedCall:
    """One call, or a refusal. ``kind`` is as in ``Explanation``, ``at`` when it left or was refused."""

    receipt_id: str
    at: str
    what: str
    """Provider and model (route, for a call without one), or method and host, or what of it no route matched."""
    kind: str
    outcome: str

    def line(self) -> str:
        """Time, id, what and outcome; all of it printable."""
        return "  ".join(
            (clip(self.at), self.receipt_id, clip(self.what, _TEXT_CHARS), clip(self.outcome, _TEXT_CHARS))
        )

    def to_json(self) -> dict[str, str]:
        told = {"receipt_id": self.receipt_id, "at": self.at, "what": self.what}
        return {**told, "kind": self.kind, "outcome": self.outcome}


@dataclass(frozen=True, slots=True)
class CallList:
    """The last calls and refusals of a job, oldest first. ``left_out`` are earlier ones, ``report`` is the
    verification of the bundle."""

    report: Report
    calls: tuple[ListedCall, ...]
    left_out: int
    damaged_from: int | None = None
    """Of a bundle that failed there: the first record (``seq``) that does not hold; nothing from it on is listed."""

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": {"verdict": str(self.report.verdict), "reason_code": self.report.reason},
            "calls": [call.to_json() for call in self.calls],
            "left_out": self.left_out,
        }

    def lines(self) -> list[str]:
        """The list as text; nothing in it is printed unescaped."""
        out = [f"bundle: {self.report.verdict}, {self.report.reason}"]
        if "observed" in self.report.facts:
            out.append(OPENED_TO_OBSERVE)
        if self.left_out:
            out.append(f"{self.left_out} earlier ones are not listed; receipts.jsonl has them")
        out += [call.line() for call in self.calls]
        if self.report.verdict is Verdict.FAILED:
            return [*out, self._reach()]
        return out if self.calls else [*out, "no call, and no refusal"]

    def _reach(self) -> str:
        """How far the list of a bundle that failed can be relied on: an empty one does not mean that nothing was."""
        if self.damaged_from is None:
            return "the bundle is not as it should be, so calls and refusals may be missing here, or be told wrongly"
        place = f"record {self.damaged_from} on ({JOURNAL}:{self.damaged_from + 1})"
        return f"nothing from {place} can be relied on; calls and refusals from there on are not listed"


def list_calls(files: Mapping[str, bytes], trust: Trust, refused: Sequence[Finding] = ()) -> CallList:
    """The calls and refusals of a job bundle. ``refused`` is what the reader of its files did not take.

    Raises ``ClawproxyError`` where the journal cannot be read at all (``readable_bundle``).
    """
    bundle = readable_bundle(files, trust, refused)
    kept: dict[str, ListedCall] = {}
    starts: dict[str, JsonObject] = {}
    for entry in bundle.entries:
        begun = _begun(entry, starts)
        if begun is not None:
            kept[begun.receipt_id] = begun
        elif (receipt_id := _answers(entry)) in starts:
            kept[receipt_id] = _ended(kept[receipt_id], starts.pop(receipt_id), entry.payload)
    left_out = max(0, len(kept) - MAX_LISTED)
    listed = tuple(kept.values())[left_out:]
    return CallList(bundle.report, listed, left_out, _damaged_from(bundle.report, len(bundle.entries)))


def _damaged_from(report: Report, records: int) -> int | None:
    """The record after the ``records`` that were read, where a failure is told of it."""
    place = f"{JOURNAL}:{records + 1}"
    failed = (finding.path for finding in report.findings if finding.severity == "fail")
    return records if any(re.match(rf"{re.escape(place)}(?!\d)", path) for path in failed) else None


def _begun(entry: Entry, starts: dict[str, JsonObject]) -> ListedCall | None:
    """The call or refusal that a record begins with; what it asked for is kept in ``starts``."""
    payload = entry.payload
    if entry.kind == "denial":
        return ListedCall(
            payload["receipt_id"], payload["timestamp"], _refused(payload), "refused", f"refused: {payload['reason']}"
        )
    if entry.kind != "intent":
        return None
    detail = payload["detail"]
    what = _model_call(detail)
    if payload["event"]["event_type"] == "tool_egress":
        what = f"{detail['method']} {detail['scheme']}://{detail['host']}:{detail['port']}"
    starts[detail["receipt_id"]] = detail
    return ListedCall(detail["receipt_id"], payload["timestamp"], what, "unknown", "unknown: no record answers it")


def _refused(payload: JsonObject) -> str:
    """What a denial was about, as far as it was known then."""
    no_route = f"({payload['rule']})" if payload["reason"] == "ROUTE_NOT_FOUND" else None
    return _model_call(payload) or _named(payload["method"], payload.get("destination") or payload["route"] or no_route)


def _model_call(detail: JsonObject) -> str:
    """Provider and model; of a call that names no model (a list of them, say) the route. Empty without a provider."""
    provider, model = detail.get("provider"), detail.get("model")
    if not provider:
        return model or ""
    return _named(provider, detail.get("route") or model if model in (None, "", NO_MODEL) else model)


def _named(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _answers(entry: Entry) -> str:
    """The receipt id of the call whose end a record is, or an empty text."""
    if entry.kind == "receipt":
        return str(entry.payload["receipt_id"])
    return str(entry.payload["side_effect"]["receipt_id"]) if entry.kind == "effect" else ""


def _ended(call: ListedCall, detail: JsonObject, payload: JsonObject) -> ListedCall:
    told = payload["metadata"]["clawproxy"] if "metadata" in payload else payload
    outcome = _named(told["outcome"], str(told["status"] or ""))
    denied = [str(item.get("rule", "")) for item in told.get("called", ()) if item["outcome"] == "denied"]
    if denied:
        refused = f"a call of a tool in its answer was refused: {denied[0].partition(': ')[0]}"
        return replace(call, kind="answer_refused", outcome=f"{outcome}, {refused}")
    if would := list(dict.fromkeys(each["code"] for each in outside({**told, **detail}))):
        return replace(call, kind="observed", outcome=f"{outcome}, would have been refused: {', '.join(would)}")
    return replace(call, kind="allowed", outcome=outcome)
