"""Bedrock, Ollama, fal, OpenRouter and Azure through a whole gateway, by their own packages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from clawproxy.tokens.digests import sha256_b64u

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, running_bed

boto3: Any = pytest.importorskip("boto3")
botocore_config: Any = pytest.importorskip("botocore.config")
ollama: Any = pytest.importorskip("ollama")

CLAUDE = "us.anthropic.claude-sonnet-5-5-v1:0"
BEDROCK_HOST = "bedrock-runtime.us-east-1.amazonaws.com"
LOOK = {"name": "ticket_read", "description": "read a ticket"}
CONTRACT_HERE = {
    **CONTRACT,
    "allowed_providers": ["azure", "bedrock", "fal", "ollama", "openai", "openrouter"],
    "allowed_models": [CLAUDE, "llama3.2", "acme/m", "openrouter/acme/*", "my-deployment", "embed-1"],
}


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    upstreams: dict[str, Any] = {
        name: {"upstream": provider.url, "credential": f"file:{provider.key_files[name]}"}
        for name in ("openai", "openrouter", "fal", "azure", "bedrock")
    }
    upstreams["bedrock"] |= {"region": "us-east-1", "hosts": [BEDROCK_HOST]}
    upstreams["ollama"] = {"upstream": provider.url, "credential": "none"}
    sections = {"providers": upstreams}
    async with running_bed(tmp_path / "s", provider, contract=CONTRACT_HERE, sections=sections) as running:
        yield running


async def _agent[T](work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def _handle(bed: Bed) -> str:
    lease = await bed.gateway.lease(bed.policy_hash, "job-1")
    return lease.handle


def _bedrock(bed: Bed, handle: str, listener: str = "reverse") -> Any:
    """By base URL the handle stands as the access key; through the proxy it is the password, beside keys of its own."""
    proxy = bed.gateway.addresses["regular"].replace("http://", f"http://job:{handle}@")
    where: dict[str, Any] = {"endpoint_url": bed.gateway.addresses["reverse"] + "/bedrock"}
    if listener == "regular":
        where = {"endpoint_url": f"https://{BEDROCK_HOST}", "verify": str(bed.gateway.ca_file)}
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id=handle if listener == "reverse" else "AKIATHEAGENTSOWN",
        aws_secret_access_key="none of ours",
        config=botocore_config.Config(
            retries={"max_attempts": 1}, proxies={"https": proxy} if listener == "regular" else {}
        ),
        **where,
    )


def _receipts(bed: Bed) -> list[dict[str, Any]]:
    return bed.records("receipt")


@pytest.mark.parametrize("listener", ["reverse", "regular"])
async def test_boto3_converses_streams_and_invokes(bed: Bed, listener: str) -> None:
    handle = await _handle(bed)

    def agent() -> tuple[str, list[str], str, list[str]]:
        client = _bedrock(bed, handle, listener)
        said: Any = {"modelId": CLAUDE, "messages": [{"role": "user", "content": [{"text": "hello events:4"}]}]}
        tools = {"tools": [{"toolSpec": {**LOOK, "inputSchema": {"json": {"type": "object"}}}}]}
        plain = client.converse(**said)["output"]["message"]["content"][0]["text"]
        stream = [next(iter(event)) for event in client.converse_stream(**said, toolConfig=tools)["stream"]]
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 99}
        body |= {"messages": [{"role": "user", "content": "hello events:4"}]}
        whole = json.loads(client.invoke_model(modelId=CLAUDE, body=json.dumps(body))["body"].read())
        chunks = client.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(body))["body"]
        kinds = [json.loads(chunk["chunk"]["bytes"])["type"] for chunk in chunks]
        return plain, stream, whole["content"][0]["text"], kinds

    plain, stream, whole, kinds = await _agent(agent)
    assert plain
    assert whole
    assert stream[-2:] == ["messageStop", "metadata"]
    assert kinds[-1] == "message_stop"
    receipts = _receipts(bed)
    assert [r["metadata"]["clawproxy"]["outcome"] for r in receipts] == ["complete"] * 4
    assert all(r["tokens_input"] > 0 and r["tokens_output"] > 0 for r in receipts)
    assert {(r["provider"], r["model"]) for r in receipts} == {("bedrock", CLAUDE)}
    for unseen in (handle, "AKIATHEAGENTSOWN"):
        assert unseen not in bed.provider.record.read_text()


async def test_anthropics_package_speaks_to_bedrock_with_a_handle_as_its_key(bed: Bed) -> None:
    handle = await _handle(bed)

    def agent() -> tuple[str, str]:
        client = anthropic.AnthropicBedrock(
            base_url=bed.gateway.addresses["reverse"] + "/bedrock",
            aws_access_key=handle,
            aws_secret_key="none of ours",
            aws_region="us-east-1",
        )
        said: Any = {"model": CLAUDE, "max_tokens": 99, "messages": [{"role": "user", "content": "hello events:4"}]}
        plain: Any = client.messages.create(**said)
        events = list(client.messages.create(**said, stream=True))
        return plain.content[0].text, events[-1].type

    plain, last = await _agent(agent)
    assert plain
    assert last == "message_stop"
    assert [r["metadata"]["clawproxy"]["stream"] for r in _receipts(bed)] == [False, True]


async def test_boto3_raises_its_own_exception_for_a_refusal(bed: Bed) -> None:
    handle = await _handle(bed)

    def agent() -> tuple[str, int, str]:
        client = _bedrock(bed, handle)
        with pytest.raises(client.exceptions.AccessDeniedException) as caught:
            client.converse_stream(modelId="us.anthropic.other-v1:0", messages=[])
        answer = caught.value.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]

    code, status, message = await _agent(agent)
    assert (code, status) == ("AccessDeniedException", 403)
    assert "POLICY_MODEL_NOT_ALLOWED" in message


async def test_ollama_chats_streams_embeds_and_is_refused(bed: Bed) -> None:
    token = bed.token()

    def agent() -> tuple[str, bool, int, str]:
        headers = {"authorization": f"Bearer {token}"}
        client = ollama.Client(host=bed.gateway.addresses["reverse"] + "/ollama", headers=headers)
        messages = [{"role": "user", "content": "hello events:4"}]
        plain = client.chat("llama3.2", messages=messages)
        last = list(client.chat("llama3.2", messages=messages, stream=True))[-1]
        embedded = client.embed("llama3.2", "hello")
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat("llama9", messages=messages)
        assert caught.value.status_code == 403
        return plain.message.content, last.done, len(embedded.embeddings), str(caught.value)

    plain, done, embeddings, refused = await _agent(agent)
    assert plain
    assert done
    assert embeddings
    assert "POLICY_MODEL_NOT_ALLOWED" in refused
    receipts = _receipts(bed)
    assert [(r["provider"], r["metadata"]["clawproxy"]["stream"]) for r in receipts] == [
        ("ollama", False),
        ("ollama", True),
        ("ollama", False),
    ]
    assert all(r["tokens_input"] > 0 for r in receipts)


async def test_a_model_of_openrouter_on_the_compatibility_form_goes_to_fal(bed: Bed) -> None:
    before = len(bed.provider.seen())
    body = chat_body(model="openrouter/acme/m")
    answer = await bed.post("/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    (receipt,) = _receipts(bed)
    assert (receipt["provider"], receipt["model"]) == ("openai", "openrouter/acme/m")
    assert (receipt["metadata"]["upstream"], receipt["metadata"]["upstream_model"]) == ("fal", "acme/m")
    (seen,) = bed.provider.seen()[before:]
    assert seen["path"] == "/openrouter/router/openai/v1/chat/completions"
    sent = json.dumps({**json.loads(body), "model": "acme/m"}, separators=(",", ":")).encode()
    assert receipt["request_hash_b64u"] == sha256_b64u(sent)
    refused = await bed.post("/openai/v1/chat/completions", chat_body(model="openrouter/other/m"))
    assert refused.status == 403
    assert len(bed.provider.seen()) == before + 1


async def test_openrouter_azure_and_fals_own_route_answer(bed: Bed) -> None:
    token = bed.token()

    def agent() -> tuple[str, str, int]:
        base = bed.gateway.addresses["reverse"]
        messages: Any = [{"role": "user", "content": "hello"}]
        with openai.OpenAI(api_key=token, base_url=f"{base}/openrouter/api/v1") as router:
            plain = router.chat.completions.create(model="acme/m", messages=messages)
        with openai.AzureOpenAI(api_key=token, azure_endpoint=f"{base}/azure", api_version="2024-10-21") as azure:
            deployed = azure.chat.completions.create(model="my-deployment", messages=messages)
        with openai.OpenAI(api_key=token, base_url=f"{base}/openai/v1") as own:
            vectors = own.embeddings.create(model="embed-1", input=["a", "b"])
        return plain.choices[0].message.content or "", deployed.choices[0].message.content or "", len(vectors.data)

    plain, deployed, vectors = await _agent(agent)
    assert plain
    assert deployed
    assert vectors
    answer = await bed.post("/fal/openrouter/router", json.dumps({"prompt": "hi", "model": "acme/m"}).encode())
    assert answer.status == 200
    assert [r["provider"] for r in _receipts(bed)] == ["openrouter", "azure", "openai", "fal"]
    assert _receipts(bed)[2]["tokens_output"] == 0
