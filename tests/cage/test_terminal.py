"""An interactive agent feels at home: keys, sizes and job control work, and the person's terminal is never its own."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawproxy.cage.alive import parent_of

from .rig import PYTHON, SYSTEM_PATH, caged, needs_root, pids_of

pytestmark = [needs_root, pytest.mark.slow]


class Terminal:
    """A person at a terminal, with a shell that has job control."""

    def __init__(self, state: Path) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(31, 99)
        self.seen = ""
        self._letters = codecs.getincrementaldecoder("utf-8")("replace")  # one may come in two parts
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CLAWPROXY", "SUDO"))}
        env |= {"CLAWPROXY_STATE": str(state), "OPENAI_API_KEY": "sk-test", "PS1": "READY> ", "TERM": "dumb"}
        env["CLAW"] = f"{shlex.quote(sys.executable)} -m clawproxy run --isolate --contract sdk --"
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"], stdin=self.slave, stdout=self.slave, stderr=self.slave,
            env=env, cwd="/", start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.wait_for("READY> ")
        self.modes = termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str, timeout_s: float = 40) -> re.Match[str]:
        """Until ``pattern`` is on the screen behind what was waited for before."""
        end = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0, f"{pattern!r} did not come; {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += self._letters.decode(os.read(self.master, 65536))
        self.seen = self.seen[found.end() :]
        return found

    def wait_for_modes(self, wanted: bool) -> None:
        """Until the terminal is (or is not) as it was before the command."""
        end = time.monotonic() + 40
        while (self._plain() == wanted) is False:
            assert time.monotonic() < end, termios.tcgetattr(self.slave)
            time.sleep(0.02)

    def _plain(self) -> bool:
        # the shell itself reads its line in a mode of its own: what counts is that output and signals are as before
        now = termios.tcgetattr(self.slave)
        return bool(now[1] & termios.OPOST) and bool(now[3] & termios.ISIG)

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    person = Terminal(tmp_path / "state")
    try:
        yield person
    finally:
        person.close()


LOOK = """
import fcntl, json, os, signal, sys, termios, time
def size(*_): print("SIZE", os.get_terminal_size().lines, os.get_terminal_size().columns, flush=True)
signal.signal(signal.SIGWINCH, size)
found = {"names": [os.ttyname(n) for n in range(3)], "here": os.path.exists(os.ttyname(0)), "rdev": os.fstat(0).st_rdev}
found["size"] = list(os.get_terminal_size())
found["own"] = os.tcgetpgrp(0) == os.getpgrp()
print("LOOK " + json.dumps(found) + " END", flush=True)
try:
    while True: time.sleep(0.05)
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
print("SAID " + input("name? "), flush=True)
sys.exit(5)
"""


def test_an_agent_has_a_terminal_of_its_own_that_behaves_as_the_persons(terminal: Terminal) -> None:
    terminal.type(f"$CLAW {PYTHON} -c {shlex.quote(LOOK)}; echo CODE $?\n")
    terminal.wait_for("is open; isolated")
    told: dict[str, Any] = json.loads(terminal.wait_for(r"LOOK (\{.*\}) END")[1])
    assert set(told["names"]) == {"/dev/pts/0"}
    assert (told["here"], told["size"], told["own"]) == (True, [99, 31], True)
    assert told["rdev"] != os.fstat(terminal.slave).st_rdev or os.major(told["rdev"]) == 136
    terminal.wait_for_modes(wanted=False)
    terminal.resize(40, 120)
    terminal.wait_for("SIZE 40 120")
    terminal.type("\x03")
    terminal.wait_for("INTERRUPTED")
    terminal.type("Änna\r")
    terminal.wait_for("SAID Änna")
    terminal.wait_for("VERIFIED")
    terminal.wait_for("CODE 5")
    terminal.wait_for_modes(wanted=True)


def test_the_agent_cannot_put_keys_into_the_persons_terminal(terminal: Terminal) -> None:
    program = """
import fcntl, os, termios
for fd in range(3):
    try:
        for key in b"touch /tmp/pwned\\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([key]))
    except OSError as err:
        print("TIOCSTI", err.strerror)
print("DONE", sorted(n for n in os.listdir("/dev/pts")), flush=True)
"""
    terminal.type(f"$CLAW {PYTHON} -c {shlex.quote(program)}; echo CODE $?\n")
    assert terminal.wait_for(r"DONE (\[.*\])")[1] == "['0', 'ptmx']"
    terminal.wait_for("CODE 0")
    terminal.type("echo NOTHING WAS TYPED\n")
    assert "pwned" not in terminal.wait_for(r"(?s)(.*)\nNOTHING WAS TYPED")[1]


def test_what_the_terminal_answers_to_the_last_words_of_a_job_does_not_come_to_the_shell(terminal: Terminal) -> None:
    """Once more where this was held up, and the answer came when the command was about to end, or had ended."""
    in_time = False
    for _ in range(4):
        # as a terminal that is asked for its title, or its version, would: it types the answer
        terminal.type("$CLAW echo WHO ARE Y''OU; echo CODE $?\n")
        terminal.wait_for("WHO ARE YOU")
        terminal.wait_for_modes(wanted=True)
        terminal.type("\necho WAS TY''PED\n")
        in_time = "echo WAS TY''PED" in terminal.wait_for(r"(?s)(.*)VERIFIED")[1]
        terminal.wait_for("CODE 0")
        terminal.type("echo LA''ST\n")
        after = terminal.wait_for(r"(?s)(.*)LAST")[1]
        if in_time:
            assert "WAS TYPED" not in after
            break
    assert in_time


def test_the_verdict_is_seen_whatever_the_job_wrote_last(terminal: Terminal) -> None:
    last = r"\033[8m\033[?1049h\033]0;the title of this window is"
    terminal.type(f"TERM=xterm $CLAW printf '{last}'; echo CODE $?\n")
    terminal.wait_for("is open; isolated")
    seen = terminal.wait_for(r"(?s)(.*)CODE 0")[1]
    # a terminal takes all for the title until it ends, or is broken off
    shown = re.sub(r"(?s)\x1b\].*?(\x07|\x1b\\|\x18)", "", seen)
    before, _, after = shown.partition("VERIFIED")
    assert "the title" not in shown
    assert after
    for reset in ("\x1b[0m", "\x1b[?1047l"):
        assert reset in before


def test_it_can_be_stopped_and_brought_back_by_the_persons_shell(terminal: Terminal) -> None:
    # one process: a shell that is between vfork and exec cannot be stopped
    echo = "import sys; print('UP', flush=True); [print(line, end='', flush=True) for line in sys.stdin]"
    terminal.type(f"$CLAW {PYTHON} -c {shlex.quote(echo)}; echo CODE $?\n")
    terminal.wait_for("\nUP")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.wait_for_modes(wanted=True)
    terminal.type("echo IN THE SHELL\n")
    terminal.wait_for("\nIN THE SHELL")
    terminal.type("fg\n")
    terminal.wait_for_modes(wanted=False)
    terminal.type("back\r")
    terminal.wait_for("back\r\nback")
    terminal.type("\x04")
    terminal.wait_for("VERIFIED")


@pytest.mark.parametrize("victim", ["the command", "the warden"])
def test_the_terminal_is_put_back_when_a_part_is_killed(terminal: Terminal, victim: str) -> None:
    terminal.type("$CLAW sh -c 'echo UP; sleep 60'\n")
    terminal.wait_for("\nUP")
    terminal.wait_for_modes(wanted=False)
    [command] = [pid for pid in pids_of("--isolate") if parent_of(pid) == terminal.shell.pid]
    [warden] = [pid for pid in pids_of("clawproxy.cage.warden") if parent_of(pid) == command]
    os.kill(command if victim == "the command" else warden, signal.SIGKILL)
    terminal.wait_for_modes(wanted=True)


@pytest.mark.parametrize("stopped", [False, True])
def test_when_the_persons_terminal_goes_away_the_job_ends(terminal: Terminal, stopped: bool) -> None:
    program = "import os, signal; print('UP', flush=True); " + (
        "os.kill(os.getpid(), signal.SIGSTOP); " if stopped else ""
    )
    terminal.type(f"$CLAW {PYTHON} -c {shlex.quote(program + 'signal.pause()')}\n")
    terminal.wait_for("\nUP")
    [command] = [pid for pid in pids_of("--isolate") if parent_of(pid) == terminal.shell.pid]
    if stopped:
        terminal.wait_for("Stopped")
        terminal.type("fg\n")
        terminal.wait_for_modes(wanted=False)
    terminal.shell.kill()
    terminal.shell.wait()
    end = time.monotonic() + 40
    while os.path.exists(f"/proc/{command}"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_output_to_a_pipe_is_not_a_terminal_and_is_whole(terminal: Terminal) -> None:
    terminal.type("$CLAW sh -c 'test -t 0 && test ! -t 1 && seq 1 20000' 2>/dev/null | cksum; echo CODE $?\n")
    expected = subprocess.run("seq 1 20000 | cksum", shell=True, capture_output=True, text=True, check=True).stdout
    terminal.wait_for(expected.strip())


def test_the_last_that_is_written_to_a_terminal_is_not_lost(terminal: Terminal) -> None:
    terminal.type("$CLAW sh -c 'seq 1 20000; echo THE LAST'; echo CODE $?\n")
    terminal.wait_for("\n20000\r\nTHE LAST")
    terminal.wait_for("CODE 0")


def test_nothing_in_the_job_holds_the_persons_terminal_open() -> None:
    master, slave = pty.openpty()
    try:
        with caged(stdio=(slave, slave, slave)) as cage:
            cage.start(["sleep", "30"], {"PATH": SYSTEM_PATH})
            first = Path(f"/proc/{cage.warden_pid}/task/{cage.warden_pid}/children").read_text().split()[0]
            mine = os.fstat(slave)
            terminal = (mine.st_dev, mine.st_ino)  # the job's own has the same device number, in a devpts of its own
            end = time.monotonic() + 40
            while True:  # the first process lets go of its own output a moment after the agent has begun
                held = []
                for fd in Path(f"/proc/{first}/fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                        if (fd.stat().st_dev, fd.stat().st_ino) == terminal:
                            held.append(fd)
                if not held or time.monotonic() > end:
                    break
                time.sleep(0.02)
            assert held == []
    finally:
        os.close(master)
        os.close(slave)
