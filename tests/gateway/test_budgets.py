"""Budgets through a whole gateway: reserved before, settled after, never more than there is; proved by the bundle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import budgeting
from clawproxy.addons.gateway import Gateway
from clawproxy.receipts import budget, progress
from clawproxy.receipts.budget_ledger import BudgetLedger
from clawproxy.receipts.explain import explain
from clawproxy.receipts.job import Job
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from websockets.exceptions import ConnectionClosed

from ..clawproxy.command_line import run_cli
from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, Bed, chat_body, running_bed
from .test_websocket import create, opened, refused, turn

PRICES: dict[str, Any] = {
    "prices": {"rows": [{"provider": "openai", "models": ["gpt-4o-mini"], "input": 1_000_000, "output": 2_000_000}]}
}


def contract(**budgets: Any) -> dict[str, Any]:
    return {**CONTRACT, "budgets": budgets}


async def sealed(bed: Bed, job_id: str = "job-1") -> Verdict:
    """Seal the job; what a stranger says of it."""
    await bed.settled()
    result = await bed.gateway.seal(job_id)
    report = verify_path(Path(result["directory"]), bed.trust())
    assert report.verdict is not Verdict.FAILED, report.findings
    return report.verdict


def states(bed: Bed, job_id: str = "job-1") -> list[dict[str, Any]]:
    return [record["metadata"]["clawproxy"]["budget"] for record in bed.records("receipt", job_id)]


async def restart(bed: Bed) -> None:
    """Another gateway on the same state."""
    await bed.settled()
    await bed.gateway.stop(drain_s=1)
    bed.gateway = Gateway(bed.gateway.settings)
    await bed.gateway.start()


async def burst(bed: Bed, count: int = 64, job: str = "job-1", **more: Any) -> list[int]:
    token = bed.token(job)
    answers = await asyncio.gather(*(bed.chat(f"n{n} slow:30", token=token, **more) for n in range(count)))
    return [answer.status for answer in answers]


@pytest.mark.parametrize(
    ("budgets", "most"),
    [
        ({"requests": 10}, 10),
        # a request of this size may read its bytes and write 100 tokens
        ({"total_tokens": 3000}, None),
        ({"output_tokens": 1000}, 10),
        ({"cost_microusd": 4000}, None),
        ({"per_contract": {"requests": 10}}, 10),
        ({"per_contract": {"output_tokens": 1000}}, 10),
    ],
)
async def test_calls_at_once_never_get_more_than_there_is(
    tmp_path: Path, provider: Provider, budgets: dict[str, Any], most: int | None
) -> None:
    before = len(provider.seen())
    async with running_bed(tmp_path / "s", provider, contract=contract(**budgets), sections=PRICES) as bed:
        statuses = await burst(bed, max_tokens=100)
        assert set(statuses) == {200, 403}
        assert len(provider.seen()) - before == statuses.count(200)
        for record in bed.records("denial"):
            assert record["reason"] == "BUDGET_EXCEEDED"
            assert " are left: " in record["detail"]
        if most is not None and "requests" in str(budgets):
            assert statuses.count(200) == most
        assert await sealed(bed) is Verdict.VERIFIED
        inner = budgets.get("per_contract", budgets)
        for state in states(bed):
            for name, limit in inner.items():
                told = (state["per_contract"] if "per_contract" in budgets else state["state"])[name]
                assert told["used"] + told["reserved"] <= limit == told["limit"]


async def test_what_a_call_did_not_use_is_there_for_the_next(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=120)) as bed:
        for _ in range(4):
            assert (await bed.chat("events:3", max_tokens=100)).status == 200
        used = [state["state"]["output_tokens"]["used"] for state in states(bed)]
        assert used == sorted(used)
        assert used[-1] < 120
        refused = await bed.chat("events:3", max_tokens=121)
        assert (refused.status, refused.refusal["reason"]) == (403, "BUDGET_EXCEEDED")
        assert f"{120 - used[-1]} of 120 are left" in json.dumps(json.loads(refused.body))
        assert await sealed(bed) is Verdict.VERIFIED


async def test_a_call_without_usage_or_with_a_broken_stream_costs_what_it_might_have(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=10_000)) as bed:
        await bed.chat("no-usage", max_tokens=500)
        await bed.chat("events:8 die-mid-stream", stream=True, max_tokens=500)
        await bed.chat("status:400", max_tokens=500)
        await bed.chat("die-before-answer", max_tokens=500)
        client = await bed.client()
        body = chat_body("events:400 slow:20", stream=True, max_tokens=500)
        fields = "".join(f"{name}: {value}\r\n" for name, value in bed.headers().items())
        head = f"POST /openai/v1/chat/completions HTTP/1.1\r\n{fields}content-length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
        await client.reader.readuntil(b"data: ")
        await client.close()
        await bed.settled()
        told = [
            (state["basis"], state["charged"]["output_tokens"], state["charged"]["requests"]) for state in states(bed)
        ]
        assert told == [
            ("reserved", 500, 1),
            ("reserved", 500, 1),
            ("nothing", 0, 1),
            ("reserved", 500, 1),
            ("reserved", 500, 1),
        ]
        assert await sealed(bed) is Verdict.VERIFIED


async def test_a_call_that_never_left_costs_nothing(tmp_path: Path, provider: Provider) -> None:
    sections = {"providers": {"openai": {"upstream": "http://127.0.0.1:9", "credential": "none"}}}
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=2), sections=sections) as bed:
        for _ in range(4):
            assert (await bed.chat()).status == 502
        assert {(state["basis"], state["charged"]["requests"]) for state in states(bed)} == {("not_sent", 0)}
        assert await sealed(bed) is Verdict.VERIFIED


@pytest.mark.parametrize(
    ("more", "status", "reason"),
    [
        ({"max_tokens": 2**53 - 1}, 403, "BUDGET_EXCEEDED"),
        ({"max_tokens": -1}, 400, "INVALID_REQUEST"),
        ({"max_tokens": 10.5}, 400, "INVALID_REQUEST"),
        ({"max_tokens": "10"}, 400, "INVALID_REQUEST"),
        ({"max_tokens": 10, "max_completion_tokens": 2000}, 403, "BUDGET_EXCEEDED"),
        ({"max_tokens": 20, "n": 100}, 403, "BUDGET_EXCEEDED"),
        ({"max_tokens": 20, "n": 2**53 - 1}, 403, "BUDGET_EXCEEDED"),
        ({"max_tokens": 20, "n": 0}, 400, "INVALID_REQUEST"),
        ({"max_tokens": 20, "n": -1}, 400, "INVALID_REQUEST"),
        ({"max_tokens": 20, "n": 1.5}, 400, "INVALID_REQUEST"),
        ({"max_tokens": 20, "n": True}, 400, "INVALID_REQUEST"),
        ({}, 403, "BUDGET_EXCEEDED"),
    ],
)
async def test_a_request_that_may_write_too_much_does_not_leave(
    tmp_path: Path, provider: Provider, more: dict[str, Any], status: int, reason: str
) -> None:
    before = len(provider.seen())
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=1000)) as bed:
        answer = await bed.chat(**more)
        assert (answer.status, answer.refusal["reason"]) == (status, reason)
        assert (await bed.chat(max_tokens=900)).status == 200, "the refused call took something"
    assert len(provider.seen()) == before + 1


async def test_a_key_that_stands_twice_does_not_choose_its_reservation(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=1000)) as bed:
        body = chat_body()[:-1] + b', "max_tokens": 9000, "max_tokens": 1}'
        assert (await bed.post("/openai/v1/chat/completions", body)).status == 400


async def test_under_a_budget_in_money_what_has_no_price_is_refused(tmp_path: Path, provider: Provider) -> None:
    rules = {**contract(cost_microusd=10_000_000), "allowed_models": ["gpt-4o-mini*", "claude-sonnet-5-5"]}
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed:
        for model in ("gpt-4o-mini-renamed", "gpt-4o-mini "):
            answer = await bed.chat(model=model)
            assert answer.refusal["reason"] in ("BUDGET_UNPRICED", "POLICY_MODEL_NOT_ALLOWED", "INVALID_REQUEST")
        assert (await bed.chat(model="gpt-4o-mini-renamed")).refusal["reason"] == "BUDGET_UNPRICED"
        assert (await bed.chat(service_tier="priority")).refusal["reason"] == "BUDGET_UNPRICED"
        assert (await bed.chat(service_tier="flex")).status == 200
        assert (await bed.chat()).status == 200
        intent = bed.records("intent")[-1]["detail"]["budget"]
        # what the packaged table says of this model
        assert intent["reserved"]["output_tokens"] == 16384
        assert intent["price"] == {
            "as_of": "2026-03-05", "cache_write": 150_000, "cached_input": 75_000, "input": 150_000, "output": 600_000,
        }  # fmt: skip
        charged = states(bed)[-1]["charged"]
        expected = charged["input_tokens"] * 150_000 + charged["output_tokens"] * 600_000
        assert charged["cost_microusd"] == -(-expected // 1_000_000)
        assert await sealed(bed) is Verdict.VERIFIED


async def test_lists_and_counts_are_requests_and_cost_no_tokens(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=2, total_tokens=0)) as bed:
        client = await bed.client()
        for status in (200, 200, 403):
            answer = await client.request("GET", "/openai/v1/models", bed.headers(), b"")
            assert answer.status == status
        assert [state["charged"] for state in states(bed)] == 2 * [
            {"cost_microusd": 0, "input_tokens": 0, "output_tokens": 0, "requests": 1}
        ]


async def test_the_time_of_a_job_cuts_its_streams_and_refuses_what_follows(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(wall_time_s=3)) as bed:
        began = time.monotonic()
        answers = await asyncio.gather(*(bed.chat("events:2000 slow:50", stream=True) for _ in range(4)))
        assert time.monotonic() - began < 20  # of a hundred seconds
        # one that a busy machine sends when the time is over is refused
        assert not any(answer.complete for answer in answers if answer.status == 200)
        assert (await bed.chat()).refusal["rule"] == "budgets.wall_time_s"
        assert {record["metadata"]["clawproxy"]["outcome"] for record in bed.records("receipt")} == {"stopped"}
        assert await sealed(bed) is Verdict.VERIFIED


async def test_only_so_many_calls_are_open_at_once(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(concurrent_calls=3)) as bed:
        statuses = await burst(bed, 12)
        assert statuses.count(200) >= 3
        assert set(statuses) == {200, 429}
        assert await burst(bed, 3) == [200, 200, 200]
        assert await sealed(bed) is Verdict.VERIFIED


async def test_a_budget_that_is_nearly_used_up_is_told_once_and_on_each_answer(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=20)) as bed:
        marks = [(await bed.chat()).headers.get("x-clawproxy-budget") for _ in range(20)]
        assert marks[:15] == 15 * [None]
        assert marks[15] == "job requests; left=4; limit=20"
        assert marks[19] == "job requests; left=0; limit=20"
        events = [r["detail"] for r in bed.records("event") if r["event"]["event_type"] == "budget_warning"]
        assert events == [
            {"budget": "requests", "limit": 20, "percent": 80, "used": 16},
            {"budget": "requests", "limit": 20, "percent": 95, "used": 19},
        ]
        assert await sealed(bed) is Verdict.VERIFIED


async def test_jobs_of_one_contract_share_its_budgets_over_a_restart(tmp_path: Path, provider: Provider) -> None:
    rules = contract(requests=6, per_contract={"requests": 10})
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed:
        assert (await burst(bed, 8, "job-1")).count(200) == 6
        assert (await burst(bed, 8, "job-2")).count(200) == 4
        refused = await bed.chat(token=bed.token("job-3"))
        assert refused.refusal["rule"] == "budgets.per_contract.requests"
        assert "0 of 10 are left: 10 used" in refused.body.decode()
        for job in ("job-1", "job-2"):
            assert await sealed(bed, job) is Verdict.VERIFIED


async def test_the_proof_bundle_claims_the_rates_that_the_receipts_have(tmp_path: Path, provider: Provider) -> None:
    rules = contract(requests=10, output_tokens=100_000)
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed:
        lease = await bed.gateway.lease(bed.policy_hash, "job-9")
        for _ in range(3):
            assert (await bed.chat(token=lease.handle)).status == 200
        assert await sealed(bed, "job-9") is Verdict.VERIFIED
        bundle = json.loads((bed.state / "jobs" / "job-9" / "proof_bundle.json").read_text())["payload"]
        [claim] = bundle["rate_limit_claims"]
        wrote = sum(receipt["payload"]["tokens_output"] for receipt in bundle["receipts"])
        assert (claim["max_requests"], claim["observed_requests"]) == (10, 3)
        assert (claim["max_tokens_output"], claim["observed_tokens_output"]) == (100_000, wrote)
        assert "max_tokens_input" not in claim


async def test_each_segment_claims_its_share_also_of_calls_whose_end_nobody_knows(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SEGMENT_CALLS", 2)
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=9, output_tokens=9000)) as bed:
        lease = await bed.gateway.lease(bed.policy_hash, "job-9")
        for _ in range(3):
            await bed.chat(token=lease.handle, max_tokens=100)
        hanging = asyncio.create_task(bed.chat("hang:30000", token=lease.handle, max_tokens=700))
        await until(lambda: len(bed.records("intent", "job-9")) == 4)
        result = await bed.gateway.jobs.seal("job-9", force=True)
        hanging.cancel()
        report = verify_path(result.directory, bed.trust())
        assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN"), report.findings
        bundles = [json.loads(path.read_text())["payload"] for path in sorted(result.directory.glob("proof_bundle*"))]
        claims = [claim for bundle in bundles for claim in bundle["rate_limit_claims"]]
        assert [claim["observed_requests"] for claim in claims] == [2, 2]
        assert sorted(claim["observed_tokens_output"] > 700 for claim in claims) == [False, True]
        assert len({(claim["window_start"], claim["window_end"]) for claim in claims}) == 1


async def test_a_call_whose_receipt_cannot_be_written_stays_charged_as_reserved(
    tmp_path: Path, provider: Provider
) -> None:
    rules = contract(per_contract={"output_tokens": 1000, "concurrent_calls": 1})
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed:
        hanging = asyncio.create_task(bed.chat("hang:6000", max_tokens=700))
        await until(lambda: bed.records("intent"))
        await bed.gateway.jobs.seal("job-1", force=True)
        await hanging
        await bed.settled()
        assert (await bed.chat(token=bed.token("job-2"), max_tokens=301)).refusal["reason"] == "BUDGET_EXCEEDED"
        assert (await bed.chat(token=bed.token("job-2"), max_tokens=300)).status == 200


async def test_a_job_that_is_opened_again_stands_where_it_stood(tmp_path: Path, provider: Provider) -> None:
    rules = contract(requests=5, per_contract={"requests": 7})
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed:
        assert (await burst(bed, 3)).count(200) == 3
        await restart(bed)
        assert (await burst(bed, 8)).count(200) == 2
        await restart(bed)
        assert (await burst(bed, 8, "job-2")).count(200) == 2
        told = states(bed, "job-2")[-1]["per_contract"]["requests"]
        assert (told["used"] + told["reserved"], told["limit"]) == (7, 7)
        assert bed.gateway.status()["budgets"]["job-2"]["per_contract.requests"]["used"] == 7
        for job in ("job-1", "job-2"):
            assert await sealed(bed, job) is Verdict.VERIFIED


async def test_retries_with_one_key_are_charged_once(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=3)) as bed:
        headers = bed.headers(x_idempotency_key="again")
        for status in (200, 403, 403):
            assert (await bed.post("/openai/v1/chat/completions", chat_body(), headers)).status == status
        assert [(await bed.chat()).status for _ in range(3)] == [200, 200, 403]


async def test_fallback_models_and_embeddings_are_priced_by_the_dearest(tmp_path: Path, provider: Provider) -> None:
    rows = [
        {"provider": "openai", "models": ["text-embedding-3-small"], "input": 1_000_000, "output": 0},
        *PRICES["prices"]["rows"],
    ]
    rules = {**contract(cost_microusd=1000), "allowed_models": ["text-embedding-3-small"]}
    async with running_bed(tmp_path / "s", provider, contract=rules, sections={"prices": {"rows": rows}}) as bed:
        body = json.dumps({"model": "text-embedding-3-small", "input": "x" * 100}).encode()
        assert (await bed.post("/openai/v1/embeddings", body)).status == 200
        [intent] = bed.records("intent")
        assert intent["detail"]["budget"]["reserved"] == {
            "cost_microusd": len(body), "input_tokens": len(body), "output_tokens": 0, "requests": 1,
        }  # fmt: skip
        large = json.dumps({"model": "text-embedding-3-small", "input": "x" * 1000}).encode()
        assert (await bed.post("/openai/v1/embeddings", large)).refusal["rule"] == "budgets.cost_microusd"
        assert await sealed(bed) is Verdict.VERIFIED


async def test_each_message_of_a_socket_that_asks_for_a_response_is_a_request(
    tmp_path: Path, provider: Provider
) -> None:
    rules = contract(requests=2, total_tokens=100_000)
    async with running_bed(tmp_path / "s", provider, contract=rules) as bed, opened(bed) as socket:
        first = await turn(socket, max_output_tokens=50)
        await turn(socket, max_output_tokens=50, previous_response_id=first["id"])
        await socket.send(create(max_output_tokens=50))
        assert await refused(socket) == ("BUDGET_EXCEEDED", 1008)
        await bed.settled()
        intents = [record["detail"]["budget"]["reserved"] for record in bed.records("intent")]
        assert [intent["requests"] for intent in intents] == [0, 1, 1], "the handshake is none"
        # what was said before is read again, without being sent again
        said = bed.records("intent")[2]["detail"]["request_bytes"]
        before = bed.records("receipt")[1]
        assert intents[2]["input_tokens"] == said + before["tokens_input"] + before["tokens_output"]
        assert await sealed(bed) is Verdict.VERIFIED


async def test_the_time_of_a_job_closes_its_sockets(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(wall_time_s=3)) as bed, opened(bed) as socket:
        await socket.send(create("events:2000 slow:50"))
        began = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.wait_for(socket.recv(), 30)
        assert time.monotonic() - began < 20  # of a hundred seconds
        await bed.settled()
        assert bed.records("receipt")[-1]["metadata"]["clawproxy"]["outcome"] == "stopped"
        assert await sealed(bed) is Verdict.VERIFIED


async def test_a_request_for_content_held_by_the_provider_takes_what_that_may_be(
    tmp_path: Path, provider: Provider
) -> None:
    rules = {**contract(input_tokens=50_000), "allowed_provider_features": ["state:previous_response_id"]}
    body = {"model": "gpt-4o-mini", "input": "x", "max_output_tokens": 9}
    async with running_bed(tmp_path / "s", provider, contract=rules, unread_input_tokens=40_000) as bed:
        first = await bed.post("/openai/v1/responses", json.dumps(body).encode())
        body["previous_response_id"] = json.loads(first.body)["id"]
        assert (await bed.post("/openai/v1/responses", json.dumps(body).encode())).status == 200
        reserved = bed.records("intent")[-1]["detail"]["budget"]["reserved"]["input_tokens"]
        assert reserved == 40_000 + len(json.dumps(body))


async def test_without_budgets_nothing_is_said_of_them(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat()
        assert "x-clawproxy-budget" not in answer.headers
        assert "budget" not in bed.records("intent")[0]["detail"]
        assert "budget" not in bed.records("receipt")[0]["metadata"]["clawproxy"]
        assert bed.gateway.status()["budgets"] == {}


# -- the guards, taken out -----------------------------------------------------------------------------------------


async def test_without_looking_at_what_is_left_every_call_leaves_and_the_bundle_fails(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgeting.Budgeting, "_full", lambda *_: None)
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=5)) as bed:
        assert await burst(bed, 8) == 8 * [200]
        await bed.settled()
        result = await bed.gateway.seal("job-1")
        report = verify_path(Path(result["directory"]), bed.trust())
        assert (report.verdict, report.reason) == (Verdict.FAILED, "BUDGET_EXCEEDED")


async def test_without_taking_what_it_may_use_calls_at_once_share_the_same_room(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "hold", lambda *_: None)
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=5)) as bed:
        assert (await burst(bed, 16)).count(200) > 5


async def test_without_the_account_a_restart_makes_room_again(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*_: object) -> None:
        return None

    monkeypatch.setattr(BudgetLedger, "commit", forget)
    async with running_bed(tmp_path / "s", provider, contract=contract(per_contract={"requests": 4})) as bed:
        assert (await burst(bed, 8)).count(200) == 4
        await restart(bed)
        assert (await burst(bed, 8, "job-2")).count(200) == 4


async def test_without_the_timer_a_stream_outlives_the_jobs_time(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgeting.Budgeting, "_arm", lambda *_: None)
    async with running_bed(tmp_path / "s", provider, contract=contract(wall_time_s=1)) as bed:
        answer = await bed.chat("events:40 slow:50", stream=True)
        assert answer.complete


async def test_without_charging_what_was_reserved_a_stream_that_is_left_is_nearly_free(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "max", min, raising=False)
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=1000)) as bed:
        await bed.chat("events:8 die-mid-stream", stream=True, max_tokens=900)
        assert states(bed)[0]["charged"]["output_tokens"] < 100


async def test_a_maximum_of_0_is_none(tmp_path: Path, provider: Provider) -> None:
    """Gemini and Ollama write as much as they like then."""
    async with running_bed(tmp_path / "s", provider, contract=contract(output_tokens=1000)) as bed:
        assert (await bed.chat(max_tokens=0)).refusal["reason"] == "BUDGET_EXCEEDED"


async def test_what_people_are_shown_of_budgets(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=contract(requests=2, wall_time_s=600)) as bed:
        for _ in range(2):
            await bed.chat()
        denied_id = (await bed.chat()).headers["x-clawproxy-receipt-id"]
        await sealed(bed)
        told = json.loads(run_cli("job", "show", "job-1", "--json", state=bed.state).out)
        assert told["budgets"]["requests"] == {"left": 0, "limit": 2, "reserved": 0, "used": 2}
        assert "requests 2 of 2 used, 0 left; wall_time_s " in run_cli("job", "show", "job-1", state=bed.state).out
        files = load_directory(bed.state / "jobs" / "job-1").files
        outcome = explain(files, bed.records("receipt")[0]["receipt_id"], bed.trust()).outcome
        assert outcome["budget_charged"].endswith("1 requests (reported)")
        assert outcome["budgets_after"].startswith("requests 1 of 2 used, 1 left")
        denied = explain(files, denied_id, bed.trust())
        assert denied.decision["rule"] == "budgets.requests"
        assert denied.outcome["budgets_then"] == "requests 2 of 2 used, 0 left"
