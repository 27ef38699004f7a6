"""Taps: they hash and read an answer while it passes, and hold its end until the receipt is durable (``holds.Tap``).

``StreamTap`` lets whole events pass and holds everything from the provider's terminal event on. A chunk that ends with
an event and holds nothing for the reader passes after one scan (docs/architecture.md, step 10).

Where an event ends says its framing (``wire.events``). How the bytes are split into chunks makes no difference to what
leaves, what is held and what is read; what follows the terminal event is held, and read as well. The hash is over the
bytes as they came from upstream; a credential of ours that a provider echoes is replaced in what leaves.

Limits: an event above the cap raises, which cuts the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..tokens.digests import b64u_encode
from ..tokens.errors import ClawproxyError
from .holds import Hold
from .redaction import REDACTED, redact, redactor_for
from .usage import SAMPLE_BYTES
from .wire.events import Framing
from .wire.reader import ResponseReader

if TYPE_CHECKING:
    from mitmproxy import http

__all__ = ["MAX_EVENT_BYTES", "REDACTED", "StreamTap", "redact"]

MAX_EVENT_BYTES = 1024 * 1024


class StreamTap:
    """The tap of a streamed answer. ``secret`` is the credential that was sent upstream.

    ``seen_bytes`` and ``first_byte_ms`` (milliseconds since the start of the call) say what came from upstream,
    ``sample`` is its beginning (``usage``).
    """

    def __init__(
        self,
        flow: http.HTTPFlow,
        reader: ResponseReader,
        framing: Framing,
        secret: bytes,
        started_ms: int,
        clock_ms: Callable[[], int],
        *,
        cap_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.seen_bytes = 0
        self.sample = bytearray()
        self.first_byte_ms: int | None = None
        self._flow = flow
        self._reader = reader
        self._framing = framing
        self._redactor = redactor_for(secret)
        self._started_ms = started_ms
        self._clock_ms = clock_ms
        self._cap_bytes = cap_bytes
        self._hash = hashlib.sha256()
        self._carry = bytearray()  # the start of an event whose end has not arrived
        self._searched = 0  # so many bytes of it hold no end
        self._held = False
        self._late_bytes = 0

    @property
    def digest_b64u(self) -> str:
        """SHA-256 of what came from upstream so far."""
        return b64u_encode(self._hash.digest())

    def _first(self) -> None:
        self.first_byte_ms = max(0, self._clock_ms() - self._started_ms)

    def _redacted(self, data: bytes) -> bytes:
        clean = self._redactor.clean(data)
        if clean is not data and clean != data and not self._framing.may_redact:
            raise ClawproxyError("GATEWAY_FAULT", "the provider echoes the credential in a binary stream")
        return clean

    def _too_large(self, what: str) -> ClawproxyError:
        expected = f"at most {self._cap_bytes} bytes"
        return ClawproxyError("GATEWAY_FAULT", f"{what} of the provider's stream is too large", expected=expected)

    def feed(self, data: bytes) -> bytes | Hold:
        """See ``holds.Tap``. Raises ``ClawproxyError`` when an event is too large."""
        self._hash.update(data)
        if self.seen_bytes < SAMPLE_BYTES:
            self.sample += data[: SAMPLE_BYTES - self.seen_bytes]
        self.seen_bytes += len(data)
        if self.first_byte_ms is None:
            self._first()
        if self._held:
            return self._after_the_end(data)
        if (
            not self._carry
            and data.endswith(self._framing.ends)
            and self._reader.markers.search(data) is None
            and self._redactor.probe(data) is None
            and len(data) <= self._cap_bytes
        ):
            return data
        return self._reframe(data)

    def close(self) -> tuple[bytes, bytes]:
        """The upstream is done without a terminal event, unless that is what is left without its blank line."""
        left = bytes(self._carry)
        if left:
            self._is_terminal(left, first=len(left) == self.seen_bytes)
        self._carry.clear()
        self._held = True
        return b"", self._redacted(left)

    def _reframe(self, data: bytes) -> bytes | Hold:
        """Cut what has arrived into events, and show each to the reader."""
        carry = self._carry
        carry += data
        start, end = self._events(stop_at_terminal=True)
        now = bytes(carry[:start])
        if end > start:
            held = bytes(carry[start:])
            self._held = True
            del carry[:end]
            self._searched = 0
            self._read_rest()
            return Hold(self._flow, "end", self._redacted(now), self._redacted(held))
        del carry[:start]
        self._searched = len(carry)
        if len(carry) > self._cap_bytes:
            raise self._too_large("an event")
        return self._redacted(now)

    def _events(self, *, stop_at_terminal: bool) -> tuple[int, int]:
        """Show whole events to the reader. Where the terminal one begins and ends; or, twice, where what is not whole
        begins."""
        carry, framing = self._carry, self._framing
        at_stream_start = self.seen_bytes == len(carry)
        start = 0
        while True:
            # what stands between events passes, so that the place of a hold does not hang on chunks
            start = framing.begin(carry, start)
            end = framing.end(carry, start, self._searched)
            if end < 0:
                return start, start
            if end - start > self._cap_bytes:
                raise self._too_large("an event")
            if self._is_terminal(bytes(carry[start:end]), first=at_stream_start and start == 0) and stop_at_terminal:
                return start, end
            start = end

    def _is_terminal(self, event: bytes, *, first: bool) -> bool:
        told = self._framing.read(event, first=first)
        return told is not None and self._reader.on_event(*told)

    def _after_the_end(self, data: bytes) -> bytes:
        self._late_bytes += len(data)
        if self._late_bytes > self._cap_bytes:
            raise self._too_large("what follows the end")
        self._carry += data
        self._read_rest()
        return self._redacted(data)

    def _read_rest(self) -> None:
        """Show the reader what is whole of what follows the end."""
        start, _ = self._events(stop_at_terminal=False)
        del self._carry[:start]
        self._searched = len(self._carry)
