from __future__ import annotations

import copy
from typing import Any

import pytest
from clawproxy.tokens.canonical import jcs_bytes, parse_json_object, wire_order_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.envelope import (
    ENVELOPE_MEMBERS,
    UNSIGNED_MEMBERS,
    build_envelope,
    check_envelope_shape,
    check_envelope_signature,
    open_envelope,
    timestamp,
)
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey
from hypothesis import given
from hypothesis import strategies as st

from .makers import shared_vectors

KEY = SigningKey.from_seed(Role.RECEIPT, bytes([7]) * 32)
OTHER = SigningKey.from_seed(Role.RECEIPT, bytes([8]) * 32)
PAYLOAD: dict[str, Any] = {"b": 1, "a": {"d": [1, "x"], "c": None}}
SIGNED = build_envelope("test_record", PAYLOAD, KEY, timestamp(1_900_000_000_123))


def reason_of(envelope: Any, signers: frozenset[str] = frozenset({KEY.did})) -> str:
    with pytest.raises(ClawproxyError) as caught:
        open_envelope(envelope, "test_record", signers)
    return caught.value.reason


def test_what_was_built_opens_again() -> None:
    read = parse_json_object(jcs_bytes(SIGNED))
    assert open_envelope(read, "test_record", {KEY.did}) == PAYLOAD


def test_the_signature_covers_the_text_of_the_hash() -> None:
    assert SIGNED["payload_hash_b64u"] == sha256_b64u(b'{"a":{"c":null,"d":[1,"x"]},"b":1}')
    assert SIGNED["signature_b64u"] == KEY.sign_b64u(SIGNED["payload_hash_b64u"].encode())


def test_both_hash_rules_agree_on_what_we_write() -> None:
    read = parse_json_object(jcs_bytes(SIGNED))
    assert sha256_b64u(wire_order_bytes(read["payload"])) == SIGNED["payload_hash_b64u"]
    assert check_envelope_signature(read) == "jcs"
    assert check_envelope_signature(read, wire_order=True) == "wire-order"


def test_a_hash_over_the_keys_as_sent_holds_only_where_it_is_asked_for() -> None:
    hashed = sha256_b64u(wire_order_bytes(PAYLOAD))
    assert hashed != SIGNED["payload_hash_b64u"]
    wire = SIGNED | {"payload_hash_b64u": hashed, "signature_b64u": KEY.sign_b64u(hashed.encode())}
    assert reason_of(wire) == "HASH_MISMATCH"
    assert open_envelope(wire, "test_record", {KEY.did}, wire_order=True) == PAYLOAD


@pytest.mark.parametrize("member", [m for m in ENVELOPE_MEMBERS if m not in UNSIGNED_MEMBERS])
def test_changing_a_member_is_found(member: str) -> None:
    changed = copy.deepcopy(SIGNED)
    value = changed[member]
    changed[member] = value | {"e": 1} if isinstance(value, dict) else ("A" if value[0] != "A" else "B") + value[1:]
    assert reason_of(changed)


@pytest.mark.parametrize("member", UNSIGNED_MEMBERS)
def test_the_members_that_nothing_covers_are_exactly_these(member: str) -> None:
    """The wire format leaves them unsigned (protocol.md A.3); so nothing of ours may read a meaning from them."""
    assert open_envelope(SIGNED | {member: "2001-01-01T00:00:00.000Z"}, "test_record", {KEY.did}) == PAYLOAD


@pytest.mark.parametrize("member", ENVELOPE_MEMBERS)
def test_a_missing_or_mistyped_member_is_found(member: str) -> None:
    wrong: tuple[Any, ...] = (None, 7, [], True)
    for bad in wrong:
        assert reason_of(SIGNED | {member: bad}) == "MALFORMED_ENVELOPE"
    assert reason_of({k: v for k, v in SIGNED.items() if k != member}) == "MALFORMED_ENVELOPE"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"envelope_version": "2"}, "UNKNOWN_ENVELOPE_VERSION"),
        ({"envelope_type": "other_record"}, "UNKNOWN_ENVELOPE_TYPE"),
        ({"algorithm": "none"}, "UNKNOWN_ALGORITHM"),
        ({"hash_algorithm": "BLAKE3"}, "UNKNOWN_HASH_ALGORITHM"),
        ({"extra": 1}, "SCHEMA_VALIDATION_FAILED"),
        ({"signer_did": OTHER.did}, "CLAIM_NOT_FOUND"),
        ({"payload": PAYLOAD | {"b": 2}}, "HASH_MISMATCH"),
        ({"signature_b64u": OTHER.sign_b64u(SIGNED["payload_hash_b64u"].encode())}, "SIGNATURE_INVALID"),
        ({"signature_b64u": SIGNED["signature_b64u"] + "=="}, "MALFORMED_ENVELOPE"),
        ({"payload_hash_b64u": SIGNED["payload_hash_b64u"] + "="}, "MALFORMED_ENVELOPE"),
    ],
)
def test_each_fault_has_its_code(changed: dict[str, Any], reason: str) -> None:
    assert reason_of(SIGNED | changed) == reason


def test_a_trusted_signer_whose_key_did_not_sign_is_found() -> None:
    assert reason_of(SIGNED | {"signer_did": OTHER.did}, frozenset({OTHER.did})) == "SIGNATURE_INVALID"


def test_no_signer_is_trusted_by_an_empty_set() -> None:
    assert reason_of(SIGNED, frozenset()) == "CLAIM_NOT_FOUND"


def test_a_bare_payload_is_no_envelope() -> None:
    others: tuple[Any, ...] = (PAYLOAD, [], "x", None, 7)
    for bare in others:
        assert reason_of(bare) == "MALFORMED_ENVELOPE"


def test_a_hash_may_leave_part_of_the_payload_out() -> None:
    payload = PAYLOAD | {"own_hash": "later"}
    signed = build_envelope("test_record", payload, KEY, timestamp(0), hashed=PAYLOAD)
    assert check_envelope_signature(signed, hashed=PAYLOAD) == "jcs"
    with pytest.raises(ClawproxyError):
        check_envelope_signature(signed)


def test_the_shared_bundle_opens_under_the_wire_rule() -> None:
    envelope = shared_vectors("bundle_gateway_min.json")
    check_envelope_shape(envelope, "proof_bundle")
    assert check_envelope_signature(envelope, wire_order=True) == "wire-order"


def test_times_have_milliseconds_and_zulu() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_900_000_000_007) == "2030-03-17T17:46:40.007Z"


@given(
    st.dictionaries(st.sampled_from([*ENVELOPE_MEMBERS, "expires_at", "x"]), st.none() | st.text() | st.integers())
    | st.none()
)
def test_random_envelopes_raise_nothing_but_our_error(changed: Any) -> None:
    if changed:
        with pytest.raises(ClawproxyError):
            open_envelope(SIGNED | changed | {"x": 1}, "test_record", {KEY.did})
    else:
        with pytest.raises(ClawproxyError):
            open_envelope(changed, "test_record", {KEY.did})
