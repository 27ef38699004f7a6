"""``contract explain``: no part of a contract is left out, and what is unusual stands first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from clawproxy.policies.contract_words import PARTS, Topic, explain_policy
from clawproxy.policies.packaged import Starter, starter_document
from clawproxy.policies.policy import Policy
from clawproxy.tokens.canonical import JsonObject

from .makers import claw, policy_of, statement, wpc_v1, wpc_v2
from .test_contract_schema import FULL

SAID_OTHERWISE = {
    *("v1", "mask", "strip", "refuse", "deny", "clawproxy", "to be filled", "https", 443),
    7,  # micro-dollars
}


def _text(document: JsonObject) -> str:
    return "\n".join(sentence.text for _, sentence in explain_policy(policy_of(document)))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member)
            if name not in ("schema", "when"):
                continue
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def test_every_member_of_the_policy_has_a_row() -> None:
    assert set(PARTS) == {field.name for field in dataclasses.fields(Policy)}


def test_every_value_of_a_full_contract_is_said() -> None:
    text = _text(FULL)
    meant = {value for value in _leaves(FULL) if not isinstance(value, bool)} - SAID_OTHERWISE
    said = {value for value in meant if str(value).removeprefix("state:").removeprefix("url:") in text}
    assert meant - said == set()


@pytest.mark.parametrize(
    "change",
    [
        {"allowed_providers": ["openai"]},
        {"allowed_models": ["o1"]},
        {"allowed_tools": ["search"]},
        {"denied_tools": []},
        {"tool_arguments": None},
        {"on_denied_tool": "refuse"},
        {"on_denied_call": "error"},
        {"read_only_tools": []},
        {"allowed_provider_features": []},
        {"data_boundaries": {"pii": "hash", "export": "deny"}},
        {"data_boundaries": {"pii": "mask", "export": "allow"}},
        {"data_classes_allowed": None},
        {"data_classes_denied": []},
        {"tool_data_classes": {}},
        {"tool_data_access": {}},
        {"egress_allowlist": []},
        {"budgets": {"requests": 6}},
        {"elevated": False},
        {"approvals": {"required": True}},
        {"approvals": []},
        {"token_constraints": {"cst_ttl_minutes": 5}},
        {"policy_name": "other"},
    ],
    ids=str,
)
def test_each_change_is_heard(change: JsonObject) -> None:
    changed = {name: value for name, value in (FULL | change).items() if value is not None}
    plain = [line for line in _text(changed).splitlines() if "by the hash" not in line]
    assert plain != [line for line in _text(FULL).splitlines() if "by the hash" not in line]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (claw(allowed_models=["*"]), "Any model may be called"),
        (claw(allowed_providers=None), "Any provider of the catalogue"),
        (claw(allowed_tools=["exec"]), 'Through "exec" other tools are called'),
        (claw(allowed_tools=["t"], tool_classes={"t": ["*"]}), "A pattern allows every tool"),
        (claw(allowed_provider_features=["state:prompt"]), "content that the provider keeps"),
        (claw(token_constraints={"cst_ttl_minutes": 600}), "A token lives up to 600 minutes"),
        (
            claw(egress_allowlist=[{"host": "a.example", "paths": ["/*"], "client_credentials": True}]),
            "credentials of their own",
        ),
        (wpc_v2(statement("all", "Allow", ["*"], ["**"])), 'Statement "all" allows "*" on "**"'),
        (claw(), "No budget bounds the money"),
    ],
)
def test_what_is_unusual_stands_first(document: JsonObject, words: str) -> None:
    said = explain_policy(policy_of(document))
    first = [sentence.text for _, sentence in said if sentence.topic is Topic.UNUSUAL]
    assert any(words in text for text in first)
    assert [sentence.topic for _, sentence in said] == sorted(sentence.topic for _, sentence in said)


@pytest.mark.parametrize(
    "document", [*map(starter_document, Starter), wpc_v1(), wpc_v2(), FULL], ids=lambda d: str(d)[:40]
)
def test_sentences_are_short_and_whole(document: JsonObject) -> None:
    for part, sentence in explain_policy(policy_of(document)):
        assert sentence.text[0].isupper() or sentence.text[0] == '"', part
        assert sentence.text.endswith("."), sentence
        assert "None" not in sentence.text


def test_a_contract_that_refuses_everything_says_so() -> None:
    said = explain_policy(policy_of(claw(allowed_models=[], denied_tools=["model_call_via_clawproxy"], elevated=False)))
    assert sum(sentence.topic is Topic.REFUSED for _, sentence in said) == 3
