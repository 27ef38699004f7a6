"""Calls of tools that are no model calls: what the gateway tells about one, and what is signed of it. Pure.

Intent and record stand in the journal as those of a model call do. The record holds the wire format's side effect
receipt (protocol.md E.5, stand-alone form), and beside it what that has no place for. Of the target it keeps scheme,
host and port; path and query may hold secrets and are there as a digest alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..tokens.canonical import MAX_SAFE_INT, JsonObject
from .calls import Outcome, WouldRefuse
from .payloads import MAX_LATENCY_MS, clip_text, span_id, would_refuse_entries

TOOL_EGRESS = "tool_egress"
"""The event type of an intent."""
_MAX_DETAIL_BYTES = 1024
MAX_PATH_CHARS = 1024
"""As long as a path of a contract; a longer one is on record as a digest alone."""


@dataclass(frozen=True, slots=True)
class EffectStart:
    """What is about to leave. ``target_hash_b64u`` is over the URL as it leaves, ``request_hash_b64u`` over the body.

    ``credential`` is the name of the one that the gateway adds, None where it adds none. ``nonce`` is the receipt id:
    a tool states none of its own.
    """

    receipt_id: str
    nonce: str
    scheme: str
    host: str
    port: int
    method: str
    target_hash_b64u: str
    request_hash_b64u: str
    request_bytes: int
    credential: str | None
    token_hash_hex: str
    token_scope_hash_b64u: str
    policy_hash_b64u: str
    presenter: str
    way_in: str
    started_ms: int
    would_refuse: tuple[WouldRefuse, ...] = ()
    """Only in a job opened to observe."""
    path: str | None = None
    """Only in a job opened to observe: the path as it leaves, without the query; None where it may hold a secret."""
    has_query: bool = False
    """With a ``path``: a query follows it."""


@dataclass(frozen=True, slots=True)
class EffectEnd:
    """What came back. ``response_hash_b64u`` is over the body as it came, transfer coding undone, as far as it came."""

    outcome: Outcome
    status: int | None
    response_hash_b64u: str
    response_bytes: int
    first_byte_ms: int | None
    ended_ms: int
    detail: str = ""


_START_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(EffectStart)))


def effect_detail(start: EffectStart) -> JsonObject:
    """The ``detail`` of a ``tool_egress`` event: the fields of ``EffectStart``."""
    values = {name: getattr(start, name) for name in _START_FIELDS}
    detail = {name: clip_text(value) if value.__class__ is str else value for name, value in values.items()}
    del detail["would_refuse"], detail["path"], detail["has_query"]
    if start.would_refuse:
        detail["would_refuse"] = would_refuse_entries(start.would_refuse)
    if start.path is not None and len(start.path) <= MAX_PATH_CHARS:
        detail["path"] = start.path
        if start.has_query:
            detail["has_query"] = True
    return dict(sorted(detail.items()))


def effect_payload(
    start: EffectStart,
    end: EffectEnd,
    place: JsonObject,
    *,
    agent_did: str,
    run_id: str,
    event_hash_b64u: str,
    intent_seq: int,
    anchor_span: str | None,
    timestamp: str,
) -> JsonObject:
    """The payload of the record. ``anchor_span`` is the span of the model call that came before, if one did.

    The receipt id stands in it once: two of them among the torn bytes of a journal tell of two writes (``torn``).
    """
    binding: JsonObject = {"event_hash_b64u": event_hash_b64u, "nonce": start.nonce}
    if anchor_span is not None:
        binding["parent_span_id"] = anchor_span
    binding |= {
        "policy_hash": start.policy_hash_b64u,
        "run_id": run_id,
        "span_id": span_id(start.receipt_id),
        "token_scope_hash_b64u": start.token_scope_hash_b64u,
    }
    receipt: JsonObject = {
        "agent_did": agent_did,
        "binding": binding,
        "effect_class": "network_egress",
        "hash_algorithm": "SHA-256",
        "latency_ms": _bounded(end.ended_ms - start.started_ms, MAX_LATENCY_MS),
        "receipt_id": start.receipt_id,
        "receipt_version": "1",
        "request_hash_b64u": start.request_hash_b64u,
        "response_hash_b64u": end.response_hash_b64u,
        "target_hash_b64u": start.target_hash_b64u,
        "timestamp": timestamp,
    }
    known_status = end.status is not None and 100 <= end.status <= 999
    return {
        **place,
        "credential": start.credential,
        "detail": clip_text(end.detail, _MAX_DETAIL_BYTES),
        "first_byte_ms": None if end.first_byte_ms is None else _bounded(end.first_byte_ms),
        "host": clip_text(start.host),
        "intent_seq": intent_seq,
        "method": start.method,
        "outcome": str(end.outcome),
        "port": start.port,
        "presenter": clip_text(start.presenter),
        "request_bytes": _bounded(start.request_bytes),
        "response_bytes": _bounded(end.response_bytes),
        "scheme": start.scheme,
        "side_effect": receipt,
        "status": end.status if known_status else None,
        "timestamp": timestamp,
        "way_in": clip_text(start.way_in),
        **({"would_refuse": would_refuse_entries(start.would_refuse)} if start.would_refuse else {}),
    }


def _bounded(value: int, highest: int = MAX_SAFE_INT) -> int:
    return min(max(int(value), 0), highest)
