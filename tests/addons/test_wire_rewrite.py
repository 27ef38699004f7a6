"""Answers without their calls of tools: they are what their readers and the real SDKs take for whole answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from clawproxy.addons.wire.events import AwsEventFraming, Framing, JsonArrayFraming, NdjsonFraming, SseFraming
from clawproxy.addons.wire.format import FORMATS
from hypothesis import given
from hypothesis import strategies as st

from .called import STREAMS, CalledStream
from .called.rewriting import ended_early, events_in, framing_of, rewritten

TEXT = "[the gateway refused this call]"
FRAMINGS = (SseFraming, NdjsonFraming, JsonArrayFraming, AwsEventFraming)
WITH_CALLS = sorted(name for name, stream in STREAMS.items() if stream.calls)
REPLACED = [
    name
    for name in WITH_CALLS
    if STREAMS[name].closed and STREAMS[name].ended and not STREAMS[name].signed and "repeated_with" not in name
]


def read_all(stream: CalledStream, data: bytes) -> Any:
    reader = FORMATS[stream.format].new_reader()
    for _, told, _ in events_in(framing_of(stream), data):
        if told is not None:
            reader.on_event(*told)
    return reader


@pytest.mark.parametrize("kind", FRAMINGS)
@given(
    events=st.lists(
        st.tuples(
            st.text("abcdefgXYZ.-_", max_size=12),
            st.dictionaries(st.text(max_size=9), st.text(max_size=30) | st.integers(0, 9), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_a_framing_writes_it_reads(kind: type[Framing], events: list[tuple[str, dict[str, Any]]]) -> None:
    framing = kind()
    told = [(name, orjson.dumps(value)) for name, value in events]
    opened = b"[" if kind is JsonArrayFraming else b""
    data = opened + framing.between.join(framing.write(*event) for event in told) + framing.close
    read = [each for _, each, _ in events_in(kind(), data) if each is not None]
    named = kind in (SseFraming, AwsEventFraming)
    assert read == [(name if named else "", value) for name, value in told]
    if kind is JsonArrayFraming:
        assert orjson.loads(data) == [value for _, value in events]


@pytest.mark.parametrize("name", WITH_CALLS)
def test_an_answer_that_is_ended_early_is_an_error_without_any_call(name: str) -> None:
    stream = STREAMS[name]
    reader = read_all(stream, ended_early(stream))
    assert (reader.ended, reader.failed, reader.unread, reader.tool_calls) == (True, True, False, ())


@pytest.mark.parametrize("name", REPLACED)
def test_an_answer_without_its_calls_is_whole(name: str) -> None:
    stream = STREAMS[name]
    data = rewritten(stream, TEXT)
    assert data is not None
    reader = read_all(stream, data)
    assert (reader.ended, reader.failed, reader.unread, reader.take_calls()) == (True, False, False, [])
    assert reader.usage_known
    assert reader.open_calls == 0
    if stream.content_type == "application/json":
        assert isinstance(orjson.loads(data), list)
    for reason in (b'reason":"tool_calls"', b'reason":"function_call"', b'reason":"tool_use"', b'Reason":"tool_use"'):
        assert reason not in data
    assert TEXT.encode() in data or stream.format == "bedrock_anthropic"
