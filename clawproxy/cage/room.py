"""Room in memory for what a job writes that is not kept: one file system for all of its temporary directories.

Each with a size of its own, they could be filled to more than the machine has; and what lies in a tmpfs is taken from
everybody, since no process can be ended for it.
"""

from __future__ import annotations

import os

from . import kernel
from .plan import RUN_DIR

_ROOM = f"{RUN_DIR}/.room"
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
_MAX_FILES = 1_000_000


def make_room() -> None:
    """Once, in our own ``RUN_DIR``, with the power to mount: half of the machine's memory."""
    os.mkdir(_ROOM)
    kernel.mount("tmpfs", _ROOM, "tmpfs", _FLAGS, f"mode=711,size=50%,nr_inodes={_MAX_FILES}")


def give_room(path: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """An empty directory out of it at ``path``, which is there; ``owner`` is uid and gid. Raises ``OSError``."""
    place = f"{_ROOM}/{path.strip('/').replace('/', '-')}"
    os.makedirs(place, exist_ok=True)
    os.chmod(place, mode)
    if owner is not None:
        os.chown(place, *owner)
    kernel.mount(place, path, flags=kernel.MS_BIND)
