"""The gateway with everything on: signed contract, token, twelve steps, durable intents and receipts.

``python -m bench.gateway_target UPSTREAM_PORT STATE_DIR [ungated]`` makes keys, a contract and a token in a fresh
directory, and prints a ready line with its port, path and headers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clawproxy.addons.call import Call
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.policies.contract import hash_contract, sign_contract
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.keys import Role, SigningKey, save_key
from clawproxy.tokens.mint import mint

_CONTRACT = {
    "policy_name": "bench",
    "allowed_providers": ["openai"],
    "allowed_models": ["gpt-bench"],
    "allowed_tools": ["ticket.read"],
    "tool_classes": {"ticket.read": ["ticket_read"]},
    "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
}


class _Ungated:
    """The steps, and no tool gate on streams: the product has no such switch."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    def observe(self, call: Call) -> None:
        self._steps.observe(call)
        if isinstance(call.tap, StreamTap):
            call.tap._gate = None


async def _serve(upstream_port: int, state: Path, *, gated: bool) -> None:
    keys = {role: SigningKey.generate(role) for role in (Role.TOKEN, Role.POLICY, Role.RECEIPT)}
    for folder in ("keys", "keys/jobs", "contracts", "jobs", "gateway"):
        (state / folder).mkdir(mode=0o700, parents=True)
    for role, key in keys.items():
        save_key(key, state / "keys" / f"{role}.pem")
    envelope = sign_contract(_CONTRACT, keys[Role.POLICY], "2026-01-01T00:00:00.000Z")
    (state / "contracts" / "contract.json").write_bytes(jcs_bytes(envelope))
    settings = parse_settings(
        {
            "gateway": {"state_dir": str(state), "max_calls_per_minute_per_job": 10_000_000},
            "listen": {"reverse": "127.0.0.1:0", "regular": "", "admin": False},
            "providers": {"openai": {"upstream": f"http://127.0.0.1:{upstream_port}", "credential": "none"}},
        },
        where="bench",
    )
    gateway = Gateway(settings) if gated else Gateway(settings, wrap_steps=_Ungated)
    await gateway.start()
    token = mint(
        key=keys[Role.TOKEN],
        sub="did:key:zBench",
        aud=["clawproxy.local"],
        scope=["clawproxy:call"],
        job_id="bench",
        policy_hash_b64u=hash_contract(_CONTRACT),
        now_s=int(time.time()),
        ttl_s=1800,
    )
    ready = {
        "port": urlsplit(gateway.addresses["reverse"]).port,
        "path": "/openai/v1/chat/completions",
        "headers": {"x-cst": token},
    }
    print(json.dumps(ready), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), gated="ungated" not in sys.argv[3:]))
