"""The agent of the demo: the real ``openai`` and ``anthropic`` packages, through both of the gateway's listeners."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

from .demo_stage import MODELS, Stage

OPENAI_MODEL, ANTHROPIC_MODEL = MODELS
_LOOKUP = "get_ticket"
_SHELL = "bash"
_CHAT_LOOKUP: Any = {"type": "function", "function": {"name": _LOOKUP, "parameters": {"type": "object"}}}
_CHAT_SHELL: Any = {"type": "function", "function": {"name": _SHELL, "parameters": {"type": "object"}}}
_MESSAGES_LOOKUP: Any = {"name": _LOOKUP, "description": "reads a ticket", "input_schema": {"type": "object"}}
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What the agent saw of a call: ``allowed`` or the reason code, and the receipt's id as the answer named it."""

    outcome: str
    receipt_id: str
    shown: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One call of the story and how it must end."""

    title: str
    way: str
    expected: str
    play: Callable[[], Seen]


def _say(text: str) -> Any:
    return [{"role": "user", "content": text}]


class Agent:
    """SDK clients for one stage. ``proxy`` clients speak to the providers' own names; the others use the base URL."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._trust = ssl.create_default_context(cafile=stage.ca_file)

    def openai(self, token: str, *, proxy: bool = False) -> openai.OpenAI:
        if not proxy:
            http = openai.DefaultHttpxClient(trust_env=False)
            url = f"{self._stage.reverse}/openai/v1"
            return openai.OpenAI(api_key=token, base_url=url, http_client=http, max_retries=0, timeout=_TIMEOUT_S)
        address = self._stage.regular.replace("://", f"://job:{token}@")
        http = openai.DefaultHttpxClient(proxy=address, verify=self._trust, trust_env=False)
        return openai.OpenAI(
            api_key="sk-the-agents-own-key",
            base_url="https://api.openai.com/v1",
            http_client=http,
            max_retries=0,
            timeout=_TIMEOUT_S,
        )

    def anthropic(self, token: str, *, proxy: bool = False) -> anthropic.Anthropic:
        if not proxy:
            http = anthropic.DefaultHttpxClient(trust_env=False)
            url = f"{self._stage.reverse}/anthropic"
            return anthropic.Anthropic(api_key=token, base_url=url, http_client=http, max_retries=0, timeout=_TIMEOUT_S)
        address = self._stage.regular.replace("://", f"://job:{token}@")
        http = anthropic.DefaultHttpxClient(proxy=address, verify=self._trust, trust_env=False)
        return anthropic.Anthropic(
            api_key="sk-the-agents-own-key",
            base_url="https://api.anthropic.com",
            http_client=http,
            max_retries=0,
            timeout=_TIMEOUT_S,
        )


def _chat(client: openai.OpenAI, text: str, *, model: str = OPENAI_MODEL, tools: Any = openai.NOT_GIVEN) -> Seen:
    def call() -> tuple[str, str]:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=_say(text), tools=tools)
        answer = raw.parse()
        called = [call.function.name for call in answer.choices[0].message.tool_calls or () if call.type == "function"]
        tokens = answer.usage.completion_tokens if answer.usage else 0
        return _id(raw.headers), f"calls {called[0]}" if called else f"text, {tokens} tokens"

    return _play(client, call)


def _chat_stream(client: openai.OpenAI, text: str) -> Seen:
    def call() -> tuple[str, str]:
        with client.chat.completions.with_streaming_response.create(
            model=OPENAI_MODEL, messages=_say(text), stream=True, stream_options={"include_usage": True}
        ) as raw:
            chunks = list(raw.parse())
            usage = chunks[-1].usage
            return _id(raw.headers), f"{len(chunks)} events, {usage.completion_tokens if usage else 0} tokens"

    return _play(client, call)


def _responses_stream(client: openai.OpenAI, text: str) -> Seen:
    def call() -> tuple[str, str]:
        with client.responses.with_streaming_response.create(model=OPENAI_MODEL, input=text, stream=True) as raw:
            kinds = [event.type for event in raw.parse()]
            return _id(raw.headers), f"{len(kinds)} events, the last {kinds[-1]}"

    return _play(client, call)


def _messages(client: anthropic.Anthropic, text: str, *, tools: Any = anthropic.NOT_GIVEN) -> Seen:
    def call() -> tuple[str, str]:
        raw = client.messages.with_raw_response.create(
            model=ANTHROPIC_MODEL, max_tokens=64, messages=_say(text), tools=tools
        )
        answer = raw.parse()
        return _id(raw.headers), f"{answer.stop_reason}, {answer.usage.output_tokens} tokens"

    return _play(client, call)


def _messages_stream(client: anthropic.Anthropic, text: str) -> Seen:
    def call() -> tuple[str, str]:
        with client.messages.stream(
            model=ANTHROPIC_MODEL, max_tokens=64, messages=_say(text), tools=[_MESSAGES_LOOKUP]
        ) as stream:
            final = stream.get_final_message()
            called = [block.name for block in final.content if block.type == "tool_use"]
            return _id(stream.response.headers), f"streams a call of {', '.join(called)}"

    return _play(client, call)


def _files(client: openai.OpenAI) -> Seen:
    def call() -> tuple[str, str]:
        client.files.list()
        return "", "a list of files"

    return _play(client, call)


def _play(client: openai.OpenAI | anthropic.Anthropic, call: Callable[[], tuple[str, str]]) -> Seen:
    with client:
        try:
            receipt_id, shown = call()
        except (openai.APIStatusError, anthropic.APIStatusError) as err:
            headers = err.response.headers
            reason = headers.get("x-clawproxy-reason", "an error that is not the gateway's")
            return Seen(reason, _id(headers), f"{type(err).__name__} {err.status_code}")
        except (openai.APIError, anthropic.APIError) as err:
            return Seen("no answer", "", f"{type(err).__name__}: {err}")
    return Seen("allowed", receipt_id, shown)


def _id(headers: Any) -> str:
    return str(headers.get("x-clawproxy-receipt-id", ""))


def story(stage: Stage) -> list[Scene]:
    """The calls of the demo, in order."""
    agent, token = Agent(stage), stage.token()
    expired = stage.token(age_s=3600)
    elsewhere = stage.token(policy_hash=stage.other_policy_hash)
    base, proxy = "base URL", "HTTPS_PROXY"
    return [
        Scene("OpenAI chat", base, "allowed", lambda: _chat(agent.openai(token), "hello")),
        Scene("OpenAI chat, streamed", proxy, "allowed", lambda: _chat_stream(agent.openai(token, proxy=True), "hi")),
        Scene("OpenAI responses, streamed", base, "allowed", lambda: _responses_stream(agent.openai(token), "hi")),
        Scene("Anthropic message", proxy, "allowed", lambda: _messages(agent.anthropic(token, proxy=True), "hello")),
        Scene(
            "an allowed tool, called",
            base,
            "allowed",
            lambda: _chat(agent.openai(token), f"call the tool {_LOOKUP}", tools=[_CHAT_LOOKUP]),
        ),
        Scene(
            "an allowed tool, called in a stream",
            proxy,
            "allowed",
            lambda: _messages_stream(agent.anthropic(token, proxy=True), f"call the tool {_LOOKUP}"),
        ),
        Scene(
            "a model that the contract does not have",
            base,
            "POLICY_MODEL_NOT_ALLOWED",
            lambda: _chat(agent.openai(token), "hello", model="gpt-5-pro"),
        ),
        Scene(
            "a tool that the contract denies",
            proxy,
            "POLICY_TOOL_DENIED",
            lambda: _chat(agent.openai(token, proxy=True), "hello", tools=[_CHAT_LOOKUP, _CHAT_SHELL]),
        ),
        Scene("no token", base, "TOKEN_REQUIRED", lambda: _chat(agent.openai("sk-the-agents-own-key"), "hello")),
        Scene("an expired token", base, "TOKEN_EXPIRED", lambda: _messages(agent.anthropic(expired), "hello")),
        Scene(
            "a token pinned to another contract",
            base,
            "POLICY_HASH_MISMATCH",
            lambda: _chat(agent.openai(elsewhere), "hello"),
        ),
        Scene("an unknown route", base, "ROUTE_NOT_FOUND", lambda: _files(agent.openai(token))),
    ]
