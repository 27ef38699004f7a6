"""Runs a command as a user who is not root, with the interpreter and this tree in sight, wherever they lie."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import clawproxy

UID = 4242
ROOT = Path(clawproxy.__file__).parents[1]

# In a mount namespace of its own: directories that others may not enter are covered, and what is needed bound again.
_OPENED = """
set -e
mount -t tmpfs none "$STASH"; stash=$STASH
number=0
for path in $NEEDED; do mkdir "$stash/$number"; mount --bind "$path" "$stash/$number"; number=$((number + 1)); done
for path in $CLOSED; do mount -t tmpfs -o mode=755 none "$path"; done
number=0
for path in $NEEDED; do mkdir -p "$path"; mount --bind "$stash/$number" "$path"; number=$((number + 1)); done
exec setpriv --reuid "$RUN_AS" --regid "$RUN_AS" --clear-groups "$@"
"""


def _closed(path: Path) -> str | None:
    """The first directory on the way to ``path`` that others may not enter."""
    for parent in [*reversed(path.parents), path]:
        if not parent.stat().st_mode & 0o001:
            return str(parent)
    return None


def run_rootless(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, feed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` as ``UID``."""
    needed = [Path(sys.base_prefix).resolve(), ROOT.resolve(), Path(sys.prefix).resolve()]
    hidden = {path: closed for path in needed if (closed := _closed(path))}
    script = {"NEEDED": " ".join(map(str, hidden)), "CLOSED": " ".join(sorted(set(hidden.values())))}
    with tempfile.TemporaryDirectory() as stash:
        script |= {"STASH": stash, "RUN_AS": str(UID)}
        given = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", **(env or {}), **script}
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", _OPENED, "sh", *command],
            capture_output=True, text=True, timeout=90, check=False, cwd=cwd, env=given, input=feed,
        )  # fmt: skip
