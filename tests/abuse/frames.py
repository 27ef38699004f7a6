"""The client's side of a WebSocket, byte for byte: frames as a case writes them, and events as they come. Pure.

A frame is a text, which goes out as one masked text frame, or an object with ``text`` and what is wrong with it:
``opcode`` (1 text, 2 binary, 0 continuation, 8 close, 9 ping), ``fin``, ``rsv`` (4 is compressed), ``mask``, ``times``
(the frame is sent so often), or ``raw`` alone: bytes as they stand. ``CLEAN`` is the format's clean message.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from .bodies import Base, build_body
from .texts import expand

_MASK = b"\x37\xfa\x21\x3d"
MAX_FRAME_BYTES = 16 * 1024 * 1024


def frame_bytes(frame: Any, base: Base, values: Mapping[str, bytes]) -> bytes:
    """The bytes of one frame of a case; ``base`` has the clean message as its body."""
    if frame == "CLEAN":
        return text_frame(json.dumps(base.body).encode())
    if not isinstance(frame, dict) or ("text" not in frame and "raw" not in frame and "body" not in frame):
        return text_frame(expand(frame, values))
    if "raw" in frame:
        return expand(frame["raw"], values)
    data = build_body(base, frame["body"], values) if "body" in frame else expand(frame["text"], values)
    one = _frame(
        data,
        opcode=frame.get("opcode", 1),
        fin=frame.get("fin", True),
        rsv=frame.get("rsv", 0),
        mask=frame.get("mask", True),
    )
    return one * int(frame.get("times", 1))


def text_frame(data: bytes) -> bytes:
    """One whole masked text frame."""
    return _frame(data, opcode=1, fin=True, rsv=0, mask=True)


def _frame(data: bytes, *, opcode: int, fin: bool, rsv: int, mask: bool) -> bytes:
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    marked = 0x80 if mask else 0
    if len(data) < 126:
        head += bytes([marked | len(data)])
    elif len(data) < 65536:
        head += bytes([marked | 126]) + struct.pack("!H", len(data))
    else:
        head += bytes([marked | 127]) + struct.pack("!Q", len(data))
    if not mask:
        return head + data
    key = (_MASK * (len(data) // 4 + 1))[: len(data)]
    masked = (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data)) if data else b""
    return head + _MASK + masked


def head_length(first: bytes) -> tuple[int, int]:
    """Opcode of a frame of the gateway, and how many more bytes say how long it is."""
    size = first[1] & 0x7F
    return first[0] & 0x0F, {126: 2, 127: 8}.get(size, 0)
