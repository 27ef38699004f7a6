"""Rules of an export bundle (protocol.md E.10) and of a log inclusion proof (E.13). Pure.

X01 the closed shape holds (SCHEMA_VALIDATION_FAILED)
X02 the issuer's DID is well-formed; the trust file has its key for nothing else than jobs and approvals
    (KEY_IN_TWO_ROLES); note: it does not name it (ISSUER_NOT_TRUSTED)
X03 ``created_at`` is not after ``issued_at`` (CAUSAL_CLOCK_CONTRADICTION), which is not more than 300 s ahead
    (FUTURE_TIMESTAMP_POISONING); not expired by more than 300 s (EXPIRED_TTL)
X04 the manifest: each path once (MALFORMED_ENVELOPE), exactly the artifacts (MISSING_REQUIRED_FIELD), their JCS hash
    and size (HASH_MISMATCH), content type (MALFORMED_ENVELOPE)
X05 the bundle hash holds (HASH_MISMATCH)
X06 the signature is the issuer's (SIGNATURE_INVALID)
X07 the proof bundle inside verifies (verify_proof)
X08 each attestation: a whole envelope by a listed signer, hash, signature, not expired; an execution attestation is
    bound to this proof bundle, and any that names a bundle, run or agent names these (EVIDENCE_MISMATCH)
L01 the closed shape; the leaf lies in the tree and the path has its length (INCLUSION_PROOF_INVALID)
L02 the root's signer is a trusted log key or listed for the attestation that carries the proof (CLAIM_NOT_FOUND)
L03 the root signature holds (SIGNATURE_INVALID)
L04 leaf and path give the root (INCLUSION_PROOF_INVALID)

Limits: the wire format's log signs the root hash alone, so tree size, log id and time are the word of whoever made the
proof, and an inner node passes as a leaf (protocol.md E.13).
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import b64u_decode, sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import Trust
from .report import Fault, Findings
from .verify_proof import ProofFacts, check_proof_bundle
from .wire_envelope import (
    Signatures,
    check_dates,
    check_did,
    check_hash,
    check_kind,
    check_listed,
    check_members,
    check_role,
    check_shape,
    check_signature,
    join,
)
from .wire_schema import parse_date_time_ms
from .wire_shapes import EXPORT_BUNDLE, LOG_INCLUSION_PROOF, OPEN_ENVELOPES

SKEW_MS = 300_000
_SIGNED_MEMBERS = (
    "export_version",
    "export_id",
    "created_at",
    "issuer_did",
    "manifest",
    "artifacts",
    "issued_at",
    "expires_at",
    "metadata",
)
_LISTS = {
    "execution_attestation": "execution_attestation_signer_dids",
    "derivation_attestation": "derivation_attestation_signer_dids",
    "audit_result_attestation": "audit_result_attestation_signer_dids",
}


def check_export_bundle(
    bundle: JsonObject, trust: Trust, now_ms: int, findings: Findings, signatures: Signatures, path: str = ""
) -> ProofFacts:
    """Raise ``Fault`` for the first broken rule; returns what the proof bundle inside amounts to."""
    check_shape(EXPORT_BUNDLE, bundle, "X01", path)
    check_did(bundle["issuer_did"], "X02", join(path, "issuer_did"))
    _check_times(bundle, now_ms, path)
    _check_manifest(bundle, path)
    signable = {name: bundle[name] for name in _SIGNED_MEMBERS if name in bundle}
    where = join(path, "bundle_hash_b64u")
    if _sha256_jcs(signable, "X05", where) != bundle["bundle_hash_b64u"]:
        raise Fault("X05", "HASH_MISMATCH", where, "the hash of the bundle is another")
    check_signature(signatures, bundle["issuer_did"], bundle["bundle_hash_b64u"], bundle["signature_b64u"], "X06", path)
    where = join(path, "issuer_did")
    check_role(trust, bundle["issuer_did"], (Role.JOB, Role.APPROVAL), "X02", where, findings)
    if bundle["issuer_did"] not in trust.roles:
        findings.note("X02", "ISSUER_NOT_TRUSTED", where, "nobody vouches for who packed it")
    proof = bundle["artifacts"]["proof_bundle_envelope"]
    inside = join(path, "artifacts")
    facts = check_proof_bundle(proof, trust, now_ms, findings, signatures, join(inside, "proof_bundle_envelope"))
    for kind in _LISTS:
        for n, item in enumerate(bundle["artifacts"].get(f"{kind}_envelopes", ())):
            place = join(inside, f"{kind}_envelopes[{n}]")
            _check_attestation(item, kind, facts, proof["payload_hash_b64u"], trust, now_ms, signatures, place)
    return facts


def _check_times(bundle: JsonObject, now_ms: int, path: str) -> None:
    created_ms, issued_ms = parse_date_time_ms(bundle["created_at"]), parse_date_time_ms(bundle["issued_at"])
    if created_ms is None or issued_ms is None or created_ms > issued_ms:
        raise Fault("X03", "CAUSAL_CLOCK_CONTRADICTION", join(path, "created_at"), "created after it was issued")
    if issued_ms > now_ms + SKEW_MS:
        raise Fault("X03", "FUTURE_TIMESTAMP_POISONING", join(path, "issued_at"), "issued in the future")
    expires_ms = parse_date_time_ms(bundle["expires_at"]) if "expires_at" in bundle else None
    if expires_ms is not None and expires_ms + SKEW_MS <= now_ms:
        raise Fault("X03", "EXPIRED_TTL", join(path, "expires_at"), f"expired at {bundle['expires_at']}")


def _artifacts(bundle: JsonObject) -> dict[str, Any]:
    """Manifest path -> artifact."""
    artifacts = bundle["artifacts"]
    out = {"artifacts/proof_bundle_envelope.json": artifacts["proof_bundle_envelope"]}
    for kind in _LISTS:
        for n, item in enumerate(artifacts.get(f"{kind}_envelopes", ())):
            out[f"artifacts/{kind}_envelopes/{n}.json"] = item
    return out


def _check_manifest(bundle: JsonObject, path: str) -> None:
    entries = bundle["manifest"]["entries"]
    where = join(path, "manifest.entries")
    by_path = {entry["path"]: entry for entry in entries}
    if len(by_path) != len(entries):
        raise Fault("X04", "MALFORMED_ENVELOPE", where, "a path is listed twice")
    artifacts = _artifacts(bundle)
    if by_path.keys() != artifacts.keys():
        odd = min(by_path.keys() ^ artifacts.keys())
        raise Fault("X04", "MISSING_REQUIRED_FIELD", where, f"{odd} is not both listed and there")
    for n, entry in enumerate(entries):
        try:
            content = jcs_bytes(artifacts[entry["path"]])
        except ClawproxyError as err:
            raise Fault.of(err, "X04", f"{where}[{n}]") from None
        if sha256_b64u(content) != entry["sha256_b64u"] or len(content) != entry["size_bytes"]:
            raise Fault("X04", "HASH_MISMATCH", f"{where}[{n}]", f"hash or size of {entry['path']} is another")
        if entry["content_type"] != "application/json":
            raise Fault("X04", "MALFORMED_ENVELOPE", f"{where}[{n}].content_type", "expected application/json")


def _check_attestation(
    envelope: JsonObject,
    kind: str,
    facts: ProofFacts,
    proof_hash_b64u: str,
    trust: Trust,
    now_ms: int,
    signatures: Signatures,
    path: str,
) -> None:
    check_members(envelope, "X08", path)
    check_kind(envelope, kind, "X08", path)
    check_shape(OPEN_ENVELOPES[kind], envelope, "X08", path)
    check_did(envelope["signer_did"], "X08", join(path, "signer_did"))
    listed = trust.allowlists.get(_LISTS[kind], frozenset())
    check_listed(envelope["signer_did"], listed, f"{kind} signer", "X08", join(path, "signer_did"))
    check_dates(envelope, "X08", path, now_ms)
    check_hash(envelope, "X08", path)
    check_signature(
        signatures, envelope["signer_did"], envelope["payload_hash_b64u"], envelope["signature_b64u"], "X08", path
    )
    payload, inside = envelope["payload"], join(path, "payload")
    if kind == "execution_attestation" and "proof_bundle_hash_b64u" not in payload:
        detail = "missing: the attestation is bound to no proof bundle"
        raise Fault("X08", "EVIDENCE_MISMATCH", join(inside, "proof_bundle_hash_b64u"), detail)
    for member, expected in (
        ("proof_bundle_hash_b64u", proof_hash_b64u),
        ("run_id", facts.run_id),
        ("agent_did", facts.agent_did),
        ("attester_did", envelope["signer_did"]),
    ):
        if member in payload and payload[member] != expected:
            raise Fault("X08", "EVIDENCE_MISMATCH", join(inside, member), "not that of the bundle it came with")
    log = payload.get("clawlogs")
    if isinstance(log, dict) and "inclusion_proof" in log:
        where = join(inside, "clawlogs.inclusion_proof")
        check_log_proof(log["inclusion_proof"], trust.signers(Role.LOG) | listed, signatures, where)


def check_log_proof(proof: Any, signers: frozenset[str], signatures: Signatures, path: str = "") -> None:
    """L01 to L04; raises ``Fault``."""
    check_shape(LOG_INCLUSION_PROOF, proof, "L01", path)
    size, index = int(proof["tree_size"]), int(proof["metadata"]["leaf_index"])
    if not 0 <= index < size or len(proof["audit_path"]) != (size - 1).bit_length():
        detail = f"leaf {index} of {size} with {len(proof['audit_path'])} steps"
        raise Fault("L01", "INCLUSION_PROOF_INVALID", join(path, "audit_path"), detail)
    signer = proof["root_signature"]["signer_did"]
    where = join(path, "root_signature")
    check_did(signer, "L02", join(where, "signer_did"))
    check_listed(signer, signers, "log signer", "L02", join(where, "signer_did"))
    check_signature(signatures, signer, proof["root_hash_b64u"], proof["root_signature"]["sig_b64u"], "L03", where)
    try:
        node = b64u_decode(proof["leaf_hash_b64u"])
        for step in proof["audit_path"]:
            other = b64u_decode(step)
            # no leaf or node prefix, and an odd level repeats its last node (protocol.md E.13)
            node = hashlib.sha256(other + node if index % 2 else node + other).digest()
            index //= 2
        root = b64u_decode(proof["root_hash_b64u"])
    except ClawproxyError as err:
        raise Fault.of(err, "L04", path) from None
    if node != root:
        raise Fault("L04", "INCLUSION_PROOF_INVALID", join(path, "root_hash_b64u"), "leaf and path give another root")


def _sha256_jcs(value: Any, rule: str, path: str) -> str:
    try:
        return sha256_b64u(jcs_bytes(value))
    except ClawproxyError as err:
        raise Fault.of(err, rule, path) from None
