"""Exactly one receipt or denial per call, however it ends (docs/engine.md 3), and what the agent may see."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, chat_body, running_bed


def _outcomes(bed: Bed) -> list[str]:
    return [receipt["metadata"]["clawproxy"]["outcome"] for receipt in bed.records("receipt")]


def _one_record_each(bed: Bed, calls: int) -> None:
    receipts = [r["receipt_id"] for r in bed.records("receipt")]
    denials = [r["receipt_id"] for r in [*bed.records("denial"), *bed.refusals()]]
    assert len(receipts + denials) == calls
    assert len(set(receipts + denials)) == calls
    assert sorted(receipts) == sorted(r["detail"]["receipt_id"] for r in bed.records("intent"))


@pytest.mark.parametrize("text", ["hello", "slow:40", "drip", "status:500", "status:429"])
async def test_a_json_answer_of_any_kind_leaves_one_complete_receipt(
    tmp_path: Path, provider: Provider, text: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat(text)
        assert answer.complete
        assert answer.headers["x-clawproxy-receipt-id"] == bed.records("receipt")[0]["receipt_id"]
        assert answer.headers["x-clawproxy-job"] == "job-1"
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["complete"]


async def test_an_answer_that_cannot_be_read_is_not_delivered_since_it_may_call_a_tool(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("not-json")
        assert (answer.status, answer.headers["x-clawproxy-reason"]) == (502, "UPSTREAM_FAILED")
        assert b"not json" not in answer.body.lower()
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["upstream_failed"]


async def test_a_stream_leaves_a_complete_receipt_with_the_providers_usage(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("events:20", stream=True, stream_options={"include_usage": True})
        assert answer.complete
        assert answer.body.rstrip().endswith(b"data: [DONE]")
        receipt = bed.records("receipt")[0]
        assert receipt["tokens_input"] > 0
        assert receipt["tokens_output"] > 0
        _one_record_each(bed, 1)


async def test_a_stream_without_its_terminal_event_is_cut_and_recorded_as_incomplete(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("events:5 no-terminal", stream=True)
        await bed.settled()
        assert answer.status == 200
        assert not answer.complete
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["incomplete"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_dies_mid_answer_is_recorded_and_never_looks_whole(
    tmp_path: Path, provider: Provider, stream: bool
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("events:50 die-mid-stream", stream=stream)
        await bed.settled()
        assert not (answer.complete and answer.status == 200)
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["upstream_failed"]


async def test_a_provider_that_dies_before_its_answer_is_recorded(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("die-before-answer")
        await bed.settled()
        assert (answer.status, answer.refusal["reason"]) == (502, "UPSTREAM_FAILED")
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["upstream_failed"]


async def test_a_short_json_body_is_not_passed_on(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.chat("short-body")
        await bed.settled()
        assert (answer.status, answer.refusal["reason"]) == (502, "UPSTREAM_FAILED")
        assert not (answer.complete and answer.status == 200)
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["upstream_failed"]


async def test_a_provider_that_cannot_be_reached_is_recorded(tmp_path: Path, provider: Provider) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = Provider(
            f"https://127.0.0.1:{taken.getsockname()[1]}", provider.ca, provider.record, provider.key_files, 0
        )
        async with running_bed(tmp_path / "s", nowhere) as bed:
            answer = await bed.chat("hello")
            await bed.settled()
            assert answer.status == 502
            assert answer.refusal["reason"] == "UPSTREAM_UNREACHABLE"
            assert f", {taken.getsockname()[1]})" not in answer.json["error"]["message"]
            assert answer.headers["x-clawproxy-receipt-id"] == bed.records("receipt")[0]["receipt_id"]
            _one_record_each(bed, 1)
            assert _outcomes(bed) == ["upstream_unreachable"]


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("moment", ["waiting", "streaming"])
async def test_a_client_that_leaves_gets_a_receipt_with_what_was_delivered(
    tmp_path: Path, provider: Provider, moment: str, how: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client, before = await bed.client(), len(provider.seen())
        text = "hang:30000" if moment == "waiting" else "events:200 slow:20"
        body = chat_body(text, stream=True)
        await client.send(bed.chat_head(len(body)) + body)
        if moment == "streaming":
            await client.reader.readuntil(b"data:")
        else:
            await until(lambda: len(provider.seen()) > before)
        if how == "rst":
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            client.writer.transport.abort()
        else:
            await client.close()
        await bed.settled()
        _one_record_each(bed, 1)
        assert _outcomes(bed) == ["client_gone"]


async def test_a_client_that_leaves_mid_upload_leaves_a_denial_and_no_upstream_byte(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await bed.client()
        await client.send(bed.chat_head(1000) + b"{")
        await until(lambda: bed.gateway.gate.open_calls)
        await client.close()
        await bed.settled()
        await until(bed.refusals)
        assert len(provider.seen()) == before
        assert [r["reason"] for r in bed.refusals()] == ["REQUEST_INCOMPLETE"]


async def test_a_client_that_closes_at_the_terminal_event_is_a_complete_call(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        for _ in range(10):
            client = await bed.client()
            body = chat_body("events:3", stream=True)
            await client.send(bed.chat_head(len(body)) + body)
            await client.reader.readuntil(b"[DONE]")
            written = len(bed.records("receipt"))
            await client.close()
            assert written == len(bed.records("intent")), "the terminal event came before its receipt"
        await bed.settled()
        assert _outcomes(bed) == ["complete"] * 10


async def test_a_body_over_the_cap_is_refused_before_anything_leaves(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, max_body_bytes=4096) as bed:
        before = len(provider.seen())
        answer = await bed.chat("x" * 5000)
        await bed.settled()
        assert answer.status == 413
        assert len(provider.seen()) == before
        denials = [r["reason"] for r in [*bed.records("denial"), *bed.refusals()]]
        assert denials == ["REQUEST_TOO_LARGE"]


async def test_conflicting_lengths_are_refused_and_recorded(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await bed.client()
        head = "".join(f"{n}: {v}\r\n" for n, v in bed.headers().items())
        await client.send(
            f"POST /openai/v1/chat/completions HTTP/1.1\r\n{head}content-length: 4\r\n"
            "transfer-encoding: chunked\r\n\r\n0\r\n\r\n".encode()
        )
        assert (await client.reader.read(4096)).startswith(b"HTTP/1.1 400")
        await bed.settled()
        assert len(provider.seen()) == before
        assert [r["reason"] for r in bed.refusals()] == ["REQUEST_AMBIGUOUS"]


@pytest.mark.parametrize(
    "extra",
    [
        {"trailer": "x-a"},
        {"te": "trailers"},
        {"upgrade": "websocket", "connection": "upgrade"},
        {"upgrade": "h2c", "connection": "upgrade, http2-settings", "http2-settings": "AAMAAABkAAQAAP__"},
    ],
)
async def test_upgrades_and_trailers_are_refused(tmp_path: Path, provider: Provider, extra: dict[str, str]) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await bed.client()
        answer = await client.request("POST", "/openai/v1/chat/completions", {**bed.headers(), **extra}, chat_body())
        await bed.settled()
        assert answer.status == 403
        assert len(provider.seen()) == before
        assert [r["reason"] for r in bed.refusals()] == ["PROTOCOL_REFUSED"]


async def test_a_chunked_request_with_trailers_leaves_a_record_and_no_upstream_byte(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await bed.client()
        head = "".join(f"{n}: {v}\r\n" for n, v in bed.headers().items())
        await client.send(
            f"POST /openai/v1/chat/completions HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n"
            "2\r\n{}\r\n0\r\nx-sneaky: 1\r\n\r\n".encode()
        )
        await until(bed.refusals)
        await client.close()
        await bed.settled()
        assert len(provider.seen()) == before
        assert len(bed.refusals()) == 1


async def test_two_pipelined_calls_get_two_receipts_in_order(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        body = chat_body()
        one = bed.chat_head(len(body)) + body
        await client.send(one + one)
        await until(lambda: len(bed.records("receipt")) == 2)
        _one_record_each(bed, 2)


async def test_keep_alive_calls_share_a_connection_and_get_a_receipt_each(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        for n in range(20):
            answer = await client.request(
                "POST", "/openai/v1/chat/completions", bed.headers(), chat_body("events:3", stream=n % 2 == 0)
            )
            assert answer.complete
            assert answer.status == 200
        _one_record_each(bed, 20)


async def test_a_stopped_gateway_cuts_open_streams_and_records_them(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        body = chat_body("events:2000 slow:50", stream=True)
        await client.send(bed.chat_head(len(body)) + body)
        assert (await client.reader.readuntil(b"data:")).startswith(b"HTTP/1.1 200")
        await bed.gateway.stop(drain_s=0.3)
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert _outcomes(bed) == ["stopped"]
