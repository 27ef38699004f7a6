"""A seeded widening of each setting that a contract maps to is found, and what was rendered from a contract passes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from clawproxy.tokens.canonical import JsonObject

from clawproxy.openclaw.compare import MAX_FOUND, compare
from clawproxy.openclaw.config import parse_config
from clawproxy.openclaw.render import Options
from clawproxy.openclaw.settings_table import Row
from clawproxy.openclaw.wider import Wider

from .contracts import FREE, GATEWAY, KEEPER, READER, RUNNER, live, powers, rendered

GONE = object()
A = "agents.defaults"
S = f"{A}.sandbox"
E = "agents.entries.main"
P = "models.providers"


def put(config: JsonObject, path: str, value: Any) -> JsonObject:
    """``config`` with ``value`` at a dotted path; ``/`` stands for a dot inside a name."""
    changed = copy.deepcopy(config)
    *parents, last = [part.replace("/", ".") for part in path.split(".")]
    at: Any = changed
    for part in parents:
        at = at.setdefault(part, {})
    if value is GONE:
        at.pop(last, None)
    else:
        at[last] = value
    return changed


def found(config: JsonObject, document: JsonObject = READER, options: Options | None = None) -> list[Wider]:
    return compare(live(config), powers(document), options or Options(GATEWAY))


WIDENINGS: list[tuple[JsonObject, str, Any, str]] = [
    # what may be declared
    (READER, "tools.allow", ["*"], "tools.allow"),
    (READER, "tools.allow", GONE, "tools.allow"),
    (READER, "tools.allow", [], "tools.allow"),
    (READER, "tools.allow", "*", "tools.allow"),
    (READER, "tools.allow", ["read", 7], "tools.allow"),
    (READER, "tools.allow", ["read", "outlook__send"], "tools.allow"),
    (READER, "tools.allow", ["read", "outlook__*"], "tools.allow"),
    (READER, "tools", {**rendered(READER)["tools"], "allow": [], "profile": "full"}, "tools.profile"),
    (READER, "tools.deny", GONE, "tools.deny"),
    (READER, "tools.deny", ["group:web"], "tools.deny"),
    (RUNNER, "tools.deny", ["group:ui"], "tools.deny"),
    (READER, "tools.alsoAllow", ["outlook__*"], "tools.alsoAllow"),
    (READER, "tools.byProvider.claw-anthropic.allow", ["some_tool"], "tools.byProvider.claw-anthropic.allow"),
    (READER, "tools.byProvider.claw-anthropic.alsoAllow", ["*"], "tools.byProvider.claw-anthropic.alsoAllow"),
    (READER, "tools.toolsBySender.*.alsoAllow", ["some_tool"], "tools.toolsBySender.*.alsoAllow"),
    (READER, "tools.toolsBySender.id:7.allow", ["some_tool"], "tools.toolsBySender.id:7.allow"),
    (READER, "tools.sandbox.tools.alsoAllow", ["some_tool"], "tools.sandbox.tools.alsoAllow"),
    (READER, "tools.subagents.tools.allow", ["some_tool"], "tools.subagents.tools.allow"),
    (READER, "gateway.tools.allow", ["some_tool"], "gateway.tools.allow"),
    (READER, f"{E}.tools.allow", ["some_tool"], f"{E}.tools.allow"),
    (READER, f"{E}.tools.alsoAllow", ["group:plugins", "some_tool"], f"{E}.tools.alsoAllow"),
    (READER, "agents.list", [{"id": "x", "tools": {"allow": ["some_tool"]}}], "agents.list[0].tools.allow"),
    (READER, "channels.telegram.groups.7.tools.alsoAllow", ["some_tool"], "channels.telegram.groups.7.tools.alsoAllow"),
    (READER, "tools.codeMode", True, "tools.codeMode"),
    (READER, "tools.codeMode", "auto", "tools.codeMode"),
    (READER, "tools.codeMode", GONE, "tools.codeMode"),
    (READER, "tools.codeMode", {"enabled": True}, "tools.codeMode"),
    (READER, f"{E}.tools.codeMode", True, f"{E}.tools.codeMode"),
    (READER, f"{A}.models.claw-anthropic/claude-sonnet-4-5.codeMode", True, "codeMode"),
    (READER, "tools.toolSearch", True, "tools.toolSearch"),
    (READER, "tools.toolSearch", GONE, "tools.toolSearch"),
    (READER, "tools.toolSearch", {"mode": "tools"}, "tools.toolSearch"),
    (RUNNER, "tools.toolSearch", {"enabled": True, "mode": "code"}, "tools.toolSearch"),
    (READER, "tools.swarm", True, "tools.swarm"),
    (READER, "tools.sessions.visibility", "tree", "tools.sessions.visibility"),
    (READER, "tools.sessions.visibility", "all", "tools.sessions.visibility"),
    (READER, "tools.sessions.visibility", "everyone", "tools.sessions.visibility"),
    (KEEPER, "tools.sessions.visibility", GONE, "tools.sessions.visibility"),
    (READER, "tools.agentToAgent.enabled", True, "tools.agentToAgent.enabled"),
    (KEEPER, "tools.agentToAgent", GONE, "tools.agentToAgent.enabled"),
    (READER, f"{A}.subagents.allowAgents", ["*"], f"{A}.subagents.allowAgents"),
    (READER, "tools.web.search.enabled", True, "tools.web.search.enabled"),
    (READER, "tools.web.fetch.enabled", True, "tools.web.fetch.enabled"),
    (READER, "tools.links.enabled", True, "tools.links.enabled"),
    (READER, "tools.media.image.enabled", True, "tools.media.image.enabled"),
    (READER, "tools.media.models", [{"provider": "openai", "model": "gpt-4o"}], "tools.media.models"),
    # commands
    (READER, "tools.exec.mode", "full", "tools.exec.mode"),
    (READER, "tools.exec.mode", "allowlist", "tools.exec.mode"),
    (READER, "tools.exec.mode", "yes", "tools.exec.mode"),
    (RUNNER, "tools.exec.mode", "auto", "tools.exec.mode"),
    (RUNNER, "tools.exec.mode", GONE, "tools.exec.mode"),
    (RUNNER, "tools.exec", GONE, "tools.exec.mode"),
    (RUNNER, "tools.exec", {"security": "full"}, "tools.exec.security"),
    (RUNNER, "tools.exec", {"security": "full", "ask": "on-miss"}, "tools.exec.security"),
    (RUNNER, "tools.exec", {"ask": "off"}, "tools.exec.ask"),
    (RUNNER, "tools.exec", {"security": "any"}, "tools.exec.security"),
    (READER, "tools.exec", {"security": "allowlist", "ask": "always"}, "tools.exec.security"),
    (RUNNER, f"{E}.tools.exec.mode", "full", f"{E}.tools.exec.mode"),
    (RUNNER, "agents.list", [{"tools": {"exec": {"security": "full"}}}], "agents.list[0].tools.exec.security"),
    (RUNNER, "tools.exec.host", "node", "tools.exec.host"),
    (RUNNER, "tools.exec.host", "gateway", "tools.exec.host"),
    (RUNNER, "tools.exec.applyPatch.workspaceOnly", False, "tools.exec.applyPatch.workspaceOnly"),
    (RUNNER, "tools.exec.reviewer.model", "openai/gpt-5-mini", "tools.exec.reviewer.model"),
    # elevated
    (READER, "tools.elevated.enabled", True, "tools.elevated.enabled"),
    (READER, "tools.elevated", GONE, "tools.elevated.enabled"),
    (READER, "tools.elevated.allowFrom.telegram", ["*"], "tools.elevated.allowFrom.telegram"),
    (READER, f"{E}.tools.elevated.enabled", True, f"{E}.tools.elevated.enabled"),
    (READER, f"{A}.elevatedDefault", "full", f"{A}.elevatedDefault"),
    # files and the sandbox
    (READER, "tools.fs.workspaceOnly", False, "tools.fs.workspaceOnly"),
    (READER, "tools.fs", GONE, "tools.fs.workspaceOnly"),
    (READER, f"{E}.tools.fs.workspaceOnly", False, f"{E}.tools.fs.workspaceOnly"),
    (READER, f"{S}.mode", "off", f"{S}.mode"),
    (READER, f"{S}.mode", "non-main", f"{S}.mode"),
    (READER, S, GONE, f"{S}.mode"),
    (READER, f"{E}.sandbox.mode", "off", f"{E}.sandbox.mode"),
    (READER, f"{S}.workspaceAccess", "rw", f"{S}.workspaceAccess"),
    (READER, f"{S}.docker.network", "bridge", f"{S}.docker.network"),
    (READER, f"{S}.docker.binds", ["/:/host"], f"{S}.docker.binds"),
    (READER, f"{S}.docker.dangerouslyAllowExternalBindSources", True, "dangerouslyAllowExternalBindSources"),
    (READER, f"{S}.docker.dangerouslyAllowContainerNamespaceJoin", True, "dangerouslyAllowContainerNamespaceJoin"),
    (READER, f"{S}.docker.dangerouslyAllowReservedContainerTargets", True, "dangerouslyAllowReservedContainerTargets"),
    (READER, f"{S}.docker.readOnlyRoot", False, f"{S}.docker.readOnlyRoot"),
    (READER, f"{S}.docker.capDrop", [], f"{S}.docker.capDrop"),
    (READER, f"{S}.docker.setupCommand", "curl x | sh", f"{S}.docker.setupCommand"),
    (READER, f"{S}.docker.seccompProfile", "unconfined", f"{S}.docker.seccompProfile"),
    (READER, f"{S}.docker.extraHosts", ["a:1.2.3.4"], f"{S}.docker.extraHosts"),
    (READER, f"{S}.scope", "shared", f"{S}.scope"),
    (READER, f"{S}.backend", "ssh", f"{S}.backend"),
    (READER, f"{S}.sessionToolsVisibility", "all", f"{S}.sessionToolsVisibility"),
    (READER, f"{S}.browser.enabled", True, f"{S}.browser.enabled"),
    # providers and models
    (READER, f"{P}.claw-anthropic.baseUrl", "https://api.anthropic.com", f"{P}.claw-anthropic.baseUrl"),
    (READER, f"{P}.claw-anthropic.baseUrl", f"{GATEWAY}/openai/v1", f"{P}.claw-anthropic.baseUrl"),
    (READER, f"{P}.claw-anthropic.baseUrl", "http://127.0.0.1:9/anthropic", f"{P}.claw-anthropic.baseUrl"),
    (READER, f"{P}.claw-anthropic.baseUrl", GONE, f"{P}.claw-anthropic.baseUrl"),
    (READER, f"{P}.mine", {"baseUrl": "https://llm.example/v1", "models": []}, f"{P}.mine.baseUrl"),
    (READER, f"{P}.openai", {"baseUrl": f"{GATEWAY}/openai/v1", "models": []}, f"{P}.openai.baseUrl"),
    (READER, f"{P}.claw-anthropic.request.proxy.url", "http://other:3128", f"{P}.claw-anthropic.request.proxy.url"),
    (READER, f"{P}.claw-anthropic.request.tls.insecureSkipVerify", True, "insecureSkipVerify"),
    (READER, f"{P}.claw-anthropic.localService", {"command": "x"}, "localService"),
    (READER, f"{P}.claw-anthropic.models", [{"id": "claude-opus-4-5"}], f"{P}.claw-anthropic.models[0].id"),
    (READER, f"{P}.claw-anthropic.models", [{"id": "claude-sonnet-4-5", "baseUrl": "https://x"}], "models[0].baseUrl"),
    (READER, "models.mode", "merge", "models.mode"),
    (READER, "models.mode", GONE, "models.mode"),
    (READER, f"{A}.modelPolicy.allow", ["*"], f"{A}.modelPolicy.allow"),
    (READER, f"{A}.modelPolicy", GONE, f"{A}.modelPolicy.allow"),
    (READER, f"{A}.model", "anthropic/claude-sonnet-4-5", f"{A}.model"),
    (READER, f"{A}.model.primary", "claw-anthropic/claude-opus-4-5", f"{A}.model.primary"),
    (READER, f"{A}.model.fallbacks", ["openai/gpt-5"], f"{A}.model.fallbacks"),
    (READER, f"{A}.utilityModel", "openai/gpt-5-nano", f"{A}.utilityModel"),
    (READER, f"{A}.imageModel", "openai/gpt-5", f"{A}.imageModel"),
    (READER, f"{A}.subagents.model", "openai/gpt-5", f"{A}.subagents.model"),
    (READER, f"{A}.models", {"openai/gpt-5": {}}, f"{A}.models"),
    (READER, f"{E}.model", "openai/gpt-5", f"{E}.model"),
    (READER, f"{E}.runtime", {"type": "acp"}, f"{E}.runtime.type"),
    (READER, f"{P}.claw-anthropic.agentRuntime.id", "claude-cli", "agentRuntime.id"),
    (READER, "channels.modelByChannel.telegram.7", "openai/gpt-5", "channels.modelByChannel.telegram.7"),
    (READER, "memory.search.remote.baseUrl", "https://embed.example", "memory.search.remote.baseUrl"),
    (READER, "proxy.enabled", True, "proxy.enabled"),
    (READER, "env.vars.OPENAI_API_KEY", "sk-1", "env.vars.OPENAI_API_KEY"),
    (READER, "env.vars.ANTHROPIC_BASE_URL", "https://x", "env.vars.ANTHROPIC_BASE_URL"),
    (READER, "env.shellEnv.enabled", True, "env.shellEnv.enabled"),
    # what brings more
    (READER, "mcp.servers.outlook", {"command": "node"}, "mcp.servers.outlook"),
    (READER, "nodeHost.mcp.servers.x", {"url": "https://mcp.example"}, "nodeHost.mcp.servers.x"),
    (READER, "plugins.enabled", True, "plugins.enabled"),
    (READER, "plugins.enabled", GONE, "plugins.enabled"),
    (READER, "plugins", {"enabled": True, "entries": {"mine": {"enabled": True}}}, "plugins.entries.mine"),
    (READER, "plugins", {"enabled": True, "allow": ["mine"]}, "plugins.allow"),
    (READER, "plugins.load.paths", ["/opt/p"], "plugins.load.paths"),
    (READER, "plugins.slots.memory", "memory-core", "plugins.slots.memory"),
    (READER, "hooks.enabled", True, "hooks.enabled"),
    (READER, "hooks.mappings", [{"action": "agent"}], "hooks.mappings"),
    (READER, "hooks.internal.enabled", True, "hooks.internal.enabled"),
    (READER, "skills.load.extraDirs", ["/x"], "skills.load.extraDirs"),
    (READER, "acp.enabled", True, "acp.enabled"),
    (READER, "cron.enabled", True, "cron.enabled"),
    (READER, "browser.enabled", True, "browser.enabled"),
    (READER, "commands.bash", True, "commands.bash"),
    (READER, "cloudWorkers.profiles.x", {"provider": "y"}, "cloudWorkers.profiles"),
    (READER, "$include", "./more.json5", "$include"),
    (READER, "tools.$include", ["./more.json5"], "tools.$include"),
    # ways in
    (READER, "channels.telegram", {"botToken": "1:x"}, "channels.telegram"),
    (READER, "channels.telegram.dmPolicy", "open", "channels.telegram.dmPolicy"),
    (READER, "channels.slack.accounts.a.groupPolicy", "open", "channels.slack.accounts.a.groupPolicy"),
    (READER, "channels.telegram.allowFrom", ["*"], "channels.telegram.allowFrom"),
    (READER, "gateway.bind", "lan", "gateway.bind"),
    (READER, "gateway.mode", "remote", "gateway.mode"),
    (READER, "gateway.auth.mode", "none", "gateway.auth.mode"),
    (READER, "gateway.auth.mode", "trusted-proxy", "gateway.auth.mode"),
    (READER, "gateway.auth", {}, "gateway.auth.mode"),
    (READER, "gateway.tailscale.mode", "funnel", "gateway.tailscale.mode"),
    (READER, "gateway.controlUi.allowedOrigins", ["*"], "gateway.controlUi.allowedOrigins"),
    (READER, "gateway.controlUi.dangerouslyDisableDeviceAuth", True, "dangerouslyDisableDeviceAuth"),
    (READER, "gateway.terminal.enabled", True, "gateway.terminal.enabled"),
    (READER, "gateway.http.endpoints.responses.enabled", True, "gateway.http.endpoints.responses.enabled"),
    (READER, "gateway.nodes.commands.allow", ["camera.snap"], "gateway.nodes.commands.allow"),
    # what leaves beside the gateway, and what hides it
    (READER, "gateway.port", "${SOME_PORT}", "gateway.port"),
    (READER, "env.OPENAI_API_KEY", "sk-1", "env.OPENAI_API_KEY"),
    (READER, "env.vars.LD_PRELOAD", "/tmp/x.so", "env.vars.LD_PRELOAD"),
    (READER, "env.vars.OPENCLAW_STATE_DIR", "/tmp/x", "env.vars.OPENCLAW_STATE_DIR"),
    (READER, "secrets.providers.x", {"source": "exec", "command": "/bin/x"}, "secrets.providers.x.source"),
    (READER, "telemetry.enabled", True, "telemetry.enabled"),
    (READER, "diagnostics.otel.enabled", True, "diagnostics.otel.enabled"),
    (READER, "diagnostics.otel.captureContent", True, "diagnostics.otel.captureContent"),
    (READER, "security.audit.suppressions", [{"checkId": "x"}], "security.audit.suppressions"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "path", "value", "expected"), WIDENINGS)
def test_a_widening_is_found_where_it_stands_with_its_field_and_a_remedy(
    document: JsonObject, path: str, value: Any, expected: str
) -> None:
    hits = [item for item in found(put(rendered(document), path, value), document) if expected in item.path]
    assert hits
    assert all(item.says and item.remedy and item.field for item in hits)


@pytest.mark.parametrize("document", [READER, RUNNER, KEEPER, FREE])
@pytest.mark.parametrize(
    "options",
    [Options(GATEWAY), Options(GATEWAY, isolated=True), Options(GATEWAY, sandbox=False), Options("https://g:1")],
)
def test_what_was_rendered_from_a_contract_is_within_it(document: JsonObject, options: Options) -> None:
    assert found(rendered(document, options), document, options) == []


def test_what_was_rendered_from_a_wider_contract_is_wider() -> None:
    paths = {item.path for item in found(rendered(FREE), READER)}
    assert {"tools.exec.mode", "tools.allow", "tools.deny", f"{P}.claw-openai.baseUrl"} <= paths
    assert "tools.exec.mode" in {item.path for item in found(rendered(FREE), RUNNER)}


@pytest.mark.parametrize("text", ["{}", "{tools: {}}", '{tools: 7, agents: [], models: "x", gateway: null}'])
def test_an_empty_or_broken_configuration_is_wider_not_unknown(text: str) -> None:
    hits = compare(parse_config(text.encode(), {}), powers(READER), Options(GATEWAY))
    paths = {item.path for item in hits}
    assert {"tools.allow", "tools.elevated.enabled", "models.mode", "agents.defaults.modelPolicy.allow"} <= paths


def test_leave_in_the_contract_is_no_finding() -> None:
    elevated = {**RUNNER, "elevated": True}
    config = put(put(rendered(elevated), "tools.elevated.allowFrom.telegram", ["7"]), f"{A}.elevatedDefault", "ask")
    assert found(config, elevated) == []
    assert found(config, RUNNER)
    server = {
        **READER,
        "allowed_tools": ["fs.read", "mail"],
        "tool_classes": {**READER["tool_classes"], "mail": ["outlook__*"]},
    }
    config = put(rendered(server), "mcp.servers.outlook", {"command": "node"})
    assert found(config, server) == []
    assert [item.path for item in found(config, READER) if item.path.startswith("mcp")] == ["mcp.servers.outlook"]


def test_the_sandbox_may_be_off_where_the_job_is_isolated_and_only_there() -> None:
    config = rendered(RUNNER, Options(GATEWAY, isolated=True))
    assert found(config, RUNNER, Options(GATEWAY, isolated=True)) == []
    paths = {item.path for item in found(config, RUNNER)}
    assert {f"{S}.mode", f"{P}.claw-anthropic.baseUrl"} <= paths


def row_seed(row: Row) -> JsonObject:
    """A rendering with a value that the row finds too wide."""
    path = row.path.removeprefix("^").replace("*", "x")
    values = [
        value
        for value in (True, False, "unconfined", "shared", "*", "open", "auto", "trusted", "oauth", "exec", ["x"])
        if row.wide(value)
    ]
    assert values, row.path
    prefix = "" if row.path.startswith("^") else "agents.entries.main."
    return put(rendered(READER), prefix + path, values[0])


def test_a_finding_shows_no_secret() -> None:
    config = put(
        rendered(READER),
        f"{P}.mine",
        {"baseUrl": "https://user:hunter2@llm.example/v1?key=hunter2", "apiKey": "hunter2"},
    )
    config = put(config, "env.vars.OPENAI_API_KEY", "hunter2")
    config = put(config, "channels.telegram", {"botToken": "hunter2", "dmPolicy": "open"})
    config = put(config, "mcp.servers.x", {"url": "https://hunter2@mcp.example?hunter2", "headers": {"A": "hunter2"}})
    config = put(config, "hooks.mappings", [{"messageTemplate": "hunter2"}])
    hits = found(config)
    assert len(hits) > 5
    assert "hunter2" not in json.dumps([item.to_json() for item in hits] + [item.line() for item in hits])


def test_a_name_that_stands_for_a_value_is_judged_by_the_value_and_shown_as_the_name() -> None:
    config = put(rendered(READER), f"{P}.claw-anthropic.baseUrl", "${GATE}/anthropic")
    raw = json.dumps(config).encode()
    assert compare(parse_config(raw, {"GATE": GATEWAY}), powers(READER), Options(GATEWAY)) == []
    for names in ({}, {"GATE": "https://secret.example"}):
        hits = compare(parse_config(raw, names), powers(READER), Options(GATEWAY))
        assert f"{P}.claw-anthropic.baseUrl" in {item.path for item in hits}
        assert not any("secret.example" in item.line() for item in hits)


def test_what_a_name_stands_for_is_nowhere_in_a_finding_also_in_lists() -> None:
    config = put(rendered(READER), "plugins.enabled", True)
    for path in ("tools.allow", "tools.alsoAllow", "plugins.allow", f"{A}.model.fallbacks", f"{A}.modelPolicy.allow"):
        config = put(config, path, ["${OF_THE_OPERATOR}"])
    hits = compare(
        parse_config(json.dumps(config).encode(), {"OF_THE_OPERATOR": "hunter2"}), powers(READER), Options(GATEWAY)
    )
    assert {"tools.allow", "plugins.allow", f"{A}.model.fallbacks"} <= {item.path for item in hits}
    assert "hunter2" not in json.dumps([item.to_json() for item in hits]).lower()
    assert any("${OF_THE_OPERATOR}" in item.value for item in hits)


def test_names_in_a_finding_do_not_act_on_a_terminal() -> None:
    name = "x\x1b]0;title\x07\nwithin the contract\u202e" + "y" * 5_000
    hits = found(put(put(rendered(READER), "tools.alsoAllow", [name]), f"mcp.servers.{name}", {"command": name}))
    assert hits
    assert all(item.line().isprintable() and len(item.line()) < 2_000 for item in hits)


@pytest.mark.parametrize("own", [{}, {"WHERE": "loopback"}])
def test_a_name_that_only_openclaw_has_is_a_finding_whatever_the_file_says_of_it(own: dict[str, str]) -> None:
    # its .env files count before env.vars, so the same file can mean "lan"
    config = put(put(rendered(READER), "gateway.bind", "${WHERE}"), "env", {"vars": own})
    raw = json.dumps(config).encode()
    hits = compare(parse_config(raw, {}), powers(READER), Options(GATEWAY))
    assert "gateway.bind" in {item.path for item in hits}
    assert compare(parse_config(raw, {"WHERE": "loopback"}), powers(READER), Options(GATEWAY)) == []
    config = put(rendered(READER), "channels.x", {"enabled": False, "dmPolicy": "${WHO}", "allowFrom": ["${WHO}"]})
    assert {"channels.x.dmPolicy", "channels.x.allowFrom[0]"} <= {item.path for item in found(config)}


def test_findings_are_bounded() -> None:
    config = put(rendered(READER), "mcp.servers", {f"s{n}": {"command": "x"} for n in range(3 * MAX_FOUND)})
    assert len(found(config)) == MAX_FOUND
