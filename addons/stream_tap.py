"""Taps: they hash and read an answer while it passes, and hold its end until the receipt is durable (``holds.Tap``).

``SseTap`` lets whole events pass and holds everything from the provider's terminal event on. A chunk that ends with an
event and holds nothing for the reader passes after one scan (docs/architecture.md, step 10).

An event is what the event-stream format says (WHATWG HTML, 9.2): lines end with LF, CRLF or CR, a blank line ends an
event, ``data`` lines are joined. How the bytes are split into chunks makes no difference to what leaves, what is held
and what is read. The hash is over the bytes as they came from upstream; a credential of ours that a provider echoes is
replaced in what leaves.

Limits: what a server sends after its terminal event is held and hashed, but not read. An event above the cap raises,
which cuts the stream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..tokens.digests import b64u_encode
from ..tokens.errors import ClawproxyError
from .holds import Hold
from .wire.reader import ResponseReader

if TYPE_CHECKING:
    from mitmproxy import http

MAX_EVENT_BYTES = 1024 * 1024
REDACTED = b"[redacted by clawproxy]"
_BOM = b"\xef\xbb\xbf"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_NOT_A_LINE_END = re.compile(rb"[^\r\n]")
_LONGEST_PARTIAL = 2
"""A blank line of which only CRLF has arrived."""


def redact(text: bytes, secret: bytes) -> bytes:
    """``text`` without ``secret``, which a provider may echo."""
    return text.replace(secret, REDACTED) if secret else text


class SseTap:
    """The tap of an event stream. ``secret`` is the credential that was sent upstream.

    ``seen_bytes`` and ``first_byte_ms`` (milliseconds since the start of the call) say what came from upstream.
    """

    def __init__(
        self,
        flow: http.HTTPFlow,
        reader: ResponseReader,
        secret: bytes,
        started_ms: int,
        clock_ms: Callable[[], int],
        *,
        cap_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.seen_bytes = 0
        self.first_byte_ms: int | None = None
        self._flow = flow
        self._reader = reader
        self._secret = secret
        self._started_ms = started_ms
        self._clock_ms = clock_ms
        self._cap_bytes = cap_bytes
        self._hash = hashlib.sha256()
        self._carry = bytearray()  # the start of an event whose end has not arrived
        self._searched = 0  # so many bytes of it hold no blank line
        self._held = False
        self._late_bytes = 0

    @property
    def digest_b64u(self) -> str:
        """SHA-256 of what came from upstream so far."""
        return b64u_encode(self._hash.digest())

    def _first(self) -> None:
        self.first_byte_ms = max(0, self._clock_ms() - self._started_ms)

    def _redacted(self, data: bytes) -> bytes:
        return redact(data, self._secret)

    def _too_large(self, what: str) -> ClawproxyError:
        expected = f"at most {self._cap_bytes} bytes"
        return ClawproxyError("GATEWAY_FAULT", f"{what} of the provider's stream is too large", expected=expected)

    def feed(self, data: bytes) -> bytes | Hold:
        """See ``holds.Tap``. Raises ``ClawproxyError`` when an event is too large."""
        self._hash.update(data)
        self.seen_bytes += len(data)
        if self.first_byte_ms is None:
            self._first()
        if self._held:
            return self._after_the_end(data)
        if (
            not self._carry
            and data.endswith(_EVENT_ENDS)
            and self._reader.markers.search(data) is None
            and (not self._secret or self._secret not in data)
            and len(data) <= self._cap_bytes
        ):
            return data
        return self._reframe(data)

    def close(self) -> tuple[bytes, bytes]:
        """The upstream is done without a terminal event, unless that is what is left without its blank line."""
        left = bytes(self._carry)
        self._carry.clear()
        if left:
            self._is_terminal(left, first=len(left) == self.seen_bytes)
        self._held = True
        return b"", self._redacted(left)

    def _reframe(self, data: bytes) -> bytes | Hold:
        """Cut what has arrived into events, and show each to the reader."""
        carry = self._carry
        search_from = max(0, self._searched - _LONGEST_PARTIAL)
        carry += data
        at_stream_start = self.seen_bytes == len(carry)
        start = 0
        while True:
            # line ends before an event mean nothing; they pass, so that the place of a hold does not hang on chunks
            begins = _NOT_A_LINE_END.search(carry, start)
            start = begins.start() if begins else len(carry)
            blank = _BLANK_LINE.search(carry, max(start, search_from))
            if blank is None:
                break
            if blank.end() - start > self._cap_bytes:
                raise self._too_large("an event")
            if self._is_terminal(bytes(carry[start : blank.end()]), first=at_stream_start and start == 0):
                now, held = bytes(carry[:start]), bytes(carry[start:])
                carry.clear()
                self._held = True
                return Hold(self._flow, "end", self._redacted(now), self._redacted(held))
            start = blank.end()
        now = bytes(carry[:start])
        del carry[:start]
        self._searched = len(carry)
        if len(carry) > self._cap_bytes:
            raise self._too_large("an event")
        return self._redacted(now)

    def _is_terminal(self, event: bytes, *, first: bool) -> bool:
        name, values = b"", []
        for line in (event.removeprefix(_BOM) if first else event).splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                values.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if not name and not values:
            return False  # a comment, or a retry field
        return self._reader.on_event(name.decode("utf-8", "replace"), b"\n".join(values))

    def _after_the_end(self, data: bytes) -> bytes:
        self._late_bytes += len(data)
        if self._late_bytes > self._cap_bytes:
            raise self._too_large("what follows the end")
        return self._redacted(data)
