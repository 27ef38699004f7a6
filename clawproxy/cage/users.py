"""Who the agent of a job is. Reads the user database and /proc."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import socket
from pathlib import Path

from ..tokens.errors import ClawproxyError
from .plan import RUN_DIR, JobUser

_DYNAMIC = range(61184, 65520)
_TRIES = 64


class ChosenUser:
    """A user, and what keeps other cages from choosing the same one; keep it as long as the job lives."""

    def __init__(self, user: JobUser, lock: socket.socket | None = None) -> None:
        self.user = user
        self._lock = lock

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()


def choose_user(name: str | None, cwd: str) -> ChosenUser:
    """``name``, else who called sudo, else the owner of ``cwd``, else one that nobody is. Never root.

    Without root it is the caller, whom a user namespace cannot change. Raises ``ClawproxyError`` (USER_INVALID).
    """
    if os.geteuid() != 0:
        own = _known(os.geteuid(), os.getegid())
        if name and name not in (own.name, str(own.uid)):
            raise ClawproxyError(
                "USER_INVALID", "only root can run the job as another user", where="--user", got=name,
                remedy="run it with sudo, or without --user",
            )  # fmt: skip
        return ChosenUser(own)
    if name:
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            raise ClawproxyError("USER_INVALID", "no such user", where="--user", got=name) from None
        if entry.pw_uid == 0:
            raise ClawproxyError(
                "USER_INVALID", "an isolated job does not run as root", where="--user", remedy="name another user"
            )
        return ChosenUser(_known(entry.pw_uid, entry.pw_gid))
    sudo = os.environ.get("SUDO_UID", "")
    candidates = [int(sudo)] if sudo.isdigit() else []
    with contextlib.suppress(OSError):
        candidates.append(os.stat(cwd).st_uid)
    for uid in candidates:
        if uid != 0:
            with contextlib.suppress(KeyError):
                return ChosenUser(_known(uid, pwd.getpwuid(uid).pw_gid))
    return _dynamic()


def _known(uid: int, gid: int) -> JobUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return JobUser(uid, gid, str(uid), os.environ.get("HOME", "/"))
    return JobUser(uid, gid, entry.pw_name, entry.pw_dir)


def _dynamic() -> ChosenUser:
    """A uid without an entry, a process or another cage. An abstract socket is the lock: it goes with its holder."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            taken.add(process.stat().st_uid)
    for _ in range(_TRIES):
        uid = _DYNAMIC.start + secrets.randbelow(len(_DYNAMIC))
        if uid in taken:
            continue
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0clawproxy-job-uid-{uid}")
        except OSError:
            lock.close()
            continue
        return ChosenUser(JobUser(uid, uid, f"clawjob{uid}", f"{RUN_DIR}/home", dynamic=True), lock)
    raise ClawproxyError("USER_INVALID", "no user id is free for the job", remedy="name a user with --user")
