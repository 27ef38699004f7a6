"""One signed JSON file, verified: told apart by what it says it is, judged by the rules of its kind. Pure.

W01 it is one of the kinds that this version verifies (UNKNOWN_ENVELOPE_TYPE, MALFORMED_ENVELOPE)
W02 contract: a whole envelope, known version, type and algorithms, closed members
W03 contract: the JCS hash of the contract, its own ``policy_hash`` member left out, is the stated one (HASH_MISMATCH)
W04 contract: it says what a contract may say
W05 contract: the signer is a trusted policy key (CLAIM_NOT_FOUND; DEPENDENCY_NOT_CONFIGURED where the trust file names
    none, and a gap where no trust file was given), the signature holds
W06 a tool receipt that stands alone: a whole envelope, and the trust file names the signer
W07 a proof bundle or export bundle: a trust file was given; without a gateway receipt there is an event chain at least,
    and a note that the agent alone speaks; note: it does not show that no call is missing

Proof bundles: verify_proof (P…). Export bundles: verify_export (X…). Gateway receipts: verify_receipt (R…). Tool
receipts: verify_tool (T…). A file may be wrapped as ``{"envelope": …}`` or ``{"bundle": …}`` (protocol.md F.4), with
nothing beside it that could be taken for signed (W01).

Limits: aggregate bundles are not verified yet, and are refused as an unknown type.
"""

from __future__ import annotations

from typing import Any

from ..policies.contract import hash_contract, parse_contract
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import Trust
from .report import Fault, Findings, Report, build_report
from .verify_export import check_export_bundle
from .verify_proof import ProofFacts, check_proof_bundle
from .verify_receipt import check_receipt
from .verify_tool import check_tool_receipt
from .wire_envelope import (
    Signatures,
    check_did,
    check_kind,
    check_listed,
    check_members,
    check_shape,
    check_signature,
    join,
    unwrap,
)
from .wire_schema import Obj
from .wire_shapes import OPEN_OBJECT, envelope_shape

_SIGNED_CONTRACT = envelope_shape("work_policy_contract", OPEN_OBJECT)
_CONTRACT = Obj(required=_SIGNED_CONTRACT.required)  # no expires_at: nothing would sign it


def verify_wire_file(document: JsonObject, trust: Trust, now_ms: int) -> Report:
    """CONFORMS, or FAILED with the code of the first broken rule; of a contract that nothing is wrong with, INCOMPLETE
    without a trust file. ``now_ms`` is the time at which expiry is judged."""
    kind = "unknown"
    findings, signatures = Findings(), Signatures()
    counts: dict[str, int] = {}
    facts: dict[str, Any] = {}
    try:
        inner, path = unwrap(document, "W01")
        kind = wire_kind(inner)
        match kind:
            case "export_bundle":
                proof = check_export_bundle(inner, trust, now_ms, findings, signatures, path)
                counts, facts = _tell_proof(proof)
                facts["issuer_did"] = inner["issuer_did"]
                _check_vouched(proof, trust, findings, join(path, "artifacts.proof_bundle_envelope"))
            case "proof_bundle":
                proof = check_proof_bundle(inner, trust, now_ms, findings, signatures, path)
                counts, facts = _tell_proof(proof)
                _check_vouched(proof, trust, findings, path)
            case "gateway_receipt":
                facts["hash_rule"] = check_receipt(inner, trust.signers(Role.RECEIPT), signatures, path)
            case "tool_receipt":
                check_members(inner, "W01", path)
                check_tool_receipt(inner, findings, signatures, now_ms, path, trust=trust)
                known = frozenset(trust.roles)
                check_listed(inner["signer_did"], known, "signer", "W06", join(path, "signer_did"))
                facts = {"agent_did": inner["payload"]["agent_did"], "signer_did": inner["signer_did"]}
            case "work_policy_contract":
                facts["policy_hash_b64u"] = check_contract_envelope(
                    inner, trust, signatures, path, signer_known=trust.given
                )
                if not trust.given:
                    detail = f"hash and signature hold, but nobody vouches for the signer {inner['signer_did']}"
                    findings.gap("W05", "DEPENDENCY_NOT_CONFIGURED", join(path, "signer_did"), detail)
            case _:
                raise _unknown_kind(inner, path)
    except Fault as fault:
        findings.add(fault.finding())
    return build_report(kind, findings, counts=counts, facts=facts)


def _check_vouched(proof: ProofFacts, trust: Trust, findings: Findings, path: str) -> None:
    """W07. The wire format's vectors hold a bundle without any gateway receipt valid, if it has an event chain."""
    where = join(path, "payload.receipts")
    if not trust.given:
        detail = "no trust file was given, so nobody is trusted to vouch for it"
        raise Fault("W07", "DEPENDENCY_NOT_CONFIGURED", path, detail)
    if not proof.receipts and not proof.events:
        raise Fault("W07", "RECEIPT_MISSING", where, "neither a gateway receipt nor an event")
    detail = "one bundle does not show that no call is missing; the job's directory, sealed, does"
    findings.note("W07", "COMPLETENESS_NOT_SHOWN", path, detail)
    if not proof.receipts:
        detail = "no gateway receipt: it is the agent's own word, proof tier self"
        findings.note("W07", "NO_GATEWAY_RECEIPT", where, detail)


def wire_kind(document: Any) -> str:
    """What ``document`` says it is: an envelope type, ``export_bundle``, or ``unknown``."""
    if not isinstance(document, dict):
        return "unknown"
    if "export_version" in document:
        return "export_bundle"
    envelope_type = document.get("envelope_type")
    if isinstance(envelope_type, str):
        return envelope_type[:64]
    inner = document.get("payload")
    payload = inner if isinstance(inner, dict) else document
    # a bare payload is no bundle and no gateway receipt, but saying which one is missing its envelope helps
    for member, kind in (
        ("bundle_version", "proof_bundle"),
        ("gateway_id", "gateway_receipt"),
        ("tool_name", "tool_receipt"),
    ):
        if member in payload:
            return kind
    return "unknown"


def _unknown_kind(document: Any, path: str) -> Fault:
    if isinstance(document, dict) and isinstance(document.get("envelope_type"), str):
        detail = f"got {document['envelope_type'][:64]!r}, which this version does not verify"
        return Fault("W01", "UNKNOWN_ENVELOPE_TYPE", join(path, "envelope_type"), detail)
    detail = "neither a signed envelope nor an export bundle"
    if isinstance(document, dict) and ("policy_version" in document or "policy_name" in document):
        detail += "; a contract that is not signed? clawproxy contract check reads it, contract sign signs it"
    return Fault("W01", "MALFORMED_ENVELOPE", path, detail)


def _tell_proof(proof: ProofFacts) -> tuple[dict[str, int], dict[str, Any]]:
    counts = {
        "events": proof.events,
        "receipts": proof.receipts,
        "tool_receipts": proof.tool_receipts,
        "attestations": proof.attestations,
    }
    facts = {
        "proof_tier": proof.proof_tier,
        "hash_rule": proof.hash_rule,
        "agent_did": proof.agent_did,
        "run_id": proof.run_id,
    }
    return counts, facts


def check_contract_envelope(
    envelope: JsonObject, trust: Trust, signatures: Signatures, path: str = "", *, signer_known: bool = True
) -> str:
    """W02 to W05; returns the contract's hash. ``signer_known=False`` leaves the signer's trust to the caller."""
    check_members(envelope, "W02", path)
    check_kind(envelope, "work_policy_contract", "W02", path)
    check_shape(_CONTRACT, envelope, "W02", path)
    check_did(envelope["signer_did"], "W02", join(path, "signer_did"))
    try:
        policy_hash = hash_contract(envelope["payload"])
    except ClawproxyError as err:
        raise Fault.of(err, "W03", join(path, "payload")) from None
    if policy_hash != envelope["payload_hash_b64u"] or envelope["hash_algorithm"] != "SHA-256":
        raise Fault("W03", "HASH_MISMATCH", join(path, "payload_hash_b64u"), "the hash of the contract is another")
    try:
        contract = parse_contract(envelope["payload"])
    except ClawproxyError as err:
        raise Fault.of(err, "W04", join(path, "payload")) from None
    if contract.has_placeholder:
        raise Fault("W04", "WPC_INVALID", join(path, "payload.policy_hash"), "a signed contract holds a placeholder")
    if signer_known:
        signers = trust.signers(Role.POLICY)
        check_listed(envelope["signer_did"], signers, "contract signer", "W05", join(path, "signer_did"))
    check_signature(signatures, envelope["signer_did"], policy_hash, envelope["signature_b64u"], "W05", path)
    return policy_hash
