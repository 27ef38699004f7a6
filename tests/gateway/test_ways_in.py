"""Every way to bring a token, each route, each refusal at the step where it belongs; judged equals sent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import gateway as gateway_module
from clawproxy.addons.call import Call
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.receipts.job import JobLimits
from clawproxy.tokens.digests import b64u_encode
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.reasons import REASONS, Refusal

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, make_state, running_bed

CHAT = "/openai/v1/chat/completions"
ANTHROPIC = json.dumps(
    {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
).encode()


def _without_token(bed: Bed, **headers: str) -> dict[str, str]:
    return {k: v for k, v in bed.headers(**headers).items() if k != "x-cst"}


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("x-cst", "{}"),
        ("x-cst", "Bearer {}"),
        ("x-scoped-token", "{}"),
        ("authorization", "Bearer {}"),
        ("x-api-key", "{}"),
        ("x-goog-api-key", "{}"),
        ("api-key", "{}"),
    ],
)
async def test_the_token_is_found_wherever_a_client_can_put_it_and_does_not_leave(
    tmp_path: Path, provider: Provider, header: str, form: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        headers = {**_without_token(bed), header: form.format(bed.token())}
        answer = await bed.post(CHAT, chat_body(), headers)
        assert answer.status == 200
        seen = provider.seen()[-1]
        assert seen["credential"] == "right"
        assert seen["leaks"] == []


async def test_the_clients_own_provider_key_is_dropped(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.post(CHAT, chat_body(), bed.headers(authorization="Bearer sk-the-agents-own"))
        assert answer.status == 200
        assert provider.seen()[-1]["credential"] == "right"


async def test_connect_carries_the_token_as_proxy_password_for_every_call_inside(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        credential = base64.b64encode(f"job:{bed.token()}".encode()).decode()
        client = await bed.tunnel("api.openai.com", credential=credential)
        for _ in range(3):
            answer = await client.request(
                "POST", "/v1/chat/completions", _without_token(bed, host="api.openai.com"), chat_body()
            )
            assert answer.status == 200
        assert len(bed.records("receipt")) == 3
        assert provider.seen()[-1]["leaks"] == []


async def test_two_different_tokens_are_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.post(CHAT, chat_body(), bed.headers(authorization=f"Bearer {bed.token(job_id='job-2')}"))
        assert (answer.status, answer.refusal["reason"]) == (401, "TOKEN_AMBIGUOUS")


@pytest.mark.parametrize("target", ["/anthropic/v1/messages", "/anthropic/v1/messages?beta=true", "/v1/messages"])
async def test_anthropic_routes(tmp_path: Path, provider: Provider, target: str) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.post(target, ANTHROPIC)
        assert answer.status == 200
        receipt = bed.records("receipt")[0]
        assert receipt["provider"] == "anthropic"
        assert receipt["tokens_output"] > 0


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/proxy/openai"])
async def test_compatibility_routes_answer_with_the_receipt(tmp_path: Path, provider: Provider, target: str) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.post(target, chat_body())
        assert answer.status == 200
        envelope = answer.json["_receipt_envelope"]
        assert envelope == bed.lines()[-1]["body"]
        assert answer.json["_receipt"]["version"] == "1.0"


async def test_a_compatibility_stream_ends_in_the_receipt_comments(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await bed.post("/v1/chat/completions", chat_body("events:3", stream=True))
        assert answer.complete
        tail = answer.body.split(b"data: [DONE]")[1].decode().split("\n")
        comments = dict(line[1:].split("=", 1) for line in tail if line.startswith(":"))
        assert set(comments) == {"clawproxy_receipt_envelope_b64u", "clawproxy_receipt_b64u"}
        padded = comments["clawproxy_receipt_envelope_b64u"] + "=="
        assert json.loads(base64.urlsafe_b64decode(padded)) == bed.lines()[-1]["body"]


async def test_what_was_judged_is_what_left_byte_for_byte(tmp_path: Path, provider: Provider) -> None:
    body = b'{ "messages" : [ {"role":"user","content":"h\\u00e9llo \xe2\x82\xac"} ],\n "model":"gpt-4o-mini" }'
    async with running_bed(tmp_path / "s", provider) as bed:
        assert (await bed.post(CHAT, body)).status == 200
        digest = b64u_encode(hashlib.sha256(body).digest())
        assert provider.seen()[-1]["body_sha256_b64u"] == digest
        assert bed.records("receipt")[0]["request_hash_b64u"] == digest


async def test_an_echoed_credential_does_not_reach_the_agent(tmp_path: Path, provider: Provider) -> None:
    secret = provider.key("openai").encode()
    async with running_bed(tmp_path / "s", provider) as bed:
        for stream in (False, True):
            answer = await bed.chat("echo-credential events:3", stream=stream)
            assert answer.complete
            assert secret not in answer.body
            assert b"redacted by clawproxy" in answer.body


def _declares(tool: str) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": tool}}]}


FILES = {"anthropic-beta": "files-api-2025-04-14"}
REFUSALS: list[tuple[str, str, dict[str, Any], dict[str, Any], int, str, str]] = [
    # name, target, headers over, body over, status, reason, step
    ("unknown route", "/openai/v1/files", {}, {}, 404, "ROUTE_NOT_FOUND", "admit"),
    ("unknown provider", "/v1/proxy/nobody", {}, {}, 400, "UNKNOWN_PROVIDER", "admit"),
    ("encoded path", "/openai/v1/chat%2fcompletions", {}, {}, 400, "REQUEST_AMBIGUOUS", "admit"),
    ("no token", CHAT, {"x-cst": None}, {}, 401, "TOKEN_REQUIRED", "collect"),
    ("garbage token", CHAT, {"x-cst": "nonsense"}, {}, 401, "TOKEN_MALFORMED", "authenticate"),
    ("unknown handle", CHAT, {"x-cst": "cph_unknown"}, {}, 401, "HANDLE_UNKNOWN", "authenticate"),
    ("other policy header", CHAT, {"x-policy-hash": "a" * 43}, {}, 403, "POLICY_HASH_MISMATCH", "pin"),
    ("wrong type", CHAT, {"content-type": "text/plain"}, {}, 415, "CONTENT_TYPE_REFUSED", "read"),
    ("feature", "/anthropic/v1/messages", FILES, {"max_tokens": 1}, 400, "INVALID_REQUEST", "read"),
    ("encoded body", CHAT, {"content-encoding": "gzip"}, {}, 415, "CONTENT_TYPE_REFUSED", "read"),
    ("model", CHAT, {}, {"model": "gpt-5"}, 403, "POLICY_MODEL_NOT_ALLOWED", "decide"),
    ("denied tool", CHAT, {}, _declares("Bash"), 403, "POLICY_TOOL_DENIED", "decide"),
    ("other tool", CHAT, {}, _declares("mail"), 403, "POLICY_TOOL_NOT_ALLOWED", "decide"),
    ("bad run id", CHAT, {"x-run-id": "!!", "x-event-hash": "a"}, {}, 400, "INVALID_REQUEST", "reserve"),
    ("our run id", CHAT, {"x-run-id": "run_0::0001", "x-event-hash": "A" * 43}, {}, 400, "INVALID_REQUEST", "reserve"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "headers", "body", "status", "reason", "step"),
    [row[1:] for row in REFUSALS],
    ids=[r[0] for r in REFUSALS],
)
async def test_a_refusal_names_step_reason_and_remedy_and_nothing_leaves(
    tmp_path: Path, provider: Provider, target: str, headers: dict[str, Any], body: dict[str, Any],
    status: int, reason: str, step: str,
) -> None:  # fmt: skip
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        sent = {k: v for k, v in {**bed.headers(), **headers}.items() if v is not None}
        answer = await bed.post(target, chat_body(**body), sent)
        assert (answer.status, answer.refusal["reason"], answer.refusal["step"]) == (status, reason, step)
        assert answer.refusal["remedy"]
        assert len(provider.seen()) == before
        denials = [*bed.records("denial"), *bed.refusals()]
        assert [(d["reason"], d["step"], d["receipt_id"]) for d in denials] == [
            (reason, step, answer.headers["x-clawproxy-receipt-id"])
        ]
        assert (await bed.chat()).status == 200


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"now_s": int(time.time()) - 4000, "ttl_s": 600}, "TOKEN_EXPIRED"),
        ({"now_s": int(time.time()) + 40_000}, "TOKEN_NOT_YET_VALID"),
        ({"aud": ["other.gateway"]}, "TOKEN_BAD_AUDIENCE"),
        ({"policy_hash_b64u": "b" * 42 + "A"}, "WPC_NOT_FOUND"),
        ({"policy_hash_b64u": None}, "POLICY_REQUIRED"),
        ({"scope": ["clawproxy:call:anthropic"]}, "TOKEN_INSUFFICIENT_SCOPE"),
        ({"ttl_s": 3600}, "TOKEN_TTL_TOO_LONG"),
        ({"spend_cap": 1}, "TOKEN_UNENFORCEABLE"),
        ({"key": SigningKey.generate(Role.TOKEN)}, "TOKEN_UNKNOWN_KID"),
    ],
)
async def test_a_token_that_does_not_fit_is_refused(
    tmp_path: Path, provider: Provider, over: dict[str, Any], reason: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        answer = await bed.chat(token=bed.token(**over))
        assert answer.refusal["reason"] == reason
        assert len(provider.seen()) == before


async def test_a_token_for_the_job_under_another_contract_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        assert (await bed.chat()).status == 200
        answer = await bed.chat(token=bed.token(sub="did:key:zSomeoneElse"))
        assert answer.refusal["reason"] == "POLICY_HASH_MISMATCH"


async def test_a_flood_of_refusals_is_counted_and_does_not_grow_the_jobs_journal(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "JobLimits", partial(JobLimits, denials_per_second=5))
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.client()
        for _ in range(200):
            answer = await client.request("POST", CHAT, bed.headers(), chat_body(model="gpt-5"))
            assert answer.refusal["reason"] == "POLICY_MODEL_NOT_ALLOWED"
        seconds = len({denial["timestamp"][:19] for denial in bed.records("denial")}) + 1
        assert 5 <= len(bed.records("denial")) <= 5 * seconds < 200
        assert (await bed.chat()).status == 200


async def test_an_idempotency_key_counts_once_per_job(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        headers = bed.headers(x_idempotency_key="once")
        assert (await bed.post(CHAT, chat_body(), headers)).status == 200
        assert (await bed.post(CHAT, chat_body(), headers)).refusal["reason"] == "IDEMPOTENCY_KEY_IN_USE"


async def test_the_idempotency_key_of_a_call_that_did_not_leave_may_be_used_again(
    tmp_path: Path, provider: Provider
) -> None:
    """A refusal after the key was taken gives it back; a refusal because it is taken does not."""
    refusals = [Refusal("CREDENTIAL_MISSING", "for this test")] * 2

    class Refusing:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def intend(self, call: Call) -> Any:
            return refusals.pop() if refusals else await self._real.intend(call)

    async with running_bed(tmp_path / "s", provider, wrap_steps=Refusing) as bed:
        headers = bed.headers(x_idempotency_key="once")
        reasons = [(await bed.post(CHAT, chat_body(), headers)).refusal["reason"] for _ in range(2)]
        assert reasons == ["CREDENTIAL_MISSING"] * 2
        assert (await bed.post(CHAT, chat_body(), headers)).status == 200
        for _ in range(2):
            assert (await bed.post(CHAT, chat_body(), headers)).refusal["reason"] == "IDEMPOTENCY_KEY_IN_USE"


async def test_a_contract_that_demands_more_than_can_be_enforced_is_refused_at_pin(
    tmp_path: Path, provider: Provider
) -> None:
    contract = {**CONTRACT, "elevated": False}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        answer = await bed.chat()
        assert (answer.refusal["step"], answer.refusal["reason"]) == ("pin", "WPC_UNENFORCEABLE")


class TestTheTunnel:
    """CONNECT: SNI, Host and destination are one provider's host, port 443, TLS inside."""

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("example.com:443", "TOKEN_REQUIRED"),
            ("api.openai.com:22", "TUNNEL_REFUSED"),
            ("127.0.0.1:443", "TOKEN_REQUIRED"),
            ("localhost:8081", "TOKEN_REQUIRED"),
        ],
    )
    async def test_a_tunnel_elsewhere_is_refused(
        self, tmp_path: Path, provider: Provider, target: str, reason: str
    ) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            client = await bed.client("regular")
            await client.send(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
            status = REASONS[reason].status
            assert (await client.reader.read(4096)).startswith(f"HTTP/1.1 {status}".encode())
            assert [r["reason"] for r in bed.refusals()] == [reason]

    async def test_another_sni_is_refused(self, tmp_path: Path, provider: Provider) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await bed.tunnel("api.openai.com", sni="api.anthropic.com")
            assert [r["reason"] for r in bed.refusals()] == ["DESTINATION_MISMATCH"]

    async def test_another_host_header_is_refused(self, tmp_path: Path, provider: Provider) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            client = await bed.tunnel("api.openai.com")
            answer = await client.request(
                "POST", "/v1/chat/completions", bed.headers(host="api.anthropic.com"), chat_body()
            )
            assert answer.refusal["reason"] == "DESTINATION_MISMATCH"

    async def test_plain_http_inside_is_refused(self, tmp_path: Path, provider: Provider) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            client = await bed.client("regular")
            await client.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
            answer = await client.request(
                "POST", "/v1/chat/completions", bed.headers(host="api.openai.com"), chat_body()
            )
            assert answer.status != 200
            assert bed.records("intent") == []

    async def test_plain_http_through_the_proxy_port_is_refused(self, tmp_path: Path, provider: Provider) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            client = await bed.client("regular")
            answer = await client.request(
                "POST", "http://api.openai.com/v1/chat/completions", bed.headers(host="api.openai.com"), chat_body()
            )
            assert answer.refusal["reason"] == "TLS_REQUIRED"

    async def test_bytes_that_are_not_http_go_nowhere(self, tmp_path: Path, provider: Provider) -> None:
        async with running_bed(tmp_path / "s", provider) as bed:
            before = len(provider.seen())
            client = await bed.client("regular")
            await client.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
            await client.send(b"SSH-2.0-OpenSSH_9.0\r\n")
            with contextlib.suppress(TimeoutError, ConnectionError):  # closed or ignored, both are well
                await asyncio.wait_for(client.reader.read(4096), 1)
            assert len(provider.seen()) == before
            assert bed.records("intent") == []


async def test_a_gateway_that_cannot_listen_leaves_no_admin_socket_that_nobody_answers(
    tmp_path: Path, provider: Provider
) -> None:
    make_state(tmp_path / "s", CONTRACT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = {"reverse": f"127.0.0.1:{taken.getsockname()[1]}", "regular": ""}
        document = {"gateway": {"state_dir": str(tmp_path / "s")}, "listen": listen}
        gateway = Gateway(parse_settings(document, where="test"))
        with pytest.raises(ClawproxyError, match="PORT_IN_USE"):
            await gateway.start()
    assert not (tmp_path / "s" / "admin.sock").exists()
