"""Which settings of a live openclaw.json allow more than a contract. Pure.

Three kinds of rules: a table of settings that allow something by themselves (``settings_table``); rules of their own
for lists of tools, modes, addresses, models, servers, plugins and channels, wherever they stand, also per agent, per
provider, per sender and per channel; and what is allowed because a setting is absent. What cannot be read is wider.

Limits: a setting that no rule knows is not seen. OpenClaw's own audit, which ``own_audit`` runs beside this, looks
at the rest; the gateway judges every call whatever OpenClaw is set to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .config import LiveConfig, Path_, at, references_in, walk
from .providers import SHAPES, base_url
from .render import Options
from .settings_table import ACCESS, EXEC_MODES, VISIBILITIES, filled, rows_by_name
from .tools import GROUPS, INDIRECT, OTHERS, PLUGINS, PROFILES, TOOLS, Powers, denied_by, granted_by
from .wider import Wider, is_secret, wider

MAX_FOUND = 1_000
_ROWS = rows_by_name()
_EXEC_TOOLS = ("exec", "process")
_SESSION_TOOLS = GROUPS["sessions"]
_LEGACY = {
    ("deny", "*"): "deny",
    ("allowlist", "off"): "allowlist",
    ("allowlist", "on-miss"): "ask",
    ("allowlist", "always"): "ask",
    ("full", "always"): "ask",
}
_MODEL_KEYS = frozenset(
    {
        "model",
        "primary",
        "fallbacks",
        "utilityModel",
        "decisionModel",
        "imageModel",
        "voiceModel",
        "pdfModel",
        "preferredModel",
        "models",
    }
)
_DANGEROUS = ("dangerously", "allowUnsafe", "allowInsecure")
_CHANNEL_SETTINGS = frozenset({"defaults", "modelByChannel"})
VARIABLES = (
    "_API_KEY",
    "_BASE_URL",
    "_API_BASE",
    "_PROXY",
    "_AUTH_TOKEN",
    "NODE_OPTIONS",
    "NODE_TLS",
    "NODE_EXTRA",
    "_OAUTH_TOKEN",
    "_ENDPOINT",
    "AWS_",
    "LD_",
    "DYLD_",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_HOME",
    "OPENCLAW_LOAD_SHELL_ENV",
)


def compare(live: LiveConfig, powers: Powers, options: Options) -> list[Wider]:
    """Every setting that allows more, in the order of the file, then those that are absent; at most ``MAX_FOUND``."""
    comparison = _Comparison(live, powers, options)
    found: dict[tuple[str, str], Wider] = {}
    for item in comparison.run():
        found.setdefault((item.path, item.says), item)
        if len(found) >= MAX_FOUND:
            break
    return list(found.values())


class _Comparison:
    def __init__(self, live: LiveConfig, powers: Powers, options: Options) -> None:
        self.tree = live.tree
        self.raw = live.raw
        self.powers = powers
        self.options = options
        self.known = live.given | references_in(options.gateway)
        self.denied = denied_by(_texts(at(self.tree, "tools", "deny")))
        self.here = _gateway_providers(self.tree, powers, options)

    def run(self) -> Iterator[Wider]:
        for path, value in walk(self.tree):
            yield from self._table(path, value)
            name = path[-1]
            if name == "$include":
                yield self._say(
                    path, value, "allowed_tools", "settings in another file are not read", "put them into this file"
                )
            elif name.startswith(_DANGEROUS) and filled(value):
                yield self._say(path, value, "allowed_tools", "OpenClaw itself calls it dangerous", "take it out")
            elif name in ("allow", "alsoAllow") and _is_tool_scope(path[:-1]):
                yield from self._grants(path, value)
            elif name == "exec" and path[-2:-1] == ("tools",):
                yield from self._exec(path, value)
            elif name == "sandbox" and path[0] == "agents":
                yield from self._sandbox(path, value)
            elif name == "visibility" and path[-2:-1] == ("sessions",):
                yield from self._visibility(path, value)
            elif name == "toolSearch" and path[-2:-1] == ("tools",):
                yield from self._tool_search(path, value)
            elif name == "profile" and _is_tool_scope(path[:-1]):
                yield from self._profile(path, value)
            elif name.lower() in ("baseurl", "base_url") and path[:2] != ("models", "providers"):
                yield from self._address(path, value)
            if _names_models(path):
                yield from self._models(path, value)
            if path[0] == "models":
                yield from self._providers(path, value)
            yield from self._servers(path, value)
            yield from self._plugins(path, value)
            yield from self._channels(path, value)
            yield from self._variables(path, value)
        for path, value in walk(self.raw):
            if isinstance(value, str) and references_in(value) - self.known and not is_secret(path):
                says = "what the name stands for is not known: OpenClaw may have it from an .env file"
                yield self._say(path, value, "allowed_tools", says, "write the value, or audit with its environment")
        yield from self._absent()

    # -- in place ------------------------------------------------------------------------------------------------------

    def _table(self, path: Path_, value: Any) -> Iterator[Wider]:
        for row in (*_ROWS.get(path[-1], ()), *_ROWS.get("*", ())):
            if row.fits(path) and row.wide(value) and not row.unless(self.powers, self.options):
                yield self._say(path, value, row.field, row.says, row.remedy)

    def _grants(self, path: Path_, value: Any) -> Iterator[Wider]:
        """An entry that allows a tool which the contract does not, and which no ``deny`` takes away again."""
        beside = at_path(self.tree, (*path[:-1], "deny"))
        denied = self.denied | denied_by(_texts(beside))
        for entry, raw in zip(_texts(value), _texts(at_path(self.raw, path)), strict=True):
            beyond = self._beyond(granted_by([entry]), denied)
            if beyond:
                says = f"the contract does not allow {_listed(beyond) if raw == entry else 'what it stands for'}"
                yield wider(path, raw, "allowed_tools", says, "take the entry out")
        if not isinstance(value, list) or len(_texts(value)) != len(value):
            yield self._say(path, value, "allowed_tools", "not a list of names", "write it as a list")

    def _beyond(self, granted: frozenset[str], denied: frozenset[str]) -> list[str]:
        """Tools of ``granted`` that are not denied and not permitted."""
        if OTHERS in denied:
            return []
        return sorted(tool for tool in granted - denied if not self._permits(tool))

    def _permits(self, tool: str) -> bool:
        if tool in (OTHERS, PLUGINS):
            return self.powers.all_tools
        if "*" in tool:
            return tool in self.powers.other_tools or self.powers.all_tools
        return self.powers.permits(tool)

    def _profile(self, path: Path_, value: Any) -> Iterator[Wider]:
        """A profile opens tools unless a list of names stands beside it, or at the top."""
        if _texts(at(self.tree, "tools", "allow")) or _texts(at_path(self.tree, (*path[:-1], "allow"))):
            return
        denied = self.denied | denied_by(_texts(at_path(self.tree, (*path[:-1], "deny"))))
        granted = PROFILES.get(str(value), _EVERYTHING)
        if beyond := self._beyond(granted, denied):
            says = f"the contract does not allow {_listed(beyond)}"
            yield self._say(path, value, "allowed_tools", says, "list the tools in tools.allow")

    def _exec(self, path: Path_, value: Any) -> Iterator[Wider]:
        most = self.powers.exec_mode
        field = "approvals" if most == "ask" else "allowed_tools"
        says = {"deny": "commands are not allowed", "ask": "each command needs an approval"}.get(most, "")
        mode, name = _exec_mode(value)
        if mode not in EXEC_MODES:
            yield self._say((*path, name), mode, field, "not a mode that is known", f'set tools.exec.mode to "{most}"')
        elif EXEC_MODES.index(mode) > EXEC_MODES.index(most) and (name or len(path) == 2):
            held = value.get(name) if isinstance(value, dict) and name else None
            absent_but_denied = not name and all(tool in self.denied for tool in _EXEC_TOOLS)
            if not absent_but_denied:
                yield self._say((*path, name or "mode"), held, field, says, f'set tools.exec.mode to "{most}"')
        host = value.get("host") if isinstance(value, dict) else None
        if host == "node" or (host == "gateway" and self.options.sandboxed and self.powers.permits("exec")):
            says = "commands run on another machine" if host == "node" else "commands run outside of the sandbox"
            yield self._say((*path, "host"), host, "allowed_tools", says, 'set it to "sandbox"')

    def _sandbox(self, path: Path_, value: Any) -> Iterator[Wider]:
        if not self.options.sandboxed or not self.powers.touches_the_host:
            return
        is_top = path == ("agents", "defaults", "sandbox")
        mode, access = at(value, "mode"), at(value, "workspaceAccess")
        if mode != "all" and (mode is not None or is_top):
            says = "tools that read, write or run things work on the host"
            yield self._say((*path, "mode"), mode, "allowed_tools", says, 'set it to "all", or audit with --isolated')
        most = self.powers.workspace_access
        if access is not None and (access not in ACCESS or ACCESS.index(access) > ACCESS.index(most)):
            says = f"the tools of the contract need no more than {most}"
            yield self._say((*path, "workspaceAccess"), access, "allowed_tools", says, f'set it to "{most}"')

    def _visibility(self, path: Path_, value: Any) -> Iterator[Wider]:
        most = "agent" if self.powers.other_sessions else "self"
        if value not in VISIBILITIES or VISIBILITIES.index(value) > VISIBILITIES.index(most):
            yield self._say(path, value, "allowed_tools", "other sessions are not allowed", f'set it to "{most}"')

    def _tool_search(self, path: Path_, value: Any) -> Iterator[Wider]:
        enabled = at(value, "enabled") is not False if isinstance(value, dict) else value is not False
        names = INDIRECT if isinstance(value, dict) and value.get("mode", "tools") != "code" else ("tool_search_code",)
        if enabled and not all(self.powers.permits(tool) for tool in names):
            yield self._say(
                path, value, "allowed_tools", f"{', '.join(names)} are not allowed by name", "set it to false"
            )

    def _address(self, path: Path_, value: Any) -> Iterator[Wider]:
        if not isinstance(value, str) or not is_below(value, self.options.gateway):
            yield self._say(path, value, "model_routing", "an address that goes around the gateway", "take it out")

    # -- models and providers ------------------------------------------------------------------------------------------

    def _providers(self, path: Path_, value: Any) -> Iterator[Wider]:
        """``models.mode`` and ``models.providers``: only addresses of the gateway, and only models of the contract."""
        if path == ("models", "mode") and value != "replace":
            yield self._say(
                path,
                value,
                "allowed_providers",
                "built-in providers stay, at their own addresses",
                'set it to "replace"',
            )
        elif path[:2] == ("models", "providers") and len(path) == 3 and path[2] not in self.here:
            where = (*path, "baseUrl")
            says = "not an address of the gateway for a provider of the contract"
            remedy = "use what clawproxy openclaw render gives"
            yield self._say(where, at(value, "baseUrl"), "allowed_providers", says, remedy)
        elif path[:2] == ("models", "providers") and path[3:4] == ("models",) and len(path) == 5:
            model = at(value, "id")
            if not isinstance(model, str) or not self.powers.permits_model(model):
                yield self._say(
                    (*path, "id"), model, "allowed_models", "the contract does not allow this model", "take it out"
                )
            if (url := at(value, "baseUrl")) is not None and not is_below(str(url), self.options.gateway):
                yield self._say(
                    (*path, "baseUrl"), url, "model_routing", "an address that goes around the gateway", "take it out"
                )

    def _models(self, path: Path_, value: Any) -> Iterator[Wider]:
        """A reference ``provider/model``: its provider must be one that goes to the gateway, its model be allowed."""
        for name, raw in zip(_models_in(path, value), _models_in(path, at_path(self.raw, path)), strict=True):
            if name and not self._is_allowed_model(name):
                says = "the contract does not allow this model, or its provider does not go to the gateway"
                yield wider(path, raw, "allowed_models", says, "take it out")

    def _is_allowed_model(self, name: str) -> bool:
        provider, slash, model = name.partition("/")
        if slash and provider in self.here:
            return self.powers.permits_model(model)
        return not slash and self.powers.permits_model(name)

    # -- what brings more ----------------------------------------------------------------------------------------------

    def _servers(self, path: Path_, value: Any) -> Iterator[Wider]:
        if path[-3:-1] != ("mcp", "servers") or at(value, "enabled") is False:
            return
        names = (f"{path[-1]}__x", f"mcp__{path[-1]}__x")  # a tool of the server, by either way of naming it
        if not any(self.powers.permits(name) for name in names):
            says = "the contract allows no tool of this server"
            yield self._say(path, at(value, "url") or at(value, "command"), "allowed_tools", says, "take it out")

    def _plugins(self, path: Path_, value: Any) -> Iterator[Wider]:
        if path[:1] != ("plugins",) or at(self.tree, "plugins", "enabled") is False:
            return
        names: list[tuple[str, str]] = []
        if path == ("plugins", "allow"):
            names = list(zip(_texts(value), _texts(at_path(self.raw, path)), strict=True))
        elif path[:2] == ("plugins", "entries") and len(path) == 3 and at(value, "enabled") is True:
            names = [(path[2], path[2])]
        for name, raw in names:
            if not self.powers.permits(name) and not self.powers.all_tools:
                says = "the contract names no tool of this plugin; a plugin can change what leaves OpenClaw"
                yield wider(path, raw, "allowed_tools", says, "take it out")

    def _channels(self, path: Path_, value: Any) -> Iterator[Wider]:
        if path[0] != "channels" or len(path) != 2 or path[1] in _CHANNEL_SETTINGS or at(value, "enabled") is False:
            return
        if not self.powers.permits("message"):
            says = "people outside write to the agent, and it answers them: message is not allowed"
            yield wider(path, "configured", "allowed_tools", says, "take it out")

    def _variables(self, path: Path_, value: Any) -> Iterator[Wider]:
        inner = path[:2] == ("env", "vars") and len(path) == 3
        if not inner and not (path[:1] == ("env",) and len(path) == 2 and isinstance(value, str)):
            return
        if path[-1].upper().endswith(VARIABLES) or path[-1].upper().startswith(VARIABLES):
            says = "a key or an address of the agent's own, beside the gateway"
            yield self._say(path, value, "model_routing", says, "take it out")

    # -- what is absent ------------------------------------------------------------------------------------------------

    def _absent(self) -> Iterator[Wider]:
        """What OpenClaw allows by default."""
        powers, tree = self.powers, self.tree
        profile = at(tree, "tools", "profile")
        open_to_all = not _texts(at(tree, "tools", "allow")) and not isinstance(profile, str)
        beyond = self._beyond(_EVERYTHING, self.denied) if open_to_all else []
        if beyond:
            says = f"the contract does not allow {_listed(beyond)}"
            yield wider(
                "tools.allow", at(tree, "tools", "allow"), "allowed_tools", says, "list the allowed tools there"
            )
        undenied = [tool for tool in TOOLS if powers.denies(tool) and tool not in self.denied]
        if undenied:
            says = f"the contract denies {_listed(undenied)}"
            yield wider(
                "tools.deny", at(tree, "tools", "deny"), "denied_tools", says, "list them there: a denial always wins"
            )
        if not powers.elevated and at(tree, "tools", "elevated", "enabled") is None:
            says = "on by default; the contract gives no leave for elevated runs"
            yield wider("tools.elevated.enabled", None, "elevated", says, "set it to false")
        if at(tree, "tools", "exec") is None:
            yield from self._exec(("tools", "exec"), {})
        if at(tree, "agents", "defaults", "sandbox") is None:
            yield from self._sandbox(("agents", "defaults", "sandbox"), None)
        yield from self._absent_tools()
        if at(tree, "models", "mode") is None:
            says = "merge by default: built-in providers stay, at their own addresses"
            yield wider("models.mode", None, "allowed_providers", says, 'set it to "replace"')
        if not _texts(at(tree, "agents", "defaults", "modelPolicy", "allow")):
            says = "any model of any provider may be chosen"
            yield wider(
                "agents.defaults.modelPolicy.allow", None, "allowed_models", says, "list the allowed models there"
            )
        if at(tree, "plugins", "enabled") is None and not powers.plugins:
            says = "on by default: plugins bring tools, hooks and providers, and can change fetch"
            yield wider("plugins.enabled", None, "allowed_tools", says, "set it to false")
        auth = at(tree, "gateway", "auth")
        if at(auth, "mode") is None and not at(auth, "token") and not at(auth, "password"):
            says = "who may start agents is not checked"
            yield wider("gateway.auth.mode", None, "allowed_tools", says, 'set it to "token", with a token')

    def _absent_tools(self) -> Iterator[Wider]:
        powers, tools = self.powers, at(self.tree, "tools")
        if any(tool not in self.denied for tool in _FILE_TOOLS) and at(tools, "fs", "workspaceOnly") is None:
            says = "files outside of the workspace"
            yield wider("tools.fs.workspaceOnly", None, "allowed_tools", says, "set it to true")
        if at(tools, "codeMode") is None and not (powers.permits("exec") and powers.permits("wait")):
            says = "automatic by default: code that calls any tool"
            yield wider("tools.codeMode", None, "allowed_tools", says, "set it to false")
        if at(tools, "toolSearch") is None and not all(powers.permits(tool) for tool in INDIRECT):
            says = f"on by default: {', '.join(INDIRECT)} are not allowed by name"
            yield wider("tools.toolSearch", None, "allowed_tools", says, "set it to false")
        if any(tool not in self.denied for tool in _SESSION_TOOLS):
            if at(tools, "sessions", "visibility") is None:
                says = "all by default: other sessions are not allowed"
                yield wider("tools.sessions.visibility", None, "allowed_tools", says, 'set it to "self"')
            if at(tools, "agentToAgent", "enabled") is None:
                says = "on by default: sessions of other agents"
                yield wider("tools.agentToAgent.enabled", None, "allowed_tools", says, "set it to false")

    def _say(self, path: Path_, value: Any, field: str, says: str, remedy: str) -> Wider:
        """With the value as it stands in the file: what a name stands for may be a secret."""
        raw = at_path(self.raw, path)
        return wider(path, value if raw is None else raw, field, says, remedy)


_EVERYTHING = frozenset({*TOOLS, OTHERS, PLUGINS})
_FILE_TOOLS = ("read", "write", "edit", "apply_patch")


def at_path(tree: Any, path: Path_) -> Any:
    """As ``at``, through lists too."""
    for name in path:
        if isinstance(tree, list) and name.startswith("["):
            n = int(name[1:-1])
            tree = tree[n] if n < len(tree) else None
        else:
            tree = at(tree, name)
    return tree


def _names_models(path: Path_) -> bool:
    if path[0] == "models" or path[:2] == ("plugins", "entries"):
        return False
    of_channel = path[:2] == ("channels", "modelByChannel") and len(path) > 2
    return path[-1] in _MODEL_KEYS or path[-2:] == ("modelPolicy", "allow") or of_channel


def _is_tool_scope(path: Path_) -> bool:
    """Whether ``allow`` and ``deny`` at ``path`` are lists of tools."""
    if not path:
        return False
    return path[-1] == "tools" or path[-2:-1] in (("byProvider",), ("toolsBySender",))


def _exec_mode(value: Any) -> tuple[str, str]:
    """The mode of ``tools.exec``, and the setting that says so (empty: none does). Without one it is ``full``."""
    if not isinstance(value, dict):
        return "?", ""
    if value.get("mode") is not None:
        return str(value["mode"]), "mode"
    security, ask = value.get("security"), value.get("ask")
    if security is None and ask is None:
        return "full", ""
    if security == "deny":
        return "deny", "security"
    known = security in (None, "allowlist", "full") and ask in (None, "off", "on-miss", "always")
    mode = _LEGACY.get((str(security or "full"), str(ask or "off")), "full")
    return mode if known else "?", "security" if security is not None else "ask"


def _gateway_providers(tree: Any, powers: Powers, options: Options) -> frozenset[str]:
    """The configured providers whose address is the gateway's for a provider of the contract."""
    allowed = [name for name in SHAPES if powers.providers is None or name in powers.providers]
    right = {base_url(name, options.gateway, isolated=isolated) for name in allowed for isolated in _ways(options)}
    providers = at(tree, "models", "providers")
    if not isinstance(providers, dict):
        return frozenset()
    return frozenset(
        name for name, provider in providers.items() if str(at(provider, "baseUrl")).rstrip("/") in right - {""}
    )


def _ways(options: Options) -> tuple[bool, ...]:
    return (False, True) if options.isolated else (False,)


def is_below(url: str, gateway: str) -> bool:
    """Whether ``url`` has the origin of ``gateway``."""
    try:
        a, b = urlsplit(url), urlsplit(gateway)
        return (a.scheme, a.hostname, a.port, a.username) == (b.scheme, b.hostname, b.port, None)
    except ValueError:
        return False


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _models_in(path: Path_, value: Any) -> list[str]:
    """The references ``provider/model`` at ``path``."""
    if isinstance(value, dict) and path[-1] == "models":
        return list(value)  # agents.defaults.models has them as keys
    if isinstance(value, list):
        return [_joined(item) for item in value]
    return [value] if isinstance(value, str) else []


def _joined(item: Any) -> str:
    """An entry of a list of models: a name, or an object with ``provider`` and ``model``."""
    if isinstance(item, dict):
        provider, model = item.get("provider"), item.get("model")
        return f"{provider}/{model}" if provider and model else str(model or "")
    return item if isinstance(item, str) else ""


def _listed(names: list[str]) -> str:
    words = {OTHERS: "tools of other names", PLUGINS: "tools of plugins"}
    shown = [words.get(name, name) for name in names[:6]]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
