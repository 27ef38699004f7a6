"""YAML as a source of contracts: one reading, the same as that of JSON and of other readers of YAML, or a refusal."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from clawproxy.policies.contract import hash_contract
from clawproxy.policies.contract_text import yaml_text
from clawproxy.policies.contract_yaml import MAX_BYTES, parse_yaml_object
from clawproxy.policies.packaged import Starter, starter_document
from clawproxy.tokens.errors import ClawproxyError
from ruamel.yaml import YAML


def _refusal(text: str) -> ClawproxyError:
    with pytest.raises(ClawproxyError) as caught:
        parse_yaml_object(text.encode())
    assert caught.value.reason == "WPC_INVALID"
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_document_with_comments_is_the_json_that_it_stands_for() -> None:
    text = """
# reviewed by two people
policy_name: invoice-triage
allowed_models: [gpt-4o-mini, claude-haiku-4-5*]   # cheap ones
allowed_tools:
  - fs.read
  - "*.x"
elevated: true
token_constraints: {cst_ttl_minutes: 30}
egress_allowlist:
  - host: "a.example"
    port: 8443
"""
    assert parse_yaml_object(text.encode()) == {
        "policy_name": "invoice-triage",
        "allowed_models": ["gpt-4o-mini", "claude-haiku-4-5*"],
        "allowed_tools": ["fs.read", "*.x"],
        "elevated": True,
        "token_constraints": {"cst_ttl_minutes": 30},
        "egress_allowlist": [{"host": "a.example", "port": 8443}],
    }


@pytest.mark.parametrize("name", Starter)
def test_a_starter_as_yaml_has_the_same_hash(name: Starter) -> None:
    text = yaml_text(starter_document(name), {("policy_name",): "a comment"}, ("head",), ("tail",))
    assert hash_contract(parse_yaml_object(text.encode())) == hash_contract(starter_document(name))


@pytest.mark.parametrize(
    "word",
    [
        *("no", "No", "NO", "off", "y", "N", "yes", "On", "True", "FALSE", "~", "Null", "NULL", "=", "<<"),
        *(
            "010",
            "0x1F",
            "0o17",
            "0b11",
            "1_000",
            "1,000",
            "+1",
            ".5",
            "1.",
            "1.0",
            "1.10",
            "1e3",
            "-0",
            ".inf",
            "-.Inf",
        ),
        *(".NaN", "1:30", "12:30:45", "190:20:30.15", "2026-01-02", "2001-12-14t21:59:43.10-05:00", "9007199254740993"),
    ],
)
def test_a_word_that_could_be_something_else_must_stand_in_quotes(word: str) -> None:
    error = _refusal(f"a: {word}")
    assert error.where == "line 1"
    assert "quotes" in error.remedy
    assert parse_yaml_object(f'a: "{word}"'.encode()) == {"a": word}
    _refusal(f"{word}: a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *b", "an alias"),
        ("a: &b c", "an anchor"),
        ("a: &b [c]\nd: *b", "an anchor"),
        ("a: !!str 1", "a tag"),
        ("a: !own {b: c}", "a tag"),
        ("<<: {a: b}", "a word that YAML can read in more than one way"),
        ("a: b\na: c", "a key that stands there twice"),
        ('a: b\n"a": c', "a key that stands there twice"),
        ("a: {b: 1, b: 2}", "a key that stands there twice"),
        ("1: a", "a key that is no text"),
        ("? [a]\n: b", "a key that is no text"),
        ("a: b\n---\nc: d", "a second document"),
        ("%YAML 1.1\n---\na: b", "a directive"),
        ("a: b\n  c", "a text over more than one line"),
        ("a:", "no value"),
        ("a: {b}", "no value"),
        ("- a", "not an object"),
        ("", "nothing in it"),
        ("a: [b", "not YAML"),
        ("a:\tb\n\tc: d", "not YAML"),
        ("a: " + "[" * 40 + "]" * 40, "too deep, or too many values"),
        ("a: [" + "b, " * 20_001 + "]", "too deep, or too many values"),
        ("#" * (MAX_BYTES + 1), "the document is too large"),
    ],
)
def test_what_has_more_than_one_reading_or_no_end_is_refused(text: str, message: str) -> None:
    assert _refusal(text).message.startswith(message)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ClawproxyError, match="not UTF-8"):
        parse_yaml_object(b"a: \xff")


def test_what_is_read_is_read_the_same_by_readers_of_both_versions_of_yaml() -> None:
    random, read = Random(1), 0
    letters = "0123456789eE+-._:xobyYnNtTrRuUfFaAlLsSiI~,/*=<"
    words = ["".join(random.choice(letters) for _ in range(random.randint(1, 6))) for _ in range(6_000)]
    words += ["".join(random.choice("0123456789-:._eT+") for _ in range(random.randint(1, 10))) for _ in range(6_000)]
    for word in words:
        text = f"k: {word}"
        try:
            found = parse_yaml_object(text.encode())["k"]
        except ClawproxyError:
            continue
        read += 1
        others: list[Any] = [
            yaml.safe_load(text)["k"],
            YAML(typ="safe", pure=True).load(io.StringIO(text))["k"],
        ]
        assert all(type(other) is type(found) and other == found for other in others), (word, found, others)
    assert read > 1_000
