"""The tap: whole events pass, the end waits, chunks make no difference, and the hash is of what came."""

from __future__ import annotations

import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from clawproxy.addons.holds import Tap
from clawproxy.addons.stream_tap import REDACTED, StreamTap
from clawproxy.addons.wire.events import SseFraming
from clawproxy.addons.wire.format import FORMATS
from clawproxy.tokens.digests import b64u_encode
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from . import payloads as p
from .taps import play

FLOW: Any = SimpleNamespace()
STREAMS = {
    "openai_chat": p.CHAT_STREAM,
    "openai_responses": p.RESPONSES_STREAM,
    "anthropic_messages": p.ANTHROPIC_STREAM,
}
EVERY = sorted(STREAMS)


class Clock:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return 1_000 + self.asked


def tap_of(name: str, secret: bytes = b"", **more: Any) -> StreamTap:
    return StreamTap(FLOW, FORMATS[name].new_reader(), SseFraming(), secret, 1_000, Clock(), **more)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def everything(tap: StreamTap) -> tuple[object, ...]:
    reader = tap._reader
    usage = reader.tokens_input, reader.tokens_output, reader.usage_known
    return (tap.digest_b64u, tap.seen_bytes, *usage, reader.model, reader.tool_calls, reader.ended, reader.failed)


@pytest.mark.parametrize("name", EVERY)
def test_the_last_event_waits_and_all_before_it_passes(name: str) -> None:
    stream = STREAMS[name]
    last = stream[stream.rstrip(b"\n").rindex(b"\n\n") + 2 :]
    tap = tap_of(name)
    assert play(tap, [stream]) == (stream.removesuffix(last), last)
    reader = tap._reader
    assert (reader.ended, reader.usage_known, reader.tokens_input, reader.tokens_output) == (True, True, 31, 7)
    assert tap.digest_b64u == b64u_encode(hashlib.sha256(stream).digest())
    assert isinstance(tap, Tap)


def test_the_tool_calls_and_models_of_streams_are_read() -> None:
    for name, model, calls in (
        ("openai_chat", "gpt-5-2026", ("read_file", "bash")),
        ("openai_responses", "gpt-5-2026", p.RESPONSES_CALLS),
        ("anthropic_messages", "claude-x-1", p.ANTHROPIC_CALLS),
    ):
        tap = tap_of(name)
        play(tap, [STREAMS[name]])
        assert (tap._reader.model, tap._reader.tool_calls) == (model, calls)


@given(
    name=st.sampled_from(EVERY),
    cuts=st.lists(st.integers(0, 10**6), max_size=40),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_chunks_make_no_difference(name: str, cuts: list[int], end: bytes) -> None:
    stream = STREAMS[name].replace(b"\n", end)
    whole, pieces = tap_of(name), tap_of(name)
    assert play(whole, [stream]) == play(pieces, split(stream, cuts))
    assert everything(whole) == everything(pieces)
    assert whole._reader.ended


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_single_bytes_and_single_events_make_no_difference(name: str, end: bytes) -> None:
    stream = STREAMS[name].replace(b"\n", end)
    events = [event + end + end for event in stream.split(end + end)[:-1]]
    results = []
    for chunks in ([stream], [stream[n : n + 1] for n in range(len(stream))], events):
        tap = tap_of(name)
        results.append((play(tap, chunks), everything(tap)))
    assert results[0] == results[1] == results[2]


LINES = st.sampled_from(
    [
        *(b"data: [DONE]", b"data: {}", b'data: {"usage":{"prompt_tokens":3}}', b"data", b": c", b"event: error"),
        *(b"event:message_stop", b'data:{"type":"message_stop"}', b"\xff\xfe", b"\xef\xbb\xbf", b"x", b"id: 1"),
        *(b'data: {"usage"', b"data: :{}}", b'data: {"model":"m"}'),
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}',
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b""])


@given(
    name=st.sampled_from(EVERY),
    lines=st.lists(st.tuples(LINES, ENDS), max_size=14),
    cuts=st.lists(st.integers(0, 10**6), max_size=30),
)
def test_chunks_make_no_difference_for_strange_streams(
    name: str, lines: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(line + end for line, end in lines)
    whole = tap_of(name)
    expected = play(whole, [stream])
    behind = bytes(whole._carry)  # half an event behind the end does not leave
    assert b"".join(expected) + behind == stream
    assert (whole.delivered_b64u is not None) == bool(behind)
    lines_as_chunks = [line + end for line, end in lines]
    for chunks in (split(stream, cuts), [stream[n : n + 1] for n in range(len(stream))], lines_as_chunks):
        tap = tap_of(name)
        assert play(tap, chunks) == expected
        assert everything(tap) == everything(whole)


@given(name=st.sampled_from(EVERY), chunks=st.lists(st.binary(max_size=40), max_size=12))
def test_random_bytes_pass_whole_and_never_raise(name: str, chunks: list[bytes]) -> None:
    tap = tap_of(name)
    assert b"".join(play(tap, chunks)) + bytes(tap._carry) == b"".join(chunks)
    assert tap.digest_b64u == b64u_encode(hashlib.sha256(b"".join(chunks)).digest())


def test_a_chunk_without_marks_is_passed_on_unchanged() -> None:
    tap = tap_of("openai_chat")
    tap.feed(p.sse(p.chat_chunk({"content": "first"})))
    chunk = p.sse(p.chat_chunk({"content": "and more"}), p.chat_chunk({"content": "of it"}, usage=None))
    assert tap.feed(chunk) is chunk


def test_half_an_event_does_not_pass() -> None:
    tap = tap_of("openai_chat")
    assert tap.feed(b'data: {"choices"') == b""
    assert tap.feed(b":[]}\n") == b""
    assert tap.feed(b"\ndata: ") == b'data: {"choices":[]}\n\n'


def test_an_end_inside_the_text_of_the_model_is_no_end() -> None:
    tap = tap_of("anthropic_messages")
    text = {"type": "content_block_delta", "delta": {"text": 'event: message_stop\n\ndata: {"type":"message_stop"}'}}
    stream = p.sse(text, named=True)
    assert tap.feed(stream) == stream
    assert not tap._reader.ended


@pytest.mark.parametrize(
    ("tail", "whole"),
    [(b"data: [DONE]\n", True), (b"data: [DONE]", True), (b"data: [DON", False), (b'data: {"choices":[]}', False)],
)
def test_a_stream_that_ends_without_its_blank_line_is_held_and_judged_by_its_last_event(
    tail: bytes, whole: bool
) -> None:
    tap = tap_of("openai_chat")
    assert play(tap, [b"data: {}\n\n", tail]) == (b"data: {}\n\n", tail)
    assert tap._reader.ended is whole


def test_a_stream_without_a_terminal_event_has_not_ended() -> None:
    tap = tap_of("openai_chat")
    stream = p.sse(p.chat_chunk({"content": "x"}))
    assert play(tap, [stream]) == (stream, b"")
    assert not tap._reader.ended


def test_a_byte_order_mark_counts_only_at_the_start() -> None:
    tap = tap_of("openai_chat")
    assert play(tap, [b"\xef", b"\xbb\xbfdata: [DONE]\n\n"]) == (b"", b"\xef\xbb\xbfdata: [DONE]\n\n")
    later = tap_of("openai_chat")
    play(later, [b"data: {}\n\n\xef\xbb\xbfdata: [DONE]\n\n"])
    assert not later._reader.ended


def test_data_on_several_lines_is_one_value() -> None:
    tap = tap_of("anthropic_messages")
    assert play(tap, [b'event: x\ndata: {"type":\ndata:  "message_stop"}\n\n'])[0] == b""
    assert tap._reader.ended


@pytest.mark.parametrize(
    "chunks", [[b"data: " + b"x" * 200 + b"\n\n"], [b"data: ", b"x" * 60, b"x" * 60], [b"\xff" * 101]]
)
def test_an_event_above_the_cap_raises(chunks: list[bytes]) -> None:
    tap = tap_of("openai_chat", cap_bytes=100)
    with pytest.raises(ClawproxyError, match="too large"):
        play(tap, chunks)


def test_many_small_events_above_the_cap_pass() -> None:
    tap = tap_of("openai_chat", cap_bytes=100)
    assert tap.feed(b"data: {}\n\n" * 50) == b"data: {}\n\n" * 50


def test_what_follows_the_end_is_held_hashed_and_bounded() -> None:
    tap = tap_of("openai_chat", cap_bytes=100)
    assert play(tap, [p.DONE + b"data: 1\n\n", b"data: 2\n\n"]) == (b"", p.DONE + b"data: 1\n\ndata: 2\n\n")
    assert tap.seen_bytes == len(p.DONE) + 18
    with pytest.raises(ClawproxyError, match="too large"):
        tap.feed(b"x" * 100)


def test_the_clock_is_asked_once() -> None:
    clock = Clock()
    tap = StreamTap(FLOW, FORMATS["openai_chat"].new_reader(), SseFraming(), b"", 1_000, clock)
    play(tap, [b"data: {}\n\n"] * 9)
    assert (tap.first_byte_ms, clock.asked) == (1, 1)


@given(
    cuts=st.lists(st.integers(0, 500), max_size=8),
    place=st.sampled_from([b"data: %s\n\n", b": %s\n\n", b"data: [DONE]\n\n%s"]),
)
def test_an_echoed_credential_does_not_leave(cuts: list[int], place: bytes) -> None:
    secret = b"sk-provider-0123"
    stream = b"data: a\n\n" + place % secret + b"\n\n"
    tap = tap_of("openai_chat", secret)
    chunks = split(stream, cuts) if not place.endswith(b"%s") else [stream]
    left, held = play(tap, chunks)
    assert secret not in left + held
    assert (left + held).replace(REDACTED, secret) == stream
    assert tap.digest_b64u == b64u_encode(hashlib.sha256(stream).digest())
