"""A reader of chunked bodies (RFC 9112 section 7.1) whose time and memory are bounded. Pure.

It takes the place of h11's, which keeps a line or trailers without end, matches a line in time that can grow with its
square, and makes an event of every chunk. This one returns all the chunks of one read as one piece of data, refuses
trailers, and counts, so that a body of tiny chunks can be refused.
"""

from __future__ import annotations

import re

import h11
from h11._receivebuffer import ReceiveBuffer

LINE_BYTES = 1024
"""The longest chunk-size line, extensions included, which are ignored."""
FREE_CHUNKS = 1024
"""So many chunks may be of any size; beyond that they carry ``MEAN_CHUNK_BYTES`` in the mean."""
MEAN_CHUNK_BYTES = 64

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")
_END = h11.EndOfMessage()


class BodyRefusedError(Exception):
    """This body is not read any further; the message says why and quotes nothing of it."""


class ChunkReader:
    """Called with the buffer after each read, again until it returns None: data, or the end of the message."""

    def __init__(self) -> None:
        self.chunks = 0
        self.body_bytes = 0
        self._left = 0  # of the current chunk
        self._line_end_due = False
        self._is_last = False
        self._ended = False

    @property
    def is_wasteful(self) -> bool:
        """Whether the body comes in more and smaller chunks than anybody needs."""
        return self.chunks > FREE_CHUNKS and self.body_bytes < MEAN_CHUNK_BYTES * self.chunks

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Raises ``BodyRefusedError``."""
        if self._ended:
            return _END
        received = bytes(buf)
        pieces: list[bytes] = []
        used = self._read(received, pieces)
        if used:
            buf.maybe_extract_at_most(used)
        if pieces:
            return h11.Data(data=pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return _END if self._ended else None

    def _read(self, received: bytes, pieces: list[bytes]) -> int:
        """Append what is body; how many bytes of ``received`` are done with."""
        at, size = 0, len(received)
        while at < size and not self._ended:
            if self._left:
                piece = received[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self.body_bytes += len(piece)
                self._left -= len(piece)
                self._line_end_due = not self._left
            elif self._line_end_due:
                line_end = received[at : at + 2]
                if line_end == b"\r":
                    break
                if line_end != b"\r\n":
                    raise BodyRefusedError("trailers are not accepted" if self._is_last else "a chunk is malformed")
                at += 2
                self._line_end_due, self._ended = False, self._is_last
            else:
                end = received.find(b"\r\n", at, at + LINE_BYTES)
                if end < 0:
                    if size - at >= LINE_BYTES:
                        raise BodyRefusedError("a chunk-size line is too long")
                    break
                match = _SIZE_LINE.fullmatch(received, at, end)
                if match is None:
                    raise BodyRefusedError("a chunk-size line is malformed")
                self.chunks += 1
                self._left = int(match[1], 16)
                self._line_end_due = self._is_last = not self._left
                at = end + 2
        return at

    def read_eof(self) -> h11.EndOfMessage:
        """The connection ended before the body did: always raises, as h11 does."""
        raise h11.RemoteProtocolError(
            "peer closed connection without sending complete message body (incomplete chunked read)"
        )
