"""The closed shapes of the wire documents, as data for ``wire_schema`` (protocol.md A.5, E.1 to E.10, E.13).

Digests of others are taken at eight characters or more, as the reference does; what is compared with a digest that we
compute is exact by that. Causal members carry the reason codes of protocol.md E.6.

Limits: members that this version does not check further (``web_receipts``, ``vir_receipts``, coverage, binary and
delegation evidence) are held to being arrays of objects; the verifier says so in a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .wire_schema import Anything, Choice, ListOf, Nullable, Number, Obj, Shape, Text, parse_date_time_ms

PHASES = ("setup", "planning", "reasoning", "execution", "observation", "reflection", "teardown")
MAX_METADATA_BYTES = 16_384
MAX_ITEMS = 1_000

_B64U = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_DID_START = re.compile(r"did:.*", re.DOTALL)

TEXT = Text()
DIGEST = Text(min=8, pattern=_B64U, what="base64url of eight characters or more")
DID = Text(min=5, pattern=_DID_START, what="a DID")
TIME = Text(test=lambda text: parse_date_time_ms(text) is not None, what="an RFC 3339 date-time with a zone")
OPEN_OBJECT = Obj(open=True)
HASH_ALGORITHM = Text(among=("SHA-256", "BLAKE3"))
ALGORITHM = Text(among=("Ed25519",))
_ANY_SPAN = Text(reason="CAUSAL_BINDING_NORMALIZATION_FAILED", test=lambda text: bool(text.strip()), what="a span id")
_CONFIDENCE = Number(0, 1, reason="CAUSAL_CONFIDENCE_OUT_OF_RANGE")
_COUNT = Number(0, whole=True)


def _const(value: str) -> Text:
    return Text(among=(value,))


def envelope_shape(envelope_type: str, payload: Shape, version: str = "1", **optional: Shape) -> Obj:
    """The shape of a signed envelope (protocol.md A.5)."""
    return Obj(
        required={
            "envelope_version": _const(version),
            "envelope_type": _const(envelope_type),
            "payload": payload,
            "payload_hash_b64u": DIGEST,
            "hash_algorithm": HASH_ALGORITHM,
            "signature_b64u": DIGEST,
            "algorithm": ALGORITHM,
            "signer_did": DID,
            "issued_at": TIME,
        },
        optional={"expires_at": TIME, **optional},
    )


BINDING = Obj(
    optional={
        "run_id": TEXT,
        "event_hash_b64u": DIGEST,
        "nonce": TEXT,
        "policy_hash": TEXT,
        "token_scope_hash_b64u": DIGEST,
        **dict.fromkeys(
            ("span_id", "spanId", "parent_span_id", "parentSpanId", "tool_span_id", "toolSpanId"), _ANY_SPAN
        ),
        "phase": Text(among=PHASES, reason="CAUSAL_PHASE_INVALID"),
        "attribution_confidence": _CONFIDENCE,
        "attributionConfidence": _CONFIDENCE,
    }
)

GATEWAY_RECEIPT = Obj(
    required={
        "receipt_version": _const("1"),
        **dict.fromkeys(("receipt_id", "gateway_id", "provider", "model"), TEXT),
        "request_hash_b64u": DIGEST,
        "response_hash_b64u": DIGEST,
        **dict.fromkeys(("tokens_input", "tokens_output", "latency_ms"), Number(0)),
        "timestamp": TIME,
    },
    optional={
        "binding": BINDING,
        "metadata": Obj(
            optional={
                "model_identity": OPEN_OBJECT,
                "model_identity_hash_b64u": DIGEST,
                "log_inclusion_proof": OPEN_OBJECT,
            },
            open=True,
        ),
    },
)

EVENT = Obj(
    required={
        **dict.fromkeys(("event_id", "run_id", "event_type"), TEXT),
        "timestamp": TIME,
        "payload_hash_b64u": DIGEST,
        "prev_hash_b64u": Nullable(DIGEST),
        "event_hash_b64u": DIGEST,
    }
)

_LEAF = Obj(
    required={
        "type": Text(
            among=("string", "number", "boolean", "null", "array", "object"), reason="DISCLOSURE_TYPE_MISMATCH"
        ),
        "value": Anything(),
        "salt_b64u": DIGEST,
    }
)
DISCLOSURE = Obj(
    required={
        "disclosure_algorithm": Text(among=("vir_v2_typed_lexicographical",), reason="DISCLOSURE_ALGORITHM_UNKNOWN"),
        "merkle_root_b64u": DIGEST,
        "redacted_leaf_hashes_b64u": ListOf(DIGEST, max=10_000),
        "disclosed_leaves": Obj(others=_LEAF, max_members=10_000),
    }
)

_TOOL_REQUIRED: Mapping[str, Shape] = {
    **dict.fromkeys(("receipt_id", "tool_name"), TEXT),
    "args_hash_b64u": DIGEST,
    "result_hash_b64u": DIGEST,
    "hash_algorithm": HASH_ALGORITHM,
    "agent_did": DID,
    "timestamp": TIME,
    "latency_ms": Number(0),
}
_TOOL_OPTIONAL: Mapping[str, Shape] = {
    "tool_version": TEXT,
    "result_status": Text(among=("success", "error", "timeout")),
    "binding": BINDING,
}
TOOL_RECEIPT_V1 = Obj(required={"receipt_version": _const("1"), **_TOOL_REQUIRED}, optional=_TOOL_OPTIONAL)
TOOL_RECEIPT_V2 = Obj(
    required={"receipt_version": _const("2"), **_TOOL_REQUIRED, "args_salt_b64u": DIGEST, "result_salt_b64u": DIGEST},
    optional={**_TOOL_OPTIONAL, "args_disclosure": DISCLOSURE, "result_disclosure": DISCLOSURE},
)
CO_SIGNATURE = Obj(
    required={"signature_b64u": DIGEST, "algorithm": ALGORITHM, "signer_did": DID, "issued_at": TIME},
    optional={"role": Text(among=("proxy", "approver", "auditor", "supervisor"))},
)
TOOL_ENVELOPE_V1 = envelope_shape("tool_receipt", TOOL_RECEIPT_V1)
TOOL_ENVELOPE_V2 = envelope_shape(
    "tool_receipt", TOOL_RECEIPT_V2, version="2", co_signatures=ListOf(CO_SIGNATURE, max=16)
)


def pick_tool_shape(item: Mapping[str, Any]) -> Shape | None:
    """Which of the four forms of a tool receipt ``item`` claims to be (protocol.md E.4)."""
    if "envelope_version" in item or "payload" in item:
        return {"1": TOOL_ENVELOPE_V1, "2": TOOL_ENVELOPE_V2}.get(str(item.get("envelope_version")))
    return {"1": TOOL_RECEIPT_V1, "2": TOOL_RECEIPT_V2}.get(str(item.get("receipt_version")))


TOOL_RECEIPT = Choice(pick_tool_shape, "a tool receipt, version 1 or 2, payload or envelope")

SIDE_EFFECT = Obj(
    required={
        "receipt_version": _const("1"),
        "receipt_id": TEXT,
        "effect_class": Text(among=("network_egress", "filesystem_write", "external_api_write")),
        "hash_algorithm": TEXT,
        "agent_did": DID,
        "timestamp": TIME,
    },
    optional={"binding": OPEN_OBJECT},
    open=True,
)
APPROVAL = Obj(
    required={
        "receipt_version": _const("1"),
        "receipt_id": TEXT,
        "approval_type": Text(among=("explicit_approve", "explicit_deny", "auto_approve", "timeout_deny")),
        "agent_did": DID,
        "timestamp": TIME,
    },
    optional={"binding": OPEN_OBJECT, "hash_algorithm": TEXT},
    open=True,
)
RATE_LIMIT_CLAIM = Obj(
    required={
        "claim_version": _const("1"),
        "scope": Text(among=("agent", "model", "tool")),
        "scope_key": TEXT,
        "window_start": TEXT,
        "window_end": TEXT,
        "max_requests": _COUNT,
        "observed_requests": _COUNT,
    },
    optional={
        **dict.fromkeys(
            ("max_tokens_input", "observed_tokens_input", "max_tokens_output", "observed_tokens_output"), _COUNT
        ),
        "run_id": TEXT,
    },
)
ATTESTATION = Obj(
    required={
        "attestation_id": TEXT,
        "attestation_type": Text(among=("owner", "third_party")),
        "attester_did": DID,
        "subject_did": DID,
        "signature_b64u": DIGEST,
    },
    optional={"expires_at": TIME},
)
URM_REFERENCE = Obj(
    required={"urm_version": _const("1"), "urm_id": TEXT, "resource_type": TEXT, "resource_hash_b64u": DIGEST},
    optional={"metadata": OPEN_OBJECT},
)
UNCHECKED_MEMBERS = (
    "vir_receipts",
    "web_receipts",
    "coverage_attestations",
    "binary_semantic_evidence_attestations",
    "delegation_receipts",
)
PROOF_BUNDLE = Obj(
    required={"bundle_version": _const("1"), "bundle_id": TEXT, "agent_did": DID},
    optional={
        "urm": URM_REFERENCE,
        "event_chain": ListOf(EVENT, min=1, max=MAX_ITEMS),
        "receipts": ListOf(envelope_shape("gateway_receipt", GATEWAY_RECEIPT), min=1, max=MAX_ITEMS),
        "tool_receipts": ListOf(TOOL_RECEIPT, max=MAX_ITEMS),
        "side_effect_receipts": ListOf(SIDE_EFFECT, max=MAX_ITEMS),
        "human_approval_receipts": ListOf(APPROVAL, max=MAX_ITEMS),
        "rate_limit_claims": ListOf(RATE_LIMIT_CLAIM, max=256),
        "attestations": ListOf(ATTESTATION, min=1, max=100),
        **dict.fromkeys(UNCHECKED_MEMBERS, ListOf(OPEN_OBJECT, max=MAX_ITEMS)),
        "metadata": OPEN_OBJECT,
    },
    also=re.compile(r"eip8004_[a-z0-9_]{1,64}", re.ASCII),
)
PROOF_BUNDLE_ENVELOPE = envelope_shape("proof_bundle", PROOF_BUNDLE)
GATEWAY_RECEIPT_ENVELOPE = envelope_shape("gateway_receipt", GATEWAY_RECEIPT)

MANIFEST_ENTRY = Obj(
    required={"path": TEXT, "sha256_b64u": DIGEST, "content_type": TEXT, "size_bytes": _COUNT},
)
EXPORT_BUNDLE = Obj(
    required={
        "export_version": _const("1"),
        "export_id": TEXT,
        "created_at": TIME,
        "issuer_did": DID,
        "manifest": Obj(
            required={"manifest_version": _const("1"), "generated_at": TIME, "entries": ListOf(MANIFEST_ENTRY, min=1)}
        ),
        "artifacts": Obj(
            required={"proof_bundle_envelope": OPEN_OBJECT},
            optional={
                "execution_attestation_envelopes": ListOf(OPEN_OBJECT, max=MAX_ITEMS),
                "derivation_attestation_envelopes": ListOf(OPEN_OBJECT, max=MAX_ITEMS),
                "audit_result_attestation_envelopes": ListOf(OPEN_OBJECT, max=MAX_ITEMS),
            },
        ),
        "bundle_hash_b64u": DIGEST,
        "hash_algorithm": _const("SHA-256"),
        "signature_b64u": DIGEST,
        "algorithm": ALGORITHM,
        "issued_at": TIME,
    },
    optional={"expires_at": TIME, "metadata": OPEN_OBJECT},
)
LOG_INCLUSION_PROOF = Obj(
    required={
        "proof_version": _const("1"),
        "log_id": TEXT,
        "tree_size": _COUNT,
        "leaf_hash_b64u": DIGEST,
        "root_hash_b64u": DIGEST,
        "audit_path": ListOf(DIGEST, max=64),
        "root_published_at": TIME,
        "root_signature": Obj(required={"signer_did": DID, "sig_b64u": DIGEST}),
        "metadata": Obj(required={"leaf_index": _COUNT}, open=True),
    }
)
OPEN_ENVELOPES = {
    kind: envelope_shape(kind, OPEN_OBJECT)
    for kind in ("execution_attestation", "derivation_attestation", "audit_result_attestation")
}
