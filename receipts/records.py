"""The record of the journal: one line, one hash, one signature (docs/evidence-format.md, A record). Pure.

``h`` = sha256_b64u("clawproxy.log.v1\\n" ‖ JCS(record without ``h``)), ``prev`` is the ``h`` before. Each body is a
signed envelope whose payload repeats its place, so the chain is signed and not only hashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from ..tokens.canonical import JsonObject, jcs_bytes, parse_json_object
from ..tokens.digests import sha256_b64u
from ..tokens.envelope import build_envelope_over, check_envelope_shape, check_envelope_signature
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .journal import MAX_LINE_BYTES

_DOMAIN = b"clawproxy.log.v1\n"
_SORTED = orjson.OPT_SORT_KEYS
RECORD_MEMBERS = frozenset({"body", "h", "prev", "seq", "t", "v"})
ENVELOPE_TYPES = {
    "event": "gateway_event",
    "intent": "gateway_intent",
    "receipt": "gateway_receipt",
    "effect": "gateway_side_effect",
    "denial": "gateway_denial",
    "recovery": "gateway_recovery",
}
"""What the body of each kind of record is."""


@dataclass(frozen=True, slots=True)
class Record:
    """A signed record: ``line`` is what the journal holds, LF included."""

    kind: str
    seq: int
    h_b64u: str
    envelope: JsonObject
    line: bytes

    @property
    def payload(self) -> JsonObject:
        payload: JsonObject = self.envelope["payload"]
        return payload


def build_record(
    kind: str,
    payload: JsonObject,
    key: SigningKey,
    *,
    seq: int,
    prev_b64u: str,
    timestamp: str,
    envelope_type: str = "",
    payload_bytes: bytes | None = None,
) -> Record:
    """Sign ``payload`` and put it into a record; the payload must hold its place already.

    ``payload_bytes`` are its JCS bytes, from a caller that has them. Raises ``ClawproxyError`` (PARSE_ERROR) for a
    payload that is not JSON, or a line over ``MAX_LINE_BYTES``.
    """
    payload_bytes = payload_bytes or jcs_bytes(payload)
    envelope = build_envelope_over(envelope_type or ENVELOPE_TYPES[kind], payload, payload_bytes, key, timestamp)
    # the payload is canonical already and everything around it plain ASCII, so nothing is walked a second time
    body = orjson.Fragment(orjson.dumps({**envelope, "payload": orjson.Fragment(payload_bytes)}, option=_SORTED))
    record: dict[str, Any] = {"body": body, "prev": prev_b64u, "seq": seq, "t": kind, "v": 1}
    record["h"] = sha256_b64u(_DOMAIN + orjson.dumps(record, option=_SORTED))
    line = orjson.dumps(record, option=_SORTED | orjson.OPT_APPEND_NEWLINE)
    if len(line) > MAX_LINE_BYTES:
        raise ClawproxyError(
            "PARSE_ERROR",
            f"a {kind} record is too long",
            got=f"{len(line)} bytes",
            expected=f"at most {MAX_LINE_BYTES}",
        )
    return Record(kind, seq, record["h"], envelope, line)


def read_record(line: bytes, *, seq: int, prev_b64u: str, signers: frozenset[str]) -> Record:
    """Read one line (without its LF) that must be record ``seq`` after ``prev_b64u``, signed by one of ``signers``.

    Checks bytes, chain, hash, envelope and signature; raises ``ClawproxyError`` on the first fault. Whether the payload
    makes sense after what came before is ``progress.Progress.take``'s.
    """
    record = parse_json_object(line, max_bytes=MAX_LINE_BYTES)
    version_1 = record.get("v") == 1 and record["v"].__class__ is int
    if set(record) != RECORD_MEMBERS or not version_1 or record["t"] not in tuple(ENVELOPE_TYPES):
        raise ClawproxyError("MALFORMED_ENVELOPE", "not a journal record of version 1")
    if record["seq"] != seq or record["seq"].__class__ is not int:
        raise ClawproxyError("HASH_MISMATCH", "a record is not at its place", got=record["seq"], expected=str(seq))
    if record["prev"] != prev_b64u:
        raise ClawproxyError("HASH_MISMATCH", "a record does not follow the one before", where="prev")
    bare = {name: value for name, value in record.items() if name != "h"}
    if record["h"] != sha256_b64u(_DOMAIN + jcs_bytes(bare)) or jcs_bytes(record) != line:
        raise ClawproxyError("HASH_MISMATCH", "a record does not have the hash it states", where="h")
    envelope = check_envelope_shape(record["body"], ENVELOPE_TYPES[record["t"]])
    if envelope["signer_did"] not in signers:
        raise ClawproxyError("CLAIM_NOT_FOUND", "a record is signed by another gateway", got=envelope["signer_did"])
    check_envelope_signature(envelope)
    return Record(record["t"], seq, record["h"], envelope, line + b"\n")


EVENT_MEMBERS = ("event_id", "run_id", "event_type", "timestamp", "payload_hash_b64u", "prev_hash_b64u")
"""The members under ``event_hash_b64u``, in the order in which they are hashed (protocol.md E.2): not sorted."""


def event_hash(entry: JsonObject) -> str:
    """``event_hash_b64u`` of an entry of the event chain."""
    return sha256_b64u(orjson.dumps({name: entry[name] for name in EVENT_MEMBERS}))


def build_event(
    event_id: str, run_id: str, event_type: str, timestamp: str, detail_bytes: bytes, prev_hash_b64u: str | None
) -> JsonObject:
    """An entry of the event chain over the JCS bytes of its detail."""
    entry: JsonObject = {
        "event_id": event_id,
        "run_id": run_id,
        "event_type": event_type,
        "timestamp": timestamp,
        "payload_hash_b64u": sha256_b64u(detail_bytes),
        "prev_hash_b64u": prev_hash_b64u,
    }
    return dict(sorted({**entry, "event_hash_b64u": event_hash(entry)}.items()))
