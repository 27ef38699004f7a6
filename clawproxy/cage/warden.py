"""The process that makes a cage and holds it: ``python -m clawproxy.cage.warden FD MAKER``. Has one thread, and root's
power.

It tells what it made over the socket ``FD`` (the door's listening sockets go along), starts the job's first process and
passes messages between it and its own parent. It dies with its parent, and the job with it: nothing has a name.
``MAKER`` is a descriptor of the process that the cage is for, held open so that others see if it lives (``alive``).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
from typing import Any, NoReturn

from ..tokens.errors import ClawproxyError
from . import kernel
from .counters import read_counters
from .distant import distant_mounts
from .host import read_host
from .inside import Entry, start_inside
from .limits import Cgroups
from .mountinfo import own_mountinfo
from .namespaces import enter_user_namespace, make_network, require_programs
from .plan import COUNTERS, CagePlan
from .probes import DOOR_ANSWER
from .wire import Wire, pair


def main(fd: int, maker_fd: int = -1) -> NoReturn:
    """Take the plan from ``fd``, make the cage, serve until the job or the parent ends."""
    if maker_fd >= 0:
        os.set_inheritable(maker_fd, False)
    wire = Wire(socket.socket(fileno=fd))
    wire.sock.set_inheritable(False)
    warden = Warden(wire, maker_fd)
    code = 1
    try:
        warden.run()
        code = 0
    except ClawproxyError as err:
        with contextlib.suppress(OSError):
            wire.send({"error": [err.reason, err.message, err.where, err.got, err.remedy]})
    except OSError as err:
        with contextlib.suppress(OSError):
            what = f"the cage could not be made: {(err.strerror or type(err).__name__).lower()}"
            wire.send({"error": ["ISOLATION_UNAVAILABLE", what, str(err.filename or ""), None, ""]})
    except EOFError:
        pass
    finally:
        warden.end()
        os._exit(code)


class Warden:
    """One cage."""

    def __init__(self, wire: Wire, maker_fd: int) -> None:
        self._wire = wire
        self._maker_fd = maker_fd
        self._job = 0
        self._cgroups: Cgroups | None = None
        self._sockets: tuple[socket.socket, ...] = ()
        self._screen: tuple[int, Any] | None = None
        self._counted: dict[str, int] | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_end)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        kernel.die_with_parent(signal.SIGTERM)

    def run(self) -> None:
        message, _ = self._wire.receive()
        plan = CagePlan.from_json(message["plan"])
        if message["terminal"] is not None:
            terminal: int = message["terminal"]
            self._screen = (os.dup(terminal), termios.tcgetattr(terminal))
        require_programs()
        host = read_host()
        home = () if plan.user.dynamic else (plan.user.home,)
        distant = distant_mounts(own_mountinfo(), (plan.cwd, *home))
        self._cgroups = Cgroups(plan.limits)
        if plan.rootless:
            enter_user_namespace(plan.user.uid, plan.user.gid)
            kernel.die_with_parent(signal.SIGTERM)  # new capabilities have cleared it
        job_fd, user_namespace = _root_inside(plan) if plan.root_inside else (None, None)
        network = make_network(plan.rules, job_fd)
        self._sockets = network.sockets
        self._wire.send(
            {
                "made": {
                    "limits": self._cgroups.held,
                    "lost_sockets": host.sockets.lost,
                    "distant": [[mount.kind, mount.path] for mount in distant],
                }
            },
            [sock.fileno() for sock in self._sockets],
        )
        try:
            os.unshare(os.CLONE_NEWPID)
        except OSError as err:
            raise ClawproxyError("ISOLATION_UNAVAILABLE", f"no PID namespace could be made: {err}") from None
        near, far = pair()
        entry = Entry(plan, host, network.job_fd, user_namespace, self._cgroups.held)

        def leave_the_warden() -> None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            near.close()
            self._wire.close()
            for sock in self._sockets:
                sock.close()
            os.close(network.door_fd)
            if self._maker_fd >= 0:
                os.close(self._maker_fd)
            if self._screen is not None:
                os.close(self._screen[0])  # the person's terminal is no part of the job
            assert self._cgroups is not None
            self._cgroups.take_in()

        self._job = start_inside(entry, far, leave_the_warden)
        far.close()
        self._silence()
        self._relay(near)

    def _silence(self) -> None:
        """The agent's input and output are not this process's to hold open."""
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(2):
            os.dup2(null, number)

    def _relay(self, job: Wire) -> None:
        poll = select.poll()
        poll.register(self._wire.fileno(), select.POLLIN)
        poll.register(job.fileno(), select.POLLIN)
        door = {sock.fileno(): sock for sock in self._sockets}
        while True:
            for fd, _ in poll.poll():
                if fd in door:
                    _answer(door[fd])
                elif fd == self._wire.fileno():
                    message, fds = self._wire.receive()
                    _close(fds)
                    if message["do"] == "probe":
                        for number, sock in door.items():
                            sock.setblocking(False)
                            poll.register(number, select.POLLIN)
                    if message["do"] == "start":  # the gateway's alone from here on
                        for sock in self._sockets:
                            sock.close()
                        door, self._sockets = {}, ()
                        self._counted = _counters()  # the probes' own, which are not the agent's
                    job.send(message)
                else:
                    try:
                        message, fds = job.receive()
                    except EOFError:
                        return
                    if "probes" in message:
                        for number, sock in door.items():
                            poll.unregister(number)
                            while _answer(sock):
                                pass
                    if "exited" in message:
                        message["turned_away"] = self._turned_away()
                    self._wire.send(message, fds)
                    _close(fds)

    def _turned_away(self) -> dict[str, int] | None:
        """What the rules turned away while the agent ran, now that nothing of it runs; None where that is not known."""
        self._end_job()
        before, after = self._counted, _counters()
        if before is None or after is None:
            return None
        return {kind: max(count - before.get(kind, 0), 0) for kind, count in after.items()}

    def _end_job(self) -> None:
        if self._job:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._job, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._job, 0)
            self._job = 0

    def end(self) -> None:
        """Kill the job, wait for it, put the person's terminal back."""
        self._end_job()
        if self._cgroups is not None:
            self._cgroups.remove()
        if self._screen is not None:
            fd, modes = self._screen
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(fd, termios.TCSAFLUSH, modes)

    def _told_to_end(self, number: int, frame: object) -> NoReturn:
        self.end()
        os._exit(128 + number)


def _root_inside(plan: CagePlan) -> tuple[int, int]:
    """A network namespace for the job that belongs to a user namespace below this one, where the job's user is root."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    done_read, done_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
        os.write(ready_write, b".")
        os.read(done_read, 1)
        os._exit(0)
    try:
        os.close(ready_write)
        if os.read(ready_read, 1) != b".":
            raise ClawproxyError("ISOLATION_UNAVAILABLE", "no user namespace could be made for root inside")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {plan.user.uid} 1"),
            ("gid_map", f"0 {plan.user.gid} 1"),
        ):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(text)
        return tuple(os.open(f"/proc/{child}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "user"))  # type: ignore[return-value]
    finally:
        os.write(done_write, b".")
        for fd in (ready_read, done_read, done_write):
            os.close(fd)
        os.waitpid(child, 0)


def _answer(sock: socket.socket) -> bool:
    """While the cage is probed the warden answers in the gateway's place, so that a probe can tell whom it reached."""
    try:
        if sock.type == socket.SOCK_DGRAM:
            _, peer = sock.recvfrom(512)
            sock.sendto(DOOR_ANSWER, peer)
        else:
            conn, _ = sock.accept()
            with conn:
                conn.setblocking(False)
                conn.send(DOOR_ANSWER)
    except OSError:
        return False
    return True


def _counters() -> dict[str, int] | None:
    with contextlib.suppress(OSError):
        return read_counters(COUNTERS) or None
    return None


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
