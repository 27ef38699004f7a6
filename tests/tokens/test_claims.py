from __future__ import annotations

from typing import Any

import pytest
from clawproxy.tokens.claims import DELEGATION_CLAIMS, ISSUER_ORDER, CstClaims, is_job_id, parse_claims
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal
from clawproxy.tokens.scope_hash import token_scope_hash
from hypothesis import given
from hypothesis import strategies as st

GOOD: dict[str, Any] = {
    "token_version": "1",
    "sub": "did:key:zAda",
    "aud": "gateway.test",
    "scope": ["clawproxy:call"],
    "iat": 1_900_000_000,
    "exp": 1_900_000_600,
    "mission_id": "job-1",
    "jti": "id-1",
}


def hashed(**over: Any) -> dict[str, Any]:
    claims = GOOD | over
    try:
        claims.setdefault("token_scope_hash_b64u", token_scope_hash(claims))
    except ClawproxyError:
        claims["token_scope_hash_b64u"] = token_scope_hash(GOOD)
    return claims


def reason_of(claims: Any) -> str:
    refused = parse_claims(claims)
    assert isinstance(refused, Refusal)
    assert refused.rule
    assert refused.detail
    return refused.reason


def test_the_required_claims_are_enough() -> None:
    parsed = parse_claims(hashed())
    assert isinstance(parsed, CstClaims)
    assert (parsed.aud, parsed.scope, parsed.job_id) == (("gateway.test",), ("clawproxy:call",), "job-1")
    assert parsed.policy_hash_b64u is None


@pytest.mark.parametrize("name", GOOD)
def test_each_required_claim_is_required(name: str) -> None:
    claims = hashed()
    del claims[name]
    assert reason_of(claims) == ("TOKEN_JOB_REQUIRED" if name == "mission_id" else "TOKEN_INVALID_CLAIMS")


def test_the_scope_hash_is_required_and_must_be_that_of_the_claims() -> None:
    assert reason_of(GOOD) == "TOKEN_SCOPE_HASH_REQUIRED"
    assert reason_of(hashed() | {"scope": ["clawproxy:call", "*"]}) == "TOKEN_SCOPE_HASH_MISMATCH"
    assert reason_of(hashed() | {"mission_id": "job-2"}) == "TOKEN_SCOPE_HASH_MISMATCH"


@pytest.mark.parametrize("name", ["nbf", "iss", "cnf", "Sub", "mission_id ", "__proto__", "", "x" * 500, "\u202e"])
def test_an_unknown_claim_is_refused(name: str) -> None:
    refused = parse_claims(hashed(**{name: 1}))
    assert isinstance(refused, Refusal)
    assert refused.reason == "TOKEN_INVALID_CLAIMS"
    assert len(refused.detail) < 100
    assert refused.detail.isprintable()


@pytest.mark.parametrize("name", DELEGATION_CLAIMS)
def test_delegated_spending_is_refused_and_says_so(name: str) -> None:
    refused = parse_claims(hashed(**{name: "did:key:zO"}))
    assert isinstance(refused, Refusal)
    assert refused.reason == "TOKEN_INVALID_CLAIMS"
    assert "no delegated spending" in refused.detail


def test_the_delegation_claims_are_all_of_them() -> None:
    assert len(DELEGATION_CLAIMS) == 6


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("token_version", [1, "2", None]),
        ("sub", ["", " ", " x", "x\n", 7, None, [], "x" * 513]),
        ("aud", ["", [], [""], ["a", 7], {"a": 1}, None, ["a"] * 65, " a"]),
        ("scope", ["clawproxy:call", [], [""], [7], None, ["s"] * 65, ["s" * 129], [" s"], ["s\u0000"]]),
        ("iat", ["1900000000", 1.9e9, True, None, -1, 0, 2**53]),
        ("exp", ["1900000600", 1.9e9 + 600, True, None, GOOD["iat"], GOOD["iat"] - 1]),
        ("mission_id", ["", ".", "..", "a/b", "a\\b", ".a", "-a", "a b", "a\n", "a" * 129, 7, None, "ä", "a\u0660"]),
        ("jti", ["", " ", 7, None, [], "x" * 513]),
        ("nonce", ["", 7, None]),
        ("owner_ref", ["", 7, None]),
        ("owner_did", ["", "x", "did:", "did:key:", "did:KEY:z", "did:key:z ", 7, None, "did:key:" + "z" * 600]),
        ("controller_did", ["did:key:z/1", 7]),
        ("agent_did", ["did:key:z#1", None]),
        ("policy_hash_b64u", ["", "p" * 43, "A" * 42, "A" * 44, "A" * 42 + "=", 7, None]),
        ("control_plane_policy_hash_b64u", ["", "c" * 42, "c" * 44, "c" * 42 + "+", 7, None]),
        ("token_scope_hash_b64u", ["", "p" * 43, 7, None]),
        ("payment_account_did", ["", " ", 7, None]),
        ("spend_cap", [-1, "1", True, None, 2**53, float("inf"), float("nan")]),
        ("token_lane", ["", "other", 7, None, [], {}]),
    ],
)
def test_each_claim_has_its_type(name: str, bad: list[Any]) -> None:
    for value in bad:
        assert reason_of(hashed(**{name: value})) == "TOKEN_INVALID_CLAIMS", value


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("aud", ["a", ["a"], ["a", "b"], ["a"] * 64]),
        ("scope", [["s"] * 64, ["s" * 128], ["*"]]),
        ("mission_id", ["a", "0", "A.b_c-d", "a" * 128]),
        ("owner_did", ["did:key:zOwner", "did:web:example.test:team%20a"]),
        ("policy_hash_b64u", ["p" * 42 + "A"]),
        ("control_plane_policy_hash_b64u", ["b" * 43]),
        ("spend_cap", [0, 0.5, 7]),
        ("token_lane", ["legacy", "canonical"]),
    ],
)
def test_what_the_issuer_writes_is_read(name: str, good: list[Any]) -> None:
    for value in good:
        assert isinstance(parse_claims(hashed(**{name: value})), CstClaims), value


def test_a_job_id_is_a_file_name() -> None:
    assert is_job_id("job-1")
    assert not any(map(is_job_id, ("", "..", "a/b", ".git", None, 7, "a\n")))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(ISSUER_ORDER) | st.text(max_size=5), ANY) | ANY, st.booleans())
def test_random_claims_come_back_as_a_refusal(claims: Any, on_top: bool) -> None:
    if on_top and isinstance(claims, dict):
        claims = hashed() | claims
    assert isinstance(parse_claims(claims), Refusal | CstClaims)
