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

import pytest
from clawproxy.addons.approvals import AskedApproval, Decision, Verdict
from clawproxy.addons.call import Call
from clawproxy.addons.holds import Hold
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.tool_gate import CallJudges, ToolGate
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.refusal_text import RefusalText
from clawproxy.addons.wire.rewrite import Event
from clawproxy.policies.policy import Policy
from clawproxy.receipts.calls import CalledOutcome, Outcome
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import b64u_encode

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

    def __init__(self, stream: CalledStream, *, allow: bool, refuse: bool = False, inline: bool = True) -> None:
        self.stream = stream
        self.call = Call(cast(Any, None), "reverse", "addr:127.0.0.1", 0)
        self.call.facts, self.call.grant, self.call.policy = FACTS, GRANT, contract_of(stream.name, allow, refuse)
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
