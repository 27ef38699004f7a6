"""As whom OpenClaw is asked about its configuration: nothing that an agent wrote runs as root. Reads the file system.

OpenClaw starts programs that its configuration names (secrets from a command), loads what its state directory says, and
writes there (migrations, caches). Asked by root, it would do so as root.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..tokens.errors import ClawproxyError


@dataclass(frozen=True, slots=True)
class User:
    """``home`` is the user's own, or ``/`` for a number without an account."""

    uid: int
    gid: int
    home: str


def owner_of(paths: Iterable[Path]) -> User | None:
    """For root: the user other than root to whom any of ``paths`` belongs (the link as well as what it leads to; of one
    that is absent, its directory). None where all are root's, and for any other user, who can ask as nobody else.

    Raises ``ClawproxyError`` (OPENCLAW_FAILED) where they belong to several, or cannot be looked at.
    """
    if os.geteuid() != 0:
        return None
    found: dict[int, int] = {}
    try:
        for path in paths:
            near = path if os.path.lexists(path) else path.parent
            for status in (near.lstat(), near.stat()) if os.path.lexists(near) else ():
                found[status.st_uid] = status.st_gid
    except OSError as err:
        why = (err.strerror or "error").lower()
        raise ClawproxyError("OPENCLAW_FAILED", f"whose its files are cannot be told: {why}") from None
    found.pop(0, None)
    if len(found) > 1:
        owners = ", ".join(map(str, sorted(found)))
        raise ClawproxyError("OPENCLAW_FAILED", f"its files belong to several users ({owners}): ask as one of them")
    for uid, gid in found.items():
        try:
            account = pwd.getpwuid(uid)
            return User(uid, account.pw_gid, account.pw_dir)
        except KeyError:
            return User(uid, gid, "/")
    return None
