"""Users below a user: the ids that ``newuidmap`` lends to it (subuid(5)). Reads ``/etc/subuid``.

A process in a user namespace may be any of them, on the host's own network, so a fence is around all of them.
Limits: ids that come from elsewhere than the file (``subid:`` in nsswitch.conf) are not known.
"""

from __future__ import annotations

import contextlib
import pwd
from pathlib import Path

_LAST_UID = 2**32 - 2
_MOST = 64

type Range = tuple[int, int]
"""First and last."""


def ranges_of(uid: int, file: Path) -> tuple[Range, ...]:
    """What ``file`` lends to ``uid``, by its name or number; in order, without overlaps."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        owner, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if owner in names and first.isdecimal() and count.isdecimal() and int(count) and 0 < int(first) <= _LAST_UID:
            found.append((int(first), min(int(first) + int(count) - 1, _LAST_UID)))
    return joined(found)[:_MOST]


def joined(ranges: list[Range]) -> tuple[Range, ...]:
    """The same numbers in as few ranges as they need."""
    whole: list[Range] = []
    for first, last in sorted(ranges):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = (whole[-1][0], max(whole[-1][1], last))
        else:
            whole.append((first, last))
    return tuple(whole)
