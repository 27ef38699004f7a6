"""Which answered names are the model that was asked for, and which are another one."""

from __future__ import annotations

import pytest
from clawproxy.policies.model_match import ModelMatch, model_match
from hypothesis import given
from hypothesis import strategies as st

SNAPSHOTS = [
    ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("gpt-4", "gpt-4-0613"),
    ("claude-sonnet-5-5", "claude-sonnet-5-5-20260101"),
    ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("claude-sonnet-4", "claude-sonnet-4@20250514"),
    ("gemini-2.5-pro", "gemini-2.5-pro-002"),
    ("gemini-2.5-flash", "gemini-2.5-flash-preview-05-20"),
    ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
    ("openai/gpt-4o", "gpt-4o-2024-08-06"),
    ("openrouter/openai/gpt-4o", "openai/gpt-4o"),
    ("gpt-4o", "openai/gpt-4o"),
    ("meta-llama/llama-3.3-70b-instruct:free", "meta-llama/Llama-3.3-70B-Instruct"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
    ("anthropic.claude-sonnet-4", "claude-sonnet-4-20250514-v1:0"),
    ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "nova-pro"),
    ("arn:aws:bedrock:us-east-1:12345:inference-profile/eu.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
    ("llama3.2", "llama3.2:latest"),
    ("llama3.2:latest", "llama3.2"),
]
OTHERS = [
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("gpt-4", "gpt-4-32k"),
    ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
    ("gpt-4o-2024-05-13", "gpt-4o"),
    ("claude-opus-4", "claude-opus-4-1-20250805"),
    ("claude-opus-5", "claude-haiku-5"),
    ("gemini-2.5-pro", "gemini-2.5-flash"),
    ("llama-3", "somebody/llama-3"),
    ("llama3.2:1b", "llama3.2:3b"),
    ("openrouter/auto", "openai/gpt-4o"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-20250514"),
    ("-latest", "gpt-4o"),
    ("openai/", "openai/x"),
]


@pytest.mark.parametrize(("asked", "answered"), SNAPSHOTS)
def test_a_dated_versioned_or_prefixed_name_is_the_model_that_was_asked_for(asked: str, answered: str) -> None:
    assert model_match(asked, answered) is ModelMatch.SNAPSHOT


@pytest.mark.parametrize(("asked", "answered"), OTHERS)
def test_another_name_is_another_model(asked: str, answered: str) -> None:
    assert model_match(asked, answered) is ModelMatch.OTHER


@pytest.mark.parametrize("name", ["gpt-4o-mini", "us.amazon.nova-pro-v1:0", "ä/ö", "x" * 1024])
def test_the_same_characters_are_the_same_model(name: str) -> None:
    assert model_match(name, name) is ModelMatch.SAME


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("unknown", "gpt-4o"), ("", "gpt-4o"), (None, "gpt-4o"), ("gpt-4o", None), ("gpt-4o", ""), ("a", "a" * 1025)],
)
def test_what_was_not_told_is_unknown(asked: str | None, answered: str | None) -> None:
    assert model_match(asked, answered) is ModelMatch.UNKNOWN


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_names_have_an_outcome(asked: str, answered: str) -> None:
    assert model_match(asked, answered) in ModelMatch


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_a_word_behind_a_name_makes_it_another_model(asked: str, word: str) -> None:
    assert model_match(asked, f"{asked}-{word}") is ModelMatch.OTHER
