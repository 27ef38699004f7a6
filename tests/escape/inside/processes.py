"""Other people's processes: their memory, environment, descriptors, terminals, keys."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt
from .files import fail, gather, pids, read

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.shmat.restype = ctypes.c_void_p
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17
_PIDFD_GETFD, _KEYCTL = 438, 250
_KEYCTL_SEARCH, _KEYCTL_READ, _USER_KEYRINGS = 10, 11, (-1, -2, -3, -4, -5)
_TIOCSTI = 0x5412
_MARKER = b"SECRET-"


def _others(it: Try) -> list[int]:
    """Processes that are not ours: what is in sight, and the number that we were told."""
    own: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in own:
        own.add(pid)
        with suppress(OSError):
            pid = int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[1])
    victims = [int(pid) for pid in pids() if _is_victim(pid)]
    return [pid for pid in dict.fromkeys([it.to.victim_pid, *victims]) if pid not in own]


def _is_victim(pid: str) -> bool:
    with suppress(OSError):
        return "victim" in read(f"/proc/{pid}/cmdline")
    return False


@attempt("environment of others", "/proc/PID/environ")
def _environ(it: Try) -> str:
    return gather(partial(read, f"/proc/{pid}/environ") for pid in _others(it))


def _secret_places(pid: int) -> Iterator[tuple[int, int]]:
    with open(f"/proc/{pid}/maps") as file:
        lines = file.readlines()
    for line in lines:
        row = line.split()
        if "[heap]" in line or (len(row) == 5 and row[1].startswith("rw")):
            start, end = (int(part, 16) for part in row[0].split("-"))
            yield start, min(end - start, 4 << 20)


def _find(text: bytes) -> str:
    at = text.find(_MARKER)
    return text[at : at + 64].decode(errors="replace") if at >= 0 else ""


@attempt("memory of others", "/proc/PID/mem")
def _mem(it: Try) -> str:
    def one(pid: int) -> str:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for start, length in _secret_places(pid):
                memory.seek(start)
                if found := _find(memory.read(length)):
                    return found
        return ""

    return gather(partial(one, pid) for pid in _others(it))


@attempt("memory of others, by a call", "process_vm_readv")
def _readv(it: Try) -> str:
    def one(pid: int) -> str:
        for start, length in _secret_places(pid):
            buffer = ctypes.create_string_buffer(length)
            local = struct.pack("PN", ctypes.addressof(buffer), length)
            if _LIBC.process_vm_readv(pid, local, 1, struct.pack("PN", start, length), 1, 0) < 0:
                raise fail("process_vm_readv")
            if found := _find(buffer.raw):
                return found
        return ""

    return gather(partial(one, pid) for pid in _others(it))


@attempt("ptrace", "takes hold of a process outside", told=True)
def _ptrace(it: Try) -> str:
    for pid in _others(it):
        if _LIBC.ptrace(_PTRACE_ATTACH, pid, None, None) == 0:
            os.waitpid(pid, 0x40000000)  # __WALL
            _LIBC.ptrace(_PTRACE_DETACH, pid, None, None)
            return f"held {pid}"
    raise fail("ptrace")


@attempt("signal", "a signal to a process outside, which writes it down")
def _signal(it: Try) -> None:
    """The count of signals is the data: one for each bit would carry anything. A burst stands for the nonce."""
    sent = 0
    for pid in _others(it):
        with suppress(OSError):
            _LIBC.sigqueue(pid, signal.SIGUSR1, ctypes.c_void_p(int(it.nonce[:7], 16)))
            os.kill(pid, 0)
            sent += 1
    if not sent:
        raise OSError("no process outside")


@attempt("descriptors of others", "pidfd_getfd takes a socket of a process outside")
def _getfd(it: Try) -> None:
    taken = 0
    for pid in _others(it):
        handle = os.pidfd_open(pid)
        for number in range(3, 20):
            got = _LIBC.syscall(_PIDFD_GETFD, handle, number, 0)
            if got >= 0:
                taken += 1
                with suppress(OSError), socket.socket(fileno=got) as sock:
                    sock.send(it.mark)
    if not taken:
        raise fail("pidfd_getfd")


@attempt("descriptors of others, by /proc", "writes into what a process outside has open")
def _proc_fd(it: Try) -> None:
    written = 0
    for pid in _others(it):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError), open(f"/proc/{pid}/fd/{number}", "ab", 0) as file:
                file.write(it.mark)
                written += 1
    if not written:
        raise OSError("nothing could be written")


@attempt("shared memory", "a System V segment of the machine's")
def _shm(it: Try) -> str:
    number = _LIBC.shmget(it.to.shm_key, 0, 0)
    if number < 0:
        raise fail("shmget")
    at = _LIBC.shmat(number, None, 0o10000)
    if at in (None, ctypes.c_void_p(-1).value):
        raise fail("shmat")
    return ctypes.string_at(at, 64).decode(errors="replace")


@attempt("message queue", "a POSIX queue of the machine's")
def _queue(it: Try) -> None:
    number = _LIBC.mq_open(it.to.queue.encode(), os.O_WRONLY)
    if number < 0:
        raise fail("mq_open")
    if _LIBC.mq_send(number, it.mark, len(it.mark), 1) < 0:
        raise fail("mq_send")


@attempt("keyring", "the kernel's keyrings of the same user, outside")
def _keyring(it: Try) -> str:
    for ring in _USER_KEYRINGS:
        key = _LIBC.syscall(_KEYCTL, _KEYCTL_SEARCH, ring, b"user", it.to.keyring.encode(), 0)
        if key > 0:
            buffer = ctypes.create_string_buffer(256)
            if _LIBC.syscall(_KEYCTL, _KEYCTL_READ, key, buffer, 256) > 0:
                return buffer.value.decode(errors="replace")
    with suppress(OSError):
        for line in read("/proc/keys").splitlines():
            if it.to.keyring in line:
                buffer = ctypes.create_string_buffer(256)
                if _LIBC.syscall(_KEYCTL, _KEYCTL_READ, int(line.split()[0], 16), buffer, 256) > 0:
                    return buffer.value.decode(errors="replace")
    raise fail("keyctl")


@attempt(
    "terminal input",
    "TIOCSTI types into the terminal of whoever started the job",
    control=Control.TERMINAL,
    as_root=False,
)
def _typed(it: Try) -> None:
    with open("/dev/tty", "rb+", 0) as terminal:
        for byte in it.mark + b"\n":
            fcntl.ioctl(terminal, _TIOCSTI, bytes([byte]))
    time.sleep(0.1)


@attempt("other terminals", "writes on terminals of others", control=Control.ROOT, as_root=False)
def _terminals(it: Try) -> None:
    written = 0
    for path in [f"/dev/pts/{name}" for name in os.listdir("/dev/pts") if name.isdigit()]:
        with suppress(OSError):
            number = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            os.write(number, it.mark)
            written += 1
    if not written:
        raise OSError("no terminal could be written")
