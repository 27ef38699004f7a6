"""Wire files as the reference's tools write them: keys in document order, hashed as transmitted (protocol.md A.2).

``FILED`` are documents with the outcome they must have, kept as files under tests/vectors/receipts; ``python -m
tests.receipts.wire_makers`` writes them, and a test compares. All keys are of these
tests, and signatures are deterministic.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clawproxy.policies.contract import sign_contract
from clawproxy.tokens.canonical import jcs_bytes, wire_order_bytes
from clawproxy.tokens.digests import b64u_decode, b64u_encode, sha256_b64u
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

GATEWAY = SigningKey.from_seed(Role.RECEIPT, bytes([0x41]) * 32)
AGENT = SigningKey.from_seed(Role.JOB, bytes([0x42]) * 32)
AUDITOR = SigningKey.from_seed(Role.APPROVAL, bytes([0x43]) * 32)
STRANGER = SigningKey.from_seed(Role.RECEIPT, bytes([0x44]) * 32)
ATTESTER = SigningKey.from_seed(Role.LOG, bytes([0x45]) * 32)
LOG = SigningKey.from_seed(Role.LOG, bytes([0x46]) * 32)
EXPORTER = SigningKey.from_seed(Role.LOG, bytes([0x47]) * 32)
EXECUTOR = SigningKey.from_seed(Role.LOG, bytes([0x49]) * 32)
DERIVER = SigningKey.from_seed(Role.LOG, bytes([0x4A]) * 32)
POLICY = SigningKey.from_seed(Role.POLICY, bytes([0x48]) * 32)
RUN = "run_wire_1"
NOW_MS = 1_900_000_000_000  # 2030-03-17T17:46:40Z
VECTORS = Path(__file__).parents[1] / "vectors" / "receipts"

type Document = dict[str, Any]


def at(second: int) -> str:
    return f"2030-03-01T12:00:{second:02d}.000Z"


def trust() -> Trust:
    lists = {
        "attestation_signer_dids": [ATTESTER.did],
        "execution_attestation_signer_dids": [EXECUTOR.did],
        "derivation_attestation_signer_dids": [DERIVER.did],
    }
    keys = [(GATEWAY, Role.RECEIPT), (POLICY, Role.POLICY), (LOG, Role.LOG)]
    return build_trust([TrustedKey(key.did, role) for key, role in keys], lists)


def config() -> Document:
    """The same trust in the reference's form (protocol.md F.5), which has no roles for logs and policies."""
    lists = {name: sorted(dids) for name, dids in trust().allowlists.items()}
    return {"config_version": "1", "allowlists": {"gateway_receipt_signer_dids": [GATEWAY.did], **lists}}


def digest(text: str) -> str:
    return sha256_b64u(text.encode())


def envelope(
    envelope_type: str, payload: Document, key: SigningKey, second: int, version: str = "1", **extra: Any
) -> Document:
    payload_hash = sha256_b64u(wire_order_bytes(payload))
    return {
        "envelope_version": version,
        "envelope_type": envelope_type,
        "payload": payload,
        "payload_hash_b64u": payload_hash,
        "hash_algorithm": "SHA-256",
        "signature_b64u": key.sign_b64u(payload_hash.encode()),
        "algorithm": "Ed25519",
        "signer_did": key.did,
        "issued_at": at(second),
        **extra,
    }


def chain(events: int = 2, run_id: str = RUN) -> list[Document]:
    out: list[Document] = []
    for n in range(events):
        event = {
            "event_id": f"evt_{n}",
            "run_id": run_id,
            "event_type": "run_start" if n == 0 else "llm_call",
            "timestamp": at(n),
            "payload_hash_b64u": digest(f"event {n}"),
            "prev_hash_b64u": out[-1]["event_hash_b64u"] if out else None,
        }
        out.append({**event, "event_hash_b64u": sha256_b64u(wire_order_bytes(event))})
    return out


EVENTS = chain()
BOUND = {"run_id": RUN, "event_hash_b64u": EVENTS[1]["event_hash_b64u"]}


def receipt(n: int = 0, key: SigningKey = GATEWAY, binding: Document | None = None, **over: Any) -> Document:
    identity = {
        "model_identity_version": "1",
        "tier": "closed_opaque",
        "model": {"provider": "openai", "name": "gpt-5-mini"},
    }
    payload = {
        "receipt_version": "1",
        "receipt_id": f"rcpt_wire_{n}",
        "gateway_id": "did:web:gateway.test",
        "provider": "openai",
        "model": "gpt-5-mini",
        "request_hash_b64u": digest(f"request {n}"),
        "response_hash_b64u": digest(f"response {n}"),
        "tokens_input": 11,
        "tokens_output": 5,
        "latency_ms": 40,
        "timestamp": at(n + 1),
        "binding": {**BOUND, "nonce": f"nonce_{n}"} if binding is None else binding,
        "metadata": {"model_identity": identity, "model_identity_hash_b64u": sha256_b64u(jcs_bytes(identity))},
        **over,
    }
    return envelope("gateway_receipt", payload, key, n + 2)


def spanned(n: int, **members: Any) -> Document:
    """A receipt with causal members in its binding."""
    return receipt(n, binding={**BOUND, "nonce": f"nonce_{n}", **members})


def bundle(key: SigningKey = AGENT, issued: int = 30, extra: Document | None = None, **members: Any) -> Document:
    """A proof bundle with chain and one receipt; ``members`` replace, None removes."""
    payload = {
        "bundle_version": "1",
        "bundle_id": "bundle_wire_1",
        "agent_did": AGENT.did,
        "event_chain": EVENTS,
        "receipts": [receipt()],
        **members,
    }
    present = {name: value for name, value in payload.items() if value is not None}
    return envelope("proof_bundle", copy.deepcopy(present), key, issued, **(extra or {}))


def tool_payload(version: str = "1", **over: Any) -> Document:
    salts = {"args_salt_b64u": digest("salt a"), "result_salt_b64u": digest("salt r")} if version == "2" else {}
    return {
        "receipt_version": version,
        "receipt_id": "tool_wire_1",
        "tool_name": "read_ticket",
        "args_hash_b64u": digest("args"),
        "result_hash_b64u": digest("result"),
        "hash_algorithm": "SHA-256",
        "agent_did": AGENT.did,
        "timestamp": at(3),
        "latency_ms": 2,
        **salts,
        "binding": dict(BOUND),
        **over,
    }


def tool(version: str = "1", key: SigningKey = AGENT, extra: Document | None = None, **over: Any) -> Document:
    return envelope("tool_receipt", tool_payload(version, **over), key, 4, version, **(extra or {}))


def co_signed(signature: str | None = None) -> Document:
    item = tool("2")
    signed = {
        "signature_b64u": signature or AUDITOR.sign_b64u(item["payload_hash_b64u"].encode()),
        "algorithm": "Ed25519",
        "signer_did": AUDITOR.did,
        "issued_at": at(5),
        "role": "auditor",
    }
    return {**item, "co_signatures": [signed]}


def disclosing(kind: str = "string", value: Any = "T-17", root: str | None = None, algorithm: str = "") -> Document:
    """A v2 tool receipt that shows one of its two arguments."""
    leaf = {"type": kind, "value": value, "salt_b64u": digest("leaf salt")}
    hidden = digest("hidden leaf")
    shown = sha256_b64u(b"args.ticket:" + jcs_bytes(leaf))
    right = sha256_b64u(jcs_bytes(sorted([hidden, shown])))
    disclosure = {
        "disclosure_algorithm": algorithm or "vir_v2_typed_lexicographical",
        "merkle_root_b64u": root or right,
        "redacted_leaf_hashes_b64u": [hidden],
        "disclosed_leaves": {"args.ticket": leaf},
    }
    return tool("2", args_hash_b64u=right, args_disclosure=disclosure)


def side_effect(anchor: str = "span_0", **over: Any) -> Document:
    return {
        "receipt_version": "1",
        "receipt_id": "effect_1",
        "effect_class": "network_egress",
        "target_hash_b64u": digest("target"),
        "hash_algorithm": "SHA-256",
        "agent_did": AGENT.did,
        "timestamp": at(6),
        "latency_ms": 1,
        "binding": {**BOUND, "tool_span_id": anchor},
        **over,
    }


def approval(anchor: str = "span_0", **over: Any) -> Document:
    return {
        "receipt_version": "1",
        "receipt_id": "approval_1",
        "approval_type": "explicit_approve",
        "agent_did": AGENT.did,
        "timestamp": at(6),
        "binding": {**BOUND, "parentSpanId": anchor},
        **over,
    }


def claim(**over: Any) -> Document:
    return {
        "claim_version": "1",
        "scope": "model",
        "scope_key": "gpt-5-mini",
        "window_start": at(0),
        "window_end": at(9),
        "max_requests": 10,
        "observed_requests": 3,
        **over,
    }


def attestation(key: SigningKey = ATTESTER, **over: Any) -> Document:
    item = {
        "attestation_id": "att_1",
        "attestation_type": "third_party",
        "attester_did": key.did,
        "subject_did": AGENT.did,
        "signature_b64u": "",
        **over,
    }
    return {**item, "signature_b64u": key.sign_b64u(jcs_bytes(item))}


def log_proof(key: SigningKey = LOG, index: int = 3, size: int = 5) -> Document:
    """A proof in the wire format's tree: no prefixes, odd levels repeat their last node."""
    level = [hashlib.sha256(b"leaf %d" % n).digest() for n in range(size)]
    leaf, path, place = level[index], [], index
    while len(level) > 1:
        level += [level[-1]] * (len(level) % 2)
        path.append(b64u_encode(level[place ^ 1]))
        level = [hashlib.sha256(level[n] + level[n + 1]).digest() for n in range(0, len(level), 2)]
        place //= 2
    root = b64u_encode(level[0])
    return {
        "proof_version": "1",
        "log_id": "log-of-the-tests",
        "tree_size": size,
        "leaf_hash_b64u": b64u_encode(leaf),
        "root_hash_b64u": root,
        "audit_path": path,
        "root_published_at": at(8),
        "root_signature": {"signer_did": key.did, "sig_b64u": key.sign_b64u(root.encode())},
        "metadata": {"leaf_index": index},
    }


def derivation(key: SigningKey = DERIVER, proof: Document | None = None, **over: Any) -> Document:
    payload = {"derivation_version": "1", "derivation_id": "drv_1", "issued_at": at(8)}
    log = {"clawlogs": {"inclusion_proof": log_proof() if proof is None else proof}}
    return envelope("derivation_attestation", {**payload, **log, **over}, key, 9)


def execution(proof: Document, key: SigningKey = EXECUTOR, **over: Any) -> Document:
    payload = {
        "attestation_version": "1",
        "attestation_id": "exec_1",
        "execution_type": "sandbox_execution",
        "agent_did": AGENT.did,
        "attester_did": key.did,
        "run_id": RUN,
        "proof_bundle_hash_b64u": proof["payload_hash_b64u"],
        "issued_at": at(9),
        **over,
    }
    return envelope("execution_attestation", payload, key, 9)


def export(
    proof: Document | None = None,
    change: Callable[[Document], Any] | None = None,
    resign: bool = True,
    **attestations: list[Document],
) -> Document:
    """An export bundle; ``change`` acts before the bundle is hashed and signed."""
    artifacts: Document = {"proof_bundle_envelope": proof or bundle(), **attestations}
    paths = {"artifacts/proof_bundle_envelope.json": artifacts["proof_bundle_envelope"]}
    for kind, items in attestations.items():
        paths |= {f"artifacts/{kind}/{n}.json": item for n, item in enumerate(items)}
    entries = [
        {
            "path": path,
            "sha256_b64u": sha256_b64u(jcs_bytes(item)),
            "content_type": "application/json",
            "size_bytes": len(jcs_bytes(item)),
        }
        for path, item in paths.items()
    ]
    out: Document = {
        "export_version": "1",
        "export_id": "export_1",
        "created_at": at(40),
        "issuer_did": EXPORTER.did,
        "manifest": {"manifest_version": "1", "generated_at": at(40), "entries": entries},
        "artifacts": artifacts,
        "issued_at": at(41),
    }
    if change and resign:
        change(out)
    bundle_hash = sha256_b64u(jcs_bytes(out))
    out |= {
        "bundle_hash_b64u": bundle_hash,
        "hash_algorithm": "SHA-256",
        "signature_b64u": EXPORTER.sign_b64u(bundle_hash.encode()),
        "algorithm": "Ed25519",
    }
    if change and not resign:
        change(out)
    return out


def contract() -> Document:
    return sign_contract({"policy_name": "wire", "wpc_version": "v1", "allowed_models": ["gpt-*"]}, POLICY, at(0))


def changed(document: Document, *path: Any, to: Any = None, drop: bool = False) -> Document:
    """A copy with one member replaced or dropped, nothing signed again."""
    out = copy.deepcopy(document)
    thing: Any = out
    for step in path[:-1]:
        thing = thing[step]
    if drop:
        del thing[path[-1]]
    else:
        thing[path[-1]] = to
    return out


def malleable(signature_b64u: str) -> str:
    """Another text for the same bytes: the unused bits of the last character set."""
    raw = b64u_decode(signature_b64u)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature_b64u[-1]) | 1]
    assert len(raw) == 64
    return signature_b64u[:-1] + last


FILED: dict[str, tuple[Callable[[], Document], str]] = {
    "proof_bundle_pass": (bundle, "OK"),
    "proof_bundle_mixed": (
        lambda: bundle(
            receipts=[spanned(0, span_id="span_0"), spanned(1, span_id="span_1", parent_span_id="span_0")],
            tool_receipts=[tool_payload(), tool_payload("2"), tool(), tool("2")],
            side_effect_receipts=[side_effect()],
            human_approval_receipts=[approval()],
            rate_limit_claims=[claim()],
        ),
        "OK",
    ),
    "proof_bundle_invalid_signature": (
        lambda: changed(bundle(), "signature_b64u", to=AGENT.sign_b64u(b"something else")),
        "SIGNATURE_INVALID",
    ),
    "proof_bundle_missing_member": (lambda: changed(bundle(), "algorithm", drop=True), "MALFORMED_ENVELOPE"),
    "proof_bundle_unknown_version": (
        lambda: changed(bundle(), "envelope_version", to="7"),
        "UNKNOWN_ENVELOPE_VERSION",
    ),
    "proof_bundle_unknown_hash_algorithm": (
        lambda: changed(bundle(), "hash_algorithm", to="SHA-1"),
        "UNKNOWN_HASH_ALGORITHM",
    ),
    "proof_bundle_empty_chain": (lambda: bundle(event_chain=[], receipts=None), "SCHEMA_VALIDATION_FAILED"),
    "proof_bundle_binding_mismatch": (
        lambda: bundle(receipts=[receipt(binding={**BOUND, "run_id": "run_other", "nonce": "n"})]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "proof_bundle_hash_mismatch": (lambda: changed(bundle(), "payload", "bundle_id", to="x"), "HASH_MISMATCH"),
    "proof_bundle_tool_receipt_bad_version": (
        lambda: bundle(tool_receipts=[tool_payload(receipt_version="2")]),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "proof_bundle_side_effect_bad_class": (
        lambda: bundle(side_effect_receipts=[side_effect(effect_class="mind_reading")]),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "proof_bundle_tool_co_signature": (lambda: bundle(tool_receipts=[co_signed()]), "OK"),
    "proof_bundle_tool_disclosure": (lambda: bundle(tool_receipts=[disclosing()]), "OK"),
    "proof_bundle_tool_disclosure_other_root": (
        lambda: bundle(tool_receipts=[disclosing(root=digest("another root"))]),
        "DISCLOSURE_ROOT_MISMATCH",
    ),
    "export_bundle_pass": (
        lambda: export(derivation_attestation_envelopes=[derivation()]),
        "OK",
    ),
    "gateway_receipt_pass": (receipt, "OK"),
    "tool_receipt_by_nobody_named": (tool, "CLAIM_NOT_FOUND"),
    "tool_receipt_bare": (tool_payload, "MALFORMED_ENVELOPE"),
}
"""Name of the file -> how it is made, and the reason code it must get."""


def write_vectors() -> None:
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, text in vector_texts().items():
        (VECTORS / name).write_text(text)


def vector_texts() -> dict[str, str]:
    """File name -> content: the vectors, their manifest, and the trust in both forms."""
    documents: dict[str, Document] = {f"{name}.json": make() for name, (make, _) in FILED.items()}
    documents["config.json"] = config()
    documents["trust.json"] = trust().document()
    documents["manifest.json"] = {
        "now_ms": NOW_MS,
        "vectors": [{"file": f"{name}.json", "reason_code": reason} for name, (_, reason) in FILED.items()],
    }
    return {name: json.dumps(document, indent=1) + "\n" for name, document in documents.items()}


if __name__ == "__main__":
    write_vectors()
