"""Executes cases against a running gateway: sends the bytes, reads the answer, and looks for what must not have
happened: a byte at the provider, an answer, another reason, a denial that is missing or not signed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clawproxy.receipts.per_second import PerSecond
from clawproxy.receipts.records import ENVELOPE_TYPES
from clawproxy.tokens.envelope import check_envelope_shape, check_envelope_signature
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role

from ..clawproxy.standin_process import Provider
from ..gateway.bed import Bed, running_bed
from ..gateway.tool_server import tool_server
from .bodies import ANY, BASES, SOCKETS, Base
from .cases import Case, Expect
from .forged import forge, place_contract
from .frames import MAX_FRAME_BYTES, frame_bytes, head_length
from .relay import Relay
from .request import JOB, request_bytes, values_of
from .texts import expand
from .world import CRM_SECRET, World

ANSWER_TIMEOUT_S = 20.0
CLOSING_BYTES = 64
"""At most this much goes to the provider when the gateway closes a WebSocket: a close frame and TLS's goodbye."""
_LOOKED_UP = ("DESTINATION_REFUSED", "UPSTREAM_UNREACHABLE")


@dataclass(frozen=True, slots=True)
class Execution:
    """A case on one transport, with the body of one format."""

    case: Case
    transport: str
    format: str

    @property
    def name(self) -> str:
        return f"{self.case.id}[{self.transport}-{self.format}]"


@dataclass(frozen=True, slots=True)
class Result:
    """``red`` says what was wrong, or is empty; ``bypass`` that something reached the provider, or an answer came."""

    execution: Execution
    red: str
    bypass: bool
    reason: str
    seconds: float


@dataclass(slots=True)
class Answer:
    """What came back; ``reason`` is ours, ``http 400`` for an answer of the HTTP parser, ``closed`` or ``silent``."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: str = ""
    code: int = 0
    """With which a WebSocket was closed."""

    @property
    def reason(self) -> str:
        if not self.status:
            return self.ended
        return self.headers.get("x-clawproxy-reason") or f"http {self.status}"


def executions(cases: Iterable[Case]) -> list[Execution]:
    """Every transport and format that a case is for and that this gateway serves, in an order that is stable."""
    found = []
    for case in cases:
        formats = ANY if case.formats == ("*",) else case.formats
        for name in formats:
            base = BASES[name]
            for transport in case.transports:
                if base.serves(transport) and transport != "http2" and name not in case.not_formats:
                    found.append(Execution(case, transport, name))
    return found


class Line:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.drain()

    async def answer(self, method: str = "POST", timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """The next answer that is none of 1xx, but 101."""
        answer = Answer()
        try:
            async with asyncio.timeout(timeout_s):
                while answer.status < 200 and answer.status != 101:
                    head = await self.reader.readuntil(b"\r\n\r\n")
                    first, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
                    answer.status = int(first.split(" ")[1])
                    pairs = (item.split(":", 1) for item in fields)
                    answer.headers = {name.strip().lower(): value.strip() for name, value in pairs}
                answer.body = await self._body(answer, method)
        except TimeoutError:
            answer.ended = "silent"
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ssl.SSLError, ValueError):
            answer.ended = "closed"
        return answer

    async def _body(self, answer: Answer, method: str) -> bytes:
        if method == "HEAD" or (method == "CONNECT" and answer.status == 200) or answer.status in (101, 204, 304):
            return b""
        if answer.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
            return body
        if "content-length" in answer.headers:
            return await self.reader.readexactly(int(answer.headers["content-length"]))
        return await self.reader.read()

    async def event(self) -> tuple[int, bytes]:
        """The next frame of a WebSocket: opcode and payload."""
        first = await self.reader.readexactly(2)
        opcode, more = head_length(first)
        size = int.from_bytes(await self.reader.readexactly(more)) if more else first[1] & 0x7F
        if size > MAX_FRAME_BYTES:
            raise ValueError("a frame is too long")
        return opcode, await self.reader.readexactly(size)

    async def socket_end(self, last: str = "", timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """Until the socket is closed, or the event ``last`` has come; the answer is what the error event says."""
        answer = Answer(ended="closed")
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    opcode, data = await self.event()
                    if opcode == 8:
                        answer.code = int.from_bytes(data[:2])
                        return answer
                    if opcode != 1:
                        continue
                    told = json.loads(data)
                    if told["type"] == "error" and (marks := told.get("error", {}).get("clawproxy")):
                        answer.status, answer.body = told.get("status", 400), data
                        answer.headers["x-clawproxy-reason"] = marks["reason"]
                        answer.headers["x-clawproxy-receipt-id"] = marks["receipt_id"]
                    elif told["type"] == last:
                        answer.status, answer.body = 200, data
                        return answer
        except TimeoutError:
            answer.ended = "silent"
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, ValueError):
            answer.ended = "closed"
        return answer

    def close(self) -> None:
        self.writer.close()


class _Tail:
    """New whole lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            found, _, _ = file.read().rpartition(b"\n")
        self._at += len(found) + bool(found)
        return [json.loads(line) for line in found.splitlines()]


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far it was when an attack began."""

    lines: int
    relayed: tuple[int, int]
    tool_connections: int
    tool_requests: int
    looked_up: int
    socket: bool


_GOODBYE = frame_bytes({"text": {"hex": "03e8"}, "opcode": 8}, BASES["openai_responses"], {})


class Runner:
    """``bed`` is the gateway, ``relay`` stands between it and the provider, ``world`` is what tools reach."""

    def __init__(self, bed: Bed, relay: Relay, world: World) -> None:
        self.bed, self.relay, self.world = bed, relay, world
        # for as long as the contract lets them be: a busy machine takes its time over the corpus
        self._token = bed.token(JOB, ttl_s=1800).encode()
        self._other_token = bed.token(f"{JOB}-other", ttl_s=1800).encode()
        self._tls = ssl.create_default_context(cafile=bed.gateway.ca_file)
        self._any_name = ssl.create_default_context(cafile=bed.gateway.ca_file)
        self._any_name.check_hostname = False
        revoked = bed.gateway.revocations
        revoked.revoke_jti("00000000-0000-4000-8000-00000000dead")
        revoked.revoke_job("revoked-job")
        self._clean: dict[tuple[str, str], Line] = {}
        self._tails: dict[Path, _Tail] = {}
        self._denials: dict[str, dict[str, Any]] = {}

    # -- one execution ---------------------------------------------------------------------------------------------

    async def execute(self, execution: Execution) -> Result:
        """Send it, judge what happened, and see that a clean call still works."""
        started = time.perf_counter()
        case, transport = execution.case, execution.transport
        expect = case.expected(transport, execution.format)
        self._read_denials()
        self._denials.clear()
        line: Line | None = None
        try:
            line, answer, before = await self._attack(execution)
            await self._settled()
            red, bypass = self._judge(answer, expect, before)
        except Exception as err:  # of a case that cannot be built or sent, the others are run all the same
            answer, red, bypass = Answer(), f"not executed: {err!r}", False
        finally:
            if line is not None:
                line.close()
        if not red and (said := await self._call_cleanly(transport, execution.format)):
            red = f"a clean call afterwards: {said}"
        await self.relay.until_open(len(self._clean))
        return Result(execution, red, bypass, answer.reason, time.perf_counter() - started)

    def _seen(self, *, socket: bool = False) -> _Seen:
        """What left the gateway so far; ``socket``: one is open there."""
        return _Seen(
            self.bed.provider.record.stat().st_size,
            self.relay.seen,
            self.world.tool.connections,
            len(self.world.tool.requests),
            len(self.world.looked_up),
            socket,
        )

    def _judge(self, answer: Answer, expect: Expect, before: _Seen) -> tuple[str, bool]:
        now = self._seen()
        if now.lines != before.lines:
            return "the provider got a request", True
        up = now.relayed[1] - before.relayed[1]
        if now.relayed[0] != before.relayed[0] or up > CLOSING_BYTES * before.socket:
            return "bytes or a connection went to the provider", True
        if expect.arrives_without:
            return self._judge_arrival(answer, expect, before, now)
        if (now.tool_connections, now.tool_requests) != (before.tool_connections, before.tool_requests):
            return "bytes or a connection went to the tool's server", True
        if now.looked_up != before.looked_up and not set(_LOOKED_UP).intersection(expect.reasons):
            return f"a name was looked up: {self.world.looked_up[before.looked_up :]}", True
        if answer.status and answer.status < 400:
            return f"answered with {answer.status}", True
        if before.socket and answer.code not in expect.codes:
            return f"close code {answer.code}, expected {expect.codes}", False
        if answer.reason not in expect.reasons:
            return f"reason {answer.reason}, expected {' or '.join(expect.reasons)}", False
        if expect.statuses and answer.status not in expect.statuses:
            return f"status {answer.status}, expected {expect.statuses}", False
        return self._judge_denial(answer, expect), False

    def _judge_arrival(self, answer: Answer, expect: Expect, before: _Seen, now: _Seen) -> tuple[str, bool]:
        """A call that passes, without what must not."""
        if answer.status != 200 or now.tool_requests != before.tool_requests + 1:
            return f"did not arrive: {answer.status} {answer.reason}", False
        values = self._values(BASES["tool_call"], "egress_connect", self._token)
        values |= {"crm": CRM_SECRET.encode()}
        head, body = self.world.tool.requests[-1]
        arrived = (head + body).lower()
        for text in expect.arrives_without:
            if expand(text, values).lower() in arrived:
                return f"{text} arrived", True
        missing = [text for text in expect.arrives_with if expand(text, values).lower() not in arrived]
        return (f"{missing[0]} did not arrive", False) if missing else ("", False)

    def _judge_denial(self, answer: Answer, expect: Expect) -> str:
        self._read_denials()
        ours = "x-clawproxy-receipt-id" in answer.headers
        if expect.denial == "none" and not ours:
            return ""
        if expect.denial == "recorded" and not ours:
            found = list(self._denials.values())
            if not found:
                return "no denial in any journal"
            record = found[-1]
            if record["payload"]["reason"] not in expect.reasons:
                return f"the denial says {record['payload']['reason']}"
        else:
            named = answer.headers.get("x-clawproxy-receipt-id", "")
            if named not in self._denials:
                return "the answer's denial is in no journal"
            record = self._denials[named]
            if record["payload"]["reason"] != answer.reason:
                return f"the denial says {record['payload']['reason']}"
        try:
            check_envelope_shape(record, ENVELOPE_TYPES["denial"])
            check_envelope_signature(record)
        except ClawproxyError as err:
            return f"the denial does not verify: {err.message}"
        return "" if record["signer_did"] == self.bed.keys[Role.RECEIPT].did else "the denial has another signer"

    def _read_denials(self) -> None:
        state = self.bed.state
        for path in [*(state / "gateway").glob("*.jsonl"), *(state / "jobs").glob("*/receipts.jsonl")]:
            tail = self._tails.setdefault(path, _Tail(path))
            for line in tail.lines():
                if line["t"] == "denial":
                    self._denials[line["body"]["payload"]["receipt_id"]] = line["body"]

    async def _settled(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self.bed.gateway.gate.open_calls:  # noqa: ASYNC110 - a test waits
                    await asyncio.sleep(0.002)

    # -- the attack ------------------------------------------------------------------------------------------------

    async def _attack(self, execution: Execution) -> tuple[Line, Answer, _Seen]:
        case, transport, base = execution.case, execution.transport, BASES[execution.format]
        send, before = case.send, self._seen()
        token = self._token_of(case)
        values = self._values(base, transport, token)
        line, refused = await self._open(transport, base, send.get("connect", {}), values)
        if refused is not None:
            return line, refused, before
        if transport in SOCKETS:
            return line, *await self._attack_socket(line, execution, values, before)
        if send.get("after_clean"):
            await line.send(self._clean_request(transport, base))
            first = await line.answer()
            assert first.status == 200, f"the clean call before: {first.status} {first.body[:300]!r}"
            before = self._seen()
        sending = asyncio.create_task(self._send(line, request_bytes(send, base, transport, values), send))
        may_wait = "silent" in case.expected(transport, execution.format).reasons
        answer = await line.answer(send.get("method", "POST"), 1.0 if may_wait else ANSWER_TIMEOUT_S)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return line, answer, before

    async def _attack_socket(
        self, line: Line, execution: Execution, values: dict[str, bytes], before: _Seen
    ) -> tuple[Answer, _Seen]:
        """The handshake; if it passes, the frames of the case, or its body as one."""
        send, transport = execution.case.send, execution.transport
        base = BASES[execution.format].on(transport)
        await line.send(request_bytes(send, base, transport, values))
        answer = await line.answer("GET")
        frames = send.get("frames", [{"body": send["body"]}] if "body" in send else [])
        if answer.status != 101 or not frames:
            return answer, before
        await self._settled()
        if send.get("after_clean"):
            await line.send(frame_bytes("CLEAN", base, values))
            first = await line.socket_end(base.last)
            assert first.status == 200, f"the clean message before: {first.reason} {first.body[:300]!r}"
        before = self._seen(socket=True)
        await line.send(b"".join(frame_bytes(frame, base, values) for frame in frames))
        if send.get("hang_up"):
            line.close()
        may_wait = "silent" in execution.case.expected(transport, execution.format).reasons
        return await line.socket_end(timeout_s=1.0 if may_wait else ANSWER_TIMEOUT_S), before

    @staticmethod
    async def _send(line: Line, raw: bytes, send: Any) -> None:
        await line.send(raw)
        if send.get("hang_up"):
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError, RuntimeError):
                if line.writer.can_write_eof():
                    line.writer.write_eof()
                else:
                    line.close()

    def _token_of(self, case: Case) -> bytes:
        if "token" not in case.send and "contract" not in case.send:
            return self._token
        job_id = f"j-{case.id}" if "contract" in case.send else JOB
        pinned = self.bed.policy_hash
        if "contract" in case.send:
            pinned = place_contract(self.bed, case.send["contract"], case.id)
        return forge(self.bed, case.send.get("token", {}), job_id, pinned)

    def _values(self, base: Base, transport: str, token: bytes) -> dict[str, bytes]:
        ports = (self.world.tool.port, self.world.tool.plain_port)
        return values_of(base, transport, token, self._token, self._other_token, ports)

    def _clean_request(self, transport: str, base: Base) -> bytes:
        values = self._values(base, transport, self._token)
        return request_bytes({}, base, transport, values)

    async def _open(
        self, transport: str, base: Base, connect: dict[str, Any], values: dict[str, bytes]
    ) -> tuple[Line, Answer | None]:
        """A connection as the transport has it; an answer where the tunnel was refused."""
        listener = "reverse" if transport in ("reverse", "bare", "compat", "websocket") else "regular"
        address = urlsplit(self.bed.gateway.addresses[listener])
        assert address.hostname
        assert address.port
        line = Line(*await asyncio.open_connection(address.hostname, address.port, limit=1 << 20))
        if transport not in ("connect", "websocket_connect", "egress_connect"):
            return line, None
        authority = expand(connect.get("authority", f"{base.host}:{base.port}"), values)
        more = b"".join(b"%b: %b\r\n" % (expand(n, values), expand(v, values)) for n, v in connect.get("headers", []))
        version = connect.get("version", "HTTP/1.1").encode()
        host = b"" if any(n == "host" for n, _ in connect.get("headers", [])) else b"host: " + authority + b"\r\n"
        if base.egress and (given := connect.get("credential", "Basic {{basic}}")):
            more += b"proxy-authorization: " + expand(given, values) + b"\r\n"
        await line.send(b"CONNECT " + authority + b" " + version + b"\r\n" + host + more + b"\r\n")
        told = await line.answer("CONNECT")
        if told.status != 200:
            return line, told
        if connect.get("plain"):
            return line, None
        name = connect.get("sni", base.host)
        try:
            context = self._tls if name == base.host else self._any_name
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await line.writer.start_tls(context, server_hostname=name or None)
        except (ssl.SSLError, ConnectionError, TimeoutError, ValueError):
            return line, Answer(ended="closed")
        return line, None

    # -- the clean call --------------------------------------------------------------------------------------------

    async def _call_cleanly(self, transport: str, name: str) -> str:
        """A clean call on the same kind of connection; empty if it was answered. The connection is kept for the next
        one, and made anew when the gateway has closed it. (Plain HTTP through the proxy port has no clean call: the
        tunnel of the same listener stands for it.)"""
        transport = "connect" if transport == "regular" else transport
        base, key = BASES[name], (transport, BASES[name].host)
        if transport in SOCKETS:
            return await self._say_cleanly(transport, base)
        for fresh in (False, True):
            line = self._clean.get(key)
            if line is None or fresh:
                if line is not None:
                    line.close()
                    await self.relay.until_open(len(self._clean) - 1)
                line, refused = await self._open(transport, base, {}, self._values(base, transport, self._token))
                if refused is not None:
                    return f"{refused.status} {refused.reason}"
                self._clean[key] = line
            await line.send(self._clean_request(transport, base))
            answer = await line.answer()
            if answer.status == 200:
                return ""
        return f"{answer.status} {answer.reason}"

    async def _say_cleanly(self, transport: str, base: Base) -> str:
        """A clean response on a new socket."""
        values = self._values(base, transport, self._token)
        line, refused = await self._open(transport, base, {}, values)
        try:
            if refused is not None:
                return f"{refused.status} {refused.reason}"
            await line.send(request_bytes({}, base, transport, values))
            answer = await line.answer("GET")
            if answer.status != 101:
                return f"handshake {answer.status} {answer.reason}"
            await line.send(frame_bytes("CLEAN", base.on(transport), values))
            answer = await line.socket_end(base.last)
            if answer.status == 200:
                await line.send(_GOODBYE)
                await line.socket_end()
                return ""
            return f"{answer.status} {answer.reason}"
        finally:
            line.close()

    async def close(self) -> None:
        for line in self._clean.values():
            line.close()


@contextlib.asynccontextmanager
async def running_runner(folder: Path, provider: Provider, **gateway_keys: Any) -> AsyncIterator[Runner]:
    """A gateway before a counted way to ``provider``. Denials beyond 50 a second are counted and not written by a
    gateway as it ships; here each is written, so that each can be looked at."""
    port = urlsplit(provider.url).port
    assert port
    relay = Relay(port)
    await relay.start()
    counted = dataclasses.replace(provider, url=relay.url)
    rate = {"max_calls_per_minute_per_job": 600_000}
    async with tool_server(Path(provider.ca).parent) as tool:
        world = World(tool)
        async with running_bed(
            folder / "state",
            counted,
            contract=world.contract(),
            sections=world.sections(counted, folder),
            resolve=world.resolve,
            **{**rate, **gateway_keys},
        ) as bed:
            gateway: Any = bed.gateway
            gateway.jobs._limits = dataclasses.replace(gateway.jobs._limits, denials_per_second=10**6, denials=10**6)
            gateway._refusal_log._rate = PerSecond(10**6)
            runner = Runner(bed, relay, world)
            try:
                yield runner
            finally:
                await runner.close()
    await relay.stop()
