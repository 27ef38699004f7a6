"""What the real SDKs make of a stream: the texts and the calls of its message, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import boto3
import ollama
import openai
from botocore.exceptions import EventStreamError
from google import genai
from google.genai import errors as genai_errors


@dataclass(frozen=True, slots=True)
class Made:
    """``text`` of all blocks, choices or items in order, ``calls`` by name, ``stops`` one for each choice."""

    text: str
    calls: tuple[str, ...]
    stops: tuple[str, ...]


def anthropic_messages(base: str) -> Made:
    client = anthropic.Anthropic(api_key="k", base_url=base, max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        message = stream.get_final_message()
    said = "".join(block.text for block in message.content if block.type == "text")
    calls = tuple(block.name for block in message.content if block.type in ("tool_use", "server_tool_use"))
    return Made(said, calls, (str(message.stop_reason),))


def bedrock_anthropic(base: str) -> Made:
    client = anthropic.AnthropicBedrock(
        aws_access_key="a", aws_secret_key="b", aws_region="us-east-1", base_url=base, max_retries=0
    )
    said, calls, stops = "", [], []
    messages: list[Any] = [{"role": "user", "content": "x"}]
    for event in client.messages.create(model="m", max_tokens=9, messages=messages, stream=True):
        if event.type == "message_start":
            said += "".join(block.text for block in event.message.content if block.type == "text")
        elif event.type == "content_block_start" and event.content_block.type in ("tool_use", "server_tool_use"):
            calls.append(event.content_block.name)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            said += event.delta.text
        elif event.type == "message_delta":
            stops.append(str(event.delta.stop_reason))
    return Made(said, tuple(calls), tuple(stops))


def openai_chat(base: str) -> Made:
    client = openai.OpenAI(api_key="k", base_url=f"{base}/v1", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "x"}]
    with client.chat.completions.stream(model="m", messages=messages) as stream:
        final = stream.get_final_completion()
    said, calls, stops = "", [], []
    for choice in final.choices:
        said += choice.message.content or ""
        calls += [call.function.name for call in choice.message.tool_calls or ()]
        stops.append(choice.finish_reason)
    return Made(said, tuple(calls), tuple(stops))


def openai_responses(base: str) -> Made:
    client = openai.OpenAI(api_key="k", base_url=f"{base}/v1", max_retries=0)
    with client.responses.stream(model="m", input="x") as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    calls = [item.name for item in final.output if item.type in ("function_call", "custom_tool_call", "mcp_call")]
    return Made(final.output_text, tuple(calls), (str(final.status),))


def gemini(base: str) -> Made:
    client = genai.Client(api_key="k", http_options={"base_url": base})
    said, calls, stops = "", [], []
    for chunk in client.models.generate_content_stream(model="m", contents="x"):
        for candidate in chunk.candidates or ():
            for part in (candidate.content and candidate.content.parts) or ():
                said += part.text or ""
                calls += [str(part.function_call.name)] if part.function_call else []
            stops += [candidate.finish_reason.value] if candidate.finish_reason else []
    return Made(said, tuple(calls), tuple(stops))


def bedrock_converse(base: str) -> Made:
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        endpoint_url=base,
    )
    answer = client.converse_stream(modelId="m", messages=[{"role": "user", "content": [{"text": "x"}]}])
    said, calls, stops = "", [], []
    for event in answer["stream"]:
        said += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
        calls += [tool["name"] for tool in event.get("contentBlockStart", {}).get("start", {}).values()]
        stops += [event["messageStop"]["stopReason"]] if "messageStop" in event else []
    return Made(said, tuple(calls), tuple(stops))


def ollama_chat(base: str) -> Made:
    said, calls, stops = "", [], []
    for part in ollama.Client(host=base).chat(model="m", messages=[], stream=True):
        said += part.message.content or ""
        calls += [call.function.name for call in part.message.tool_calls or ()]
        stops += [str(part.done_reason)] if part.done else []
    return Made(said, tuple(calls), tuple(stops))


DRIVERS: Mapping[str, Callable[[str], Made]] = {
    "anthropic_messages": anthropic_messages,
    "bedrock_anthropic": bedrock_anthropic,
    "bedrock_converse": bedrock_converse,
    "gemini": gemini,
    "ollama_chat": ollama_chat,
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "openrouter_chat": openai_chat,
    "openrouter_responses": openai_responses,
}
ERRORS = (anthropic.APIError, openai.APIError, genai_errors.APIError, EventStreamError, ollama.ResponseError)
