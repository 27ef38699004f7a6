"""Makes the network of a cage: the door's namespace, the job's, the link between them, the rules, the door's sockets.

Runs in a process of its own with one thread, which it takes into the new namespaces. Uses ``ip`` and ``nft``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ..policies import door_plan
from ..tokens.errors import ClawproxyError
from . import kernel
from .plan import LINK_OF_DOOR, LINK_OF_JOB

_PROGRAM_S = 10
_BACKLOG = 256
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_PACKAGES = {"ip": "iproute2", "nft": "nftables"}
_OWN_NET = "/proc/self/ns/net"
_SIG_KILL = 9
_MAC_OF_DOOR = "02:63:6c:61:77:01"
_MAC_OF_JOB = "02:63:6c:61:77:02"


@dataclass(frozen=True, slots=True)
class Network:
    """Descriptors of the two namespaces, and the door's sockets: TCP, DNS by UDP, DNS by TCP, for each family."""

    door_fd: int
    job_fd: int
    sockets: tuple[socket.socket, ...]


def require_programs() -> None:
    """Raise ``ClawproxyError`` (ISOLATION_UNAVAILABLE) unless ``ip`` and ``nft`` are there."""
    missing = [name for name in _PACKAGES if shutil.which(name, path=_PATH) is None]
    if missing:
        raise ClawproxyError(
            "ISOLATION_UNAVAILABLE",
            f"a program that isolation needs is not there: {', '.join(missing)}",
            remedy=f"install {' and '.join(_PACKAGES[name] for name in missing)}",
        )


def enter_user_namespace(uid: int, gid: int) -> None:
    """Become the owner of a new user namespace in which ``uid`` and ``gid``, the caller's own, are the only ones.

    All capabilities in it are kept over an exec, so that ``ip`` and ``nft`` have them.
    """
    try:
        os.unshare(os.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            _write(f"/proc/self/{name}", text)
    except OSError as err:
        raise ClawproxyError(
            "ISOLATION_UNAVAILABLE",
            f"this user may not make a user namespace: {(err.strerror or '').lower()}",
            remedy="run it with sudo, or allow user namespaces (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        ) from None
    every = kernel.every_capability()
    kernel.set_capabilities(every, every, every)
    for number in range(every.bit_length()):
        kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE, number)


def make_network(rules: str, job_fd: int | None = None) -> Network:
    """The two namespaces, joined, with ``rules`` in force in the door's. The caller is in the door's afterwards.

    ``job_fd`` is a namespace to use for the job; otherwise a new one is made. Raises ``ClawproxyError``.
    """
    try:
        if job_fd is None:
            os.unshare(os.CLONE_NEWNET)
            job_fd = os.open(_OWN_NET, os.O_RDONLY | os.O_CLOEXEC)
        os.unshare(os.CLONE_NEWNET)
        door_fd = os.open(_OWN_NET, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise _unavailable("a network namespace could not be made", err) from None
    # the rules first: no packet of the job is ever in a door without them
    _run(["nft", "-f", "-"], rules)
    v6 = has_v6()
    _door_settings(v6)
    lines = [
        "link set lo up",
        f"link add {LINK_OF_DOOR} address {_MAC_OF_DOOR} type veth "
        f"peer name {LINK_OF_JOB} address {_MAC_OF_JOB} netns /proc/self/fd/{job_fd}",
        *_link_lines(LINK_OF_DOOR, f"{door_plan.DOOR_V4}", f"{door_plan.DOOR_V6}", v6),
        *_neighbour_lines(LINK_OF_DOOR, _MAC_OF_JOB, f"{door_plan.JOB_V4}", f"{door_plan.JOB_V6}", v6),
    ]
    _run(["ip", "-batch", "-"], "\n".join(lines) + "\n", keep=job_fd)
    os.setns(job_fd, os.CLONE_NEWNET)
    if v6:
        _set({"ipv6/conf/all/disable_ipv6": "0"})
    lines = [
        "link set lo up",
        *_link_lines(LINK_OF_JOB, f"{door_plan.JOB_V4}", f"{door_plan.JOB_V6}", v6),
        *_neighbour_lines(LINK_OF_JOB, _MAC_OF_DOOR, f"{door_plan.DOOR_V4}", f"{door_plan.DOOR_V6}", v6),
        f"route add default via {door_plan.DOOR_V4}",
        *([f"route add default via {door_plan.DOOR_V6}"] if v6 else []),
    ]
    _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
    os.setns(door_fd, os.CLONE_NEWNET)
    return Network(door_fd, job_fd, _listen(v6))


def has_v6() -> bool:
    """Whether this kernel speaks IPv6; a setting that turns it off on the host does not count."""
    return os.path.exists("/proc/net/if_inet6")


def _link_lines(link: str, v4: str, v6: str, with_v6: bool) -> list[str]:
    lines = [f"address add {v4}/{door_plan.LINK_V4.prefixlen} dev {link}"]
    if with_v6:
        lines.insert(0, f"link set {link} addrgenmode none")
        lines.append(f"address add {v6}/{door_plan.LINK_V6.prefixlen} dev {link} nodad")
    return [*lines, f"link set {link} up"]


def _neighbour_lines(link: str, mac: str, v4: str, v6: str, with_v6: bool) -> list[str]:
    """Who is at the other end, for good: the table of neighbours is one for all namespaces of a kernel, and where
    another fills it, an entry that has to be found again is not found, and connections stand still."""
    return [f"neigh add {each} lladdr {mac} dev {link} nud permanent" for each in ((v4, v6) if with_v6 else (v4,))]


def _door_settings(v6: bool) -> None:
    """No forwarding, and every refusal said at once: the kernel would hold back all but a few a second.

    A limit of all types together looks only at types that a mask names: none, and for IPv6 one that does not exist.
    """
    _set({"ipv4/ip_forward": "0", "ipv4/icmp_ratemask": "0"})
    if v6:
        _set(
            {
                "ipv6/conf/all/forwarding": "0",
                "ipv6/conf/all/disable_ipv6": "0",
                "ipv6/conf/default/disable_ipv6": "0",
                "ipv6/icmp/ratemask": "200",
            }
        )


def _set(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        try:
            _write(f"/proc/sys/net/{name}", value)
        except OSError as err:
            raise _unavailable("a setting of the network could not be written", err) from None


def _listen(v6: bool) -> tuple[socket.socket, ...]:
    opened = []
    for kind, port in (
        (socket.SOCK_STREAM, door_plan.TCP_PORT),
        (socket.SOCK_DGRAM, door_plan.DNS_PORT),
        (socket.SOCK_STREAM, door_plan.DNS_PORT),
    ):
        for family, address in ((socket.AF_INET, door_plan.DOOR_V4), (socket.AF_INET6, door_plan.DOOR_V6)):
            if family == socket.AF_INET6 and not v6:
                continue
            sock = socket.socket(family, kind)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(address), port))
            if kind == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
            opened.append(sock)
    return tuple(opened)


def _run(command: list[str], text: str, keep: int | None = None) -> None:
    program = shutil.which(command[0], path=_PATH) or command[0]
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=_PROGRAM_S,
            check=False,
            env={"PATH": _PATH, "LC_ALL": "C"},
            pass_fds=() if keep is None else (keep,),
            preexec_fn=lambda: kernel.die_with_parent(_SIG_KILL),
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ClawproxyError("ISOLATION_UNAVAILABLE", f"{command[0]} did not run: {type(err).__name__}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ClawproxyError(
            "ISOLATION_UNAVAILABLE",
            f"{command[0]} could not set up the job's network",
            got=lines[0],
            remedy="the kernel needs network namespaces, veth, and nftables with redirect and reject",
        )


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _unavailable(what: str, err: OSError) -> ClawproxyError:
    return ClawproxyError(
        "ISOLATION_UNAVAILABLE",
        f"{what}: {(err.strerror or type(err).__name__).lower()}",
        where=str(err.filename or ""),
    )
