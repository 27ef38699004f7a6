"""The host's tree, held still: what the host's sockets are bound to cannot be connected to from the job.

A Unix socket is found by the inode of its path, whichever network namespace asks, and one that a service makes while
the job runs could not be masked before. Through an overlay the same path is another inode, to which nothing is bound.
So each directory of the host's root becomes an overlay of itself: read-only, but for the temporary ones, where the job
writes into a layer of its own. The folders that the job shares with the host are mounted over them again, as they are.

Limits: in those folders a socket that is made later can be connected to by whoever may open it; a directory that cannot
be overlaid stays as it is, and is told.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from . import kernel
from .mountinfo import own_mountinfo, read_mounts
from .plan import RUN_DIR
from .room import give_room

_OWN = {"proc", "sys", "dev", "run"}
"""Directories of which the job gets its own (``view``)."""
_TEMPORARY = ("/tmp", "/var/tmp")
_LAYERS = f"{RUN_DIR}/.layers"
_MAX_MOUNTS = 512
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV


def hold_still() -> list[str]:
    """Overlay the tree; returns the directories that could not be. Needs the power to mount, and our own /run."""
    os.makedirs(f"{_LAYERS}/nothing", 0o700)  # below the real one, whose mode and owner count
    bare = []
    for path in _directories():
        below = _mounts_below(path)
        held = [(each, os.open(each, os.O_PATH | os.O_CLOEXEC)) for each in below[:_MAX_MOUNTS]]
        if _overlay(path, path):
            for each, fd in held:
                if not _again(each, fd):
                    bare.append(each)
        else:
            bare.append(path)
        for _, fd in held:
            os.close(fd)
    for path in _TEMPORARY:
        if os.path.isdir(path) and not os.path.islink(path) and not _written_apart(path):
            bare.append(path)
    return bare


def _directories() -> list[str]:
    """Those of the root that are the host's, but for a temporary one, which gets a layer to write into."""
    found = sorted(entry.path for entry in os.scandir("/") if entry.is_dir(follow_symlinks=False))
    return [path for path in found if path[1:] not in _OWN and path not in _TEMPORARY]


def _mounts_below(path: str) -> list[str]:
    """Mount points below ``path``, the upper ones first; those that this process cannot see are left out."""
    points = {mount.path for mount in read_mounts(own_mountinfo()) if mount.path.startswith(f"{path}/")}
    found = [point for point in points if point not in _TEMPORARY and os.path.exists(point)]
    return sorted(found, key=lambda point: (point.count("/"), point))


def _overlay(lower: str, path: str) -> bool:
    with contextlib.suppress(OSError):
        kernel.mount("overlay", path, "overlay", _kept(path), f"lowerdir={_escaped(lower)}:{_LAYERS}/nothing")
        return True
    return False


def _again(path: str, fd: int) -> bool:
    """What was mounted below a directory, once that is overlaid: a directory as an overlay, a file as it is."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return _overlay(f"/proc/self/fd/{fd}", path)
    with contextlib.suppress(OSError):
        kernel.mount(f"/proc/self/fd/{fd}", path, flags=kernel.MS_BIND)
        return True
    return False


def _written_apart(path: str) -> bool:
    """A temporary directory: the host's files are there, what the job writes is its own, and goes with it."""
    layers = _LAYERS + path.replace("/", "-")
    upper, work = f"{layers}/upper", f"{layers}/work"
    for folder in (upper, work):
        os.makedirs(folder, 0o755)
    os.chmod(upper, stat.S_IMODE(os.stat(path).st_mode))
    lower = f"lowerdir={_escaped(path)},upperdir={upper},workdir={work}"
    for options in (lower, f"{lower},userxattr"):
        with contextlib.suppress(OSError):
            kernel.mount("overlay", path, "overlay", _FLAGS, options)
            return True
    with contextlib.suppress(OSError):
        give_room(path, 0o1777)
        return True
    return False


def _kept(path: str) -> int:
    """The flags that the mount has already, as those of an overlay of it."""
    had = os.statvfs(path).f_flag
    names: Sequence[tuple[int, int]] = (
        (os.ST_NOSUID, kernel.MS_NOSUID), (os.ST_NODEV, kernel.MS_NODEV), (os.ST_NOEXEC, kernel.MS_NOEXEC),
    )  # fmt: skip
    return kernel.MS_RDONLY | kernel.MS_NODEV | sum(flag for seen, flag in names if had & seen)


def _escaped(path: str) -> str:
    """As overlayfs reads its options: a colon parts layers, a comma parts options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
