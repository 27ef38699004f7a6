"""docs/agents.md: what was run, what came of it, and the commands to type. Reads page.toml, its words."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote

from .agents import AGENTS, BASE, CA, PI_ELSEWHERE, PROMPT, PROXY, TOKEN, Agent, Start, Way
from .install import PACKAGES
from .screens import SCREENS, WORK, Screen
from .sessions import Session

_WORDS = tomllib.loads(Path(__file__).with_name("page.toml").read_text())


def render(
    sessions: Iterable[Session],
    refusals: Mapping[str, Sequence[Session]],
    missing: Mapping[str, str],
    environment: str,
) -> str:
    """The page. ``missing`` says by name of a package why it is not here, ``environment`` on what it all ran."""
    rows = [_row(session) for session in sessions]
    rows += [f"| {name} | – | – | – | – | not run: {why} | | |" for name, why in missing.items()]
    told = [_refusal_row(name, three) for name, three in refusals.items()]
    parts = [
        _WORDS["head"],
        "\n".join(rows),
        f"\n\n{environment}\n",
        _WORDS["refusals"],
        "\n".join(told),
        "\n",
        _WORDS["commands"],
    ]
    parts += [_commands(agent) for agent in AGENTS if agent not in PI_ELSEWHERE]
    return "".join([*parts, _WORDS["screens"], *map(_screen, SCREENS)])


def _row(session: Session) -> str:
    agent, evidence = session.agent, session.evidence
    faults = session.faults()
    verdict = evidence.verdict if not faults else f"{evidence.verdict}, but: {faults[0][:80]}"
    version = PACKAGES[agent.package].version
    cells = [agent.name, version, str(session.way), f"{session.ended.seconds:.1f}", str(len(evidence.calls)), verdict]
    return f"| {' | '.join([*cells, _hosts(session.side), _hosts(session.around)])} |"


def _hosts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{host} {number}" for host, number in sorted(counted.items())) or "none"


def _refusal_row(name: str, sessions: Sequence[Session]) -> str:
    cells = [
        f"{one.ended.code}, {one.ended.seconds:.1f}" + ("" if not one.faults_of_refusal() else " !") for one in sessions
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _commands(agent: Agent) -> str:
    lines = [f"\n### {agent.name}\n"]
    if note := _WORDS["notes"].get(agent.name):
        lines.append(note)
    lines.append("```")
    for way in agent.ways:
        lines += [f"# {_TITLES[way]}", *_typed(agent, way), ""]
    return "\n".join([*lines[:-1], "```", ""])


_TITLES = {
    Way.RUN: "by command",
    Way.ISOLATED: "isolated: no way out but the gateway",
    Way.PROXY: "by proxy",
    Way.BASE_URL: "by base URL",
}
_PLACES = {
    BASE: "http://127.0.0.1:8081",
    PROXY: "http://job:$(cat cst)@127.0.0.1:8080",
    CA: ".clawproxy/ca/mitmproxy-ca-cert.pem",
    TOKEN: "$(cat cst)",
    "{home}": "$HOME",
    WORK: "$PWD",
    PROMPT: "…",
}


_ISOLATED = ["clawproxy", "run", "--isolate", "--state", "/root/.clawproxy", "--"]
"""What root runs must be root's."""


def _typed(agent: Agent, way: Way) -> list[str]:
    start = agent.start(way)
    return _command(start, way)


def _screen(screen: Screen) -> str:
    lines = [f"\n### {screen.agent.name}, at the terminal\n"]
    if note := _WORDS["notes_of_screens"].get(screen.agent.name):
        lines.append(note)
    return "\n".join([*lines, "```", *_command(screen.start, Way.ISOLATED), "```", ""])


def _command(start: Start, way: Way) -> list[str]:
    lines = []
    for folder, files in (("~/", start.files), ("", start.project)):
        for name, text in files.items():
            lines.append(f"# {folder}{name}:")
            lines += [f"#   {line}" for line in _filled(_compact(text)).splitlines()]
    env = [f'{name}="{_filled(value)}"' for name, value in start.env.items()]
    run = {Way.RUN: ["clawproxy", "run", "--"], Way.ISOLATED: _ISOLATED}.get(way, [])
    words = [_filled(word) if "$" in _filled(word) else quote(_filled(word)) for word in start.arguments]
    words = ['"…"' if word in ("…", "'…'") else word for word in words]
    sudo = ["sudo"] if way is Way.ISOLATED else []  # in front of the variables, which it hands on
    return [*lines, " ".join([*sudo, *env, *run, *words])]


def _compact(text: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return text


def _filled(text: str) -> str:
    for place, shown in _PLACES.items():
        text = text.replace(place, shown)
    return text
