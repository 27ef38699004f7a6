"""Builds the records of one job, in order: place, payload, chain, signature. Pure but for the ids; no clock, no disk.

Each method signs one record and moves ``Progress`` on by it, so what a method returned must be appended to the journal,
in the order of the calls; a method that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .budget import receipt_budget, settlement_of
from .calls import CallDenied, CallEnd, CallStart
from .effects import TOOL_EGRESS, EffectEnd, EffectStart, effect_detail, effect_payload
from .payloads import denial_fields, receipt_payload, start_detail
from .progress import Progress
from .records import Record, build_event, build_record


@dataclass(slots=True, eq=False)
class Intended:
    """A call whose intent is durable: the right to send it, and the duty to attest it once."""

    start: CallStart | EffectStart
    run_id: str
    event_hash_b64u: str
    seq: int
    segment: int
    attested: bool = False

    @property
    def receipt_id(self) -> str:
        return self.start.receipt_id


@dataclass(frozen=True, slots=True)
class Scribe:
    """Signs for one job. ``key`` is the gateway's receipt key; times are Unix milliseconds and never go back."""

    progress: Progress
    key: SigningKey
    gateway_id: str
    agent_did: str

    def event(self, event_type: str, detail: JsonObject, now_ms: int, kind: str = "event") -> Record:
        """An entry of the event chain, in the current segment."""
        progress, segment = self.progress, self.progress.segment
        at = self._timestamp(now_ms)
        # unique without randomness: the incarnation is random, and no two records of it share a number
        event_id = f"evt_{progress.incarnation}_{progress.next_seq}"
        detail_bytes = jcs_bytes(detail)
        event = build_event(event_id, segment.run_id, event_type, at, detail_bytes, segment.last_event_hash_b64u)
        payload: JsonObject = {
            "detail": detail,
            "event": event,
            **progress.place(segment.number),
            "timestamp": at,
        }
        # the detail is canonical already, the rest is ours and plain, so nothing is walked a second time
        known = {**payload, "detail": orjson.Fragment(detail_bytes)}
        return self._sign(kind, payload, orjson.dumps(known, option=orjson.OPT_SORT_KEYS))

    def next_segment(self, now_ms: int) -> Record | None:
        """The ``segment_opened`` event, if the current segment is full."""
        return self.new_segment(now_ms) if self.progress.segment.is_full else None

    def new_segment(self, now_ms: int) -> Record:
        """The ``segment_opened`` event, however full the current segment is."""
        before = self.progress.segment
        self.progress.begin_segment()
        detail: JsonObject = {
            "head_b64u": self.progress.head_b64u,
            "previous_event_hash_b64u": before.last_event_hash_b64u,
            "previous_run_id": before.run_id,
        }
        return self.event("segment_opened", detail, now_ms)

    def intent(self, start: CallStart | EffectStart, now_ms: int) -> tuple[Record, Intended]:
        """The record that a call is about to leave."""
        if isinstance(start, EffectStart):
            record = self.event(TOOL_EGRESS, effect_detail(start), now_ms, "intent")
        else:
            record = self.event("llm_call", start_detail(start), now_ms, "intent")
        event = record.payload["event"]
        return record, Intended(start, event["run_id"], event["event_hash_b64u"], record.seq, record.payload["segment"])

    def receipt(self, intended: Intended, end: CallEnd | EffectEnd) -> Record:
        """The receipt of a call, in the segment of its intent; for that of a tool, the record of its side effect."""
        progress, start = self.progress, intended.start
        if isinstance(start, EffectStart) and isinstance(end, EffectEnd):
            return self._effect(intended, start, end)
        if isinstance(start, EffectStart) or isinstance(end, EffectEnd):
            raise ClawproxyError("GATEWAY_FAULT", "the end is that of another kind of call", where=intended.receipt_id)
        at = self._timestamp(end.ended_ms)
        payload = receipt_payload(
            start,
            end,
            progress.place(intended.segment),
            agent_did=self.agent_did,
            gateway_id=self.gateway_id,
            run_id=intended.run_id,
            event_hash_b64u=intended.event_hash_b64u,
            intent_seq=intended.seq,
            parent_span_id=progress.segments[intended.segment].root_span,
            timestamp=at,
            budget=self._budget(start, end),
        )
        return self._sign("receipt", payload, jcs_bytes(payload))

    def _budget(self, start: CallStart, end: CallEnd) -> JsonObject | None:
        if start.budget is None:
            return None
        reserved, tally = start.budget.amounts, self.progress.tally
        settlement = settlement_of(start.budget, end)
        return receipt_budget(
            start.budget,
            settlement,
            tally.spent + settlement.charged,
            tally.held - reserved,
            open_calls=tally.open_calls - (reserved.requests > 0),
            now_ms=end.ended_ms,
        )

    def _effect(self, intended: Intended, start: EffectStart, end: EffectEnd) -> Record:
        progress = self.progress
        payload = effect_payload(
            start,
            end,
            progress.place(intended.segment),
            agent_did=self.agent_did,
            run_id=intended.run_id,
            event_hash_b64u=intended.event_hash_b64u,
            intent_seq=intended.seq,
            anchor_span=progress.open_calls[intended.receipt_id].anchor_span,
            timestamp=self._timestamp(end.ended_ms),
        )
        return self._sign("effect", payload, jcs_bytes(payload))

    def denial(self, denied: CallDenied) -> Record:
        """The record of a call that did not go out."""
        place = self.progress.place(self.progress.current)
        payload = {**place, **denial_fields(denied), "timestamp": self._timestamp(denied.at_ms)}
        return self._sign("denial", payload, jcs_bytes(payload))

    def recovery(self, torn: Sequence[JsonObject], open_calls: Sequence[str], now_ms: int) -> Record:
        """What a crash, or an end by force, left: torn files, and calls whose outcome is unknown."""
        place = self.progress.place(self.progress.current)
        found: JsonObject = {"open_calls": list(open_calls), "timestamp": self._timestamp(now_ms), "torn": list(torn)}
        payload = {**place, **found}
        return self._sign("recovery", payload, jcs_bytes(payload))

    def _sign(self, kind: str, payload: JsonObject, payload_bytes: bytes) -> Record:
        progress, payload = self.progress, dict(sorted(payload.items()))
        record = build_record(
            kind,
            payload,
            self.key,
            seq=progress.next_seq,
            prev_b64u=progress.head_b64u,
            timestamp=payload["timestamp"],
            payload_bytes=payload_bytes,
        )
        progress.take(kind, payload, record.h_b64u)
        return record

    def _timestamp(self, unix_ms: int) -> str:
        return max(timestamp(unix_ms), self.progress.last_timestamp)
