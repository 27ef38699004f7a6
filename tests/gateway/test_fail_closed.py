"""Fail closed, by fault injection: an exception, a hang and a cancellation in each step, each hook and the stream tap.

For each of them: no upstream byte before a durable intent, no shortened or altered body that looks whole, one record.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.call import Call
from clawproxy.addons.gate import Gate

from ..clawproxy.standin_process import Provider
from .bed import SSE_WORDS, Bed, chat_body, running_bed
from .faults import KINDS, FaultyHook, FaultySteps, FaultyTap
from .raw_client import Answer

BEFORE_JOB = ("admit", "collect", "authenticate", "pin")
BEFORE_INTENT = (*BEFORE_JOB, "read", "decide", "reserve", "intend")
TIMEOUT_S = {"raise": 20.0, "cancel": 20.0, "hang": 4.0}
"""Of each step, also of those without a fault, of a hook twice that: no busy machine brings it about, and while one
hangs, time flies (``faults``). The handshake of TLS, which has ten seconds, does not end before a hook."""
REASON = {"raise": "GATEWAY_FAULT", "hang": "GATEWAY_TIMEOUT", "cancel": "GATEWAY_FAULT"}


def _seen(provider: Provider, bed: Bed, before: int) -> int:
    return len(provider.seen()) - before


def _count(bed: Bed) -> dict[str, int]:
    return {
        "denials": len(bed.records("denial")) + len(bed.refusals()),
        "intents": len(bed.records("intent")),
        "receipts": len(bed.records("receipt")),
    }


async def _a_clean_call_works(bed: Bed) -> None:
    answer = await bed.chat()
    assert answer.status == 200
    assert answer.complete


def _not_whole(answer: Answer) -> bool:
    """Neither a complete success nor a stream with its end."""
    return not (answer.complete and answer.status == 200) and b"[DONE]" not in answer.body


class _Once:
    """Faulty steps for the first call only, so that a clean call can follow."""

    def __init__(self, real: Any, faulty: Any) -> None:
        self._real, self._faulty, self._first = real, faulty, ""

    def __getattr__(self, name: str) -> Any:
        def step(call: Call) -> Any:
            self._first = self._first or call.receipt_id
            return getattr(self._faulty if call.receipt_id == self._first else self._real, name)(call)

        return step


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*BEFORE_INTENT, "forward"])
async def test_a_fault_up_to_forward_leaves_no_upstream_byte_and_one_record(
    tmp_path: Path, provider: Provider, step: str, when: str, kind: str, stream: bool
) -> None:
    async with running_bed(
        tmp_path / "state", provider, step_timeout_s=TIMEOUT_S[kind],
        wrap_steps=lambda real: _Once(real, FaultySteps(real, step, kind, when)),
    ) as bed:  # fmt: skip
        before = len(provider.seen())
        answer = await bed.chat(SSE_WORDS, stream=stream)
        await bed.settled()
        assert answer.complete
        assert answer.status in (500, 503)
        assert (answer.refusal["step"], answer.refusal["reason"]) == (step, REASON[kind])
        assert _seen(provider, bed, before) == 0
        intended = step == "forward" or (step == "intend" and when == "after")
        expected = (
            {"denials": 0, "intents": 1, "receipts": 1} if intended else {"denials": 1, "intents": 0, "receipts": 0}
        )
        assert _count(bed) == expected
        if intended:
            assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] == "fault"
        await _a_clean_call_works(bed)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["observe", "attest"])
async def test_a_fault_on_the_way_back_cuts_the_answer_and_leaves_one_receipt(
    tmp_path: Path, provider: Provider, step: str, when: str, kind: str, stream: bool
) -> None:
    if step == "observe" and kind == "hang":
        pytest.skip("observe is synchronous: it cannot hang on anything but itself")
    async with running_bed(
        tmp_path / "state", provider, step_timeout_s=TIMEOUT_S[kind],
        wrap_steps=lambda real: _Once(real, FaultySteps(real, step, kind, when)),
    ) as bed:  # fmt: skip
        answer = await bed.chat(SSE_WORDS, stream=stream)
        await bed.settled()
        assert _not_whole(answer)
        assert _count(bed) == {"denials": 0, "intents": 1, "receipts": 1}
        if (step, when) != ("attest", "after"):
            assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] == "fault"
        await _a_clean_call_works(bed)


@pytest.mark.parametrize("kind", ["raise", "cancel"])
@pytest.mark.parametrize("at", [1, 2, 4, 0])
async def test_a_fault_in_the_stream_tap_cuts_the_stream_and_leaves_one_receipt(
    tmp_path: Path, provider: Provider, at: int, kind: str
) -> None:
    class Tapped:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def observe(self, call: Call) -> None:
            self._real.observe(call)
            if call.flow.response is not None and call.tap is not None:
                call.flow.response.stream = FaultyTap(call.tap, at, kind)  # type: ignore[assignment]

    async with running_bed(tmp_path / "state", provider, wrap_steps=Tapped) as bed:
        text = f"{SSE_WORDS} slow:5" + (" no-terminal" if at == 0 else "")
        answer = await bed.chat(text, stream=True)
        await bed.settled()
        assert not answer.complete
        assert b"[DONE]" not in answer.body
        assert _count(bed) == {"denials": 0, "intents": 1, "receipts": 1}
        assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] != "complete"


def faulty_beside_gate(hook: str, kind: str, place: str) -> Callable[[Gate], list[object]]:
    """The addons: the gate, and before or behind it one with a fault in ``hook``."""
    faulty = FaultyHook(hook, kind)
    return lambda gate: [faulty, gate] if place == "first" else [gate, faulty]


HOOKS_BEFORE_EGRESS = ("requestheaders", "request", "server_connect")
HOOKS_AFTER_EGRESS = ("server_connected", "responseheaders", "seam_hold")


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", HOOKS_BEFORE_EGRESS)
async def test_a_fault_in_a_hook_before_egress_leaves_no_upstream_byte_and_one_record(
    tmp_path: Path, provider: Provider, hook: str, kind: str, place: str
) -> None:
    async with running_bed(
        tmp_path / "state", provider, addons=faulty_beside_gate(hook, kind, place), step_timeout_s=TIMEOUT_S[kind]
    ) as bed:
        before = len(provider.seen())
        answer = await bed.chat()
        await bed.settled()
        assert not (answer.complete and answer.status == 200)
        assert _seen(provider, bed, before) == 0
        count = _count(bed)
        assert count["denials"] + count["receipts"] == 1
        assert count["intents"] == count["receipts"]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", HOOKS_AFTER_EGRESS)
async def test_a_fault_in_a_hook_on_the_way_back_never_delivers_a_shortened_answer_as_whole(
    tmp_path: Path, provider: Provider, hook: str, kind: str, place: str, stream: bool
) -> None:
    async with running_bed(
        tmp_path / "state", provider, addons=faulty_beside_gate(hook, kind, place), step_timeout_s=TIMEOUT_S[kind]
    ) as bed:
        answer = await bed.chat(SSE_WORDS, stream=stream)
        await bed.settled()
        assert _not_whole(answer)
        assert _count(bed) == {"denials": 0, "intents": 1, "receipts": 1}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", ["response", "error", "client_disconnected", "server_disconnected"])
async def test_a_fault_in_a_last_hook_changes_neither_record_nor_body(
    tmp_path: Path, provider: Provider, hook: str, kind: str, place: str
) -> None:
    async with running_bed(
        tmp_path / "state", provider, addons=faulty_beside_gate(hook, kind, place), step_timeout_s=TIMEOUT_S[kind]
    ) as bed:
        text = SSE_WORDS if hook != "error" else f"{SSE_WORDS} die-mid-stream"
        answer = await bed.chat(text, stream=True)
        await bed.settled()
        if answer.complete:
            assert answer.body.rstrip().endswith(b"data: [DONE]")
        assert _count(bed) == {"denials": 0, "intents": 1, "receipts": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", ["client_connected", "http_connect", "tls_clienthello", "tls_start_client"])
async def test_a_fault_on_the_way_to_the_request_opens_nothing(
    tmp_path: Path, provider: Provider, hook: str, kind: str
) -> None:
    async with running_bed(
        tmp_path / "state", provider, addons=faulty_beside_gate(hook, kind, "first"), step_timeout_s=TIMEOUT_S[kind]
    ) as bed:
        before = len(provider.seen())
        with pytest.raises((AssertionError, OSError, EOFError)):  # noqa: PT012 - each line may be where it ends
            client = await bed.tunnel("api.openai.com")
            answer = await client.request(
                "POST", "/v1/chat/completions", bed.headers(host="api.openai.com"), chat_body()
            )
            assert answer.status == 200, "the fault was passed over"
        await bed.settled()
        assert _seen(provider, bed, before) == 0
        assert _count(bed)["intents"] == 0
