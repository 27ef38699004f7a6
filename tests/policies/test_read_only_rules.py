from __future__ import annotations

import pytest
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.policy import Policy
from clawproxy.tokens.errors import ClawproxyError

CLASSES = {"fs.read": ["Read", "mcp__files__*"], "fs.write": ["Write", "mcp__files__put"], "any": ["run_*"]}


def policy(**over: object) -> Policy:
    document = {
        "policy_name": "p",
        "allowed_models": ["m"],
        "allowed_tools": ["fs.read", "fs.write", "any", "plain"],
        "tool_classes": CLASSES,
        "read_only_tools": ["fs.read", "any"],
        **over,
    }
    return parse_contract(document).policy


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("Read", True),
        ("mcp__files__get", True),
        ("mcp__files__put", False),  # another word that is not listed stands for it as well
        ("Write", False),
        ("plain", False),
        ("read", False),
        ("Bash", False),
    ],
)
def test_a_tool_only_reads_if_every_word_that_stands_for_it_is_listed(name: str, covered: bool) -> None:
    assert policy().read_only.covers(name) is covered


def test_no_pattern_lists_a_tool_that_can_call_any_other() -> None:
    assert policy().read_only.covers("run_code")
    assert not policy().read_only.covers("run_code", exact=True)


def test_without_the_field_no_tool_only_reads() -> None:
    document = {"policy_name": "p", "allowed_tools": ["Read"]}
    assert not parse_contract(document).policy.read_only.covers("Read")


def test_a_word_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ClawproxyError) as caught:
        policy(read_only_tools=["shell.exec"])
    assert caught.value.reason == "WPC_INVALID"
