"""What a verified token grants: the only form in which a token travels on inside the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from .canonical import JsonObject

_ANY_PROVIDER = frozenset({"*", "proxy:*", "clawproxy:*", "proxy:call", "clawproxy:call"})
_ONE_PROVIDER = ("proxy:provider:", "proxy:call:", "clawproxy:provider:", "clawproxy:call:")


@dataclass(frozen=True, slots=True)
class Grant:
    """A token whose signature, claims and audience hold. ``job_id`` is ``mission_id``; times are Unix seconds.

    ``token_hash_hex`` names the token in evidence and revocations (protocol.md B.5); the token itself is not kept.
    """

    token_hash_hex: str
    token_scope_hash_b64u: str
    sub: str
    aud: tuple[str, ...]
    scope: tuple[str, ...]
    job_id: str
    jti: str
    iat_s: int
    exp_s: int
    policy_hash_b64u: str | None
    issuer_did: str
    claims: JsonObject = field(repr=False, hash=False)

    def covers_provider(self, provider: str) -> bool:
        """Whether a scope covers calls to ``provider`` (protocol.md B.6, without the reference's ``control:*``)."""
        return any(
            item in _ANY_PROVIDER or any(item == prefix + provider for prefix in _ONE_PROVIDER) for item in self.scope
        )
