"""Step 4: nothing goes out under a contract that could not be found, checked, and enforced in full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from clawproxy.policies.pin import Pinner
from clawproxy.policies.policy import Policy
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.reasons import REASONS, Refusal

from .makers import REVIEWER, STRANGER, a_grant, claw, signed, wpc_v1, wpc_v2

TRUSTED = frozenset({REVIEWER.did})


class FakeSource:
    """Contracts in memory; counts its fetches. ``bend`` changes what it returns, or raises."""

    def __init__(self, *envelopes: JsonObject, bend: Callable[[JsonObject], Any] = lambda envelope: envelope) -> None:
        self._envelopes = {envelope["payload_hash_b64u"]: envelope for envelope in envelopes}
        self._bend = bend
        self.fetches = 0

    async def fetch(self, policy_hash_b64u: str) -> JsonObject | None:
        self.fetches += 1
        found = self._envelopes.get(policy_hash_b64u)
        if found is None:
            return None
        bent: JsonObject | None = self._bend(found)
        return bent


def _raise(error: Exception) -> Any:
    raise error


def _grant(envelope: JsonObject, **fields: Any) -> Grant:
    return a_grant(policy_hash_b64u=envelope["payload_hash_b64u"], **fields)


async def _refused(pinner: Pinner, grant: Grant, reason: str) -> Refusal:
    refusal = await pinner.pin(grant)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert REASONS[reason].step == "pin"
    assert refusal.detail.isprintable()
    return refusal


@pytest.mark.parametrize("document", [claw(), wpc_v1(), wpc_v2()], ids=["claw", "v1", "v2"])
async def test_a_pinned_contract_is_fetched_once_and_then_known(document: JsonObject) -> None:
    envelope = signed(document)
    source = FakeSource(envelope)
    pinner = Pinner(source, TRUSTED)
    grant = _grant(envelope)
    assert pinner.cached(grant) is None
    policy = await pinner.pin(grant)
    assert isinstance(policy, Policy)
    assert policy.policy_hash_b64u == grant.policy_hash_b64u
    assert policy.envelope == envelope
    assert pinner.cached(grant) is policy
    assert await pinner.pin(grant) is policy
    assert source.fetches == 1


async def test_a_token_without_a_contract_goes_nowhere() -> None:
    source = FakeSource(signed(claw()))
    pinner = Pinner(source, TRUSTED)
    grant = a_grant(policy_hash_b64u=None)
    await _refused(pinner, grant, "POLICY_REQUIRED")
    assert isinstance(pinner.cached(grant), Refusal)
    assert source.fetches == 0


async def test_an_unknown_contract_is_not_found() -> None:
    await _refused(Pinner(FakeSource(), TRUSTED), a_grant(), "WPC_NOT_FOUND")


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk"),
        RuntimeError("bug"),
        ClawproxyError("WPC_REGISTRY_FETCH_FAILED", "gone"),
        TimeoutError(),
        KeyError("x"),
    ],
)
async def test_whatever_goes_wrong_in_a_source_nothing_is_pinned(error: Exception) -> None:
    envelope = signed(claw())
    pinner = Pinner(FakeSource(envelope, bend=lambda _: _raise(error)), TRUSTED)
    await _refused(pinner, _grant(envelope), "WPC_REGISTRY_FETCH_FAILED")


async def test_a_source_that_hangs_is_given_up() -> None:
    class Hanging:
        async def fetch(self, policy_hash_b64u: str) -> JsonObject | None:
            await asyncio.Event().wait()
            return None

    await _refused(Pinner(Hanging(), TRUSTED, fetch_timeout_s=0.02), a_grant(), "WPC_REGISTRY_FETCH_FAILED")


async def test_a_cancelled_pin_stays_cancelled() -> None:
    envelope = signed(claw())
    pinner = Pinner(FakeSource(envelope, bend=lambda _: _raise(asyncio.CancelledError())), TRUSTED)  # type: ignore[arg-type]  # a BaseException
    with pytest.raises(asyncio.CancelledError):
        await pinner.pin(_grant(envelope))


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (lambda e: {}, "WPC_ENVELOPE_INVALID"),
        (lambda e: [], "WPC_ENVELOPE_INVALID"),
        (lambda e: signed(claw(policy_name="another")), "WPC_ENVELOPE_INVALID"),
        (lambda e: e | {"payload": claw(policy_name="another")}, "WPC_ENVELOPE_INVALID"),
        (lambda e: signed(claw(), STRANGER), "WPC_SIGNER_NOT_ALLOWED"),
        (lambda e: signed(claw(), STRANGER) | {"signer_did": REVIEWER.did}, "WPC_SIGNATURE_INVALID"),
        (lambda e: e | {"signature_b64u": "A" * 86}, "WPC_SIGNATURE_INVALID"),
    ],
    ids=["empty", "list", "other", "swapped", "stranger", "borrowed name", "no signature"],
)
async def test_a_source_is_not_trusted(bend: Callable[[JsonObject], Any], reason: str) -> None:
    envelope = signed(claw())
    pinner = Pinner(FakeSource(envelope, bend=bend), TRUSTED)
    await _refused(pinner, _grant(envelope), reason)
    assert pinner.cached(_grant(envelope)) is None


async def test_without_trusted_signers_nothing_is_pinned() -> None:
    envelope = signed(claw())
    await _refused(Pinner(FakeSource(envelope), frozenset()), _grant(envelope), "WPC_SIGNER_NOT_ALLOWED")


async def test_a_signed_document_that_is_no_contract_is_refused() -> None:
    from clawproxy.tokens.envelope import build_envelope

    envelope = build_envelope("work_policy_contract", {"policy_name": "x", "allow_everything": True}, REVIEWER, "now")
    refusal = await _refused(Pinner(FakeSource(envelope), TRUSTED), _grant(envelope), "WPC_INVALID")
    assert "allow_everything" in refusal.detail


async def test_every_demand_that_cannot_be_enforced_is_named() -> None:
    envelope = signed(claw(elevated=False, data_boundaries={"moods": "deny"}, data_classes_allowed=["secretive"]))
    pinner = Pinner(FakeSource(envelope), TRUSTED)
    refusal = await _refused(pinner, _grant(envelope), "WPC_UNENFORCEABLE")
    assert refusal.rule == 'elevated, data_boundaries.moods["moods"], data_classes_allowed["secretive"]'
    assert isinstance(pinner.cached(_grant(envelope)), Refusal)


async def test_a_token_may_live_as_long_as_its_contract_allows_and_no_longer() -> None:
    envelope = signed(claw(token_constraints={"cst_ttl_minutes": 30}))
    pinner = Pinner(FakeSource(envelope), TRUSTED)
    assert isinstance(await pinner.pin(_grant(envelope, iat_s=0, exp_s=1800)), Policy)
    await _refused(pinner, _grant(envelope, iat_s=0, exp_s=1801), "TOKEN_TTL_TOO_LONG")
    unsaid = signed(claw())
    pinner = Pinner(FakeSource(unsaid), TRUSTED)
    assert isinstance(await pinner.pin(_grant(unsaid, iat_s=0, exp_s=3600)), Policy)
    await _refused(pinner, _grant(unsaid, iat_s=0, exp_s=3601), "TOKEN_TTL_TOO_LONG")


async def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    envelopes = [signed(claw(policy_name=f"n{n}")) for n in range(4)]
    source = FakeSource(*envelopes)
    pinner = Pinner(source, TRUSTED, max_cached=2)
    for n in (0, 1, 0, 2):
        await pinner.pin(_grant(envelopes[n]))
    assert isinstance(pinner.cached(_grant(envelopes[0])), Policy)
    assert pinner.cached(_grant(envelopes[1])) is None
    assert source.fetches == 3


async def test_policy_of_raises_with_a_reason_of_the_pin_step() -> None:
    with pytest.raises(ClawproxyError) as caught:
        await Pinner(FakeSource(), TRUSTED).policy_of("A" * 43)
    assert caught.value.reason == "WPC_NOT_FOUND"
