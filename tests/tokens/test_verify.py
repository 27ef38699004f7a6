from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from clawproxy.tokens.digests import b64u_decode, b64u_encode, sha256_hex
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey, did_from_public_key, verify_signature
from clawproxy.tokens.reasons import Refusal
from clawproxy.tokens.revocation import Revocations
from clawproxy.tokens.scope_hash import token_scope_hash
from clawproxy.tokens.verify import MAX_TOKEN_CHARS, TokenVerifier, UnverifiedToken, parse_token, token_hash
from hypothesis import given
from hypothesis import strategies as st

from .makers import (
    AUDIENCE,
    CONTRACT_HASH,
    ISSUER,
    NOW_S,
    OTHER_ISSUER,
    make_token,
    make_verifier,
    shared_vectors,
    vectors,
)

VECTORS = vectors("tokens.json")
ROWS = [pytest.param(row["token"], row["outcome"], id=row["name"]) for row in VECTORS["tokens"]]


def outcome(result: Grant | Refusal | UnverifiedToken) -> str:
    return result.reason if isinstance(result, Refusal) else "ok"


def vector_verifier() -> TokenVerifier:
    issuer = SigningKey.from_seed(Role.TOKEN, b64u_decode(VECTORS["issuer_seed_b64u"]))
    assert issuer.kid == VECTORS["kid"]
    return TokenVerifier([issuer.did], frozenset({VECTORS["audience"]}), Revocations())


# -- known answers


@pytest.mark.parametrize(("token", "expected"), ROWS)
def test_each_token_of_the_vectors_has_its_outcome(token: str, expected: str) -> None:
    verifier = vector_verifier()
    assert outcome(verifier.authenticate(token, VECTORS["now_s"])) == expected
    assert outcome(verifier.authenticate(token, VECTORS["now_s"])) == expected  # the same from memory


def test_the_vectors_reach_every_reason_of_this_step() -> None:
    reached = {row["outcome"] for row in VECTORS["tokens"]}
    assert len(reached) == 12  # ok, and all but those of revocation, handles and presenters


@pytest.mark.parametrize("name", ["canonical_cst", "job_cst"])
def test_the_shared_tokens_hold_in_signature_and_scope_hash(name: str) -> None:
    samples = shared_vectors("proxy_samples.json")
    issuer = did_from_public_key(b64u_decode(samples["scope_did"]["public_key_b64u"]))
    token = parse_token(samples[name]["token"])
    assert isinstance(token, UnverifiedToken)
    assert token.kid == samples["scope_did"]["kid"]
    assert verify_signature(issuer, token.signing_input, token.signature_b64u)
    assert token_scope_hash(token.claims) == samples[name]["token_scope_hash_b64u"]
    if "token_hash" in samples[name]:
        assert token.token_hash_hex == samples[name]["token_hash"]
    verifier = TokenVerifier([issuer], frozenset({"clawproxy.com"}), Revocations())
    assert isinstance(verifier.authenticate(samples[name]["token"], samples[name]["iat"]), Grant)
    assert outcome(verifier.authenticate(samples[name]["token"], NOW_S)) == "TOKEN_EXPIRED"


# -- a grant


def test_a_grant_says_who_where_and_until_when() -> None:
    token = make_token(aud=["elsewhere.test", AUDIENCE], scope=["clawproxy:call:openai"], jti="id-1")
    grant = make_verifier().authenticate(token, NOW_S)
    assert isinstance(grant, Grant)
    assert grant.token_hash_hex == sha256_hex(token.encode())
    assert (grant.sub, grant.job_id, grant.jti) == ("did:key:zAda", "job-1", "id-1")
    assert (grant.aud, grant.scope) == (("elsewhere.test", AUDIENCE), ("clawproxy:call:openai",))
    assert (grant.iat_s, grant.exp_s) == (NOW_S, NOW_S + 600)
    assert (grant.policy_hash_b64u, grant.issuer_did) == (CONTRACT_HASH, ISSUER.did)
    assert grant.token_scope_hash_b64u == token_scope_hash(grant.claims)


def test_nothing_shows_the_token_itself() -> None:
    token = make_token()
    parsed = parse_token(token)
    grant = make_verifier().authenticate(token, NOW_S)
    for part in token.split(".")[1:]:
        assert part not in repr(parsed)
        assert part not in repr(grant)


@pytest.mark.parametrize(
    ("scope", "provider", "covered"),
    [
        ("*", "openai", True),
        ("proxy:*", "openai", True),
        ("clawproxy:*", "openai", True),
        ("proxy:call", "openai", True),
        ("clawproxy:call", "openai", True),
        ("proxy:provider:openai", "openai", True),
        ("proxy:call:openai", "openai", True),
        ("clawproxy:provider:openai", "openai", True),
        ("clawproxy:call:openai", "openai", True),
        ("clawproxy:call:openai", "anthropic", False),
        ("clawproxy:call:open", "openai", False),
        ("clawproxy:call:openai2", "openai", False),
        ("clawproxy:call:OpenAI", "openai", False),
        ("control:*", "openai", False),  # the reference takes it
        ("control:call", "openai", False),
        ("clawproxy:provider", "openai", False),
        ("clawproxy:call:", "openai", False),
        ("clawproxy:call:*", "openai", False),
    ],
)
def test_a_scope_covers_its_provider(scope: str, provider: str, covered: bool) -> None:
    grant = make_verifier().authenticate(make_token(scope=["other:thing", scope]), NOW_S)
    assert isinstance(grant, Grant)
    assert grant.covers_provider(provider) is covered


# -- time


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [
        (NOW_S - 60.001, "TOKEN_NOT_YET_VALID"),
        (NOW_S - 60, "ok"),
        (NOW_S, "ok"),
        (NOW_S + 599.999, "ok"),
        (NOW_S + 600, "TOKEN_EXPIRED"),
        (NOW_S + 10**9, "TOKEN_EXPIRED"),
    ],
)
def test_a_token_holds_from_its_issue_less_the_skew_to_its_end(now_s: float, expected: str) -> None:
    assert outcome(make_verifier().authenticate(make_token(), now_s)) == expected


def test_time_is_judged_again_for_a_token_that_is_remembered() -> None:
    verifier, token = make_verifier(), make_token()
    for now_s, expected in (
        (NOW_S, "ok"),
        (NOW_S + 600, "TOKEN_EXPIRED"),
        (NOW_S + 1, "ok"),
        (NOW_S - 61, "TOKEN_NOT_YET_VALID"),
    ):
        assert outcome(verifier.authenticate(token, now_s)) == expected


# -- issuers


def test_a_token_of_another_issuer_is_refused_by_its_kid() -> None:
    assert outcome(make_verifier().authenticate(make_token(OTHER_ISSUER), NOW_S)) == "TOKEN_UNKNOWN_KID"


def test_an_issuer_cannot_sign_under_the_kid_of_another() -> None:
    """Both are trusted, but the kid chooses the key: a signature of the second under the first one's kid fails."""
    verifier = TokenVerifier({ISSUER.kid: OTHER_ISSUER.did}, frozenset({AUDIENCE}), Revocations())
    assert outcome(verifier.authenticate(make_token(), NOW_S)) == "TOKEN_SIGNATURE_INVALID"


def test_several_issuers_are_told_apart() -> None:
    verifier = TokenVerifier([ISSUER.did, OTHER_ISSUER.did, ISSUER.did], frozenset({AUDIENCE}), Revocations())
    for issuer in (ISSUER, OTHER_ISSUER):
        grant = verifier.authenticate(make_token(issuer), NOW_S)
        assert isinstance(grant, Grant)
        assert grant.issuer_did == issuer.did


def test_no_issuer_means_no_token() -> None:
    assert outcome(TokenVerifier([], frozenset({AUDIENCE}), Revocations()).authenticate(make_token(), NOW_S)) != "ok"


def test_no_audience_means_no_token() -> None:
    verifier = TokenVerifier([ISSUER.did], frozenset(), Revocations())
    assert outcome(verifier.authenticate(make_token(), NOW_S)) == "TOKEN_BAD_AUDIENCE"


@pytest.mark.parametrize(
    "issuers", [["did:web:issuer.test"], {"kid": "did:key:z6Mk"}, [did_from_public_key(b"\1" + bytes(31))]]
)
def test_an_issuer_that_cannot_verify_is_refused_at_start(issuers: Any) -> None:
    with pytest.raises(ClawproxyError) as caught:
        TokenVerifier(issuers, frozenset(), Revocations())
    assert caught.value.reason == "INVALID_DID_FORMAT"


# -- revocation


def test_what_is_revoked_is_refused_at_once_also_when_remembered() -> None:
    revoke: dict[str, Callable[[Revocations, Grant], bool]] = {
        "token": lambda r, g: r.revoke_token(g.token_hash_hex),
        "jti": lambda r, g: r.revoke_jti(g.jti),
        "job": lambda r, g: r.revoke_job(g.job_id),
        "contract": lambda r, g: r.revoke_contract(g.policy_hash_b64u or ""),
    }
    for what, act in revoke.items():
        revocations = Revocations()
        verifier, token, other = (
            make_verifier(revocations),
            make_token(),
            make_token(job_id="job-2", policy_hash_b64u="q" * 42 + "A"),
        )
        grant = verifier.authenticate(token, NOW_S)
        assert isinstance(grant, Grant)
        assert act(revocations, grant)
        refused = verifier.authenticate(token, NOW_S)
        assert isinstance(refused, Refusal)
        assert (refused.reason, refused.rule) == ("TOKEN_REVOKED", f"revoked {what}")
        assert isinstance(verifier.authenticate(other, NOW_S), Grant)


def test_a_held_grant_can_be_judged_again() -> None:
    revocations = Revocations()
    verifier = make_verifier(revocations)
    grant = verifier.authenticate(make_token(), NOW_S)
    assert isinstance(grant, Grant)
    assert verifier.judge(grant, NOW_S) is None
    expired = verifier.judge(grant, NOW_S + 600)
    assert expired is not None
    assert expired.reason == "TOKEN_EXPIRED"
    revocations.revoke_job("job-1")
    revoked = verifier.judge(grant, NOW_S)
    assert revoked is not None
    assert revoked.reason == "TOKEN_REVOKED"


# -- memory


def test_memory_is_bounded_and_forgotten_tokens_are_verified_again() -> None:
    verifier = make_verifier(max_remembered=3)
    tokens = [make_token() for _ in range(10)]
    for token in tokens * 2:
        assert isinstance(verifier.authenticate(token, NOW_S), Grant)
    assert len(verifier._remembered) == 3


def test_what_no_issuer_signed_takes_no_memory() -> None:
    verifier = make_verifier()
    token = make_token()
    # the first character that is changed always changes: a signature may end in the letters put there
    forged = [token[:-n] + ("B" if token[-n] == "A" else "A") * n for n in range(2, 40)]
    for row in [*forged, make_token(OTHER_ISSUER), make_token(aud="elsewhere.test"), "x", ""]:
        assert outcome(verifier.authenticate(row, NOW_S)) != "ok"
    assert not verifier._remembered


# -- hostile text


def test_every_changed_character_of_a_token_is_refused() -> None:
    verifier, token = make_verifier(), make_token()
    assert isinstance(verifier.authenticate(token, NOW_S), Grant)
    for at, char in enumerate(token):
        changed = token[:at] + ("A" if char != "A" else "B") + token[at + 1 :]
        assert isinstance(verifier.authenticate(changed, NOW_S), Refusal), at


def test_every_cut_of_a_token_is_refused() -> None:
    verifier, token = make_verifier(), make_token()
    for at in range(len(token)):
        assert isinstance(verifier.authenticate(token[:at], NOW_S), Refusal)
        assert isinstance(verifier.authenticate(token[at + 1 :], NOW_S), Refusal)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\ud800.b.c",
        "ä.ö.ü",
        "\x00",
        "A" * MAX_TOKEN_CHARS,
        "A" * (MAX_TOKEN_CHARS + 1),
        "." * 10**6,
    ],
)
def test_what_is_no_token_is_malformed(text: str) -> None:
    assert outcome(make_verifier().authenticate(text, NOW_S)) == "TOKEN_MALFORMED"
    assert outcome(parse_token(text)) == "TOKEN_MALFORMED"


def test_a_token_beyond_the_bound_is_refused_though_an_issuer_signed_it() -> None:
    claims = json.loads(b64u_decode(make_token(scope=["s"]).split(".")[1])) | {
        "scope": [f"{n:0128}" for n in range(64)]
    }
    claims["token_scope_hash_b64u"] = token_scope_hash(claims)
    header = {"alg": "EdDSA", "typ": "JWT", "kid": ISSUER.kid}
    signing_input = ".".join(b64u_encode(json.dumps(part).encode()) for part in (header, claims))
    refused = make_verifier().authenticate(f"{signing_input}.{ISSUER.sign_b64u(signing_input.encode())}", NOW_S)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.rule) == ("TOKEN_MALFORMED", "token length")


def test_what_is_not_even_text_is_malformed() -> None:
    not_text: tuple[Any, ...] = (None, b"a.b.c", 7, ["a"])
    for value in not_text:
        assert outcome(make_verifier().authenticate(value, NOW_S)) == "TOKEN_MALFORMED"


def test_a_token_has_a_name_even_if_it_is_not_ascii() -> None:
    assert len(token_hash("\udcff")) == 64


@given(st.text(max_size=100) | st.lists(st.text("AZaz09-_", max_size=30), min_size=3, max_size=3).map(".".join))
def test_random_text_comes_back_as_a_refusal(text: str) -> None:
    assert isinstance(make_verifier().authenticate(text, NOW_S), Refusal)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_random_header_and_claims_under_a_good_signature_come_back_as_a_refusal(header: bytes, claims: bytes) -> None:
    signing_input = f"{b64u_encode(header)}.{b64u_encode(claims)}"
    token = f"{signing_input}.{ISSUER.sign_b64u(signing_input.encode())}"
    assert isinstance(make_verifier().authenticate(token, NOW_S), Refusal)
