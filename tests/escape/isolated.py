"""The isolated runs: a gateway in the test's machine, and a cage with a door of its own for each plan.

``python -m tests.escape.isolated STATE``, as root or, rootless, as a plain user. It says ``ready``, then takes one JSON
object a line: ``root`` (as root in the job's network namespace, else as the job's user), ``terminal``, ``plan``; and
answers each with one: ``output``, ``errors``, ``code`` and ``probes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.receipts.containment import Containment, Kind, ProbeOutcome

from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.rules import rules_hash
from clawproxy.cage.users import choose_user

from ..gateway.bed import CONTRACT, make_state
from . import internet as net
from .machine import AGENT
from .notes import Notes
from .scenarios import PYTHON, START, read_typed

OPEN = {"host": net.ALLOWED, "paths": ["/open/*"], "methods": ["GET"]}


async def serve() -> None:
    """Start the gateway, do the plans, stop it."""
    os.umask(0o077)
    state = Path(sys.argv[1])
    _kept = _leave_open(state)
    _, policy_hash = make_state(state / "gateway", {**CONTRACT, "egress_allowlist": [OPEN]})
    (state / "gateway" / "key").write_text("sk-the-real-one")
    settings = parse_settings(
        {
            "gateway": {"state_dir": str(state / "gateway"), "step_timeout_s": 5.0},
            "listen": {"reverse": "127.0.0.1:8081", "regular": "127.0.0.1:8082"},
            "upstream_ca": "/shared/ca.pem",
            "providers": {"openai": {"credential": f"file:{state}/gateway/key"}},
        },
        where="test",
    )
    gateway = Gateway(settings)
    await gateway.start()
    print("ready", flush=True)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            answer = await one(
                gateway, policy_hash, state, asked["plan"], as_root=asked["root"], terminal=asked["terminal"]
            )
            print(json.dumps(answer), flush=True)
    finally:
        await gateway.stop(drain_s=1)


async def one(
    gateway: Gateway, policy_hash: str, state: Path, plan: Mapping[str, Any], *, as_root: bool, terminal: bool
) -> dict[str, Any]:
    """A plan in a cage of its own; with ``terminal`` on one of a person's, whose input is noted afterwards."""
    chosen = choose_user(AGENT, "/opt/escape")
    with contextlib.ExitStack() as stack:
        given, out, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write((json.dumps(plan) + "\n").encode())
        given.seek(0)
        argv, stdio = [PYTHON, "-I", START], (given.fileno(), out.fileno(), errors.fileno())
        ours, theirs = pty.openpty() if terminal else (-1, -1)
        if terminal:
            argv, stdio = [*argv, _plan_file(plan)], (theirs, theirs, theirs)
        job = make_plan(chosen.user, "/opt/escape", root_inside=as_root, masked=(str(state),))
        with contextlib.closing(Cage(job, stdio)) as cage:
            probes = cage.probe()
            # what the probes reached is for the caller to judge; here the agent is let in all the same
            seen = tuple((probe.name, ProbeOutcome.BLOCKED) for probe in probes)
            lease = await gateway.lease(
                policy_hash, None, 600, containment=Containment(Kind.ISOLATED, rules_hash(job.rules), seen)
            )
            door = await gateway.open_door(lease.job_id, lease.handle, cage.sockets)
            environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": lease.handle, "HOME": "/tmp"}
            screen = cage.start(argv, environment)
            text = await asyncio.to_thread(_read_screen, screen) if screen is not None else b""
            code = await asyncio.to_thread(cage.wait)
            await door.close()
        chosen.release()
        if terminal:
            read_typed(theirs, Notes(Path("/shared/host.jsonl")))
            os.close(ours)
            os.close(theirs)
        out.seek(0)
        errors.seek(0)
        return {
            "output": (out.read() + text).decode(),
            "errors": errors.read().decode()[-4000:],
            "code": code,
            "probes": [[probe.name, probe.outcome, probe.seen] for probe in probes],
        }


def _plan_file(plan: Mapping[str, Any]) -> str:
    path = Path(tempfile.gettempdir()) / f"plan-{os.getuid()}.json"
    path.write_text(json.dumps(plan))
    path.chmod(0o644)
    return str(path)


def _read_screen(screen: int) -> bytes:
    """All that the job's terminal shows until it is closed."""
    text = b""
    with contextlib.suppress(OSError):
        while part := os.read(screen, 65_536):
            text += part
            if b"ATTEMPTS DONE" in text:
                break
    os.close(screen)
    return text


def _leave_open(state: Path) -> tuple[socket.socket, int]:
    """What a careless parent leaves open to its children: a socket of the host's, and the state directory."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((net.PUBLIC4, 443))
    folder = os.open(state, os.O_RDONLY)
    for number in (out.fileno(), folder):
        os.set_inheritable(number, True)
    return out, folder


if __name__ == "__main__":
    asyncio.run(serve())
