"""Ollama: what its requests ask for, and its lines of answer however they are split."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from clawproxy.addons.stream_tap import REDACTED, StreamTap
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .taps import play

ollama_types = pytest.importorskip("ollama._types")
BODIES: dict[str, dict[str, Any]] = {
    "ollama_chat": {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]},
    "ollama_generate": {"model": "m-1", "prompt": "hi"},
    "ollama_embed": {"model": "m-1", "input": ["hi"]},
    "ollama_show": {"model": "m-1"},
}
EVERY = sorted(BODIES)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"tools": {}}}}}


def read(name: str, /, **more: Any) -> CallFacts:
    return FORMATS[name].read_request(WireRequest({**BODIES[name], **more}, "ollama", "r"))


def refused(name: str, /, **more: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        read(name, **more)
    assert caught.value.reason in ("INVALID_REQUEST", "REQUEST_AMBIGUOUS")
    return str(caught.value)


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_stream_means_a_stream_where_text_is_made(name: str) -> None:
    facts = read(name)
    assert (facts.model, facts.stream) == ("m-1", name in ("ollama_chat", "ollama_generate"))
    assert (facts.tools, facts.provider_state, facts.remote_urls) == ((), (), ())
    if facts.stream:
        assert read(name, stream=False).stream is False
        for value in (None, 0, "false"):
            refused(name, stream=value)


def test_tools_are_read_by_name() -> None:
    assert read("ollama_chat", tools=[TOOL, {"function": {"name": "exec"}}]).tools == ("look", "exec")
    assert read("ollama_chat", tools=None).tools == ()
    for tool in (
        {"type": "web_search"},
        {"type": "function", "name": "look"},
        {"function": {"Name": "look"}},
        {"Function": {"name": "look"}},
        {"function": {"name": "look", "tools": []}},
        {"function": "look"},
        "look",
    ):
        refused("ollama_chat", tools=[tool])
    refused("ollama_generate", tools=[TOOL])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("key", ["Model", "MESSAGES", "mоdel", "name", "tool_choice", "from", "insecure", "path"])
def test_keys_of_another_case_or_call_are_refused(name: str, key: str) -> None:
    refused(name, **{key: "x"})


def test_the_older_word_for_the_model_is_read_where_ollama_reads_it_and_never_beside_the_newer() -> None:
    def shown(**body: Any) -> CallFacts:
        return FORMATS["ollama_show"].read_request(WireRequest(body, "ollama", "r"))

    assert shown(name="m-2", verbose=True).model == "m-2"
    for body in ({"name": "m-2", "model": "m-2"}, {"name": ["m-2"]}, {"name": ""}, {"Name": "m-2"}):
        with pytest.raises(ClawproxyError):
            shown(**body)
    refused("ollama_chat", name="m-2")


def test_messages_have_known_keys_only() -> None:
    calls = [{"id": "c", "function": {"name": "look", "index": 0, "arguments": {"tools": [1], "Model": "x"}}}]
    history = [{"role": "assistant", "content": "", "tool_calls": calls}, {"role": "tool", "tool_name": "look"}]
    assert read("ollama_chat", messages=history).tools == ()
    for message in (
        {"role": "user", "Content": "x"},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "tools": []},
        {"role": "assistant", "tool_calls": [{"Function": {}}]},
        {"role": "assistant", "tool_calls": [{"function": {"NAME": "x"}}]},
        {"role": "assistant", "tool_calls": ["x"]},
        {"role": "user", "images": "aGk="},
        "hi",
    ):
        refused("ollama_chat", messages=[message])


def test_an_image_that_is_not_in_the_request_is_a_url() -> None:
    for name, more in (
        ("ollama_generate", lambda image: {"images": [image]}),
        ("ollama_chat", lambda image: {"messages": [{"role": "user", "images": ["aGk=", image]}]}),
    ):
        assert read(name, **more("/9j/4AAQ")).remote_urls == ()
        assert read(name, **more("https://a.example/x.png")).remote_urls == ("images",)
        assert read(name, **more("file:///etc/passwd")).remote_urls == ("images",)
        refused(name, **more(5))


def test_tokens_of_an_earlier_answer_cannot_be_read() -> None:
    assert read("ollama_generate", context=[1, 2, 3]).provider_state == ("context",)
    assert read("ollama_generate", prompt="x", system="s", template="{{ .Prompt }}", raw=True).provider_state == ()
    for key in ("prompt", "system", "template", "suffix"):
        refused("ollama_generate", **{key: ["x"]})


def test_the_bound_of_the_output_stands_in_the_options() -> None:
    assert read("ollama_chat", options={"num_predict": 9}).max_output_tokens == 9
    for unbound in (-1, -2, None):
        assert read("ollama_chat", options={"num_predict": unbound}).max_output_tokens is None
    options: Any
    for options in ({"num_predict": "9"}, {"num_predict": True}, {"Num_Predict": 9}, [], "x", {"tools": []}):
        refused("ollama_chat", options=options)


def test_a_schema_may_speak_of_tools() -> None:
    read("ollama_chat", format={"type": "object", "properties": {"tools": {}, "model": {"type": "string"}}})


@pytest.mark.parametrize(
    ("name", "request_type"),
    [
        ("ollama_chat", "ChatRequest"),
        ("ollama_generate", "GenerateRequest"),
        ("ollama_embed", "EmbedRequest"),
        ("ollama_embed", "EmbeddingsRequest"),
        ("ollama_show", "ShowRequest"),
    ],
)
def test_every_key_of_the_sdk_is_known(name: str, request_type: str) -> None:
    for key in set(getattr(ollama_types, request_type).model_fields) - set(BODIES[name]) - {"stream", "input"}:
        read(name, **{key: None})
    for option in set(ollama_types.Options.model_fields):
        read("ollama_chat", options={option: None})


# -- answers -------------------------------------------------------------------------------------------------------


def line(**more: Any) -> bytes:
    return orjson.dumps({"model": "m-1:latest", "created_at": "2026-01-01T00:00:00Z", **more}) + b"\n"


def call(name: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {"done": True, "q": "\n"}}}


LAST = line(
    message={"role": "assistant", "content": ""}, done=True, done_reason="stop", prompt_eval_count=31, eval_count=7
)
STREAM = b"".join(
    [
        line(message={"role": "assistant", "content": 'say "done": true'}, done=False),
        b"\r\n",
        line(message={"role": "assistant", "content": "", "tool_calls": [call("look")]}, done=False),
        line(message={"role": "assistant", "content": "", "tool_calls": [call("look"), call("exec")]}, done=False),
        LAST,
    ]
)


def run(chunks: list[bytes], secret: bytes = b"") -> tuple[bytes, bytes, StreamTap]:
    form = FORMATS["ollama_chat"]
    framing = form.framing("application/x-ndjson", stream=True)
    assert framing is not None
    tap = StreamTap(None, form.new_reader(), framing, secret, 0, lambda: 1)  # type: ignore[arg-type]
    return (*play(tap, chunks), tap)


def told(tap: StreamTap) -> tuple[object, ...]:
    reader = tap._reader
    usage = reader.tokens_input, reader.tokens_output, reader.usage_known
    return (*usage, reader.model, reader.tool_calls, reader.ended, reader.failed, tap.digest_b64u)


def test_the_last_line_waits() -> None:
    left, held, tap = run([STREAM])
    assert (left + held, held) == (STREAM, LAST)
    assert told(tap)[:-1] == (31, 7, True, "m-1:latest", ("look", "look", "exec"), True, False)


def test_a_last_line_without_a_line_end_is_the_end_as_well() -> None:
    left, held, tap = run([STREAM.rstrip(b"\n")])
    assert (left + held, told(tap)[5]) == (STREAM.rstrip(b"\n"), True)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_chunks_make_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    left, held, tap = run([STREAM[a:b] for a, b in itertools.pairwise(places)])
    assert (left + held, held, told(tap)) == (STREAM, LAST, told(run([STREAM])[2]))


def test_an_error_line_is_a_failed_end_and_a_stream_without_end_is_none() -> None:
    tap = run([line(message={}, done=False), b'{"error":"out of memory"}\n'])[2]
    assert told(tap)[5:7] == (True, True)
    assert told(run([STREAM.removesuffix(LAST)])[2])[5] is False


def test_an_echoed_credential_is_replaced_in_lines() -> None:
    left, _, _ = run([line(message={"content": "the key is sk-secret"}, done=False), LAST], b"sk-secret")
    assert b"sk-secret" not in left
    assert REDACTED in left


def test_whole_answers_are_read() -> None:
    reader = FORMATS["ollama_chat"].new_reader()
    reader.read_json(LAST)
    assert (reader.tokens_input, reader.tokens_output, reader.model, reader.ended) == (31, 7, "m-1:latest", True)
    reader = FORMATS["ollama_embed"].new_reader()
    reader.read_json(orjson.dumps({"model": "e", "embeddings": [[0.1]], "prompt_eval_count": 4}))
    assert (reader.tokens_input, reader.tokens_output, reader.usage_known) == (4, 0, True)
    reader = FORMATS["ollama_show"].new_reader()
    reader.read_json(orjson.dumps({"license": "x", "details": {}, "model_info": {}}))
    assert (reader.usage_known, reader.ended, reader.failed) == (False, True, False)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "glm-4.6:cloud", "Kimi-K2:1T-CLOUD", "x:cloud@sha256"])
def test_a_model_that_runs_in_ollamas_cloud_must_be_allowed_by_its_very_name(name: str, model: str) -> None:
    assert read(name, model=model).is_router
    for local in ("m-1", "cloudy:7b", "nimbus/cloud2:7b", "my-cloud:7b", "m:cloud2"):
        assert not read(name, model=local).is_router
