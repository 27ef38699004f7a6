"""What one job, and one client, may take of the gateway: each limit has its refusal, and a clean call still works."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from clawproxy.addons.connections import Connections
from clawproxy.addons.rates import Buckets

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, chat_body, running_bed

CHAT = "/openai/v1/chat/completions"
_CUT_S = 20.0
"""A client that trickles is cut after four seconds, far sooner than it would end; a busy machine takes longer."""


async def _reasons(bed: Bed, count: int, token: str | None = None) -> list[str]:
    answers = [await bed.chat(token=token) for _ in range(count)]
    return [answer.headers.get("x-clawproxy-reason", "200") for answer in answers]


# -- calls per minute ----------------------------------------------------------------------------------------------


async def test_a_job_that_calls_too_often_is_told_when_to_come_again(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_calls_per_minute_per_job=30) as bed:
        token = bed.token()
        assert await _reasons(bed, 30, token) == ["200"] * 30
        answer = await bed.chat(token=token)
        while answer.status == 200:  # as many as the calls took seconds
            answer = await bed.chat(token=token)
        assert answer.status == 429
        assert answer.refusal["reason"] == "RATE_LIMITED"
        wait_s = int(answer.headers["retry-after"])
        assert 1 <= wait_s <= 2, "one call every two seconds"
        assert "x-should-retry" not in answer.headers
        assert [r["reason"] for r in bed.records("denial")] == ["RATE_LIMITED"]
        await asyncio.sleep(wait_s)
        assert (await bed.chat()).status == 200


async def test_the_limit_is_the_jobs_whatever_its_agent_varies(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_calls_per_minute_per_job=2) as bed:
        assert (await bed.chat(token=bed.token(ttl_s=500))).status == 200
        assert (await bed.chat(token=bed.token(ttl_s=501))).status == 200
        headers = bed.headers(bed.token(ttl_s=502), x_forwarded_for="10.1.2.3", user_agent="another", x_run_id="r1")
        assert (await bed.post(CHAT, chat_body(), headers)).refusal["reason"] == "RATE_LIMITED"
        client = await bed.tunnel("api.openai.com")
        inside = bed.headers(host="api.openai.com")
        answer = await client.request("POST", "/v1/chat/completions", inside, chat_body())
        assert answer.refusal["reason"] == "RATE_LIMITED"
        assert (await bed.chat(token=bed.token("job-2"))).status == 200, "another job has its own"


async def test_calls_that_are_refused_count_too(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_calls_per_minute_per_job=3) as bed:
        reasons = [(await bed.post(CHAT, b"{}")).headers["x-clawproxy-reason"] for _ in range(4)]
        assert reasons[3] == "RATE_LIMITED"
        assert "RATE_LIMITED" not in reasons[:3]


async def test_without_the_buckets_nothing_holds_a_job_back(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Buckets, "take", lambda *_: 0.0)
    async with running_bed(tmp_path / "s", provider, max_calls_per_minute_per_job=3) as bed:
        assert await _reasons(bed, 8) == ["200"] * 8


# -- connections per job -------------------------------------------------------------------------------------------


async def test_a_job_has_so_many_connections_and_another_job_its_own(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_connections_per_job=3) as bed:
        clients = [await bed.client() for _ in range(4)]
        first, *_, last = clients
        headers = bed.headers()
        for client in clients[:3]:
            assert (await client.request("POST", CHAT, headers, chat_body())).status == 200
        answer = await last.request("POST", CHAT, headers, chat_body())
        assert (answer.status, answer.refusal["reason"]) == (429, "TOO_MANY_CONNECTIONS")
        assert [r["reason"] for r in bed.records("denial")] == ["TOO_MANY_CONNECTIONS"]
        other = bed.headers(bed.token("job-2"))
        assert (await last.request("POST", CHAT, other, chat_body())).status == 200
        assert (await first.request("POST", CHAT, bed.headers(), chat_body())).status == 200
        await first.close()
        await until(lambda: bed.gateway._connections.count("job-1") == 2)
        assert (await last.request("POST", CHAT, bed.headers(), chat_body())).status == 200


async def test_closed_connections_leave_nothing_behind(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        for _ in range(5):
            assert (await bed.chat()).status == 200
        connections = bed.gateway._connections
        await until(lambda: connections.count("job-1") == 0)
        await until(lambda: not connections._clients)
        assert not connections._jobs


async def test_without_the_count_a_job_takes_every_connection(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections, "join", lambda *_: True)
    async with running_bed(tmp_path / "s", provider, max_connections_per_job=1) as bed:
        clients = [await bed.client() for _ in range(3)]
        answers = [await client.request("POST", CHAT, bed.headers(), chat_body()) for client in clients]
        assert [answer.status for answer in answers] == [200, 200, 200]


# -- what a request may hold ---------------------------------------------------------------------------------------


async def test_depth_keys_and_header_fields_have_a_limit_that_is_configured(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_json_depth=10, max_json_nodes=200, max_headers=20) as bed:
        deep = chat_body(metadata={"a": [[[[[[[[[["x"]]]]]]]]]]})
        wide = chat_body(metadata={f"k{n}": "v" for n in range(120)})
        for body, rule in ((deep, "gateway.max_json_depth"), (wide, "gateway.max_json_nodes")):
            answer = await bed.post(CHAT, body)
            assert (answer.status, answer.refusal["reason"], answer.refusal["rule"]) == (413, "REQUEST_TOO_LARGE", rule)
        many = bed.headers(**{f"x_stainless_{n}": "v" for n in range(20)})
        answer = await bed.post(CHAT, chat_body(), many)
        assert (answer.refusal["reason"], answer.refusal["rule"]) == ("REQUEST_TOO_LARGE", "gateway.max_headers")
        assert (await bed.chat()).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o-mini","model":"gpt-5","messages":[]}',
        b"\xef\xbb\xbf" + chat_body(),
        b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"gpt-4o-mini","messages":[],"temperature":NaN}',
        b'{"model":"gpt-4o-mini","messages":[],"temperature":1e400}',
        b'{"model":"gpt-4o-mini","messages":[],"seed":9007199254740993}',
        chat_body() + b"{}",
        chat_body().decode().encode("utf-16"),
        b'{"Model":"gpt-5","model":"gpt-4o-mini","messages":[]}',
    ],
    ids=["twice", "bom", "surrogate", "nan", "infinite", "beyond 2^53", "text after", "utf-16", "reads like"],
)
async def test_a_body_with_two_readings_has_its_own_reason(tmp_path: Path, provider: Provider, body: bytes) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        answer = await bed.post(CHAT, body)
        told = answer.refusal
        assert (answer.status, told["reason"], told["step"]) == (400, "REQUEST_AMBIGUOUS", "read")
        assert len(provider.seen()) == before


# -- slow clients --------------------------------------------------------------------------------------------------


async def test_a_body_that_trickles_is_cut_and_recorded(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, request_timeout_s=4.0) as bed:
        client = await bed.client()
        await client.send(bed.chat_head(5000))
        started = time.monotonic()
        while not client.reader.at_eof() and time.monotonic() - started < _CUT_S:
            client.writer.write(b"x")
            await asyncio.sleep(0.1)
        assert client.reader.at_eof()
        await bed.settled()
        assert [r["reason"] for r in bed.refusals()] == ["REQUEST_TIMEOUT"]
        assert (await bed.chat()).status == 200


async def test_a_head_that_trickles_is_cut(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, request_timeout_s=4.0) as bed:
        client = await bed.client()
        started = time.monotonic()
        await client.send(f"POST {CHAT} HTTP/1.1\r\nx: ".encode())
        while not client.reader.at_eof() and time.monotonic() - started < _CUT_S:
            client.writer.write(b"x")
            await asyncio.sleep(0.1)
        assert client.reader.at_eof()
        assert (await bed.chat()).status == 200
