"""Whether anything listens on a port of this host. Reads /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

_LISTEN = "0A"


def listens(port: int, proc: Path = Path("/proc/self/net")) -> bool:
    """Whether a TCP socket, on whatever address, listens on ``port``; False where that cannot be read."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / name).read_text("ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False
