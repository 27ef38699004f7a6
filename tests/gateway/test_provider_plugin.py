"""The reference OpenClaw provider plugin (protocol.md G): its requests, header by header, and what it reads of answers.

``Plugin`` does what that page says of the client: it sends the body that an SDK wrote to ``/v1/proxy/{provider}`` with
its own run, event and nonce, and takes the receipts out of the answer.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.digests import sha256_b64u, sha256_hex

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, SSE_WORDS, Bed, running_bed
from .raw_client import Answer

GEMINI = "gemini-2.5-flash"
OWN_KEY = "sk-the-agents-own"


@dataclass
class Reply:
    """What the plugin hands to its caller, and the receipts that it took out."""

    status: int
    body: Any
    receipt: dict[str, Any] | None
    envelope: dict[str, Any] | None
    text: bytes = b""


class Plugin:
    def __init__(self, bed: Bed, token: str | None = None) -> None:
        self.bed = bed
        self.token = token or bed.token()
        self.run_id = f"run_{uuid.uuid4()}"
        self.event_hash = sha256_b64u(b"its llm_call event")
        self.nonce = ""

    async def call(self, provider: str, body: Any, *, api: str = "", accept: str = "", **more: str) -> Reply:
        self.nonce = f"nonce_{uuid.uuid4()}"
        headers = {
            "host": "gateway",
            "content-type": "application/json",
            "x-provider-api-key": OWN_KEY,
            "x-run-id": self.run_id,
            "x-event-hash": self.event_hash,
            "x-idempotency-key": self.nonce,
            "x-policy-hash": self.bed.policy_hash,
            "x-cst": self.token,
            **({"x-openai-api": api} if api else {}),
            **({"accept": accept} if accept else {}),
            **more,
        }
        raw = json.dumps(body).encode()
        answer = await self.bed.post(f"/v1/proxy/{provider}", raw, headers)
        kind = answer.headers.get("content-type", "")
        return self._stream(answer) if "event-stream" in kind else self._json(answer)

    def _json(self, answer: Answer) -> Reply:
        body = json.loads(answer.body)
        receipt, envelope = body.pop("_receipt", None), body.pop("_receipt_envelope", None)
        if answer.status >= 400 and body.get("status") == answer.status:
            body = body["error"]
        return Reply(answer.status, body, receipt, envelope)

    def _stream(self, answer: Answer) -> Reply:
        """Comments by line, the last one wins; each goes together with one blank line behind it."""
        taken: dict[str, Any] = {}
        kept: list[str] = []
        after_comment = False
        for line in answer.body.decode().split("\n"):
            found = re.fullmatch(r":\s*clawproxy_(receipt_envelope|receipt)_b64u=([A-Za-z0-9_-]+)\r?", line)
            if found:
                taken[found[1]] = json.loads(base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)))
                after_comment = True
            elif after_comment and not line.strip("\r"):
                after_comment = False
            else:
                kept.append(line)
        text = "\n".join(kept).encode()
        return Reply(answer.status, None, taken.get("receipt"), taken.get("receipt_envelope"), text)

    def check(self, reply: Reply, provider: str) -> None:
        """What it demands of both receipts, and that they bind to its own run."""
        assert reply.receipt is not None
        assert reply.envelope is not None
        assert reply.receipt["version"] == "1.0"
        assert re.fullmatch(r"[0-9a-f]{64}", reply.receipt["requestHash"])
        assert re.fullmatch(r"[0-9a-f]{64}", reply.receipt["responseHash"])
        bound = {"runId": self.run_id, "eventHash": self.event_hash, "nonce": self.nonce}
        assert {name: reply.receipt["binding"][name] for name in bound} == bound
        envelope, payload = reply.envelope, reply.envelope["payload"]
        assert (envelope["envelope_version"], envelope["envelope_type"]) == ("1", "gateway_receipt")
        assert envelope["payload_hash_b64u"]
        assert payload["provider"] == provider
        binding = payload["binding"]
        told = (binding["run_id"], binding["event_hash_b64u"], binding["nonce"], binding["policy_hash"])
        assert told == (self.run_id, self.event_hash, self.nonce, self.bed.policy_hash)
        file = self.bed.state.parent / "receipt.json"
        file.write_text(json.dumps(envelope))
        report = verify_path(file, self.bed.trust())
        assert (report.verdict, report.findings) == (Verdict.CONFORMS, ())


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    contract = {
        **CONTRACT,
        "allowed_providers": ["google", "openai", "anthropic"],
        "allowed_models": [GEMINI, "gpt-4o-mini", "claude-sonnet-5-5"],
    }
    upstreams = {
        name: {"upstream": provider.url, "credential": f"file:{provider.key_files[name]}"}
        for name in ("openai", "anthropic", "google")
    }
    async with running_bed(tmp_path / "s", provider, contract=contract, sections={"providers": upstreams}) as running:
        yield running


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"hi {SSE_WORDS}"}], **more}


def native(**more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], **more}


CALLS: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
    ("openai", chat(), {"api": "chat_completions"}, "/v1/chat/completions"),
    ("openai", chat(), {}, "/v1/chat/completions"),
    ("openai", {"model": "gpt-4o-mini", "input": "hi"}, {"api": "responses"}, "/v1/responses"),
    (
        "anthropic",
        {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        {"anthropic-version": "2023-06-01"},
        "/v1/messages",
    ),
    ("google", native(), {}, f"/v1beta/models/{GEMINI}:generateContent"),
    ("google", native(model=GEMINI), {}, f"/v1beta/models/{GEMINI}:generateContent"),
    ("google", native(model=f"models/{GEMINI}"), {}, f"/v1beta/models/{GEMINI}:generateContent"),
]


@pytest.mark.parametrize(("provider_name", "body", "more", "path"), CALLS)
async def test_a_whole_answer_is_the_providers_with_both_receipts(
    bed: Bed, provider_name: str, body: dict[str, Any], more: dict[str, str], path: str
) -> None:
    plugin = Plugin(bed)
    reply = await plugin.call(provider_name, body, **more)
    assert reply.status == 200, reply.body
    plugin.check(reply, provider_name)
    assert not any(name.startswith("_receipt") for name in reply.body)
    seen = bed.provider.seen()[-1]
    assert seen["path"] == path
    assert OWN_KEY not in json.dumps(seen)
    assert reply.receipt is not None
    assert reply.receipt["requestHash"] == sha256_hex(json.dumps(body).encode())
    names = {name.lower() for name in seen["headers"]}
    assert not names & {"x-cst", "x-run-id", "x-event-hash", "x-idempotency-key", "x-policy-hash", "x-provider-api-key"}


@pytest.mark.parametrize("accept", ["", "text/event-stream"])
async def test_a_stream_ends_in_both_receipts_and_without_them_is_the_providers(bed: Bed, accept: str) -> None:
    plugin = Plugin(bed)
    for provider_name, body in (
        ("openai", chat(stream=True)),
        ("anthropic", {"model": "claude-sonnet-5-5", "max_tokens": 9, "stream": True, "messages": chat()["messages"]}),
    ):
        reply = await plugin.call(provider_name, body, accept=accept)
        plugin.check(reply, provider_name)
        assert b"clawproxy" not in reply.text
        assert reply.text.endswith(b"\n\n")
        assert reply.receipt is not None
        assert reply.receipt["responseHash"] == sha256_hex(reply.text)


async def test_an_error_of_the_provider_is_wrapped_as_it_unwraps_it(bed: Bed) -> None:
    plugin = Plugin(bed)
    reply = await plugin.call("openai", chat(messages=[{"role": "user", "content": "status:429"}]))
    assert reply.status == 429
    plugin.check(reply, "openai")
    assert "error" in reply.body


async def test_a_refusal_is_an_error_without_receipts_and_nothing_leaves(bed: Bed) -> None:
    plugin = Plugin(bed)
    before = len(bed.provider.seen())
    for provider_name, body, more in (
        ("openai", chat(model="gpt-other"), {}),
        ("google", native(model="gemini-other"), {}),
        ("google", native(model="../x"), {}),
        ("google", native(model=7), {}),
        ("google", native(), {"api": "responses"}),
        ("google", native(tools=[{"functionDeclarations": [{"name": "Bash"}]}]), {}),
    ):
        reply = await plugin.call(provider_name, body, **more)
        assert (400 <= reply.status < 500, reply.receipt, reply.envelope) == (True, None, None), body
    assert len(bed.provider.seen()) == before


async def test_a_nonce_counts_once(bed: Bed) -> None:
    plugin = Plugin(bed)
    await plugin.call("openai", chat())
    again = await plugin.call("openai", chat(), **{"x-idempotency-key": plugin.nonce})
    assert (again.status, again.receipt) == (403, None)


@pytest.mark.parametrize("models", [["gpt-4o-mini"], ["gemini-2.5-*"], [GEMINI, "gemini-2.5-pro"]])
async def test_a_native_body_without_a_model_is_not_guessed(
    tmp_path: Path, provider: Provider, models: list[str]
) -> None:
    contract = {**CONTRACT, "allowed_providers": ["google"], "allowed_models": models}
    upstream = {"google": {"upstream": provider.url, "credential": f"file:{provider.key_files['google']}"}}
    async with running_bed(tmp_path / "s", provider, contract=contract, sections={"providers": upstream}) as bed:
        reply = await Plugin(bed).call("google", native())
        assert reply.status == 403
        assert "POLICY_MODEL_REQUIRED" in json.dumps(reply.body)
        (denial,) = bed.records("denial")
        assert denial["reason"] == "POLICY_MODEL_REQUIRED"


async def test_its_calls_are_bound_to_its_chain_and_the_job_verifies(bed: Bed) -> None:
    plugin = Plugin(bed)
    await plugin.call("openai", chat())
    await plugin.call("google", native())
    await bed.gateway.seal("job-1", force=False)
    report = verify_job(load_directory(bed.state / "jobs" / "job-1").files, bed.trust())
    assert report.verdict is Verdict.VERIFIED, report.findings
    bindings = {receipt["binding"]["run_id"] for receipt in bed.records("receipt")}
    assert bindings == {plugin.run_id}
