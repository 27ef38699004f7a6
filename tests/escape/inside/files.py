"""Files outside: the gateway's state and keys, what is run by others, what is shared."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt

_LIBC = ctypes.CDLL(None, use_errno=True)
_OPEN_BY_HANDLE_AT = 304
_MS_BIND, _MNT_DETACH = 4096, 2


def fail(what: str) -> OSError:
    """The error of the last call into libc."""
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def read(path: str | int) -> str:
    """The beginning of a file."""
    with open(path, "rb") as file:
        return file.read(4096).decode(errors="replace")


def gather(readings: Iterable[Callable[[], str]]) -> str:
    """What could be read, joined; an error when it was nothing."""
    texts: list[str] = []
    errors: list[str] = []
    for one in readings:
        try:
            texts.append(one())
        except OSError as err:
            errors.append(str(err))
    if not any(texts):
        raise OSError("; ".join(dict.fromkeys(errors))[:300] or "nothing there")
    return " ".join(texts)[-4000:]


def pids() -> list[str]:
    """Every process in sight."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


@attempt("state, by path", "the gateway's state directory", control=Control.ROOT)
def _by_path(it: Try) -> str:
    return read(it.to.state_secret)


@attempt("state, by a walk", "any file with a secret below the folders that could hold it", control=Control.ROOT)
def _by_walk(it: Try) -> str:
    found: list[Callable[[], str]] = []
    for folder, _, names in os.walk(it.to.state_dir):
        found += [partial(read, os.path.join(folder, name)) for name in names if "secret" in name]
    return gather(found)


@attempt("state, through processes", "by way of the root and working folder of each process", control=Control.ROOT)
def _by_root(it: Try) -> str:
    secret = it.to.state_secret
    return gather(
        partial(read, f"/proc/{pid}/{way}{secret}")
        for pid in (*pids(), str(it.to.host_init))
        for way in ("root", "cwd")
    )


@attempt("state, through descriptors", "what other processes have open", control=Control.ROOT)
def _by_fd(it: Try) -> str:
    def look(pid: str) -> str:
        texts = []
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            with suppress(OSError):
                if "secret" in os.readlink(path):
                    texts.append(read(path))
        return " ".join(texts)

    return gather(partial(look, pid) for pid in pids())


@attempt(
    "state, by file handle", "open_by_handle_at asks the file system, whatever is mounted over it", control=Control.ROOT
)
def _by_handle(it: Try) -> str:
    raw = bytes.fromhex(it.to.state_handle)
    handle = len(raw).to_bytes(4, "little") + it.to.state_handle_type.to_bytes(4, "little", signed=True) + raw

    def one(mount: str) -> str:
        at = os.open(mount, os.O_RDONLY)
        number = _LIBC.syscall(_OPEN_BY_HANDLE_AT, at, handle, os.O_RDONLY)
        if number < 0:
            raise fail("open_by_handle_at")
        return read(number)

    with open("/proc/self/mounts") as table:
        mounts = [line.split()[1] for line in table]
    return gather(partial(one, mount) for mount in dict.fromkeys([*mounts, "/", os.getcwd(), "/tmp"]))


@attempt("state, by hard link", "a second name for it in a folder of ours", control=Control.ROOT)
def _by_link(it: Try) -> str:
    name = os.path.join(os.path.dirname(it.to.state_dir), f"link-{it.nonce}")
    os.link(it.to.state_secret, name)
    try:
        return read(name)
    finally:
        os.unlink(name)


@attempt("state, below its mask", "unmounts what lies over it", control=Control.MASKED, alone=True)
def _unmask(it: Try) -> str:
    def one(path: str) -> str:
        if _LIBC.umount2(path.encode(), _MNT_DETACH):
            raise fail("umount")
        return read(it.to.state_secret)

    return gather(partial(one, path) for path in (it.to.state_dir, "/tmp", "/run", os.path.dirname(it.to.state_dir)))


@attempt("state, beside its mask", "a bind of the root, without what is mounted upon it", control=Control.MASKED)
def _beside(it: Try) -> str:
    def one(source: str) -> str:
        at = f"/tmp/beside-{it.nonce}"
        os.makedirs(at, exist_ok=True)
        if _LIBC.mount(source.encode(), at.encode(), None, ctypes.c_ulong(_MS_BIND), None):
            raise fail("mount")
        below = it.to.state_secret.removeprefix(source) if source != "/" else it.to.state_secret
        return read(at + below)

    return gather(partial(one, source) for source in ("/", "/tmp", os.path.dirname(it.to.state_dir)))


@attempt("processes, by a fresh /proc", "mounts /proc again, where other processes' secrets are", control=Control.ROOT)
def _fresh_proc(it: Try) -> str:
    at = f"/tmp/proc-{it.nonce}"
    os.makedirs(at, exist_ok=True)
    if _LIBC.mount(b"proc", at.encode(), b"proc", ctypes.c_ulong(0), None):
        raise fail("mount")
    try:
        own = [pid for pid in os.listdir(at) if pid.isdigit()]
        return gather(partial(read, f"{at}/{pid}/environ") for pid in own)
    finally:
        _LIBC.umount2(at.encode(), _MNT_DETACH)


@attempt("gateway's code", "a line of ours in a file that the gateway runs", control=Control.ROOT)
def _code(it: Try) -> None:
    with open(it.to.code_file, "a") as file:
        file.write(f"# {it.nonce}\n")


@attempt("run by others", "files that the machine runs or loads: cron, profile, preload, units", control=Control.ROOT)
def _run_by_others(it: Try) -> None:
    written = 0
    for path in (
        f"/etc/cron.d/z{it.nonce}",
        f"/var/spool/cron/crontabs/z{it.nonce}",
        f"/etc/profile.d/z{it.nonce}.sh",
        f"/etc/systemd/system/z{it.nonce}.service",
        f"/root/.z{it.nonce}",
    ):
        with suppress(OSError), open(path, "w") as file:
            file.write(f"# {it.nonce}\n")
            written += 1
    if not written:
        raise OSError("none could be written")


@attempt("shared memory files", "/dev/shm of the machine")
def _dev_shm(it: Try) -> str:
    names = [name for name in os.listdir("/dev/shm") if "escape" in name]
    return gather(partial(read, f"/dev/shm/{name}") for name in names)


@attempt("inherited descriptors", "what was left open by whoever started the job", control=Control.INHERITED)
def _inherited(it: Try) -> str:
    """Writes to each, reads each, and opens the secret from each that is a folder."""
    texts: list[str] = []
    for number in range(3, 256):
        with suppress(OSError):
            os.write(number, it.mark)
        with suppress(OSError):
            folder = os.open(it.to.state_secret.removeprefix(it.to.state_dir).lstrip("/"), os.O_RDONLY, dir_fd=number)
            texts.append(read(folder))
        with suppress(OSError):
            os.fchdir(number)
            texts.append(read(os.path.basename(it.to.state_secret)))
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:
            sock.send(it.mark, socket.MSG_DONTWAIT)
    return " ".join(texts)
