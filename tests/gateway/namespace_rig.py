"""A door's and a job's network namespace, joined by a veth pair, with rules that redirect: for tests as root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.door_sockets import DoorSockets
from clawproxy.addons.doors import Door
from clawproxy.addons.original_destination import original_destination
from clawproxy.addons.redirected import Redirected
from clawproxy.policies.door_plan import (
    DNS_PORT,
    DOOR_V4,
    DOOR_V6,
    FIRST_NAME_V4,
    JOB_V4,
    JOB_V6,
    LAST_NAME_V4,
    NAMES_V6,
    TCP_PORT,
)

from .bed import Bed
from .door_rig import ISOLATED

RULES = f"""
table inet door {{
  chain pre {{ type nat hook prerouting priority dstnat; policy accept;
    ip daddr {FIRST_NAME_V4}-{LAST_NAME_V4} meta l4proto tcp redirect to :{TCP_PORT}
    ip6 daddr {NAMES_V6} meta l4proto tcp redirect to :{TCP_PORT}
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
  }}
  chain early {{ type filter hook prerouting priority 10; policy accept;
    meta l4proto udp ct state new ct status ! dnat reject with icmpx port-unreachable
  }}
  chain arrive {{ type filter hook input priority filter; policy drop;
    ct state established,related accept
    ct status dnat accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
  chain pass {{ type filter hook forward priority filter; policy drop;
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
}}
"""


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    absent = [tool for tool in ("ip", "nft", "nsenter", "unshare") if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run(["unshare", "-n", "nft", "list", "ruleset"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "this kernel makes no network namespace here"


needs_namespaces = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")


@dataclass
class Namespaces:
    """Two namespaces, held by a sleeping process each."""

    door: subprocess.Popen[bytes]
    job: subprocess.Popen[bytes]
    folder: Path
    shadowed: str = "resolv.conf"
    """The file of /etc that programs see another in place of."""
    content: str = "nameserver 192.0.2.53\noptions timeout:2 attempts:1\n"

    def sockets(self) -> DoorSockets:
        """Those of the door."""
        hosts = (str(DOOR_V4), str(DOOR_V6))
        return self.in_door(
            lambda: DoorSockets(
                tuple(_bound(socket.SOCK_STREAM, host, TCP_PORT) for host in hosts),
                tuple(_bound(socket.SOCK_DGRAM, host, DNS_PORT) for host in hosts),
                tuple(_bound(socket.SOCK_STREAM, host, DNS_PORT) for host in hosts),
            )
        )

    def in_door[T](self, make: Callable[[], T]) -> T:
        """What is made inside the door's namespace, by a thread that goes there."""
        made: list[T] = []

        def work() -> None:
            handle = os.open(f"/proc/{self.door.pid}/ns/net", os.O_RDONLY)
            os.setns(handle, os.CLONE_NEWNET)
            os.close(handle)
            made.append(make())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]

    async def run(self, script: str, **environment: str) -> str:
        """What a Python program prints that runs in the job's namespace."""
        conf = self.folder / self.shadowed
        conf.write_text(self.content)
        program = self.folder / "program.py"
        program.write_text(script)
        mount = f"mount --bind {conf} /etc/{self.shadowed} && exec {sys.executable} {program}"
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--net=/proc/{self.job.pid}/ns/net", "unshare", "-m", "sh", "-c", mount,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == 0, output.decode()
        return output.decode()


def _bound(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    return sock


def run_inside(holder: subprocess.Popen[bytes], *command: str, text: str = "") -> str:
    """What a command prints in the network namespace of ``holder``."""
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{holder.pid}/ns/net", *command],
        input=text.encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout.decode()


def _holder() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # from here on it is in a namespace of its own
    return process


@contextlib.contextmanager
def namespaces(folder: Path) -> Any:
    """Two namespaces as a cage makes them; they go with their processes."""
    folder.mkdir()
    door, job = _holder(), _holder()
    try:
        run_inside(door, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "j0", "netns", str(job.pid))
        for holder, link, v4, v6 in ((door, "d0", DOOR_V4, DOOR_V6), (job, "j0", JOB_V4, JOB_V6)):
            run_inside(holder, "ip", "addr", "add", f"{v4}/30", "dev", link)
            run_inside(holder, "ip", "-6", "addr", "add", f"{v6}/64", "dev", link, "nodad")
            run_inside(holder, "ip", "link", "set", link, "up")
            run_inside(holder, "ip", "link", "set", "lo", "up")
        run_inside(job, "ip", "route", "add", "default", "via", str(DOOR_V4))
        run_inside(job, "ip", "-6", "route", "add", "default", "via", str(DOOR_V6))
        forwarding = "for v in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$v; done"
        run_inside(door, "sh", "-c", forwarding)  # so that what is not redirected is rejected, and not only dropped
        run_inside(door, "nft", "-f", "-", text=RULES)
        yield Namespaces(door, job, folder)
    finally:
        for holder in (door, job):
            holder.kill()
            holder.wait()


@contextlib.asynccontextmanager
async def caged(bed: Bed, folder: Path, job_id: str = "caged") -> AsyncIterator[tuple[Namespaces, Door]]:
    """A job of ``bed`` in namespaces of its own, with its door open."""
    with namespaces(folder) as made:
        bed.gateway.destination_of = original_destination
        lease = await bed.gateway.lease(bed.policy_hash, job_id, containment=ISOLATED)
        door = await bed.gateway.open_door(job_id, lease.handle, made.sockets())
        try:
            yield made, door
        finally:
            await door.close()


@contextlib.asynccontextmanager
async def hosted(bed: Bed, folder: Path) -> AsyncIterator[Namespaces]:
    """An agent host: a namespace whose own rule redirects what leaves for the web to a transparent listener in it."""
    holder = await asyncio.to_thread(_host, folder)
    made = Namespaces(holder, holder, folder, "hosts", "203.0.113.9 api.openai.com\n")
    try:
        sock = await asyncio.to_thread(made.in_door, lambda: _bound(socket.SOCK_STREAM, "127.0.0.1", TCP_PORT))
        master = bed.gateway._master
        assert master is not None
        redirected = Redirected(bed.gateway._ending, original_destination)
        await master.listen_on(sock, redirected.arrive)
        yield made
    finally:
        holder.kill()
        holder.wait()


def _host(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    holder = _holder()
    for command in (
        "ip link set lo up",
        "ip link add out type veth peer name gone",
        "ip link set gone up",
        "ip addr add 192.0.2.2/24 dev out",
        "ip link set out up",
        "ip route add default via 192.0.2.1",
    ):  # fmt: skip
        run_inside(holder, *command.split())
    run_inside(
        holder,
        "nft",
        "-f",
        "-",
        text=f"""
table inet host {{ chain out {{ type nat hook output priority -100;
  ip daddr != 127.0.0.0/8 tcp dport {{ 80, 443 }} redirect to :{TCP_PORT}
}}
}}
""",
    )
    return holder
