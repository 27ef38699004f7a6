"""Networks of cages that are gone, and how they are taken away. Reads /proc, enters network namespaces, unmounts, runs
``ip``; as root.

A cage gives its networks no name, so the kernel clears them away with its processes. Somebody else may have named one
meanwhile (``ip netns attach``), which keeps it, its link and its rules; or may still be in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..cage.alive import is_orphan, parent_of, wardens
from ..cage.kernel import MNT_DETACH, unmount
from ..cage.mountinfo import own_mountinfo, read_mounts
from ..cage.plan import LINK_OF_DOOR, LINK_OF_JOB
from ..cage.rules import door_rules
from ..policies.door_plan import DOOR_V4, JOB_V4
from . import nftables

DOOR_TABLE = "door"
_NAMED = Path("/run/netns")
_NSFS = re.compile(r"net:\[(\d+)\]")
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True, slots=True)
class LeftNetwork:
    """One network namespace of a cage that is gone: where it is mounted, and the processes that are in it."""

    inode: int
    names: tuple[str, ...]
    processes: tuple[int, ...]


def left_networks() -> list[LeftNetwork]:
    """Those of this host, but for its own."""
    own = os.stat("/proc/self/ns/net").st_ino
    inside, parents = _processes()
    live = {pid for pid in wardens() if not is_orphan(pid)}
    kept = {inside[pid] for pid in live if pid in inside}
    named: dict[int, list[str]] = defaultdict(list)
    for inode, path in _mounted():
        named[inode].append(path)
    strangers: dict[int, list[int]] = defaultdict(list)
    for pid, inode in inside.items():
        if inode not in kept and not _comes_from(pid, live, parents):
            strangers[inode].append(pid)
    found = []
    for inode in sorted((named.keys() | strangers.keys()) - kept - {own}):
        if _is_of_a_cage((*named[inode], *(f"/proc/{pid}/ns/net" for pid in strangers[inode]))[0]):
            found.append(LeftNetwork(inode, tuple(named[inode]), tuple(strangers[inode])))
    return found


def forget_names(network: LeftNetwork) -> list[str]:
    """Take its names away; what was done, for a person. With nobody in it, that is its end."""
    done = []
    for path in network.names:
        with contextlib.suppress(OSError):
            unmount(path, MNT_DETACH)
            done.append(f"cage: the name {path} of its network was taken away")
            if Path(path).parent == _NAMED:
                os.unlink(path)
    return done


def has_left_link() -> bool:
    """Whether the host's own network has a door's end of a link."""
    if LINK_OF_DOOR not in {name for _, name in socket.if_nameindex()}:
        return False
    done = _ip("-o", "-d", "link", "show", "dev", LINK_OF_DOOR)
    if done.returncode or " veth " not in f"{done.stdout} ":
        return False
    addresses = _ip("-o", "-4", "address", "show", "dev", LINK_OF_DOOR).stdout
    return not addresses or f" {DOOR_V4}/" in addresses


def remove_left_link() -> bool:
    return _ip("link", "delete", LINK_OF_DOOR).returncode == 0


def has_left_rules() -> bool:
    """Whether a door's rules are in force in the host's own network."""
    loaded = nftables.listed(DOOR_TABLE)
    return loaded is not None and loaded == nftables.as_listed(door_rules(), DOOR_TABLE)


def _processes() -> tuple[dict[int, int], dict[int, int]]:
    """By process: its network namespace, and its parent."""
    inside, parents = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            parents[pid] = parent_of(pid)
            with contextlib.suppress(OSError):
                inside[pid] = os.stat(entry / "ns" / "net").st_ino
    return inside, parents


def _comes_from(pid: int, ancestors: set[int], parents: dict[int, int]) -> bool:
    for _ in range(len(parents)):
        if pid in ancestors:
            return True
        pid = parents.get(pid, 0)
        if pid == 0:
            return False
    return False


def _mounted() -> Iterable[tuple[int, str]]:
    """Network namespaces that are mounted somewhere, with the place."""
    for mount in read_mounts(own_mountinfo()):
        if (found := _NSFS.fullmatch(mount.root)) is not None:
            yield int(found[1]), mount.path


def _is_of_a_cage(way: str) -> bool:
    """Looked at from inside, by a child."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            descriptor = os.open(way, os.O_RDONLY | os.O_CLOEXEC)
            os.setns(descriptor, os.CLONE_NEWNET)
            links = {name for _, name in socket.if_nameindex()}
            code = 0 if LINK_OF_DOOR in links or _address_of(LINK_OF_JOB) == str(JOB_V4) else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _address_of(link: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16s24x", link.encode())
        return socket.inet_ntoa(fcntl.ioctl(sock, _SIOCGIFADDR, asked)[20:24])


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return nftables.run_program("ip", arguments, package="iproute2")
