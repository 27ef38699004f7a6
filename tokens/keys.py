"""Ed25519 keys: did:key names, roles, PKCS#8 files.

A key has one role, written in its file and in the trust file; a verifier refuses a key that appears in two roles,
because the wire format has no domain separation (ADR-0004). Touches the file system (``load_key``,
``save_key``).

Sources: did:key (multicodec 0xed01 + base58btc), RFC 8410 (PKCS#8), RFC 7468 (explanatory text before a PEM block),
protocol.md A.1.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import nacl.bindings
import nacl.exceptions
import nacl.signing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from .digests import b64u_decode, b64u_encode, sha256_hex
from .errors import ClawproxyError

_MULTICODEC_ED25519 = b"\xed\x01"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_MAX_KEY_FILE_BYTES = 8192


class Role(StrEnum):
    """What a key may sign."""

    TOKEN = "token"
    POLICY = "policy"
    RECEIPT = "receipt"
    JOB = "job"
    LOG = "log"
    APPROVAL = "approval"


def did_from_public_key(public: bytes) -> str:
    """``did:key:z…`` of a raw 32-byte Ed25519 public key."""
    number = int.from_bytes(_MULTICODEC_ED25519 + public, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "did:key:z" + digits


def public_key_from_did(did: str) -> bytes:
    """The raw public key of an Ed25519 ``did:key``; raises ``ClawproxyError`` (INVALID_DID_FORMAT).

    Refused besides other syntax: another key type or length, a non-canonical text form, and points that are not of
    prime order (with the identity point as key, one signature fits every message under some libraries).
    """
    if not isinstance(did, str):
        raise _not_a_did(did)
    return _public_key(did)


@lru_cache(maxsize=1024)  # a bundle names few keys, thousands of times
def _public_key(did: str) -> bytes:
    try:
        if not did.startswith("did:key:z") or len(did) > 64:
            raise ValueError
        number = 0
        for char in did.removeprefix("did:key:z"):
            number = number * 58 + _BASE58.index(char)
        raw = number.to_bytes(34, "big")
        if raw[:2] != _MULTICODEC_ED25519 or did_from_public_key(raw[2:]) != did:
            raise ValueError
        if not nacl.bindings.crypto_core_ed25519_is_valid_point(raw[2:]):
            raise ValueError
    except (ValueError, OverflowError):
        raise _not_a_did(did) from None
    return raw[2:]


def _not_a_did(got: object) -> ClawproxyError:
    return ClawproxyError(
        "INVALID_DID_FORMAT", "not an Ed25519 did:key", got=got, expected="did:key:z6Mk… of a prime-order point"
    )


def kid_from_public_key(public: bytes) -> str:
    """Key id used in token headers: the first 16 hex digits of SHA-256 of the raw key (protocol.md A.1)."""
    return sha256_hex(public)[:16]


def verify_signature(did: str, message: bytes, signature_b64u: str) -> bool:
    """Whether ``signature_b64u`` is the Ed25519 signature of ``message`` by ``did``.

    Raises ``ClawproxyError`` when the DID or the text form of the signature is malformed. libsodium decides; it refuses
    small-order keys and S >= L.
    """
    public = public_key_from_did(did)
    signature = b64u_decode(signature_b64u, length_bytes=64)
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its role and public name. ``repr`` shows no secret."""

    role: Role
    did: str
    _secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, role: Role) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls.from_seed(role, os.urandom(32))

    @classmethod
    def from_seed(cls, role: Role, seed: bytes) -> SigningKey:
        """The key of a 32-byte seed."""
        public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(role, did_from_public_key(public), secret)

    @property
    def public(self) -> bytes:
        return self._secret[32:]

    @property
    def kid(self) -> str:
        return kid_from_public_key(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message``."""
        return nacl.bindings.crypto_sign(message, self._secret)[:64]

    def sign_b64u(self, message: bytes) -> str:
        return b64u_encode(self.sign(message))


def save_key(key: SigningKey, path: Path) -> None:
    """Write ``key`` as PKCS#8 PEM, mode 0600, with its role in front; refuses to overwrite. Durable on return."""
    seed = key._secret[:32]
    pem = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    text = f"clawproxy-role: {key.role}\nclawproxy-did: {key.did}\n".encode() + pem
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except FileExistsError:
        raise ClawproxyError(
            "KEY_EXISTS",
            "a key is already there",
            where=str(path),
            remedy="use it as it is, or make another one with --name",
        ) from None
    except OSError as err:
        raise ClawproxyError(
            "KEY_UNWRITABLE",
            f"cannot write the {key.role} key: {(err.strerror or 'error').lower()}",
            where=str(path),
            expected="a directory of yours with room in it",
        ) from None


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load_key(path: Path, role: Role) -> SigningKey:
    """Read a key file that must be for ``role``; raises ``ClawproxyError`` (KEY_UNREADABLE, KEY_MODE, KEY_ROLE)."""
    where = str(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            info = os.fstat(file.fileno())
            text = file.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as err:
        raise ClawproxyError(
            "KEY_UNREADABLE",
            f"cannot read the {role} key: {(err.strerror or 'error').lower()}",
            where=where,
            remedy=f"make one with: clawproxy keys new {role}",
        ) from None
    if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o077 or info.st_uid not in (os.geteuid(), 0):
        raise ClawproxyError(
            "KEY_MODE",
            "others can read this key file",
            where=where,
            got=oct(stat.S_IMODE(info.st_mode)),
            expected="a regular file of yours with mode 0600",
            remedy=f"chmod 600 {path}, and replace the key if others may have read it",
        )
    head, begin, body = text.partition(b"-----BEGIN PRIVATE KEY-----")
    tagged = dict(line.split(": ", 1) for line in head.decode("ascii", "replace").splitlines() if ": " in line)
    if tagged.get("clawproxy-role") != role:
        raise ClawproxyError(
            "KEY_ROLE",
            "this key is for another role",
            where=where,
            got=tagged.get("clawproxy-role", "no role"),
            expected=str(role),
            remedy=f"make one with: clawproxy keys new {role}",
        )
    try:
        if len(text) > _MAX_KEY_FILE_BYTES:
            raise ValueError
        private = load_pem_private_key(begin + body, password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError
    except (ValueError, TypeError):
        raise ClawproxyError(
            "KEY_UNREADABLE", "not an Ed25519 private key", where=where, expected="PKCS#8 PEM as clawproxy writes it"
        ) from None
    key = SigningKey.from_seed(role, private.private_bytes_raw())
    if tagged.get("clawproxy-did") != key.did:
        raise ClawproxyError(
            "KEY_UNREADABLE",
            "the DID written in the file is not that of the key",
            where=where,
            got=tagged.get("clawproxy-did", "none"),
            expected=key.did,
        )
    return key
