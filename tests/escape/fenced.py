"""Attempts of agents that ``clawproxy host install`` fences: of a user, of a cgroup, and behind an interface.

``python -m tests.escape.fenced serve STATE`` in the machine: a gateway with a transparent listener, and two jobs for
each kind; says one line of JSON, their handles. ``python -m tests.escape.fenced KIND < plan`` does
the attempts of a plan as who is fenced, with that environment, then, where the plan says so, makes a call that the
contract allows by the transparent listener, for the other job, and prints ``ALLOWED`` with the answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from . import internet as net
from .inside.attempt import Attempt, Control
from .machine import CONTROL_UID
from .scenarios import PYTHON, START, behind_the_host, control_environment

KINDS = ("user", "cgroup", "interface")
TRANSPARENT, REGULAR, REVERSE = 18082, 18080, 18081
LINK = "c0"
_HOST_OF = {"user": "127.0.0.1", "cgroup": "127.0.0.1", "interface": "10.99.0.1"}
_CGROUPS, _UNIFIED = "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
_OF_THE_NETWORK = {"direct", "names", "packets", "hosts", "tls", "gateway doors"}
_LINKS = {
    "add a default route", "policy routing", "ip6 default route", "vxlan", "take another address", "macvlan", "vlan",
}  # fmt: skip
_ALLOWED = """
import socket, ssl, sys
context = ssl._create_unverified_context()
with socket.create_connection((sys.argv[1], 443), 5) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[2]) as sock:
        text = f"GET /open/allowed HTTP/1.1\\r\\nhost: {sys.argv[2]}\\r\\nx-cst: {sys.argv[3]}\\r\\n\\r\\n"
        sock.sendall(text.encode())
        print("ALLOWED", sock.recv(4096).decode(), flush=True)
"""


def applies(attempt: Attempt, kind: str) -> bool:
    """Whether a fence of this kind is against it: what a process sends by the network of the host, as itself.

    A fence shares files, sockets of other kinds and processes with the host, and a user with root's power is none.
    """
    if attempt.group == "links":
        return kind == "interface" and attempt.name in _LINKS
    return attempt.group in _OF_THE_NETWORK and (kind == "interface" or attempt.control is Control.USER)


def fence(kind: str, cgroup: str) -> tuple[str, ...]:
    """The words after ``clawproxy host install``."""
    around = {"user": str(CONTROL_UID), "cgroup": cgroup, "interface": LINK}[kind]
    ports = ("--port", str(TRANSPARENT), "--open", str(REGULAR), "--open", str(REVERSE))
    return (f"--{kind}", around, "--name", kind, *ports)


async def serve(state: Path) -> None:
    """Until standard input ends."""
    from clawproxy.addons.gateway import Gateway
    from clawproxy.addons.settings import parse_settings

    from ..gateway.bed import CONTRACT, make_state
    from .isolated import OPEN

    os.umask(0o077)
    _, policy_hash = make_state(state, {**CONTRACT, "egress_allowlist": [OPEN]})
    (state / "key").write_text("sk-the-real-one")
    settings = parse_settings(
        {
            "gateway": {"state_dir": str(state), "step_timeout_s": 5.0},
            "listen": {
                "reverse": f"0.0.0.0:{REVERSE}", "regular": f"0.0.0.0:{REGULAR}", "transparent": f"[::]:{TRANSPARENT}",
                "allow_plain_remote": True,
            },
            "upstream_ca": "/shared/ca.pem",
            "providers": {"openai": {"credential": f"file:{state}/key"}},
        },
        where="test",
    )  # fmt: skip
    gateway = Gateway(settings)
    await gateway.start()
    # a job is bound to where its first call is from: by the proxy that is another address than by the redirect
    jobs = [job for kind in KINDS for job in (kind, f"{kind}-allowed")]
    print(json.dumps({job: (await gateway.lease(policy_hash, job, 3600)).handle for job in jobs}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await gateway.stop(drain_s=1)


def environment(kind: str, handle: str) -> dict[str, str]:
    """What an agent in a fence is given: the gateway's proxy with the job's handle, and its base URL. Without a handle
    what a control is given."""
    if not handle:
        return control_environment()
    proxy = f"http://job:{handle}@{_HOST_OF[kind]}:{REGULAR}"
    base = f"http://{_HOST_OF[kind]}:{REVERSE}/openai/v1"
    own = {"PATH": os.environ["PATH"], "HOME": "/tmp", "OPENAI_BASE_URL": base}
    names = {"CLAW_TOKEN": handle, "OPENAI_API_KEY": handle, "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
    return own | names


def do(kind: str) -> None:
    """The attempts of the plan on standard input, as who is fenced."""
    line = sys.stdin.buffer.readline()
    plan = json.loads(line)
    agent = environment(kind, plan["handle"])

    def become() -> None:
        if kind == "cgroup":
            Path(_CGROUPS, plan["cgroup"], "cgroup.procs").write_text("0")
        if kind != "interface":
            os.setgroups([])
            os.setresgid(CONTROL_UID, CONTROL_UID, CONTROL_UID)
            # who is in a cgroup is another user: the fence is around the one, not the other
            os.setresuid(*[CONTROL_UID + (kind == "cgroup")] * 3)

    def run(*command: str, text: bytes = b"") -> None:
        subprocess.run([PYTHON, "-I", *command], input=text, check=False, preexec_fn=become, env=agent, cwd="/tmp")

    def both() -> None:
        run(START, text=line)
        if plan["allowed"]:
            run("-c", _ALLOWED, net.PUBLIC4, net.ALLOWED, plan["allowed"])

    if kind == "interface":
        with behind_the_host(route=True):
            both()
    else:
        both()


def prepare_cgroup(name: str) -> None:
    """nft looks for cgroups of version 2 below /sys/fs/cgroup."""
    script = f"mountpoint -q {_UNIFIED} || {{ mkdir -p {_UNIFIED}; mount -t cgroup2 none {_UNIFIED}; }}"
    subprocess.run(
        ["bash", "-euc", f"{script}; mkdir {_UNIFIED}/{name}; mount --bind {_UNIFIED} {_CGROUPS}"], check=True
    )


def remove_cgroup(name: str) -> None:
    """The hierarchy is the kernel's, not the machine's."""
    Path(_CGROUPS, name).rmdir()


if __name__ == "__main__":
    match sys.argv[1]:
        case "serve":
            asyncio.run(serve(Path(sys.argv[2])))
        case "prepare":
            prepare_cgroup(sys.argv[2])
        case "clear":
            remove_cgroup(sys.argv[2])
        case kind:
            do(kind)
