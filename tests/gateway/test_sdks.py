"""The real openai and anthropic packages, through both listeners: answers, streams, tools, refusals they understand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest

from ..clawproxy.standin_process import Provider
from .bed import Bed, running_bed

TICKET_TOOL = {
    "name": "ticket_read",
    "description": "read a ticket",
    "parameters": {"type": "object", "properties": {}},
}
LISTENERS = ("reverse", "regular")


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    async with running_bed(tmp_path / "s", provider) as running:
        yield running


def _http(bed: Bed, listener: str, token: str) -> httpx.Client | None:
    if listener == "reverse":
        return None
    proxy = bed.gateway.addresses["regular"].replace("http://", f"http://job:{token}@")
    return httpx.Client(proxy=proxy, verify=ssl.create_default_context(cafile=bed.gateway.ca_file), trust_env=False)


def _openai(bed: Bed, listener: str, token: str) -> openai.OpenAI:
    http = _http(bed, listener, token)
    if http is None:
        return openai.OpenAI(api_key=token, base_url=bed.gateway.addresses["reverse"] + "/openai/v1")
    return openai.OpenAI(api_key="sk-agents-own", base_url="https://api.openai.com/v1", http_client=http)


def _anthropic(bed: Bed, listener: str, token: str) -> anthropic.Anthropic:
    http: Any = _http(bed, listener, token)
    if http is None:
        return anthropic.Anthropic(api_key=token, base_url=bed.gateway.addresses["reverse"] + "/anthropic")
    return anthropic.Anthropic(api_key="sk-agents-own", base_url="https://api.anthropic.com", http_client=http)


async def _agent[T](work: Callable[[], T]) -> T:
    """SDK calls block, so they run beside the gateway's loop."""
    return await asyncio.to_thread(work)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_openai_chat_answers_streams_and_calls_an_allowed_tool(bed: Bed, listener: str) -> None:
    def agent() -> tuple[str, str, str]:
        with _openai(bed, listener, bed.token()) as client:
            chat: Any = client.chat.completions
            messages = [{"role": "user", "content": "hello events:4"}]
            plain = chat.create(model="gpt-4o-mini", messages=messages)
            chunks = list(
                chat.create(model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True})
            )
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            tool = chat.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "use-a-tool"}],
                tools=[{"type": "function", "function": TICKET_TOOL}],
            )
            return plain.choices[0].message.content, text, tool.choices[0].message.tool_calls[0].function.name

    plain, streamed, tool = await _agent(agent)
    assert plain
    assert streamed
    assert tool == "ticket_read"
    receipts = bed.records("receipt")
    assert [r["metadata"]["clawproxy"]["outcome"] for r in receipts] == ["complete"] * 3
    assert all(r["tokens_input"] > 0 and r["tokens_output"] > 0 for r in receipts)
    assert receipts[2]["metadata"]["clawproxy"]["tool_calls"] == ["ticket_read"]


@pytest.mark.parametrize("listener", LISTENERS)
async def test_openai_responses_answers_and_streams(bed: Bed, listener: str) -> None:
    def agent() -> tuple[str, list[str]]:
        with _openai(bed, listener, bed.token()) as client:
            plain = client.responses.create(model="gpt-4o-mini", input="hello events:4")
            stream = client.responses.create(model="gpt-4o-mini", input="hello events:4", stream=True)
            events: list[str] = [event.type for event in stream]
            return plain.output_text, events

    text, events = await _agent(agent)
    assert text
    assert events[-1] == "response.completed"
    assert [r["metadata"]["clawproxy"]["outcome"] for r in bed.records("receipt")] == ["complete"] * 2
    assert all(r["tokens_output"] > 0 for r in bed.records("receipt"))


@pytest.mark.parametrize("listener", LISTENERS)
async def test_anthropic_messages_answers_streams_and_calls_an_allowed_tool(bed: Bed, listener: str) -> None:
    def agent() -> tuple[str, str, str]:
        with _anthropic(bed, listener, bed.token()) as client:
            messages: Any = client.messages
            base = {"model": "claude-sonnet-5-5", "max_tokens": 100}
            hello = [{"role": "user", "content": "hello events:4"}]
            plain = messages.create(**base, messages=hello)
            with messages.stream(**base, messages=hello) as stream:
                text = "".join(stream.text_stream)
                final = stream.get_final_message()
            tool = messages.create(
                **base,
                messages=[{"role": "user", "content": "use-a-tool"}],
                tools=[{"name": "ticket_read", "input_schema": {"type": "object", "properties": {}}}],
            )
            names = [block.name for block in tool.content if block.type == "tool_use"]
            assert final.stop_reason
            return plain.content[0].text, text, names[0]

    plain, streamed, tool = await _agent(agent)
    assert plain
    assert streamed
    assert tool == "ticket_read"
    receipts = bed.records("receipt")
    assert [r["metadata"]["clawproxy"]["outcome"] for r in receipts] == ["complete"] * 3
    assert all(r["tokens_input"] > 0 and r["tokens_output"] > 0 for r in receipts)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_refusal_is_the_sdks_usual_exception_with_our_words_and_is_not_retried(bed: Bed, listener: str) -> None:
    def agent() -> tuple[str, str, str]:
        old = bed.token(now_s=1_700_000_000)
        with _openai(bed, listener, bed.token()) as client, pytest.raises(openai.PermissionDeniedError) as model:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
        with _openai(bed, listener, old) as client, pytest.raises(openai.AuthenticationError) as expired:
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}])
        with _anthropic(bed, listener, bed.token()) as other, pytest.raises(anthropic.PermissionDeniedError) as tool:
            other.messages.create(
                model="claude-sonnet-5-5",
                max_tokens=10,
                messages=[{"role": "user", "content": "x"}],
                tools=[{"name": "Bash", "input_schema": {"type": "object"}}],
            )
        return str(model.value), str(expired.value), str(tool.value)

    model, expired, tool = await _agent(agent)
    assert "POLICY_MODEL_NOT_ALLOWED" in model
    assert "TOKEN_EXPIRED" in expired
    assert "POLICY_TOOL_DENIED" in tool
    assert len(bed.records("denial")) == 2
    assert len(bed.refusals()) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_the_receipt_is_on_disk_before_the_sdk_sees_the_end(bed: Bed, stream: bool) -> None:
    def agent() -> list[int]:
        written = []
        with _openai(bed, "reverse", bed.token()) as client:
            chat: Any = client.chat.completions
            for _ in range(10):
                answer = chat.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": "hi events:3"}], stream=stream
                )
                if stream:
                    list(answer)
                written.append(len(bed.records("receipt")))
        return written

    assert await _agent(agent) == list(range(1, 11))
