"""Rewritten answers, through the real SDKs and their accumulators."""

from __future__ import annotations

import pytest

from .called import STREAMS
from .called.rewriting import REFUSAL, ended_early, rewritten
from .canned_server import canned

sdks = pytest.importorskip("tests.addons.called.sdks")

TEXT = "[the gateway refused this call]"
REPLACED = [
    name
    for name, stream in STREAMS.items()
    if stream.calls
    and stream.closed
    and stream.ended
    and not stream.signed
    and "repeated_with_" not in name
    and stream.content_type != "application/json"  # the SDK asks for events
]
STOPS = {
    "anthropic_messages": "end_turn",
    "bedrock_anthropic": "end_turn",
    "bedrock_converse": "end_turn",
    "gemini": "STOP",
    "ollama_chat": "stop",
    "openai_chat": "stop",
    "openrouter_chat": "stop",
    "openai_responses": "completed",
    "openrouter_responses": "completed",
}
ONE_OF_EACH = [name for name in REPLACED if name.endswith("_after_text")]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_answer_that_is_ended_early_makes_the_sdk_raise_its_usual_error(name: str) -> None:
    stream = STREAMS[name]
    with canned(stream.content_type, ended_early(stream)) as base, pytest.raises(sdks.ERRORS) as raised:
        sdks.DRIVERS[stream.format](base)
    assert REFUSAL.message in str(raised.value)


@pytest.mark.parametrize("name", REPLACED)
def test_the_sdk_sees_the_text_in_place_of_the_calls(name: str) -> None:
    stream = STREAMS[name]
    data = rewritten(stream, TEXT)
    assert data is not None
    with canned(stream.content_type, data) as base:
        made = sdks.DRIVERS[stream.format](base)
    assert made.calls == ()
    assert TEXT in made.text
    assert set(made.stops) == {STOPS[stream.format]}


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_same_stream_without_rewriting_has_the_call(name: str) -> None:
    stream = STREAMS[name]
    with canned(stream.content_type, stream.data) as base:
        assert sdks.DRIVERS[stream.format](base).calls == ("read_file",)


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("anthropic_parallel", ("tool_use",)),
        ("bedrock_anthropic_parallel", ("tool_use",)),
        ("bedrock_converse_parallel", ("tool_use",)),
        ("openai_responses_parallel", ("completed",)),
        ("openai_responses_repeated_in_another_order", ("completed",)),
        ("gemini_interleaved", ("STOP",)),
        ("ollama_interleaved", ("stop",)),
        ("openai_chat_choices_one_after_the_other", ("tool_calls", "stop")),
    ],
)
def test_a_call_that_left_before_stays_and_so_does_the_reason_to_stop(name: str, stops: tuple[str, ...]) -> None:
    stream = STREAMS[name]
    data = rewritten(stream, TEXT, keep=1)
    assert data is not None
    with canned(stream.content_type, data) as base:
        made = sdks.DRIVERS[stream.format](base)
    assert made.calls == (stream.calls[0].name,)
    assert TEXT in made.text
    assert made.stops == stops
