"""The claims of a CST, strictly (protocol.md B.1): a closed set, each of its type, scope hash right.

Judged here is what the claims say by themselves. Time, audience and revocation, which need a gateway and a clock, are
``tokens.verify``'s. The reference ignores unknown claims; here an unknown one is refused, since a claim that nobody
reads may have been meant as a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .canonical import MAX_SAFE_INT, JsonObject
from .digests import is_sha256_b64u
from .errors import ClawproxyError, clip
from .reasons import Refusal
from .scope_hash import token_scope_hash

ISSUER_ORDER = (
    "token_version",
    "sub",
    "aud",
    "scope",
    "iat",
    "exp",
    "owner_ref",
    "owner_did",
    "controller_did",
    "agent_did",
    "policy_hash_b64u",
    "control_plane_policy_hash_b64u",
    "token_scope_hash_b64u",
    "payment_account_did",
    "spend_cap",
    "mission_id",
    "delegation_id",
    "delegator_did",
    "delegate_did",
    "delegation_policy_hash_b64u",
    "delegation_spend_cap_minor",
    "delegation_expires_at",
    "token_lane",
    "jti",
    "nonce",
)
"""Every claim there is, in the order in which the reference's issuer writes them."""

MAX_SCOPE_ITEMS = 64
MAX_SCOPE_ITEM_CHARS = 128
MAX_AUDIENCES = 64
MAX_TEXT_CHARS = 512
DELEGATION_CLAIMS = tuple(name for name in ISSUER_ORDER if name.startswith("delegat"))

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DID = re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]+", re.ASCII)
_HASH_TEXT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CstClaims:
    """Well-formed claims of a CST. ``job_id`` is ``mission_id``; times are Unix seconds; absent strings are None."""

    sub: str
    aud: tuple[str, ...]
    scope: tuple[str, ...]
    iat_s: int
    exp_s: int
    job_id: str
    jti: str
    token_scope_hash_b64u: str
    policy_hash_b64u: str | None = None
    nonce: str | None = None
    owner_ref: str | None = None
    owner_did: str | None = None
    controller_did: str | None = None
    agent_did: str | None = None
    control_plane_policy_hash_b64u: str | None = None
    payment_account_did: str | None = None
    spend_cap: int | float | None = None
    token_lane: str | None = None


def is_job_id(value: object) -> bool:
    """Whether ``value`` can name a job: it becomes a directory name, so no slash, no leading dot."""
    return isinstance(value, str) and _JOB_ID.fullmatch(value) is not None


def parse_claims(claims: Any) -> CstClaims | Refusal:
    """Judge the payload of a token whose signature holds; the first fault comes back as a ``Refusal``.

    In this order: an object; no unknown claim; the required claims; the type of each, where any delegation claim is
    refused (this gateway cannot authorise spending); ``exp`` after ``iat``; the scope hash.
    """
    if not isinstance(claims, dict):
        return Refusal("TOKEN_INVALID_CLAIMS", "claims", "the payload is not a JSON object")
    for name in claims:
        if name not in _TESTS:
            return Refusal("TOKEN_INVALID_CLAIMS", "claims", f"unknown claim {clip(name, 40)}")
    for name, reason in _REQUIRED.items():
        if name not in claims:
            return Refusal(reason, f"claim {name}", f"{name} is missing")
    for name, value in claims.items():
        holds, expected = _TESTS[name]
        if not holds(value):
            return Refusal("TOKEN_INVALID_CLAIMS", f"claim {name}", f"{name} is not {expected}")
    if claims["exp"] <= claims["iat"]:
        return Refusal("TOKEN_INVALID_CLAIMS", "claim exp", "exp is not after iat")
    try:
        scope_hash = token_scope_hash(claims)
    except ClawproxyError as err:
        return Refusal("TOKEN_INVALID_CLAIMS", "claims", err.message)
    if scope_hash != claims["token_scope_hash_b64u"]:
        return Refusal("TOKEN_SCOPE_HASH_MISMATCH", "claim token_scope_hash_b64u", f"the claims hash to {scope_hash}")
    return _build(claims)


def _build(claims: JsonObject) -> CstClaims:
    aud = claims["aud"]
    return CstClaims(
        sub=claims["sub"],
        aud=(aud,) if isinstance(aud, str) else tuple(aud),
        scope=tuple(claims["scope"]),
        iat_s=claims["iat"],
        exp_s=claims["exp"],
        job_id=claims["mission_id"],
        jti=claims["jti"],
        token_scope_hash_b64u=claims["token_scope_hash_b64u"],
        policy_hash_b64u=claims.get("policy_hash_b64u"),
        nonce=claims.get("nonce"),
        owner_ref=claims.get("owner_ref"),
        owner_did=claims.get("owner_did"),
        controller_did=claims.get("controller_did"),
        agent_did=claims.get("agent_did"),
        control_plane_policy_hash_b64u=claims.get("control_plane_policy_hash_b64u"),
        payment_account_did=claims.get("payment_account_did"),
        spend_cap=claims.get("spend_cap"),
        token_lane=claims.get("token_lane"),
    )


# -- one test per claim --------------------------------------------------------------------------------------------


def _is_text(value: object, limit: int = MAX_TEXT_CHARS) -> bool:
    """Printable and without blanks at its ends: what is hashed (trimmed) is then what is compared."""
    return isinstance(value, str) and 0 < len(value) <= limit and value.isprintable() and value.strip() == value


def _is_audience(value: object) -> bool:
    items = [value] if isinstance(value, str) else value
    return isinstance(items, list) and 0 < len(items) <= MAX_AUDIENCES and all(map(_is_text, items))


def _is_scope(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_SCOPE_ITEMS
        and all(_is_text(item, MAX_SCOPE_ITEM_CHARS) for item in value)
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_SAFE_INT


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SAFE_INT


def _is_did(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS and _DID.fullmatch(value) is not None


def _is_hash_text(value: object) -> bool:
    """43 characters of the alphabet. For a hash of someone else's that we only carry: their placeholders pass."""
    return isinstance(value, str) and _HASH_TEXT.fullmatch(value) is not None


def _is_lane(value: object) -> bool:
    return value in ("legacy", "canonical")


_TEXT = (_is_text, f"a non-blank text of at most {MAX_TEXT_CHARS} characters without blanks at its ends")
_DID_TEST = (_is_did, "a DID")
_HASH = (is_sha256_b64u, "a SHA-256 in canonical base64url (43 characters)")
_CARRIED_HASH = (_is_hash_text, "43 base64url characters")
_SECONDS = (_is_seconds, "a whole number of Unix seconds")
_NOT_SERVED = (lambda _value: False, "served: this gateway authorises no delegated spending, mint without delegation")

_TESTS: dict[str, tuple[Callable[[object], bool], str]] = {
    "token_version": (lambda value: value == "1", 'the string "1"'),
    "sub": _TEXT,
    "aud": (_is_audience, f"one audience or a list of 1 to {MAX_AUDIENCES}"),
    "scope": (_is_scope, f"a list of 1 to {MAX_SCOPE_ITEMS} scopes of at most {MAX_SCOPE_ITEM_CHARS} characters"),
    "iat": _SECONDS,
    "exp": _SECONDS,
    "owner_ref": _TEXT,
    "owner_did": _DID_TEST,
    "controller_did": _DID_TEST,
    "agent_did": _DID_TEST,
    "policy_hash_b64u": _HASH,
    "control_plane_policy_hash_b64u": _CARRIED_HASH,
    "token_scope_hash_b64u": _HASH,
    "payment_account_did": _TEXT,
    "spend_cap": (_is_amount, "a number that is not negative"),
    "mission_id": (is_job_id, "a job id (1 to 128 letters, digits, dots, underscores and hyphens)"),
    "token_lane": (_is_lane, '"legacy" or "canonical"'),
    "jti": _TEXT,
    "nonce": _TEXT,
} | dict.fromkeys(DELEGATION_CLAIMS, _NOT_SERVED)

_REQUIRED = {
    "token_version": "TOKEN_INVALID_CLAIMS",
    "sub": "TOKEN_INVALID_CLAIMS",
    "aud": "TOKEN_INVALID_CLAIMS",
    "scope": "TOKEN_INVALID_CLAIMS",
    "iat": "TOKEN_INVALID_CLAIMS",
    "exp": "TOKEN_INVALID_CLAIMS",
    "jti": "TOKEN_INVALID_CLAIMS",
    "mission_id": "TOKEN_JOB_REQUIRED",
    "token_scope_hash_b64u": "TOKEN_SCOPE_HASH_REQUIRED",
}
