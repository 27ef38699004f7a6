"""The tools of OpenClaw 2026.9.6 by name and group, and which of them a contract allows. Pure.

Names and groups are those of OpenClaw's own documentation ("tool policy"), where its pages differ those of both; the
tools that its bundled plugins bring were taken from ``openclaw plugins list --json``. OpenClaw compares names without
case, takes ``*`` and ``group:NAME`` in its lists, and knows some tools by two names.

Limits: a tool that is not listed here (of a plugin, of an MCP server, of a later version) is judged by its name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..policies.contract import Contract
from ..policies.names import fold, matches
from ..policies.policy import ModelRules, Shape
from ..tokens.errors import ClawproxyError

VERSION = "2026.9.6"
GROUPS = {
    "runtime": ("exec", "process", "code_execution"),
    "fs": ("read", "write", "edit", "apply_patch"),
    "sessions": (
        "sessions",
        "sessions_list",
        "sessions_history",
        "sessions_search",
        "conversations_list",
        "conversations_send",
        "conversations_turn",
        "sessions_send",
        "sessions_spawn",
        "sessions_yield",
        "subagents",
        "session_status",
        "suggest_task",
        "dismiss_task",
    ),
    "memory": ("memory_search", "memory_get"),
    "web": ("web_search", "x_search", "web_fetch"),
    "ui": (
        "browser",
        "screen",
        "theme",
        "dashboard",
        "terminal",
        "portal",
        "canvas",
        "progress_card",
        "show_widget",
    ),
    "automation": ("heartbeat_respond", "automations", "gateway", "plugins", "openclaw"),
    "messaging": ("message",),
    "nodes": ("nodes", "computer"),
    "agents": (
        "agents_list",
        "get_goal",
        "create_goal",
        "update_goal",
        "progress_card",
        "ask_user",
        "skill_workshop",
    ),
    "media": ("view_image", "image_generate", "music_generate", "video_generate", "tts", "pdf"),
}
"""Without ``group:openclaw`` (most of the others together) and ``group:plugins``."""
ALIASES = {"bash": "exec", "cron": "automations", "update_plan": "progress_card", "image": "view_image"}
META = ("tool_search", "tool_describe", "tool_call", "tool_search_code", "exec", "wait")
"""Tools through which any other can be called: a contract allows them by their exact name only."""
INDIRECT = ("tool_search", "tool_describe", "tool_call")
OF_PLUGINS = frozenset(
    {
        "browser",
        "canvas",
        "code_execution",
        "dir_fetch",
        "dir_list",
        "file_fetch",
        "file_write",
        "intent",
        "memory_get",
        "memory_search",
        "node_inference",
        "talk_voice",
        "x_search",
    }
)
_UNGROUPED = ("ls", "agents_wait", "tool_search", "tool_describe", "tool_call", "tool_search_code", "wait")
TOOLS: tuple[str, ...] = tuple(
    dict.fromkeys([*(tool for group in GROUPS.values() for tool in group), *_UNGROUPED, *sorted(OF_PLUGINS)])
)
"""Every tool that is known here, each once."""
OTHERS = "*"
"""Stands in sets of tools for every tool that is not known here."""
PLUGINS = "group:plugins"
"""Stands for every tool of plugins and MCP servers that is not known here."""
READING = frozenset({"read", "ls", "view_image", "pdf"})
WRITING = frozenset({"write", "edit", "apply_patch", "file_write"})
RUNNING = frozenset({"exec", "process"})
OTHER_SESSIONS = frozenset(
    {"sessions", "sessions_list", "sessions_history", "sessions_search", "sessions_send", "conversations_send"}
)
PROFILES = {
    "minimal": frozenset({"session_status", "gateway"}),
    "messaging": frozenset({"message", *GROUPS["sessions"], "gateway", "ask_user", "theme", PLUGINS}),
    "coding": frozenset(
        {
            *(
                tool
                for name in ("fs", "runtime", "web", "sessions", "memory", "agents", "media")
                for tool in GROUPS[name]
            ),
            "automations",
            "gateway",
            "theme",
            PLUGINS,
        }
    ),
}
"""What a profile allows; ``full`` and none at all allow everything. MCP servers come with two of them."""


@dataclass(frozen=True, slots=True)
class Powers:
    """What a Claw contract leaves an agent, in OpenClaw's terms."""

    contract: Contract

    def __post_init__(self) -> None:
        """Raises ``ClawproxyError`` (OPENCLAW_CONTRACT) for a contract that this cannot map."""
        if self.contract.policy.shape is not Shape.CLAW or self.contract.policy.tools is None:
            raise ClawproxyError(
                "OPENCLAW_CONTRACT",
                "only Claw contracts can be mapped to OpenClaw",
                got=str(self.contract.policy.shape),
                remedy="write one with: clawproxy contract new openclaw",
            )

    def permits(self, tool: str) -> bool:
        """Whether the contract lets an agent declare ``tool``, with or without an approval of each call."""
        rules = self.contract.policy.tools
        if rules is None or self.contract.policy.model_call_denied or self.denies(tool):
            return False
        exact = tool in META
        found = rules.permission(tool, exact=exact) or rules.permission_to_ask(tool, exact=exact)
        return found is not None and rules.lookalike(tool) is None

    def denies(self, tool: str) -> bool:
        """Whether ``denied_tools`` names it."""
        rules = self.contract.policy.tools
        return rules is not None and rules.denial(tool) is not None

    def asks(self, tool: str) -> bool:
        """Whether each call of ``tool`` needs a person's yes."""
        rules = self.contract.policy.tools
        return rules is not None and rules.approval(tool) is not None

    @property
    def tools(self) -> tuple[str, ...]:
        """The known tools that are permitted."""
        return tuple(tool for tool in TOOLS if self.permits(tool))

    @property
    def elevated(self) -> bool:
        """Whether the contract says ``elevated: true``; silence is no leave."""
        return self.contract.document.get("elevated") is True

    @property
    def other_tools(self) -> tuple[str, ...]:
        """Names and patterns that the contract allows and that are none of the known tools: those of plugins and MCP
        servers. A name that OpenClaw would take for a known tool (by case, or by its second name) or for a group of
        tools is left out, since the contract does not mean those."""
        rules = self.contract.policy.tools
        if rules is None:
            return ()
        kept = []
        words = self.contract.document.get("tool_classes", {})
        for rule in (*rules.allowed, *rules.on_approval):
            a_word = not rule.classed and rule.entry in words
            known = any(matches(fold(rule.pattern), tool) for tool in (*TOOLS, *ALIASES))
            known = known or fold(rule.pattern).startswith("group:") or PLUGINS in expand(rule.pattern)
            if not a_word and not known and rules.denial(rule.pattern) is None:
                kept.append(rule.pattern)
        return tuple(dict.fromkeys(kept))

    @property
    def all_tools(self) -> bool:
        """Whether a pattern of the contract allows tools of any name."""
        rules = self.contract.policy.tools
        return rules is not None and any(set(rule.pattern) == {"*"} for rule in rules.allowed)

    @property
    def other_sessions(self) -> bool:
        """Whether a tool that sees other sessions is permitted."""
        return any(self.permits(tool) for tool in OTHER_SESSIONS)

    @property
    def plugins(self) -> bool:
        """Whether a tool of a plugin or an MCP server is permitted."""
        return self.all_tools or bool(self.other_tools) or any(self.permits(tool) for tool in OF_PLUGINS)

    @property
    def exec_mode(self) -> str:
        """The widest ``tools.exec.mode`` that the contract allows."""
        if not self.permits("exec"):
            return "deny"
        return "ask" if self.asks("exec") else "full"

    @property
    def workspace_access(self) -> str:
        """The widest access of a sandbox to the workspace."""
        if any(self.permits(tool) for tool in WRITING | RUNNING):
            return "rw"
        return "ro" if any(self.permits(tool) for tool in READING) else "none"

    @property
    def touches_the_host(self) -> bool:
        """Whether a tool that reads, writes or runs things is permitted."""
        return any(self.permits(tool) for tool in READING | WRITING | RUNNING)

    @property
    def providers(self) -> tuple[str, ...] | None:
        """Those of the contract; None allows any."""
        return self.contract.policy.providers

    @property
    def models(self) -> ModelRules:
        """What ``allowed_models`` says."""
        return self.contract.policy.models or ModelRules()

    def permits_model(self, model: str) -> bool:
        """Whether the contract allows ``model`` by the name that a request bears."""
        return self.models.permission(model) is not None and self.models.lookalike(model) is None


def expand(entry: str) -> frozenset[str]:
    """The tools that an entry of a list means: known ones by their names, others as ``OTHERS`` and ``PLUGINS``, or as
    they are written.

    ``allow: ["write"]`` allows ``apply_patch`` as well; whoever judges a denial must not count that.
    """
    name = entry.strip().lower()
    if name.startswith("group:"):
        group = name.removeprefix("group:")
        if group == "plugins":
            return OF_PLUGINS | {PLUGINS}
        if group == "openclaw":
            own = {"read", "write", "edit", "apply_patch", "exec", "process", "canvas"}
            return frozenset(tool for tools in GROUPS.values() for tool in tools if tool not in own)
        return frozenset(GROUPS.get(group, (name,)))
    if name == "bundle-mcp":
        return frozenset({PLUGINS})
    if "*" in name:
        found = {tool for tool in TOOLS if matches(name, tool)}
        found |= {tool for alias, tool in ALIASES.items() if matches(name, alias)}
        return frozenset(found | ({OTHERS, PLUGINS} if set(name) == {"*"} else {name}))
    return frozenset({ALIASES.get(name, name)})


def granted_by(entries: Iterable[str]) -> frozenset[str]:
    """What an ``allow`` list allows."""
    found = frozenset[str]().union(*(expand(entry) for entry in entries))
    return found | {"apply_patch"} if "write" in found else found


def denied_by(entries: Iterable[str]) -> frozenset[str]:
    """What a ``deny`` list denies."""
    return frozenset[str]().union(*(expand(entry) for entry in entries))
