"""Frames of ``application/vnd.amazon.eventstream``. Pure."""

from __future__ import annotations

from struct import pack
from zlib import crc32


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame: lengths and their checksum, headers (all strings), payload, checksum of everything before."""
    packed = b"".join(
        pack("!B", len(name)) + name.encode() + b"\x07" + pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = pack("!II", 16 + len(packed) + len(payload), len(packed))
    checked = prelude + pack("!I", crc32(prelude)) + packed + payload
    return checked + pack("!I", crc32(checked))


def event(name: str, payload: bytes) -> bytes:
    """The frame of an event with a JSON payload."""
    return frame(
        {":event-type": name, ":content-type": "application/json", ":message-type": "event"},
        payload,
    )
