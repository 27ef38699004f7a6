"""Stops and revocations on a running gateway: new calls, live streams, sockets, the evidence, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons import stopping
from clawproxy.addons.admin import call_admin
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.order_desk import give
from clawproxy.addons.stopping import Stopping
from clawproxy.policies.orders import Mode, Revoked, Scope
from clawproxy.receipts.job import Job
from clawproxy.receipts.order_book import OrderBook
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey
from websockets.exceptions import ConnectionClosed

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, Bed, chat_body, running_bed
from .kill_ground import lay_ground, running_forks
from .raw_client import Answer, RawClient
from .test_egress import _inside, egress_bed
from .test_websocket import create, opened, turn

STREAMS = 200
TOOL = {"type": "function", "function": {"name": "ticket_read", "parameters": {}}}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stand still for two seconds, which is all that a job has to record an order."""
    monkeypatch.setattr(stopping, "_NOTE_WITHIN_S", 5.0)


def _book(state: Path, key: SigningKey) -> OrderBook:
    return OrderBook(state / "orders", key)


async def stop(bed: Bed, scope: Scope, name: str = "", mode: Mode = Mode.STOP, reason: str = "test") -> Any:
    book = _book(bed.state, bed.keys[Role.RECEIPT])
    given, _ = await give(book, lambda o, now: o.with_stop(scope, name, mode, reason, now), time.time_ns() // 10**6)
    assert given.fault is None
    assert given.unconfirmed == ()
    return given


async def resume(bed: Bed, scope: Scope, name: str = "") -> Any:
    book = _book(bed.state, bed.keys[Role.RECEIPT])
    given, _ = await give(book, lambda o, _: o.without(scope, name, None), time.time_ns() // 10**6)
    return given


async def revoke(bed: Bed, kind: Revoked, name: str) -> Any:
    book = _book(bed.state, bed.keys[Role.RECEIPT])
    given, _ = await give(book, lambda o, now: o.with_revocation(kind, name, "", now), time.time_ns() // 10**6)
    return given


def events(bed: Bed, kind: str, job_id: str = "job-1") -> list[dict[str, Any]]:
    return [e["detail"] for e in bed.records("event", job_id) if e["event"]["event_type"] == kind]


@pytest.mark.parametrize(
    ("scope", "name"),
    [(Scope.ALL, ""), (Scope.JOB, "job-1"), (Scope.CONTRACT, "HASH"), (Scope.PROVIDER, "openai")],
)
async def test_a_stopped_call_is_refused_and_passes_again_after_resume(
    tmp_path: Path, provider: Provider, scope: Scope, name: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        name = bed.policy_hash if name == "HASH" else name
        token = bed.token()
        assert (await bed.chat(token=token)).status == 200
        before = len(provider.seen())
        await stop(bed, scope, name, reason="odd traffic")
        refused = await bed.chat(token=token)
        assert refused.status == 403
        assert refused.refusal["reason"] == "STOPPED_BY_OPERATOR"
        assert "odd traffic" in refused.json["error"]["message"]
        assert len(provider.seen()) == before
        await resume(bed, scope, name)
        assert (await bed.chat(token=token)).status == 200
        assert [e["scope"] for e in events(bed, "stopped")] == [str(scope)]
        assert [e["lifts"] for e in events(bed, "resumed")] == [1]
        assert bed.records("denial")[0]["reason"] == "STOPPED_BY_OPERATOR"
        await bed.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


async def test_who_still_waits_for_an_answer_is_told_of_the_stop(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token, before = bed.token(), len(provider.seen())
        waiting = [asyncio.create_task(bed.chat(f"slow:60000 {n}", token=token)) for n in range(3)]
        await until(lambda: len(provider.seen()) == before + 3)
        await stop(bed, Scope.ALL, reason="odd traffic")
        for answer in await asyncio.gather(*waiting):
            assert answer.status == 403
            assert answer.refusal["reason"] == "STOPPED_BY_OPERATOR"
            assert "odd traffic" in answer.json["error"]["message"]
        assert [r["metadata"]["clawproxy"]["outcome"] for r in bed.records("receipt")] == ["stopped"] * 3
        await bed.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


async def test_a_stop_of_one_job_leaves_the_others_alone(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        await bed.chat(token=bed.token("job-1"))
        await bed.chat(token=bed.token("job-2"))
        given = await stop(bed, Scope.JOB, "job-1")
        assert (await bed.chat(token=bed.token("job-1"))).status == 403
        assert (await bed.chat(token=bed.token("job-2"))).status == 200
        assert (await bed.chat(token=bed.token("job-10"))).status == 200
        assert given.answers[0]["noted"] == ["job-1"]
        assert events(bed, "stopped", "job-2") == []


async def test_a_new_call_is_refused_at_once(tmp_path: Path, provider: Provider) -> None:
    """Twenty stops a round; the time from the return of the command to the refusal in the agent's hands. The best of
    up to forty rounds counts, since others share these cores and this disk."""
    rounds: list[float] = []
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        client = await bed.client()

        async def slowest_of(stops: int) -> float:
            return max([await refused_after() for _ in range(stops)])

        async def refused_after() -> float:
            answer = await client.request("POST", "/openai/v1/chat/completions", bed.headers(token), chat_body())
            assert answer.status == 200
            await stop(bed, Scope.ALL)
            began = time.monotonic()
            answer = await client.request("POST", "/openai/v1/chat/completions", bed.headers(token), chat_body())
            took_s = time.monotonic() - began
            assert answer.status == 403
            await resume(bed, Scope.ALL)
            return took_s

        while len(rounds) < 40 and min(rounds, default=1.0) >= 0.05:
            rounds.append(await slowest_of(20))
    print(f"refused {1000 * min(rounds):.1f} ms after the stop returned, at most (20 stops, round {len(rounds)})")
    assert min(rounds) < 0.05


async def _stream_to(
    host: str | None, port: int | None, token: str, started: asyncio.Event, text: str = "events:400 slow:500"
) -> tuple[bytes, float]:
    """A live stream, read until it ends: all of its bytes, and when it ended."""
    assert host
    assert port
    client = await RawClient.open(host, port)
    body = chat_body(text, stream=True)
    head = f"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-cst: {token}\r\nconnection: close\r\n"
    await client.send(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    got = await client.reader.readuntil(b"data: ")
    started.set()
    assert got.startswith(b"HTTP/1.1 200")
    got += await client.reader.read(-1)
    at = time.monotonic()
    await client.close()
    return got, at


async def _stream(bed: Bed, token: str, started: asyncio.Event) -> tuple[bytes, float]:
    url = urlsplit(bed.gateway.addresses["reverse"])
    return await _stream_to(url.hostname, url.port, token, started, "events:400 slow:100")


async def test_two_hundred_live_streams_are_cut_at_once_each_with_its_receipt(
    tmp_path: Path, provider: Provider
) -> None:
    """The gateway in a process of its own. Up to twenty rounds, three at least; the best one counts, since others share
    these cores."""
    limits = {"max_open_calls_per_job": 256, "max_connections_per_peer": 1024}
    ground = lay_ground(tmp_path, provider, limits=limits)
    state, book, best = ground.state, _book(ground.state, ground.keys[Role.RECEIPT]), 9.9
    with running_forks(ground.settings) as forks:
        ready = forks.start()
        url = urlsplit(ready["reverse"])
        for n in range(20):
            if n >= 3 and best < 0.25:
                break
            job_id = f"job-{n}"
            text = ground.token(job_id)
            begun = [asyncio.Event() for _ in range(STREAMS)]
            streams = [asyncio.create_task(_stream_to(url.hostname, url.port, text, event)) for event in begun]
            async with asyncio.timeout(120):
                await asyncio.gather(*(event.wait() for event in begun))
            began = time.monotonic()
            given, _ = await give(book, _stop_job(job_id), time.time_ns() // 10**6)
            returned = time.monotonic() - began
            ended = await asyncio.gather(*streams)
            took = sorted(at - began for _, at in ended)
            p99 = took[int(0.99 * STREAMS) - 1]
            best = min(best, p99)
            print(
                f"{STREAMS} live streams cut: p50 {1000 * took[STREAMS // 2]:.0f} ms, p99 {1000 * p99:.0f} ms, last "
                f"{1000 * took[-1]:.0f} ms after the command began; it returned after {1000 * returned:.0f} ms"
            )
            assert given.answers[0]["halted"] == STREAMS
            assert not any(answer.endswith(b"0\r\n\r\n") for answer, _ in ended), "a cut answer looks whole"
            await call_admin(Path(ready["admin"]), "seal", job_id=job_id)
            lines = [
                json.loads(line) for line in (state / "jobs" / job_id / "receipts.jsonl").read_bytes().splitlines()
            ]
            ours = [line["body"]["payload"]["metadata"]["clawproxy"] for line in lines if line["t"] == "receipt"]
            assert len(ours) == STREAMS
            assert {one["outcome"] for one in ours} == {"stopped"}
            assert all("STOPPED_BY_OPERATOR" in one["detail"] and "cut them" in one["detail"] for one in ours)
            report = verify_path(state / "jobs" / job_id, ground.trust)
            assert not [finding for finding in report.findings if finding.severity == "fail"], report.findings
        os.kill(ready["pid"], signal.SIGTERM)
    assert best < 0.25


def _stop_job(job_id: str) -> Any:
    return lambda orders, now: orders.with_stop(Scope.JOB, job_id, Mode.STOP, "cut them", now)


@pytest.mark.parametrize("kind", list(Revoked))
async def test_what_is_revoked_is_refused_and_its_streams_are_cut(
    tmp_path: Path, provider: Provider, kind: Revoked
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token(jti="id-7")
        began = asyncio.Event()
        live = asyncio.create_task(_stream(bed, token, began))
        await began.wait()
        grant = bed.gateway.gate.open_calls[0].grant
        assert grant is not None
        name = {
            Revoked.TOKEN: grant.token_hash_hex,
            Revoked.JTI: "id-7",
            Revoked.JOB: "job-1",
            Revoked.CONTRACT: bed.policy_hash,
        }[kind]
        given = await revoke(bed, kind, name)
        assert given.answers[0]["halted"] == 1
        assert given.answers[0]["noted"] == ["job-1"]
        async with asyncio.timeout(20):  # the stream would take forty seconds
            await live
        refused = await bed.chat(token=token)
        assert refused.refusal["reason"] == "TOKEN_REVOKED"
        await bed.settled()
        assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] == "stopped"
        assert [e["name"] for e in events(bed, "revoked")] == [name]
        await bed.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


async def test_without_tools_the_agent_stays_online(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        assert (await bed.chat(tools=[TOOL])).status == 200
        await stop(bed, Scope.JOB, "job-1", Mode.NO_TOOLS)
        assert (await bed.chat()).status == 200
        refused = await bed.chat(tools=[TOOL])
        assert refused.refusal["reason"] == "TOOLS_STOPPED"
        await resume(bed, Scope.JOB, "job-1")
        assert (await bed.chat(tools=[TOOL])).status == 200


async def test_read_only_tools_are_those_that_the_contract_lists(tmp_path: Path, provider: Provider) -> None:
    contract = {
        **CONTRACT,
        "allowed_tools": ["ticket.read", "ticket.write"],
        "tool_classes": {"ticket.read": ["ticket_read"], "ticket.write": ["ticket_write"]},
        "read_only_tools": ["ticket.read"],
    }
    write = {"type": "function", "function": {"name": "ticket_write", "parameters": {}}}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        await stop(bed, Scope.ALL, "", Mode.READ_ONLY_TOOLS)
        assert (await bed.chat(tools=[TOOL])).status == 200
        assert (await bed.chat(tools=[TOOL, write])).refusal["reason"] == "TOOLS_STOPPED"


@pytest.mark.parametrize("name", ["ticket_read", "Ticket_Read", "ticket.read", "ticket_*"])
async def test_one_tool_is_stopped_by_its_wire_name_or_the_contracts_word(
    tmp_path: Path, provider: Provider, name: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        await stop(bed, Scope.TOOL, name)
        assert (await bed.chat()).status == 200
        assert (await bed.chat(tools=[TOOL])).refusal["reason"] == "TOOLS_STOPPED"


async def test_an_order_is_in_force_before_it_is_on_record_and_no_job_holds_up_the_others(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Job.note

    async def note(self: Job, event_type: str, detail: dict[str, Any]) -> None:
        if self.job_id == "job-1":
            await asyncio.sleep(3600)
        await real(self, event_type, detail)

    async with running_bed(tmp_path / "s", provider) as bed:
        tokens = [bed.token("job-1"), bed.token("job-2")]
        for token in tokens:
            assert (await bed.chat(token=token)).status == 200
        monkeypatch.setattr(Job, "note", note)
        giving = asyncio.create_task(stop(bed, Scope.ALL))
        await until(lambda: events(bed, "stopped", "job-2"))
        assert not giving.done()
        assert [(await bed.chat(token=token)).status for token in tokens] == [403, 403]
        assert len(events(bed, "stopped", "job-2")) == 1
        given = await giving
        assert given.answers[0]["noted"] == ["job-2"]
        assert given.answers[0]["not_noted"] == ["job-1"]


async def test_orders_outlive_a_kill_and_are_given_while_no_gateway_runs(tmp_path: Path, provider: Provider) -> None:
    ground = lay_ground(tmp_path, provider)
    book = _book(ground.state, ground.keys[Role.RECEIPT])

    async def call(address: str, text: str) -> Answer:
        url = urlsplit(address)
        client = await RawClient.open(str(url.hostname), int(url.port or 0))
        headers = {"host": "gateway", "content-type": "application/json", "x-cst": text}
        answer = await client.request("POST", "/openai/v1/chat/completions", headers, chat_body())
        await client.close()
        return answer

    now = time.time_ns() // 10**6
    with running_forks(ground.settings) as forks:
        ready = forks.start()
        one, two, three = (ground.token(f"job-{n}") for n in (1, 2, 3))
        assert [(await call(ready["reverse"], t)).status for t in (one, two, three)] == [200, 200, 200]
        given, _ = await give(book, lambda o, at: o.with_stop(Scope.JOB, "job-1", Mode.STOP, "", at), now)
        assert len(given.answers) == 1
        os.kill(ready["pid"], signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{ready['pid']}").exists())

        down, _ = await give(book, lambda o, at: o.with_revocation(Revoked.JOB, "job-2", "", at), now)
        assert down.answers == ()
        assert down.unconfirmed == ()

        ready = forks.start()
        statuses = {}
        for name, text in (("job-1", one), ("job-2", two), ("job-3", three)):
            answer = await call(ready["reverse"], text)
            statuses[name] = answer.refusal["reason"] if answer.status == 403 else answer.status
        print(f"after kill -9 and a restart: {statuses}")
        assert statuses == {"job-1": "STOPPED_BY_OPERATOR", "job-2": "TOKEN_REVOKED", "job-3": 200}
        os.kill(ready["pid"], signal.SIGTERM)


async def test_a_damaged_file_of_orders_lets_no_gateway_start(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        await stop(bed, Scope.JOB, "job-9")
    path = tmp_path / "s" / "orders" / "orders.json"
    path.write_bytes(path.read_bytes().replace(b"job-9", b"job-8"))
    gateway = Gateway(bed.gateway.settings)
    with pytest.raises(ClawproxyError) as caught:
        await gateway.start()
    assert caught.value.reason == "ORDERS_DAMAGED"
    assert "give every stop and revocation again" in caught.value.remedy


async def test_an_order_and_a_gateway_that_starts_do_not_miss_each_other(tmp_path: Path, provider: Provider) -> None:
    """Ten gateways start while ten orders are given: each has all that was given before it answers."""
    async with running_bed(tmp_path / "s", provider) as bed:
        missed = 0
        for n in range(10):
            gateway = Gateway(bed.gateway.settings)
            given, _ = await asyncio.gather(stop(bed, Scope.JOB, f"job-x{n}"), gateway.start())
            missed += gateway.stopping.orders.last_number != given.orders.last_number
            await gateway.stop(0)
        assert missed == 0


@contextlib.asynccontextmanager
async def started_again(bed: Bed) -> AsyncIterator[Bed]:
    """Another gateway on the state directory of one that has ended."""
    gateway = Gateway(bed.gateway.settings)
    await gateway.start()
    try:
        yield Bed(bed.state, gateway, bed.provider, bed.keys, bed.policy_hash)
    finally:
        await gateway.stop(1)


async def test_a_stop_that_the_state_directory_forgot_stands_again_when_its_job_is_opened(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        await bed.chat(token=token)
        await stop(bed, Scope.JOB, "job-1")
    (tmp_path / "s" / "orders" / "orders.json").unlink()
    async with started_again(bed) as again:
        before = len(provider.seen())
        assert (await again.chat(token=token)).refusal["reason"] == "STOPPED_BY_OPERATOR"
        assert len(provider.seen()) == before


async def test_a_job_lifted_while_it_was_closed_is_told_so_before_its_next_call(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        await bed.chat(token=token)
        await stop(bed, Scope.JOB, "job-1")
    await resume(bed, Scope.JOB, "job-1")
    async with started_again(bed) as again:
        assert (await again.chat(token=token)).status == 200
        assert [e["lifts"] for e in events(again, "resumed")] == [1]
        await again.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


# -- sockets, calls of tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [True, False])
async def test_a_stop_closes_sockets_at_once_with_and_without_an_open_response(
    tmp_path: Path, provider: Provider, busy: bool
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, opened(bed) as socket:
        await turn(socket)
        if busy:
            await socket.send(create("events:400 slow:100"))
            await socket.recv()
        began = time.monotonic()
        given = await stop(bed, Scope.JOB, "job-1")
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(20):  # the response would take forty seconds
                while True:
                    await socket.recv()
        print(f"socket closed {1000 * (time.monotonic() - began):.0f} ms after the command began")
        assert given.answers[0]["halted"] >= 1
        await bed.settled()
        outcomes = [r["metadata"]["clawproxy"]["outcome"] for r in bed.records("receipt")]
        assert outcomes == ["complete", "complete", *(["stopped"] if busy else [])]
        await bed.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


async def test_calls_of_tools_to_their_hosts_stop_with_the_tools_and_reading_ones_go_on_in_read_only_mode(
    tmp_path: Path, provider: Provider
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):

        async def ask(method: str) -> int:
            client = await _inside(bed, tool)
            answer = await client.request(method, "/v1/echo", {"host": f"localhost:{tool.port}"}, b"")
            await client.close()
            return answer.status

        assert [await ask("GET"), await ask("POST")] == [200, 200]
        await stop(bed, Scope.JOB, "job-1", Mode.READ_ONLY_TOOLS)
        assert [await ask("GET"), await ask("POST")] == [200, 403]
        await stop(bed, Scope.JOB, "job-1", Mode.NO_TOOLS)
        assert [await ask("GET"), await ask("POST")] == [403, 403]
        assert (await bed.chat()).status == 200
        await resume(bed, Scope.JOB, "job-1")
        assert await ask("POST") == 200


# -- the checks can fail ---------------------------------------------------------------------------------------------


async def test_without_halting_a_live_stream_goes_on_under_a_stop(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopping, "_halt", lambda self: 0)
    async with running_bed(tmp_path / "s", provider) as bed:
        began = asyncio.Event()
        live = asyncio.create_task(_stream(bed, bed.token(), began))
        await began.wait()
        await stop(bed, Scope.ALL)
        await asyncio.sleep(0.5)
        assert not live.done()
        live.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await live


async def test_without_the_index_a_stopped_call_reaches_the_provider_and_the_bundle_says_so(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        await bed.chat(token=token)
        monkeypatch.setattr(bed.gateway.stopping._stops, "take", lambda orders: None)
        before = len(provider.seen())
        await stop(bed, Scope.ALL)
        assert (await bed.chat(token=token)).status == 200
        assert len(provider.seen()) == before + 1
        await bed.gateway.seal("job-1")
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert report.verdict is Verdict.FAILED
        assert report.reason == "CALL_WHILE_STOPPED"


class Slow:
    """The real steps, but ``pin`` waits at its end."""

    def __init__(self, real: Any, *, guarded: bool) -> None:
        self._real = real
        self._guarded = guarded
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def pin(self, call: Any) -> Any:
        verdict = self._real.pin(call)
        verdict = await verdict if hasattr(verdict, "__await__") else verdict
        self.waiting.set()
        await self.go_on.wait()
        if not self._guarded:
            call.halt = None
        return verdict


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_call_that_waits_in_a_step_is_refused_by_the_look_between_steps_and_by_nothing_else(
    tmp_path: Path, provider: Provider, guarded: bool
) -> None:
    slow: list[Slow] = []

    def wrap(real: Any) -> Any:
        slow.append(Slow(real, guarded=guarded))
        return slow[0]

    async with running_bed(tmp_path / "s", provider, wrap_steps=wrap) as bed:
        before = len(provider.seen())
        asking = asyncio.create_task(bed.chat())
        await slow[0].waiting.wait()
        await stop(bed, Scope.PROVIDER, "anthropic")  # of no concern to it
        assert bed.gateway.gate.open_calls[0].halt is None
        await stop(bed, Scope.CONTRACT, bed.policy_hash)
        slow[0].go_on.set()
        assert ((await asking).status == 403) is guarded
        assert len(provider.seen()) - before == (0 if guarded else 1)
