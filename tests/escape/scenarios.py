"""The control runs: ``python -m tests.escape.scenarios CONTROL < plan`` in the machine. Each tries to be a weak cage.

Prints what the attempts print. What is changed lies in namespaces made here, which end with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import internet as net
from .inside.attempt import Control
from .machine import CONTROL_UID, STATE
from .notes import Notes

PYTHON, START = "/opt/python/bin/python3", "/opt/escape/tests/escape/start.py"
_PROXY = f"http://{net.HOST4}:3128"
_LOCAL4, _FIRST4 = "10.99.0.2", "10.99.0.1"
_ONLY = "10.99.0.3"
_DROP_ALL = """
table inet f {
  chain o {
    type filter hook output priority 0
    policy drop
  }
}"""


def attempts(*, uid: int = 0, terminal: bool = False, keep: tuple[int, ...] = (), plan: str = "") -> None:
    """Do the attempts of the plan, as ``uid``."""

    def become() -> None:
        if terminal:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)

    command = [PYTHON, "-I", START, *([plan] if plan else [])]
    subprocess.run(command, check=False, preexec_fn=become, env=control_environment(), pass_fds=keep, cwd="/tmp")


def control_environment() -> dict[str, str]:
    """That of a control: with an open proxy of the machine's."""
    return {"PATH": os.environ["PATH"], "HTTPS_PROXY": _PROXY, "HTTP_PROXY": _PROXY, "HOME": "/tmp"}


@contextlib.contextmanager
def behind_the_host(*, route: bool, rules: str = "", host_rules: str = "") -> Iterator[None]:
    """This process in a network namespace with one link to the host, which forwards for it."""
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.unshare(os.CLONE_NEWNET)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.setns(host, os.CLONE_NEWNET)
    script = f"""
ip link add c0 type veth peer name eth0 netns /proc/{os.getpid()}/fd/{own}
echo 0 > /proc/sys/net/ipv4/conf/c0/rp_filter
echo 1 > /proc/sys/net/ipv4/conf/c0/route_localnet
ip address add {_FIRST4}/24 dev c0
ip address add fd99::1/64 dev c0 nodad
ip address add fe80::1/64 dev c0 nodad
ip link set c0 up
"""
    subprocess.run(["bash", "-euc", script], check=True)
    mac = Path("/sys/class/net/c0/address").read_text().strip()
    if host_rules:
        subprocess.run(["nft", "-f", "-"], input=host_rules, text=True, check=True)
    os.setns(own, os.CLONE_NEWNET)
    default = f"ip route add default via {_FIRST4}; ip -6 route add default via fd99::1" if route else ""
    inner = f"""
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set lo up
ip address add {_LOCAL4}/24 dev eth0
ip address add fd99::2/64 dev eth0 nodad
ip link set eth0 up
ip neigh add {_FIRST4} lladdr {mac} dev eth0 nud permanent
ip -6 neigh add fd99::1 lladdr {mac} dev eth0 nud permanent
{default}
"""
    subprocess.run(["bash", "-euc", inner], check=True)
    if rules:
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        os.setns(host, os.CLONE_NEWNET)
        subprocess.run(["ip", "link", "delete", "c0"], check=False, capture_output=True)
        if host_rules:
            subprocess.run(["nft", "delete", "table", "inet", "one"], check=False)


def _no_route() -> None:
    with behind_the_host(route=False):
        attempts()


def _filtered() -> None:
    with behind_the_host(route=True, rules=_DROP_ALL):
        attempts()


def _one_source() -> None:
    rules = f"""
table inet one {{
  chain f {{
    type filter hook forward priority 0
    iifname "c0" ip saddr != {_ONLY} drop
    iifname "c0" meta nfproto ipv6 drop
  }}
}}"""
    with behind_the_host(route=True, host_rules=rules):
        attempts()


def _masked() -> None:
    os.unshare(os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", STATE], check=True)
    attempts()


def _inherited() -> None:
    """Without a network of its own, and with a socket and a folder of the host's left open."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((net.PUBLIC4, 443))
        folder = os.open(STATE, os.O_RDONLY)
        os.unshare(os.CLONE_NEWNET)
        attempts(uid=CONTROL_UID, keep=(out.fileno(), folder))


def _terminal() -> None:
    """What is typed into somebody's terminal is read by their shell afterwards: here it goes to the notes."""
    ours, theirs = pty.openpty()
    plan = f"/tmp/plan-{os.getpid()}.json"
    Path(plan).write_bytes(sys.stdin.buffer.readline())
    os.chmod(plan, 0o644)
    kept = os.dup(0)
    os.dup2(theirs, 0)
    attempts(uid=CONTROL_UID, terminal=True, plan=plan)
    os.dup2(kept, 0)
    read_typed(theirs, Notes(Path("/shared/host.jsonl")))
    os.close(ours)


def read_typed(terminal: int, notes: Notes) -> None:
    """Note what waits in a terminal to be read, as a shell would find it."""
    os.set_blocking(terminal, False)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            notes.add("typed", os.read(terminal, 4096))
        time.sleep(0.02)


SCENARIOS: dict[Control, Callable[[], None]] = {
    Control.USER: lambda: attempts(uid=CONTROL_UID),
    Control.ROOT: attempts,
    Control.NO_ROUTE: _no_route,
    Control.FILTERED: _filtered,
    Control.ONE_SOURCE: _one_source,
    Control.MASKED: _masked,
    Control.INHERITED: _inherited,
    Control.TERMINAL: _terminal,
}

if __name__ == "__main__":
    SCENARIOS[Control(sys.argv[1])]()
