"""Calls of tools in answers are told with their arguments, where they begin and where they end."""

from __future__ import annotations

import pytest
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.reader import ResponseReader

from .called import STREAMS, Called, CalledStream

EVERY = sorted(STREAMS)


def told(reader: ResponseReader) -> tuple[Called, ...]:
    return tuple(Called(call.name, call.arguments(), call.choice) for call in reader.take_calls())


def blocks_of(stream: CalledStream, reader: ResponseReader) -> list[tuple[int, int]]:
    """Where calls were open, as a tap sees it that asks ``markers`` first."""
    framing = FORMATS[stream.format].framing(stream.content_type, stream=True)
    assert framing is not None
    found, begun, at, known = [], None, 0, 0
    buffer = bytearray(stream.data)
    while (end := framing.end(buffer, start := framing.begin(buffer, at), 0)) > 0:
        if reader.open_calls or not framing.ends or reader.markers.search(buffer, start, end):
            read = framing.read(bytes(buffer[start:end]), first=start == 0)
            if read is not None:
                reader.on_event(*read)
        if begun is None and len(reader._calls) > known:
            begun = start
        known, at = len(reader._calls), end
        if begun is not None and not reader.open_calls:
            found.append((begun, end))
            begun = None
    return [*found, (begun, len(buffer))] if begun is not None else found


@pytest.mark.parametrize("name", EVERY)
def test_every_call_of_a_stream_is_told_with_its_arguments_and_its_place(name: str) -> None:
    stream = STREAMS[name]
    reader = FORMATS[stream.format].new_reader()
    blocks = blocks_of(stream, reader)
    assert told(reader) == stream.calls
    assert tuple(blocks) == stream.blocks
    assert (reader.open_calls == 0, reader.ended) == (stream.closed, stream.ended)
    assert (reader.signed_reasoning, reader.unread, reader.more_calls) == (stream.signed, False, False)
    assert reader.tool_calls == tuple(call.name for call in stream.calls)
