"""Gemini through a whole gateway: the google-genai package at both listeners, both forms of streams, lists, counts."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, running_bed

genai: Any = pytest.importorskip("google.genai")
errors: Any = pytest.importorskip("google.genai.errors")

MODEL = "gemini-2.5-flash"
LISTENERS = ("reverse", "regular")


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    contract = {
        **CONTRACT,
        "allowed_providers": ["google", "openai", "anthropic"],
        "allowed_models": [MODEL, "claude-sonnet-5-5"],
    }
    upstreams = {
        name: {"upstream": provider.url, "credential": f"file:{provider.key_files[name]}"}
        for name in ("openai", "anthropic", "google")
    }
    async with running_bed(tmp_path / "s", provider, contract=contract, sections={"providers": upstreams}) as running:
        yield running


def _client(bed: Bed, listener: str) -> Any:
    token = bed.token()
    if listener == "reverse":
        base = {"base_url": bed.gateway.addresses["reverse"] + "/google"}
        return genai.Client(api_key=token, http_options=base)
    proxy = bed.gateway.addresses["regular"].replace("http://", f"http://job:{token}@")
    verify: Any = ssl.create_default_context(cafile=bed.gateway.ca_file)
    options: Any = {"client_args": {"proxy": proxy, "verify": verify, "trust_env": False}}
    return genai.Client(api_key="the agents own", http_options=options)


async def _agent[T](work: Callable[[], T]) -> T:
    """SDK calls block, so they run beside the gateway's loop."""
    return await asyncio.to_thread(work)


def _tools(name: str) -> dict[str, Any]:
    return {"tools": [{"function_declarations": [{"name": name, "parameters_json_schema": {"type": "object"}}]}]}


@pytest.mark.parametrize("listener", LISTENERS)
async def test_gemini_answers_streams_counts_and_calls_an_allowed_tool(bed: Bed, listener: str) -> None:
    def agent() -> tuple[str, str, str, int]:
        client = _client(bed, listener)
        models = client.models
        plain = models.generate_content(model=MODEL, contents="hello events:4")
        stream = models.generate_content_stream(model=MODEL, contents="hello events:4")
        text = "".join(chunk.text or "" for chunk in stream)
        tool = models.generate_content(model=MODEL, contents="use-a-tool", config=_tools("ticket_read"))
        counted = models.count_tokens(model=MODEL, contents="hello")
        return plain.text, text, tool.function_calls[0].name, counted.total_tokens

    plain, streamed, tool, counted = await _agent(agent)
    assert plain
    assert streamed
    assert tool == "ticket_read"
    assert counted > 0
    receipts = bed.records("receipt")
    assert [r["metadata"]["clawproxy"]["outcome"] for r in receipts] == ["complete"] * 4
    assert all(r["tokens_input"] > 0 and r["tokens_output"] > 0 for r in receipts[:3])
    assert (receipts[3]["tokens_input"], receipts[3]["tokens_output"]) == (0, 0)
    assert {r["model"] for r in receipts} == {MODEL}
    assert receipts[2]["metadata"]["clawproxy"]["tool_calls"] == ["ticket_read"]
    assert "the agents own" not in json.dumps(bed.provider.seen()[-4:])


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_refusal_is_the_sdks_usual_exception_with_our_words(bed: Bed, listener: str) -> None:
    def agent() -> list[Any]:
        client = _client(bed, listener)
        models = client.models
        said = []
        for call in (
            lambda: models.generate_content(model="gemini-other", contents="x"),
            lambda: models.generate_content(model=MODEL, contents="x", config=_tools("Bash")),
            lambda: list(models.generate_content_stream(model=MODEL, contents="x", config=_tools("Bash"))),
            lambda: models.generate_content(model=MODEL, contents="x", config={"tools": [{"google_search": {}}]}),
            lambda: models.generate_content(model=MODEL, contents="x", config={"cached_content": "cachedContents/1"}),
        ):
            with pytest.raises(errors.ClientError) as caught:
                call()
            said.append((caught.value.code, caught.value.status, caught.value.message.partition(")")[0]))
        return said

    before = len(bed.provider.seen())
    said = await _agent(agent)
    reasons = ["MODEL_NOT_ALLOWED", "TOOL_DENIED", "TOOL_DENIED", "TOOL_NOT_ALLOWED", "STATE_NOT_READABLE"]
    assert said == [
        (403, "PERMISSION_DENIED", f"clawproxy refused this call (POLICY_{reason} at step decide") for reason in reasons
    ]
    assert len(bed.records("denial")) == len(reasons)
    assert len(bed.provider.seen()) == before


async def test_a_stream_without_events_is_one_json_array(bed: Bed) -> None:
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "hello events:4"}]}]}).encode()
    answer = await bed.post(f"/google/v1beta/models/{MODEL}:streamGenerateContent", body)
    assert answer.status == 200
    chunks = json.loads(answer.body)
    assert len(chunks) > 1
    assert chunks[-1]["candidates"][0]["finishReason"]
    (receipt,) = bed.records("receipt")
    assert receipt["metadata"]["clawproxy"]["outcome"] == "complete"
    assert receipt["tokens_output"] > 0


async def test_the_openai_form_of_gemini_carries_its_credential_as_a_bearer(bed: Bed) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
    await bed.post("/v1/proxy/google", body)
    seen = bed.provider.seen()[-1]
    assert seen["path"] == "/v1beta/openai/chat/completions"
    held = {name.lower() for name in seen["headers"]}
    assert "authorization" in held
    assert "x-goog-api-key" not in held


@pytest.mark.parametrize("provider_name", ["openai", "anthropic", "google"])
async def test_models_are_listed_without_naming_one(bed: Bed, provider_name: str) -> None:
    client = await bed.client()
    version = "v1beta" if provider_name == "google" else "v1"
    answer = await client.request("GET", f"/{provider_name}/{version}/models", bed.headers(), b"")
    assert answer.status == 200
    assert json.loads(answer.body)
    (receipt,) = bed.records("receipt")
    assert (receipt["tokens_input"], receipt["tokens_output"]) == (0, 0)


async def test_anthropic_counts_tokens_under_the_same_rules(bed: Bed) -> None:
    asked = {"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "hi"}]}
    answer = await bed.post("/anthropic/v1/messages/count_tokens?beta=true", json.dumps(asked).encode())
    assert answer.status == 200
    assert json.loads(answer.body)["input_tokens"] > 0
    refused = await bed.post("/anthropic/v1/messages/count_tokens", json.dumps({**asked, "model": "other"}).encode())
    assert refused.status == 403
