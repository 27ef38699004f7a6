"""The reference gateway's older receipt, ``_receipt``, made from a gateway receipt (protocol.md D.7). Pure.

Its signature covers a text, not a hash: the JavaScript-order JSON of most of its members, in an order of its own.
"""

from __future__ import annotations

from typing import Any

from ..policies.facts import NO_MODEL
from ..tokens.canonical import JsonObject, wire_order_bytes
from ..tokens.digests import b64u_decode
from ..tokens.keys import SigningKey

_BINDING = {
    "runId": "run_id",
    "eventHash": "event_hash_b64u",
    "nonce": "nonce",
    "policyHash": "policy_hash",
    "tokenScopeHashB64u": "token_scope_hash_b64u",
}
_SIGNED = (
    "version",
    "proxyDid",
    "provider",
    "model",
    "requestHash",
    "responseHash",
    "timestamp",
    "latencyMs",
    "kid",
    "binding",
    "payment",
    "privacyMode",
)
_WRITTEN = (
    "version",
    "provider",
    "model",
    "requestHash",
    "responseHash",
    "timestamp",
    "latencyMs",
    "payment",
    "binding",
    "privacyMode",
    "proxyDid",
    "kid",
)


def build_legacy_receipt(envelope: JsonObject, key: SigningKey) -> JsonObject:
    """``_receipt`` for a gateway receipt's ``envelope``, signed by the same ``key``.

    To be written in the order of its keys. ``payment`` says that nobody paid through the gateway, ``privacyMode`` that
    it holds hashes only.
    """
    payload = envelope["payload"]
    binding = {ours: payload["binding"][wire] for ours, wire in _BINDING.items() if wire in payload["binding"]}
    members: dict[str, Any] = {
        "version": "1.0",
        "proxyDid": payload["gateway_id"],
        "provider": payload["provider"],
        "requestHash": b64u_decode(payload["request_hash_b64u"]).hex(),
        "responseHash": b64u_decode(payload["response_hash_b64u"]).hex(),
        "timestamp": payload["timestamp"],
        "latencyMs": payload["latency_ms"],
        "kid": key.kid,
        "binding": binding,
        "payment": {"mode": "user", "paid": False},
        "privacyMode": "hash_only",
    }
    if payload["model"] != NO_MODEL:
        members["model"] = payload["model"]
    text = wire_order_bytes({name: members[name] for name in _SIGNED if name in members})
    written = {name: members[name] for name in _WRITTEN if name in members}
    return {**written, "signature": key.sign_b64u(text)}
