"""The chunked reader against h11's: the same bodies, whatever the reads; and it raises nothing but its own errors."""

from __future__ import annotations

import h11
import pytest
from clawproxy.addons.http1_chunks import LINE_BYTES, BodyRefusedError, ChunkReader
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from .engine_rig import chunk

_READS = st.lists(st.integers(1, 40), max_size=20)


def _read(reader: ChunkReader | ChunkedReader, message: bytes, reads: list[int]) -> tuple[bytes, bool, bytes]:
    """What a body reader makes of ``message`` in these reads: body, whether it ended, and if so, what is behind it."""
    buf, body, at = ReceiveBuffer(), b"", 0
    for size in [*reads, len(message)]:
        buf += message[at : at + size]
        at += size
        while (event := reader(buf)) is not None:
            if isinstance(event, h11.EndOfMessage):
                return body, True, bytes(buf) + message[at:]
            body += bytes(event.data)
        if at >= len(message):
            break
    return body, False, b""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), _READS, st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]))
def test_well_formed_bodies_are_read_as_h11_reads_them(bodies: list[bytes], reads: list[int], behind: bytes) -> None:
    message = b"".join(map(chunk, bodies)) + b"0\r\n\r\n" + behind
    assert _read(ChunkReader(), message, reads) == (b"".join(bodies), True, behind)
    assert _read(ChunkedReader(), message, reads) == (b"".join(bodies), True, behind)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"0", b"1", b"a", b"f;x", b" ", b"\t", b"\r", b"\n", b"\r\n", b"_", b"-"]), max_size=14),
    _READS,
)
def test_what_h11_refuses_is_refused_and_nothing_else_is_raised(parts: list[bytes], reads: list[int]) -> None:
    message = b"".join(parts)
    try:
        ours = _read(ChunkReader(), message, reads)
    except BodyRefusedError:
        return
    assert ours == _read(ChunkedReader(), message, reads)


@pytest.mark.parametrize(
    "message",
    [
        b"-1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b"\r\n",
        b" 1\r\na\r\n",
        b"1\na\n\r\n",
        b"1;a\nb\r\n",
        b"1\r\nab\r\n",
        b"0\r\nx: y\r\n\r\n",
        b"0\r\n x",
        b"1" * 17 + b"\r\n",
        b"1;" + b"a" * LINE_BYTES,
        b"1" + b" " * LINE_BYTES,
    ],
)
def test_malformed_bodies_are_refused(message: bytes) -> None:
    with pytest.raises(BodyRefusedError):
        _read(ChunkReader(), message, [])


def test_extensions_are_ignored() -> None:
    assert _read(ChunkReader(), b"A ; a=b\r\n0123456789\r\n00;x\r\n\r\n", [3, 3]) == (b"0123456789", True, b"")


def test_body_that_ends_early_is_an_error() -> None:
    with pytest.raises(h11.RemoteProtocolError):
        ChunkReader().read_eof()


def test_tiny_chunks_are_noticed_and_a_stream_of_events_is_not() -> None:
    reader = ChunkReader()
    _read(reader, chunk(b"x") * 1024, [])
    assert not reader.is_wasteful
    _read(reader, chunk(b"x"), [])
    assert reader.is_wasteful
    reader = ChunkReader()
    _read(reader, chunk(b"x" * 64) * 5000, [])
    assert not reader.is_wasteful
