"""The calls of Linux that Python has no name for. Each raises ``OSError`` as its namesake in ``os`` would."""

from __future__ import annotations

import ctypes
import os
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2

# each of NOROOT, NO_SETUID_FIXUP, KEEP_CAPS and NO_CAP_AMBIENT_RAISE with its lock; KEEP_CAPS itself stays off
SECUREBITS_LOCKED = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80

CAP_KILL = 5

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000, 0x40000,
)  # fmt: skip

MNT_DETACH = 2

_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapWord(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter)))


def prctl(option: int, one: Any = 0, two: Any = 0) -> int:
    result = int(_libc.prctl(option, ctypes.c_ulong(one), ctypes.c_ulong(two), 0, 0))
    if result < 0:
        raise _error("prctl")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    done = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    if done < 0:
        raise _error(target)


def unmount(target: str, flags: int = 0) -> None:
    if _libc.umount2(os.fsencode(target), flags) < 0:
        raise _error(target)


def set_capabilities(effective: int, permitted: int, inheritable: int = 0) -> None:
    """The calling thread's sets, as bit masks."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    words = (_CapWord * 2)()
    for half, word in enumerate(words):
        shift = 32 * half
        word.effective, word.permitted, word.inheritable = (
            mask >> shift & 0xFFFFFFFF for mask in (effective, permitted, inheritable)
        )
    if _libc.capset(ctypes.byref(header), words) < 0:
        raise _error("capset")


def every_capability() -> int:
    """The mask of all capabilities that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int((1 << (int(file.read()) + 1)) - 1)


def install_filter(program: list[tuple[int, int, int, int]]) -> None:
    """A seccomp filter (instructions of classic BPF) for this process and all that come from it."""
    filters = (_Filter * len(program))(*(_Filter(*line) for line in program))
    whole = _Program(len(program), filters)
    if _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0) < 0:
        raise _error("seccomp")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process ``signal_number`` when its parent ends."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
