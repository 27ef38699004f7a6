from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import nacl.bindings
import pytest
from clawproxy.tokens.digests import b64u_decode, b64u_encode
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import (
    Role,
    SigningKey,
    did_from_public_key,
    kid_from_public_key,
    load_key,
    public_key_from_did,
    save_key,
    verify_signature,
)
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from .makers import shared_vectors

KEY = SigningKey.from_seed(Role.RECEIPT, bytes(range(32)))
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# RFC 8032 section 7.1, test 2
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# The points of Ed25519 whose order divides 8, and encodings of them that are not canonical.
SMALL_ORDER = {
    "identity": "0100000000000000000000000000000000000000000000000000000000000000",
    "identity, sign bit": "0100000000000000000000000000000000000000000000000000000000000080",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 2, sign bit": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, other": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8, a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, b": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, c": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, d": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "zero as p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "identity as p + 1": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "identity as p + 1, sign bit": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}


def reason_of(path: Path, role: Role = Role.RECEIPT) -> str:
    with pytest.raises(ClawproxyError) as caught:
        load_key(path, role)
    line = str(caught.value)
    assert str(path) in line
    assert len(line.splitlines()) == 1
    return caught.value.reason


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "receipt.pem"
    save_key(KEY, path)
    return path


# -- did:key


def test_a_did_names_its_key_and_back() -> None:
    assert public_key_from_did(KEY.did) == KEY.public
    assert KEY.did.startswith("did:key:z6Mk")
    assert did_from_public_key(KEY.public) == KEY.did


def test_the_shared_keys_have_their_dids() -> None:
    for name, row in shared_vectors("keys.json").items():
        if name != "note":
            assert SigningKey.from_seed(Role.JOB, b64u_decode(row[0])).did == row[1]


@pytest.mark.parametrize("point", SMALL_ORDER.values(), ids=SMALL_ORDER.keys())
def test_a_small_order_key_is_refused(point: str) -> None:
    did = did_from_public_key(bytes.fromhex(point))
    for use in (lambda: public_key_from_did(did), lambda: verify_signature(did, b"anything", b64u_encode(bytes(64)))):
        with pytest.raises(ClawproxyError) as caught:
            use()
        assert caught.value.reason == "INVALID_DID_FORMAT"


def test_the_identity_key_would_sign_everything_under_another_library() -> None:
    """Why the check above exists: OpenSSL takes (identity, 0) as a signature on any message."""
    identity = bytes.fromhex(SMALL_ORDER["identity"])
    with suppress(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"any message")
        with pytest.raises(ClawproxyError):
            public_key_from_did(did_from_public_key(identity))


def test_a_key_of_mixed_order_is_refused() -> None:
    torsion = bytes.fromhex(SMALL_ORDER["order 8, a"])
    mixed = nacl.bindings.crypto_core_ed25519_add(KEY.public, torsion)
    with pytest.raises(ClawproxyError):
        public_key_from_did(did_from_public_key(mixed))


@pytest.mark.parametrize(
    "did",
    [
        "",
        "did:key:z",
        KEY.did + "1",
        KEY.did[:-1],
        KEY.did.replace("did:key:z", "did:key:z1"),
        KEY.did.replace("did:key:z", "did:key:Z"),
        KEY.did.replace("did:key", "did:KEY"),
        KEY.did + " ",
        " " + KEY.did,
        KEY.did + "\n",
        KEY.did + "#" + KEY.did[8:],
        KEY.did[:-1] + "0",
        KEY.did[:-1] + "ł",
        "did:web:example.test",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",  # another curve
        "did:key:z" + "z" * 10_000,
    ],
)
def test_another_text_form_of_a_did_is_refused(did: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        public_key_from_did(did)
    assert caught.value.reason == "INVALID_DID_FORMAT"
    assert len(str(caught.value)) < 300


def test_an_x25519_key_type_is_refused() -> None:
    digits, number = "", int.from_bytes(b"\xec\x01" + KEY.public, "big")
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    with pytest.raises(ClawproxyError):
        public_key_from_did("did:key:z" + digits)


@given(st.text(max_size=60) | st.text(BASE58).map("did:key:z{}".format))
def test_random_dids_raise_nothing_but_our_error(did: str) -> None:
    with suppress(ClawproxyError):
        assert did_from_public_key(public_key_from_did(did)) == did


# -- signatures


def test_signing_is_ed25519_of_rfc_8032() -> None:
    key = SigningKey.from_seed(Role.JOB, RFC_SEED)
    assert key.public == RFC_PUBLIC
    assert key.sign(b"\x72") == RFC_SIGNATURE
    assert verify_signature(key.did, b"\x72", b64u_encode(RFC_SIGNATURE))


def test_a_signature_is_for_one_key_and_one_message() -> None:
    signature = KEY.sign_b64u(b"message")
    assert verify_signature(KEY.did, b"message", signature)
    assert not verify_signature(KEY.did, b"massage", signature)
    assert not verify_signature(SigningKey.generate(Role.RECEIPT).did, b"message", signature)


def test_every_flipped_bit_of_a_signature_spoils_it() -> None:
    raw = KEY.sign(b"message")
    for bit in range(512):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not verify_signature(KEY.did, b"message", b64u_encode(bytes(flipped)))


def test_a_signature_plus_the_group_order_is_refused() -> None:
    """S and S + L satisfy the same equation; only one of them may be a signature."""
    order = 2**252 + 27742317777372353535851937790883648493
    raw = KEY.sign(b"message")
    shifted = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    assert not verify_signature(KEY.did, b"message", b64u_encode(shifted))


def test_a_signature_in_another_text_form_is_refused() -> None:
    with pytest.raises(ClawproxyError):
        verify_signature(KEY.did, b"message", KEY.sign_b64u(b"message") + "==")


def test_a_kid_is_the_front_of_the_key_hash() -> None:
    assert KEY.kid == kid_from_public_key(KEY.public)
    assert len(KEY.kid) == 16


def test_a_key_shows_no_secret() -> None:
    for secret in (KEY._secret, KEY._secret[:32]):
        assert repr(secret)[2:-1] not in repr(KEY)
        assert secret.hex() not in repr(KEY)
    assert KEY.did in repr(KEY)


# -- files


def test_a_saved_key_is_read_again(key_file: Path) -> None:
    assert load_key(key_file, Role.RECEIPT) == KEY
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_key(KEY, tmp_path / "k.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o610, 0o601, 0o644, 0o777])
def test_a_key_that_others_can_touch_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    assert reason_of(key_file) == "KEY_MODE"


def test_a_key_for_the_owner_alone_may_be_read_only(key_file: Path) -> None:
    key_file.chmod(0o400)
    assert load_key(key_file, Role.RECEIPT) == KEY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(key_file: Path) -> None:
    os.chown(key_file, 12345, -1)
    assert reason_of(key_file) == "KEY_MODE"


def test_a_symlink_to_a_key_is_refused(key_file: Path) -> None:
    link = key_file.with_name("link.pem")
    link.symlink_to(key_file)
    assert reason_of(link) == "KEY_UNREADABLE"


def test_a_pipe_and_a_directory_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert reason_of(tmp_path / "pipe") in ("KEY_MODE", "KEY_UNREADABLE")
    assert reason_of(tmp_path) in ("KEY_MODE", "KEY_UNREADABLE")


def test_a_missing_key_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ClawproxyError, match="clawproxy keys new receipt"):
        load_key(tmp_path / "none.pem", Role.RECEIPT)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.RECEIPT])
def test_a_key_of_another_role_is_refused(key_file: Path, role: Role) -> None:
    assert reason_of(key_file, role) == "KEY_ROLE"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"clawproxy-role: receipt\n", b"", "KEY_ROLE"),
        (b"clawproxy-role: receipt", b"clawproxy-role: token", "KEY_ROLE"),
        (b"clawproxy-did: did:key:z6Mk", b"clawproxy-did: did:key:z6Mj", "KEY_UNREADABLE"),
        (b"BEGIN PRIVATE KEY", b"BEGIN ENCRYPTED PRIVATE KEY", "KEY_UNREADABLE"),
        (b"-----END PRIVATE KEY-----", b"", "KEY_UNREADABLE"),
        (b"MC4CAQ", b"MC4CAg", "KEY_UNREADABLE"),
        (b"\n-----BEGIN", b"\n" + b"x" * 9000 + b"\n-----BEGIN", "KEY_UNREADABLE"),
    ],
)
def test_a_damaged_key_file_is_refused_in_one_line(key_file: Path, old: bytes, new: bytes, reason: str) -> None:
    text = key_file.read_bytes()
    assert old in text
    key_file.write_bytes(text.replace(old, new))
    assert reason_of(key_file) == reason


def test_a_pem_of_another_key_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(b"clawproxy-role: receipt\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    assert reason_of(path) == "KEY_UNREADABLE"


def test_saving_never_overwrites_and_never_follows_a_link(key_file: Path, tmp_path: Path) -> None:
    before = key_file.read_bytes()
    dangling = tmp_path / "dangling.pem"
    dangling.symlink_to(tmp_path / "elsewhere")
    for path in (key_file, dangling):
        with pytest.raises(ClawproxyError) as caught:
            save_key(SigningKey.generate(Role.RECEIPT), path)
        assert caught.value.reason == "KEY_EXISTS"
    assert key_file.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ClawproxyError) as caught:
        save_key(KEY, tmp_path / "none" / "k.pem")
    assert caught.value.reason == "KEY_UNWRITABLE"


def test_other_programs_read_the_file_as_pkcs8(key_file: Path) -> None:
    private = load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.public_key().public_bytes_raw() == KEY.public
    openssl = shutil.which("openssl")
    if openssl:
        shown = subprocess.run(
            [openssl, "pkey", "-in", str(key_file), "-pubout", "-outform", "DER"], capture_output=True, check=True
        )
        assert shown.stdout[-32:] == KEY.public
