"""The system calls that a job may not make: what a network namespace does not hold back. Pure: makes BPF instructions.

A network namespace confines IP and nothing else: sockets of virtual machines (vsock) and some older families reach the
host from every namespace, and io_uring opens sockets that no filter sees. So only the families that a program needs are
allowed, io_uring is as if the kernel had none, and so are interfaces to kernel state that is not per namespace. Foreign
architectures (32-bit calls) are refused whole. Sources: seccomp(2), the kernel's syscall tables.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from ..tokens.errors import ClawproxyError

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_NEW_USER = 0x10000000
_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _NETLINK_UEVENT = 0, 4, 15
_NETLINK = (_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _NETLINK_UEVENT)
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)

type Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Table:
    """The numbers of one architecture; ``absent`` are answered with ENOSYS, ``refused`` with EPERM."""

    arch: int
    socket: int
    socketpair: int
    clone: int
    unshare: int
    absent: tuple[int, ...]
    refused: tuple[int, ...]


_IO_URING_AND_CLONE3 = (425, 426, 427, 435)
_TABLES = {
    # refused: add_key request_key keyctl · bpf perf_event_open userfaultfd · open_by_handle_at · kexec_load
    # kexec_file_load · init_module finit_module delete_module · syslog · acct swapon swapoff reboot quotactl ·
    # settimeofday clock_settime adjtimex clock_adjtime · on x86-64 also iopl ioperm vhangup
    "x86_64": _Table(
        0xC000003E, 41, 53, 56, 272, _IO_URING_AND_CLONE3,
        (248, 249, 250, 321, 298, 323, 304, 246, 320, 175, 313, 176, 103, 163, 167, 168, 169, 179, 164, 227, 159, 305,
         172, 173, 153),
    ),
    "aarch64": _Table(
        0xC00000B7, 198, 199, 220, 97, _IO_URING_AND_CLONE3,
        (217, 218, 219, 280, 241, 282, 265, 104, 294, 105, 273, 106, 116, 89, 224, 225, 142, 60, 170, 112, 171, 266),
    ),
}  # fmt: skip


def make_filter(machine: str, *, nested: bool = False, root_inside: bool = False) -> list[Instruction]:
    """The filter for a machine (``os.uname().machine``).

    ``nested`` lets the job make user namespaces, as sandboxes of some programs do. ``root_inside`` also opens packet
    sockets and all of netlink. Raises ``ClawproxyError`` (ISOLATION_UNAVAILABLE) for a machine that is not known.
    """
    table = _TABLES.get(machine)
    if table is None:
        raise ClawproxyError(
            "ISOLATION_UNAVAILABLE", "no system call filter for this machine", got=machine, expected=", ".join(_TABLES)
        )
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCH), *_unless(_EQUAL, table.arch, errno.ENOSYS)]
    program.append((_LOAD, 0, 0, _NUMBER))
    if machine == "x86_64":
        program += _if(_AT_LEAST, _X32, errno.ENOSYS)
    for number in table.absent:
        program += _if(_EQUAL, number, errno.ENOSYS)
    for number in table.refused:
        program += _if(_EQUAL, number, errno.EPERM)
    if not (nested or root_inside):
        for number in (table.clone, table.unshare):
            program += _for(number, [(_LOAD, 0, 0, _ARGUMENTS), *_if(_ANY_BIT, _NEW_USER, errno.EPERM), _return(0)])
    program += _for(
        table.socketpair, [(_LOAD, 0, 0, _ARGUMENTS), *_unless(_EQUAL, socket.AF_UNIX, errno.EAFNOSUPPORT), _return(0)]
    )
    families = (*_FAMILIES, *((socket.AF_PACKET, socket.AF_NETLINK) if root_inside else ()))
    choice: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS)]
    for family in families:
        choice += [(_EQUAL, 0, 1, family), _return(0)]
    choice += _unless(_EQUAL, socket.AF_NETLINK, errno.EAFNOSUPPORT)
    choice.append((_LOAD, 0, 0, _ARGUMENTS + 16))
    for protocol in _NETLINK:
        choice += [(_EQUAL, 0, 1, protocol), _return(0)]
    choice.append(_return(errno.EPERM))
    return [*program, *_for(table.socket, choice), _return(0)]


def _return(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number if number else _ALLOW)


def _if(test: int, value: int, number: int) -> list[Instruction]:
    return [(test, 0, 1, value), _return(number)]


def _unless(test: int, value: int, number: int) -> list[Instruction]:
    return [(test, 1, 0, value), _return(number)]


def _for(number: int, block: list[Instruction]) -> list[Instruction]:
    """``block`` for one system call; it must return."""
    return [(_EQUAL, 0, len(block), number), *block]
