"""What is rendered from a contract: golden for one, and for others what matters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.packaged import packaged_file, packaged_prices
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.openclaw.config import at
from clawproxy.openclaw.render import Options, as_text, render
from clawproxy.openclaw.tools import GROUPS, TOOLS, Powers, denied_by, granted_by

from .contracts import CLASSES, FREE, GATEWAY, KEEPER, READER, RUNNER, contract, rendered

GOLDEN = Path(__file__).parent / "golden_runner.json"


def test_the_rendering_of_a_contract_is_this() -> None:
    """Written anew with: python -m tests.openclaw.test_render"""
    assert as_text(rendered(RUNNER)) == GOLDEN.read_text()


@pytest.mark.parametrize("document", [READER, RUNNER, KEEPER, FREE])
def test_exactly_the_tools_of_the_contract_are_left(document: JsonObject) -> None:
    powers = Powers(contract(document))
    tools = rendered(document)["tools"]
    assert granted_by(tools["allow"]) - denied_by(tools["deny"]) == set(powers.tools)
    assert set(TOOLS) - denied_by(tools["deny"]) == set(powers.tools)
    assert powers.tools


@pytest.mark.parametrize(
    ("document", "mode", "access", "search"),
    [
        (READER, "deny", "ro", False),
        (RUNNER, "ask", "rw", {"enabled": True, "mode": "tools"}),
        (FREE, "full", "rw", False),
        ({**READER, "allowed_tools": ["web.read"], "denied_tools": []}, "deny", "none", False),
    ],
)
def test_modes_follow_the_contract(document: JsonObject, mode: str, access: str, search: Any) -> None:
    config = rendered(document)
    assert config["tools"]["exec"]["mode"] == mode
    assert config["agents"]["defaults"]["sandbox"]["workspaceAccess"] == access
    assert config["tools"]["toolSearch"] == search
    assert config["tools"]["elevated"] == {"enabled": False}
    assert config["tools"]["codeMode"] is False


def test_a_contract_without_tools_denies_all_since_an_empty_list_would_allow_all() -> None:
    tools = rendered({**READER, "allowed_tools": [], "denied_tools": []})["tools"]
    assert tools["deny"] == ["*"]
    assert "allow" not in tools


@pytest.mark.parametrize("name", ["Bash", "BASH", "bash", "Read", "EXEC", "Cron"])
def test_a_name_that_openclaw_takes_for_another_tool_opens_nothing(name: str) -> None:
    document = {
        **READER,
        "allowed_tools": ["theirs", "view_image"],
        "denied_tools": [],
        "tool_classes": {"theirs": [name]},
    }
    assert rendered(document)["tools"]["allow"] == ["view_image"]


def test_a_denied_name_that_openclaw_takes_for_another_tool_closes_nothing_that_is_allowed() -> None:
    document = {**FREE, "denied_tools": ["theirs"], "tool_classes": {**CLASSES, "theirs": ["Bash", "browser*"]}}
    tools = rendered(document)["tools"]
    assert "exec" in granted_by(tools["allow"]) - denied_by(tools["deny"])
    assert "browser*" in tools["deny"]


def test_tools_of_plugins_and_servers_are_allowed_by_their_patterns() -> None:
    document = {**READER, "allowed_tools": ["fs.read", "mail"], "tool_classes": {**CLASSES, "mail": ["outlook__*"]}}
    config = rendered(document)
    assert config["tools"]["allow"][-1] == "outlook__*"
    assert "group:plugins" not in config["tools"]["deny"]
    assert config["plugins"]["enabled"] is True
    assert rendered(READER)["plugins"]["enabled"] is False


def test_only_models_of_the_contract_are_listed_and_nothing_else_can_be_chosen() -> None:
    config = rendered(RUNNER)
    names = ["claw-anthropic/claude-sonnet-4-5", "claw-openai/gpt-5-mini"]
    assert config["agents"]["defaults"]["modelPolicy"]["allow"] == names
    assert config["agents"]["defaults"]["model"] == {"primary": names[0], "fallbacks": []}
    assert config["models"]["mode"] == "replace"
    providers = config["models"]["providers"]
    assert {name: at(provider, "baseUrl") for name, provider in providers.items()} == {
        "claw-anthropic": f"{GATEWAY}/anthropic",
        "claw-openai": f"{GATEWAY}/openai/v1",
    }
    assert {provider["apiKey"] for provider in providers.values()} == {"${CLAW_TOKEN}"}
    hashes = {provider["headers"]["X-Policy-Hash"] for provider in providers.values()}
    assert hashes == {contract(RUNNER).policy_hash_b64u}


def test_an_isolated_rendering_keeps_the_providers_own_addresses_and_needs_no_sandbox() -> None:
    config = rendered(RUNNER, Options(GATEWAY, isolated=True))
    assert config["models"]["providers"]["claw-anthropic"]["baseUrl"] == "https://api.anthropic.com"
    assert config["agents"]["defaults"]["sandbox"] == {"mode": "off"}
    assert config["tools"]["exec"]["host"] == "gateway"


def test_patterns_list_known_names_or_those_that_were_asked_for() -> None:
    document = {**RUNNER, "allowed_models": ["claude-*", "gpt-5*"]}
    listed = rendered(document)["agents"]["defaults"]["modelPolicy"]["allow"]
    assert 1 < len(listed) <= 64
    chosen = render(contract(document), Options(GATEWAY, models=("gpt-5-mini",)), packaged_prices())
    assert chosen.config["agents"]["defaults"]["modelPolicy"]["allow"] == ["claw-openai/gpt-5-mini"]
    assert any(line.startswith("allowed_models:") for line in chosen.notes)
    with pytest.raises(ClawproxyError) as caught:
        render(contract(document), Options(GATEWAY, models=("gemini-2.5-pro",)), packaged_prices())
    assert caught.value.reason == "OPENCLAW_CONTRACT"


def test_what_openclaw_cannot_express_is_said_by_field() -> None:
    document = {
        **RUNNER,
        "allowed_providers": ["anthropic", "bedrock"],
        "allowed_models": ["claude-sonnet-4-5", "strange-model"],
        "elevated": True,
        "budgets": {"requests": 5},
        "tool_arguments": {"shell.exec": {"when": [{"argument": "command", "not_like": ["*sudo*"]}]}},
        "data_boundaries": {"secrets": "deny"},
        "egress_allowlist": [{"host": "a.example", "paths": ["/*"]}],
        "approvals": [{"action": "shell.exec"}, {"action": "fs.write"}],
    }
    notes = render(contract(document), Options(GATEWAY, sandbox=False), packaged_prices()).notes
    for field in (
        "allowed_providers",
        "elevated",
        "budgets",
        "tool_arguments",
        "data_boundaries",
        "egress_allowlist",
        "approvals",
        "sandbox",
    ):
        assert any(line.startswith(f"{field}:") for line in notes), field
    assert any("strange-model" in line for line in notes) or "strange-model" in as_text(
        render(contract(document), Options(GATEWAY), packaged_prices()).config
    )
    assert any("write" in line and line.startswith("approvals") for line in notes)


@pytest.mark.parametrize(
    "document",
    [
        {**READER, "allowed_models": []},
        {**READER, "allowed_providers": ["bedrock"]},
        {**READER, "allowed_providers": []},
        {"wpc_version": "1", "policy_version": "1"},
    ],
)
def test_where_nothing_can_be_rendered_that_is_an_error(document: JsonObject) -> None:
    with pytest.raises(ClawproxyError):
        rendered(document)


def test_the_starter_renders() -> None:
    starter = parse_contract(packaged_file("contracts/openclaw.json"))
    config = render(starter, Options(GATEWAY), packaged_prices()).config
    assert {"exec", "read", "tool_call", "sessions_yield"} <= set(config["tools"]["allow"])
    assert {f"group:{name}" for name in ("web", "messaging", "ui", "plugins")} <= set(config["tools"]["deny"])


def test_no_tool_is_in_a_group_by_a_name_that_is_not_its_own() -> None:
    assert {tool for tools in GROUPS.values() for tool in tools} <= set(TOOLS)
    assert all(tool == tool.lower() for tool in TOOLS)


if __name__ == "__main__":
    GOLDEN.write_text(as_text(json.loads(json.dumps(rendered(RUNNER)))))


def test_names_of_the_contract_bring_in_neither_groups_nor_what_the_environment_says() -> None:
    names = ["group:plugins", "Group:fs", "bundle-mcp", "${EXTRA}", "mine"]
    document = {**READER, "allowed_tools": ["fs.read", "x"], "tool_classes": {**READER["tool_classes"], "x": names}}
    models = ["claude-sonnet-4-5", "claude-${MORE}"]
    config = rendered({**document, "allowed_models": models, "denied_tools": ["${LESS}"]})
    assert {"mine", "$${EXTRA}"} == set(config["tools"]["allow"]) - set(rendered(READER)["tools"]["allow"])
    assert "$${LESS}" in config["tools"]["deny"]
    text = json.dumps(config)
    assert "$${MORE}" in text
    assert set(re.findall(r"(?<!\$)\$\{\w+\}", text)) == {"${CLAW_TOKEN}", "${OPENCLAW_GATEWAY_TOKEN}"}
