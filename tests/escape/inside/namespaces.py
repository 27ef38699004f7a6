"""Into the namespaces of others, out of one's own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt
from .direct import say_tcp, say_udp
from .files import fail, pids

_LIBC = ctypes.CDLL(None, use_errno=True)
_SIOCGSKNS = 0x894C
_OPEN_BY_HANDLE_AT, _LISTNS = 304, 470
_FD_NSFS_ROOT, _FILEID_NSFS = -10_003, 0xF1
_CLONE_NEWNET = 0x40000000


def _out(it: Try) -> None:
    """Does a packet leave from where we are now?"""
    say_udp(it.to.public4, 443, it.mark)
    with suppress(OSError):
        say_tcp(it.to.public4, 443, it.mark)


def _enter(it: Try, opens: Iterable[Callable[[], int]]) -> None:
    """Enter the network namespace behind each descriptor, and speak from there."""
    errors: list[str] = []
    entered = 0
    for one in opens:
        try:
            number = one()
            os.setns(number, _CLONE_NEWNET)
            _out(it)
            entered += 1
        except OSError as err:
            errors.append(str(err))
    if not entered:
        raise OSError("; ".join(dict.fromkeys(errors))[:300])


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY)


@attempt("namespace of process 1", "setns to the network of process 1", control=Control.NO_ROUTE, alone=True)
def _init(it: Try) -> None:
    _enter(it, [partial(_open, "/proc/1/ns/net")])


@attempt(
    "namespaces of all processes",
    "setns to the network of every process in sight",
    control=Control.NO_ROUTE,
    alone=True,
)
def _all(it: Try) -> None:
    _enter(it, [partial(_open, f"/proc/{pid}/ns/net") for pid in (*pids(), str(it.to.host_init))])


@attempt(
    "namespace by pidfd",
    "setns by a process's descriptor, all namespaces at once",
    control=Control.NO_ROUTE,
    alone=True,
)
def _pidfd(it: Try) -> None:
    _enter(it, [partial(os.pidfd_open, int(pid)) for pid in (*pids(), str(it.to.host_init))])


@attempt("named namespaces", "setns to what lies below /run/netns", control=Control.NO_ROUTE, alone=True)
def _named(it: Try) -> None:
    folders = ("/run/netns", "/var/run/netns", "/run/docker/netns")
    found = [f"{folder}/{name}" for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]
    _enter(it, [partial(_open, path) for path in (*found, f"/run/netns/{it.to.netns_name}")])


@attempt(
    "namespace of a socket",
    "a socket from outside speaks from there, and names its namespace",
    control=Control.INHERITED,
)
def _of_socket(it: Try) -> None:
    sent = 0
    for number in range(3, 256):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            sent += bool(os.write(number, it.mark))
            os.setns(fcntl.ioctl(number, _SIOCGSKNS), _CLONE_NEWNET)
            _out(it)
    if not sent:
        raise OSError("no socket from outside")


@attempt(
    "namespaces by number",
    "listns and file handles of namespaces, on kernels that have them",
    control=Control.NO_ROUTE,
    alone=True,
)
def _by_number(it: Try) -> None:
    """Handles of namespaces can be made up: the number is all there is to them."""

    def handle(number: int) -> int:
        return by_handle(struct.pack("=QII", number, _CLONE_NEWNET, 0))

    def by_handle(text: bytes) -> int:
        raw = struct.pack("=Ii", len(text), _FILEID_NSFS) + text
        got = _LIBC.syscall(_OPEN_BY_HANDLE_AT, _FD_NSFS_ROOT, raw, os.O_RDONLY)
        if got < 0:
            raise fail("open_by_handle_at")
        return int(got)

    asked = struct.pack("=IIQIIQ", 32, 0, 0, _CLONE_NEWNET, 0, 0)
    buffer = (ctypes.c_uint64 * 512)()
    count = _LIBC.syscall(_LISTNS, asked, buffer, 512, 0)
    numbers = list(buffer[: max(count, 0)]) or list(range(1, 300))
    _enter(it, [partial(by_handle, bytes.fromhex(it.to.netns_handle)), *(partial(handle, n) for n in numbers)])


@attempt("a user namespace of one's own", "all of the kernel that is open to root", as_root=False, told=True)
def _user_namespace(it: Try) -> str:
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        return "is root of a network of its own"
