"""The hash that names what a token grants, whichever issue of it is presented (protocol.md B.2).

It covers who, where and what, and leaves out ``iat``, ``exp``, ``jti``, ``nonce`` and ``token_lane``: a renewed token
has the same scope hash, so receipts of one job agree across renewals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .canonical import JsonObject, jcs_bytes
from .digests import sha256_b64u
from .errors import ClawproxyError

# What ECMAScript's String.prototype.trim takes off (ECMA-262 12.2, 12.3). Python's strip() differs: it also takes
# U+001C..1F and U+0085, and leaves U+FEFF.
_JS_SPACE = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_STRINGS = (
    "owner_ref",
    "owner_did",
    "controller_did",
    "agent_did",
    "policy_hash_b64u",
    "control_plane_policy_hash_b64u",
    "payment_account_did",
    "mission_id",
    "delegation_id",
    "delegator_did",
    "delegate_did",
    "delegation_policy_hash_b64u",
)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


def token_scope_hash(claims: Mapping[str, Any]) -> str:
    """``token_scope_hash_b64u`` of ``claims``: SHA-256 over the JCS bytes of ``scope_view``.

    Raises ``ClawproxyError`` (TOKEN_INVALID_CLAIMS, PARSE_ERROR) where there is no ``sub``, ``aud`` or ``scope``.
    """
    return sha256_b64u(jcs_bytes(scope_view(claims)))


def scope_view(claims: Mapping[str, Any]) -> JsonObject:
    """The normalised claims that are hashed (protocol.md B.2)."""
    sub = claims.get("sub")
    if not isinstance(sub, str):
        raise ClawproxyError("TOKEN_INVALID_CLAIMS", "sub is not a string", where="sub", got=type(sub).__name__)
    view: JsonObject = {
        "token_version": "1",
        "sub": sub.strip(_JS_SPACE),
        "aud": _sorted_unique(claims.get("aud"), "aud"),
        "scope": _sorted_unique(claims.get("scope"), "scope"),
    }
    for name in _STRINGS:
        value = claims.get(name)
        if isinstance(value, str) and (trimmed := value.strip(_JS_SPACE)):
            view[name] = trimmed
    cap = _finite(claims.get("spend_cap"))
    if cap is not None and cap >= 0:
        view["spend_cap"] = cap
    cap_minor = claims.get("delegation_spend_cap_minor")
    if isinstance(cap_minor, str) and _DIGITS.fullmatch(cap_minor):
        view["delegation_spend_cap_minor"] = cap_minor
    expires = _finite(claims.get("delegation_expires_at"))
    if expires is not None and expires > 0:
        view["delegation_expires_at"] = expires if isinstance(expires, int) else float(math.floor(expires))
    return view


def _sorted_unique(value: Any, name: str) -> list[str]:
    """Trimmed, without blanks and repeats, in UTF-16 code unit order; one string counts as a list of one."""
    items: Iterable[Any] = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ClawproxyError("TOKEN_INVALID_CLAIMS", f"{name} is not a list of strings", where=name)
    trimmed = {item.strip(_JS_SPACE) for item in items} - {""}
    return sorted(trimmed, key=lambda item: item.encode("utf-16-be", "surrogatepass"))


def _finite(value: Any) -> int | float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and (isinstance(value, int) or math.isfinite(value)) else None
