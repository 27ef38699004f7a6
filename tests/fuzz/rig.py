"""A gateway, an upstream that keeps what it gets, and readers: everything between a fuzzed request and a verdict.

All in one process but for Node. The upstream and the agent speak plain HTTP/1.1 over loopback; every request is known
by its User-Agent, which the gateway forwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clawproxy.addons.call import Call
from clawproxy.addons.gate import Steps
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.canonical import parse_json_object
from clawproxy.tokens.keys import Role
from clawproxy.tokens.mint import mint

from ..gateway.bed import make_state
from .bodies import TOOLS
from .readers import FOLDING, PARSERS, Reading, reading

CONTRACT: dict[str, Any] = {
    "policy_name": "fuzz",
    "allowed_models": ["gpt-4o-mini", "claude-sonnet-5-5", "gemini-2.5-pro", "*anthropic.claude*", "llama3.2"],
    "allowed_tools": ["tickets"],
    "denied_tools": ["shell"],
    "tool_classes": {"tickets": [*TOOLS, "files.*"], "shell": ["Bash", "exec*"]},
}
_CALLS_PER_JOB = 20_000
_NODE = Path(__file__).with_name("node_reader.js")
_CREDENTIAL = "none"
_MOST_KEPT = 20
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_ANSWERS = {
    "chat/completions": b'{"id":"c","object":"chat.completion","model":"m","choices":[]}',
    "responses": b'{"id":"r","object":"response","status":"completed","output":[]}',
    "streamGenerateContent": b'[{"candidates":[{"content":{"parts":[]},"finishReason":"STOP"}]}]',
    "messages": b'{"id":"m","type":"message","role":"assistant","content":[]}',
}


@dataclass(slots=True)
class Judged:
    """What policy made of one body."""

    facts: CallFacts
    document: dict[str, Any]


@dataclass
class Tally:
    """What a run found."""

    sent: int = 0
    forwarded: int = 0
    whole: int = 0
    whole_forwarded: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)
    disagreed: int = 0
    disagreed_with: Counter[str] = field(default_factory=Counter)

    def disagree(self, what: str, reader: str = "") -> None:
        self.disagreed += 1
        self.disagreed_with[reader] += 1
        if len(self.disagreements) < _MOST_KEPT:
            self.disagreements.append(what)


class Watching:
    """The real steps; what ``read`` judged is kept by User-Agent."""

    def __init__(self, real: Any, judged: dict[str, Judged]) -> None:
        self._real = real
        self._judged = judged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def read(self, call: Call) -> Any:
        verdict = self._real.read(call)
        if verdict is None:
            assert call.facts is not None
            document = parse_json_object(call.flow.request.raw_content or b"")
            self._judged[call.headers["user-agent"]] = Judged(call.facts, document)
        return verdict


class Upstream(asyncio.Protocol):
    """Keeps the head and body of each request by its User-Agent, and answers at once."""

    def __init__(self, kept: dict[str, tuple[bytes, bytes]]) -> None:
        self._kept = kept
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            lower = {name.lower(): value for name, value in fields.items()}
            size = int(lower.get(b"content-length", b"0"))
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            self._kept[lower.get(b"user-agent", b"").decode("latin-1")] = (head, body)
            path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
            answer = next((told for tail, told in _ANSWERS.items() if path.endswith(tail)), b"{}")
            assert self._transport is not None
            self._transport.write(_HEAD % len(answer) + answer)


class Node:
    """The reader written in JavaScript, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Node:
        program = shutil.which("node") or "node"
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(program, str(_NODE), stdin=pipe, stdout=pipe, limit=2**24))

    async def ask(self, head: dict[str, str], body: bytes = b"") -> dict[str, Any]:
        """One question at a time."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        said = json.dumps(head).encode()
        stdin.write(struct.pack(">I", len(said)) + said + struct.pack(">I", len(body)) + body)
        answer: dict[str, Any] = json.loads(await stdout.readline())
        return answer

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class Agent:
    """One keep-alive connection to the gateway."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, raw: bytes) -> tuple[int, bytes, bytes]:
        """Send one whole request; status, head and body of the answer. Status 0 for a connection that was closed."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._at)
        assert self._reader is not None
        try:
            self._writer.write(raw)
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
            status = int(head[9:12])
            size = re.search(rb"(?i)\r\ncontent-length: ?([0-9]+)", head)
            if b"transfer-encoding: chunked" in head.lower():
                body = await self._reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                body = await self._reader.readexactly(int(size[1]) if size else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return 0, b"", b""
        if b"connection: close" in head.lower():
            self.close()
        return status, head, body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


class Rig:
    """One gateway with its upstream; ``judged`` and ``kept`` by User-Agent."""

    def __init__(self, gateway: Gateway, state: Path, keys: Any, policy_hash: str) -> None:
        self.gateway = gateway
        self.judged: dict[str, Judged] = {}
        self.kept: dict[str, tuple[bytes, bytes]] = {}
        self._state, self._keys, self._policy_hash = state, keys, policy_hash
        self._count = 0
        self._token = ""

    def agent(self, listener: str = "reverse") -> Agent:
        address = urlsplit(self.gateway.addresses[listener])
        assert address.hostname
        assert address.port
        return Agent(address.hostname, address.port)

    def token(self) -> str:
        """A token; a new job every so many calls, as a job's evidence is bounded."""
        if self._count % _CALLS_PER_JOB == 0:
            now_s = self.gateway.gate._clock_ms() // 1000
            self._token = mint(
                key=self._keys[Role.TOKEN],
                sub="did:key:zFuzz",
                aud=["clawproxy.local"],
                scope=["clawproxy:call"],
                job_id=f"fuzz-{self._count // _CALLS_PER_JOB}",
                policy_hash_b64u=self._policy_hash,
                now_s=now_s,
                ttl_s=3600,
            )
        self._count += 1
        return self._token


@contextlib.asynccontextmanager
async def running_rig() -> AsyncIterator[Rig]:
    """A gateway on a state directory of its own, which is removed with the context."""
    with tempfile.TemporaryDirectory(prefix="clawproxy-fuzz-") as folder:
        state = Path(folder) / "state"
        keys, policy_hash = make_state(state, CONTRACT)
        loop = asyncio.get_running_loop()
        kept: dict[str, tuple[bytes, bytes]] = {}
        server = await loop.create_server(lambda: Upstream(kept), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = parse_settings(
            {
                "gateway": {"state_dir": str(state), "max_calls_per_minute_per_job": 10_000_000},
                "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False},
                "providers": {
                    name: {"upstream": f"http://127.0.0.1:{port}", "credential": _CREDENTIAL}
                    for name in ("openai", "anthropic", "google", "bedrock", "ollama")
                },
            },
            where="fuzz",
        )
        judged: dict[str, Judged] = {}

        def watch(real: Steps) -> Steps:
            return Watching(real, judged)

        gateway = Gateway(settings, wrap_steps=watch)
        await gateway.start()
        rig = Rig(gateway, state, keys, policy_hash)
        rig.judged, rig.kept = judged, kept
        try:
            yield rig
        finally:
            await gateway.stop(drain_s=1)
            server.close()


def compare(name: str, judged: Judged, path: str, received: bytes, tally: Tally) -> Reading | None:
    """Policy's reading beside every other reader's of what was received at ``path``; returns policy's own."""
    facts = judged.facts
    ours = reading(name, path, judged.document)
    said = facts.model, facts.stream, frozenset(facts.tools)
    if said != (ours.model, bool(ours.stream), ours.tools):
        tally.disagree(f"{name}: facts {facts} but the document says {ours}: {received!r}")
        return None
    for reader, parse in PARSERS.items():
        try:
            theirs = reading(name, path, parse(received))
        except (ValueError, AttributeError, TypeError, KeyError) as err:
            tally.disagree(f"{name}: {reader} cannot read it ({type(err).__name__}): {received!r}", reader)
            continue
        tally.compared[reader] += 1
        if theirs != ours:
            tally.disagree(f"{name}: {reader} reads {theirs}, policy {ours}: {received!r}", reader)
    folded = FOLDING(received)
    tally.compared["folding"] += 1
    for key, value in (("model", facts.model), ("stream", facts.stream)):
        if folded.get(key, value) not in (value, None):  # null is the provider's default, as if it were not there
            tally.disagree(f"{name}: a folding reader finds {key} {folded[key]!r}, policy {value!r}", "folding")
    return ours
