"""Leak probes: what an agent would try, tried from inside before it starts, as the job's user.

Each has a stable name and one of three outcomes. ``blocked`` is said where the refusal was seen: a datagram must be
answered by the door's rejection, a question to a foreign resolver by the door itself. What cannot be seen to be blocked
counts as ``reached``; ``not tried`` is what does not apply to this host. All together take less than two seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..policies import door_plan
from .host import HostFacts, namespaces_here
from .namespaces import has_v6
from .plan import LINK_OF_JOB, CagePlan

BLOCKED, REACHED, NOT_TRIED = "blocked", "reached", "not tried"
DOOR_ANSWER = b"clawproxy door"
"""What the warden answers by the door's sockets while it is probed."""

_DEADLINE_S = 0.8
_ONE_S = 0.3
_HOST_PORTS = (22, 443, 8080, 8081)
_V4, _V6 = socket.AF_INET, socket.AF_INET6
_RTM_NEWLINK, _NLM_REQUEST_ACK = 16, 0x5
_PTRACE_SEIZE = 0x4206  # unlike an attach it does not stop who is traced
_DEVICES = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr"}
_ALLOWED_FAMILIES = {socket.AF_UNIX, _V4, _V6, socket.AF_NETLINK}
_FAMILIES = 46

_PUBLIC: dict[int, str] = {_V4: "1.1.1.1", _V6: "2606:4700:4700::1111"}
_PLACES: dict[str, dict[int, tuple[tuple[str, int], ...]]] = {
    "public": {_V4: (("1.1.1.1", 443), ("8.8.8.8", 853)), _V6: (("2606:4700:4700::1111", 443),)},
    "private": {
        _V4: (("10.0.0.1", 80), ("172.16.0.1", 80), ("172.17.0.1", 2375), ("192.168.0.1", 80), ("100.64.0.1", 80)),
        _V6: (("fd00::1", 80),),
    },
    "link-local": {_V4: (("169.254.1.1", 80),), _V6: (("fe80::1", 80),)},
    "metadata": {_V4: (("169.254.169.254", 80), ("169.254.170.2", 80)), _V6: (("fd00:ec2::254", 80),)},
    "door": {
        _V4: tuple((str(door_plan.DOOR_V4), port) for port in (22, 80, 443, door_plan.TCP_PORT, door_plan.DNS_PORT)),
        _V6: tuple((str(door_plan.DOOR_V6), port) for port in (22, 80, 443, door_plan.TCP_PORT, door_plan.DNS_PORT)),
    },
}


def run_probes(plan: CagePlan, host: HostFacts, own_fd: int) -> list[tuple[str, str, str]]:
    """Every probe as (name, outcome, what was seen). ``own_fd`` is where the answers will go."""
    found = list(_network(host))
    for name, probe in _others(plan, host, own_fd).items():
        try:
            outcome, seen = probe()
        except OSError as err:
            outcome, seen = BLOCKED, _name(err)
        except Exception as err:  # a probe that fails proves nothing
            outcome, seen = REACHED, type(err).__name__
        found.append((name, outcome, seen))
    return found


# -- the network ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Try:
    """One connection or datagram that is under way."""

    name: str
    sock: socket.socket
    target: str
    foreign_dns: bool
    outcome: str = ""
    seen: str = ""

    def end(self, outcome: str, seen: str) -> None:
        self.outcome, self.seen = outcome, f"{self.target} {seen}"
        self.sock.close()


def _network(host: HostFacts) -> Iterable[tuple[str, str, str]]:
    places = {name: dict(families) for name, families in _PLACES.items()}
    places["host"] = {
        family: tuple((a, port) for a in host.addresses if (":" in a) == (family == _V6) for port in _HOST_PORTS)
        for family in (_V4, _V6)
    }
    spoken: dict[int, str] = {_V4: "4", **({_V6: "6"} if has_v6() else {})}
    tries: list[_Try] = []
    names: list[str] = []
    for place, families in places.items():
        for family, targets in families.items():
            if family not in spoken:
                continue
            digit = spoken[family]
            for kind, word in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
                names.append(f"{word}{digit}-{place}")
                tries += [_begin(f"{word}{digit}-{place}", family, kind, address) for address in targets]
    for family, digit in spoken.items():
        for kind, word in ((socket.SOCK_DGRAM, "dns-udp"), (socket.SOCK_STREAM, "dns-tcp")):
            names.append(f"{word}{digit}-foreign")
            tries.append(_begin(f"{word}{digit}-foreign", family, kind, (_PUBLIC[family], 53), foreign_dns=True))
    _wait(tries)
    for name in names:
        mine = [one for one in tries if one.name == name]
        bad = next((one for one in mine if one.outcome != BLOCKED), mine[0] if mine else None)
        yield (name, bad.outcome, bad.seen) if bad else (name, NOT_TRIED, "no such address here")


def _begin(name: str, family: int, kind: int, address: tuple[str, int], *, foreign_dns: bool = False) -> _Try:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    one = _Try(name, sock, f"{address[0]}:{address[1]}", foreign_dns)
    whole: tuple[str, int] | tuple[str, int, int, int] = address
    if address[0].startswith("fe80:"):
        with contextlib.suppress(OSError):
            whole = (*address, 0, socket.if_nametoindex(LINK_OF_JOB))
    try:
        done = sock.connect_ex(whole)
        if done not in (0, errno.EINPROGRESS):
            one.end(BLOCKED, errno.errorcode.get(done, str(done)))
        elif kind == socket.SOCK_DGRAM:
            sock.send(b"clawproxy probe")
    except OSError as err:
        one.end(BLOCKED, _name(err))
    return one


def _wait(tries: list[_Try]) -> None:
    """Until each has an outcome, or the time is over."""
    poll = select.poll()
    open_ones = {one.sock.fileno(): one for one in tries if not one.outcome}
    for fd, one in open_ones.items():
        poll.register(fd, select.POLLIN if one.sock.type == socket.SOCK_DGRAM else select.POLLOUT)
    end = time.monotonic() + _DEADLINE_S
    while open_ones and (left := end - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            one = open_ones[fd]
            if not _settled(one):
                poll.modify(fd, select.POLLIN)
                continue
            poll.unregister(fd)
            del open_ones[fd]
    for one in open_ones.values():
        one.end(REACHED, "no refusal was seen")


def _settled(one: _Try) -> bool:
    """Judge what has come; false where the door's own words are still to come."""
    failed = one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        one.end(BLOCKED, errno.errorcode.get(failed, str(failed)))
        return True
    if one.sock.type == socket.SOCK_STREAM and not one.foreign_dns:
        one.end(REACHED, "connected")
        return True
    try:
        answer = one.sock.recv(512)
    except BlockingIOError:
        return False
    except OSError as err:
        one.end(BLOCKED, _name(err))
        return True
    if one.foreign_dns and answer.startswith(DOOR_ANSWER):
        one.end(BLOCKED, "the door answered")
    else:
        one.end(REACHED, "answered")
    return True


# -- the rest ------------------------------------------------------------------------------------------------------


def _others(plan: CagePlan, host: HostFacts, own_fd: int) -> dict[str, Callable[[], tuple[str, str]]]:
    return {
        "names": _names,
        "interfaces": _interfaces,
        "loopback-host-ports": lambda: _loopback(host),
        "socket-families": _families,
        "raw4": lambda: _may_not(lambda: socket.socket(_V4, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
        "raw6": lambda: _may_not(lambda: socket.socket(_V6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)),
        "icmp4": lambda: _may_not(lambda: socket.socket(_V4, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)),
        "icmp6": lambda: _may_not(lambda: socket.socket(_V6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)),
        "packet": lambda: _may_not(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
        "netlink-change": _netlink,
        "namespaces": lambda: _namespaces(host),
        "host-process": lambda: _may_not(lambda: os.kill(host.process, 0)),
        "init-memory": lambda: _may_not(lambda: open("/proc/1/mem", "rb")),
        "init-trace": _trace,
        "masked-paths": lambda: _masked(plan.masked),
        "admin-socket": lambda: _unix([(plan.admin_socket, socket.SOCK_STREAM)] if plan.admin_socket else []),
        "unix-sockets": lambda: _unix(host.sockets.paths),
        "abstract-sockets": lambda: _unix([("\0" + name, kind) for name, kind in host.sockets.abstract]),
        "devices": _devices,
        "capabilities": _capabilities,
        "no-new-privileges": lambda: _status("NoNewPrivs", "1"),
        "system-call-filter": lambda: _status("Seccomp", "2"),
        "user": lambda: _user(plan),
        "groups": lambda: (NOT_TRIED, "a user cannot leave its groups") if plan.rootless else _groups(plan),
        "descriptors": lambda: _descriptors(own_fd),
        # last: what it makes, if it may, is what the others would then look at
        "user-namespace": lambda: (NOT_TRIED, "allowed") if plan.nested else _user_namespace(),
    }


def _may_not(attempt: Callable[[], object]) -> tuple[str, str]:
    attempt()
    return REACHED, "allowed"


def _names() -> tuple[str, str]:
    """A connection to a name's address comes out at the door, or nowhere."""
    for family, address in ((_V4, str(door_plan.LAST_NAME_V4)), (_V6, str(door_plan.NAMES_V6[-1]))):
        if family == _V6 and not has_v6():
            continue
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ONE_S)
            sock.connect((address, 443))
            if sock.recv(512) != DOOR_ANSWER:
                return REACHED, f"{address} was answered by something else"
    return BLOCKED, "the door answered"


def _interfaces() -> tuple[str, str]:
    found = {name for _, name in socket.if_nameindex()}
    # the kernel makes tunnels of its own (sit0, tunl0…) in every namespace; they are down
    others = {name for name in found - {"lo", LINK_OF_JOB} if _is_up(name)}
    return (REACHED, ", ".join(sorted(others))) if others else (BLOCKED, "lo and the link to the door")


def _is_up(name: str) -> bool:
    import fcntl

    with socket.socket(_V4, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, 0x8913, struct.pack("16s24x", name.encode()))  # SIOCGIFFLAGS
    return bool(struct.unpack("16xH22x", answer)[0] & 1)


def _loopback(host: HostFacts) -> tuple[str, str]:
    """The gateway's ports, and others that are open on the host's loopback, are not open on the job's."""
    for address, port in host.loopback:
        with socket.socket(_V6 if ":" in address else _V4, socket.SOCK_STREAM) as sock:
            sock.settimeout(0.05)
            if sock.connect_ex((address, port)) == 0:
                return REACHED, f"{address}:{port}"
    return (BLOCKED, "refused") if host.loopback else (NOT_TRIED, "the host has none")


def _families() -> tuple[str, str]:
    for family in range(1, _FAMILIES):
        if family in _ALLOWED_FAMILIES:
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
            with contextlib.suppress(OSError):
                socket.socket(family, kind).close()
                return REACHED, f"family {family}"
    return BLOCKED, "only IP, Unix and netlink"


def _netlink() -> tuple[str, str]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(_DEADLINE_S)
        # changes nothing, but wants the power to
        body = struct.pack("BxHiII", 0, 0, socket.if_nametoindex(LINK_OF_JOB), 0, 0)
        sock.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWLINK, _NLM_REQUEST_ACK, 1, 0) + body)
        answer = sock.recv(4096)
    failed = -struct.unpack_from("i", answer, 16)[0]
    return (BLOCKED, errno.errorcode[failed]) if failed == errno.EPERM else (REACHED, "not refused")


def _namespaces(host: HostFacts) -> tuple[str, str]:
    shared = [name for name, identity in namespaces_here().items() if host.namespaces[name] == identity]
    return (REACHED, ", ".join(shared)) if shared else (BLOCKED, "all its own")


def _trace() -> tuple[str, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_SEIZE, 1, None, None) == 0:
        return REACHED, "attached"
    return BLOCKED, errno.errorcode.get(ctypes.get_errno(), "refused")


def _user_namespace() -> tuple[str, str]:
    os.unshare(os.CLONE_NEWUSER)
    return REACHED, "made"


def _masked(paths: Iterable[str]) -> tuple[str, str]:
    tried = False
    for path in paths:
        tried = True
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(path).st_mode):
                if os.listdir(path):
                    return REACHED, path
            else:
                with open(path, "rb") as file:
                    if file.read(1):
                        return REACHED, path
    return (BLOCKED, "nothing there") if tried else (NOT_TRIED, "nothing to mask")


def _unix(sockets: Iterable[tuple[str, int]]) -> tuple[str, str]:
    tried = False
    for address, kind in sockets:
        tried = True
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.settimeout(0.05)
            with contextlib.suppress(OSError):
                sock.connect(address)
                return REACHED, address.replace("\0", "@")
    return (BLOCKED, "none answers") if tried else (NOT_TRIED, "the host has none")


def _devices() -> tuple[str, str]:
    others = set(os.listdir("/dev")) - _DEVICES
    return (REACHED, ", ".join(sorted(others))) if others else (BLOCKED, "harmless nodes only")


def read_status() -> dict[str, str]:
    """What the kernel says of this process."""
    with open("/proc/self/status", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _capabilities() -> tuple[str, str]:
    status = read_status()
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    return (REACHED, ", ".join(held)) if held else (BLOCKED, "none, and none to be had")


def _status(name: str, wanted: str) -> tuple[str, str]:
    value = read_status().get(name, "").strip()
    return (BLOCKED, "on") if value == wanted else (REACHED, f"{name} {value}")


def _user(plan: CagePlan) -> tuple[str, str]:
    status = read_status()
    wanted = {"Uid": plan.user.uid, "Gid": plan.user.gid}
    for name, number in wanted.items():
        if {int(word) for word in status[name].split()} != {number} or number == 0:
            return REACHED, f"{name} {status[name]}"
    return BLOCKED, f"uid {plan.user.uid}"


def _groups(plan: CagePlan) -> tuple[str, str]:
    others = set(os.getgroups()) - {plan.user.gid}
    return (REACHED, f"groups {sorted(others)}") if others else (BLOCKED, "none besides its own")


def _descriptors(own_fd: int) -> tuple[str, str]:
    """Nothing that the maker of the cage had open is open here, but for standard input and output."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) > 2 and int(name) != own_fd and not target.startswith("/proc/"):
                return REACHED, f"{name}: {target}"
    return BLOCKED, "three"


def _name(err: OSError) -> str:
    return errno.errorcode.get(err.errno or 0, type(err).__name__)
