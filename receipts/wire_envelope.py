"""A signed envelope that others may have made: shape, hash under either rule, signature, in the reference's order.

Order (protocol.md F.1): members, version, type, algorithm, hash algorithm, schema, signer DID, trust, dates and
base64url syntax, then numbers (the caller's), hash, key, signature. The order decides which reason code a broken file
gets, so it is kept even where another would be cheaper. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..tokens.canonical import JsonObject, jcs_bytes, wire_order_bytes
from ..tokens.digests import b64u_decode, sha256_b64u
from ..tokens.envelope import ENVELOPE_MEMBERS
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role, public_key_from_did, verify_signature
from ..tokens.trust import Trust
from .report import Fault, Findings
from .wire_schema import Shape, parse_date_time_ms

_DID = re.compile(r"did:(key|web):[A-Za-z0-9._%-]+", re.ASCII)
_B64U = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ED25519_SIGNATURE_BYTES = 64
_TITLES = frozenset({"vector_version", "description"})


@dataclass(slots=True)
class Signatures:
    """Signatures that already held in this verification, so that a receipt met twice is checked once."""

    held: set[tuple[str, str, str]] = field(default_factory=set)
    receipts: dict[str, JsonObject] = field(default_factory=dict)
    """Receipt envelopes that verified wholly, by payload hash; one that is equal need not be verified again."""

    def check(self, did: str, message: str, signature_b64u: str) -> bool:
        """Whether ``signature_b64u`` is that of the ASCII ``message`` by ``did``; raises as ``verify_signature``."""
        triple = (did, message, signature_b64u)
        if triple in self.held:
            return True
        if not verify_signature(did, message.encode("utf-8"), signature_b64u):
            return False
        self.held.add(triple)
        return True


def check_members(envelope: JsonObject, rule: str, path: str) -> None:
    """All members there, strings and an object: else MALFORMED_ENVELOPE. A bare payload ends here, always."""
    for member in ENVELOPE_MEMBERS:
        if not isinstance(envelope.get(member), dict if member == "payload" else str):
            raise Fault(rule, "MALFORMED_ENVELOPE", join(path, member), "missing or of the wrong type")


def check_kind(
    envelope: JsonObject, envelope_type: str, rule: str, path: str, *, versions: tuple[str, ...] = ("1",)
) -> None:
    """Version, type and algorithms. BLAKE3 is known to the schema but not computed by anyone (protocol.md A.5)."""
    for member, known, reason in (
        ("envelope_version", versions, "UNKNOWN_ENVELOPE_VERSION"),
        ("envelope_type", (envelope_type,), "UNKNOWN_ENVELOPE_TYPE"),
        ("algorithm", ("Ed25519",), "UNKNOWN_ALGORITHM"),
        ("hash_algorithm", ("SHA-256", "BLAKE3"), "UNKNOWN_HASH_ALGORITHM"),
    ):
        if envelope[member] not in known:
            raise Fault(rule, reason, join(path, member), f"got {envelope[member]!r}, expected {' or '.join(known)}")


def check_shape(shape: Shape, document: Any, rule: str, path: str) -> None:
    """The closed schema; SCHEMA_VALIDATION_FAILED, or the code of the member that does not fit."""
    if misfit := shape.fault(document):
        raise Fault(rule, misfit.reason, join(path, misfit.path), misfit.detail)


def check_did(did: str, rule: str, path: str) -> None:
    if not _DID.fullmatch(did):
        raise Fault(rule, "INVALID_DID_FORMAT", path, f"got {did!r}, expected did:key or did:web")


def check_dates(envelope: JsonObject, rule: str, path: str, now_ms: int | None) -> None:
    """``issued_at`` and ``expires_at`` are dates; with ``now_ms``, the second is not past (no skew)."""
    for member in ("issued_at", "expires_at"):
        if member in envelope and parse_date_time_ms(envelope[member]) is None:
            raise Fault(rule, "MALFORMED_ENVELOPE", join(path, member), "not a date")
    if now_ms is not None and "expires_at" in envelope:
        expires_ms = parse_date_time_ms(envelope["expires_at"]) or 0
        if expires_ms <= now_ms:
            raise Fault(rule, "EXPIRED_TTL", join(path, "expires_at"), f"expired at {envelope['expires_at']}")


def check_base64url(envelope: JsonObject, rule: str, path: str) -> None:
    for member in ("payload_hash_b64u", "signature_b64u"):
        if not _B64U.fullmatch(envelope[member]):
            raise Fault(rule, "MALFORMED_ENVELOPE", join(path, member), "not base64url without padding")


def check_hash(envelope: JsonObject, rule: str, path: str) -> str:
    """The payload has the hash it states under one of the two rules; returns which, ``jcs`` or ``wire-order``."""
    where = join(path, "payload_hash_b64u")
    if envelope["hash_algorithm"] != "SHA-256":
        raise Fault(rule, "HASH_MISMATCH", where, f"{envelope['hash_algorithm']} is not computed by this protocol")
    return matching_hash_rule(envelope["payload"], envelope["payload_hash_b64u"], rule, where)


def matching_hash_rule(value: Any, stated: str, rule: str, path: str) -> str:
    """``jcs`` or ``wire-order``, whichever gives ``stated``; HASH_MISMATCH if neither does (protocol.md A.2)."""
    try:
        if sha256_b64u(jcs_bytes(value)) == stated:
            return "jcs"
        if sha256_b64u(wire_order_bytes(value)) == stated:
            return "wire-order"
    except ClawproxyError as err:
        raise Fault.of(err, rule, path) from None
    raise Fault(rule, "HASH_MISMATCH", path, "the hash of the content is another")


def check_signature(
    signatures: Signatures,
    did: str,
    message: str,
    signature_b64u: str,
    rule: str,
    path: str,
    reason: str = "SIGNATURE_INVALID",
) -> None:
    """Key and signature: INVALID_DID_FORMAT for what is no Ed25519 did:key, MALFORMED_ENVELOPE for text that is not the
    one form of its bytes, else ``reason``."""
    try:
        public_key_from_did(did)
    except ClawproxyError as err:
        raise Fault.of(err, rule, join(path, "signer_did")) from None
    where = join(path, "signature_b64u")
    try:
        size = len(b64u_decode(signature_b64u))
    except ClawproxyError as err:
        raise Fault.of(err, rule, where) from None
    if size != _ED25519_SIGNATURE_BYTES:
        raise Fault(rule, reason, where, f"got {size} bytes, expected {_ED25519_SIGNATURE_BYTES}")
    if not signatures.check(did, message, signature_b64u):
        raise Fault(rule, reason, where, "the signature is not the signer's")


def check_listed(did: str, listed: frozenset[str], what: str, rule: str, path: str) -> None:
    """The signer is trusted for this: DEPENDENCY_NOT_CONFIGURED without any list, CLAIM_NOT_FOUND when not on it."""
    if not listed:
        raise Fault(rule, "DEPENDENCY_NOT_CONFIGURED", path, f"no {what} is trusted; give a trust file that names one")
    if did not in listed:
        raise Fault(rule, "CLAIM_NOT_FOUND", path, f"got {did}, expected a trusted {what}")


def json_size_bytes(value: Any, rule: str, path: str) -> int:
    """The size of ``value`` as JSON, for the wire format's limits."""
    try:
        return len(jcs_bytes(value))  # as long as JSON.stringify makes it: only the order differs
    except ClawproxyError as err:
        raise Fault.of(err, rule, path) from None


def same_json(one: Any, other: Any) -> bool:
    """Whether two parsed values are one JSON text; to Python alone, true is 1 and false is 0."""
    if one != other:
        return False
    try:
        return jcs_bytes(one) == jcs_bytes(other)
    except ClawproxyError:
        return False


def join(path: str, member: str) -> str:
    if not path or not member:
        return path or member
    return path + member if member[0] == "[" else f"{path}.{member}"


def unwrap(document: Mapping[str, Any], rule: str) -> tuple[Any, str]:
    """The document inside ``{"envelope": …}`` or ``{"bundle": …}`` (protocol.md F.4), and its path.

    Nothing signs a wrapper, so it may hold no more than the title of a test vector.
    """
    for name in ("envelope", "bundle"):
        inner = document.get(name)
        if isinstance(inner, dict) and "envelope_version" not in document and "export_version" not in document:
            for other in sorted(document.keys() - {name}):
                if other not in _TITLES or not isinstance(document[other], str):
                    raise Fault(rule, "MALFORMED_ENVELOPE", clip(other), "an unsigned member beside what is signed")
            return inner, name
    return document, ""


def check_role(trust: Trust, did: str, fits: Collection[Role], rule: str, path: str, findings: Findings) -> None:
    """KEY_IN_TWO_ROLES if the trust file has ``did`` in a role that is none of ``fits``.

    Only a note for the reference's list of derivation signers, which its vectors share with agents.
    """
    known = trust.roles.get(did)
    if known is None or known in {str(role) for role in fits}:
        return
    detail = f"{did} stands in the trust file as {known}"
    if known == "derivation_attestation_signer_dids":
        findings.note(rule, "KEY_IN_TWO_ROLES", path, detail)
    else:
        raise Fault(rule, "KEY_IN_TWO_ROLES", path, detail)
