"""The same session with one thing changed: another model, a tool more, a call of a tool, another host.

Of each agent: how it is started with one tool fewer than it has, so that the usual start declares a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from .agents import CLAUDE, CODEX, GEMINI, OPENCLAW, OPENCODE, PI, WORD_FILE, Agent, Start, Way

NEW_HOST = "tickets.example"
ANSWER, EXIT_CODE = "answer.json", "exit-code"
_ASK = f"curl -s -m 5 https://{NEW_HOST}/ -o {ANSWER}; echo $? > {EXIT_CODE}"


type Change = Callable[[Start], Start]


def _unchanged(start: Start) -> Start:
    return start


@dataclass(frozen=True, slots=True)
class Habit:
    """``narrow`` changes a start so that ``left_out`` (a name on the wire) is not declared; ``whole`` so that it is,
    and nothing else. ``other_model`` is of the same provider, and asked for by ``asking``. ``calls`` is a tool that the
    narrow session does not have, with arguments, and ``named`` how a refusal names it: where tools are called by a
    meta-tool, the one inside."""

    agent: Agent
    narrow: Change
    left_out: str
    other_model: str
    asking: Change
    calls: tuple[str, dict[str, str]]
    named: str
    whole: Change = _unchanged

    def _started(self, *changes: Change) -> Agent:
        def start(way: Way) -> Start:
            found = self.agent.start(way)
            for change in changes:
                found = change(found)
            return found

        return replace(self.agent, start=start)

    @property
    def usual(self) -> Agent:
        """As it is observed: with one tool fewer."""
        return self._started(self.narrow)

    @property
    def with_another_model(self) -> Agent:
        return self._started(self.narrow, self.asking)

    @property
    def with_a_new_tool(self) -> Agent:
        """It declares ``left_out`` as well; what it is asked to call is the usual tool."""
        return self._started(self.whole)

    @property
    def called_otherwise(self) -> Agent:
        """The model answers with a call of a tool that was not there."""
        tool, called_with = self.calls
        return replace(self.usual, tool=tool, called_with=called_with)

    @property
    def with_a_new_host(self) -> Agent:
        """The command that reads the file asks ``NEW_HOST`` as well, by curl."""
        asks = {name: text.replace(WORD_FILE, f"{WORD_FILE}; {_ASK}") for name, text in self.agent.called_with.items()}
        return replace(self.usual, called_with=asks)


def _with_arguments(*more: str, at: int) -> Change:
    """``more`` among the arguments, behind the first ``at``."""

    def change(start: Start) -> Start:
        return replace(start, arguments=(*start.arguments[:at], *more, *start.arguments[at:]))

    return change


def _with_settings(name: str, settings: dict[str, object], *options: str) -> Change:
    """With these settings in a file of the project, beside those that are there already."""

    def change(start: Start) -> Start:
        whole = json.loads(start.project.get(name, "{}")) | settings
        project = start.project | {name: json.dumps(whole)}
        return replace(start, project=project, arguments=(*start.arguments, *options))

    return change


def _instead_of(old: str, new: str) -> Change:
    def change(start: Start) -> Start:
        return replace(start, arguments=tuple(part.replace(old, new) for part in start.arguments))

    return change


def _openclaw(*denied: str) -> Change:
    return _with_settings("openclaw.json", {"tools": {"deny": [*denied]}}, "--config", "openclaw.json")


_WRITE = {"file_path": "made.txt", "content": "made"}
_OPUS = "claude-opus-4-5"

HABITS = (
    Habit(
        PI,
        narrow=_with_arguments("--tools", "read,bash", at=2),
        whole=_with_arguments("--tools", "read,bash,write", at=2),
        left_out="write",
        other_model=_OPUS,
        asking=_instead_of(PI.model, _OPUS),
        calls=("write", {"path": "made.txt", "content": "made"}),
        named="write",
    ),
    Habit(
        CLAUDE,
        narrow=_with_arguments("--tools", "Bash,Read", at=3),
        whole=_with_arguments("--tools", "Bash,Read,Write", at=3),
        left_out="Write",
        other_model=_OPUS,
        asking=_instead_of(CLAUDE.model, _OPUS),
        calls=("Write", _WRITE),
        named="Write",
    ),
    Habit(
        CODEX,
        narrow=_with_arguments("-c", "features.sleep_tool=false", at=2),
        left_out="clock.sleep",
        other_model="gpt-5.5",
        asking=_with_arguments("-m", "gpt-5.5", at=2),  # it is not told its model else
        calls=("exec", {"input": 'text(await tools.apply_patch("*** Begin Patch"))'}),
        named="apply_patch",
    ),
    Habit(
        GEMINI,
        narrow=_with_settings(".gemini/settings.json", {"tools": {"exclude": ["write_file"]}}),
        left_out="write_file",
        other_model="gemini-2.5-flash",
        asking=_instead_of(GEMINI.model, "gemini-2.5-flash"),
        calls=("write_file", _WRITE),
        named="write_file",
    ),
    Habit(
        OPENCODE,
        narrow=_with_settings("opencode.json", {"tools": {"webfetch": False}}),
        left_out="webfetch",
        other_model=_OPUS,
        asking=_instead_of(OPENCODE.model, _OPUS),
        calls=("webfetch", {"url": f"https://{NEW_HOST}/", "format": "text"}),
        named="webfetch",
    ),
    Habit(
        OPENCLAW,
        narrow=_openclaw("apply_patch"),
        whole=_openclaw(),
        left_out="apply_patch",
        other_model="claude-opus-4-6",
        asking=_instead_of(OPENCLAW.model, "claude-opus-4-6"),
        calls=("tool_call", {"id": "web_fetch", "args": f'{{"url":"https://{NEW_HOST}/"}}'}),
        named="web_fetch",
    ),
)
"""Every agent of the table, by its usual transport."""
