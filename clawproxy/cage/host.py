"""What the host has that a job must not reach: Unix sockets, addresses, ports. Read before any namespace is entered.

A network namespace hides abstract names of Unix sockets; a path leads to its socket from any.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD = re.compile(r"[0-9a-f]{8,16}: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +\d+")
_LINE = re.compile(r"[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ [0-9A-F]+ ([0-9A-F]+) [0-9A-F]+ +(\d+) (.+)", re.DOTALL)


_MAX_ADDRESSES = 16
_MAX_PORTS = 24
_LISTENS = "0A"
_SIOCGIFCONF = 0x8912
_IFREQ_BYTES = 40


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What leak probes compare with: sockets, namespaces by their identity, a process that runs there, addresses of its
    interfaces, and TCP ports that are open to its loopback (address, port)."""

    sockets: HostSockets
    namespaces: dict[str, str]
    process: int
    addresses: tuple[str, ...]
    loopback: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class HostSockets:
    """Absolute ``paths``, and ``abstract`` names with the type of the socket. ``lost`` counts relative paths that could
    not be found again."""

    paths: tuple[tuple[str, int], ...]
    abstract: tuple[tuple[str, int], ...]
    lost: int


def read_host_sockets() -> HostSockets:
    """Those of the network namespace that this process is in."""
    paths: set[tuple[str, int]] = set()
    abstract: set[tuple[str, int]] = set()
    relative: dict[str, tuple[str, int]] = {}
    with open("/proc/net/unix", errors="surrogateescape", newline="\n") as file:
        for line in whole_lines(file.read()):
            found = _LINE.fullmatch(line)
            if found is None:
                continue
            kind, inode, name = int(found[1], 16), found[2], found[3]
            if name.startswith("/"):
                paths.add((name, kind))
            elif name.startswith("@"):
                abstract.add((name[1:], kind))
            else:
                relative[inode] = (name, kind)
    lost = 0
    if relative:
        where = _working_directories(set(relative))
        for inode, (name, kind) in relative.items():
            if inode in where:
                paths.add((os.path.normpath(os.path.join(where[inode], name)), kind))
            else:
                lost += 1
    return HostSockets(tuple(sorted(paths)), tuple(sorted(abstract)), lost)


def whole_lines(text: str) -> list[str]:
    """One line for each socket: the kernel writes a name as it is, with the line ends that are in it."""
    found: list[str] = []
    for line in text.split("\n")[1:]:
        if _HEAD.match(line) or not found:
            found.append(line)
        else:
            found[-1] += f"\n{line}"
    if found:
        found[-1] = found[-1].removesuffix("\n")  # the last line's own
    return found


def _working_directories(inodes: set[str]) -> dict[str, str]:
    """By socket, the directory of a process that holds it, as far as this user may look."""
    found: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(fd)
                    if target.startswith("socket:[") and target[8:-1] in inodes:
                        found.setdefault(target[8:-1], os.readlink(process / "cwd"))
    return found


def read_host() -> HostFacts:
    """Facts of the namespaces that this process is in."""
    return HostFacts(
        read_host_sockets(), namespaces_here(), os.getppid(), tuple(_addresses()), tuple(_open_on_loopback())
    )


def namespaces_here() -> dict[str, str]:
    """The identity of each namespace that this process is in."""
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in ("net", "pid", "mnt", "ipc", "uts")}


def _addresses() -> list[str]:
    """Those of the host's interfaces but loopback."""
    import array
    import fcntl

    room = array.array("B", bytes(_IFREQ_BYTES * 128))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        filled = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iL", len(room), room.buffer_info()[0]))
    entries = room.tobytes()[: struct.unpack("iL", filled)[0]]
    v4 = [socket.inet_ntoa(entries[at + 20 : at + 24]) for at in range(0, len(entries), _IFREQ_BYTES)]
    v6 = []
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as file:
        v6 = [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[:32])) for line in file]
    found = [*[a for a in v4 if not a.startswith("127.")], *[a for a in v6 if a != "::1" and not a.startswith("fe80:")]]
    return found[:_MAX_ADDRESSES]


def _open_on_loopback() -> list[tuple[str, int]]:
    found = set()
    for name, address in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}") as file:
            for line in list(file)[1:]:
                words = line.split()
                if words[3] == _LISTENS:
                    found.add((address, int(words[1].rpartition(":")[2], 16)))
    return sorted(found)[:_MAX_PORTS]
