"""A cage as its maker holds it: starts the warden, gets the door's sockets, has it probed, starts the command.

Blocking, each call bounded in time but ``wait``; ``signal`` may be called from another thread meanwhile. Make it in the
main thread of a program: the warden dies with the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..addons.door_sockets import DoorSockets
from ..tokens.errors import ClawproxyError
from .plan import CagePlan, JobUser
from .rules import door_rules
from .wire import Message, pair

_MAKE_S = 20.0
_PROBE_S = 15.0
_PROBE_ROUNDS = 3
_END_S = 5.0
_KILLED = 137
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
WARDEN = ("-m", "clawproxy.cage.warden")
"""What the interpreter is told to run; tests take guards out here."""
_HARMLESS_DEVICES = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}


@dataclass(frozen=True, slots=True)
class Probe:
    """What one leak probe found: ``blocked``, ``reached`` or ``not tried``."""

    name: str
    outcome: str
    seen: str


class Cage:
    """One cage, made and ready: ``sockets`` listen in its door. Close it, and nothing of it is left.

    ``stdio`` are the descriptors that the command gets as 0, 1 and 2. Those that are terminals are not passed on: the
    command gets a terminal of its own, whose other end ``start`` returns. Raises ``ClawproxyError``
    (ISOLATION_UNAVAILABLE, STDIO_INVALID).
    """

    def __init__(self, plan: CagePlan, stdio: tuple[int, int, int] = (0, 1, 2)) -> None:
        check_stdio(stdio)
        self.plan = plan
        self.distant: list[tuple[str, str]] = []
        """File systems that the job sees and that live elsewhere: type and place (``distant``)."""
        self.limits: dict[str, int] = {}
        """Limits that a cgroup holds, by the name of its controller."""
        self._terminals = [os.isatty(fd) for fd in stdio]
        self._wire, far = pair()
        self._sending = threading.Lock()
        self._owns_sockets = False
        self.exit_code: int | None = None
        self.turned_away: dict[str, int] | None = None
        """What the door's rules turned away while the command ran, in packets by kind; known when it has ended."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        own = os.pidfd_open(os.getpid())
        try:
            self._warden = subprocess.Popen(
                [sys.executable, "-P", *WARDEN, str(far.fileno()), str(own)],
                stdin=stdio[0], stdout=stdio[1], stderr=stdio[2], cwd="/",
                pass_fds=(far.fileno(), own), start_new_session=True, env=environment,
            )  # fmt: skip
        except BaseException:
            self._wire.close()
            raise
        finally:
            far.close()
            os.close(own)
        try:
            terminal = self._terminals.index(True) if any(self._terminals) else None
            self._send({"plan": plan.to_json(), "terminal": terminal})
            made, fds = self._receive("made", _MAKE_S)
            self.limits = made["made"]["limits"]
            self.lost_sockets: int = made["made"]["lost_sockets"]
            self.distant = [(kind, path) for kind, path in made["made"]["distant"]]
            socks = [socket.socket(fileno=fd) for fd in fds]
            families = len(socks) // 3
            self.sockets = DoorSockets(*(tuple(socks[at : at + families]) for at in range(0, len(socks), families)))
            self._owns_sockets = True
            ready, _ = self._receive("ready", _MAKE_S)
            self.bare: list[str] = ready["bare"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def warden_pid(self) -> int:
        return self._warden.pid

    def hand_over(self) -> DoorSockets:
        """The sockets, which are the caller's to close from here on."""
        self._owns_sockets = False
        return self.sockets

    def probe(self) -> list[Probe]:
        """What the leak probes find, from inside; before the command is started and the sockets are handed over.

        Where something was reached they run again, and once more: a busy machine may not show a refusal in time, and
        what is open stays open.
        """
        for _ in range(_PROBE_ROUNDS):
            found = self._probe()
            if not any(probe.outcome == "reached" for probe in found):
                break
        return found

    def _probe(self) -> list[Probe]:
        self._send({"do": "probe"})
        found, _ = self._receive("probes", _PROBE_S)
        return [Probe(*entry) for entry in found["probes"]]

    def start(self, argv: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = (24, 80)) -> int | None:
        """Start the command; returns the descriptor of its terminal, if it has one. Once.

        ``size`` is the terminal's, in rows and columns. Raises ``ClawproxyError`` (COMMAND_NOT_STARTED).
        """
        self._send(
            {"do": "start", "argv": list(argv), "env": dict(env), "terminals": self._terminals, "size": list(size)}
        )
        answer, fds = self._receive("started", _MAKE_S)
        if "failed" in answer:
            real = os.path.realpath(shutil.which(argv[0]) or argv[0])
            of_program = real != argv[0] and answer["failed"].endswith(argv[0])
            raise ClawproxyError(
                "COMMAND_NOT_STARTED", answer["failed"], where="the isolated job",
                got=real if of_program else None,
                remedy=f"the user {self.plan.user.name} must be able to run it and to enter every folder above it (a "
                "home is often closed, and a user made for this job has an empty /tmp): choose one with --user, or "
                "give a program that it may run, such as /usr/bin/python3",
            )  # fmt: skip
        return fds[0] if fds else None

    def wait(self, stopped: Callable[[int], None] | None = None) -> int:
        """The exit code of the command (128 + n for a signal), when it has ended; 137 if the cage was killed.

        ``stopped`` is called when the terminal's user has stopped the command; when it returns, the command goes on.
        """
        if self.exit_code is None:
            self._wire.sock.settimeout(None)
            while self.exit_code is None:
                try:
                    message, _ = self._wire.receive()
                except (EOFError, OSError):
                    self.exit_code = _KILLED
                    break
                if "exited" in message:
                    self.turned_away = message["turned_away"]
                    self.exit_code = message["exited"]
                elif "stopped" in message and stopped is not None:
                    stopped(message["stopped"])
                    with contextlib.suppress(OSError):
                        self._send({"do": "continue"})
        return self.exit_code

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        with contextlib.suppress(OSError):
            self._send({"do": "signal", "number": number})

    def close(self) -> None:
        """End everything in the cage, and the cage. A second time does nothing."""
        if self._owns_sockets:
            self.sockets.close()
        with contextlib.suppress(OSError):
            self._wire.sock.shutdown(socket.SHUT_RDWR)  # also for a thread that waits on it
        self._wire.close()
        try:
            self._warden.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._warden.kill()
            self._warden.wait()

    def _send(self, message: Message) -> None:
        with self._sending:
            self._wire.send(message)

    def _receive(self, wanted: str, timeout_s: float) -> tuple[Message, list[int]]:
        self._wire.sock.settimeout(timeout_s)
        try:
            message, fds = self._wire.receive()
        except EOFError:
            raise ClawproxyError("ISOLATION_UNAVAILABLE", "the cage's warden ended before its time") from None
        except TimeoutError:
            raise ClawproxyError(
                "ISOLATION_UNAVAILABLE", "the cage was not made in time", got=wanted, expected=f"{timeout_s:g} s"
            ) from None
        if "error" in message:
            reason, text, where, got, remedy = message["error"]
            raise ClawproxyError(reason, text, where=where, got=got, remedy=remedy)
        return message, fds


def make_plan(user: JobUser, cwd: str, **more: Any) -> CagePlan:
    """A plan with the rules of this version, for the powers that this process has; ``more`` are fields of ``CagePlan``.

    A dynamic user has a /tmp of its own: files that it leaves behind would be the next one's.
    """
    more["private_tmp"] = more.get("private_tmp", False) or user.dynamic
    return CagePlan(user=user, cwd=cwd, rootless=os.geteuid() != 0, **({"rules": door_rules()} | more))


def check_stdio(stdio: Sequence[int]) -> None:
    """Raise ``ClawproxyError`` (STDIO_INVALID) for a descriptor by which a command could leave its cage.

    A directory leads to the host's files, a socket of the host's network can be connected anew. Files, pipes, connected
    stream sockets of the Unix kind and harmless devices are passed on; terminals are not, and are replaced.
    """
    for number, fd in enumerate(stdio):
        try:
            mode = os.fstat(fd)
        except OSError:
            raise ClawproxyError(
                "STDIO_INVALID", "standard input, output and errors must be open", got=f"descriptor {fd} closed",
                remedy="give it /dev/null",
            ) from None  # fmt: skip
        kind = stat.S_IFMT(mode.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFIFO) or os.isatty(fd):
            continue
        if kind == stat.S_IFCHR and mode.st_rdev in _HARMLESS_DEVICES:
            continue
        if kind == stat.S_IFSOCK and _is_connected_stream(fd):
            continue
        raise ClawproxyError(
            "STDIO_INVALID",
            "not passed into an isolated job, since it leads out of it",
            where=("standard input", "standard output", "standard error")[number],
            expected="a file, a pipe, a terminal or /dev/null",
        )


def _is_connected_stream(fd: int) -> bool:
    sock = socket.socket(fileno=os.dup(fd))
    with sock, contextlib.suppress(OSError):
        if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
            sock.getpeername()
            return True
    return False
