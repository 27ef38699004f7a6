"""Hostile answers of a provider (tests/abuse/d_streams.json), played byte for byte by a server in this process.

Judged is what the agent sees (status, whether the answer looks whole, headers and words that must not be there) and
what the receipt says (outcome, tool calls); then a clean call must still be answered.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from clawproxy.standin.certificate import ensure_certificates

from ..clawproxy.standin_process import Provider
from ..gateway.bed import Bed, running_bed
from .bodies import BASES, build_body
from .cases import HERE, CorpusError
from .runner import Line
from .texts import expand

_KEYS = frozenset({"id", "class", "title", "source", "format", "stream", "upstream", "end", "expect"})
_EXPECT = frozenset({"statuses", "complete", "outcomes", "absent_headers", "absent_text", "tool_calls"})
_CLEAN: dict[str, Any] = {
    "upstream": [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
    ]
}
CASES: list[dict[str, Any]] = json.loads((HERE / "d_streams.json").read_text())


@dataclass
class Player:
    """Answers each request with the pieces of ``case``."""

    case: dict[str, Any] = field(default_factory=lambda: _CLEAN)
    values: dict[str, bytes] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0
            )
            await reader.readexactly(length)
            for piece in self.case["upstream"]:
                if isinstance(piece, dict) and "drip" in piece:
                    for byte in expand(piece["drip"], self.values):
                        writer.write(byte.to_bytes())
                        await writer.drain()
                        await asyncio.sleep(0)
                    continue
                text = piece["text"] if isinstance(piece, dict) and "text" in piece else piece
                writer.write(expand(text, self.values))
                await writer.drain()
                await asyncio.sleep(0.01)
            if self.case.get("end") == "rst":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        writer.close()


@contextlib.asynccontextmanager
async def playing(folder: Path, provider: Provider) -> AsyncIterator[tuple[Bed, Player]]:
    """A gateway whose providers are a ``Player``."""
    ca, server_pem = ensure_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_pem)
    player = Player()
    server = await asyncio.start_server(player.serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with running_bed(folder / "state", dataclasses.replace(provider, url=url, ca=str(ca))) as bed:
        yield bed, player
    server.close()


def _values(provider: Provider, name: str) -> dict[str, bytes]:
    secret = provider.key(name).encode()
    return {
        "credential": secret,
        "credential_start": secret[:9],
        "credential_end": secret[9:],
        "credential_b64": base64.b64encode(secret),
    }


async def _call(bed: Bed, wire: str, stream: bool) -> tuple[int, dict[str, str], bytes, bool]:
    base = BASES[wire]
    body = build_body(base, [{"op": "set", "key": "stream", "value": stream}], {})
    address = urlsplit(bed.gateway.addresses["reverse"])
    assert address.hostname
    line = Line(*await asyncio.open_connection(address.hostname, address.port, limit=1 << 25))
    fields = "".join(f"{n}: {v}\r\n" for n, v in {**bed.headers(), "content-length": str(len(body))}.items())
    await line.send(f"POST {base.prefix}{base.path} HTTP/1.1\r\n{fields}\r\n".encode() + body)
    raw = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(31):
            answer = await line.answer(timeout_s=30)
            raw = answer.body
            line.close()
            return answer.status, answer.headers, raw, not answer.ended
    return 0, {}, raw, False


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_a_hostile_answer_is_told_as_it_was(tmp_path: Path, provider: Provider, case: dict[str, Any]) -> None:
    if unknown := (case.keys() - _KEYS) | (case["expect"].keys() - _EXPECT):
        raise CorpusError(f"{case['id']}: unknown keys {sorted(unknown)}")
    expect, name = case["expect"], BASES[case["format"]].provider
    async with playing(tmp_path, provider) as (bed, player):
        player.case, player.values = case, _values(provider, name)
        status, headers, body, complete = await _call(bed, case["format"], case["stream"])
        await bed.settled()
        receipts = bed.records("receipt")
        assert len(receipts) == 1
        told = receipts[0]["metadata"]["clawproxy"]
        seen = f"{status} complete={complete} {told['outcome']} {told.get('tool_calls')} {body[:200]!r}"
        assert told["outcome"] in expect["outcomes"], seen
        if expect.get("complete") is not None:
            assert complete == expect["complete"], seen
        if "statuses" in expect:
            assert status in expect["statuses"], seen
        for header in expect.get("absent_headers", []):
            assert header not in headers, seen
        said = body + b"\n".join(f"{n}: {v}".encode() for n, v in headers.items())
        for text in expect.get("absent_text", []):
            assert expand(text, player.values) not in said, seen
        if "tool_calls" in expect:
            assert told.get("tool_calls") == expect["tool_calls"], seen
        player.case = _CLEAN
        status, *_ = await _call(bed, case["format"], False)
        assert status == 200


def test_ids_are_unique() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)
