"""What a job sees of the file system. Mounts, in a mount namespace of its own that nobody in the job may change.

The host's tree with: fresh /proc and /sys, a /dev of harmless nodes, an empty /run, own files for the resolver, and
nothing behind the paths that are masked.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ..tokens.errors import ClawproxyError
from . import kernel
from .distant import cover_automounters
from .plan import RUN_DIR, CagePlan, hosts_file, own_nsswitch, resolv_conf
from .room import give_room, make_room
from .still import hold_still

_NO_POWER = kernel.MS_NOSUID | kernel.MS_NODEV
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_EMPTY = f"{RUN_DIR}/.empty"
_MAX_MASKED = 4096


def build_view(plan: CagePlan, host_sockets: Iterable[str]) -> list[str]:
    """Called in a new mount namespace, by its first process, with the power to mount. Returns the directories in which
    sockets could still be made for the job to find (``still``). Raises ``ClawproxyError``."""
    try:
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        kept = _hold(plan)
        _run_directory(plan)
        bare = hold_still()
        cover_automounters()
        if plan.private_tmp:
            for path in ("/tmp", "/var/tmp"):
                if os.path.isdir(path):
                    give_room(path, 0o1777)
        for path, fd in kept:
            _bind_again(path, fd)
            cover_automounters(path)
        for _, fd in kept:
            os.close(fd)
        _freeze([path for path, _ in kept], plan.frozen)
        _hold_in_place([path for path, _ in kept], (*plan.masked, *plan.frozen))
        masked = [*plan.masked, *host_sockets]
        if len(masked) > _MAX_MASKED:
            raise ClawproxyError("ISOLATION_UNAVAILABLE", "too many sockets to hide", got=len(masked))
        for path in masked:
            mask(path)
        _own_files(plan)
        _devices()
        kernel.mount("proc", "/proc", "proc", _NO_POWER | kernel.MS_NOEXEC)
        _sysfs()
        return bare
    except OSError as err:
        raise ClawproxyError(
            "ISOLATION_UNAVAILABLE",
            f"the job's file system could not be made: {(err.strerror or type(err).__name__).lower()}",
            where=str(err.filename or ""),
        ) from None


def mask(path: str) -> None:
    """Put nothing in the place of ``path``, if there is anything. Links are followed: what they lead to is masked."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    real = os.path.realpath(path)
    if stat.S_ISDIR(mode):
        kernel.mount("tmpfs", real, "tmpfs", _NO_POWER | kernel.MS_NOEXEC | kernel.MS_RDONLY, "mode=000,size=4k")
    else:
        kernel.mount(_EMPTY, real, flags=kernel.MS_BIND)
        _read_only(real)


def _hold(plan: CagePlan) -> list[tuple[str, int]]:
    """Handles of what the job shares with the host: its folder, its user's home, and what is named."""
    home = () if plan.user.dynamic else (plan.user.home,)
    held = []
    for path in dict.fromkeys(map(os.path.realpath, (*home, plan.cwd, *plan.visible))):
        if path != "/" and os.path.exists(path):
            held.append((path, os.open(path, os.O_PATH | os.O_CLOEXEC)))
    return held


def _bind_again(path: str, fd: int) -> None:
    is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
    if not os.path.exists(path):  # it lay in what is empty now
        os.makedirs(path if is_folder else os.path.dirname(path), mode=0o755, exist_ok=True)
        if not is_folder:
            Path(path).touch()
    kernel.mount(f"/proc/self/fd/{fd}", path, flags=kernel.MS_BIND | (kernel.MS_REC if is_folder else 0))


def _freeze(shared: list[str], paths: Iterable[str]) -> None:
    """Make ``paths`` read-only where they lie in what is ``shared``; elsewhere they are. A directory that is shared
    itself, or that one of the shared lies in, is left: the job works there."""
    for path in paths:
        place = Path(path)
        inside = any(place.is_relative_to(each) and path != each for each in shared)
        if inside and place.is_dir() and not any(Path(each).is_relative_to(place) for each in shared):
            kernel.mount(path, path, flags=kernel.MS_BIND | kernel.MS_REC)
            _read_only(path)


def _hold_in_place(shared: list[str], hidden: Iterable[str]) -> None:
    """Make mount points of the directories, in what is ``shared``, on the way to what is ``hidden``.

    A mount point cannot be renamed. A job that moves the state directory's parent away, mask and all, and puts another
    in its place would be asked for its own evidence.
    """
    ways = {parent for path in hidden for parent in Path(os.path.realpath(path)).parents}
    between = {str(parent) for parent in ways if any(map(parent.is_relative_to, shared)) and parent.is_dir()}
    for path in sorted(between - set(shared), key=len):
        kernel.mount(path, path, flags=kernel.MS_BIND | kernel.MS_REC)


def _run_directory(plan: CagePlan) -> None:
    places = ["/run"]
    if os.path.isdir("/var/run") and not os.path.islink("/var/run"):
        places.append("/var/run")
    for place in places:
        _tmpfs(place, "mode=755,size=64m,nr_inodes=100000")
    for path, mode in ((RUN_DIR, 0o755), ("/run/lock", 0o1777)):
        os.mkdir(path)
        os.chmod(path, mode)
    make_room()
    os.close(os.open(_EMPTY, os.O_CREAT | os.O_WRONLY, 0o444))
    os.chmod(_EMPTY, 0)
    for name, text in plan.files:
        _write(f"{RUN_DIR}/{name}", text)
    user = plan.user
    os.mkdir("/run/user", 0o755)
    for path in (f"/run/user/{user.uid}", *((user.home,) if user.dynamic else ())):
        os.makedirs(path, 0o700)
        if not plan.rootless:
            os.chown(path, user.uid, user.gid)
    if user.dynamic:
        give_room(user.home, 0o700, (user.uid, user.gid))


def _own_files(plan: CagePlan) -> None:
    _replace("/etc/resolv.conf", resolv_conf(), needed=True)
    _replace("/etc/hosts", hosts_file(os.uname().nodename), needed=True)
    with contextlib.suppress(FileNotFoundError):
        _replace("/etc/nsswitch.conf", own_nsswitch(Path("/etc/nsswitch.conf").read_text()))
    user = plan.user
    if user.dynamic:
        line = f"{user.name}:x:{user.uid}:{user.gid}:job of clawproxy:{user.home}:/bin/sh\n"
        _replace("/etc/passwd", Path("/etc/passwd").read_text() + line)
        _replace("/etc/group", Path("/etc/group").read_text() + f"{user.name}:x:{user.gid}:\n")


def _replace(path: str, text: str, *, needed: bool = False) -> None:
    """Have ``path`` hold ``text``. Where it is a link into what is masked, its target is made there."""
    real = os.path.realpath(path)
    if not os.path.exists(real):
        if not needed:
            return
        if not real.startswith("/run/"):
            raise ClawproxyError(
                "ISOLATION_UNAVAILABLE", "the host lacks a file that the job needs its own of", where=path,
                remedy=f"make it, empty: touch {path}",
            )  # fmt: skip
        os.makedirs(os.path.dirname(real), exist_ok=True)
        _write(real, text)
        return
    own = f"{RUN_DIR}/.{os.path.basename(path)}"
    _write(own, text)
    kernel.mount(own, real, flags=kernel.MS_BIND)
    _read_only(real)


def _devices() -> None:
    held = [(name, os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC)) for name in _NODES]
    # not nodev: the nodes are bound from the host's /dev, and nobody in the job may make others
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
    for name, fd in held:
        Path(f"/dev/{name}").touch()
        kernel.mount(f"/proc/self/fd/{fd}", f"/dev/{name}", flags=kernel.MS_BIND)
        os.close(fd)
    for name, mode in (("pts", 0o755), ("shm", 0o1777)):
        os.mkdir(f"/dev/{name}", mode)
    kernel.mount("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666")
    give_room("/dev/shm", 0o1777)
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(target, f"/dev/{name}")


def _sysfs() -> None:
    """The network's part of /sys is that of this namespace; where the kernel does not allow it, there is no /sys."""
    flags = _NO_POWER | kernel.MS_NOEXEC | kernel.MS_RDONLY
    try:
        kernel.mount("sysfs", "/sys", "sysfs", flags)
    except PermissionError:
        kernel.mount("tmpfs", "/sys", "tmpfs", flags, "mode=555,size=4k")


def _tmpfs(path: str, options: str) -> None:
    kernel.mount("tmpfs", path, "tmpfs", _NO_POWER, options)


def _read_only(path: str) -> None:
    # in a user namespace the flags that the mount has already must stay
    kept = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
    kernel.mount("none", path, flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kept)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chmod(path, 0o644)
