"""Plugins that OpenClaw has enabled, beside a contract. Pure.

A plugin's code runs inside OpenClaw: it can bring tools, channels, hooks and providers, and change ``fetch``. So one
that did not come with OpenClaw is named whatever it says of itself; of the bundled ones, what they bring is judged.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from ..tokens.canonical import JsonObject
from .tools import Powers
from .wider import Wider, wider


def judge_plugins(rows: Iterable[JsonObject], powers: Powers, denied: Container[str] = ()) -> Iterator[Wider]:
    """``rows`` are those of ``openclaw plugins list --json``; ``denied`` tools are taken away by the configuration."""
    for row in rows:
        name, origin = str(row.get("id"))[:64], str(row.get("origin"))[:64]
        brings = [str(tool) for tool in row.get("toolNames") or ()]
        tools = [tool[:64] for tool in brings if tool not in denied and not powers.permits(tool)]
        hooks = [str(hook)[:64] for hook in row.get("hookNames") or ()]
        if origin != "bundled":
            says = "it did not come with OpenClaw; its code runs inside, and can change what leaves"
            if not powers.permits(name):
                yield wider(("plugins", name), origin, "allowed_tools", says, f"openclaw plugins disable {name}")
        elif hooks:
            says = "its hooks run inside OpenClaw, and can change what leaves"
            yield wider(
                ("plugins", name, "hookNames"), hooks, "allowed_tools", says, f"openclaw plugins disable {name}"
            )
        if tools and not powers.all_tools:
            says = "it brings tools that the contract does not allow"
            yield wider(("plugins", name, "toolNames"), tools, "allowed_tools", says, "plugins.enabled: false")
