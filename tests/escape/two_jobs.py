"""Two isolated jobs under two contracts at once: ``python -m tests.escape.two_jobs ROUNDS`` in the test's machine.

Prints one line of JSON: for each job what it tried and met, the verdict on its bundle, what is on record in it; and the
gateway's own journal of refusals.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawproxy.addons.gateway import Gateway
from clawproxy.addons.identity import Lease
from clawproxy.addons.settings import parse_settings
from clawproxy.policies.contract import hash_contract, sign_contract
from clawproxy.receipts.containment import Containment, Kind, ProbeOutcome
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.trust import parse_trust

from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.rules import rules_hash
from clawproxy.cage.users import choose_user

from ..gateway.bed import CONTRACT, make_state
from . import internet as net
from .neighbours import STATE
from .scenarios import PYTHON

_STATE = Path(STATE) / "two"
_START = "/opt/escape/tests/escape/start_pair.py"
_NAMES = ("one", "two")
_MODELS = {"one": "gpt-4o-mini", "two": "gpt-4o"}


def contract(name: str) -> dict[str, Any]:
    """What a job may: one model of its own, one folder of the host's."""
    return {
        **CONTRACT,
        "policy_name": name,
        "allowed_providers": ["openai"],
        "allowed_models": [_MODELS[name]],
        "egress_allowlist": [{"host": net.ALLOWED, "paths": [f"/open/{name}/*"]}],
    }


@dataclass
class Side:
    """One of the two."""

    name: str
    lease: Lease
    cage: Cage
    given: Any
    out: Any
    errors: Any


async def run(rounds: int) -> dict[str, Any]:
    """The two, from their cages to their verdicts."""
    os.umask(0o077)
    keys, first = make_state(_STATE, contract("one"))
    second = sign_contract(contract("two"), keys[Role.POLICY], "2026-01-01T00:00:00.000Z")
    (_STATE / "contracts" / "two.json").write_bytes(jcs_bytes(second))
    (_STATE / "key").write_text("sk-the-real-one")
    hashes = {"one": first, "two": hash_contract(contract("two"))}
    gateway = Gateway(
        parse_settings(
            {
                "gateway": {"state_dir": str(_STATE), "step_timeout_s": 10.0},
                "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False},
                "upstream_ca": "/shared/ca.pem",
                "providers": {"openai": {"credential": f"file:{_STATE}/key"}},
            },
            where="test",
        )
    )
    await gateway.start()
    try:
        async with AsyncExitStack() as stack:
            sides = [await _prepare(gateway, name, hashes[name], stack) for name in _NAMES]
            for side, other in (sides, sides[::-1]):
                _start(side, other, rounds)
            await asyncio.gather(*(asyncio.to_thread(side.cage.wait) for side in sides))
            told = {side.name: _told(side) for side in sides}
        for name in _NAMES:
            await gateway.seal(name)
            told[name] |= _on_record(name, keys)
    finally:
        await gateway.stop(drain_s=1)
    journal = [line for path in sorted((_STATE / "gateway").glob("*.jsonl")) for line in _lines(path)]
    return {**told, "gateway": Counter(row["payload"].get("reason") for row in journal if row["t"] == "denial")}


async def _prepare(gateway: Gateway, name: str, policy_hash: str, stack: AsyncExitStack) -> Side:
    chosen = choose_user(None, "/opt")
    stack.callback(chosen.release)
    files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - closed by the stack
    given, out, errors = (stack.enter_context(file) for file in files)
    job = make_plan(chosen.user, "/opt", masked=(STATE,))
    cage = stack.enter_context(closing(Cage(job, (given.fileno(), out.fileno(), errors.fileno()))))
    seen = tuple((probe.name, ProbeOutcome.BLOCKED) for probe in cage.probe())
    lease = await gateway.lease(policy_hash, name, 600, Containment(Kind.ISOLATED, rules_hash(job.rules), seen))
    door = await gateway.open_door(name, lease.handle, cage.sockets)
    stack.push_async_callback(door.close)
    return Side(name, lease, cage, given, out, errors)


def _start(side: Side, other: Side, rounds: int) -> None:
    def words(of: Side) -> dict[str, str]:
        return {"model": _MODELS[of.name], "path": f"/open/{of.name}/x", "handle": of.lease.handle}

    plan = {"name": side.name, "host": net.ALLOWED, "own": words(side), "other": words(other), "rounds": rounds}
    side.given.write((json.dumps(plan) + "\n").encode())
    side.given.seek(0)
    side.cage.start([PYTHON, "-I", _START], {"PATH": os.environ["PATH"]})


def _told(side: Side) -> dict[str, Any]:
    side.out.seek(0)
    side.errors.seek(0)
    text = side.out.read().decode()
    return dict(json.loads(text)) if text else {"error": side.errors.read().decode()[-2000:]}


def _on_record(name: str, keys: dict[Role, SigningKey]) -> dict[str, Any]:
    rows = _lines(_STATE / "jobs" / name / "receipts.jsonl")
    trusted = [{"did": keys[role].did, "role": str(role)} for role in (Role.RECEIPT, Role.POLICY, Role.TOKEN)]
    trust = parse_trust(json.dumps({"trust_version": "1", "keys": trusted}).encode())
    return {
        "verdict": str(verify_path(_STATE / "jobs" / name, trust).verdict),
        "kinds": Counter(row["t"] for row in rows),
        "reasons": Counter(row["payload"]["reason"] for row in rows if row["t"] == "denial"),
        "records": [row["payload"] for row in rows if row["t"] == "intent"],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{"t": row["t"], "payload": row["body"]["payload"]} for row in rows if "body" in row]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(int(sys.argv[1])))))
