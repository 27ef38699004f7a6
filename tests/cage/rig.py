"""Cages for tests: what a machine must have for them, and commands that run inside."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.users import choose_user

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ORIGINAL_DST = 80


def why_not() -> str | None:
    """Why this machine cannot run cages as root, or nothing. CI must be able to."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("ip", "nft") if shutil.which(name, path=SYSTEM_PATH) is None]
    return f"needs {', '.join(missing)}" if missing else None


needs_root = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or "/usr/bin/python3"
"""An interpreter that any user may run."""


@dataclass(frozen=True)
class Done:
    """How a command inside ended, and what it printed."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def caged(
    cwd: str = "/", *, user: str | None = None, stdio: tuple[int, int, int] | None = None, **plan: Any
) -> Iterator[Cage]:
    """A cage around ``cwd``, for a user of its own unless one is named; ``plan`` are fields of ``CagePlan``."""
    chosen = choose_user(user, cwd)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with Cage(make_plan(chosen.user, cwd, **plan), stdio or (null, null, null)) as cage:
            yield cage
    finally:
        os.close(null)
        chosen.release()


def run_caged(argv: Sequence[str], *, env: Mapping[str, str] | None = None, feed: bytes = b"", **plan: Any) -> Done:
    """Run a command in a cage of its own whose door nobody serves."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(feed)
        given.seek(0)
        with caged(stdio=(given.fileno(), out.fileno(), err.fileno()), **plan) as cage:
            cage.start(argv, {"PATH": SYSTEM_PATH, **(env or {})})
            code = cage.wait()
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def python_caged(program: str, **more: Any) -> Done:
    return run_caged([PYTHON, "-c", program], **more)


def original_destination(conn: socket.socket) -> tuple[str, int]:
    """Where a redirected connection was going."""
    if conn.family == socket.AF_INET:
        raw = conn.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DST, 16)
        return socket.inet_ntoa(raw[4:8]), int(struct.unpack("!H", raw[2:4])[0])
    raw = conn.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), int(struct.unpack("!H", raw[2:4])[0])


def pids_of(word: str) -> list[int]:
    """Processes whose command line has ``word`` as one of its arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
