"""The tool gate with every real SDK, in streams and whole answers: an allowed call is made and its result goes back, a
denied one is the SDK's usual error, and where the contract says so a text with which the conversation goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import boto3
import ollama
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.exceptions import EventStreamError as AwsStreamError
from google import genai
from google.genai import errors as genai_errors

from ..clawproxy.standin_process import Provider
from .bed import Bed
from .gated_wires import ALLOWED_ARGUMENTS, DENIED, GATED, SCHEMA, function
from .sdk_drivers import BEDROCK_CLAUDE, CHAT_MODEL, CLAUDE, GEMINI, LLAMA
from .test_tool_gate import REFUSING, gated, last, sealed

TOOLS = ("ticket_read", "note_write")
RESULT = "ticket 42 is open"
GO_ON = "what else"


@dataclass
class Said:
    """What the SDK understood: text, calls, why it stopped, and the turn as it stands in the next request."""

    text: str
    calls: list[tuple[str, Any]]
    stop: str
    turn: Any
    result: Any = field(default=None, repr=False)
    """The turn that answers the first call."""


class Sdk:
    """A client of one SDK for one API. ``errors`` are those that it raises, in a stream and of a whole answer."""

    name = ""
    errors: tuple[type[Exception], ...] = ()
    stops: tuple[str, ...] = ()

    def user(self, text: str) -> Any:
        return {"role": "user", "content": text}

    def send(self, turns: list[Any], stream: bool) -> Said:
        raise NotImplementedError


class Chat(Sdk):
    name, errors, stops = "openai-chat", (openai.PermissionDeniedError, openai.APIError), ("stop",)

    def __init__(self, bed: Bed) -> None:
        base = bed.gateway.addresses["reverse"] + "/openai/v1"
        self.client = openai.OpenAI(api_key=bed.token(), base_url=base, max_retries=0)

    def send(self, turns: list[Any], stream: bool) -> Said:
        asked: Any = {"model": CHAT_MODEL, "messages": turns, "tools": [function(name) for name in TOOLS]}
        if stream:
            with self.client.chat.completions.stream(**asked) as events:
                for _ in events:
                    pass
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = self.client.chat.completions.create(**asked).choices[0]
        said = choice.message
        calls = [{"id": c.id, "type": "function", "function": c.function.model_dump(include={"name", "arguments"})}
                 for c in said.tool_calls or []]  # fmt: skip
        turn = {"role": "assistant", "content": said.content} | ({"tool_calls": calls} if calls else {})
        told = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]
        result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": RESULT} if calls else None
        return Said(said.content or "", told, choice.finish_reason, [turn], result)


class Responses(Sdk):
    name, errors, stops = "openai-responses", (openai.PermissionDeniedError, openai.APIError), ("completed",)

    def __init__(self, bed: Bed) -> None:
        base = bed.gateway.addresses["reverse"] + "/openai/v1"
        self.client = openai.OpenAI(api_key=bed.token(), base_url=base, max_retries=0)

    def send(self, turns: list[Any], stream: bool) -> Said:
        tools = [{"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in TOOLS]
        asked: Any = {"model": CHAT_MODEL, "input": turns, "tools": tools, "store": False}
        if stream:
            with self.client.responses.stream(**asked) as events:
                answer: Any = events.get_final_response()
        else:
            answer = self.client.responses.create(**asked)
        turn = [item.model_dump(exclude_none=True, exclude={"parsed_arguments", "parsed"}) for item in answer.output]
        for item in turn:
            for part in item.get("content", []):
                part.pop("parsed", None)
        calls = [item for item in answer.output if item.type == "function_call"]
        told = [(item.name, json.loads(item.arguments)) for item in calls]
        result = {"type": "function_call_output", "call_id": calls[0].call_id, "output": RESULT} if calls else None
        return Said(answer.output_text, told, answer.status, turn, result)


class Messages(Sdk):
    name, errors, stops = "anthropic", (anthropic.PermissionDeniedError, anthropic.APIError), ("end_turn",)
    model = CLAUDE
    client: Any

    def __init__(self, bed: Bed) -> None:
        base = bed.gateway.addresses["reverse"] + "/anthropic"
        self.client = anthropic.Anthropic(api_key=bed.token(), base_url=base, max_retries=0)

    def send(self, turns: list[Any], stream: bool) -> Said:
        tools = [{"name": name, "input_schema": SCHEMA} for name in TOOLS]
        asked: Any = {"model": self.model, "max_tokens": 100, "messages": turns, "tools": tools}
        if stream:
            with self.client.messages.stream(**asked) as events:
                answer = events.get_final_message()
        else:
            answer = self.client.messages.create(**asked)
        keys = {"type", "text", "id", "name", "input"}
        turn = {"role": "assistant", "content": [part.model_dump(include=keys) for part in answer.content]}
        calls = [part for part in answer.content if part.type == "tool_use"]
        told = [(part.name, part.input) for part in calls]
        text = "".join(part.text for part in answer.content if part.type == "text")
        answered = [{"type": "tool_result", "tool_use_id": calls[0].id, "content": RESULT}] if calls else None
        return Said(text, told, answer.stop_reason, [turn], {"role": "user", "content": answered})


class BedrockMessages(Messages):
    name, model = "anthropic-bedrock", BEDROCK_CLAUDE

    def __init__(self, bed: Bed) -> None:
        base, token = bed.gateway.addresses["reverse"] + "/bedrock", bed.token()
        self.client = anthropic.AnthropicBedrock(
            aws_access_key=token, aws_secret_key=token, aws_region="us-east-1", base_url=base, max_retries=0
        )


class Gemini(Sdk):
    name, errors, stops = "google-genai", (genai_errors.ClientError, genai_errors.APIError), ("STOP",)

    def __init__(self, bed: Bed) -> None:
        base: Any = {"base_url": bed.gateway.addresses["reverse"] + "/google"}
        self.client = genai.Client(api_key=bed.token(), http_options=base)

    def user(self, text: str) -> Any:
        return {"role": "user", "parts": [{"text": f"{text} unsigned"}]}

    def send(self, turns: list[Any], stream: bool) -> Said:
        declared = [{"name": name, "parameters_json_schema": SCHEMA} for name in TOOLS]
        config = {
            "tools": [{"function_declarations": declared}],
            "automatic_function_calling": {"disable": True},
        }
        asked: Any = {"model": GEMINI, "contents": turns, "config": config}
        models = self.client.models
        answers = list(models.generate_content_stream(**asked)) if stream else [models.generate_content(**asked)]
        parts = [part for answer in answers for part in (answer.candidates[0].content.parts or [])]  # type: ignore[index,union-attr]
        calls: Any = [part.function_call for part in parts if part.function_call]
        stop = str(answers[-1].candidates[0].finish_reason.value)  # type: ignore[index,union-attr]
        result = None
        if calls:
            part = {"function_response": {"name": calls[0].name, "response": {"found": RESULT}}}
            result = {"role": "user", "parts": [part]}
        text = "".join(part.text or "" for part in parts)
        told = [(call.name, dict(call.args or {})) for call in calls]
        return Said(text, told, stop, [{"role": "model", "parts": parts}], result)


class Converse(Sdk):
    name, errors, stops = "boto3", (ClientError, AwsStreamError, BotoCoreError), ("end_turn",)

    def __init__(self, bed: Bed) -> None:
        self.client: Any = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            aws_access_key_id=bed.token(),
            aws_secret_access_key="x",
            endpoint_url=bed.gateway.addresses["reverse"] + "/bedrock",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def user(self, text: str) -> Any:
        return {"role": "user", "content": [{"text": text}]}

    def send(self, turns: list[Any], stream: bool) -> Said:
        tools = [{"toolSpec": {"name": name, "inputSchema": {"json": SCHEMA}}} for name in TOOLS]
        asked = {"modelId": BEDROCK_CLAUDE, "messages": turns, "toolConfig": {"tools": tools}}
        if stream:
            parts, stop = _joined(self.client.converse_stream(**asked)["stream"])
        else:
            answer = self.client.converse(**asked)
            parts, stop = answer["output"]["message"]["content"], answer["stopReason"]
        calls = [part["toolUse"] for part in parts if "toolUse" in part]
        result = None
        if calls:
            found = {"toolUseId": calls[0]["toolUseId"], "content": [{"text": RESULT}]}
            result = {"role": "user", "content": [{"toolResult": found}]}
        text = "".join(part.get("text", "") for part in parts)
        told = [(call["name"], call["input"]) for call in calls]
        return Said(text, told, stop, [{"role": "assistant", "content": parts}], result)


def _joined(events: Any) -> tuple[list[dict[str, Any]], str]:
    """The blocks of a converse stream, in order."""
    parts: dict[int, dict[str, Any]] = {}
    stop = ""
    for event in events:
        if start := event.get("contentBlockStart"):
            parts[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif delta := event.get("contentBlockDelta"):
            said, index = delta["delta"], delta["contentBlockIndex"]
            if "toolUse" in said:
                parts[index]["toolUse"]["input"] += said["toolUse"]["input"]
            else:
                parts.setdefault(index, {"text": ""})["text"] += said["text"]
        stop = event.get("messageStop", {}).get("stopReason", stop)
    for part in parts.values():
        if "toolUse" in part:
            part["toolUse"]["input"] = json.loads(part["toolUse"]["input"])
    return [part for _, part in sorted(parts.items())], stop


class Ollama(Sdk):
    name, errors, stops = "ollama", (ollama.ResponseError,), ("stop",)

    def __init__(self, bed: Bed) -> None:
        auth = {"authorization": f"Bearer {bed.token()}"}
        self.client: Any = ollama.Client(host=bed.gateway.addresses["reverse"] + "/ollama", headers=auth)

    def send(self, turns: list[Any], stream: bool) -> Said:
        answer = self.client.chat(model=LLAMA, messages=turns, tools=[function(name) for name in TOOLS], stream=stream)
        lines = list(answer) if stream else [answer]
        calls = [call for line in lines for call in line.message.tool_calls or []]
        text = "".join(line.message.content or "" for line in lines)
        turn = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
        told = [(call.function.name, dict(call.function.arguments)) for call in calls]
        result = {"role": "tool", "content": RESULT, "tool_name": told[0][0]} if told else None
        return Said(text, told, lines[-1].done_reason, [turn], result)


KINDS: tuple[Callable[[Bed], Sdk], ...] = (Chat, Responses, Messages, BedrockMessages, Gemini, Converse, Ollama)
each_sdk = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])  # type: ignore[attr-defined]


def _cases() -> Iterator[tuple[bool, str]]:
    return ((stream, name) for stream in (True, False) for name in DENIED)


@each_sdk
async def test_an_allowed_call_is_made_and_its_result_goes_back(
    tmp_path: Path, provider: Provider, kind: Callable[[Bed], Sdk]
) -> None:
    async with gated(tmp_path, provider) as bed:
        sdk = kind(bed)

        def work(stream: bool) -> tuple[Said, Said]:
            first = sdk.user('text-first all-tools tool:ticket_read tool:note_write({"path":"/notes/1"})')
            said = sdk.send([first], stream)
            return said, sdk.send([first, *said.turn, said.result], stream)

        for stream in (True, False):
            said, then = await asyncio.to_thread(work, stream)
            assert said.calls == [("ticket_read", ALLOWED_ARGUMENTS), ("note_write", {"path": "/notes/1"})]
            assert said.text.startswith("The stand-in answers")
            assert (then.calls, then.text[:20]) == ([], "The stand-in answers")
        await bed.settled()
        outcomes = [called["outcome"] for r in bed.records("receipt") for called in _called(r)]
        assert outcomes == ["allowed"] * 4
        await sealed(bed, GATED)


def _called(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    called: list[dict[str, Any]] = receipt["metadata"]["clawproxy"].get("called", [])
    return called


@each_sdk
async def test_a_denied_call_is_the_usual_error_of_the_sdk_and_names_the_rule(
    tmp_path: Path, provider: Provider, kind: Callable[[Bed], Sdk]
) -> None:
    async with gated(tmp_path, provider) as bed:
        sdk = kind(bed)
        for stream, name in _cases():
            words, reason, rule = DENIED[name]
            with pytest.raises(sdk.errors) as caught:
                await asyncio.to_thread(sdk.send, [sdk.user(f"text-first {words}")], stream)
            assert stream or isinstance(caught.value, sdk.errors[0])
            assert reason in str(caught.value), (stream, name)
            assert rule in str(caught.value), (stream, name)
            assert "sesame" not in str(caught.value)
            await bed.settled()
            assert last(bed)["outcome"] == "call_refused"
        await sealed(bed, GATED)


@each_sdk
async def test_a_refused_call_is_a_text_with_which_the_conversation_goes_on(
    tmp_path: Path, provider: Provider, kind: Callable[[Bed], Sdk]
) -> None:
    async with gated(tmp_path, provider, REFUSING) as bed:
        sdk = kind(bed)

        def work(stream: bool, words: str) -> tuple[Said, Said]:
            first = sdk.user(f"text-first {words}")
            said = sdk.send([first], stream)
            turns = [first, *said.turn, *([said.result] if said.calls else []), sdk.user(GO_ON)]
            return said, sdk.send(turns, stream)

        for stream, name in _cases():
            words, reason, rule = DENIED[name]
            said, then = await asyncio.to_thread(work, stream, words)
            assert said.text.startswith("The stand-in answers"), (stream, name)
            assert reason in said.text, (stream, name)
            assert rule in said.text, (stream, name)
            assert "sesame" not in str(said), (stream, name)
            if name != "parallel":
                assert (said.calls, said.stop in sdk.stops) == ([], True), (stream, name, said)
            else:
                assert said.calls in ([], [("ticket_read", ALLOWED_ARGUMENTS)]), (stream, name, said)
            assert then.text.startswith("The stand-in answers")
        await sealed(bed, REFUSING)
