"""Rules of a tool receipt, versions 1 and 2, payload or envelope (protocol.md E.4). Pure.

T01 it is one of the four known forms, and its closed shape holds (SCHEMA_VALIDATION_FAILED, DISCLOSURE_*)
T02 hashes are SHA-256 (UNKNOWN_HASH_ALGORITHM)
T03 ``agent_did`` is the bundle's agent (PROOF_BUNDLE_AGENT_MISMATCH)
T04 ``binding`` names the chain's run and one of its events, where it names any (RECEIPT_BINDING_MISMATCH)
T05 an envelope: signer DID, not expired (EXPIRED_TTL)
T06 the payload hash holds (HASH_MISMATCH)
T07 the signature is the signer's (SIGNATURE_INVALID)
T08 each co-signature, over the same hash, is its signer's (CO_SIGNATURE_INVALID), whose key the trust file has for
    nothing else than jobs and approvals (KEY_IN_TWO_ROLES)
T09 a disclosure: types are those of the values (DISCLOSURE_TYPE_MISMATCH), and the root over all leaves is both the
    stated root and the args or result hash (DISCLOSURE_ROOT_MISMATCH)
T10 note: it is not signed, or signed by someone other than the agent; the wire format allows both, so it proves little

Limits: whether ``args_hash_b64u`` fits the real arguments cannot be seen from a receipt without disclosure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import Trust
from .report import Fault, Findings
from .wire_envelope import (
    Signatures,
    check_dates,
    check_did,
    check_hash,
    check_role,
    check_shape,
    check_signature,
    join,
)
from .wire_shapes import TOOL_RECEIPT


def check_tool_receipt(
    item: Any,
    findings: Findings,
    signatures: Signatures,
    now_ms: int,
    path: str = "",
    *,
    trust: Trust,
    agent_did: str | None = None,
    run_id: str | None = None,
    event_hashes: Collection[str] = (),
) -> None:
    """Raise ``Fault`` for the first broken rule; add the notes of T10. Without ``run_id``, there is no chain to fit."""
    check_shape(TOOL_RECEIPT, item, "T01", path)
    signed = "payload" in item
    payload: JsonObject = item["payload"] if signed else item
    inside = join(path, "payload") if signed else path
    for owner, where in ((payload, inside), *(((item, path),) if signed else ())):
        if owner["hash_algorithm"] != "SHA-256":
            detail = f"got {owner['hash_algorithm']}, expected SHA-256"
            raise Fault("T02", "UNKNOWN_HASH_ALGORITHM", join(where, "hash_algorithm"), detail)
    if agent_did is not None and payload["agent_did"] != agent_did:
        raise Fault("T03", "PROOF_BUNDLE_AGENT_MISMATCH", join(inside, "agent_did"), "not the agent of the bundle")
    check_binding(payload, run_id, event_hashes, "T04", inside)
    if signed:
        _check_signed(item, signatures, now_ms, path)
        for n, extra in enumerate(item.get("co_signatures", ())):
            where = join(path, f"co_signatures[{n}].signer_did")
            check_role(trust, extra["signer_did"], (Role.JOB, Role.APPROVAL), "T08", where, findings)
    for member in ("args", "result"):
        if disclosure := payload.get(f"{member}_disclosure"):
            check_disclosure(disclosure, payload[f"{member}_hash_b64u"], join(inside, f"{member}_disclosure"))
    if not signed:
        findings.note("T10", "TOOL_RECEIPT_UNSIGNED", path, "a bare payload: it is signed only as part of its bundle")
    elif item["signer_did"] != payload["agent_did"]:
        findings.note(
            "T10", "TOOL_RECEIPT_OTHER_SIGNER", join(path, "signer_did"), "signed by someone else than the agent"
        )


def _check_signed(item: JsonObject, signatures: Signatures, now_ms: int, path: str) -> None:
    check_did(item["signer_did"], "T05", join(path, "signer_did"))
    check_dates(item, "T05", path, now_ms)
    check_hash(item, "T06", path)
    check_signature(signatures, item["signer_did"], item["payload_hash_b64u"], item["signature_b64u"], "T07", path)
    for n, extra in enumerate(item.get("co_signatures", ())):
        try:
            check_signature(
                signatures, extra["signer_did"], item["payload_hash_b64u"], extra["signature_b64u"], "T08", path
            )
        except Fault as fault:
            raise Fault("T08", "CO_SIGNATURE_INVALID", join(path, f"co_signatures[{n}]"), fault.detail) from None


def check_binding(payload: JsonObject, run_id: str | None, event_hashes: Collection[str], rule: str, path: str) -> None:
    """Run and event of a binding are the chain's, where there is a chain and the binding names them."""
    binding = payload.get("binding", {})
    if run_id is None:
        return
    if "run_id" in binding and binding["run_id"] != run_id:
        raise Fault(rule, "RECEIPT_BINDING_MISMATCH", join(path, "binding.run_id"), "not the run of the event chain")
    if "event_hash_b64u" in binding and binding["event_hash_b64u"] not in event_hashes:
        raise Fault(rule, "RECEIPT_BINDING_MISMATCH", join(path, "binding.event_hash_b64u"), "no event of the chain")


_JSON_TYPES = {str: "string", int: "number", float: "number", bool: "boolean", list: "array", dict: "object"}


def check_disclosure(disclosure: JsonObject, expected_root: str, path: str) -> None:
    """T09. The root is a hash over the sorted list of all leaf hashes, not a tree (protocol.md E.4)."""
    leaves = list(disclosure["redacted_leaf_hashes_b64u"])
    try:
        for name, leaf in disclosure["disclosed_leaves"].items():
            actual = "null" if leaf["value"] is None else _JSON_TYPES[type(leaf["value"])]
            if leaf["type"] != actual:
                where = join(path, "disclosed_leaves")
                raise Fault("T09", "DISCLOSURE_TYPE_MISMATCH", where, f"a leaf says {leaf['type']} and is {actual}")
            leaves.append(sha256_b64u(name.encode("utf-8") + b":" + jcs_bytes(leaf)))
        root = sha256_b64u(jcs_bytes(sorted(leaves)))
    except ClawproxyError as err:
        raise Fault.of(err, "T09", path) from None
    if root != disclosure["merkle_root_b64u"] or root != expected_root:
        raise Fault("T09", "DISCLOSURE_ROOT_MISMATCH", join(path, "merkle_root_b64u"), "the leaves give another root")
