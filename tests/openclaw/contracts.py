"""Contracts and renderings for the tests of OpenClaw's configuration."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from clawproxy.policies.contract import Contract, parse_contract
from clawproxy.policies.packaged import packaged_prices, packaged_tool_classes
from clawproxy.tokens.canonical import JsonObject

from clawproxy.openclaw.config import LiveConfig, parse_config
from clawproxy.openclaw.render import Options, render
from clawproxy.openclaw.tools import Powers

GATEWAY = "http://127.0.0.1:8081"
CLASSES = {word: list(names) for word, names in packaged_tool_classes().agents["openclaw"].items()}
READER: JsonObject = {
    "policy_name": "reader",
    "allowed_providers": ["anthropic"],
    "allowed_models": ["claude-sonnet-4-5"],
    "allowed_tools": ["fs.read"],
    "denied_tools": ["shell.exec", "fs.write"],
    "tool_classes": CLASSES,
}
"""May read the workspace, and nothing else."""
RUNNER: JsonObject = {
    **READER,
    "policy_name": "runner",
    "allowed_providers": ["anthropic", "openai"],
    "allowed_models": ["claude-sonnet-4-5", "gpt-5-mini"],
    "allowed_tools": ["fs.read", "fs.write", "tool.indirect"],
    "denied_tools": ["web.read", "message.send"],
    "approvals": [{"action": "shell.exec", "required": True}],
}
"""May read and write, and run commands that a person approved."""
KEEPER: JsonObject = {**RUNNER, "policy_name": "keeper", "allowed_tools": [*RUNNER["allowed_tools"], "session.keep"]}
"""The same, with a tool of its own session."""
FREE: JsonObject = {**RUNNER, "policy_name": "free", "allowed_tools": ["shell.exec", "fs.read"], "approvals": []}
"""May run commands without asking."""


def let_go_later(path: Path) -> threading.Timer:
    """Whoever waits for a pipe without a writer is let go after thirty seconds."""

    def let_go() -> None:
        with contextlib.suppress(OSError):  # nobody waits
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(30, let_go)
    timer.start()
    return timer


def contract(document: JsonObject, **over: Any) -> Contract:
    return parse_contract({**document, **over})


def powers(document: JsonObject) -> Powers:
    return Powers(contract(document))


def rendered(document: JsonObject, options: Options | None = None) -> JsonObject:
    return render(contract(document), options or Options(GATEWAY), packaged_prices()).config


def live(config: JsonObject) -> LiveConfig:
    return parse_config(json.dumps(config).encode(), {})
