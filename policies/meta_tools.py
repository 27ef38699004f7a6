"""Tools through which an agent can call any other tool, by the names that known agents give them on the wire. Pure.

What such a call does stands in its arguments (the name of a tool in a catalogue that the gateway cannot see, or code),
so declaring one is declaring any tool: a contract allows it only by its exact name (``decide``), never by a pattern.
"""

from __future__ import annotations

META_TOOLS = frozenset(
    {
        # Claude Code: loads deferred tools by name
        "ToolSearch",
        "DeferredToolPlaceholder",
        # OpenClaw: tool_call takes the id of a tool of its catalogue; exec takes a command, or JavaScript in code mode
        "tool_search",
        "tool_describe",
        "tool_call",
        "exec",
        "wait",
        # Codex: JavaScript that calls tools
        "functions.exec",
        "functions.wait",
    }
)
