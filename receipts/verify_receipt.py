"""Rules of a gateway receipt (protocol.md E.1, F.1). Pure.

R01 it is a whole signed envelope, never a bare payload (MALFORMED_ENVELOPE)
R02 version, type and algorithms are known
R03 the closed shape holds
R04 the signer's DID is well-formed
R05 the signer is a trusted receipt key (DEPENDENCY_NOT_CONFIGURED, CLAIM_NOT_FOUND)
R06 dates and base64url are well-formed, by the shape (R03)
R07 numbers are integers within the wire format's limits, metadata at most 16 KiB (MALFORMED_ENVELOPE)
R08 the payload hash holds, under the JCS or the wire-order rule (HASH_MISMATCH)
R09 the signature is the signer's (SIGNATURE_INVALID); small-order keys and malleable base64 are refused
R10 ``metadata.model_identity_hash_b64u`` is that of ``metadata.model_identity`` (HASH_MISMATCH)

An envelope's ``expires_at`` means nothing on a receipt (protocol.md E.1), so it is not judged.
"""

from __future__ import annotations

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from .report import Fault
from .wire_envelope import (
    Signatures,
    check_did,
    check_hash,
    check_kind,
    check_listed,
    check_members,
    check_shape,
    check_signature,
    join,
    json_size_bytes,
)
from .wire_shapes import GATEWAY_RECEIPT_ENVELOPE, MAX_METADATA_BYTES

MAX_TOKENS = 10_000_000
MAX_LATENCY_MS = 3_600_000


def check_receipt(
    envelope: JsonObject, signers: frozenset[str], signatures: Signatures, path: str = "", *, shaped: bool = False
) -> str:
    """Raise ``Fault`` for the first rule that is broken; returns the hash rule that held.

    ``shaped`` says that R01 to R03 were checked, with the bundle around the receipt.
    """
    if not shaped:
        check_members(envelope, "R01", path)
        check_kind(envelope, "gateway_receipt", "R02", path)
        check_shape(GATEWAY_RECEIPT_ENVELOPE, envelope, "R03", path)
    check_did(envelope["signer_did"], "R04", join(path, "signer_did"))
    check_listed(envelope["signer_did"], signers, "receipt signer", "R05", join(path, "signer_did"))
    payload = envelope["payload"]
    check_receipt_numbers(payload, join(path, "payload"))
    held = check_hash(envelope, "R08", path)
    check_signature(
        signatures, envelope["signer_did"], envelope["payload_hash_b64u"], envelope["signature_b64u"], "R09", path
    )
    check_model_identity(payload, join(path, "payload"))
    return held


def check_receipt_numbers(payload: JsonObject, path: str) -> None:
    """R07."""
    for member, most in (("tokens_input", MAX_TOKENS), ("tokens_output", MAX_TOKENS), ("latency_ms", MAX_LATENCY_MS)):
        value = payload[member]
        if value % 1 or not 0 <= value <= most:
            detail = f"got {value}, expected an integer in 0..{most}"
            raise Fault("R07", "MALFORMED_ENVELOPE", join(path, member), detail)
    if "metadata" in payload:
        where = join(path, "metadata")
        size_bytes = json_size_bytes(payload["metadata"], "R07", where)
        if size_bytes > MAX_METADATA_BYTES:
            detail = f"got {size_bytes} bytes, expected at most {MAX_METADATA_BYTES}"
            raise Fault("R07", "MALFORMED_ENVELOPE", where, detail)


def check_model_identity(payload: JsonObject, path: str) -> None:
    """R10."""
    metadata = payload.get("metadata", {})
    if "model_identity" in metadata and "model_identity_hash_b64u" in metadata:
        where = join(path, "metadata.model_identity_hash_b64u")
        if sha256_b64u(jcs_bytes(metadata["model_identity"])) != metadata["model_identity_hash_b64u"]:
            raise Fault("R10", "HASH_MISMATCH", where, "the hash of the model identity is another")
