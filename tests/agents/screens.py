"""Agents with a person at their terminal, under ``run --isolate``: how each is started, what it asks before it listens,
and by what one sees how wide it thinks that its screen is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from .agents import CLAUDE, CODEX, CODEX_QUIET, GEMINI, OPENCODE, PI, Agent, Start, Way

WORK = "{work}"
"""What stands in variables for the folder that it works in."""


@dataclass(frozen=True, slots=True)
class Question:
    """A choice that a person makes with the arrows: ``text`` is a part of it, ``key`` moves the mark towards
    ``choice``."""

    text: str
    key: str
    choice: str


@dataclass(frozen=True, slots=True)
class Screen:
    """``asked`` are questions on the way; ``listens`` is on the screen once it takes a task. ``width`` reads the width
    from a screen, 0 where it is not to be seen. ``leave`` are the keys that end the agent: one more would meet what is
    behind it."""

    agent: Agent
    start: Start
    listens: str
    width: Callable[[str], int]
    asked: tuple[Question, ...] = ()
    leave: tuple[str, ...] = ("C-c", "C-c")


def _longest(sign: str) -> Callable[[str], int]:
    """The longest line of one sign, with its ends."""
    line = re.compile(f"[ ╹]*{sign}{{8,}}")

    def width(screen: str) -> int:
        return max((found.end() for row in screen.splitlines() if (found := line.match(row))), default=0)

    return width


def _wrapped(screen: str) -> int:
    """The longest line of the task as Codex wraps it: with an indent, which a terminal that wraps by itself has not."""
    _, _, told = screen.partition("› Please read the file.\n")
    rows = [row for row in told.partition("\n\n")[0].splitlines() if row.startswith("  ")]
    return max(map(len, rows), default=0)


CLAUDE_HOME = ".claude-config"
_CODEX_PROVIDER = (
    'model_providers.claw={name="claw", base_url="https://api.openai.com/v1", env_key="OPENAI_API_KEY", '
    'wire_api="responses", supports_websockets=true}'
)

SCREENS = (
    Screen(PI, Start(("pi", "--provider", PI.provider, "--model", PI.model)), PI.model, _longest("─")),
    Screen(
        CLAUDE,
        Start(
            ("claude", "--model", CLAUDE.model),
            {"IS_SANDBOX": "1", "CLAUDE_CONFIG_DIR": f"{WORK}/{CLAUDE_HOME}"},
            project={f"{CLAUDE_HOME}/.claude.json": json.dumps({"hasCompletedOnboarding": True})},
        ),
        "? for shortcuts",
        _longest("─"),
        asked=(
            Question("Quick safety check", "Down", "❯ Yes, I trust this folder"),
            Question("use this API key", "Up", "❯ Yes"),
        ),
    ),
    Screen(
        CODEX,
        Start(
            (
                "codex",
                "--dangerously-bypass-approvals-and-sandbox",
                *("-c", 'model_provider="claw"', "-c", _CODEX_PROVIDER),
                *CODEX_QUIET,
            )
        ),
        "Ask Codex to do anything",
        _wrapped,
    ),
    Screen(
        GEMINI,
        Start(
            ("gemini", "-m", GEMINI.model, "--yolo"),
            {"GEMINI_CLI_TRUST_WORKSPACE": "true"},
            project={".gemini/settings.json": json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}})},
        ),
        "Type your message",
        _longest("─"),
    ),
    Screen(
        OPENCODE,
        Start(("opencode", "-m", f"anthropic/{OPENCODE.model}"), project=OPENCODE.start(Way.ISOLATED).project),
        "Ask anything",
        _longest("▀"),
        leave=("C-c",),
    ),
)
"""Those that have a screen; OpenClaw is used from other places."""
