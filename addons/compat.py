"""Answers on the compatibility routes, which carry their receipt (protocol.md D.6). Pure.

JSON: the provider's object written again in JavaScript's order, with ``_receipt`` and ``_receipt_envelope`` appended;
an answer that is no JSON object, and an error, are wrapped first. Event streams: two comment lines after the last
event.
"""

from __future__ import annotations

from typing import Any

import orjson

from ..tokens.canonical import JsonObject, wire_order_bytes
from ..tokens.digests import b64u_encode
from ..tokens.errors import ClawproxyError

_OURS = ("_receipt", "_receipt_envelope")


def json_answer(status: int, body: bytes, envelope: JsonObject, legacy: JsonObject | None) -> tuple[int, bytes]:
    """Status and body for the provider's whole answer ``body`` with ``status``.

    Any 2xx becomes 200. Never raises for what a provider sends: what cannot be written again as JavaScript would goes
    out as text.
    """
    document = _parse(body)
    whole: JsonObject
    if not 200 <= status < 300:
        whole = {"error": {"raw": _text(body)} if document is None else document, "status": status}
    elif isinstance(document, dict):
        status, whole = 200, {key: value for key, value in document.items() if key not in _OURS}
    else:
        status, whole = 200, {"data": _text(body) if document is None else document}
    receipts = {"_receipt": legacy} if legacy is not None else {}
    try:
        return status, wire_order_bytes({**whole, **receipts, "_receipt_envelope": envelope})
    except ClawproxyError:  # nested too deeply to be written again
        whole = {"data": _text(body)} if status == 200 else {"error": {"raw": _text(body)}, "status": status}
        return status, wire_order_bytes({**whole, **receipts, "_receipt_envelope": envelope})


def sse_comments(envelope: JsonObject, legacy: JsonObject | None, *, after: bytes = b"\n") -> bytes:
    """The comment lines that follow the last event of a stream whose bytes so far end with ``after``.

    A stream that does not end its last line gets a line end first: otherwise the comment would be glued to its data.
    """
    lines = b"" if after.endswith((b"\n", b"\r")) else b"\n"
    lines += b":clawproxy_receipt_envelope_b64u=" + _b64u(envelope) + b"\n"
    if legacy is not None:
        lines += b":clawproxy_receipt_b64u=" + _b64u(legacy) + b"\n"
    return lines + b"\n"


def _b64u(document: JsonObject) -> bytes:
    return b64u_encode(wire_order_bytes(document)).encode("ascii")


def _parse(body: bytes) -> Any:
    """The JSON value, read as leniently as JavaScript reads it; None for what is none (``null`` is not an answer)."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
