"""File systems that send what is done in them elsewhere: by the host's kernel or a program of the host's, on the host's
network, past the door. Reads /proc/self/mountinfo, mounts.

Those that the host has mounted where the job can see them are told: a home on a file server is no fault, but the job's
network is not all that leaves it. An automounter's map is covered, since looking for a name in it asks for the name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from . import kernel
from .mountinfo import Mounted, own_mountinfo, read_mounts

_TYPES = {
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs", "vboxsf", "vmhgfs",
}  # fmt: skip
_AUTOFS = "autofs"
_OWN = ("/proc", "/sys", "/dev", "/run", "/var/run")
"""Where the job has its own (``view``)."""
MAX_TOLD = 16


def distant_mounts(text: str, kept: Iterable[str]) -> list[Mounted]:
    """Those of the host that the job sees; ``kept`` are directories that it shares with the host, wherever they lie."""
    shared = [path.rstrip("/") + "/" for path in kept]
    found = []
    for mount in read_mounts(text):
        if mount.kind in _TYPES or mount.kind.startswith("fuse."):
            place = mount.path.rstrip("/") + "/"
            hidden = any(place.startswith(f"{own}/") for own in _OWN)
            if not hidden or any(place.startswith(each) or each.startswith(place) for each in shared):
                found.append(mount)
    return found[:MAX_TOLD]


def cover_automounters(below: str = "/") -> None:
    """Put an empty directory over each automounter's map below a directory. What the job shares is mounted over it
    again afterwards, so it can be written to until then, by root alone. Needs the power to mount."""
    inside = below.rstrip("/") + "/"
    for mount in list(read_mounts(own_mountinfo())):
        if mount.kind == _AUTOFS and mount.path.startswith(inside) and not mount.path.startswith("/proc/"):
            with contextlib.suppress(FileNotFoundError):  # below something else by now
                flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
                kernel.mount("tmpfs", mount.path, "tmpfs", flags, "mode=755,size=64k")
