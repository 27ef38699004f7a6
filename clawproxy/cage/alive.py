"""Which wardens on this host have lost the process that their cage is for. Reads /proc.

A warden holds a descriptor of that process (pidfd_open(2)), whose number stands on its command line; the kernel says
of it whether the process is still there, in whatever namespace it lives and whoever its children were given to. Parents
say nothing: in a container the one that lives may be process 1, as the one that takes in orphans is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

WARDEN_MODULE = b"clawproxy.cage.warden"
_DEAD = {"Z", "X"}


def wardens() -> Iterator[int]:
    """The processes of cages that hold their namespaces: wardens, and first processes of jobs, which come from them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and WARDEN_MODULE in _words(int(entry.name)):
            yield int(entry.name)


def orphans() -> list[int]:
    """Those whose maker is gone. What cannot be told counts as alive."""
    return [pid for pid in wardens() if is_orphan(pid)]


def is_orphan(pid: int) -> bool:
    """Whether ``pid`` belongs to a cage that nobody is there for any more."""
    words = _words(pid)
    if WARDEN_MODULE not in words or _state(pid) in _DEAD:
        return False
    arguments = words[words.index(WARDEN_MODULE) + 1 :]
    if len(arguments) < 2 or not arguments[1].isdigit():
        return False
    maker = _held_process(pid, int(arguments[1]))
    if maker is None:  # a first process, which has let go of it: the warden is its parent
        parent = parent_of(pid)
        return parent > 0 and WARDEN_MODULE not in _words(parent)
    return maker < 0 or (maker > 0 and _state(maker) in _DEAD)


def parent_of(pid: int) -> int:
    """0 where there is none, or no such process."""
    found = _stat(pid)
    return int(found[1]) if found else 0


def _held_process(pid: int, fd: int) -> int | None:
    """The process that a descriptor is of: -1 where it has ended, 0 where it cannot be seen from here; None for a
    descriptor that is of none."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines():
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return None


def _words(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return [word for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]
    return []


def _stat(pid: int) -> list[str]:
    with contextlib.suppress(OSError):  # of the bytes before the last bracket a process is the author
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    return []


def _state(pid: int) -> str:
    return (_stat(pid) or ["X"])[0]
