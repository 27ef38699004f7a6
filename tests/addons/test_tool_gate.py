"""The tool gate on streams: however the bytes are split, what is allowed leaves unchanged, and of what is not, nothing.

Each stream of ``called`` is cut in two at every seventh byte (``make splits``: at every byte, far over 100,000 ways in
all), byte by byte, and at random places.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

import orjson
import pytest
from clawproxy.addons.approvals import AskedApproval, Decision, Verdict
from clawproxy.addons.call import Call
from clawproxy.addons.holds import Hold
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.tool_gate import CallJudges, ToolGate
from clawproxy.addons.wire.called import CalledTool
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.refusal_text import RefusalText
from clawproxy.addons.wire.rewrite import Event
from clawproxy.policies.policy import Policy
from clawproxy.receipts.calls import CalledOutcome, Outcome
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import b64u_encode
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal

from ..policies.makers import a_grant, claw, facts, policy_of
from .called import STREAMS, CalledStream

FACTS, GRANT = facts(), a_grant()
EVERY = sorted(STREAMS)
CLOSED = [name for name in EVERY if STREAMS[name].calls and STREAMS[name].closed and STREAMS[name].ended]
IN_CODE = ("exec_command", "apply_patch")
"""What the code of the corpus calls."""
STEP = int(os.environ.get("SPLIT_STEP", "7"))
RANDOM_SPLITS = 300 // STEP


class Marks:
    """A rewriter that makes what it did easy to see."""

    def keep(self, events: Sequence[Event]) -> None:
        pass

    def error(self, refusal: RefusalText, held: Sequence[Event] = ()) -> Sequence[Event]:
        return [("", b'{"ended":"%s"}' % refusal.reason.encode())]

    def replace(self, events: Sequence[Event], text: str) -> Sequence[Event] | None:
        return [("", b'{"refused":%d}' % len(events))]

    def mend(self, event: Event) -> Sequence[Event]:
        return [event]

    def replace_whole(self, answer: JsonObject, keys: Collection[object], text: str) -> JsonObject:
        return {"refused": len(keys)}


class Nobody:
    """A desk at which nobody sits."""

    async def ask(self, call: Call, asked: AskedApproval) -> Decision:
        return Decision(Verdict.DENIED, "nobody is there")


@functools.cache
def contract_of(name: str, allow: bool, refuse: bool) -> Policy:
    """One that allows what the stream calls, and nothing else; or one that denies it."""
    names = sorted({call.name for call in STREAMS[name].calls if call.name})
    return policy_of(
        claw(
            allowed_tools=[*names, *IN_CODE] if allow else [],
            denied_tools=[] if allow else names,
            tool_classes={},
            on_denied_call="refuse" if refuse else "error",
        )
    )


class Gated:
    """A stream behind a tap with a gate, and what leaves of it."""

    def __init__(
        self,
        stream: CalledStream,
        *,
        allow: bool,
        refuse: bool = False,
        inline: bool = True,
        policy: Policy | None = None,
    ) -> None:
        self.stream = stream
        self.call = Call(cast(Any, None), "reverse", "addr:127.0.0.1", 0)
        self.call.facts, self.call.grant, self.call.policy = (
            FACTS,
            GRANT,
            policy or contract_of(stream.name, allow, refuse),
        )
        wire = FORMATS[stream.format]
        framing = wire.framing(stream.content_type, stream=True)
        assert framing is not None
        self.framing = framing
        self.reader = wire.new_reader()
        self.gate = ToolGate(self.call, Marks(), CallJudges(Nobody()))
        if not inline:
            self.gate.inline_chars = -1
        self.tap = StreamTap(cast(Any, None), self.reader, framing, b"", 0, lambda: 0, gate=self.gate)
        self.left = b""
        self.held = b""
        self.ended = False

    def play(self, chunks: Iterable[bytes]) -> bytes:
        """As the seam plays it; everything that reaches the agent."""
        for chunk in chunks:
            self._take(self.tap.feed(chunk))
        if not self.ended:
            now, self.held = self.tap.close()
            self.left += now
        return self.left + self.held

    def _take(self, out: bytes | Hold) -> None:
        if isinstance(out, bytes):
            if self.ended:
                self.held += out
            else:
                self.left += out
            return
        self.left += out.now
        if out.kind == "end":
            self.ended, self.held = True, out.held
            return
        self.left += self.tap.settle(asyncio.run(self.gate.settle()))
        self._take(self.tap.feed(b""))


def splits(data: bytes, seed: str) -> Iterator[list[bytes]]:
    """Cut in two, byte by byte, and at random places."""
    rng = random.Random(seed)
    for at in range(rng.randrange(STEP), len(data), STEP):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]
    for _ in range(RANDOM_SPLITS):
        places = sorted(rng.randrange(len(data)) for _ in range(rng.randrange(1, 12)))
        yield [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def sha(data: bytes) -> str:
    return b64u_encode(hashlib.sha256(data).digest())


@pytest.mark.parametrize("name", EVERY)
def test_allowed_calls_leave_as_they_came(name: str) -> None:
    stream = STREAMS[name]
    for chunks in splits(stream.data, name):
        gated = Gated(stream, allow=True)
        assert gated.play(chunks) == stream.data
        assert gated.tap.digest_b64u == sha(stream.data)
        assert gated.tap.delivered_b64u is None
    if stream.closed:
        assert [(c.name, c.outcome) for c in gated.call.called] == [
            (call.name, CalledOutcome.ALLOWED) for call in stream.calls
        ]


@pytest.mark.parametrize("name", CLOSED)
def test_of_denied_calls_not_one_byte_leaves_and_an_error_ends_the_answer(name: str) -> None:
    stream = STREAMS[name]
    error = None
    for chunks in splits(stream.data, name):
        gated = Gated(stream, allow=False)
        got = gated.play(chunks)
        before = stream.data[: stream.blocks[0][0]]
        assert got.startswith(before)
        error = error or got[len(before) :]
        assert got == before + error
        assert gated.call.outcome is Outcome.CALL_REFUSED
        assert gated.tap.delivered_b64u == sha(got)
    assert error is not None
    assert b"POLICY_TOOL_DENIED" in error
    assert all(called.outcome is not CalledOutcome.ALLOWED for called in gated.call.called)


@pytest.mark.parametrize("name", [name for name in CLOSED if not STREAMS[name].signed])
def test_where_the_contract_refuses_a_text_takes_the_place_of_each_block(name: str) -> None:
    stream = STREAMS[name]
    wanted = b""
    for n, chunks in enumerate(splits(stream.data, name)):
        gated = Gated(stream, allow=False, refuse=True)
        got = gated.play(chunks)
        wanted = wanted or got
        assert got == wanted, n
        assert gated.tap.digest_b64u == sha(stream.data)
        assert gated.tap.delivered_b64u == sha(got)
        assert gated.call.outcome is None
    assert wanted.count(b'"refused"') == len(stream.blocks)
    for begin, end in stream.blocks:
        block = stream.data[begin:end]
        assert wanted.count(block) < stream.data.count(block)


def sse(*told: JsonObject | str) -> bytes:
    lines = (one if isinstance(one, str) else orjson.dumps(one).decode() for one in told)
    return b"".join(f"data: {line}\n\n".encode() for line in lines)


def played(wire: str, chunks: Iterable[bytes], *, rewrite: bool = False, **contract: Any) -> tuple[bytes, Gated]:
    """What leaves of server-sent events, with the format's own rewriter."""
    stream = CalledStream(wire, wire, "text/event-stream", (), ())
    gated = Gated(stream, allow=False, policy=policy_of(claw(**contract)))
    if rewrite:
        gated.gate._rewriter = FORMATS[wire].new_rewriter()
    return gated.play(chunks), gated


RM: dict[str, Any] = {"allowed_tools": ["ok"], "denied_tools": ["rm"], "tool_classes": {}}


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_half_an_event_behind_the_end_does_not_leave(cut: int) -> None:
    last = sse({"candidates": [{"content": {"parts": [{"text": "done"}]}, "finishReason": "STOP"}]})
    call = sse({"candidates": [{"content": {"parts": [{"functionCall": {"name": "rm", "args": {"path": "/"}}}]}}]})
    for chunks in ([last + call[:-cut]], [last, call[:-cut]], [last, call[:9], call[9:-cut]]):
        got, gated = played("gemini", chunks, **RM)
        assert got == last
        assert gated.tap.digest_b64u == sha(b"".join(chunks))
        assert gated.tap.delivered_b64u == sha(last)
    with pytest.raises(ClawproxyError, match="behind its end"):
        played("gemini", [last, call], **RM)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_an_event_behind_the_end_repeats_of_a_refused_call_is_gone_as_well(at_once: bool) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "rm", "arguments": '{"path":"/etc"}'}
    events: list[JsonObject] = [
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"arguments": ""}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "error", "code": "server_error", "message": "too much to do"},
        {"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "output": [item]}},
    ]
    chunks = [sse(*events)] if at_once else [sse(event) for event in events]
    got, gated = played("openai_responses", chunks, rewrite=True, **RM, on_denied_call="refuse")
    assert b"/etc" not in got
    assert b"response.failed" in got
    assert b"POLICY_TOOL_DENIED" in got
    assert gated.tap.delivered_b64u == sha(got)


@pytest.mark.parametrize("name", ["rm\n", "\u200brm", "rm\u00a0", "rm\x00", "r\u00adm", "rm\\n…", "x" * 300])
def test_a_name_that_cannot_be_shown_is_not_judged_as_another(name: str) -> None:
    function = {"name": name, "arguments": "{}"}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}
    data = sse({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}, "[DONE]")
    contract: dict[str, Any] = {"allowed_tools": ["any"], "denied_tools": ["rm"], "tool_classes": {"any": ["*"]}}
    got, gated = played("openai_chat", [data], **contract)
    assert b"tool_calls" not in got
    assert [called.outcome for called in gated.call.called] == [CalledOutcome.DENIED]


def test_the_same_item_at_two_places_is_two_calls_whatever_ids_a_server_gives() -> None:
    item = {"type": "function_call", "id": "fc", "call_id": "call", "name": "ok", "arguments": "{}"}
    events: list[JsonObject] = [
        {"type": "response.output_item.done", "output_index": n, "item": item} for n in (0, 1, 1)
    ]
    whole = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}
    got, gated = played("openai_responses", [sse(*events, whole)], **RM)
    assert got == sse(*events, whole)
    assert [called.name for called in gated.call.called] == ["ok", "ok"]


def test_an_order_that_comes_while_a_person_thinks_counts_for_the_call_that_was_approved() -> None:
    orders: list[Refusal] = []

    class Slow:
        async def ask(self, call: Call, asked: AskedApproval) -> Decision:
            orders.append(Refusal("TOOLS_STOPPED", "clawproxy stop --no-tools", "an operator"))
            return Decision(Verdict.GRANTED, "an approver said yes", "apr_1")

    delta = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "mail", "arguments": "{}"}}]}
    data = sse({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}, "[DONE]")
    contract = {"allowed_tools": [], "denied_tools": [], "tool_classes": {}, "approvals": [{"action": "mail"}]}
    policy = policy_of(claw(**contract))
    gated = Gated(CalledStream("chat", "openai_chat", "text/event-stream", (), ()), allow=False, policy=policy)
    gated.gate._judges = CallJudges(Slow(), (lambda call, tool: orders[0] if orders else None,))
    assert b"tool_calls" not in gated.play([data])
    assert [(each.outcome, each.approval) for each in gated.call.called] == [(CalledOutcome.DENIED, "apr_1")]


def test_arguments_as_objects_that_come_twice_and_differ_are_not_judged_by_the_last_of_them() -> None:
    chunks = []
    for path in ("/etc", "/srv"):
        function = {"name": "ok", "arguments": {"path": path}}
        delta = {"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}
        chunks.append(sse({"choices": [{"index": 0, "delta": delta}]}))
    chunks.append(sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}, "[DONE]"))
    with pytest.raises(ClawproxyError, match="cannot be read"):
        played("openai_chat", chunks, **RM)


def test_two_calls_at_one_index_do_not_add_up_to_a_denied_one() -> None:
    """Clients that go by the index join the names; with arguments in the first, the rest would be no JSON for them."""
    calls = [("call_1", "r", ""), ("call_2", "m", "{}")]
    pieces = [{"index": 0, "id": i, "function": {"name": name, "arguments": given}} for i, name, given in calls]
    chunks = [sse({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}) for piece in pieces]
    chunks.append(sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}, "[DONE]"))
    contract: dict[str, Any] = {"allowed_tools": ["any"], "denied_tools": ["rm"], "tool_classes": {"any": ["*"]}}
    with pytest.raises(ClawproxyError, match="cannot be read"):
        played("openai_chat", chunks, **contract)


def test_arguments_that_stand_there_twice_are_shown_and_hashed_as_both() -> None:
    once, twice = CalledTool("k", "sh"), CalledTool("k", "sh")
    once.value = twice.value = {"command": "ls"}
    twice.add('{"command":"rm"}')
    assert twice.text == '{"command":"ls"}{"command":"rm"}'
    assert twice.digest_b64u() != once.digest_b64u()


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("allow", [True, False])
def test_a_block_that_waits_for_its_verdict_leaves_as_one_that_does_not(name: str, *, allow: bool) -> None:
    stream = STREAMS[name]
    at_once = Gated(stream, allow=allow).play([stream.data])
    rng = random.Random(name)
    for _ in range(25):
        at = rng.randrange(len(stream.data))
        gated = Gated(stream, allow=allow, inline=False)
        assert gated.play([stream.data[:at], stream.data[at:]]) == at_once
