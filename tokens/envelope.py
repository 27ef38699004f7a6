"""Signed envelopes, version 1 of the wire format (protocol.md A.3, A.5).

The signature covers the 43 ASCII characters of ``payload_hash_b64u`` and nothing else: every member beside ``payload``
is unsigned. Times, types and sequence numbers that matter therefore stand inside the payload.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from .canonical import JsonObject, jcs_bytes, wire_order_bytes
from .digests import b64u_decode, sha256_b64u
from .errors import ClawproxyError
from .keys import SigningKey, verify_signature

ENVELOPE_MEMBERS = (
    "algorithm",
    "envelope_type",
    "envelope_version",
    "hash_algorithm",
    "issued_at",
    "payload",
    "payload_hash_b64u",
    "signature_b64u",
    "signer_did",
)
# Unsigned and without meaning to us: changing one of these does not change what an envelope says (protocol.md A.3).
UNSIGNED_MEMBERS = ("issued_at", "expires_at")


def timestamp(unix_ms: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS.mmmZ`` (protocol.md A.4)."""
    return f"{_second(unix_ms // 1000)}.{unix_ms % 1000:03d}Z"


@lru_cache(maxsize=16)
def _second(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%S}"


def build_envelope(
    envelope_type: str, payload: JsonObject, key: SigningKey, issued_at: str, *, hashed: JsonObject | None = None
) -> JsonObject:
    """Sign ``payload``. To be written with ``jcs_bytes``, so that the JCS and the wire-order hash agree.

    ``hashed`` is the view of the payload that is hashed where that is not the payload itself (a contract's hash leaves
    its own ``policy_hash`` field out).
    """
    return build_envelope_over(envelope_type, payload, jcs_bytes(payload if hashed is None else hashed), key, issued_at)


def build_envelope_over(
    envelope_type: str, payload: JsonObject, hashed_bytes: bytes, key: SigningKey, issued_at: str
) -> JsonObject:
    """``build_envelope`` for a caller that has the JCS bytes already and needs them again."""
    payload_hash = sha256_b64u(hashed_bytes)
    return {
        "algorithm": "Ed25519",
        "envelope_type": envelope_type,
        "envelope_version": "1",
        "hash_algorithm": "SHA-256",
        "issued_at": issued_at,
        "payload": payload,
        "payload_hash_b64u": payload_hash,
        "signature_b64u": key.sign_b64u(payload_hash.encode("ascii")),
        "signer_did": key.did,
    }


def check_envelope_shape(envelope: Any, envelope_type: str) -> JsonObject:
    """Members, version, type and algorithms, in the reference's order (protocol.md F.1); raises on the first fault."""
    if not isinstance(envelope, dict):
        raise ClawproxyError("MALFORMED_ENVELOPE", "not an envelope", got=type(envelope).__name__, expected="an object")
    for member in ENVELOPE_MEMBERS:
        kind = dict if member == "payload" else str
        if not isinstance(envelope.get(member), kind):
            raise ClawproxyError("MALFORMED_ENVELOPE", f"{member} is missing or of the wrong type", where=member)
    for member, expected, reason in (
        ("envelope_version", "1", "UNKNOWN_ENVELOPE_VERSION"),
        ("envelope_type", envelope_type, "UNKNOWN_ENVELOPE_TYPE"),
        ("algorithm", "Ed25519", "UNKNOWN_ALGORITHM"),
        ("hash_algorithm", "SHA-256", "UNKNOWN_HASH_ALGORITHM"),
    ):
        if envelope[member] != expected:
            raise ClawproxyError(
                reason, f"{member} is not known", where=member, got=envelope[member], expected=expected
            )
    unknown = set(envelope) - set(ENVELOPE_MEMBERS) - {"expires_at"}
    if unknown:
        raise ClawproxyError("SCHEMA_VALIDATION_FAILED", "unknown member in an envelope", got=min(unknown))
    return envelope


def check_envelope_signature(
    envelope: JsonObject, *, wire_order: bool = False, hashed: JsonObject | None = None
) -> str:
    """Check hash and signature of a well-shaped envelope; returns the rule that held, ``jcs`` or ``wire-order``.

    ``wire_order`` also accepts the reference's hash over keys as transmitted, for files that others made.
    ``hashed`` as in ``build_envelope``. Raises HASH_MISMATCH, INVALID_DID_FORMAT, MALFORMED_ENVELOPE or
    SIGNATURE_INVALID.
    """
    stated = envelope["payload_hash_b64u"]
    b64u_decode(stated, length_bytes=32)
    b64u_decode(envelope["signature_b64u"], length_bytes=64)
    payload = envelope["payload"] if hashed is None else hashed
    rule = "jcs"
    if wire_order and sha256_b64u(wire_order_bytes(payload)) == stated:
        rule = "wire-order"
    elif sha256_b64u(jcs_bytes(payload)) != stated:
        raise ClawproxyError("HASH_MISMATCH", "the payload does not have the hash it states", where="payload_hash_b64u")
    if not verify_signature(envelope["signer_did"], stated.encode("ascii"), envelope["signature_b64u"]):
        raise ClawproxyError("SIGNATURE_INVALID", "the signature is not the signer's", where="signature_b64u")
    return rule


def open_envelope(
    envelope: Any, envelope_type: str, signers: Container[str], *, wire_order: bool = False
) -> JsonObject:
    """Shape, trusted signer, hash, signature; returns the payload. Raises ``ClawproxyError`` on the first fault."""
    check_envelope_shape(envelope, envelope_type)
    if envelope["signer_did"] not in signers:
        raise ClawproxyError(
            "CLAIM_NOT_FOUND", "the signer is not trusted for this", where="signer_did", got=envelope["signer_did"]
        )
    check_envelope_signature(envelope, wire_order=wire_order)
    payload: JsonObject = envelope["payload"]
    return payload
