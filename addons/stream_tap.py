"""Taps: they hash and read an answer while it passes, and hold what must not leave yet (``holds.Tap``).

``StreamTap`` lets whole events pass. It holds everything from the provider's terminal event on until the receipt is
durable, and a block of events that call tools until the tool gate has judged it. A chunk that ends with an event and
holds nothing for the reader passes after one scan (docs/architecture.md, step 10).

Where an event ends says its framing (``wire.events``). How the bytes are split into chunks makes no difference to what
leaves, what is held and what is read; what follows the terminal event is read as well, and held event by event: one
that never becomes whole does not leave. ``digest_b64u`` is over the bytes as they came from upstream,
``delivered_b64u`` over those that leave: a credential of ours that a provider echoes is replaced, and so is a refused
block.

Limits: an event above the cap, or a block above its own, raises, which cuts the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..tokens.digests import b64u_encode
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .holds import Hold
from .redaction import REDACTED, redact, redactor_for
from .tool_gate import WAITS, ToolGate
from .usage import SAMPLE_BYTES
from .wire.events import Framing
from .wire.reader import ResponseReader

if TYPE_CHECKING:
    from mitmproxy import http

    from .wire.rewrite import Event

__all__ = ["MAX_EVENT_BYTES", "REDACTED", "StreamTap", "redact"]

MAX_EVENT_BYTES = 1024 * 1024
MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""Of the events of a call of a tool, each piece of which may bring many times its own length in framing."""
KEEP_ALIVE_MS = 5_000
"""While a block is being collected, a client hears a comment this often, where the framing has comments."""


@dataclass(slots=True)
class _Block:
    """Events that are held: their places in the carry, and what was read of them."""

    start: int
    quiet_since_ms: int
    events: list[tuple[int, int, Event | None]] = field(default_factory=list)

    @property
    def told(self) -> list[Event]:
        """The events that hold something."""
        return [told for _, _, told in self.events if told is not None]


class StreamTap:
    """The tap of a streamed answer. ``secret`` is the credential that was sent upstream.

    ``seen_bytes`` and ``first_byte_ms`` (milliseconds since the start of the call) say what came from upstream,
    ``sample`` is its beginning (``usage``). Without a ``gate`` calls of tools pass like any other event.
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
        gate: ToolGate | None = None,
        cap_bytes: int = MAX_EVENT_BYTES,
        block_bytes: int = MAX_BLOCK_BYTES,
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
        self._gate = gate
        self._cap_bytes = cap_bytes
        self._block_bytes = block_bytes
        self._came = hashlib.sha256()  # all but what is in the carry
        self._delivered: hashlib._Hash | None = None  # None while nothing was changed
        self._carry = bytearray()  # what has come and not left
        self._start = 0  # where in the carry that begins
        self._at = 0  # where the next event does
        self._searched = 0  # so far no end of it was found
        self._read_bytes = 0  # of events that were shown to the reader
        self._block: _Block | None = None
        self._out: list[bytes] = []
        self._next_hold: Hold | None = None
        self._terminal_waits = False
        self._held = False
        self._late_bytes = 0

    @property
    def digest_b64u(self) -> str:
        """SHA-256 of what came from upstream so far."""
        whole = self._came.copy()
        whole.update(self._carry[self._start :])
        return b64u_encode(whole.digest())

    @property
    def delivered_b64u(self) -> str | None:
        """SHA-256 of what leaves, held bytes included; None where that is what came."""
        if self._delivered is None and self._held and self._carry:  # behind the end stands half an event
            return b64u_encode(self._came.digest())
        return None if self._delivered is None else b64u_encode(self._delivered.digest())

    # -- what comes ------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes | Hold:
        """See ``holds.Tap``. Raises ``ClawproxyError`` when an event is too large. With no bytes, it goes on behind a
        block that was released."""
        if self.seen_bytes < SAMPLE_BYTES:
            self.sample += data[: SAMPLE_BYTES - self.seen_bytes]
        self.seen_bytes += len(data)
        if self.first_byte_ms is None:
            self._first()
        if self._next_hold is not None:
            return self._held_next(data)
        if self._held:
            return self._after_the_end(data)
        if (
            not self._carry
            and self._delivered is None
            and data.endswith(self._framing.ends)
            and self._reader.markers.search(data) is None
            and self._redactor.probe(data) is None
            and len(data) <= self._cap_bytes
        ):
            self._came.update(data)
            self._read_bytes += len(data)
            return data
        self._carry += data
        return self._advance()

    def close(self) -> tuple[bytes, bytes]:
        """The upstream is done without a terminal event, unless that is what is left without its blank line."""
        left = bytes(self._carry[self._at :])
        told = None
        if left:
            told, _ = self._read(left, first=len(left) == self.seen_bytes)
            if self._gate is not None and self._reader.ended and self._reader.unread:
                raise self._gate.unreadable()
        calls = self._gate is not None and (self._block is not None or self._reader.untaken)
        if calls and self._reader.ended:
            raise ClawproxyError("GATEWAY_FAULT", "the provider's stream ends within a call of a tool")
        held = self._leave(len(self._carry), told)
        self._carry.clear()
        self._start = self._at = self._searched = 0
        self._held = True
        return b"", held

    def _first(self) -> None:
        self.first_byte_ms = max(0, self._clock_ms() - self._started_ms)

    # -- events ----------------------------------------------------------------------------------------------------

    def _advance(self) -> bytes | Hold:
        """Cut what has arrived into events, and show each to the reader."""
        carry, framing = self._carry, self._framing
        while True:
            # what stands between events passes, so that the place of a hold does not hang on chunks
            begin = framing.begin(carry, self._at)
            end = framing.end(carry, begin, self._searched)
            if end < 0:
                break
            if end - begin > self._cap_bytes:
                raise self._too_large("an event")
            told, terminal = self._read(bytes(carry[begin:end]), first=begin == 0 and self._read_bytes == 0)
            self._at = end
            if self._gate is not None and self._reader.unread:
                raise self._gate.unreadable()
            if self._block is None and self._gate is not None and self._reader.untaken:
                self._block = _Block(begin, self._clock_ms())
            if self._block is not None:
                # what was read of it is kept only for who may write it anew, or number an error after the first
                keep = not self._block.events or (self._gate is not None and self._gate.may_replace_later)
                self._block.events.append((begin, end, told if keep else None))
                if self._reader.open_calls and not terminal:
                    continue
                hold = self._end_block(self._block, terminal=terminal)
                if hold is not None:
                    return hold
            elif terminal:
                self._pass(begin)
                return self._hold_end(told)
            elif self._is_mending:
                self._pass(begin)
                self._pass(end, told)
        if len(carry) - begin > self._cap_bytes:
            raise self._too_large("an event")
        self._searched = len(carry)
        if self._block is None:
            self._at = begin
            self._pass(begin)
        else:
            self._pass(self._block.start)
            if len(carry) - self._block.start > self._block_bytes:
                raise self._too_large("a call of a tool")
            self._keep_alive(self._block)
        return self._now()

    def _read(self, event: bytes, *, first: bool) -> tuple[Event | None, bool]:
        """An event as its framing reads it, and whether it is the terminal one."""
        self._read_bytes += len(event)
        told = self._framing.read(event, first=first)
        return told, told is not None and self._reader.on_event(*told)

    def _after_the_end(self, data: bytes) -> bytes:
        if self._gate is not None and self._gate.refusal is not None:
            self._came.update(data)
            return b""
        self._late_bytes += len(data)
        if self._late_bytes > self._cap_bytes:
            raise self._too_large("what follows the end")
        self._carry += data
        return self._late()

    def _late(self) -> bytes:
        """What leaves of what follows the end: whole events, once the reader has seen them."""
        carry, framing = self._carry, self._framing
        while True:
            begin = framing.begin(carry, self._at)
            end = framing.end(carry, begin, self._searched)
            if end < 0:
                break
            told, _ = self._read(bytes(carry[begin:end]), first=False)
            self._at = end
            self._pass(begin)
            self._pass(end, told)
        if self._gate is not None and self._reader.unread:
            raise self._gate.unreadable()
        if self._gate is not None and self._reader.untaken:
            raise ClawproxyError("GATEWAY_FAULT", "the provider's stream calls a tool behind its end")
        self._pass(begin)
        self._at, self._searched = begin, len(carry)
        return self._now()

    # -- a block of calls ------------------------------------------------------------------------------------------

    def _end_block(self, block: _Block, *, terminal: bool) -> Hold | None:
        """No call is open any more: what becomes of the block. None where it passes."""
        assert self._gate is not None
        self._pass(block.start)
        verdict = self._gate.judge(self._reader)
        if verdict is WAITS:
            self._terminal_waits = terminal
            return Hold(self._flow, "part", self._now(), b"")
        return self._settled(verdict, terminal=terminal)

    def settle(self, refusal: Refusal | None) -> bytes:
        """The word of the tool gate on a block that waited: what leaves now. ``feed`` goes on behind it."""
        hold = self._settled(refusal, terminal=self._terminal_waits)
        if hold is None:
            return self._now()
        now, hold.now = hold.now, b""
        self._next_hold = hold
        return now

    def _settled(self, refusal: Refusal | None, *, terminal: bool) -> Hold | None:
        block, self._block = self._block, None
        assert block is not None
        assert self._gate is not None
        if refusal is not None:
            text = self._gate.replacement(block.told, refusal, self._reader)
            if text is None:
                return self._end_with(refusal, block.told)
            self._change(block.events[-1][1], self._written(text))
            return self._hold_written(self._out.pop()) if terminal else None
        if not self._is_mending and self._gate.may_replace_later:
            self._gate.keep(block.told)
        for begin, end, told in block.events[:-1] if self._is_mending else ():
            self._pass(begin)
            self._pass(end, told)
        begin, end, told = block.events[-1]
        if not terminal:
            self._pass(begin)
            self._pass(end, told)
            return None
        if self._is_mending:
            self._pass(begin)
        return self._hold_end(told)

    def _hold_end(self, told: Event | None) -> Hold:
        """Hold what has not passed, which ends with the terminal event."""
        return self._hold_written(self._leave(self._at, told))

    def _hold_written(self, written: bytes) -> Hold:
        """Hold what is to leave last, and all that follows it."""
        now = self._now()
        self._held = True
        self._at = self._start
        self._searched = 0
        return Hold(self._flow, "end", now, written + self._late())

    def _end_with(self, refusal: Refusal, held: list[Event]) -> Hold:
        """The answer ends here, with an error; what else comes is hashed and thrown away."""
        assert self._gate is not None
        events = self._gate.end(refusal, held)
        if not events:
            raise ClawproxyError("GATEWAY_FAULT", "the provider's stream has no way to say that it was ended")
        self._change(len(self._carry), self._written(events) + self._framing.close)
        error = self._out.pop()
        now = self._now()
        self._held = True
        return Hold(self._flow, "end", now, error)

    def _held_next(self, data: bytes) -> Hold:
        hold, self._next_hold = self._next_hold, None
        assert hold is not None
        if data:
            hold.held += self._after_the_end(data)
        return hold

    def _keep_alive(self, block: _Block) -> None:
        now_ms = self._clock_ms()
        if now_ms - block.quiet_since_ms >= KEEP_ALIVE_MS and self._framing.comment:
            block.quiet_since_ms = now_ms
            self._change(self._start, self._framing.comment)

    def _written(self, events: Iterable[Event]) -> bytes:
        return self._framing.between.join(self._framing.write(*event) for event in events)

    # -- what leaves -----------------------------------------------------------------------------------------------

    @property
    def _is_mending(self) -> bool:
        return self._gate is not None and self._gate.replaced

    def _pass(self, upto: int, told: Event | None = None) -> None:
        """Let the carry leave up to there, which is one event if it says what was read of it."""
        if upto > self._start:
            self._out.append(self._leave(upto, told))

    def _leave(self, upto: int, told: Event | None = None) -> bytes:
        raw = bytes(self._carry[self._start : upto])
        out = raw
        if told is not None and self._is_mending:
            assert self._gate is not None
            out = self._written(self._gate.mend(told))
        out = self._redacted(out)
        self._hash(raw, out)
        self._start = upto
        return out

    def _change(self, upto: int, out: bytes) -> None:
        """``out`` leaves in place of the carry up to there."""
        self._hash(bytes(self._carry[self._start : upto]), out)
        self._start = upto
        self._out.append(out)

    def _hash(self, raw: bytes, out: bytes) -> None:
        if self._delivered is None and out != raw:
            self._delivered = self._came.copy()
        self._came.update(raw)
        if self._delivered is not None:
            self._delivered.update(out)

    def _now(self) -> bytes:
        """What leaves now; the carry is what stays."""
        out = b"".join(self._out)
        self._out.clear()
        if self._start:
            shift, self._start = self._start, 0
            del self._carry[:shift]
            self._at = max(0, self._at - shift)
            self._searched = max(0, self._searched - shift)
            if self._block is not None:
                self._block.start -= shift
                self._block.events = [(begin - shift, end - shift, told) for begin, end, told in self._block.events]
        return out

    def _redacted(self, data: bytes) -> bytes:
        clean = self._redactor.clean(data)
        if clean is not data and clean != data and not self._framing.may_redact:
            raise ClawproxyError("GATEWAY_FAULT", "the provider echoes the credential in a binary stream")
        return clean

    def _too_large(self, what: str) -> ClawproxyError:
        expected = f"at most {self._cap_bytes} bytes"
        return ClawproxyError("GATEWAY_FAULT", f"{what} of the provider's stream is too large", expected=expected)
