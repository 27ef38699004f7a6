"""What the kernel does for the whole machine. Here success is that it lets us: nothing is changed by trying."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt
from .files import fail

_LIBC = ctypes.CDLL(None, use_errno=True)
_BPF, _PERF, _INIT_MODULE, _KEXEC = 321, 298, 175, 246
_EPERM = 1


def _first(tries: Iterable[Callable[[], str]]) -> str:
    errors: list[str] = []
    for one in tries:
        try:
            return one()
        except OSError as err:
            errors.append(str(err))
    raise OSError("; ".join(dict.fromkeys(errors))[:300])


def _same(path: str) -> str:
    """Write back what stands there already."""
    with open(path, "rb") as file:
        text = file.read()
    with open(path, "wb", 0) as file:
        file.write(text)
    return f"wrote {path}"


@attempt(
    "core_pattern", "a program that the kernel runs outside when something crashes", control=Control.ROOT, told=True
)
def _core(it: Try) -> str:
    return _same("/proc/sys/kernel/core_pattern")


@attempt("modprobe path", "a program that the kernel runs outside to load modules", control=Control.ROOT, told=True)
def _modprobe(it: Try) -> str:
    return _first(partial(_same, f"/proc/sys/kernel/{name}") for name in ("modprobe", "poweroff_cmd", "hotplug"))


@attempt("sysctls of the machine", "settings that are not a namespace's", control=Control.ROOT, told=True)
def _sysctls(it: Try) -> str:
    names = ("kernel/panic", "vm/overcommit_memory", "fs/file-max", "kernel/printk", "fs/protected_hardlinks")
    return _first(partial(_same, f"/proc/sys/{name}") for name in names)


@attempt("sysrq", "/proc/sysrq-trigger opens for writing", control=Control.ROOT, told=True)
def _sysrq(it: Try) -> str:
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "opened"


@attempt(
    "uevent helper",
    "/sys files through which the kernel starts programs or makes devices",
    control=Control.ROOT,
    told=True,
)
def _uevent(it: Try) -> str:
    def opened(path: str) -> str:
        os.close(os.open(path, os.O_WRONLY))
        return f"opened {path}"

    paths = ("/sys/kernel/uevent_helper", "/sys/class/mem/null/uevent", "/sys/module/nf_tables/uevent")
    return _first(partial(opened, path) for path in paths)


@attempt(
    "release_agent", "a program that the kernel runs outside when a cgroup empties", control=Control.ROOT, told=True
)
def _release(it: Try) -> str:
    def in_place() -> str:
        for folder, _, names in os.walk("/sys/fs/cgroup"):
            if "release_agent" in names:
                os.close(os.open(f"{folder}/release_agent", os.O_WRONLY))
                return f"opened {folder}/release_agent"
        raise OSError("none in sight")

    def mounted(kind: bytes) -> str:
        at = f"/tmp/cg-{it.nonce}"
        os.makedirs(at, exist_ok=True)
        if _LIBC.mount(b"cgroup", at.encode(), b"cgroup", ctypes.c_ulong(0), kind):
            raise fail("mount")
        try:
            os.close(os.open(f"{at}/release_agent", os.O_WRONLY))
            return "mounted"
        finally:
            _LIBC.umount2(at.encode(), 2)

    return _first([in_place, *(partial(mounted, kind) for kind in (b"none,name=systemd", b"memory", b"pids", b"rdma"))])


@attempt(
    "cgroup of the machine", "leaves the job's limits for the root of the hierarchy", control=Control.ROOT, told=True
)
def _cgroup(it: Try) -> str:
    def leave(path: str) -> str:
        os.close(os.open(path, os.O_WRONLY))
        return f"opened {path}"

    tops = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory")
    return _first(partial(leave, f"{top}/cgroup.procs") for top in tops)


@attempt("disks", "the machine's disk as bytes", control=Control.ROOT, told=True)
def _disks(it: Try) -> str:
    def look(path: str) -> str:
        at = os.open(path, os.O_RDONLY)
        with suppress(OSError):
            os.pread(at, 16, 0)
        os.close(at)
        return f"opened {path}"

    names = [
        f"/dev/{name}" for name in os.listdir("/dev") if name.startswith(("vd", "sd", "xvd", "nvme", "dm-", "loop"))
    ]
    return _first(partial(look, name) for name in names)


@attempt("devices of one's own", "mknod makes a disk", control=Control.ROOT, told=True)
def _mknod(it: Try) -> str:
    def make(major: int, minor: int) -> str:
        path = f"/tmp/node-{it.nonce}"
        os.mknod(path, 0o60600, os.makedev(major, minor))
        try:
            os.close(os.open(path, os.O_RDONLY))
            return "opened"
        finally:
            os.unlink(path)

    with open("/proc/partitions") as table:
        rows = [line.split() for line in table.readlines()[2:]]
    return _first(partial(make, int(row[0]), int(row[1])) for row in rows)


@attempt(
    "machine devices", "kmsg, kvm, fuse, memory, ports, control of btrfs and loops", control=Control.ROOT, told=True
)
def _devices(it: Try) -> str:
    def look(name: str) -> str:
        os.close(os.open(f"/dev/{name}", os.O_RDWR | os.O_NONBLOCK))
        return f"opened {name}"

    names = ("mem", "kmem", "port", "kmsg", "kvm", "fuse", "loop-control", "btrfs-control", "hwrng", "vhost-net")
    return _first(partial(look, name) for name in names)


@attempt("tun", "a link of one's own by /dev/net/tun", control=Control.ROOT, told=True)
def _tun(it: Try) -> str:
    os.close(os.open("/dev/net/tun", os.O_RDWR))
    return "opened"


@attempt("consoles", "the machine's consoles and terminals", control=Control.ROOT, told=True)
def _consoles(it: Try) -> str:
    def look(name: str) -> str:
        os.close(os.open(f"/dev/{name}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK))
        return f"opened {name}"

    return _first(partial(look, name) for name in ("console", "tty0", "tty1", "ttyS0", "vcs", "vcsa1"))


@attempt("modules", "loads a module", control=Control.ROOT, told=True)
def _modules(it: Try) -> str:
    """Junk instead of a module: whoever may load is told that it is junk."""
    _LIBC.syscall(_INIT_MODULE, b"junk", 4, b"")
    if ctypes.get_errno() in (_EPERM, 38):
        raise fail("init_module")
    return f"the kernel read it: {os.strerror(ctypes.get_errno())}"


@attempt("kexec", "loads another kernel", control=Control.ROOT, told=True)
def _kexec(it: Try) -> str:
    """Flags that do not exist: whoever may load is told so."""
    _LIBC.syscall(_KEXEC, 0, 17, None, 0x8000)
    if ctypes.get_errno() in (_EPERM, 38):
        raise fail("kexec_load")
    return f"the kernel looked at it: {os.strerror(ctypes.get_errno())}"


@attempt("bpf", "a program in the kernel", control=Control.ROOT, told=True)
def _bpf(it: Try) -> str:
    code = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    kept, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    for kind in (1, 3, 5, 8):
        asked = struct.pack("=IIQQIIQII", kind, 2, ctypes.addressof(kept), ctypes.addressof(licence), 0, 0, 0, 0, 0)
        number = _LIBC.syscall(_BPF, 5, asked.ljust(120, b"\0"), 120)
        if number >= 0:
            os.close(number)
            return f"loaded a program of kind {kind}"
    raise fail("bpf")


@attempt("perf events", "samples of every process of the machine", control=Control.ROOT, told=True)
def _perf(it: Try) -> str:
    asked = struct.pack("=IIQ", 1, 128, 0).ljust(128, b"\0")
    number = _LIBC.syscall(_PERF, asked, -1, 0, -1, 0)
    if number < 0:
        raise fail("perf_event_open")
    return "opened"


@attempt("clock", "may the time of the machine be set", control=Control.ROOT, told=True)
def _clock(it: Try) -> str:
    """A leap of nothing: adjtimex with no mode needs no leave, with ADJ_TICK and the present tick it does."""
    timex = ctypes.create_string_buffer(208)
    _LIBC.adjtimex(timex)
    tick = struct.unpack_from("=q", timex, 88)[0]
    struct.pack_into("=I", timex, 0, 0x4000)
    struct.pack_into("=q", timex, 88, tick)
    if _LIBC.adjtimex(timex) < 0:
        raise fail("adjtimex")
    return "set it to what it is"


@attempt("host name", "the machine's name", control=Control.ROOT)
def _hostname(it: Try) -> None:
    socket.sethostname(f"h{it.nonce}")


@attempt("syslog", "the kernel's log", control=Control.ROOT, told=True)
def _syslog(it: Try) -> str:
    if _LIBC.klogctl(3, ctypes.create_string_buffer(4096), 4096) < 0:
        raise fail("klogctl")
    return "read it"


@attempt("vsock", "the hypervisor's sockets belong to no namespace", told=True)
def _vsock(it: Try) -> str:
    """A listener on a port of the machine's own; nothing is sent to the hypervisor."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.bind((socket.VMADDR_CID_ANY, it.to.vsock_port + int(it.nonce[:3], 16)))
        sock.listen()
    return "listened"


def _family(name: str, family: int, kind: int, protocol: int, about: str) -> None:
    def act(it: Try) -> str:
        socket.socket(family, kind, protocol).close()
        return "made a socket"

    attempt(name, about, told=True)(act)


for _name, _number, _kind, _protocol, _about in (
    ("bluetooth", 31, 3, 1, "a radio of the machine"),
    ("af_alg", 38, 5, 0, "the kernel's ciphers"),
    ("can", 29, 3, 1, "a bus of the machine"),
    ("tipc", 30, 5, 0, "a cluster's transport"),
    ("rds", 21, 5, 0, "a cluster's transport"),
    ("nfc", 39, 3, 0, "a radio of the machine"),
    ("qrtr", 42, 2, 0, "a modem of the machine"),
):
    _family(_name, _number, _kind, _protocol, _about)


@attempt("audit", "the machine's audit log by netlink", control=Control.ROOT, told=True)
def _audit(it: Try) -> str:
    """Asks for the audit status; the answer is an error where one may not."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as sock:
        sock.settimeout(0.5)
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHII", 16, 1000, 5, 1, 0))
        answer = sock.recv(4096)
    length, kind = struct.unpack_from("=IH", answer)
    if kind == 2 and struct.unpack_from("=i", answer, 16)[0]:
        raise OSError(-struct.unpack_from("=i", answer, 16)[0], f"audit, {length} bytes")
    return "answered"


@attempt("fanotify", "what everyone opens on a whole file system", control=Control.ROOT, told=True)
def _fanotify(it: Try) -> str:
    number = _LIBC.fanotify_init(0, 0)
    if number < 0:
        raise fail("fanotify_init")
    if _LIBC.fanotify_mark(number, 0x101, ctypes.c_ulonglong(0x20), -100, b"/tmp") < 0:
        raise fail("fanotify_mark")
    os.close(number)
    return "watches a whole file system"
