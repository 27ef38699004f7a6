from __future__ import annotations

from typing import Any

import pytest
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.revocation import Revocations

from .makers import CONTRACT_HASH, NOW_S, make_token, make_verifier


def make_grant(**over: Any) -> Grant:
    grant = make_verifier().authenticate(make_token(**over), NOW_S)
    assert isinstance(grant, Grant)
    return grant


def test_nothing_is_revoked_at_first() -> None:
    assert Revocations().check(make_grant()) is None
    assert Revocations().check(make_grant(policy_hash_b64u=None)) is None


def test_who_revokes_learns_whether_that_was_new() -> None:
    revocations = Revocations()
    for is_first in (True, False):
        new = [
            revocations.revoke_job("job-1"),
            revocations.revoke_jti("id"),
            revocations.revoke_contract(CONTRACT_HASH),
            revocations.revoke_token("0" * 64),
        ]
        assert new == [is_first] * 4


def test_a_job_is_revoked_by_its_whole_name() -> None:
    revocations = Revocations()
    revocations.revoke_job("job-1")
    assert revocations.check(make_grant(job_id="job-10")) is None
    assert revocations.check(make_grant(job_id="job-1")) is not None


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("revoke_token", ["", "0" * 63, "G" * 64, "A" * 64, None]),
        ("revoke_jti", ["", None]),
        ("revoke_job", ["", "../x", None]),
        ("revoke_contract", ["", "p" * 43, None]),
    ],
)
def test_a_name_that_can_revoke_nothing_is_an_error(name: str, bad: list[Any]) -> None:
    """A typing error at three in the morning must not look like success."""
    revocations = Revocations()
    for value in bad:
        with pytest.raises(ClawproxyError):
            getattr(revocations, name)(value)


def test_a_token_given_for_its_hash_is_not_repeated_in_the_error() -> None:
    token = make_token()
    with pytest.raises(ClawproxyError) as caught:
        Revocations().revoke_token(token)
    assert token[:20] not in str(caught.value)
