"""Authenticate: from the text of a token to a ``Grant``, or the reason why not.

1. at most 8192 ASCII characters, three parts of canonical base64url          TOKEN_MALFORMED
2. header and payload are strict JSON objects (no key twice)                  TOKEN_MALFORMED
3. the header is exactly alg, typ, kid; alg is EdDSA                          TOKEN_MALFORMED, TOKEN_UNSUPPORTED_ALG
4. the kid names a trusted issuer                                             TOKEN_UNKNOWN_KID
5. the signature is that issuer's                                             TOKEN_SIGNATURE_INVALID
6. the claims are well formed, the scope hash is theirs                       tokens.claims
7. one audience is this gateway's, letter by letter                           TOKEN_BAD_AUDIENCE
8. not issued in the future, not expired                                      TOKEN_NOT_YET_VALID, TOKEN_EXPIRED
9. not revoked                                                                TOKEN_REVOKED

No claim is judged before the signature holds. Steps 1 to 7 depend on the token alone and are remembered under its
SHA-256, so that timing tells nothing of other tokens; 8 and 9 are judged at every call.

Sources: RFC 7515, RFC 8725, protocol.md B. Verification is libsodium's (``tokens.keys``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .canonical import JsonObject, parse_json_object
from .claims import parse_claims
from .digests import b64u_decode, sha256_hex
from .errors import ClawproxyError, clip
from .grant import Grant
from .keys import kid_from_public_key, public_key_from_did, verify_signature
from .reasons import Refusal
from .revocation import Revocations

__all__ = ["MAX_TOKEN_CHARS", "Grant", "TokenVerifier", "UnverifiedToken", "parse_token", "token_hash"]

MAX_TOKEN_CHARS = 8192
DEFAULT_SKEW_S = 60
_MAX_REMEMBERED = 4096
_MAX_CLAIM_DEPTH = 3
_MAX_CLAIM_NODES = 512


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed compact JWS that nobody has vouched for. Only ``TokenVerifier`` makes a ``Grant`` of it."""

    kid: str
    token_hash_hex: str
    claims: JsonObject = field(repr=False, hash=False)
    signing_input: bytes = field(repr=False)
    signature_b64u: str = field(repr=False)


def token_hash(compact: str) -> str:
    """The name of a token in evidence and revocations: lowercase hex SHA-256 of its text (protocol.md B.5)."""
    # header text may hold the surrogates of bytes that are not UTF-8; such a token is refused, but it has a name
    return sha256_hex(compact.encode("utf-8", "surrogatepass"))


def parse_token(compact: str) -> UnverifiedToken | Refusal:
    """Steps 1 to 3: the form of a token, without any trust."""
    if (refused := _check_text(compact)) is not None:
        return refused
    parts = compact.split(".")
    if len(parts) != 3:
        return Refusal("TOKEN_MALFORMED", "token parts", f"got {len(parts)} parts, expected header.payload.signature")
    try:
        header = _part(parts[0], "header")
        claims = _part(parts[1], "payload")
        b64u_decode(parts[2], length_bytes=64)
    except ClawproxyError as err:
        return Refusal("TOKEN_MALFORMED", f"token {err.where or 'signature'}", err.message)
    if header.get("alg") != "EdDSA":
        return Refusal("TOKEN_UNSUPPORTED_ALG", "header alg", f"got {clip(header.get('alg'), 20)}, expected EdDSA")
    if header.keys() != {"alg", "typ", "kid"}:
        return Refusal("TOKEN_MALFORMED", "token header", "the header does not hold exactly alg, typ and kid")
    if header["typ"] != "JWT" or not isinstance(header["kid"], str):
        return Refusal("TOKEN_MALFORMED", "token header", "typ is not JWT, or kid is not a string")
    signing_input = compact[: -len(parts[2]) - 1].encode("ascii")
    return UnverifiedToken(header["kid"], token_hash(compact), claims, signing_input, parts[2])


def _check_text(compact: str) -> Refusal | None:
    if not isinstance(compact, str) or not compact.isascii():
        return Refusal("TOKEN_MALFORMED", "token text", "the token is not ASCII")
    if len(compact) > MAX_TOKEN_CHARS:
        detail = f"the token has {len(compact)} characters, at most {MAX_TOKEN_CHARS} are read"
        return Refusal("TOKEN_MALFORMED", "token length", detail)
    return None


def _part(text: str, name: str) -> JsonObject:
    try:
        raw = b64u_decode(text)
        return parse_json_object(raw, max_depth=_MAX_CLAIM_DEPTH, max_nodes=_MAX_CLAIM_NODES)
    except ClawproxyError as err:
        raise err.at(name) from None


class TokenVerifier:
    """Authenticates tokens for one gateway. Used from one event loop; holds no clock.

    ``issuers`` are the trusted issuer DIDs, or a mapping of kid to DID where an issuer names its keys differently.
    Raises ``ClawproxyError`` (INVALID_DID_FORMAT, TRUST_KID_CONFLICT) for issuers that cannot be told apart.
    """

    def __init__(
        self,
        issuers: Mapping[str, str] | Iterable[str],
        audiences: frozenset[str],
        revocations: Revocations,
        skew_s: int = DEFAULT_SKEW_S,
        *,
        max_remembered: int = _MAX_REMEMBERED,
    ) -> None:
        self._issuers = dict(issuers) if isinstance(issuers, Mapping) else _by_kid(issuers)
        for did in self._issuers.values():
            public_key_from_did(did)
        self._audiences = audiences
        self._revocations = revocations
        self._skew_s = skew_s
        self._max_remembered = max_remembered
        self._remembered: dict[str, Grant] = {}

    def authenticate(self, compact: str, now_s: float) -> Grant | Refusal:
        """The grant of a token at ``now_s`` (Unix seconds), or why there is none. Never raises for a bad token."""
        if (refused := _check_text(compact)) is not None:
            return refused
        name = token_hash(compact)
        grant = self._remembered.get(name)
        if grant is None:
            verified = self._verify(compact)
            if isinstance(verified, Refusal):
                return verified
            grant = verified
            self._remember(name, grant)
        return self.judge(grant, now_s) or grant

    def judge(self, grant: Grant, now_s: float) -> Refusal | None:
        """Steps 8 and 9 again, for a grant that is already held (a stream that is still open)."""
        if grant.iat_s > now_s + self._skew_s:
            ahead_s = int(grant.iat_s - now_s)
            return Refusal(
                "TOKEN_NOT_YET_VALID", "claim iat", f"issued {ahead_s} s ahead, {self._skew_s} s are allowed"
            )
        if grant.exp_s <= now_s:
            return Refusal("TOKEN_EXPIRED", "claim exp", f"expired {int(now_s - grant.exp_s)} s ago")
        return self._revocations.check(grant)

    def _verify(self, compact: str) -> Grant | Refusal:
        """Steps 1 to 7."""
        token = parse_token(compact)
        if isinstance(token, Refusal):
            return token
        issuer_did = self._issuers.get(token.kid)
        if issuer_did is None:
            return Refusal("TOKEN_UNKNOWN_KID", "header kid", f"no trusted issuer key is called {clip(token.kid, 32)}")
        if not verify_signature(issuer_did, token.signing_input, token.signature_b64u):
            return Refusal("TOKEN_SIGNATURE_INVALID", "signature", f"not signed by {issuer_did}")
        claims = parse_claims(token.claims)
        if isinstance(claims, Refusal):
            return claims
        if self._audiences.isdisjoint(claims.aud):
            detail = f"for {clip(', '.join(claims.aud))}; this gateway is {clip(', '.join(sorted(self._audiences)))}"
            return Refusal("TOKEN_BAD_AUDIENCE", "claim aud", detail)
        return Grant(
            token_hash_hex=token.token_hash_hex,
            token_scope_hash_b64u=claims.token_scope_hash_b64u,
            sub=claims.sub,
            aud=claims.aud,
            scope=claims.scope,
            job_id=claims.job_id,
            jti=claims.jti,
            iat_s=claims.iat_s,
            exp_s=claims.exp_s,
            policy_hash_b64u=claims.policy_hash_b64u,
            issuer_did=issuer_did,
            claims=token.claims,
        )

    def _remember(self, name: str, grant: Grant) -> None:
        """Only what a trusted issuer signed gets here, so a flood of forged tokens cannot push the others out."""
        while len(self._remembered) >= self._max_remembered:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[name] = grant


def _by_kid(issuers: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for did in issuers:
        kid = kid_from_public_key(public_key_from_did(did))
        if found.setdefault(kid, did) != did:
            raise ClawproxyError(
                "TRUST_KID_CONFLICT",
                "two issuer keys have the same kid",
                got=kid,
                remedy="replace one of the two keys",
            )
    return found
