"""Mint a CST: compact JWS, EdDSA, claims in the issuer's order (protocol.md B.1, B.3).

What this writes, ``tokens.verify`` reads: the claims pass the same ``parse_claims`` before they are signed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from .claims import ISSUER_ORDER, parse_claims
from .digests import b64u_encode
from .errors import ClawproxyError
from .keys import Role, SigningKey
from .reasons import Refusal
from .scope_hash import token_scope_hash
from .verify import MAX_TOKEN_CHARS

MIN_TTL_S = 1
MAX_TTL_S = 3600
DEFAULT_TTL_S = 600


def mint(
    *,
    key: SigningKey,
    sub: str,
    aud: str | Sequence[str],
    scope: Sequence[str],
    job_id: str,
    policy_hash_b64u: str | None,
    now_s: int,
    ttl_s: int = DEFAULT_TTL_S,
    jti: str | None = None,
    nonce: str | None = None,
    owner_ref: str | None = None,
    owner_did: str | None = None,
    controller_did: str | None = None,
    agent_did: str | None = None,
    control_plane_policy_hash_b64u: str | None = None,
    payment_account_did: str | None = None,
    spend_cap: int | float | None = None,
    token_lane: str | None = None,
) -> str:
    """A token signed by ``key`` (role token), valid from ``now_s`` for ``ttl_s`` seconds (1 to 3600).

    ``jti`` and ``nonce`` default to random UUIDs. Raises ``ClawproxyError``: KEY_ROLE, TTL_INVALID, TTL_TOO_LONG, or
    the reason with which a gateway would refuse the claims.
    """
    if key.role is not Role.TOKEN:
        raise ClawproxyError(
            "KEY_ROLE",
            "this key does not sign tokens",
            got=str(key.role),
            expected=str(Role.TOKEN),
            remedy=f"make one with: clawproxy keys new {Role.TOKEN}",
        )
    _check_ttl(ttl_s)
    given: dict[str, Any] = {
        "token_version": "1",
        "sub": sub,
        "aud": aud if isinstance(aud, str) else list(aud),
        "scope": [scope] if isinstance(scope, str) else list(scope),
        "iat": now_s,
        "exp": now_s + ttl_s,
        "owner_ref": owner_ref,
        "owner_did": owner_did,
        "controller_did": controller_did,
        "agent_did": agent_did,
        "policy_hash_b64u": policy_hash_b64u,
        "control_plane_policy_hash_b64u": control_plane_policy_hash_b64u,
        "payment_account_did": payment_account_did,
        "spend_cap": spend_cap,
        "mission_id": job_id,
        "token_lane": token_lane,
        "jti": str(uuid.uuid4()) if jti is None else jti,
        "nonce": str(uuid.uuid4()) if nonce is None else nonce,
    }
    given["token_scope_hash_b64u"] = token_scope_hash(given)
    claims = {name: given[name] for name in ISSUER_ORDER if given.get(name) is not None}
    judged = parse_claims(claims)
    if isinstance(judged, Refusal):
        raise ClawproxyError(judged.reason, judged.detail, where=judged.rule)
    compact = _sign({"alg": "EdDSA", "typ": "JWT", "kid": key.kid}, claims, key)
    if len(compact) > MAX_TOKEN_CHARS:
        raise ClawproxyError(
            "TOKEN_MALFORMED",
            "the token would be too long",
            got=f"{len(compact)} characters",
            expected=f"at most {MAX_TOKEN_CHARS}",
            remedy="give fewer scopes or audiences",
        )
    return compact


def _check_ttl(ttl_s: int) -> None:
    if not isinstance(ttl_s, int) or isinstance(ttl_s, bool) or ttl_s < MIN_TTL_S:
        raise ClawproxyError("TTL_INVALID", "not a lifetime", got=ttl_s, expected=f"at least {MIN_TTL_S} s")
    if ttl_s > MAX_TTL_S:
        raise ClawproxyError(
            "TTL_TOO_LONG",
            "the token would live too long",
            got=f"{ttl_s} s",
            expected=f"at most {MAX_TTL_S} s",
            remedy="mint a shorter one and renew it, as clawproxy run does",
        )


def _sign(header: dict[str, str], claims: dict[str, Any], key: SigningKey) -> str:
    try:
        parts = (b64u_encode(orjson.dumps(header)), b64u_encode(orjson.dumps(claims)))
    except orjson.JSONEncodeError:
        raise ClawproxyError("TOKEN_INVALID_CLAIMS", "a claim cannot be written as JSON") from None
    signing_input = ".".join(parts)
    return f"{signing_input}.{key.sign_b64u(signing_input.encode('ascii'))}"
