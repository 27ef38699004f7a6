"""What a job may use: a cgroup (version 1 or 2) where this user may make one, else limits of each process.

An empty cgroup is the one thing of a cage that the kernel does not clear away when all of it is killed: whoever makes a
cage next removes it. A lock on its directory, which goes with the processes that hold it, says that it is in use;
numbers of processes would not, since they are given out again, and differ between namespaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import secrets
from collections.abc import Iterator
from pathlib import Path

from .plan import Limits

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "clawproxy-cage-"
_FILES = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}


class Cgroups:
    """Those of one cage; ``held`` are the limits that they hold, by the name of the controller."""

    def __init__(self, limits: Limits) -> None:
        self.paths: list[Path] = []
        self._name = _PREFIX + secrets.token_hex(8)
        self._locks: list[int] = []
        self.held: dict[str, int] = {}
        wanted = {"memory": limits.memory_bytes, "pids": limits.pids}
        for controller, value in wanted.items():
            if value is not None:
                with contextlib.suppress(OSError):
                    self._make(controller, value)

    def _make(self, controller: str, value: int) -> None:
        unified = (_ROOT / "cgroup.controllers").exists()
        parent = _ROOT if unified else _ROOT / controller
        if unified:
            enabled = parent / "cgroup.subtree_control"
            if controller not in enabled.read_text().split():
                enabled.write_text(f"+{controller}")
        elif not (parent / "cgroup.procs").exists():
            return  # not mounted
        sweep(parent)
        path = parent / self._name
        if path not in self.paths:
            self._locks.append(_made_and_locked(path))
            self.paths.append(path)
        (path / _FILES[controller][unified]).write_text(str(value))
        self.held[controller] = value

    def take_in(self) -> None:
        """This process, and all that come from it."""
        for path in self.paths:
            (path / "cgroup.procs").write_text("0")

    def remove(self) -> None:
        """When nothing runs in them any more."""
        for path in self.paths:
            with contextlib.suppress(OSError):
                path.rmdir()
        for lock in self._locks:
            os.close(lock)
        self._locks = []


def _made_and_locked(path: Path) -> int:
    """A new directory, locked. Who sweeps may take it away before it is, so it is made anew then."""
    while True:
        path.mkdir(mode=0o700, exist_ok=True)  # nobody else may lock it
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(lock).st_ino:
                    return lock
            os.close(lock)


def empty_cgroups(parent: Path | None = None, *, remove: bool = False) -> Iterator[Path]:
    """Those of cages that are gone: nothing runs in them, and nobody holds their lock. With ``remove`` they are."""
    parents = [parent] if parent else [_ROOT, *(_ROOT / controller for controller in _FILES)]
    for place in parents:
        for path in place.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not (path / "cgroup.procs").read_text():
                        if remove:
                            path.rmdir()
                        yield path
                finally:
                    os.close(lock)


def sweep(parent: Path | None = None) -> list[Path]:
    """Remove the empty cgroups of cages that are gone; returns which."""
    return list(empty_cgroups(parent, remove=True))


def limit_process(limits: Limits, held: dict[str, int]) -> None:
    """What no cgroup holds, as limits of this process (memory) and of its user (processes)."""
    # 1 is what keeps the kernel from starting the host's program for crashes, too
    resource.setrlimit(resource.RLIMIT_CORE, (min(1, resource.getrlimit(resource.RLIMIT_CORE)[1]),) * 2)
    for value, controller, kind in (
        (limits.memory_bytes, "memory", resource.RLIMIT_DATA),
        (limits.pids, "pids", resource.RLIMIT_NPROC),
    ):
        if value is not None and controller not in held:
            hard = resource.getrlimit(kind)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
