"""Tokens of each format, whole and streamed; and what is estimated where the provider gave no figures."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.usage import SAMPLE_BYTES, TokenCounts, count_tokens, estimate_output
from clawproxy.addons.wire.events import SseFraming
from clawproxy.addons.wire.format import FORMATS, ResponseReader
from clawproxy.policies.facts import CallKind
from clawproxy.receipts.calls import Usage
from hypothesis import given
from hypothesis import strategies as st

from . import payloads as p

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 9},
}
RESPONSES_USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 9},
}
ANTHROPIC_INPUT = {"input_tokens": 36, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 4}
ANTHROPIC_OUTPUT = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 9}}
EXPECTED = TokenCounts(Usage.REPORTED, 100, 20, 60, 4, 9)
JSON_ANSWERS: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m", "choices": [], "usage": CHAT_USAGE},
    "openai_responses": {"model": "m", "output": [], "usage": RESPONSES_USAGE},
    "anthropic_messages": {"type": "message", "model": "m", "usage": {**ANTHROPIC_INPUT, **ANTHROPIC_OUTPUT}},
}
STREAMS = {
    "openai_chat": p.sse(p.chat_chunk({"content": "hi"}), p.chat_chunk(usage=CHAT_USAGE), b"data: [DONE]\n\n"),
    "openai_responses": p.sse(
        {"type": "response.created", "response": {"model": "m", "usage": None}},
        {"type": "response.output_text.delta", "delta": "hi"},
        {"type": "response.completed", "response": {"model": "m", "usage": RESPONSES_USAGE}},
        named=True,
    ),
    "anthropic_messages": p.sse(
        {"type": "message_start", "message": {"model": "m", "usage": {**ANTHROPIC_INPUT, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {}, "usage": ANTHROPIC_OUTPUT},
        {"type": "message_stop"},
        named=True,
    ),
}
TEXT = "eight by" * 5
CHAT_TEXT = p.sse(*(p.chat_chunk({"content": "eight by"}) for _ in range(5)))


def stream(name: str, data: bytes, chunk: int = 1 << 20) -> tuple[ResponseReader, StreamTap]:
    reader, flow = FORMATS[name].new_reader(), SimpleNamespace()
    tap = StreamTap(flow, reader, SseFraming(), b"", 0, lambda: 0)  # type: ignore[arg-type]  # the flow is only passed on
    for start in range(0, len(data), chunk):
        tap.feed(data[start : start + chunk])
    tap.close()
    return reader, tap


def counted(name: str, data: bytes, *, status: int = 200, kind: CallKind = CallKind.GENERATE) -> TokenCounts:
    reader, tap = stream(name, data)
    return count_tokens(
        reader, kind, status=status, request_bytes=401, sample=bytes(tap.sample), answer_bytes=tap.seen_bytes
    )


def counted_json(
    name: str, answer: dict[str, Any] | bytes, *, status: int = 200, kind: CallKind = CallKind.GENERATE
) -> TokenCounts:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    reader = FORMATS[name].new_reader()
    reader.read_json(body)
    return count_tokens(
        reader, kind, status=status, request_bytes=401, sample=body[:SAMPLE_BYTES], answer_bytes=len(body)
    )


@pytest.mark.parametrize("name", sorted(JSON_ANSWERS))
def test_a_whole_answer_tells_its_tokens_and_their_parts(name: str) -> None:
    assert counted_json(name, JSON_ANSWERS[name]) == EXPECTED


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_tells_its_tokens_and_their_parts(name: str) -> None:
    assert counted(name, STREAMS[name]) == EXPECTED


@pytest.mark.parametrize("name", sorted(JSON_ANSWERS))
def test_parts_that_are_no_numbers_are_not_taken(name: str) -> None:
    values: list[Any] = [True, -1, 1.5, "9", None, [1], {}]
    for value in values:
        answer = orjson.loads(orjson.dumps(JSON_ANSWERS[name]))
        for key, below in answer["usage"].items():
            if isinstance(below, dict):
                answer["usage"][key] = value if value == {} else dict.fromkeys(below, value)
        for key in ("cache_read_input_tokens", "cache_creation_input_tokens"):
            answer["usage"].pop(key, None)
        told = counted_json(name, answer)
        assert (told.usage, told.cached, told.cache_write, told.reasoning) == (Usage.REPORTED, 0, 0, 0)


def test_thoughts_that_a_server_counts_beside_the_output_are_a_part_of_it() -> None:
    apart = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    told = counted_json("openai_chat", {"usage": apart})
    assert (told.input, told.output, told.reasoning) == (10, 10, 7)


# -- estimates -----------------------------------------------------------------------------------------------------


def test_a_stream_without_usage_is_estimated_from_the_text_and_not_from_its_frames() -> None:
    assert len(CHAT_TEXT) > 10 * len(TEXT)
    told = counted("openai_chat", CHAT_TEXT + b"data: [DONE]\n\n")
    assert told == TokenCounts(Usage.ESTIMATED, 101, 10)  # ceil(401 / 4), and 40 bytes of text


def test_a_whole_answer_without_usage_is_estimated() -> None:
    answer = {"choices": [{"message": {"content": TEXT}}]}
    assert counted_json("openai_chat", answer) == TokenCounts(Usage.ESTIMATED, 101, 10)


def test_what_a_cut_stream_had_told_holds_unless_the_estimate_is_more() -> None:
    start = {"type": "message_start", "message": {"model": "m", "usage": {**ANTHROPIC_INPUT, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    assert counted("anthropic_messages", p.sse(start, delta)) == TokenCounts(Usage.ESTIMATED, 100, 10, 60, 4)
    assert counted("anthropic_messages", p.sse(start)) == TokenCounts(Usage.ESTIMATED, 100, 1, 60, 4)


@pytest.mark.parametrize("kind", [CallKind.LIST, CallKind.COUNT])
def test_lists_and_counts_use_nothing(kind: CallKind) -> None:
    for name, answer in JSON_ANSWERS.items():
        assert counted_json(name, answer, kind=kind) == TokenCounts()


@pytest.mark.parametrize("name", sorted(JSON_ANSWERS))
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_a_provider_that_refuses_uses_nothing(name: str, status: int) -> None:
    assert counted_json(name, {"error": {"message": "later"}}, status=status) == TokenCounts()


def test_an_answer_of_another_status_without_usage_uses_nothing() -> None:
    assert counted_json("openai_chat", b'{"content":"no"}', status=404) == TokenCounts()


def test_what_never_came_uses_nothing() -> None:
    nothing = count_tokens(None, CallKind.GENERATE, status=None, request_bytes=9, sample=b"", answer_bytes=0)
    assert nothing == TokenCounts()


def test_an_answer_that_cannot_be_read_is_estimated() -> None:
    assert counted_json("openai_chat", b"<html>") == TokenCounts(Usage.ESTIMATED, 101, 0)


def test_embeddings_are_no_text() -> None:
    answer = {"data": [{"embedding": "AAAA" * 500}, {"embedding": [0.5] * 90}]}
    assert counted_json("openai_chat", answer, kind=CallKind.EMBED) == TokenCounts(Usage.ESTIMATED, 101, 0)


def test_how_a_stream_is_cut_into_chunks_does_not_change_its_estimate() -> None:
    data = CHAT_TEXT * 40
    estimates = {
        estimate_output(bytes(tap.sample), tap.seen_bytes)
        for chunk in (1, 7, 1000, SAMPLE_BYTES, 1 << 20)
        for _, tap in [stream("openai_chat", data, chunk)]
    }
    assert len(estimates) == 1
    assert abs(estimates.pop() - 400) < 20  # 40 times 40 bytes, from the first 8 KiB


def test_no_more_of_a_stream_is_kept_than_the_sample() -> None:
    _, tap = stream("openai_chat", CHAT_TEXT * 400, 4096)
    assert len(tap.sample) == SAMPLE_BYTES < tap.seen_bytes


def _wrapped(inner: bytes) -> bytes:
    return b'{"bytes":"' + base64.b64encode(b'{"text":"' + inner) + b'"}'


@pytest.mark.parametrize(
    ("sample", "tokens"),
    [
        (b"", 0),
        (rb'{"text": "a\"b\\"}', 2),
        (b'{"partial_json":"cut off by the end', 5),
        (b'{"type":"text","other":"not counted"}', 0),
        (b'"text":"' + b"\\" * 4096, 1024),
    ],
)
def test_text_is_counted_in_a_quarter_of_its_bytes(sample: bytes, tokens: int) -> None:
    assert abs(estimate_output(sample, len(sample)) - tokens) <= (len(sample) > 4000)


def test_text_in_an_event_that_is_wrapped_in_base64_is_counted_wherever_the_sample_ends() -> None:
    inner = b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"' + b"a" * 40 + b'"}}'
    frame = b'\x00\x01{"bytes":"' + base64.b64encode(inner) + b'","p":"abcd"}\xff'
    assert estimate_output(frame, len(frame)) == 10
    assert estimate_output(frame * 3, 3 * len(frame)) == 30
    for cut in range(len(frame)):
        assert estimate_output(frame[:cut], cut) <= 10
    assert estimate_output(b'{"bytes":"not base64 at all"}', 29) == 0


@given(st.binary(max_size=400) | st.binary(max_size=300).map(_wrapped), st.integers(0, 10**9))
def test_any_answer_has_an_estimate_that_is_no_more_than_its_bytes(sample: bytes, answer_bytes: int) -> None:
    assert 0 <= estimate_output(sample, answer_bytes) <= max(answer_bytes, len(sample))
