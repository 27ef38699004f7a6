"""A person at a terminal: the screen of an isolated agent, in tmux, from the first key to the shell's prompt."""

from __future__ import annotations

import json
import math
import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clawproxy.policies.packaged import Starter, starter_document

from ..clawproxy.standin_process import running_standin
from .agents import WORD_FILE, Way
from .programs import programs_of
from .screens import SCREENS, WORK, Screen
from .sessions import JOB, isolation_missing, sessions_folder
from .stage import Stage, clawproxy_command

pytestmark = pytest.mark.slow
_WAIT_S = 120
_BETWEEN_KEYS_S = 0.3
_BEFORE_LEAVING_AGAIN_S = 20  # what is still ending would be interrupted by more
_WIDE, _NARROW = 100, 60


@dataclass(frozen=True, slots=True)
class Terminal:
    """A tmux server of its own with one shell."""

    name: str

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self.name, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tmux("send-keys", key)
            time.sleep(_BETWEEN_KEYS_S)  # as a person does; two at once are a paste to some

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)
        time.sleep(_BETWEEN_KEYS_S)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def until(self, shown: Callable[[str], bool], meanwhile: Callable[[str], None] = lambda screen: None) -> str:
        """The screen once it is as wanted; ``meanwhile`` looks at each that is not."""
        deadline = time.monotonic() + _WAIT_S
        while not shown(screen := self.tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, screen
            meanwhile(screen)
            time.sleep(0.2)
        return screen


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux on this machine")
    own = Terminal(f"agents-{secrets.token_hex(4)}")
    own.tmux("new-session", "-d", "-x", str(_WIDE), "-y", "30", "env PS1='$ ' bash --norc --noprofile")
    try:
        yield own
    finally:
        own.tmux("kill-server")


class Person:
    """Makes each choice, and leaves the agent as one does."""

    def __init__(self, terminal: Terminal, screen: Screen) -> None:
        self._terminal = terminal
        self._asked = screen.asked
        self._leave = screen.leave
        self._pressed = -math.inf

    def answers(self, screen: str) -> None:
        for question in self._asked:
            if question.text not in screen:
                continue
            if question.choice not in screen:
                self._terminal.press(question.key)
            else:
                self._confirm(question.text)
            return

    def _confirm(self, question: str) -> None:
        self._terminal.press("Enter")
        self._terminal.until(lambda shown: question not in shown)

    def leaves(self, screen: str) -> None:
        if "VERIFIED" not in screen and time.monotonic() > self._pressed + _BEFORE_LEAVING_AGAIN_S:
            self._terminal.press(*self._leave)
            self._pressed = time.monotonic()


def _all_writable(folder: Path) -> None:
    """An isolated agent is a user that nobody else is."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)


def _answered(stage: Stage) -> int:
    """How many calls are on record with their end, while the job is open."""
    lines = (stage.state / "jobs" / JOB / "receipts.jsonl").read_bytes().splitlines(keepends=True)
    return sum(json.loads(line)["t"] == "receipt" for line in lines if line.endswith(b"\n"))


def _unwrapped(screen: str) -> str:
    return re.sub(r"\s+", "", screen)


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.agent.name)
def test_a_person_works_with_an_isolated_agent_as_with_any(screen: Screen, terminal: Terminal, tmp_path: Path) -> None:
    if missing := isolation_missing():
        pytest.skip(missing)
    agent, start, person = screen.agent, screen.start, Person(terminal, screen)
    programs = programs_of(agent)
    with sessions_folder() as folder, running_standin(tmp_path) as provider:
        stage = Stage(folder / "session", provider)
        stage.root.mkdir()
        stage.set_up(starter_document(Starter(agent.starter)))
        for name, text in start.project.items():
            path = stage.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        word = f"clover-{secrets.token_hex(4)}"
        (stage.work / WORD_FILE).write_text(word + "\n")
        _all_writable(stage.work)
        options = ["--state", str(stage.state), "--contract", str(stage.root / "contract.json"), "--job", JOB]
        run = clawproxy_command("run", "--isolate", *options, "--", *start.arguments)
        env = stage.environment(programs, {"TERM": "screen-256color", **start.env})
        variables = [f"{name}={value.replace(WORK, str(stage.work))}" for name, value in env.items()]
        script = stage.root / "start.sh"
        script.write_text(f"exec env -i {shlex.join([*variables, *run])}\n")

        terminal.type(
            f"cd {stage.work}; stty -g > ../before; clear; sh {script}; echo ended with $?; stty -g > ../after"
        )
        terminal.until(lambda shown: screen.listens in shown, person.answers)
        terminal.type(agent.task(Way.ISOLATED))
        shown = terminal.until(lambda shown: word in _unwrapped(shown) and screen.width(shown) > _NARROW)
        assert _WIDE - 2 <= screen.width(shown) <= _WIDE
        terminal.resize(_NARROW, 30)
        shown = terminal.until(lambda shown: _NARROW - 2 <= screen.width(shown) <= _NARROW)
        terminal.until(lambda shown: _answered(stage) >= 2)  # the result of the tool is on the screen before the end
        assert "WARNING" not in shown  # nothing of the gateway's log on an agent's screen
        shown = terminal.until(lambda shown: "ended with" in shown and shown.rstrip().endswith("$"), person.leaves)
        assert "ended with 0" in shown
        assert "VERIFIED" in shown
        terminal.type("echo typed as ever")
        terminal.until(lambda shown: "\ntyped as ever" in shown)
        assert (stage.root / "after").read_text() == (stage.root / "before").read_text()
        evidence = stage.evidence(JOB)
        assert evidence.verdict == "VERIFIED"
        assert len(evidence.calls) >= 2  # some ask for a title besides
