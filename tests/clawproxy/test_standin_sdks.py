"""The provider stand-in, spoken to by the real SDKs of every provider: plain, streamed, with tools."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import boto3
import ollama
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import types as genai_types

from .standin_process import Provider, running_standin

MODEL = "anthropic.claude-sonnet-5-5-20260101-v1:0"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}}
ARGUMENTS = {"query": "stand-in"}
CHAT_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("lookup", "ticket_read")
]
FAL_AGENT = """
import fal_client, sys
answer = fal_client.run("openrouter/router", arguments={"prompt": "hello", "model": "google/gemini-2.5-flash"})
print(answer["output"], answer["usage"]["completion_tokens"])
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("standin")) as running:
        yield running


@pytest.fixture(scope="module")
def trust(provider: Provider) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=provider.ca)


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


def openai_at(provider: Provider, trust: ssl.SSLContext, path: str, key: str, **more: Any) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(verify=trust, trust_env=False)
    base: dict[str, Any] = {"base_url": provider.url + path, "api_key": key, "http_client": http, "max_retries": 0}
    return openai.OpenAI(**(base | more))


def names_of(completion: Any) -> list[str]:
    return [call.function.name for call in completion.choices[0].message.tool_calls]


def streamed_calls(chunks: Any) -> dict[int, tuple[str, Any]]:
    """Names and arguments by index, put together from the deltas."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for chunk in chunks:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            names.setdefault(call.index, call.function.name)
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    return {index: (name, json.loads(arguments[index])) for index, name in names.items()}


# -- OpenAI and what speaks its chat format ----------------------------------------------------------------------


def test_openai_models_and_embeddings(provider: Provider, trust: ssl.SSLContext) -> None:
    client = openai_at(provider, trust, "/v1", provider.key("openai"))
    assert "gpt-4o-mini" in [model.id for model in client.models.list()]
    packed = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    plain = client.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
    assert [row.embedding for row in packed.data] == [plain.data[0].embedding] * 2
    assert packed.usage.prompt_tokens > 0


def test_openai_calls_two_tools_at_once_in_json_and_in_streams(provider: Provider, trust: ssl.SSLContext) -> None:
    client = openai_at(provider, trust, "/v1", provider.key("openai"))
    chat: Any = client.chat.completions
    both = chat.create(model="m", messages=say("two-tools"), tools=CHAT_TOOLS)
    assert names_of(both) == ["lookup", "ticket_read"]
    chunks = chat.create(model="m", messages=say("two-tools"), tools=CHAT_TOOLS, stream=True)
    assert streamed_calls(chunks) == {0: ("lookup", ARGUMENTS), 1: ("ticket_read", ARGUMENTS)}
    tools: Any = [{"type": "function", "name": "lookup", "parameters": SCHEMA, "strict": False}]
    with client.responses.stream(model="m", input="tool:lookup tool:shell two-tools", tools=tools) as stream:
        final = stream.get_final_response()
    assert [item.name for item in final.output if item.type == "function_call"] == ["lookup", "shell"]


def test_openai_reads_cached_and_reasoning_tokens(provider: Provider, trust: ssl.SSLContext) -> None:
    client = openai_at(provider, trust, "/v1", provider.key("openai"))
    chat = client.chat.completions.create(model="m", messages=say("cached:30 reasoning:20")).usage
    assert chat is not None
    assert chat.prompt_tokens_details is not None
    assert chat.completion_tokens_details is not None
    assert chat.prompt_tokens_details.cached_tokens == 30
    assert (chat.completion_tokens, chat.completion_tokens_details.reasoning_tokens) == (30, 20)
    responses = client.responses.create(model="m", input="cached:30 reasoning:20").usage
    assert responses is not None
    assert responses.input_tokens_details.cached_tokens == 30
    assert (responses.output_tokens, responses.output_tokens_details.reasoning_tokens) == (30, 20)


@pytest.mark.parametrize(
    ("key", "path", "headers"),
    [
        ("openrouter", "/api/v1", {}),
        ("fal", "/openrouter/router/openai/v1", {"Authorization": "Key "}),
    ],
)
def test_openrouter_and_fal_answer_stream_and_call_tools_with_a_cost(
    provider: Provider, trust: ssl.SSLContext, key: str, path: str, headers: dict[str, str]
) -> None:
    headers = {name: value + provider.key(key) for name, value in headers.items()}
    client = openai_at(provider, trust, path, provider.key(key), default_headers=headers)
    chat: Any = client.chat.completions
    plain = chat.create(model="anthropic/claude-sonnet-5.5", messages=say("hello"))
    assert plain.provider == "Stand-in"
    assert plain.usage.cost > 0
    chunks = list(chat.create(model="anthropic/claude-sonnet-5.5", messages=say("hello"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == plain.choices[0].message.content
    assert chunks[-1].usage.cost > 0
    assert names_of(chat.create(model="m", messages=say("use-a-tool"), tools=CHAT_TOOLS)) == ["lookup"]
    assert {(line["provider"], line["credential"]) for line in provider.seen()[-3:]} == {(key, "right")}


def test_fal_responses_and_its_own_route(provider: Provider, trust: ssl.SSLContext) -> None:
    headers = {"Authorization": f"Key {provider.key('fal')}"}
    client = openai_at(provider, trust, "/openrouter/router/openai/v1", "unused", default_headers=headers)
    assert client.responses.create(model="openai/gpt-4o-mini", input="hello").output_text
    env = os.environ | {"FAL_RUN_HOST": provider.url.removeprefix("https://"), "FAL_KEY": provider.key("fal")}
    env |= {"SSL_CERT_FILE": provider.ca, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", FAL_AGENT], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("The stand-in")
    assert done.stdout.split()[-1] == "10"
    assert provider.seen()[-1]["model"] == "google/gemini-2.5-flash"


def test_azure_takes_the_model_from_the_path_and_either_header(provider: Provider, trust: ssl.SSLContext) -> None:
    http = openai.DefaultHttpxClient(verify=trust, trust_env=False)
    azure = openai.AzureOpenAI(
        azure_endpoint=provider.url,
        api_key=provider.key("azure"),
        api_version="2026-01-01",
        http_client=http,
        max_retries=0,
    )
    plain: Any = azure.chat.completions.create(model="my-gpt", messages=say("hello"))
    assert plain.model == "my-gpt"
    assert provider.seen()[-1]["path"].startswith("/openai/deployments/my-gpt/chat/completions")
    assert provider.seen()[-1]["query"] == "api-version=2026-01-01"
    assert provider.seen()[-1]["model"] == "my-gpt"
    chunks: Any = azure.chat.completions.create(
        model="my-gpt", messages=say("use-a-tool"), tools=CHAT_TOOLS, stream=True
    )
    assert streamed_calls(chunks) == {0: ("lookup", ARGUMENTS)}
    assert azure.responses.create(model="my-gpt", input="hello").output_text
    bearer = openai_at(provider, trust, "/openai/v1", provider.key("azure"))
    assert bearer.responses.create(model="my-gpt", input="hello", extra_query={"api-version": "preview"}).output_text
    assert {(line["provider"], line["credential"]) for line in provider.seen()[-4:]} == {("azure", "right")}


# -- Anthropic ---------------------------------------------------------------------------------------------------


def test_anthropic_models_count_and_cached_tokens(provider: Provider, trust: ssl.SSLContext) -> None:
    http = anthropic.DefaultHttpxClient(verify=trust, trust_env=False)
    client = anthropic.Anthropic(
        base_url=provider.url, api_key=provider.key("anthropic"), http_client=http, max_retries=0
    )
    page = client.models.list(limit=1)
    assert (len(page.data), page.has_more) == (1, True)
    assert len(list(client.models.list(limit=2))) == 3
    assert client.messages.count_tokens(model="m", messages=say("hello")).input_tokens > 0
    usage = client.messages.create(model="m", max_tokens=9, messages=say("cached:30 reasoning:20")).usage
    assert (usage.cache_read_input_tokens, usage.output_tokens) == (30, 30)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 20
    tools: Any = [{"name": name, "input_schema": SCHEMA} for name in ("lookup", "ticket_read")]
    with client.messages.stream(model="m", max_tokens=9, messages=say("two-tools"), tools=tools) as stream:
        blocks = stream.get_final_message().content
    assert [(b.name, b.input) for b in blocks if b.type == "tool_use"] == [
        ("lookup", ARGUMENTS),
        ("ticket_read", ARGUMENTS),
    ]


# -- Gemini ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gemini(provider: Provider, trust: ssl.SSLContext) -> genai.Client:
    options = genai_types.HttpOptions(base_url=provider.url, client_args={"verify": trust, "trust_env": False})
    return genai.Client(api_key=provider.key("google"), http_options=options)


def test_gemini_answers_streams_counts_and_lists(provider: Provider, gemini: genai.Client) -> None:
    plain = gemini.models.generate_content(model="gemini-2.5-pro", contents="cached:30 reasoning:20")
    assert plain.text
    assert plain.usage_metadata is not None
    assert plain.usage_metadata.cached_content_token_count == 30
    assert plain.usage_metadata.thoughts_token_count == 20
    assert plain.model_version == "gemini-2.5-pro"
    chunks = list(gemini.models.generate_content_stream(model="gemini-2.5-pro", contents="hello"))
    assert "".join(chunk.text or "" for chunk in chunks) == plain.text
    assert chunks[-1].usage_metadata is not None
    seen = provider.seen()[-1]
    assert (seen["provider"], seen["model"], seen["stream"], seen["query"]) == (
        "google",
        "gemini-2.5-pro",
        True,
        "alt=sse",
    )
    assert gemini.models.count_tokens(model="gemini-2.5-pro", contents="hello").total_tokens
    assert "models/gemini-2.5-pro" in [model.name for model in gemini.models.list()]


def test_gemini_calls_tools_and_takes_their_results(gemini: genai.Client) -> None:
    declared = [genai_types.FunctionDeclaration(name=n, parameters_json_schema=SCHEMA) for n in ("lookup", "other")]
    off = genai_types.AutomaticFunctionCallingConfig(disable=True)
    config = genai_types.GenerateContentConfig(
        tools=[genai_types.Tool(function_declarations=declared)], automatic_function_calling=off
    )
    answer = gemini.models.generate_content(model="m", contents="two-tools", config=config)
    assert [(call.name, call.args) for call in answer.function_calls or []] == [
        ("lookup", ARGUMENTS),
        ("other", ARGUMENTS),
    ]
    assert answer.candidates is not None
    called = answer.candidates[0].content
    assert called is not None
    result = genai_types.Part.from_function_response(name="lookup", response={"found": 42})
    turns: Any = [
        genai_types.UserContent(parts=[genai_types.Part(text="two-tools")]),
        called,
        genai_types.UserContent(parts=[result]),
    ]
    assert gemini.models.generate_content(model="m", contents=turns, config=config).text


# -- Bedrock -----------------------------------------------------------------------------------------------------


def bedrock(provider: Provider, access: str = "", secret: str = "") -> Any:
    right = provider.key("bedrock").partition(":")
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=provider.url,
        verify=provider.ca,
        aws_access_key_id=access or right[0],
        aws_secret_access_key=secret or right[2],
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def test_bedrock_converse_answers_streams_and_calls_tools(provider: Provider) -> None:
    client = bedrock(provider)
    hello = [{"role": "user", "content": [{"text": "hello cached:30"}]}]
    plain = client.converse(modelId=MODEL, messages=hello)
    assert plain["output"]["message"]["content"][0]["text"].startswith("The stand-in")
    assert plain["usage"]["cacheReadInputTokens"] == 30
    assert provider.seen()[-1]["credential"] == "right"
    assert "%3A" in provider.seen()[-1]["path"]
    assert provider.seen()[-1]["model"] == MODEL
    events = list(client.converse_stream(modelId=MODEL, messages=hello)["stream"])
    assert list(events[-2]) == ["messageStop"]
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 10
    tools = {
        "tools": [{"toolSpec": {"name": name, "inputSchema": {"json": SCHEMA}}} for name in ("lookup", "ticket_read")]
    }
    asked = [{"role": "user", "content": [{"text": "two-tools"}]}]
    called = client.converse(modelId=MODEL, messages=asked, toolConfig=tools)
    assert called["stopReason"] == "tool_use"
    assert [part["toolUse"]["name"] for part in called["output"]["message"]["content"]] == ["lookup", "ticket_read"]
    events = list(client.converse_stream(modelId=MODEL, messages=asked, toolConfig=tools)["stream"])
    starts = [event["contentBlockStart"]["start"] for event in events if "contentBlockStart" in event]
    assert [start["toolUse"]["name"] for start in starts] == ["lookup", "ticket_read"]


def test_bedrock_invoke_answers_and_streams(provider: Provider) -> None:
    client = bedrock(provider)
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": say("hello")})
    plain = json.loads(client.invoke_model(modelId=MODEL, body=body)["body"].read())
    assert plain["content"][0]["text"].startswith("The stand-in")
    events = client.invoke_model_with_response_stream(modelId=MODEL, body=body)["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in events]
    assert [chunks[0]["type"], chunks[-1]["type"]] == ["message_start", "message_stop"]
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 10


def test_the_anthropic_sdk_speaks_bedrock_with_an_unencoded_model(provider: Provider, trust: ssl.SSLContext) -> None:
    access, _, secret = provider.key("bedrock").partition(":")
    http = anthropic.DefaultHttpxClient(verify=trust, trust_env=False)
    client = anthropic.AnthropicBedrock(
        aws_access_key=access,
        aws_secret_key=secret,
        aws_region="us-east-1",
        base_url=provider.url,
        http_client=http,
        max_retries=0,
    )
    tools: Any = [{"name": "lookup", "input_schema": SCHEMA}]
    with client.messages.stream(model=MODEL, max_tokens=9, messages=say("use-a-tool"), tools=tools) as stream:
        final = stream.get_final_message()
    assert [block.name for block in final.content if block.type == "tool_use"] == ["lookup"]
    seen = provider.seen()[-1]
    assert (seen["credential"], seen["model"], seen["stream"]) == ("right", MODEL, True)


def test_a_wrong_secret_is_no_signature(provider: Provider) -> None:
    hello = [{"role": "user", "content": [{"text": "hello"}]}]
    with pytest.raises(ClientError, match="the signature is of another request"):
        bedrock(provider, secret="another").converse(modelId=MODEL, messages=hello)
    assert provider.seen()[-1]["credential"] == "wrong"
    with pytest.raises(ClientError, match="unknown access key"):
        bedrock(provider, access="AKIAANOTHER").converse(modelId=MODEL, messages=hello)


# -- Ollama ------------------------------------------------------------------------------------------------------


def test_ollama_answers_streams_and_calls_tools_without_a_credential(provider: Provider, trust: ssl.SSLContext) -> None:
    client: Any = ollama.Client(host=provider.url, verify=trust, trust_env=False)
    plain = client.chat(model="llama3.2", messages=say("hello"))
    lines = list(client.chat(model="llama3.2", messages=say("hello"), stream=True))
    assert "".join(line.message.content for line in lines) == plain.message.content
    assert (lines[-1].done, lines[-1].eval_count) == (True, 10)
    called = client.chat(model="llama3.2", messages=say("two-tools"), tools=CHAT_TOOLS)
    assert [(c.function.name, c.function.arguments) for c in called.message.tool_calls] == [
        ("lookup", ARGUMENTS),
        ("ticket_read", ARGUMENTS),
    ]
    streamed = list(client.chat(model="llama3.2", messages=say("use-a-tool"), tools=CHAT_TOOLS, stream=True))
    assert streamed[0].message.tool_calls[0].function.name == "lookup"
    assert client.generate(model="llama3.2", prompt="hello").response == plain.message.content
    assert "".join(line.response for line in client.generate(model="m", prompt="hello", stream=True))
    assert len(client.embed(model="m", input=["a", "b"]).embeddings) == 2
    assert client.list().models[0].model == "llama3.2:latest"
    assert client.show("llama3.2").capabilities == ["completion", "tools"]
    assert {(line["provider"], line["credential"]) for line in provider.seen()[-9:]} == {("ollama", "none")}


# -- litellm -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def litellm() -> ModuleType:
    """Imported late, since it is slow and fetches a price list unless told not to."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    return litellm


@pytest.fixture(scope="module")
def plain_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("plain"), "--plain") as running:
        yield running


@pytest.mark.parametrize(
    ("model", "key", "path"),
    [
        ("openai/gpt-4o-mini", "openai", "/v1"),
        ("anthropic/claude-sonnet-5-5", "anthropic", ""),
        ("gemini/gemini-2.5-pro", "google", "/v1beta"),
        ("openrouter/openai/gpt-4o-mini", "openrouter", "/api/v1"),
        ("ollama_chat/llama3.2", "", ""),
    ],
)
def test_litellm_answers_streams_and_calls_tools(
    litellm: Any, plain_provider: Provider, model: str, key: str, path: str
) -> None:
    base = {"model": model, "api_base": plain_provider.url + path, "max_retries": 0}
    if key:
        base["api_key"] = plain_provider.key(key)
    plain = litellm.completion(**base, messages=say("hello"))
    assert plain.choices[0].message.content.startswith("The stand-in")
    assert plain.usage.completion_tokens == 10
    chunks = list(litellm.completion(**base, messages=say("hello"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == plain.choices[0].message.content
    called = litellm.completion(**base, messages=say("use-a-tool"), tools=CHAT_TOOLS)
    assert names_of(called) == ["lookup"]


def test_certificates_name_every_host(provider: Provider) -> None:
    from cryptography import x509

    pem = (Path(provider.ca).parent / "server.pem").read_bytes()
    leaf = x509.load_pem_x509_certificates(pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"openrouter.ai", "fal.run", "test.openai.azure.com"} <= set(names.get_values_for_type(x509.DNSName))
