from __future__ import annotations

import json
import uuid
import warnings
from typing import Any

import pytest
from clawproxy.tokens.claims import ISSUER_ORDER
from clawproxy.tokens.digests import b64u_decode, b64u_encode
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey
from joserfc import jws
from joserfc.jwk import OKPKey

from .makers import ISSUER, NOW_S, make_token, make_verifier

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ORACLE = OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "x": b64u_encode(ISSUER.public), "d": b64u_encode(ISSUER._secret[:32])}
    )


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(b64u_decode(token.split(".")[1]))
    return claims


def reason_of(**over: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        make_token(**over)
    return caught.value.reason


def test_what_is_minted_is_accepted() -> None:
    grant = make_verifier().authenticate(make_token(), NOW_S)
    assert isinstance(grant, Grant)
    assert grant.exp_s - grant.iat_s == 600


def test_header_and_claims_stand_in_the_order_of_the_issuer() -> None:
    token = make_token(
        owner_ref="o",
        owner_did="did:key:zO",
        controller_did="did:key:zC",
        agent_did="did:key:zAda",
        control_plane_policy_hash_b64u="c" * 43,
        payment_account_did="did:key:zP",
        spend_cap=2,
        token_lane="canonical",
    )
    assert list(json.loads(b64u_decode(token.split(".")[0]))) == ["alg", "typ", "kid"]
    written = list(claims_of(token))
    assert written == [name for name in ISSUER_ORDER if name in written]
    assert len(written) == len(ISSUER_ORDER) - 6
    assert isinstance(make_verifier().authenticate(token, NOW_S), Grant)


def test_each_token_has_its_own_id_and_nonce() -> None:
    first, second = claims_of(make_token()), claims_of(make_token())
    for name in ("jti", "nonce"):
        assert first[name] != second[name]
        assert uuid.UUID(first[name]).version == 4
    assert first["token_scope_hash_b64u"] == second["token_scope_hash_b64u"]


def test_another_jose_library_verifies_our_token() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises Ed25519 (RFC 9864); the wire format says EdDSA
        opened = jws.deserialize_compact(make_token(), ORACLE, algorithms=["EdDSA"])
    assert opened.headers() == {"alg": "EdDSA", "typ": "JWT", "kid": ISSUER.kid}


def test_a_token_of_another_jose_library_is_accepted() -> None:
    claims = json.dumps(claims_of(make_token())).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = {"typ": "JWT", "kid": ISSUER.kid, "alg": "EdDSA"}
        token = jws.serialize_compact(header, claims, ORACLE, algorithms=["EdDSA"])
    assert isinstance(make_verifier().authenticate(token, NOW_S), Grant)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TOKEN])
def test_only_a_token_key_signs_tokens(role: Role) -> None:
    assert reason_of(key=SigningKey.from_seed(role, bytes(32))) == "KEY_ROLE"


@pytest.mark.parametrize(
    ("ttl_s", "reason"),
    [(0, "TTL_INVALID"), (-1, "TTL_INVALID"), (3601, "TTL_TOO_LONG"), (1.5, "TTL_INVALID"), (True, "TTL_INVALID")],
)
def test_a_lifetime_out_of_bounds_is_refused(ttl_s: Any, reason: str) -> None:
    assert reason_of(ttl_s=ttl_s) == reason


@pytest.mark.parametrize("ttl_s", [1, 3600])
def test_the_bounds_of_the_lifetime_are_inside(ttl_s: int) -> None:
    claims = claims_of(make_token(ttl_s=ttl_s))
    assert claims["exp"] - claims["iat"] == ttl_s


@pytest.mark.parametrize(
    "over",
    [
        {"sub": ""},
        {"sub": "\ud800"},
        {"aud": []},
        {"aud": "\ud800"},
        {"scope": []},
        {"scope": ["s"] * 65},
        {"job_id": "../x"},
        {"policy_hash_b64u": "b64u:...hash..."},
        {"owner_did": "someone"},
        {"spend_cap": float("inf")},
        {"spend_cap": 2**53},
        {"now_s": 1.5},
        {"jti": ""},
        {"token_lane": "fast"},
    ],
)
def test_what_a_gateway_would_refuse_is_not_minted(over: dict[str, Any]) -> None:
    assert reason_of(**over) in ("TOKEN_INVALID_CLAIMS", "PARSE_ERROR")


def test_a_token_that_no_gateway_reads_is_not_minted() -> None:
    assert reason_of(scope=[f"{n:0128}" for n in range(64)]) == "TOKEN_MALFORMED"
