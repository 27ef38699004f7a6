from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey, did_from_public_key
from clawproxy.tokens.trust import RECEIPT_LIST, Trust, TrustedKey, build_trust, load_trust, parse_trust
from hypothesis import given
from hypothesis import strategies as st

A, B, C = (SigningKey.from_seed(Role.RECEIPT, bytes([n]) * 32).did for n in (1, 2, 3))


def ours(*keys: Any, **over: Any) -> bytes:
    return json.dumps({"trust_version": "1", "keys": list(keys)} | over).encode()


def reference(**lists: Any) -> bytes:
    return json.dumps({"config_version": "1", "allowlists": lists}).encode()


def error_of(data: bytes) -> ClawproxyError:
    with pytest.raises(ClawproxyError) as caught:
        parse_trust(data)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_a_key_is_believed_in_its_role_alone() -> None:
    trust = parse_trust(ours({"did": A, "role": "receipt", "name": "team A"}, {"did": B, "role": "policy"}))
    assert trust.given
    assert trust.signers(Role.RECEIPT) == {A}
    assert trust.signers(Role.POLICY) == {B}
    for role in (Role.TOKEN, Role.JOB, Role.LOG, Role.APPROVAL):
        assert trust.signers(role) == frozenset()
    assert [key.name for key in trust.keys] == ["team A", ""]


def test_no_trust_believes_nobody() -> None:
    assert not Trust().given
    assert not any(Trust().signers(role) for role in Role)
    assert parse_trust(ours()).given


def test_a_built_trust_is_read_again() -> None:
    built = build_trust([TrustedKey(A, Role.RECEIPT, "team A"), TrustedKey(B, Role.TOKEN), TrustedKey(A, Role.RECEIPT)])
    assert parse_trust(jcs_bytes(built.document())) == built
    assert len(built.keys) == 2


def test_the_verifier_config_of_the_reference_is_read() -> None:
    trust = parse_trust(
        reference(gateway_receipt_signer_dids=[A], attestation_signer_dids=[B], web_receipt_signer_dids=[])
    )
    assert trust.given
    assert trust.signers(Role.RECEIPT) == {A}
    assert trust.allowlists == {"attestation_signer_dids": {B}, "web_receipt_signer_dids": frozenset()}
    assert not any(trust.signers(role) for role in Role if role is not Role.RECEIPT)


def test_the_shared_configs_are_read() -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "vectors"
    paths = sorted(shared.glob("*/clawverify.config.*.json"))
    if not paths:
        pytest.skip("the shared vectors are not here")
    for path in paths:
        assert load_trust(path).signers(Role.RECEIPT)


def test_what_the_reference_ignores_in_its_config_is_ignored() -> None:
    data = json.dumps(
        {"config_version": "1", "allowlists": {RECEIPT_LIST: [A, "did:web:gateway.test"]}, "trusted_signer_dids": [B]}
    ).encode()
    assert parse_trust(data).signers(Role.RECEIPT) == {A}


@pytest.mark.parametrize(
    "data",
    [
        ours({"did": A, "role": "receipt"}, {"did": A, "role": "token"}),
        ours({"did": A, "role": "policy"}, {"did": B, "role": "job"}, {"did": A, "role": "log"}),
        reference(gateway_receipt_signer_dids=[A], attestation_signer_dids=[A]),
        reference(attestation_signer_dids=[A, B], execution_attestation_signer_dids=[C, B]),
    ],
)
def test_one_key_in_two_roles_is_refused_by_name(data: bytes) -> None:
    err = error_of(data)
    assert err.reason == "TRUST_ROLE_CONFLICT"
    assert "clawproxy keys new" in err.remedy
    assert err.got in (A, B)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "PARSE_ERROR"),
        (b"[]", "PARSE_ERROR"),
        (b"{}", "TRUST_INVALID"),
        (b'{"trust_version":"1","trust_version":"1","keys":[]}', "PARSE_ERROR"),
        (ours(trust_version="2"), "TRUST_INVALID"),
        (ours(trust_version=1), "TRUST_INVALID"),
        (ours(keys={}), "TRUST_INVALID"),
        (ours(keys=None), "TRUST_INVALID"),
        (ours(extra=1), "TRUST_INVALID"),
        (ours("x"), "TRUST_INVALID"),
        (ours({"did": A}), "TRUST_INVALID"),
        (ours({"did": A, "role": "root"}), "TRUST_INVALID"),
        (ours({"did": A, "role": "RECEIPT"}), "TRUST_INVALID"),
        (ours({"did": A, "role": ["receipt"]}), "TRUST_INVALID"),
        (ours({"did": A, "role": "receipt", "until": 1}), "TRUST_INVALID"),
        (ours({"did": A, "role": "receipt", "name": "a\nb"}), "TRUST_INVALID"),
        (ours({"did": A, "role": "receipt", "name": 7}), "TRUST_INVALID"),
        (ours({"role": "receipt"}), "TRUST_INVALID"),
        (ours({"did": 7, "role": "receipt"}), "TRUST_INVALID"),
        (ours({"did": "did:web:x", "role": "receipt"}), "INVALID_DID_FORMAT"),
        (ours({"did": did_from_public_key(b"\1" + bytes(31)), "role": "job"}), "INVALID_DID_FORMAT"),
        (reference(gateway_receipt_signer_dids=[A + "1"]), "INVALID_DID_FORMAT"),
        (reference(attestation_signer_dids=[did_from_public_key(bytes(32))]), "INVALID_DID_FORMAT"),
        (reference(gateway_receipt_signer_dids=A), "TRUST_INVALID"),
        (reference(gateway_receipt_signer_dids=[7]), "TRUST_INVALID"),
        (b'{"config_version":"2","allowlists":{}}', "TRUST_INVALID"),
        (b'{"config_version":"1"}', "TRUST_INVALID"),
        (b'{"config_version":"1","allowlists":[]}', "TRUST_INVALID"),
    ],
)
def test_a_malformed_trust_file_is_one_clear_line(data: bytes, reason: str) -> None:
    assert error_of(data).reason == reason


def test_the_fault_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(ours({"did": A, "role": "receipt"}, {"did": A + "1", "role": "receipt"}))
    with pytest.raises(ClawproxyError, match=r"trust\.json: keys\[1\]\.did: "):
        load_trust(path)


def test_a_trust_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(ClawproxyError) as caught:
            load_trust(path)
        assert caught.value.reason == "TRUST_UNREADABLE"
        assert "clawproxy keys trust" in str(caught.value)


def test_a_trust_file_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(ours() + b" " * (1024 * 1024))
    with pytest.raises(ClawproxyError) as caught:
        load_trust(path)
    assert caught.value.reason == "PARSE_ERROR"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([A, B, "receipt", "1"]) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["did", "role", "name", RECEIPT_LIST, "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["trust_version", "config_version", "keys", "allowlists"]), ANY | st.just("1")))
def test_random_trust_files_raise_nothing_but_our_error(document: Any) -> None:
    with suppress(ClawproxyError):
        parse_trust(json.dumps(document).encode())


@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_but_our_error(data: bytes) -> None:
    with suppress(ClawproxyError):
        parse_trust(data)
