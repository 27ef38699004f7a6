"""How many answers a request asks for, how long they may be, and what makes it dearer, in each format."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.errors import ClawproxyError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}


def read(name: str, body: dict[str, Any], **more: Any) -> CallFacts:
    return FORMATS[name].read_request(WireRequest(body, "p", "r", **more))


def test_chat_has_choices() -> None:
    assert read("openai_chat", CHAT).choices == 1
    assert read("openai_chat", {**CHAT, "n": None}).choices == 1
    assert read("openai_chat", {**CHAT, "n": 100}).choices == 100


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", [3], 2**53])
def test_a_number_of_choices_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ClawproxyError) as caught:
        read("openai_chat", {**CHAT, "n": value})
    assert caught.value.reason == "INVALID_REQUEST"


@pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("count", ["candidateCount", "candidate_count"])
def test_gemini_has_candidates_in_either_spelling(config: str, count: str) -> None:
    body = {**CONTENTS, config: {count: 4, "maxOutputTokens": 9}}
    facts = read("gemini", body, model="gemini-x", stream=False)
    assert (facts.choices, facts.max_output_tokens) == (4, 9)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, ()),
        *(({"service_tier": tier}, ()) for tier in ("auto", "default", "flex", "standard_only", None)),
        *(({"service_tier": tier}, ("service_tier",)) for tier in ("priority", "scale", "Flex", "", 1, ["flex"])),
    ],
)
def test_a_dearer_tier_is_named(more: dict[str, Any], named: tuple[str, ...]) -> None:
    assert read("openai_chat", {**CHAT, **more}).surcharges == named


def test_what_makes_other_providers_dearer_is_named_as_well() -> None:
    anthropic = {**CHAT, "max_tokens": 5}
    assert read("anthropic_messages", {**anthropic, "speed": "fast"}).surcharges == ("speed",)
    assert read("anthropic_messages", {**anthropic, "inference_geo": "us"}).surcharges == ("inference_geo",)
    assert read("anthropic_messages", {**anthropic, "speed": "standard"}).surcharges == ()
    dear = {"serviceTier": {"type": "priority"}, "performanceConfig": {"latency": "optimized"}}
    plain = {"serviceTier": {"type": "flex"}, "performanceConfig": {"latency": "standard"}}
    model = {"model": "anthropic.claude-x", "stream": False}
    assert read("bedrock_converse", {**CONVERSE, **dear}, **model).surcharges == tuple(dear)
    assert read("bedrock_converse", {**CONVERSE, **plain}, **model).surcharges == ()
