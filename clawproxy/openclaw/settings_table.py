"""Settings of OpenClaw that allow something by themselves, as a table: where, what is too wide, what the contract says.
Pure.

A row holds wherever its path ends so: ``elevated.enabled`` for ``tools.elevated.enabled`` and for
``agents.entries.main.tools.elevated.enabled``; ``^`` ties it to the top. ``*`` is one name or place. A row says what is
too wide when the setting is there; what it means that one is absent is ``compare``'s to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .config import Path_
from .render import Options
from .tools import Powers

type Wide = Callable[[Any], bool]
type Leave = Callable[[Powers, Options], bool]

EXEC_MODES = ("deny", "allowlist", "ask", "auto", "full")
VISIBILITIES = ("self", "tree", "agent", "all")
ACCESS = ("none", "ro", "rw")


@dataclass(frozen=True, slots=True)
class Row:
    """``unless`` is the leave that the contract (or the way of running) gives."""

    path: str
    wide: Wide
    field: str
    says: str
    remedy: str
    unless: Leave = lambda powers, options: False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.removeprefix("^").split("."))

    def fits(self, path: Path_) -> bool:
        parts = self.parts
        if len(path) < len(parts) or (self.path.startswith("^") and len(path) != len(parts)):
            return False
        return all(part in ("*", name) for part, name in zip(reversed(parts), reversed(path), strict=False))


def on(value: Any) -> bool:
    """Anything but a plain ``false``."""
    return value is not False


def filled(value: Any) -> bool:
    """Anything but nothing, an empty list, an empty object, an empty text, ``false``."""
    return value not in (None, False, "", [], {})


def other_than(*values: Any) -> Wide:
    return lambda value: value not in values


def has(*entries: str) -> Wide:
    """A text or list that holds one of ``entries``."""
    return lambda value: any(entry in (value if isinstance(value, list) else [value]) for entry in entries)


def _elevated(powers: Powers, _: Options) -> bool:
    return powers.elevated


def _tool(*names: str) -> Leave:
    return lambda powers, _: any(powers.permits(name) for name in names)


def _isolated(_: Powers, options: Options) -> bool:
    return not options.sandboxed


_NO_LEAVE = "the contract gives no leave"
_BY_PEOPLE = "no tool call that the gateway judges stands behind it"
_OTHER_WAY = "what comes in, or runs, this way is in no contract"
_OFF = "set it to false"
_OUT = "take it out"

TABLE: tuple[Row, ...] = (
    # elevated
    Row("elevated.enabled", on, "elevated", f"{_NO_LEAVE} for elevated runs", _OFF, _elevated),
    Row("elevated.allowFrom.*", filled, "elevated", f"{_NO_LEAVE} for elevated runs", _OUT, _elevated),
    Row("elevatedDefault", other_than("off"), "elevated", f"{_NO_LEAVE} for elevated runs", 'set it to "off"', _elevated),
    # files and the sandbox
    Row("fs.workspaceOnly", lambda value: value is not True, "allowed_tools", "files outside of the workspace", "set it to true"),
    Row("applyPatch.workspaceOnly", lambda value: value is not True, "allowed_tools", "files outside of the workspace", "set it to true"),
    Row("sandbox.docker.network", other_than("none"), "egress_allowlist", "a sandbox with a network of its own goes around the gateway", 'set it to "none"', _isolated),
    Row("sandbox.docker.binds", filled, "allowed_tools", "it opens the host's files to the sandbox", _OUT, _isolated),
    Row("sandbox.browser.binds", filled, "allowed_tools", "it opens the host's files to the sandbox", _OUT, _isolated),
    Row("sandbox.docker.readOnlyRoot", lambda value: value is not True, "allowed_tools", "the sandbox may change its own system", "set it to true", _isolated),
    Row("sandbox.docker.capDrop", lambda value: not has("ALL")(value), "allowed_tools", "the sandbox keeps capabilities", 'set it to ["ALL"]', _isolated),
    Row("sandbox.docker.setupCommand", filled, "allowed_tools", "it runs commands that no contract names", _OUT, _isolated),
    Row("sandbox.docker.extraHosts", filled, "egress_allowlist", "it names hosts to the sandbox", _OUT, _isolated),
    Row("sandbox.docker.dns", filled, "egress_allowlist", "it gives the sandbox a way out by names", _OUT, _isolated),
    Row("sandbox.docker.seccompProfile", has("unconfined"), "allowed_tools", "the sandbox is not confined", _OUT, _isolated),
    Row("sandbox.docker.apparmorProfile", has("unconfined"), "allowed_tools", "the sandbox is not confined", _OUT, _isolated),
    Row("sandbox.scope", has("shared"), "allowed_tools", "jobs share one sandbox", 'set it to "session"', _isolated),
    Row("sandbox.backend", other_than("docker", "podman"), "allowed_tools", "tools run on another machine", 'set it to "docker"', _isolated),
    Row("sandbox.sessionToolsVisibility", other_than("spawned"), "allowed_tools", "a sandbox sees other sessions", 'set it to "spawned"', _isolated),
    Row("sandbox.browser.enabled", on, "allowed_tools", "a browser", _OFF, _tool("browser")),
    Row("sandbox.browser.allowHostControl", on, "allowed_tools", "a browser of the host", _OFF),
    # ways in which one tool stands for others
    Row("tools.codeMode", filled, "allowed_tools", "code that calls any tool: exec and wait are not both allowed by name", _OFF, lambda p, o: p.permits("exec") and p.permits("wait")),
    Row("models.*.codeMode", filled, "allowed_tools", "code that calls any tool", _OFF),
    Row("tools.swarm", filled, "allowed_tools", "other agents: sessions_spawn is not allowed", _OFF, _tool("sessions_spawn")),
    Row("sessions_spawn.attachments.enabled", on, "allowed_tools", "sessions_spawn is not allowed", _OFF, _tool("sessions_spawn")),
    # other sessions and agents
    Row("agentToAgent.enabled", on, "allowed_tools", "sessions of other agents", _OFF, _tool("agents_list")),
    Row("subagents.allowAgents", filled, "allowed_tools", "other agents: sessions_spawn is not allowed", "set it to []", _tool("sessions_spawn")),
    Row("broadcast.enabled", on, "allowed_tools", "messages to everybody", _OFF, _tool("message")),
    # the web and media
    Row("^tools.web.search.enabled", on, "allowed_tools", "web_search is not allowed", _OFF, _tool("web_search")),
    Row("^tools.web.fetch.enabled", on, "allowed_tools", "web_fetch is not allowed", _OFF, _tool("web_fetch")),
    Row("^tools.web.search.openaiCodex.enabled", on, "allowed_tools", "web_search is not allowed", _OFF, _tool("web_search")),
    Row("^tools.media.*.enabled", on, "allowed_models", "models of other providers read media", _OFF),
    Row("^tools.media.models", filled, "allowed_models", "models of other providers read media", _OUT),
    Row("^tools.links.enabled", on, "egress_allowlist", "it fetches what a message links to", _OFF),
    Row("^browser.enabled", on, "allowed_tools", "a browser is not allowed", _OFF, _tool("browser")),
    Row("^browser.cdpUrl", filled, "allowed_tools", "a browser elsewhere", _OUT, _tool("browser")),
    # providers
    Row("request.proxy.url", filled, "model_routing", "model calls by another proxy", _OUT),
    Row("request.tls.insecureSkipVerify", on, "model_routing", "whoever is in between is believed", _OFF),
    Row("providers.*.localService", filled, "allowed_providers", "it starts a program as a provider", _OUT),
    Row("providers.*.auth", has("oauth", "aws-sdk"), "model_routing", "a login of the agent's own", _OUT),
    Row("agentRuntime.id", other_than("openclaw", "auto"), "allowed_tools", "another program runs the agent, with tools of its own", _OUT),
    Row("runtime.type", other_than("embedded"), "allowed_tools", "another program runs the agent, with tools of its own", _OUT),
    # what else brings tools, or ways in
    Row("^plugins.enabled", on, "allowed_tools", "plugins bring tools, hooks and providers, and can change fetch", _OFF, lambda p, o: p.plugins),
    Row("^plugins.load.paths", filled, "allowed_tools", "plugins from files: their code runs inside OpenClaw and can change fetch", _OUT),
    Row("^plugins.slots.memory", other_than("none"), "allowed_tools", "memory_search is not allowed", 'set it to "none"', _tool("memory_search", "memory_get")),
    Row("^plugins.slots.contextEngine", other_than("none"), "allowed_tools", "a plugin writes what the model reads", _OUT),
    Row("^hooks.enabled", on, "allowed_tools", f"webhooks start agents: {_OTHER_WAY}", _OFF),
    Row("^hooks.mappings", filled, "allowed_tools", f"webhooks start agents: {_OTHER_WAY}", _OUT),
    Row("^hooks.gmail", filled, "allowed_tools", f"mail starts agents: {_OTHER_WAY}", _OUT),
    Row("^hooks.transformsDir", filled, "allowed_tools", "code of its own runs inside OpenClaw", _OUT),
    Row("^hooks.internal.enabled", on, "allowed_tools", "hooks run code inside OpenClaw, and can change fetch", _OFF),
    Row("^hooks.internal.load.extraDirs", filled, "allowed_tools", "hooks run code inside OpenClaw, and can change fetch", _OUT),
    Row("^skills.load.extraDirs", filled, "allowed_tools", "skills that no contract names", _OUT),
    Row("^skills.install.allowUploadedArchives", on, "allowed_tools", "skills that no contract names", _OFF),
    Row("^skills.workshop.autonomous.mode", other_than("off", "propose"), "allowed_tools", "the agent writes skills", 'set it to "off"', _tool("skill_workshop")),
    Row("^skills.workshop.approvalPolicy", has("auto"), "allowed_tools", "the agent writes skills", 'set it to "pending"', _tool("skill_workshop")),
    Row("^acp.enabled", on, "allowed_tools", "other programs run as agents, with tools of their own", _OFF),
    Row("^cron.enabled", on, "allowed_tools", "automations are not allowed", _OFF, _tool("automations")),
    Row("nodeHost.agentRuns.claude.enabled", on, "allowed_tools", "another program runs the agent", _OFF),
    Row("nodeHost.workerRuns.enabled", on, "allowed_tools", "other machines run tools", _OFF),
    Row("^cloudWorkers.profiles", filled, "allowed_tools", "other machines run tools", _OUT),
    Row("^desktop.host.enabled", on, "allowed_tools", "a desktop is not allowed", _OFF, _tool("computer")),
    Row("^commands.bash", on, "allowed_tools", f"people run commands by chat: {_BY_PEOPLE}", _OFF),
    Row("^commands.config", on, "allowed_tools", f"people change this configuration by chat: {_BY_PEOPLE}", _OFF),
    Row("^commands.mcp", on, "allowed_tools", f"people add MCP servers by chat: {_BY_PEOPLE}", _OFF),
    Row("^commands.plugins", on, "allowed_tools", f"people add plugins by chat: {_BY_PEOPLE}", _OFF),
    Row("^commands.debug", on, "allowed_tools", f"people change settings by chat: {_BY_PEOPLE}", _OFF),
    # channels
    Row("dmPolicy", has("open"), "allowed_tools", "anybody may write to the agent", 'set it to "pairing"'),
    Row("groupPolicy", has("open"), "allowed_tools", "any group may write to the agent", 'set it to "allowlist"'),
    Row("allowFrom", has("*"), "allowed_tools", "anybody may write to the agent", "name who may"),
    Row("groupAllowFrom", has("*"), "allowed_tools", "anybody may write to the agent", "name who may"),
    # the gateway of OpenClaw
    Row("^gateway.mode", other_than("local"), "model_routing", "another machine runs the agent", 'set it to "local"'),
    Row("^gateway.bind", other_than("loopback"), "allowed_tools", "other machines reach the agent", 'set it to "loopback"'),
    Row("^gateway.auth.mode", other_than("token", "password"), "allowed_tools", "who may start agents is not checked here", 'set it to "token"'),
    Row("^gateway.auth.allowTailscale", on, "allowed_tools", "others of the tailnet start agents", _OFF),
    Row("^gateway.tailscale.mode", other_than("off"), "allowed_tools", "other machines reach the agent", 'set it to "off"'),
    Row("^gateway.controlUi.allowedOrigins", has("*"), "allowed_tools", "any web page reaches the agent", "name the origins"),
    Row("^gateway.terminal.enabled", on, "allowed_tools", f"a terminal by the browser: {_BY_PEOPLE}", _OFF),
    Row("^gateway.cliAgents.enabled", on, "allowed_tools", "other programs run as agents, with tools of their own", _OFF),
    Row("^gateway.nodes.commands.allow", filled, "allowed_tools", "commands of other devices", _OUT, _tool("nodes")),
    Row("^gateway.http.endpoints.*.enabled", on, "allowed_tools", f"an API: {_OTHER_WAY}", _OFF),
    Row("^gateway.allowRealIpFallback", on, "allowed_tools", "an address that a client states is believed", _OFF),
    # what goes out beside the gateway
    Row("^proxy.enabled", on, "model_routing", "everything goes by another proxy", "use HTTPS_PROXY with the gateway's address"),
    Row("^env.shellEnv.enabled", on, "model_routing", "keys of the login shell come in", _OFF),
    Row("^telemetry.enabled", on, "egress_allowlist", "it tells others what runs here", _OFF),
    Row("^diagnostics.otel.enabled", on, "egress_allowlist", "it sends traces elsewhere", _OFF),
    Row("^diagnostics.otel.captureContent", on, "data_boundaries", "it sends prompts elsewhere", _OFF),
    Row("^diagnostics.cacheTrace.enabled", on, "data_boundaries", "it writes prompts to the disk", _OFF),
    Row("^secrets.providers.*.source", has("exec"), "allowed_tools", "it starts a program for each secret", _OUT),
    Row("^secrets.egressProxy.enabled", on, "egress_allowlist", "a proxy of its own puts secrets into calls", _OFF),
    Row("^update.auto.enabled", on, "allowed_tools", "another version comes in by itself", _OFF),
    Row("sslVerify", lambda value: value is False, "egress_allowlist", "whoever is in between is believed", "set it to true"),
    Row("noSandbox", on, "allowed_tools", "a browser without its sandbox", _OFF),
    Row("^security.audit.suppressions", filled, "evidence_requirements", "findings of the security audit are hidden", _OUT),
    Row("projectSettingsPolicy", has("trusted"), "allowed_tools", "the workspace changes settings", 'set it to "ignore"'),
)  # fmt: skip


def rows_by_name(rows: Iterable[Row] = TABLE) -> dict[str, list[Row]]:
    """Rows by the last name of their path; those that end in ``*`` under ``*``."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.parts[-1], []).append(row)
    return found
