"""Rules of causal members in the bindings of gateway receipts (protocol.md E.5, E.6). Pure.

C01 snake_case and camelCase forms of one member agree (CAUSAL_BINDING_FIELD_CONFLICT, _NORMALIZATION_FAILED)
C02 a receipt's ``timestamp`` is not after its envelope's ``issued_at`` (CAUSAL_CLOCK_CONTRADICTION)
C03 phase and confidence are in range, by the shapes (CAUSAL_PHASE_INVALID, CAUSAL_CONFIDENCE_OUT_OF_RANGE)
C04 a parent or tool span is the span of some receipt (CAUSAL_REFERENCE_DANGLING)
C05 a span id used again says the same (CAUSAL_SPAN_REUSE_CONFLICT) at the same time (CAUSAL_CLOCK_CONTRADICTION)
C06 no cycle of parents (CAUSAL_CYCLE_DETECTED)
C07 a child is not before its parent, and its phase may follow the parent's (CAUSAL_PHASE_TRANSITION_INVALID)
C08 confidence is covered by evidence (CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT)
C09 all spans hang together under at least one root (CAUSAL_GRAPH_DISCONNECTED)
C10 side effects and approvals name a span of some receipt (CAUSAL_SIDE_EFFECT_ORPHANED, CAUSAL_HUMAN_APPROVAL_ORPHANED)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..tokens.canonical import JsonObject
from .report import Fault
from .wire_envelope import join
from .wire_schema import parse_date_time_ms

_MEMBERS = {
    "span_id": "spanId",
    "parent_span_id": "parentSpanId",
    "tool_span_id": "toolSpanId",
    "phase": "phase",
    "attribution_confidence": "attributionConfidence",
}
_MAY_FOLLOW: Mapping[str, tuple[str, ...]] = {
    "setup": ("setup", "planning"),
    "planning": ("planning", "reasoning", "execution"),
    "reasoning": ("reasoning", "execution", "observation"),
    "execution": ("execution", "observation", "reflection", "teardown"),
    "observation": ("observation", "reflection", "teardown"),
    "reflection": ("reflection", "teardown"),
    "teardown": ("teardown",),
}


@dataclass(frozen=True, slots=True)
class Link:
    """The causal members of one receipt, normalised."""

    path: str
    at_ms: int
    span: str | None
    parent: str | None
    tool: str | None
    phase: str | None
    confidence: float | None

    def says(self) -> tuple[str | None, str | None, str | None, float | None]:
        return self.parent, self.tool, self.phase, self.confidence


def normalise(binding: Mapping[str, Any], path: str) -> dict[str, Any]:
    """C01: the causal members under their snake_case names; those absent are left out."""
    out: dict[str, Any] = {}
    for snake, camel in _MEMBERS.items():
        values = [binding[name] for name in dict.fromkeys((snake, camel)) if name in binding]
        if not values:
            continue
        if any(value != values[0] for value in values):
            raise Fault("C01", "CAUSAL_BINDING_FIELD_CONFLICT", join(path, snake), f"{snake} and {camel} differ")
        value = values[0]
        if snake != "attribution_confidence" and (not isinstance(value, str) or not value.strip()):
            raise Fault("C01", "CAUSAL_BINDING_NORMALIZATION_FAILED", join(path, snake), "blank or not a string")
        out[snake] = value
    return out


def check_causal(receipts: Iterable[tuple[JsonObject, str]]) -> frozenset[str]:
    """C01 to C09 over (receipt envelope, path); returns the span ids that occur."""
    links = [link for envelope, path in receipts if (link := _link(envelope, path))]
    by_span: dict[str, Link] = {}
    for link in links:
        if link.span is not None:
            by_span.setdefault(link.span, link)
    for link in links:
        _check_references(link, by_span)
    _check_cycles(by_span)
    referenced = {span for link in links for span in (link.parent, link.tool) if span}
    for link in links:
        _check_against_parent(link, by_span)
        _check_confidence(link, referenced)
    _check_connected(by_span)
    return frozenset(by_span)


def _link(envelope: JsonObject, path: str) -> Link | None:
    payload = envelope["payload"]
    where = join(path, "payload.binding")
    members = normalise(payload.get("binding", {}), where)
    if not members:
        return None
    at_ms, issued_ms = parse_date_time_ms(payload["timestamp"]), parse_date_time_ms(envelope["issued_at"])
    if at_ms is None or issued_ms is None or at_ms > issued_ms:
        detail = "the receipt's time is after its issue"
        raise Fault("C02", "CAUSAL_CLOCK_CONTRADICTION", join(path, "payload.timestamp"), detail)
    return Link(
        path=where,
        at_ms=at_ms,
        span=members.get("span_id"),
        parent=members.get("parent_span_id"),
        tool=members.get("tool_span_id"),
        phase=members.get("phase"),
        confidence=members.get("attribution_confidence"),
    )


def _check_references(link: Link, by_span: Mapping[str, Link]) -> None:
    for member, span in (("parent_span_id", link.parent), ("tool_span_id", link.tool)):
        if span is not None and span not in by_span:
            raise Fault("C04", "CAUSAL_REFERENCE_DANGLING", join(link.path, member), "no receipt has this span")
    first = by_span.get(link.span) if link.span else None
    if first is None or first is link:
        return
    if first.says() != link.says():
        raise Fault("C05", "CAUSAL_SPAN_REUSE_CONFLICT", join(link.path, "span_id"), f"differs from {first.path}")
    if first.at_ms != link.at_ms:
        raise Fault("C05", "CAUSAL_CLOCK_CONTRADICTION", join(link.path, "span_id"), f"other time than {first.path}")


def _check_cycles(by_span: Mapping[str, Link]) -> None:
    settled: set[str] = set()
    for start in by_span:
        trail: dict[str, None] = {}
        span: str | None = start
        while span is not None and span not in settled:
            if span in trail:
                path = join(by_span[span].path, "parent_span_id")
                raise Fault("C06", "CAUSAL_CYCLE_DETECTED", path, "the span is its own ancestor")
            trail[span] = None
            span = by_span[span].parent
        settled.update(trail)


def _check_against_parent(link: Link, by_span: Mapping[str, Link]) -> None:
    if link.parent is None:
        return
    parent = by_span[link.parent]
    if link.at_ms < parent.at_ms:
        raise Fault("C07", "CAUSAL_CLOCK_CONTRADICTION", link.path, f"before its parent {parent.path}")
    if link.phase and parent.phase and link.phase not in _MAY_FOLLOW[parent.phase]:
        detail = f"{link.phase} cannot follow {parent.phase}"
        raise Fault("C07", "CAUSAL_PHASE_TRANSITION_INVALID", join(link.path, "phase"), detail)


def _check_confidence(link: Link, referenced: set[str]) -> None:
    if link.confidence is None:
        return
    anchored = link.parent is not None or link.tool is not None or (link.span in referenced)
    most = 1.0 if anchored else 0.5 if link.span is not None else 0.0
    if link.confidence > most:
        where = join(link.path, "attribution_confidence")
        detail = f"got {link.confidence}, expected at most {most} with this evidence"
        raise Fault("C08", "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT", where, detail)


def _check_connected(by_span: Mapping[str, Link]) -> None:
    if not by_span:
        return
    leader = {span: span for span in by_span}

    def find(span: str) -> str:
        while leader[span] != span:
            leader[span] = leader[leader[span]]
            span = leader[span]
        return span

    for span, link in by_span.items():
        for other in (link.parent, link.tool):
            if other is not None:
                leader[find(span)] = find(other)
    groups = {find(span): link.path for span, link in by_span.items()}
    rootless = all(link.parent is not None for link in by_span.values())
    if rootless or len(groups) > 1:
        detail = "no span is a root" if rootless else f"{len(groups)} groups of spans do not hang together"
        raise Fault("C09", "CAUSAL_GRAPH_DISCONNECTED", next(reversed(groups.values())), detail)


def check_anchor(payload: JsonObject, spans: frozenset[str], reason: str, path: str) -> None:
    """C10: the first of tool, parent and own span that the binding names is the span of a gateway receipt."""
    members = normalise(payload.get("binding", {}), join(path, "binding"))
    names = ("tool_span_id", "parent_span_id", "span_id")
    anchor = next((members[name] for name in names if name in members), None)
    if anchor not in spans:
        raise Fault("C10", reason, join(path, "binding"), "it hangs on no span of a gateway receipt")
