"""A state directory whose gateways are killed and started again, and whom a verifier of its bundles believes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.mint import mint
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, make_state


@dataclass(frozen=True, slots=True)
class Ground:
    """``settings`` is the file that its gateways start with."""

    state: Path
    settings: Path
    trust: Trust
    policy_hash: str
    keys: Mapping[Role, SigningKey]

    def token(self, job_id: str) -> str:
        return mint(
            key=self.keys[Role.TOKEN], sub="did:key:zTester", aud=["clawproxy.local"], scope=["clawproxy:call"],
            job_id=job_id, policy_hash_b64u=self.policy_hash, now_s=int(time.time()), ttl_s=1200,
        )  # fmt: skip


def lay_ground(
    folder: Path,
    provider: Provider,
    contract: dict[str, Any] = CONTRACT,
    *,
    limits: Mapping[str, int] | None = None,
    **more: object,
) -> Ground:
    """``limits`` are settings of the section gateway, ``more`` other sections."""
    state, settings = folder / "s", folder / "settings.json"
    keys, policy_hash = make_state(state, contract)
    credential = f"file:{provider.key_files['openai']}"
    settings.write_text(
        json.dumps(
            {
                "gateway": {"state_dir": str(state), **(limits or {})},
                "listen": {"reverse": "127.0.0.1:0", "regular": ""},
                "upstream_ca": provider.ca,
                "providers": {"openai": {"upstream": provider.url, "credential": credential}},
                **more,
            }
        )
    )
    trust = build_trust([TrustedKey(keys[role].did, role) for role in (Role.RECEIPT, Role.POLICY)])
    return Ground(state, settings, trust, policy_hash, keys)


class Forks:
    """Starts gateways; see ``killable``."""

    def __init__(self, settings: Path) -> None:
        command = [sys.executable, "-m", "tests.gateway.killable", str(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def start(self) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        ready: dict[str, Any] = json.loads(self._process.stdout.readline())
        return ready

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()


async def gone(pid: int) -> None:
    """Until a gateway that was killed is no more: so long it has its locks, and its sockets answer."""
    await until(lambda: not Path(f"/proc/{pid}").exists())


@contextlib.contextmanager
def running_forks(settings: Path) -> Iterator[Forks]:
    forks = Forks(settings)
    try:
        yield forks
    finally:
        forks.close()
