"""Tokens and contracts as an attacker would make them: signed by the wrong key, with claims no mint would write."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from clawproxy.policies.contract import hash_contract, sign_contract
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import b64u_encode
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.scope_hash import token_scope_hash

from ..gateway.bed import CONTRACT, Bed
from .texts import expand

STRANGER = SigningKey.generate(Role.TOKEN)
"""A key that nobody trusts."""


def forge(bed: Bed, spec: dict[str, Any], job_id: str, policy_hash: str) -> bytes:
    """The token of a case. ``spec``: ``text``; or ``claims`` over and ``drop`` from a good token's, ``ttl_s``,
    ``issued_s`` (relative to now), ``raw_members`` (JSON text into the payload), ``header``, ``signed_by``
    (token, stranger, policy, receipt, none, hmac), ``keep_scope_hash``, ``mangle``."""
    if "text" in spec:
        return expand(spec["text"], {})
    now_s = int(time.time())
    issued_s = now_s + spec.get("issued_s", 0)
    claims: dict[str, Any] = {
        "token_version": "1",
        "sub": "did:key:zTester",
        "aud": ["clawproxy.local"],
        "scope": ["clawproxy:call"],
        "iat": issued_s,
        "exp": issued_s + spec.get("ttl_s", 600),
        "policy_hash_b64u": policy_hash,
        "mission_id": job_id,
        "jti": "00000000-0000-4000-8000-000000000001",
        "nonce": "n-1",
    }
    if spec.get("keep_scope_hash"):
        claims["token_scope_hash_b64u"] = token_scope_hash(claims)
    claims |= spec.get("claims", {})
    claims = {name: value for name, value in claims.items() if name not in spec.get("drop", [])}
    if not spec.get("keep_scope_hash") and "token_scope_hash_b64u" not in {*claims, *spec.get("drop", [])}:
        try:
            claims["token_scope_hash_b64u"] = token_scope_hash(claims)
        except Exception:
            claims["token_scope_hash_b64u"] = "A" * 43
    payload = json.dumps(claims, separators=(",", ":"))
    if "raw_members" in spec:
        payload = f"{payload[:-1]},{spec['raw_members']}}}"
    if "payload" in spec:
        payload = spec["payload"]
    key = {
        "token": bed.keys[Role.TOKEN],
        "policy": bed.keys[Role.POLICY],
        "receipt": bed.keys[Role.RECEIPT],
        "stranger": STRANGER,
    }.get(spec.get("signed_by", "token"), bed.keys[Role.TOKEN])
    own = spec.get("kid_of", "signer") == "signer"
    header = {"alg": "EdDSA", "typ": "JWT", "kid": (key if own else bed.keys[Role.TOKEN]).kid}
    header |= spec.get("header", {})
    head_text = json.dumps(header, separators=(",", ":"))
    if "raw_header" in spec:
        head_text = spec["raw_header"].replace("{kid}", header["kid"])
    signing_input = f"{b64u_encode(head_text.encode())}.{b64u_encode(payload.encode())}"
    match spec.get("signed_by"):
        case "none":
            signature = ""
        case "hmac":
            secret = bed.keys[Role.TOKEN].did.encode()
            signature = b64u_encode(hmac.digest(secret, signing_input.encode(), hashlib.sha256))
        case _:
            signature = key.sign_b64u(signing_input.encode("ascii"))
    return _mangle(f"{signing_input}.{signature}", spec.get("mangle", "")).encode()


def _mangle(compact: str, how: str) -> str:
    head, payload, signature = compact.split(".")
    match how:
        case "flip_signature":
            raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
            raw[5] ^= 1
            return f"{head}.{payload}.{b64u_encode(bytes(raw))}"
        case "flip_payload":
            claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).replace(b"zTester", b"zTestes")
            return f"{head}.{b64u_encode(claims)}.{signature}"
        case "zero_signature":
            return f"{head}.{payload}.{b64u_encode(bytes(64))}"
        case "short_signature":
            return f"{head}.{payload}.{signature[:40]}"
        case "padded":
            return f"{head}.{payload}.{signature}=="
        case "two_parts":
            return f"{head}.{payload}"
        case "four_parts":
            return f"{compact}.x"
        case "five_parts":
            return f"{head}.{payload}.{signature}.{payload}.{signature}"
        case "trailing_space":
            return f"{compact}%20"
        case "last_bits":
            # the same bytes in another spelling: unused bits of the last character set
            table = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            return f"{compact[:-1]}{table[table.index(compact[-1]) | 1]}"
        case "long":
            return f"{head}.{payload}{'A' * 9000}.{signature}"
        case "standard_alphabet":
            return f"{head}.+{payload[1:]}.{signature}"
        case "upper":
            return f"{head}.{payload}.{signature}".upper()
    return compact


def place_contract(bed: Bed, spec: dict[str, Any], case_id: str) -> str:
    """Write the contract of a case into the gateway's directory; returns the hash that its token is pinned to.

    ``spec``: ``over`` the bed's contract, ``drop``, ``document`` (instead of it), ``signed_by`` (policy, stranger,
    token, receipt), ``mangle``.
    """
    document = spec.get("document") or {**CONTRACT, "policy_name": case_id, **spec.get("over", {})}
    document = {name: value for name, value in document.items() if name not in spec.get("drop", [])}
    role = spec.get("signed_by", "policy")
    if role == "policy":
        key = bed.keys[Role.POLICY]
    elif role == "stranger":
        key = SigningKey.generate(Role.POLICY)
    else:
        key = bed.keys[Role(role)]
    wanted = hash_contract(document)
    envelope = _sign(document, key)
    mangle = spec.get("mangle", "")
    if mangle == "other_payload":
        # the payload is exchanged below its signature
        envelope["payload"] = {**envelope["payload"], "allowed_models": ["*"]}
    elif mangle == "other_payload_and_hash":
        envelope["payload"] = {**envelope["payload"], "allowed_models": ["*"]}
        wanted = envelope["payload_hash_b64u"] = hash_contract(envelope["payload"])
    elif mangle == "signature_of_another":
        envelope["signature_b64u"] = _sign(CONTRACT, key)["signature_b64u"]
    elif mangle == "version":
        envelope["envelope_version"] = "2"
    elif mangle == "unknown_member":
        envelope["allow"] = "everything"
    elif mangle == "type":
        envelope["envelope_type"] = "gateway_receipt"
    elif mangle == "algorithm":
        envelope["algorithm"] = "none"
    elif mangle == "signer_claims_reviewer":
        envelope["signer_did"] = bed.keys[Role.POLICY].did
    raw = jcs_bytes(envelope)
    if mangle == "duplicate_key":
        raw = raw.replace(b'"allowed_models":', b'"allowed_models":["*"],"allowed_models":', 1)
    elif mangle == "cut":
        raw = raw[: len(raw) // 2]
    folder = bed.state / "contracts"
    path = folder / f"{case_id}.json"
    if mangle == "link_out":
        outside = Path(bed.state) / f"outside-{case_id}.json"
        outside.write_bytes(raw)
        path.unlink(missing_ok=True)
        path.symlink_to(outside)
    else:
        path.write_bytes(raw)
    return wanted


def _sign(document: dict[str, Any], key: SigningKey) -> dict[str, Any]:
    """As ``sign_contract``, but for any key and any document."""
    from clawproxy.policies.contract import ENVELOPE_TYPE, hashed_view
    from clawproxy.tokens.envelope import build_envelope

    if key.role is Role.POLICY:
        try:
            return dict(sign_contract(document, key, "2026-01-01T00:00:00.000Z"))
        except Exception:
            pass  # a document that no honest tool signs
    return dict(build_envelope(ENVELOPE_TYPE, document, key, "2026-01-01T00:00:00.000Z", hashed=hashed_view(document)))
