"""Any contract: parsed, hashed, signed, opened."""

from __future__ import annotations

import copy
import hashlib
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
import rfc8785
from clawproxy.policies.contract import document_in, hash_contract, open_contract, parse_contract, sign_contract
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey
from hypothesis import given
from hypothesis import strategies as st

from .makers import INVOICE_TRIAGE, ISSUED_AT, REFUND_ASSISTANT, REVIEWER, STRANGER, claw, signed, wpc_v1, wpc_v2

TRUSTED = frozenset({REVIEWER.did})


def _refusal(document: Any) -> ClawproxyError:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract(document)
    assert caught.value.reason == "WPC_INVALID"
    assert "\n" not in str(caught.value)
    return caught.value


def _open_refusal(envelope: Any, **more: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        open_contract(envelope, TRUSTED, **more)
    return caught.value.reason


@pytest.mark.parametrize("document", [REFUND_ASSISTANT, INVOICE_TRIAGE], ids=["refund", "invoice"])
def test_the_contracts_of_the_documents_load_as_they_stand(document: JsonObject) -> None:
    text = json.dumps(document, indent=2).encode()
    contract = parse_contract(text)
    assert contract.document == document
    assert contract.policy.name == document["policy_name"]
    assert contract.policy.max_ttl_s == 1800


def test_the_hash_is_that_of_the_canonical_document_without_its_own_hash() -> None:
    document = claw()
    expected = urlsafe_b64encode(hashlib.sha256(rfc8785.dumps(document)).digest()).rstrip(b"=").decode()
    assert hash_contract(document) == expected
    assert hash_contract(document | {"policy_hash": "anything"}) == expected
    assert parse_contract(document).policy_hash_b64u == expected
    assert hash_contract(claw(policy_name="other")) != expected


def test_key_order_and_spacing_do_not_change_the_hash() -> None:
    turned = json.dumps(dict(reversed(claw().items())), indent=8).encode()
    assert parse_contract(turned).policy_hash_b64u == hash_contract(claw())


def test_a_placeholder_hash_is_noticed_and_filled_by_signing() -> None:
    contract = parse_contract(INVOICE_TRIAGE)
    assert contract.has_placeholder
    envelope = signed(INVOICE_TRIAGE)
    assert envelope["payload"]["policy_hash"] == envelope["payload_hash_b64u"] == contract.policy_hash_b64u
    opened = open_contract(envelope, TRUSTED)
    assert not opened.has_placeholder
    assert opened.policy == contract.policy


def test_signing_fills_a_missing_hash_only_where_the_shape_has_the_field() -> None:
    assert "policy_hash" in signed(claw())["payload"]
    assert "policy_hash" not in signed(wpc_v1())["payload"]
    assert "policy_hash" not in signed(wpc_v2())["payload"]


def test_a_stated_hash_that_is_not_the_contracts_own_is_refused() -> None:
    assert parse_contract(claw(policy_hash=hash_contract(claw()))).stated_hash == hash_contract(claw())
    error = _refusal(claw(policy_hash=sha256_b64u(b"another")))
    assert error.where == "policy_hash"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b'{"policy_name":"a","policy_name":"b"}', "twice"),
        (b'{"policy_name":"a"} x', "follows"),
        (b"[]", "object"),
        (b"\xff", "utf-8"),
        (b'{"policy_name":NaN}', "json"),
        (b'{"policy_name":"a","data_boundaries":' + b"[" * 100 + b"]" * 100 + b"}", "deep"),
        (b" " * 70_000, "large"),
        (b"{}", "not a contract"),
    ],
)
def test_text_that_is_no_contract_gives_one_clear_line(text: bytes, word: str) -> None:
    assert word in str(_refusal(text)).lower()


def test_an_unknown_field_is_refused_with_the_nearest_known_name() -> None:
    error = _refusal(claw(alowed_models=["gpt-4o"]))
    assert error.got == '"alowed_models"'
    assert 'did you mean "allowed_models"?' in error.remedy
    inner = _refusal(claw(token_constraints={"cst_ttl_minute": 30}))
    assert inner.where == "token_constraints"
    assert "cst_ttl_minutes" in inner.remedy


def test_an_envelope_is_not_taken_for_a_document() -> None:
    assert "envelope" in str(_refusal(signed(claw())))
    assert document_in(signed(claw()))["policy_name"] == "example"
    assert document_in(claw()) == claw()


def test_two_shapes_in_one_contract_are_refused() -> None:
    assert "two shapes" in str(_refusal(claw(policy_version="1")))
    assert "unknown version" in str(_refusal({"policy_version": "3"}))
    assert "unknown version" in str(_refusal({"policy_version": 1}))


def test_only_a_policy_key_signs_contracts() -> None:
    with pytest.raises(ClawproxyError) as caught:
        sign_contract(claw(), SigningKey.generate(Role.RECEIPT), ISSUED_AT)
    assert caught.value.reason == "KEY_ROLE"


def test_a_contract_that_cannot_be_read_is_not_signed() -> None:
    with pytest.raises(ClawproxyError):
        signed(claw(allowed_models="gpt-4o"))


@pytest.mark.parametrize("document", [claw(), wpc_v1(), wpc_v2()], ids=["claw", "v1", "v2"])
def test_a_signed_contract_opens_to_what_was_signed(document: JsonObject) -> None:
    envelope = json.loads(jcs_bytes(signed(document)))
    contract = open_contract(envelope, TRUSTED, expected_hash=hash_contract(document))
    assert contract.policy_hash_b64u == envelope["payload_hash_b64u"] == hash_contract(document)


def test_what_is_wrong_with_a_signed_contract_is_told_apart() -> None:
    good = signed(claw())
    assert _open_refusal(None) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"envelope_version": "2"}) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"envelope_type": "gateway_receipt"}) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"expires_at": ISSUED_AT}) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"note": "x"}) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(signed(claw(), STRANGER)) == "WPC_SIGNER_NOT_ALLOWED"
    assert _open_refusal(good, expected_hash=sha256_b64u(b"another")) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"payload": claw(policy_name="swapped")}) == "WPC_ENVELOPE_INVALID"
    assert _open_refusal(good | {"signature_b64u": "A" * 86}) == "WPC_SIGNATURE_INVALID"
    assert _open_refusal(good | {"signature_b64u": "!"}) == "WPC_ENVELOPE_INVALID"


def test_a_strangers_signature_under_a_trusted_name_is_refused() -> None:
    assert _open_refusal(signed(claw(), STRANGER) | {"signer_did": REVIEWER.did}) == "WPC_SIGNATURE_INVALID"


def test_the_unsigned_hash_field_of_a_signed_contract_cannot_be_bent() -> None:
    envelope = signed(claw())
    for bent, reason in (("b64u:...", "WPC_ENVELOPE_INVALID"), (sha256_b64u(b"x"), "WPC_INVALID")):
        changed = copy.deepcopy(envelope)
        changed["payload"]["policy_hash"] = bent
        assert _open_refusal(changed) == reason


def test_every_single_character_change_of_a_signed_contract_is_refused() -> None:
    text = jcs_bytes(signed(claw(policy_name="q")))
    issued = text.index(b'"issued_at":"') + len(b'"issued_at":"')
    for at in range(len(text)):
        if issued <= at < issued + len(ISSUED_AT):
            continue  # unsigned in the wire format, and without meaning (protocol.md A.3)
        changed = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        with pytest.raises((ClawproxyError, ValueError)):
            open_contract(json.loads(changed), TRUSTED)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = sorted(set(claw()) | set(REFUND_ASSISTANT) | set(INVOICE_TRIAGE) | set(wpc_v1()) | set(wpc_v2()))


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_our_errors(text: bytes) -> None:
    with pytest.raises(ClawproxyError):
        parse_contract(text)


@given(
    st.sampled_from([claw(), REFUND_ASSISTANT, INVOICE_TRIAGE, wpc_v1(), wpc_v2()]),
    st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=12), JSON_VALUES, min_size=1, max_size=3),
)
def test_a_bent_contract_is_read_or_raises_only_our_errors(document: JsonObject, bent: JsonObject) -> None:
    refused: ClawproxyError | None = None
    try:
        contract = parse_contract({**document, **bent})
    except ClawproxyError as err:
        refused = err
    if refused is not None:
        assert refused.reason == "WPC_INVALID"
        assert str(refused).isprintable()
        return
    assert parse_contract(jcs_bytes(contract.document)).policy == contract.policy


def test_an_object_nested_without_end_raises_only_our_error() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"metadata": nested}
    _refusal(wpc_v1(metadata=nested))
