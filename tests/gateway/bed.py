"""A whole gateway for tests: keys, a signed contract, tokens, a provider stand-in in its own process."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clawproxy.addons.dial import Resolve
from clawproxy.addons.gate import Gate, Steps
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.policies.contract import hash_contract, sign_contract
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.keys import Role, SigningKey, save_key
from clawproxy.tokens.mint import mint
from clawproxy.tokens.trust import Trust, parse_trust

from ..clawproxy.standin_process import Provider
from ..waiting import until, whole_lines
from .raw_client import Answer, RawClient

CONTRACT: dict[str, Any] = {
    "policy_name": "test-bed",
    "allowed_providers": ["openai", "anthropic"],
    "allowed_models": ["gpt-4o-mini", "claude-sonnet-5-5"],
    "allowed_tools": ["ticket.read"],
    "denied_tools": ["shell.exec"],
    "tool_classes": {"ticket.read": ["ticket_read"], "shell.exec": ["Bash", "exec_*"]},
    "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
}
SSE_WORDS = "events:5"


def chat_body(text: str = "hello", *, model: str = "gpt-4o-mini", stream: bool = False, **more: Any) -> bytes:
    """An OpenAI chat request."""
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}
    ).encode()


@dataclass
class Bed:
    """A running gateway and what tests need of it."""

    state: Path
    gateway: Gateway
    provider: Provider
    keys: dict[Role, SigningKey]
    policy_hash: str
    clients: list[RawClient] = field(default_factory=list)

    def token(self, job_id: str = "job-1", **over: Any) -> str:
        claims: dict[str, Any] = {
            "key": self.keys[Role.TOKEN],
            "sub": "did:key:zTester",
            "aud": ["clawproxy.local"],
            "scope": ["clawproxy:call"],
            "job_id": job_id,
            "policy_hash_b64u": self.policy_hash,
            "now_s": int(time.time()),
            "ttl_s": 600,
        }
        return mint(**{**claims, **over})

    def headers(self, token: str | None = None, **more: str) -> dict[str, str]:
        names = {"host": "gateway", "content-type": "application/json", "x-cst": token or self.token()}
        return {**names, **{name.replace("_", "-"): value for name, value in more.items()}}

    async def client(self, listener: str = "reverse") -> RawClient:
        address = urlsplit(self.gateway.addresses[listener])
        assert address.hostname
        assert address.port
        client = await RawClient.open(address.hostname, address.port)
        self.clients.append(client)
        return client

    async def tunnel(self, host: str, *, sni: str | None = None, credential: str = "") -> RawClient:
        """A client inside CONNECT and TLS to ``host``."""
        client = await self.client("regular")
        auth = f"proxy-authorization: Basic {credential}\r\n" if credential else ""
        await client.send(f"CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n{auth}\r\n".encode())
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        context = ssl.create_default_context(cafile=self.gateway.ca_file)
        await client.start_tls(context, sni or host)
        return client

    async def post(self, target: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        client = await self.client()
        answer = await client.request("POST", target, headers or self.headers(), body)
        await client.close()
        return answer

    async def chat(self, text: str = "hello", *, token: str | None = None, **more: Any) -> Answer:
        return await self.post("/openai/v1/chat/completions", chat_body(text, **more), self.headers(token))

    def chat_head(self, length: int, token: str | None = None) -> bytes:
        """The head of a chat call with a body of so many bytes, for who sends it by hand."""
        fields = {**self.headers(token), "content-length": str(length)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST /openai/v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode()

    def lines(self, job_id: str = "job-1") -> list[dict[str, Any]]:
        """The journal of a job, as far as it is on disk."""
        return _lines(self.state / "jobs" / job_id / "receipts.jsonl")

    def records(self, kind: str, job_id: str = "job-1") -> list[dict[str, Any]]:
        return [line["body"]["payload"] for line in self.lines(job_id) if line["t"] == kind]

    def refusals(self) -> list[dict[str, Any]]:
        """Refusals before a job was known."""
        found = [line for path in sorted((self.state / "gateway").glob("*.jsonl")) for line in _lines(path)]
        return [line["body"]["payload"] for line in found if line["t"] == "denial"]

    async def settled(self) -> None:
        """Until nothing is open; orphans get their record within three seconds."""
        await until(lambda: not self.gateway.gate.open_calls)

    def trust(self) -> Trust:
        keys = [{"did": self.keys[role].did, "role": str(role)} for role in (Role.RECEIPT, Role.POLICY, Role.TOKEN)]
        return parse_trust(json.dumps({"trust_version": "1", "keys": keys}).encode())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in whole_lines(path)]


def make_state(state: Path, contract: dict[str, Any]) -> tuple[dict[Role, SigningKey], str]:
    """Keys and a signed contract in a fresh state directory."""
    keys = {role: SigningKey.generate(role) for role in (Role.TOKEN, Role.POLICY, Role.RECEIPT)}
    for folder in ("keys", "keys/jobs", "contracts", "jobs", "gateway"):
        (state / folder).mkdir(mode=0o700, parents=True)
    for role, key in keys.items():
        save_key(key, state / "keys" / f"{role}.pem")
    envelope = sign_contract(contract, keys[Role.POLICY], "2026-01-01T00:00:00.000Z")
    (state / "contracts" / "contract.json").write_bytes(jcs_bytes(envelope))
    return keys, hash_contract(contract)


@contextlib.asynccontextmanager
async def running_bed(
    state: Path,
    provider: Provider,
    *,
    contract: dict[str, Any] = CONTRACT,
    wrap_steps: Callable[[Steps], Steps] = lambda steps: steps,
    addons: Callable[[Gate], Sequence[object]] = lambda gate: [gate],
    sections: Mapping[str, Any] | None = None,
    resolve: Resolve | None = None,
    **gateway_keys: Any,
) -> AsyncIterator[Bed]:
    """A gateway in this process, in front of ``provider``; stopped with the context. ``sections`` are added to its
    configuration."""
    keys, policy_hash = make_state(state, contract)
    settings = parse_settings(
        {
            "gateway": {"state_dir": str(state), "step_timeout_s": 20.0, **gateway_keys},
            "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False},
            "upstream_ca": provider.ca or None,
            "data": {"scan_budget_ms": 10_000},  # a machine that stands still for a moment is no slow look
            "providers": {
                name: {"upstream": provider.url, "credential": f"file:{provider.key_files[name]}"}
                for name in ("openai", "anthropic")
            },
            **(sections or {}),
        },
        where="test",
    )
    gateway = Gateway(settings, wrap_steps=wrap_steps, addons=addons, resolve=resolve)
    await gateway.start()
    bed = Bed(state, gateway, provider, keys, policy_hash)
    try:
        yield bed
    finally:
        for client in bed.clients:
            await client.close()
        await bed.gateway.stop(drain_s=1)
