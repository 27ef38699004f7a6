"""The tool gate end to end, byte for byte: what a plain client gets of answers that call tools, and what is on record.

The provider is the stand-in, told by the prompt what to call (clawproxy/standin/steering.py). With real SDKs:
test_tool_gate_sdks.py.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import tool_gate
from clawproxy.policies.call_rules import CallAllowed
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import b64u_encode, sha256_b64u

from ..clawproxy.standin_process import Provider
from .bed import Bed, running_bed
from .every_provider import every_provider
from .gated_wires import ALLOWED_ARGUMENTS, DENIED, GATED, SECRET, WIRES, Wire, written
from .raw_client import Answer

TEXT = b"stand-in"
TOOLS = ("ticket_read", "note_write")
REFUSING = {**GATED, "on_denied_call": "refuse"}
each_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=list(WIRES))
each_form = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@contextlib.asynccontextmanager
async def gated(root: Path, provider: Provider, contract: dict[str, Any] = GATED, **more: Any) -> AsyncIterator[Bed]:
    sections = {"providers": every_provider(provider)}
    async with running_bed(root / "s", provider, contract=contract, sections=sections, **more) as bed:
        yield bed


async def ask(bed: Bed, wire: Wire, text: str, stream: bool, **more: Any) -> Answer:
    """Not in the middle of anything: the gate has its record when this returns."""
    body = written(wire.body(text, TOOLS, stream) | more)
    answer = await bed.post(wire.path(stream), body, bed.headers(anthropic_version="2023-06-01"))
    await bed.settled()
    return answer


def last(bed: Bed) -> dict[str, Any]:
    """What the last receipt says beyond its first fields."""
    told: dict[str, Any] = bed.records("receipt")[-1]["metadata"]["clawproxy"]
    return told


def sha(data: bytes) -> str:
    return b64u_encode(hashlib.sha256(data).digest())


async def sealed(bed: Bed, contract: dict[str, Any]) -> None:
    """The job is sealed, and verifies with the contract at hand."""
    await bed.settled()
    directory = Path(str((await bed.gateway.seal("job-1"))["directory"]))
    report = verify_path(directory, bed.trust(), jcs_bytes(contract))
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())


@each_wire
async def test_what_may_be_called_arrives_whole_and_of_what_may_not_no_byte_does(
    tmp_path: Path, provider: Provider, wire: Wire
) -> None:
    async with gated(tmp_path, provider) as bed:
        for stream in (True, False):
            allowed = await ask(bed, wire, "text-first tool:ticket_read", stream)
            assert (allowed.status, allowed.complete) == (200, True), allowed.body
            assert wire.has_call(allowed.body)
            told = last(bed)
            assert (told["outcome"], "delivered_hash_b64u" in told) == ("complete", False)
            assert sha(allowed.body) == bed.records("receipt")[-1]["response_hash_b64u"]
            digest = sha256_b64u(jcs_bytes(ALLOWED_ARGUMENTS))
            assert [(c["name"], c["outcome"], c["arguments_hash_b64u"]) for c in told["called"]] == [
                ("ticket_read", "allowed", digest)
            ]
            for name, (words, reason, rule) in DENIED.items():
                answer = await ask(bed, wire, f"text-first {words}", stream)
                seen = (name, stream, answer.body)
                assert (answer.status, answer.complete) == (200 if stream else 403, True), seen
                text, told = wire.text(answer.body), last(bed)
                outcomes = {called["name"]: called["outcome"] for called in told["called"]}
                if name == "parallel":  # blocks that came before it are the agent's by then
                    assert outcomes in ({"ticket_read": before, "Bash": "denied"} for before in ("allowed", "withheld"))
                else:
                    assert list(outcomes.values()) == ["denied"], seen
                if "allowed" not in outcomes.values() or not stream:
                    assert not wire.has_call(answer.body), seen
                assert SECRET not in text, seen
                assert b':"Bash"' not in text, seen
                assert (TEXT in text.replace(b"clawproxy", b"")) is stream, seen
                assert reason.encode() in text, seen
                assert rule.encode() in text, seen
                assert (told["outcome"], told["delivered_hash_b64u"]) == ("call_refused", sha(answer.body)), seen
        # no arguments on record, only their digests
        assert SECRET not in b"".join(path.read_bytes() for path in (bed.state / "jobs" / "job-1").glob("*"))
        await sealed(bed, GATED)


@each_wire
async def test_where_the_contract_says_refuse_a_text_takes_the_place_of_the_call(
    tmp_path: Path, provider: Provider, wire: Wire
) -> None:
    async with gated(tmp_path, provider, REFUSING) as bed:
        for stream in (True, False):
            for name, (words, reason, rule) in DENIED.items():
                answer = await ask(bed, wire, f"text-first {words}", stream)
                seen = (name, stream, answer.body)
                text = wire.text(answer.body)
                assert (answer.status, answer.complete) == (200, True), seen
                assert SECRET not in text, seen
                assert b':"Bash"' not in text, seen
                assert TEXT in text, seen
                assert reason.encode() in text, seen
                assert rule.encode() in text, seen
                told = last(bed)
                assert (told["outcome"], told["delivered_hash_b64u"]) == ("complete", sha(answer.body)), seen
                kept = [called for called in told["called"] if called["outcome"] == "allowed"]
                if not kept:
                    assert not wire.has_call(answer.body), seen
                    assert wire.stops in text, seen
        await sealed(bed, REFUSING)


async def test_without_the_verdict_the_denied_call_reaches_the_client(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_gate, "decide_call", lambda *facts: CallAllowed("nobody looked"))
    async with gated(tmp_path, provider) as bed:
        for wire in WIRES.values():
            for stream in (True, False):
                answer = await ask(bed, wire, f"text-first {DENIED['denied'][0]}", stream)
                assert wire.has_call(answer.body), wire.name
        await bed.settled()
        directory = Path(str((await bed.gateway.seal("job-1"))["directory"]))
        report = verify_path(directory, bed.trust(), jcs_bytes(GATED))
        assert report.verdict is Verdict.FAILED, "a receipt of a call outside the contract verifies"
