"""Features of Anthropic's API that a request may switch on by name: in the header ``anthropic-beta``, or in the body of
a Bedrock call. Pure.

A family is known without its date. Known are those that change how a request and its answer look, all of which are
judged in the body; not those that bring in what the provider holds (files, skills, agents, memory, threads, batches),
another model than the judged one (server-side fallback), who pays, or which addresses the tools of a request belong to
(tool-provenance; Claude Code asks again without it). An unknown name is refused: what it switches on cannot be judged.
"""

from __future__ import annotations

import re

from .keys import named, refuse

_KNOWN = frozenset(
    {
        "advanced-tool-use",
        "advisor-tool",
        "cache-diagnosis",
        "claude-code",
        "code-execution",
        "code-execution-web-tools",
        "compact",
        "computer-use",
        "context-1m",
        "context-management",
        "dev-full-thinking",
        "effort",
        "extended-cache-ttl",
        "fine-grained-tool-streaming",
        "inline-tools",
        "interleaved-thinking",
        "mcp-client",
        "mid-conversation-output-config",
        "mid-conversation-system-clear-at",
        "mid-conversation-tool-changes",
        "model-context-window-exceeded",
        "output-128k",
        "output-300k",
        "pdfs",
        "per-turn-control",
        "prompt-caching",
        "prompt-caching-scope",
        "structured-outputs",
        "task-budgets",
        "thinking-binding-controls",
        "thinking-display-updates",
        "thinking-token-count",
        "token-counting",
        "token-efficient-tools",
        "tool-search-tool",
        "web-fetch",
        "web-search",
    }
)
_DATED = re.compile(r"([a-z0-9-]{1,60}?)-(?:20\d{2}-?[01]\d-?[0-3]\d)", re.ASCII)
_MOST = 32


def check_betas(names: object, where: str) -> None:
    """Refuse (INVALID_REQUEST) unless ``names`` is a list of known features."""
    if not isinstance(names, list) or len(names) > _MOST:
        refuse(where, "not a list of features", type(names).__name__, f"at most {_MOST} names")
    for name in names:
        found = _DATED.fullmatch(name) if isinstance(name, str) else None
        if found is None or found[1] not in _KNOWN:
            what = named("a feature", name.replace("-", "_") if isinstance(name, str) else None)
            refuse(where, f"{what}: the gateway cannot judge what it switches on", expected="a known feature, dated")


def check_beta_header(value: str | None) -> None:
    """``check_betas`` for the header ``anthropic-beta``, where it is sent."""
    if value is not None:
        check_betas([name.strip() for name in value.split(",")], "anthropic-beta")
