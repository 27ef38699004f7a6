"""SHA-256 and base64url, strict: one byte string has exactly one text form.

Source: RFC 4648 section 5; protocol.md A.1. The reference accepts padding and non-zero trailing bits, so that several
strings decode to one signature; here such a string is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from .errors import ClawproxyError

SHA256_B64U_CHARS = 43
_TO_URL = bytes.maketrans(b"+/", b"-_")
_B64U = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def b64u_encode(raw: bytes) -> str:
    """Base64url without padding."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")


def b64u_decode(text: str, *, length_bytes: int | None = None) -> bytes:
    """Decode canonical, unpadded base64url; raises ``ClawproxyError`` (MALFORMED_ENVELOPE) for anything else."""
    if isinstance(text, str) and _B64U.fullmatch(text):
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            raw = b""
        if raw and b64u_encode(raw) == text and (length_bytes is None or len(raw) == length_bytes):
            return raw
    expected = "canonical base64url without padding" + (f" of {length_bytes} bytes" if length_bytes else "")
    raise ClawproxyError("MALFORMED_ENVELOPE", "not base64url", got=f"{len(str(text))} characters", expected=expected)


def is_sha256_b64u(value: object) -> bool:
    """Whether ``value`` is the canonical 43-character form of a SHA-256 digest."""
    if not isinstance(value, str) or len(value) != SHA256_B64U_CHARS:
        return False
    try:
        b64u_decode(value, length_bytes=32)
    except ClawproxyError:
        return False
    return True


def sha256_b64u(data: bytes) -> str:
    """SHA-256 of ``data`` as 43 base64url characters."""
    return b64u_encode(hashlib.sha256(data).digest())


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 lowercase hex digits (token hashes and key ids only; protocol.md A.1)."""
    return hashlib.sha256(data).hexdigest()
