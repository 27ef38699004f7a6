"""The agents of the table: how each is started on every way in, and where its last word stands.

Everything here is also what docs/agents.md tells a user to type, so that the page cannot say what was not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

PROMPT = "PROMPT"
BASE, PROXY, CA, TOKEN = "{base}", "{proxy}", "{ca}", "{token}"
"""What stands in commands and files for the gateway's addresses, its CA, and the job's token."""


class Way(StrEnum):
    """How an agent's calls come to the gateway."""

    RUN = "run"
    ISOLATED = "run --isolate"
    PROXY = "proxy"
    BASE_URL = "base URL"

    @property
    def by_command(self) -> bool:
        """Whether ``clawproxy run`` starts the agent and makes its environment."""
        return self in (Way.RUN, Way.ISOLATED)


@dataclass(frozen=True, slots=True)
class Start:
    """``arguments`` of the agent with ``PROMPT`` among them, what its environment must hold, files of its home, and
    files of the project that it works in."""

    arguments: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    project: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Agent:
    """``name`` is that of the table, ``package`` that of ``install``. ``tool`` and ``called_with`` are the tool that
    reads a file with a shell command, and what it is called with. ``calls`` is how many calls of models one task is.

    ``side`` are the hosts that the agent asks beside its provider, on any way in: each run may see fewer, never others.
    """

    name: str
    package: str
    starter: str
    provider: str
    model: str
    tool: str
    called_with: dict[str, str]
    start: Callable[[Way], Start]
    last_word: Callable[[str], str]
    calls: int = 2
    side: frozenset[str] = frozenset()
    ways: tuple[Way, ...] = tuple(Way)
    timeout_s: float = 240  # a cold start on a busy machine has taken 35

    def task(self, way: Way) -> str:
        """A prompt that has the stand-in call the shell tool, and say what came back."""
        arguments = quote(json.dumps(self.called_with, separators=(",", ":")), safe="")
        return f"Please read the file. tool:{self.tool}({arguments}) echo-result"


WORD_FILE = "word.txt"
_READ = f"cat {WORD_FILE}"


def _json_lines(out: str) -> list[Any]:
    found = []
    for line in out.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _member(name: str) -> Callable[[str], str]:
    """The last word of an agent that prints one JSON object, behind other lines perhaps."""

    def read(out: str) -> str:
        start = out.find("{")
        try:
            value = json.loads(out[start:]) if start >= 0 else {}
        except ValueError:
            return out
        return str(value.get(name, "")) if isinstance(value, dict) else out

    return read


# -- pi ------------------------------------------------------------------------------------------------------------

_PI_PROVIDERS = {
    # provider: (pi's api, model, path of the base URL, the key's variable)
    "anthropic": ("claude-sonnet-4-5", "/anthropic", "ANTHROPIC_API_KEY"),
    "openai": ("gpt-5", "/openai/v1", "OPENAI_API_KEY"),
    "google": ("gemini-2.5-pro", "/google/v1beta", "GEMINI_API_KEY"),
    "openrouter": ("anthropic/claude-sonnet-4.5", "/openrouter/api/v1", "OPENROUTER_API_KEY"),
}


def _pi(provider: str) -> Agent:
    model, path, variable = _PI_PROVIDERS[provider]
    arguments = ("pi", "-p", "--provider", provider, "--model", model, PROMPT)

    def start(way: Way) -> Start:
        if way is Way.BASE_URL:
            models = {"providers": {provider: {"baseUrl": BASE + path, "apiKey": "CST"}}}
            files = {".pi/agent/models.json": json.dumps(models, indent=2)}
            return Start(arguments, {"CST": TOKEN, variable: TOKEN}, files)
        if way is Way.PROXY:
            return Start(arguments, {"HTTPS_PROXY": PROXY, "NODE_EXTRA_CA_CERTS": CA, variable: "unused"})
        return Start(arguments)

    return Agent(
        name="pi" if provider == "anthropic" else f"pi ({provider})",
        package="pi",
        starter="pi",
        provider=provider,
        model=model,
        tool="bash",
        called_with={"command": _READ},
        start=start,
        last_word=str.strip,
    )


# -- Claude Code ---------------------------------------------------------------------------------------------------


def _claude(way: Way) -> Start:
    options = ("--allowedTools", "Bash", "--output-format", "json", "--model", "claude-sonnet-4-5")
    arguments = ("claude", "-p", PROMPT, *options)
    env = {"IS_SANDBOX": "1"}
    if way is Way.BASE_URL:
        env |= {"ANTHROPIC_BASE_URL": BASE + "/anthropic", "ANTHROPIC_AUTH_TOKEN": TOKEN}
    if way is Way.PROXY:
        env |= {"HTTPS_PROXY": PROXY, "NODE_EXTRA_CA_CERTS": CA, "ANTHROPIC_API_KEY": "unused"}
    return Start(arguments, env)


CLAUDE = Agent(
    name="Claude Code",
    package="claude",
    starter="claude-code",
    provider="anthropic",
    model="claude-sonnet-4-5",
    tool="Bash",
    called_with={"command": _READ},
    start=_claude,
    last_word=_member("result"),
    side=frozenset({"api.anthropic.com"}),
)


# -- Codex ---------------------------------------------------------------------------------------------------------

_CODEX = ("codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
CODEX_QUIET = ("-c", "analytics.enabled=false", "-c", "features.plugins=false", "-c", 'otel.metrics_exporter="none"')
_CODEX_SIDE = frozenset({"chatgpt.com", "ab.chatgpt.com", "api.github.com", "github.com"})


def _codex_word(out: str) -> str:
    said = [row["item"]["text"] for row in _json_lines(out) if row.get("item", {}).get("type") == "agent_message"]
    return said[-1] if said else ""


def _codex_socket(way: Way) -> Start:
    if way is Way.BASE_URL:
        address = ("-c", f'openai_base_url="{BASE}/openai/v1"')
        return Start((*_CODEX, *CODEX_QUIET, *address, PROMPT), {"CODEX_API_KEY": TOKEN})
    if way is Way.PROXY:
        env = {"HTTPS_PROXY": PROXY, "CODEX_CA_CERTIFICATE": CA, "CODEX_API_KEY": "unused"}
        return Start((*_CODEX, *CODEX_QUIET, PROMPT), env)
    return Start((*_CODEX, *CODEX_QUIET, PROMPT))


CODEX = Agent(
    name="Codex (WebSocket)",
    package="codex",
    starter="codex",
    provider="openai",
    model="gpt-6.1-sol",
    tool="exec",
    called_with={"input": f'text(await tools.exec_command({{cmd: "{_READ}"}}))'},
    start=_codex_socket,
    last_word=_codex_word,
    calls=3,  # a warm-up, the turn, and the turn with the result
    side=_CODEX_SIDE,
)


def _codex_provider(way: Way) -> Start:
    settings = "\n".join(
        [
            'model = "gpt-5"',
            'model_provider = "claw"',
            "[model_providers.claw]",
            'name = "claw"',
            f'base_url = "{BASE}/openai/v1"',
            'env_key = "CST"',
            'wire_api = "responses"',
        ]
    )
    return Start((*_CODEX, *CODEX_QUIET, PROMPT), {"CST": TOKEN}, {".codex/config.toml": settings + "\n"})


CODEX_POST = Agent(
    name="Codex (POST)",
    package="codex",
    starter="codex",
    provider="openai",
    model="gpt-5",
    tool="exec_command",
    called_with={"cmd": _READ},
    start=_codex_provider,
    last_word=_codex_word,
    side=_CODEX_SIDE,
    ways=(Way.BASE_URL,),
)


# -- gemini-cli ----------------------------------------------------------------------------------------------------


def _gemini(way: Way) -> Start:
    arguments = ("gemini", "-m", "gemini-2.5-pro", "--yolo", "-o", "json", "-p", PROMPT)
    env = {"GEMINI_CLI_TRUST_WORKSPACE": "true"}
    if way is Way.BASE_URL:
        settings = json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}, indent=2)
        env |= {"GOOGLE_GEMINI_BASE_URL": BASE + "/google", "GEMINI_API_KEY": TOKEN}
        return Start(arguments, env, {".gemini/settings.json": settings})
    if way is Way.PROXY:
        env |= {"HTTPS_PROXY": PROXY, "NODE_EXTRA_CA_CERTS": CA, "GEMINI_API_KEY": "unused"}
    return Start(arguments, env)


GEMINI = Agent(
    name="gemini-cli",
    package="gemini",
    starter="gemini-cli",
    provider="google",
    model="gemini-2.5-pro",
    tool="run_shell_command",
    called_with={"command": _READ},
    start=_gemini,
    last_word=_member("response"),
    side=frozenset({"play.googleapis.com"}),
)


# -- opencode ------------------------------------------------------------------------------------------------------


def _opencode(way: Way) -> Start:
    arguments = ("opencode", "run", "-m", "anthropic/claude-sonnet-4-5", "--format", "json", PROMPT)
    project = {"opencode.json": json.dumps({"autoupdate": False, "share": "disabled"}, indent=2)}
    if way is Way.BASE_URL:
        return Start(
            arguments, {"ANTHROPIC_BASE_URL": BASE + "/anthropic/v1", "ANTHROPIC_API_KEY": TOKEN}, project=project
        )
    if way is Way.PROXY:
        env = {"HTTPS_PROXY": PROXY, "NODE_EXTRA_CA_CERTS": CA, "ANTHROPIC_API_KEY": "unused"}
        return Start(arguments, env, project=project)
    return Start(arguments, project=project)


def _opencode_word(out: str) -> str:
    said = [row["part"]["text"] for row in _json_lines(out) if row.get("type") == "text"]
    return said[-1] if said else ""


OPENCODE = Agent(
    name="opencode",
    package="opencode",
    starter="opencode",
    provider="anthropic",
    model="claude-sonnet-4-5",
    tool="bash",
    called_with={"command": _READ, "description": "Reads the file"},
    start=_opencode,
    last_word=_opencode_word,
    calls=3,  # and one for the title of the session
    side=frozenset({"models.opencode.ai", "the npm registry"}),
)


# -- OpenClaw ------------------------------------------------------------------------------------------------------


def _openclaw(way: Way) -> Start:
    arguments: tuple[str, ...] = ("openclaw", "agent", "exec", PROMPT, "--json", "--cwd", ".")
    if way is Way.BASE_URL:
        limits = {"contextWindow": 200000, "maxTokens": 8000}
        model = {"id": "claude-sonnet-4-6", "name": "Sonnet", "input": ["text"], **limits}
        provider = {"baseUrl": BASE + "/anthropic", "api": "anthropic-messages", "apiKey": "${CST}", "models": [model]}
        settings = {
            "agents": {"defaults": {"model": {"primary": "claw/claude-sonnet-4-6"}}},
            "models": {"mode": "merge", "providers": {"claw": provider}},
        }
        arguments = (*arguments, "--model", "claw/claude-sonnet-4-6", "--config", "{home}/openclaw.json")
        return Start(arguments, {"CST": TOKEN}, {"openclaw.json": json.dumps(settings, indent=2)})
    arguments = (*arguments, "--model", "anthropic/claude-sonnet-4-6")
    if way is Way.PROXY:
        return Start(arguments, {"HTTPS_PROXY": PROXY, "NODE_EXTRA_CA_CERTS": CA, "ANTHROPIC_API_KEY": "unused"})
    return Start(arguments)


OPENCLAW = Agent(
    name="OpenClaw",
    package="openclaw",
    starter="openclaw",
    provider="anthropic",
    model="claude-sonnet-4-6",
    tool="exec",
    called_with={"command": _READ},
    start=_openclaw,
    last_word=_member("final"),
    side=frozenset({"catalog.openclaw.ai", "clawhub.ai", "names of addresses", "telemetry.openclaw.ai"}),
    timeout_s=300,
)

PI = _pi("anthropic")
PI_ELSEWHERE = tuple(_pi(provider) for provider in _PI_PROVIDERS if provider != "anthropic")
AGENTS = (PI, *PI_ELSEWHERE, CLAUDE, CODEX, CODEX_POST, GEMINI, OPENCODE, OPENCLAW)
