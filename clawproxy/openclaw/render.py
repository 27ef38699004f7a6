"""The part of openclaw.json that matches a contract. Pure.

What the contract allows is allowed, everything else is switched off by name, also what is off by default: a later
version, or a second file, may have other defaults. ``notes`` say what the contract demands and OpenClaw cannot express.

Limits: the rendering holds for what OpenClaw itself runs. What its tools do on the network is not the gateway's to see
unless they go through its proxy port, or the job is isolated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..policies.contract import Contract
from ..policies.names import fold, matches
from ..policies.prices import PriceTable
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from .fields import NOTED
from .providers import PREFIX, SHAPES, base_url, provider_of
from .tools import ALIASES, GROUPS, INDIRECT, OF_PLUGINS, TOOLS, Powers

MAX_MODELS = 64
TOKEN = "${CLAW_TOKEN}"
GATEWAY_TOKEN = "${OPENCLAW_GATEWAY_TOKEN}"


@dataclass(frozen=True, slots=True)
class Options:
    """How OpenClaw is to run: ``gateway`` is the base URL of the gateway's base-URL listener, ``isolated`` that it runs
    in a namespace of its own, where providers keep their own addresses and no sandbox of its own is needed; ``sandbox``
    whether tools run in OpenClaw's sandbox."""

    gateway: str = "http://127.0.0.1:8081"
    isolated: bool = False
    sandbox: bool = True
    models: Sequence[str] = ()
    workspace: str = ""

    @property
    def sandboxed(self) -> bool:
        return self.sandbox and not self.isolated


@dataclass(frozen=True, slots=True)
class Rendered:
    """``config`` is JSON, ``notes`` one line each: a field of the contract, and what OpenClaw does not do about it."""

    config: JsonObject
    notes: tuple[str, ...]


def render(contract: Contract, options: Options, prices: PriceTable) -> Rendered:
    """Raises ``ClawproxyError`` (OPENCLAW_CONTRACT) where nothing can be rendered: no model, no provider to ask."""
    powers = Powers(contract)
    providers, notes = _providers(powers, options, prices)
    names = [f"{name}/{model['id']}" for name, provider in providers.items() for model in provider["models"]]
    config: JsonObject = {
        "gateway": {
            "mode": "local",
            "bind": "loopback",
            "auth": {"mode": "token", "token": GATEWAY_TOKEN},
            "tailscale": {"mode": "off"},
            "controlUi": {"enabled": False},
            "terminal": {"enabled": False},
            "cliAgents": {"enabled": False},
        },
        "agents": {"defaults": _agents(powers, options, names)},
        "tools": _tools(powers, options),
        "models": {"mode": "replace", "catalogRefresh": {"enabled": False}, "providers": providers},
        "plugins": {"enabled": powers.plugins, **({} if powers.permits("memory_search") else _NO_MEMORY)},
        "hooks": {"enabled": False, "internal": {"enabled": False}},
        "skills": {"allowBundled": [], "install": {"allowUploadedArchives": False}},
        "browser": {"enabled": powers.permits("browser")},
        "acp": {"enabled": False},
        "cron": {"enabled": powers.permits("automations")},
        "commands": dict.fromkeys(("bash", "config", "debug", "mcp", "plugins", "restart"), False),
        "memory": {"search": {"enabled": powers.permits("memory_search")}},
        "env": {"shellEnv": {"enabled": False}},
        "telemetry": {"enabled": False},
        "diagnostics": {"otel": {"enabled": False}},
        "update": {"checkOnStart": False, "auto": {"enabled": False}},
        "discovery": {"mdns": {"mode": "off"}},
        "session": {"dmScope": "per-channel-peer"},
    }
    return Rendered(config, (*notes, *_unsaid(powers, options)))


_NO_MEMORY: JsonObject = {"slots": {"memory": "none"}}


def _agents(powers: Powers, options: Options, names: list[str]) -> JsonObject:
    sandbox: JsonObject = {"mode": "off"}
    if options.sandboxed:
        sandbox = {
            "mode": "all",
            "backend": "docker",
            "scope": "session",
            "workspaceAccess": powers.workspace_access,
            "sessionToolsVisibility": "spawned",
            "docker": {"network": "none", "readOnlyRoot": True, "capDrop": ["ALL"], "binds": []},
            "browser": {"enabled": False},
        }
    return {
        **({"workspace": options.workspace} if options.workspace else {}),
        "model": {"primary": names[0], "fallbacks": []},
        "modelPolicy": {"allow": names},
        "elevatedDefault": "off",
        "skills": [],
        "subagents": {"allowAgents": []},
        "embeddedAgent": {"projectSettingsPolicy": "ignore"},
        "sandbox": sandbox,
    }


def _tools(powers: Powers, options: Options) -> JsonObject:
    indirect = all(powers.permits(tool) for tool in INDIRECT)
    allow = [*powers.tools, *map(_literal, powers.other_tools)]
    tools: JsonObject = {"allow": allow, "deny": [_literal(entry) for entry in _deny(powers)]}
    if not tools["allow"]:
        tools = {"deny": ["*"]}  # an empty allow list would allow everything
    return tools | {
        "fs": {"workspaceOnly": True},
        "exec": {
            "host": "sandbox" if options.sandboxed else "gateway",
            "mode": powers.exec_mode,
            "applyPatch": {"enabled": powers.permits("apply_patch"), "workspaceOnly": True},
        },
        "elevated": {"enabled": powers.elevated},
        "codeMode": False,
        "toolSearch": {"enabled": True, "mode": "tools"} if indirect else False,
        "swarm": False,
        "sessions": {"visibility": "agent" if powers.other_sessions else "self"},
        "agentToAgent": {"enabled": False},
        "web": {
            "search": {"enabled": powers.permits("web_search")},
            "fetch": {"enabled": powers.permits("web_fetch")},
        },
        "media": {kind: {"enabled": False} for kind in ("audio", "image", "video")},
        "links": {"enabled": False},
        "message": {"broadcast": {"enabled": False}},
    }


def _deny(powers: Powers) -> list[str]:
    """Every known tool that is not permitted, as groups where a whole group is not, and what the contract denies."""
    closed = [name for name, tools in GROUPS.items() if not any(powers.permits(tool) for tool in tools)]
    covered = {tool for name in closed for tool in GROUPS[name]}
    denied = [f"group:{name}" for name in closed]
    if not powers.plugins:
        denied.append("group:plugins")
        covered |= OF_PLUGINS
    denied += [tool for tool in TOOLS if tool not in covered and not powers.permits(tool)]
    rules = powers.contract.policy.tools
    for pattern in dict.fromkeys(rule.pattern for rule in rules.denied) if rules is not None else ():
        # by another name, or without case, OpenClaw may take a pattern for a tool that the contract does not mean
        meant = {tool for tool in TOOLS if matches(fold(pattern), tool)}
        meant |= {tool for alias, tool in ALIASES.items() if matches(fold(pattern), alias)}
        if not any(powers.permits(tool) for tool in meant) and pattern not in denied and pattern not in covered:
            denied.append(pattern)
    return denied


def _providers(powers: Powers, options: Options, prices: PriceTable) -> tuple[JsonObject, list[str]]:
    allowed = [name for name in SHAPES if powers.providers is None or name in powers.providers]
    notes = []
    for name in powers.providers or ():
        if name not in SHAPES:
            notes.append(
                f"allowed_providers: {name} has no base URL that OpenClaw takes; use it through the proxy port"
            )
    found: dict[str, list[str]] = {}
    for model in _models(powers, options, prices, allowed, notes):
        provider = provider_of(model, allowed, prices)
        if provider is None or not base_url(provider, options.gateway, isolated=options.isolated):
            why = (
                "no provider of the contract is known to serve it" if provider is None else f"{provider} has no address"
            )
            notes.append(f"allowed_models: {model} is left out: {why}")
        else:
            found.setdefault(provider, []).append(model)
    if not found:
        raise ClawproxyError(
            "OPENCLAW_CONTRACT",
            "the contract leaves no model to list",
            expected="an exact name in allowed_models, and a provider with a base URL",
            remedy="name one that allowed_models allows: --model NAME",
        )
    return {
        PREFIX + provider: {
            "baseUrl": base_url(provider, options.gateway, isolated=options.isolated),
            "api": SHAPES[provider].api,
            "apiKey": TOKEN,
            "headers": {"X-Policy-Hash": powers.contract.policy_hash_b64u},
            "models": [{"id": each, "name": each, "input": ["text"]} for each in map(_literal, models)],
        }
        for provider, models in found.items()
    }, notes


def _models(
    powers: Powers, options: Options, prices: PriceTable, allowed: Iterable[str], notes: list[str]
) -> list[str]:
    rules = powers.models
    for model in options.models:
        if not powers.permits_model(model):
            raise ClawproxyError("OPENCLAW_CONTRACT", "the contract does not allow this model", got=model)
    exact = [entry for entry in rules.patterns if "*" not in entry]
    patterns = [entry for entry in rules.patterns if "*" in entry]
    if options.models or not patterns:
        if patterns:
            notes.append("allowed_models: of what patterns allow, only the models that were named are listed")
        return list(dict.fromkeys([*options.models, *exact]))
    known = [name for provider in allowed for name in prices.models_of(provider)]
    fitting = [name for name in known if any(matches(pattern, name) for pattern in patterns)]
    listed = list(dict.fromkeys([*exact, *fitting]))
    notes.append(
        f"allowed_models: OpenClaw lists models by name; of what {', '.join(patterns)} allows, "
        f"{min(len(listed), MAX_MODELS)} known names are listed: choose with --model"
    )
    return listed[:MAX_MODELS]


def _unsaid(powers: Powers, options: Options) -> Iterable[str]:
    """What the contract says and OpenClaw's configuration has no word for."""
    policy, document = powers.contract.policy, powers.contract.document
    if powers.elevated:
        yield "elevated: nobody is named in tools.elevated.allowFrom; add the senders that may"
    if powers.exec_mode == "ask":
        yield "approvals: OpenClaw asks too, on its own host, once per allow-listed command; the gateway asks each time"
    asked = [tool for tool in (*powers.tools, *powers.other_tools) if tool != "exec" and powers.asks(tool)]
    if asked:
        yield f"approvals: OpenClaw asks nobody about {', '.join(asked)}; the gateway does"
    if policy.approvals.job is not None:
        yield "approvals: OpenClaw knows no approval of a whole job; the gateway refuses calls until there is one"
    for name in NOTED:
        if document.get(name):
            yield f"{name}: OpenClaw has no setting for it; the gateway holds it"
    if not options.isolated and (powers.permits("exec") or powers.permits("web_fetch") or policy.egress):
        yield "egress_allowlist: what tools fetch does not pass a base URL: run behind the proxy port, or isolated"
    if not options.sandboxed and powers.touches_the_host:
        yield "sandbox: off; " + (
            "the namespace of the job holds the tools" if options.isolated else "tools run on the host"
        )


def _literal(name: str) -> str:
    """A name of the contract, so that OpenClaw puts nothing of its environment in place of what stands in it."""
    return name.replace("${", "$${")


def as_text(value: Any) -> str:
    """The rendering as it is written: JSON, two blanks of indentation, one line end at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
