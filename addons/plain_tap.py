"""The tap of an answer of which nothing is read: it hashes what passes, and holds the last byte for the receipt.

``holds.Tap`` says what the seam does with it. A credential of ours that the server echoes is replaced in what leaves,
wherever chunks cut it: as many bytes wait for the next chunk as the longest of its forms (``redaction``) has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ..tokens.digests import b64u_encode
from .redaction import redact, redactor_for


class PlainTap:
    """``seen_bytes`` and ``first_byte_ms`` (milliseconds since the start of the call) say what came from upstream."""

    def __init__(self, secret: bytes, started_ms: int, clock_ms: Callable[[], int]) -> None:
        self.seen_bytes = 0
        self.first_byte_ms: int | None = None
        self._secret = secret
        self._started_ms = started_ms
        self._clock_ms = clock_ms
        self._keep_bytes = redactor_for(secret).longest_bytes if secret else 1
        self._hash = hashlib.sha256()
        self._carry = b""

    @property
    def digest_b64u(self) -> str:
        """SHA-256 of what came from upstream so far."""
        return b64u_encode(self._hash.digest())

    def feed(self, data: bytes) -> bytes:
        """What may leave: all but the last bytes."""
        self._hash.update(data)
        self.seen_bytes += len(data)
        if self.first_byte_ms is None:
            self.first_byte_ms = max(0, self._clock_ms() - self._started_ms)
        text = redact(self._carry + data, self._secret)
        self._carry = text[-self._keep_bytes :]
        return text[: -self._keep_bytes]

    def close(self) -> tuple[bytes, bytes]:
        """The upstream has ended its message: what is left is the end."""
        left, self._carry = self._carry, b""
        return b"", left
