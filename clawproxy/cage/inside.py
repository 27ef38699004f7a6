"""The first process of a job: makes its view, probes it, starts the agent, reaps, forwards signals, tells how it ended.

Runs as PID 1 of the job's namespace: when it ends, the kernel ends all others there. It takes orders from the warden
over a socket that nobody else has: ``probe``, ``start``, ``signal``, ``continue``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ..tokens.errors import ClawproxyError
from . import kernel
from .host import HostFacts
from .limits import limit_process
from .plan import CagePlan
from .privileges import become_agent, become_init, become_root_inside
from .probes import REACHED, run_probes
from .view import build_view
from .wire import Message, Wire

_PROBE_S = 1.9
_NEW = os.CLONE_NEWNS | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP
_MAX_FD = 65536
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGHUP,
                    signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """What the first process is given."""

    plan: CagePlan
    host: HostFacts
    job_fd: int
    user_namespace: int | None
    held: dict[str, int]
    """Limits that a cgroup holds."""


def run_inside(entry: Entry, wire: Wire) -> NoReturn:
    """Never returns: ends with 0 after the agent, else with 1."""
    kernel.die_with_parent(signal.SIGKILL)
    os.setsid()
    try:
        os.setns(entry.job_fd, os.CLONE_NEWNET)
        os.unshare(_NEW)
        bare = build_view(entry.plan, [path for path, _ in entry.host.sockets.paths])
        os.umask(0o022)
        _Init(entry, wire).serve(bare)
    except ClawproxyError as err:
        with contextlib.suppress(OSError):
            wire.send({"error": [err.reason, err.message, err.where, err.got, err.remedy]})
    except EOFError:
        pass  # the warden is gone
    except OSError as err:
        with contextlib.suppress(OSError):
            wire.send({"error": ["ISOLATION_UNAVAILABLE", f"the job could not be set up: {err}", "", None, ""]})
    os._exit(1)


class _Init:
    def __init__(self, entry: Entry, wire: Wire) -> None:
        self._entry, self._plan, self._wire = entry, entry.plan, wire
        # before the agent is there: without root it has the same uid
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        self._agent = 0
        self._terminal: int | None = None
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def serve(self, bare: list[str]) -> None:
        self._wire.send({"ready": True, "bare": bare})
        poll = select.poll()
        poll.register(self._wire.fileno(), select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 512)
                    self._reap()
                else:
                    message, fds = self._wire.receive()
                    for extra in fds:
                        os.close(extra)
                    self._obey(message)

    def _obey(self, message: Message) -> None:
        match message["do"]:
            case "probe":
                self._wire.send({"probes": self._probe()})
            case "start":
                self._start(message)
            case "signal" if self._agent:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._agent, message["number"])
                    if message["number"] in (signal.SIGHUP, signal.SIGTERM):
                        os.killpg(self._agent, signal.SIGCONT)  # what is stopped could not end
            case "continue" if self._agent:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._agent, signal.SIGCONT)

    # -- probes ----------------------------------------------------------------------------------------------------

    def _probe(self) -> list[tuple[str, str, str]]:
        """In a child that is what the agent will be. One that does not answer in time has proved nothing."""
        read, write = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            try:
                self._confine(keep=write)
                found = run_probes(self._plan, self._entry.host, write)
                with os.fdopen(write, "w") as file:
                    json.dump(found, file)
            except BaseException as err:
                os.write(write, json.dumps([["probes", REACHED, f"{type(err).__name__}: {err}"]]).encode())
            finally:
                os._exit(0)
        os.close(write)
        text = b""
        poll = select.poll()
        poll.register(read, select.POLLIN)
        while poll.poll(_PROBE_S * 1000) and (more := os.read(read, 65536)):
            text += more
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        try:
            return [(str(name), str(outcome), str(seen)) for name, outcome, seen in json.loads(text)]
        except ValueError:
            return [("probes", REACHED, "they did not end in time")]

    # -- the agent -------------------------------------------------------------------------------------------------

    def _start(self, message: Message) -> None:
        """Start the command; the answer is ``started``, with the terminal's master beside it, or ``failed``."""
        if self._agent:
            self._wire.send({"failed": "something runs already"})
            return
        terminals: list[bool] = message["terminals"]
        master = None
        if any(terminals):
            master, self._terminal = self._open_terminal(message["size"])
        read, write = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            self._become_command(message["argv"], message["env"], terminals, write)
        os.close(write)
        with os.fdopen(read, "rb") as file:
            failed = file.read().decode(errors="replace")
        self._agent = child
        if failed:
            self._agent = 0
            self._wire.send({"failed": failed})
            return
        become_init(self._plan)
        self._wire.send({"started": child}, [] if master is None else [master])
        if master is not None:
            os.close(master)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)

    def _open_terminal(self, size: list[int]) -> tuple[int, int]:
        """A terminal of the job's own; this process leads its session, so that an agent can be stopped and go on."""
        master, slave = os.openpty()
        os.set_inheritable(master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        modes = termios.tcgetattr(slave)
        modes[0] |= 0o40000  # IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        if not self._plan.rootless:
            os.fchown(slave, self._plan.user.uid, self._plan.user.gid)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        return master, slave

    def _become_command(self, argv: list[str], env: dict[str, str], terminals: list[bool], tell: int) -> NoReturn:
        try:
            os.setpgid(0, 0)
            if self._terminal is not None:
                os.tcsetpgrp(self._terminal, os.getpid())
                for number, own in enumerate(terminals):
                    if own:
                        os.dup2(self._terminal, number)
            limit_process(self._plan.limits, self._entry.held)
            self._confine(keep=tell)
            _enter(self._plan.cwd)
            os.set_inheritable(tell, False)
            os.execvpe(argv[0], argv, env)
        except FileNotFoundError:
            os.write(tell, f"no such command inside: {argv[0]}".encode())
        except PermissionError as err:
            # of a command, the name that the system gives is only the first that PATH leads to: the caller knows better
            entered = err.filename == self._plan.cwd
            told = f"enter its working directory: {self._plan.cwd}" if entered else f"run or enter it: {argv[0]}"
            os.write(tell, f"the job's user may not {told}".encode(errors="surrogateescape"))
        except BaseException as err:
            os.write(tell, str(err).encode() or b"?")
        os._exit(127)

    def _confine(self, keep: int) -> None:
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if self._entry.user_namespace is not None:
            become_root_inside(self._plan, self._entry.user_namespace)
        else:
            become_agent(self._plan)
        os.closerange(3, keep)
        os.closerange(keep + 1, _MAX_FD)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._agent:
                continue
            if os.WIFSTOPPED(status):
                self._wire.send({"stopped": os.WSTOPSIG(status)})
                continue
            code = os.waitstatus_to_exitcode(status)
            self._wire.send({"exited": code if code >= 0 else 128 - code})
            os._exit(0)


def _enter(path: str) -> None:
    """Anew and by its name, so that a directory that is masked is not kept by the way it was reached before."""
    os.chdir("/")
    os.chdir(path)


def start_inside(entry: Entry, wire: Wire, before: Callable[[], None]) -> int:
    """Fork the first process; the caller has unshared the PID namespace. Returns its pid as the caller sees it."""
    child = os.fork()
    if child == 0:
        try:
            before()
            run_inside(entry, wire)
        except BaseException as err:
            sys.stderr.write(f"clawproxy: the cage's first process failed: {type(err).__name__}: {err}\n")
        finally:
            os._exit(1)
    return child
