from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from clawproxy.tokens.claims import ISSUER_ORDER
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.scope_hash import scope_view, token_scope_hash
from hypothesis import given
from hypothesis import strategies as st

from .makers import shared_vectors, vectors

ROWS = [pytest.param(row, id=str(n)) for n, row in enumerate(vectors("scope_hash.json"))]
BASE: dict[str, Any] = {"sub": "s", "aud": "a", "scope": ["x"]}
ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=4))


@pytest.mark.parametrize("row", ROWS)
def test_the_known_answers_hold(row: dict[str, Any]) -> None:
    assert scope_view(row["input"]) == row["normalized"]
    assert token_scope_hash(row["input"]) == row["token_scope_hash_b64u"]


def test_the_shared_known_answers_hold() -> None:
    for row in shared_vectors("token_scope_hash.json"):
        assert scope_view(row["input"]) == row["normalized"]
        assert token_scope_hash(row["input"]) == row["token_scope_hash_b64u"]


@pytest.mark.parametrize("name", ["iat", "exp", "jti", "nonce", "token_lane", "token_scope_hash_b64u", "other"])
def test_a_renewed_token_has_the_same_hash(name: str) -> None:
    assert token_scope_hash(BASE | {name: "1"}) == token_scope_hash(BASE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", "t"),
        ("aud", "b"),
        ("scope", ["x", "y"]),
        ("policy_hash_b64u", "h"),
        ("mission_id", "j"),
        ("spend_cap", 0),
    ],
)
def test_another_grant_has_another_hash(name: str, value: Any) -> None:
    assert token_scope_hash(BASE | {name: value}) != token_scope_hash(BASE)


def test_order_and_repeats_of_a_list_do_not_matter() -> None:
    assert token_scope_hash(BASE | {"scope": ["b", "a", "b"]}) == token_scope_hash(BASE | {"scope": ["a", "b"]})


def test_blanks_are_those_of_javascript() -> None:
    assert scope_view(BASE | {"sub": "\ufeffs\u3000"})["sub"] == "s"
    assert scope_view(BASE | {"sub": "\x1cs\x85"})["sub"] == "\x1cs\x85"


@pytest.mark.parametrize(
    "bad", [{}, BASE | {"sub": 1}, BASE | {"aud": None}, BASE | {"scope": {"x": 1}}, BASE | {"aud": [1]}]
)
def test_claims_without_subject_audience_or_scope_have_no_hash(bad: dict[str, Any]) -> None:
    with pytest.raises(ClawproxyError) as caught:
        token_scope_hash(bad)
    assert caught.value.reason == "TOKEN_INVALID_CLAIMS"


@given(st.dictionaries(st.sampled_from(ISSUER_ORDER), ANY))
def test_random_claims_raise_nothing_but_our_error(claims: dict[str, Any]) -> None:
    with suppress(ClawproxyError):
        assert len(token_scope_hash(BASE | claims)) == 43
