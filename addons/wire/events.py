"""How the bytes of a streamed answer are cut into events: one small class for each framing. Pure.

A framing says where the event that begins at a place ends, and what of it is for the reader. How the bytes were split
into chunks makes no difference to it; ``stream_tap`` keeps what is incomplete and bounds its length.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Protocol

from ...tokens.errors import ClawproxyError

_BETWEEN_ELEMENTS = re.compile(rb"[\s,\[\]]*")
_OUTSIDE_STRINGS = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_NOT_A_LINE_END = re.compile(rb"[^\r\n]")
_QUOTE, _BACKSLASH, _BRACE = b'"\\{'
_LONGEST_PARTIAL = 2
"""A blank line of which only CRLF has arrived."""


class Framing(Protocol):
    """One framing; an instance serves one stream."""

    ends: tuple[bytes, ...]
    """A chunk that ends so, and before which nothing is incomplete, ends with an event: it may pass after one scan for
    markers. Empty where that cannot be told from the last bytes."""
    comment: bytes
    """An event that means nothing, to keep a connection alive; empty where there is none."""
    may_redact: bool
    """Whether bytes of an event may be replaced without breaking the framing; else an echoed secret cuts the stream."""

    def begin(self, buffer: bytearray, start: int) -> int:
        """Where the next event begins, at or after ``start``: bytes between events mean nothing and pass."""
        ...

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        """Where the event that begins at ``start`` ends, or -1. Up to ``searched`` it was looked for before.

        Raises ``ClawproxyError`` for bytes that are not this framing, which cuts the stream.
        """
        ...

    between: bytes
    """What stands between two events that are written one after the other."""
    close: bytes
    """What closes a stream that ends early, behind its last event."""

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        """Name and data of an event; None for one that holds nothing."""
        ...

    def write(self, name: str, data: bytes) -> bytes:
        """An event as ``read`` reads it; ``data`` is one line of JSON, the name counts where the framing has one."""
        ...


class SseFraming:
    """Server-sent events (WHATWG HTML, 9.2): lines end with LF, CRLF or CR, a blank line ends an event, ``data`` lines
    are joined."""

    ends: tuple[bytes, ...] = (b"\n\n", b"\r\n\r\n")
    comment = b": keep-alive\n\n"
    may_redact = True
    between = b""
    close = b""

    def begin(self, buffer: bytearray, start: int) -> int:
        found = _NOT_A_LINE_END.search(buffer, start)
        return found.start() if found else len(buffer)

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        found = _BLANK_LINE.search(buffer, max(start, searched - _LONGEST_PARTIAL, 0))
        return found.end() if found else -1

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        name, values = b"", []
        for line in (event.removeprefix(_BOM) if first else event).splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                values.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if not name and not values:
            return None  # a comment, or a retry field
        return name.decode("utf-8", "replace"), b"\n".join(values)

    def write(self, name: str, data: bytes) -> bytes:
        head = b"event: " + b" ".join(name.encode().splitlines()) + b"\n" if name else b""
        return head + b"".join(b"data: " + line + b"\n" for line in data.splitlines() or [b""]) + b"\n"


class NdjsonFraming:
    """One JSON document per line."""

    ends: tuple[bytes, ...] = (b"\n",)
    comment = b""
    may_redact = True
    between = b""
    close = b""

    def begin(self, buffer: bytearray, start: int) -> int:
        found = _NOT_A_LINE_END.search(buffer, start)
        return found.start() if found else len(buffer)

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        return buffer.find(b"\n", max(start, searched)) + 1 or -1

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        line = event.strip()
        return ("", line) if line else None

    def write(self, name: str, data: bytes) -> bytes:
        return b" ".join(data.splitlines()) + b"\n"


class JsonArrayFraming:
    """One JSON array of objects, as Gemini streams without ``alt=sse``: an event is an element.

    Each byte is scanned once, however the stream is split: what is known of an unfinished element (how deep, within a
    string or not) is kept. Limits: it looks for the ends of elements, not for mistakes between them.
    """

    ends: tuple[bytes, ...] = ()
    comment = b""
    may_redact = True
    between = b",\r\n"
    close = b"]"

    def __init__(self) -> None:
        self._scanned = 0  # bytes of the element that has begun
        self._depth = 0
        self._in_string = False

    def begin(self, buffer: bytearray, start: int) -> int:
        if self._scanned:
            return start
        found = _BETWEEN_ELEMENTS.match(buffer, start)
        return found.end() if found else start

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        at = start + self._scanned
        if at == start and start < len(buffer) and buffer[start] != _BRACE:
            raise ClawproxyError("GATEWAY_FAULT", "the provider's stream is not a JSON array of objects")
        while at < len(buffer):
            if self._in_string:
                found = _IN_STRING.match(buffer, at)
                at = found.end() if found else at
                if at == len(buffer) or buffer[at] == _BACKSLASH:  # the rest, or what it escapes, has not arrived
                    break
                self._in_string = False
                at += 1
                continue
            if (found := _OUTSIDE_STRINGS.search(buffer, at)) is None:
                at = len(buffer)
                break
            at, byte = found.end(), buffer[found.start()]
            if byte == _QUOTE:
                self._in_string = True
                continue
            self._depth += 1 if byte in b"{[" else -1
            if not self._depth:
                self._scanned = 0
                return at
        self._scanned = at - start
        return -1

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        return "", event

    def write(self, name: str, data: bytes) -> bytes:
        return data


class AwsEventFraming:
    """AWS's binary event stream: length, header length, CRC of both; headers; payload; CRC of it all.

    ``read`` gives the event's type and payload; for what is no event, an exception or an error, ``FAILED``. Bytes of a
    message cannot be replaced: its CRC would be wrong.
    """

    FAILED = "failed"
    ends: tuple[bytes, ...] = ()
    comment = b""
    may_redact = False
    between = b""
    close = b""

    def begin(self, buffer: bytearray, start: int) -> int:
        return start

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        if len(buffer) - start < _AWS_PRELUDE.size:
            return -1
        total, headers, crc = _AWS_PRELUDE.unpack_from(buffer, start)
        if zlib.crc32(buffer[start : start + 8]) != crc or not headers + _AWS_FRAME <= total <= _AWS_MAX_BYTES:
            raise ClawproxyError("GATEWAY_FAULT", "the provider's stream is not an AWS event stream")
        end = start + int(total)
        if len(buffer) < end:
            return -1
        if zlib.crc32(buffer[start : end - 4]) != int.from_bytes(buffer[end - 4 : end]):
            raise ClawproxyError("GATEWAY_FAULT", "a message of the provider's event stream is damaged")
        return end

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        if len(event) < _AWS_FRAME:
            return None  # what a cut stream left
        total, length, _ = _AWS_PRELUDE.unpack_from(event)
        if total != len(event):
            return None
        payload_at = _AWS_PRELUDE.size + length
        headers = _aws_headers(event[_AWS_PRELUDE.size : payload_at])
        payload = event[payload_at:-4]
        if headers.get(b":message-type") != b"event":
            return self.FAILED, payload
        return headers.get(b":event-type", b"").decode("utf-8", "replace"), payload

    def write(self, name: str, data: bytes) -> bytes:
        """``FAILED`` becomes the exception that all streams of Bedrock have for a request which may not be."""
        if name == self.FAILED:
            told = {":exception-type": "validationException", ":message-type": "exception"}
        else:
            told = {":event-type": name, ":message-type": "event"}
        head = b"".join(map(_aws_header, (told | {":content-type": "application/json"}).items()))
        start = struct.pack(">II", _AWS_FRAME + len(head) + len(data), len(head))
        whole = start + zlib.crc32(start).to_bytes(4) + head + data
        return whole + zlib.crc32(whole).to_bytes(4)


_AWS_PRELUDE = struct.Struct(">III")
_AWS_FRAME = _AWS_PRELUDE.size + 4
_AWS_MAX_BYTES = 24 * 1024 * 1024
_AWS_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of the value of a header by its type; 6 and 7, bytes and text, say theirs."""


def _aws_header(told: tuple[str, str]) -> bytes:
    """One header, with a text."""
    name, value = (part.encode() for part in told)
    return bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2) + value


def _aws_headers(data: bytes) -> dict[bytes, bytes]:
    """The headers of a message as far as they can be read; the last of a name counts."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        kind = data[at] if at < len(data) else -1
        at += 1
        size = int.from_bytes(data[at : at + 2]) if kind in (6, 7) else _AWS_SIZES.get(kind, -1)
        at += 2 if kind in (6, 7) else 0
        if size < 0 or at + size > len(data):
            return {}
        found[name] = data[at : at + size]
        at += size
    return found
