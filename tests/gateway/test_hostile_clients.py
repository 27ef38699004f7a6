"""A client that knows our source: what is judged is what is sent, and nobody without a token costs much."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, chat_body, running_bed
from .raw_client import RawClient

CHAT = "/openai/v1/chat/completions"


async def _send(bed: Bed, request_line: str, body: bytes = b"", **headers: str) -> bytes:
    client = await bed.client()
    fields = {**bed.headers(), "content-length": str(len(body)), **{n.replace("_", "-"): v for n, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    await client.send(f"{request_line} HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(30):
        return await client.reader.read(65536)


@pytest.mark.parametrize("method", ["post", "Post", "pOST"])
async def test_a_method_is_sent_as_it_was_judged(tmp_path: Path, provider: Provider, method: str) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        assert b"REQUEST_AMBIGUOUS" in await _send(bed, f"{method} {CHAT}", chat_body())
        assert len(provider.seen()) == before


async def test_an_absolute_target_inside_a_tunnel_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.tunnel("api.openai.com")
        target = "http://evil.example:22/v1/chat/completions"
        answer = await client.request("POST", target, bed.headers(host="api.openai.com"), chat_body())
        assert answer.status in (400, 403)
        assert bed.records("intent") == []


async def test_a_token_in_another_header_does_not_leave(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        headers = bed.headers(user_agent=f"agent {bed.token()}", x_stainless_authorization="Bearer sk-own")
        assert (await bed.post(CHAT, chat_body(), headers)).status == 200
        seen = provider.seen()[-1]
        assert seen["leaks"] == []
        assert "user-agent" not in seen["headers"]
        assert "x-stainless-authorization" not in seen["headers"]


async def test_two_tokens_of_a_tunnel_and_a_call_inside_are_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        outer = base64.b64encode(f"job:{bed.token()}".encode()).decode()
        inner = base64.b64encode(f"job:{bed.token(job_id='job-2')}".encode()).decode()
        client = await bed.tunnel("api.openai.com", credential=outer)
        headers = {k: v for k, v in bed.headers(host="api.openai.com").items() if k != "x-cst"}
        headers["proxy-authorization"] = f"Basic {inner}"
        answer = await client.request("POST", "/v1/chat/completions", headers, chat_body())
        assert answer.refusal["reason"] == "TOKEN_AMBIGUOUS"


async def test_what_a_refused_body_says_is_not_kept(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        for body in (b'{"my secret is hunter2":1,"my secret is hunter2":2}', b'{"n":hunter2}', b'{"hunter2":1}'):
            assert (await bed.post(CHAT, body)).status == 400
        journal = (bed.state / "jobs" / "job-1" / "receipts.jsonl").read_bytes()
        assert b"hunter2" not in journal


async def test_a_large_body_without_a_token_is_thrown_away_as_it_comes(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8000000\r\n\r\n"
        await client.send(head.encode() + b" " * 4_000_000)
        await until(bed.refusals)
        (call,) = bed.gateway.gate.open_calls
        assert call.recorded, "the call was judged by its head"
        assert not call.flow.request.raw_content
        await client.send(b" " * 4_000_000)
        assert (await client.reader.read(65536)).startswith(b"HTTP/1.1 401")
        assert [r["reason"] for r in bed.refusals()] == ["TOKEN_REQUIRED"]


async def test_heads_without_a_token_take_no_room_from_others(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        for _ in range(20):
            client = await bed.client()
            await client.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        await until(lambda: len(bed.refusals()) == 20)
        assert (await bed.chat("x" * 70_000)).status == 200


async def test_small_chunked_calls_take_the_room_of_their_size(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_body_bytes=200_000) as bed:
        head = "".join(f"{n}: {v}\r\n" for n, v in bed.headers().items())
        body = chat_body("events:3000 slow:20", stream=True)
        for _ in range(20):
            client = await bed.client()
            start = f"POST {CHAT} HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
            await client.send(start + body + b"\r\n0\r\n\r\n")
            await client.reader.readuntil(b"data:")
        assert len(bed.gateway.gate.open_calls) == 20
        assert (await bed.chat("x" * 70_000)).status == 200


async def test_a_token_that_expires_while_its_body_comes_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        body = chat_body("x" * 70_000)
        head = bed.chat_head(len(body), bed.token(ttl_s=2))
        client = await bed.client()
        await client.send(head + body[:10])
        await asyncio.sleep(3)
        await client.send(body[10:])
        async with asyncio.timeout(30):
            assert b"TOKEN_EXPIRED" in await client.reader.read(65536)
        assert len(provider.seen()) == before


async def test_line_ends_before_a_head_do_not_lift_its_bound(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        await client.send(b"\r\n" * 5000)
        async with asyncio.timeout(30):
            assert (await client.reader.read(65536)).startswith(b"HTTP/1.1 431")
        polite = await bed.client()
        await polite.send(b"\r\n")
        assert (await polite.request("POST", CHAT, bed.headers(), chat_body())).status == 200


async def test_large_bodies_are_read_a_few_at_a_time(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_body_bytes=100_000) as bed:
        head = bed.chat_head(100_000)
        clients: list[RawClient] = []
        for _ in range(17):
            await until(lambda: len(bed.gateway.gate.open_calls) == len(clients))
            clients.append(await bed.client())
            await clients[-1].send(head + b" " * 1000)
        await clients[16].send(b" " * 99_000)
        assert b"GATEWAY_BUSY" in await clients[16].reader.read(65536)
        for client in clients:
            await client.close()
        await bed.settled()
        assert (await bed.chat("x" * 70_000)).status == 200
