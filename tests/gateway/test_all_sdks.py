"""Every real SDK, as an agent of its own with the environment of ``clawproxy run``, by each way in: plain, streamed and
tool-calling turns, refusals, and receipts whose figures are those that the provider gave."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify import verify_path

from ..clawproxy.standin_process import Provider
from . import sdk_drivers as sdk
from .bed import Bed, running_bed
from .every_provider import EVERY_CONTRACT, WAYS, environment_for, every_provider

TIMEOUT_S = 120
# the figures of ``sdk.FIGURES`` as an answer tells them; those of a part are 0 where a format does not tell it
CACHED, REASONING, WORDS = 3, 5, 4
SILENT_WORDS = 40
CALL_TOKENS, ANSWER_TOKENS = 8, 10


@dataclass(frozen=True)
class Shape:
    """One model API: where its calls go and what its answers tell."""

    provider: str
    model: str
    turns: tuple[str, ...] = sdk.TURNS
    cached: int = CACHED
    reasoning: int = REASONING
    match: str = "same"
    keeper: str = ""
    """Whose credential the stand-in saw, if it is not the provider's own."""


WITHOUT_TOOLS = ("plain", "stream", "no-usage", "denied-model")
SHAPES = {
    "openai/chat": Shape("openai", sdk.CHAT_MODEL),
    "openai/responses": Shape("openai", sdk.CHAT_MODEL),
    "openrouter/chat": Shape("openrouter", sdk.ROUTED),
    "azure/chat": Shape("azure", sdk.CHAT_MODEL),
    "azure/responses": Shape("azure", sdk.CHAT_MODEL),
    "vllm/chat": Shape("vllm", sdk.LLAMA, keeper="openai"),
    "fal/chat": Shape("fal", sdk.ROUTED),
    "fal/responses": Shape("fal", sdk.ROUTED),
    "fal/router": Shape("fal", sdk.ROUTED, ("plain", "denied-model"), cached=0, reasoning=0, match="unknown"),
    "anthropic/messages": Shape("anthropic", sdk.CLAUDE),
    "bedrock/messages": Shape("bedrock", sdk.BEDROCK_CLAUDE),
    "bedrock/invoke": Shape("bedrock", sdk.BEDROCK_CLAUDE),
    "bedrock/converse": Shape("bedrock", sdk.BEDROCK_CLAUDE, reasoning=0, match="unknown"),
    "google/generate": Shape("google", sdk.GEMINI),
    "ollama/chat": Shape("ollama", sdk.LLAMA, cached=0, reasoning=0),
    "ollama/generate": Shape("ollama", sdk.LLAMA, WITHOUT_TOOLS, cached=0, reasoning=0),
}
FORMS = {
    "openai": (
        "openai/chat",
        "openai/responses",
        "openrouter/chat",
        "azure/chat",
        "azure/responses",
        "vllm/chat",
        "fal/chat",
        "fal/responses",
    ),
    "anthropic": ("anthropic/messages", "bedrock/messages"),
    "google-genai": ("google/generate",),
    "boto3": ("bedrock/converse", "bedrock/invoke"),
    "ollama": ("ollama/chat", "ollama/generate"),
    "fal_client": ("fal/router",),
    "litellm": (
        "openai/chat",
        "anthropic/messages",
        "google/generate",
        "openrouter/chat",
        "ollama/chat",
        "bedrock/converse",
    ),
}
LEFT_OUT = {("litellm", "anthropic/messages"): {"no-usage"}}  # it cannot read such a stream
# what each SDK raises for a 403; litellm has one class for each provider's, and all of them are an APIError
REFUSED = {
    "openai": "PermissionDeniedError",
    "anthropic": "PermissionDeniedError",
    "google-genai": "ClientError",
    "boto3": "ClientError",
    "ollama": "ResponseError",
    "fal_client": "FalClientHTTPError",
    "litellm": "APIError",
}
# litellm asks for /api/chat/api/show at an Ollama as well; it does without an answer
ASIDES = {"litellm": {("ROUTE_NOT_FOUND", None)}}
REASONS = {"denied-tool": "POLICY_TOOL_DENIED", "denied-model": "POLICY_MODEL_NOT_ALLOWED"}
SLOW = ("litellm",)  # its import alone takes seconds
AGENTS = [
    pytest.param(name, way, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in FORMS
    for way in WAYS
    if way != "both" or name not in SLOW
]


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    sections = {"providers": every_provider(provider)}
    async with running_bed(tmp_path / "s", provider, contract=EVERY_CONTRACT, sections=sections) as running:
        yield running


def turns_of(agent: str) -> list[tuple[str, str]]:
    """Each form and turn that the agent must get through."""
    left_out = {(form, turn) for (name, form), turns in LEFT_OUT.items() if name == agent for turn in turns}
    asked = [(form, turn) for form in FORMS[agent] for turn in SHAPES[form].turns]
    return [pair for pair in asked if pair not in left_out]


async def run_agent(bed: Bed, agent: str, way: str, home: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What the agent tells of each turn, in its order."""
    handle = (await bed.gateway.lease(bed.policy_hash, "job-1", 600)).handle
    env = environment_for(bed, way, handle, home)
    keys = [bed.provider.key(name).rpartition(":")[2] for name in bed.provider.key_files]
    assert not any(key in value for key in keys for value in env.values())
    process = await asyncio.create_subprocess_exec(
        sys.executable, sdk.__file__, agent, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 0, err.decode()[-2000:]
    assert not any(key.encode() in out + err for key in keys)
    lines = [json.loads(line) for line in out.splitlines()]
    await bed.settled()
    return {(line["form"], line["turn"]): line for line in lines}


async def sealed(bed: Bed) -> Report:
    directory = Path((await bed.gateway.seal("job-1"))["directory"])
    return verify_path(directory, bed.trust())


def calls_of(told: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """Form, turn and number of each call that must have a receipt."""
    for form, turn in told:
        if turn not in REASONS:
            yield from ((form, turn, n) for n in range(2 if "tools" in turn else 1))


def check_answer(turn: str, line: dict[str, Any]) -> None:
    assert "error" not in line, line
    answer = "The stand-in answers with"
    if turn.endswith("tools"):
        name, arguments, text = line["got"]
        assert (name, arguments) == ("ticket_read", {"query": "stand-in"})
        assert text.startswith(answer)
    else:
        assert line["got"].startswith(answer)
        assert len(line["got"].split()) == (SILENT_WORDS if turn == "no-usage" else WORDS)


def check_receipt(shape: Shape, turn: str, n: int, receipt: dict[str, Any], seen: dict[str, Any], way: str) -> None:
    ours = receipt["metadata"]["clawproxy"]
    assert (receipt["provider"], receipt["model"]) == (shape.provider, shape.model)
    assert (ours["outcome"], ours["status"], ours["model_match"]) == ("complete", 200, shape.match)
    assert ours["way_in"] == ("connect" if way == "https-proxy" else "reverse")
    assert ours["stream"] is (turn in ("stream", "no-usage") or (turn == "streamed-tools" and n == 0))
    tools = ["ticket_read"] if "tools" in turn else []
    assert (ours["tools"], ours["tool_calls"]) == (tools, tools if n == 0 else [])
    # the provider got what was judged, with the gateway's credential and nothing of the agent's
    assert (receipt["request_hash_b64u"], ours["request_bytes"]) == (seen["body_sha256_b64u"], seen["body_bytes"])
    keeper = shape.keeper or shape.provider
    assert (seen["provider"], seen["stream"], seen["leaks"]) == (keeper, ours["stream"], [])
    assert seen["credential"] == ("none" if keeper == "ollama" else "right")
    # the stand-in counts a quarter of the bytes that it got
    figures = (receipt["tokens_input"], receipt["tokens_output"], ours["tokens_cached"], ours["tokens_reasoning"])
    told = seen["body_bytes"] // 4
    if turn == "no-usage":
        assert ours["usage"] == "estimated"
        assert (figures[0], figures[2:]) == (-(-seen["body_bytes"] // 4), (0, 0))
        assert SILENT_WORDS <= figures[1] <= 2 * SILENT_WORDS
        return
    assert ours["usage"] == "reported"
    if "tools" in turn:
        assert figures == (told, CALL_TOKENS if n == 0 else ANSWER_TOKENS, 0, 0)
    else:
        assert figures == (told + CACHED, WORDS + REASONING, shape.cached, shape.reasoning)


@pytest.mark.parametrize(("agent", "way"), AGENTS)
async def test_an_sdk_gets_through_its_turns_and_the_receipts_tell_what_the_provider_told(
    bed: Bed, tmp_path: Path, agent: str, way: str
) -> None:
    before = len(bed.provider.seen())
    told = await run_agent(bed, agent, way, tmp_path)
    assert sorted(told) == sorted(turns_of(agent))
    for (_form, turn), line in told.items():
        if turn not in REASONS:
            check_answer(turn, line)
    # litellm asks Ollama what a model can do, again and again
    receipts = [r for r in bed.records("receipt") if r["metadata"]["clawproxy"]["route"] != "show"]
    seen = [line for line in bed.provider.seen()[before:] if line["path"] != "/api/show"]
    for (form, turn, n), receipt, line in zip(calls_of(told), receipts, seen, strict=True):
        check_receipt(SHAPES[form], turn, n, receipt, line, way)
    # a refusal is the SDK's own exception, has our words, and is not tried again
    refused = [(form, turn) for form, turn in told if turn in REASONS]
    for form, turn in refused:
        line = told[form, turn]
        assert REFUSED[agent] in line["error"], line
        assert f"clawproxy refused this call ({REASONS[turn]} at step decide)" in line["message"]
    asides = ASIDES.get(agent, set())
    denials = [record for record in bed.records("denial") if record["route"] != "show"]
    of_turns = [record["reason"] for record in denials if (record["reason"], record["provider"]) not in asides]
    assert of_turns == [REASONS[turn] for _, turn in refused]
    assert bed.refusals() == [], "it came with the job's handle"
    report = await sealed(bed)
    assert report.verdict is Verdict.VERIFIED, report.findings
    silent = sum(turn == "no-usage" for _, turn in told)
    assert report.facts["usage"].get("estimated", 0) == silent
    assert report.facts["usage"]["reported"] == len(receipts) - silent
