"""The provider stand-in, spoken to by the real SDKs."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawproxy.standin.formats import read_ask, stream_answer
from clawproxy.standin.steering import parse_steering

from .standin_process import Provider, running_standin

CHAT_TOOL: Any = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}
MESSAGES_TOOL: Any = {"name": "lookup", "input_schema": {"type": "object"}}
RESPONSES_TOOL: Any = {"type": "function", "name": "lookup", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("standin")) as running:
        yield running


@pytest.fixture(scope="module")
def openai_client(provider: Provider) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False)
    return openai.OpenAI(base_url=provider.url + "/v1", api_key=provider.key("openai"), http_client=http, max_retries=0)


@pytest.fixture(scope="module")
def anthropic_client(provider: Provider) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False)
    return anthropic.Anthropic(
        base_url=provider.url, api_key=provider.key("anthropic"), http_client=http, max_retries=0
    )


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_openai_chat_answers_with_usage(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="gpt-4o-mini", messages=say("hello"))
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10


def test_openai_chat_streams_usage_when_asked(openai_client: openai.OpenAI) -> None:
    chunks = list(
        openai_client.chat.completions.create(
            model="gpt-4o-mini", messages=say("hello"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).startswith("The stand-in")
    assert chunks[-1].usage is not None


def test_openai_chat_calls_the_tool_that_the_prompt_names(openai_client: openai.OpenAI) -> None:
    for stream in (False, True):
        if stream:
            chunks = openai_client.chat.completions.create(
                model="m", messages=say("call the tool lookup."), tools=[CHAT_TOOL], stream=True
            )
            calls = [call for c in chunks if c.choices for call in c.choices[0].delta.tool_calls or []]
            names = [call.function.name for call in calls if call.function and call.function.name]
            arguments = "".join(call.function.arguments or "" for call in calls if call.function)
        else:
            answer = openai_client.chat.completions.create(
                model="m", messages=say("call the tool lookup."), tools=[CHAT_TOOL]
            )
            found: Any = answer.choices[0].message.tool_calls
            names, arguments = [found[0].function.name], found[0].function.arguments
        assert names == ["lookup"]
        assert json.loads(arguments) == {"query": "stand-in"}


def test_after_a_tool_result_the_answer_is_text(openai_client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
    turns: Any = [
        *say("use-a-tool"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    answer = openai_client.chat.completions.create(model="m", messages=turns, tools=[CHAT_TOOL])
    assert answer.choices[0].message.content


def test_openai_responses_answers_and_streams(openai_client: openai.OpenAI) -> None:
    answer = openai_client.responses.create(model="gpt-4o-mini", input="hello")
    assert answer.output_text.startswith("The stand-in")
    with openai_client.responses.stream(model="gpt-4o-mini", input="hello") as stream:
        final = stream.get_final_response()
    assert final.output_text == answer.output_text
    assert final.usage is not None
    called = openai_client.responses.create(model="m", input="use-a-tool", tools=[RESPONSES_TOOL])
    assert called.output[0].type == "function_call"
    assert called.output[0].name == "lookup"


def test_anthropic_messages_answers_and_streams(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(model="claude-opus-5-5", max_tokens=64, messages=say("hello"))
    assert answer.content[0].type == "text"
    assert answer.usage.output_tokens == 10
    with anthropic_client.messages.stream(
        model="claude-opus-5-5", max_tokens=64, messages=say("use-a-tool"), tools=[MESSAGES_TOOL]
    ) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[0].type == "tool_use"
    assert final.content[0].input == {"query": "stand-in"}


def test_faults_reach_the_sdk_as_faults(openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic) -> None:
    with pytest.raises(openai.InternalServerError):
        openai_client.chat.completions.create(model="m", messages=say("status:500"))
    with pytest.raises(openai.APIConnectionError):
        openai_client.chat.completions.create(model="m", messages=say("die-before-answer"))
    for prompt in ("die-mid-stream", "short-body"):
        with pytest.raises(openai.APIConnectionError):
            openai_client.chat.completions.create(model="m", messages=say(prompt))
    with pytest.raises((httpx2.TransportError, openai.APIConnectionError)):
        list(openai_client.chat.completions.create(model="m", messages=say("die-mid-stream"), stream=True))
    with pytest.raises(anthropic.RateLimitError):
        anthropic_client.messages.create(model="m", max_tokens=9, messages=say("status:429"))


def test_no_terminal_ends_cleanly_without_the_last_event(provider: Provider) -> None:
    text = post(provider, {"model": "m", "stream": True, "messages": say("no-terminal events:3")}).text
    assert text.count("data: ") == 5
    assert "[DONE]" not in text


def test_drip_gives_the_same_bytes_slowly(provider: Provider) -> None:
    quick = post(provider, {"model": "m", "stream": True, "messages": say("events:2")}).text
    slow = post(provider, {"model": "m", "stream": True, "messages": say("events:2 drip")}).text
    assert len(slow) == len(quick)


def post(provider: Provider, body: Any, **headers: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {provider.key('openai')}"} | headers
    with httpx2.Client(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False) as client:
        return client.post(provider.url + "/v1/chat/completions", json=body, headers=headers)


def test_without_the_credential_it_answers_401_and_says_so_in_the_record(provider: Provider) -> None:
    assert post(provider, {"model": "m"}, authorization="Bearer wrong").status_code == 401
    assert provider.seen()[-1]["credential"] == "wrong"
    assert post(provider, {"model": "m"}, authorization="").status_code == 401
    assert provider.seen()[-1]["credential"] == "none"


def test_the_record_names_body_hash_and_every_leak(provider: Provider) -> None:
    token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0xx." + "a" * 86
    body = {"model": "m", "messages": say(f"my token is {token}")}
    response = post(provider, body, **{"X-CST": token, "proxy-authorization": "Basic x"})
    assert response.status_code == 200
    seen = provider.seen()[-1]
    assert set(seen["leaks"]) == {"x-cst", "proxy-authorization", "x-cst: looks like a JWT", "body: looks like a JWT"}
    digest = base64.urlsafe_b64encode(hashlib.sha256(response.request.content).digest()).decode().rstrip("=")
    assert seen["body_sha256_b64u"] == digest
    assert seen["host"] == provider.url.removeprefix("https://")


def test_the_record_line_is_written_before_the_answer(provider: Provider) -> None:
    before = len(provider.seen())
    with pytest.raises(httpx2.TransportError):
        post(provider, {"model": "m", "messages": say("die-before-answer")})
    assert len(provider.seen()) == before + 1


def test_a_thousand_requests_on_one_connection(tmp_path: Path) -> None:
    with running_standin(tmp_path, "--plain") as provider:
        headers = {"authorization": f"Bearer {provider.key('openai')}"}
        body = {"model": "m", "messages": say("hello")}
        with httpx2.Client(trust_env=False) as client:
            url = provider.url + "/v1/chat/completions"
            statuses = {client.post(url, json=body, headers=headers).status_code for _ in range(1000)}
        assert statuses == {200}
        assert [line["n"] for line in provider.seen()] == list(range(1, 1001))


def test_it_ends_when_its_standard_input_closes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clawproxy.standin", "--dir", str(tmp_path), "--record", str(tmp_path / "r")]
    with subprocess.Popen(
        [*command, "--plain", "--follow-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert json.loads(process.stdout.readline())["ready"] is True
        process.stdin.close()
        assert process.wait(timeout=60) == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "user", "tools", "function", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(kind=st.sampled_from(["chat", "responses", "messages"]), turns=json_values, tools=json_values, text=st.text())
def test_any_body_has_an_answer(kind: str, turns: Any, tools: Any, text: str) -> None:
    body = {"model": "m", "messages": turns, "input": turns, "tools": tools, "stream_options": tools}
    assert stream_answer(read_ask(kind, body, b"x", text, "secret"))


def test_steering_reads_words_and_bounds_numbers() -> None:
    steering = parse_steering("please slow:50 events:3 and call the tool mcp__a__b. then die-mid-stream")
    assert (steering.slow_ms, steering.events, steering.tool) == (50, 3, "mcp__a__b")
    assert steering.words == {"die-mid-stream"}
    assert parse_steering("status:200 nothing-to-see no-terminal-x").words == set()
    assert parse_steering("events:999999").events == 20_000
