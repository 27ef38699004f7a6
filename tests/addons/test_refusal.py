"""A refusal as agents get it: the sentence, the marks, and what the real SDKs make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest
from clawproxy.addons.refusal import build_refusal, is_final
from clawproxy.addons.wire.format import FORMATS
from clawproxy.tokens.reasons import REASONS, Refusal

from .canned_server import Quiet, serving

RECEIPT = "rcpt_00000000-0000-4000-8000-000000000000"
HASH = "h" * 43


def built(reason: str, name: str | None, **more: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    refusal = Refusal(
        reason, more.pop("rule", 'allowed_models has no entry for "gpt-9"'), more.pop("detail", "it allows gpt-5")
    )
    wire = FORMATS[name] if name else None
    given = {"receipt_id": RECEIPT, "policy_hash": HASH, "job_id": "job-1", **more}
    status, headers, body = build_refusal(refusal, wire, **given)
    return status, headers, json.loads(body)


def message_and_marks(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """As most providers' errors hold them; Ollama's ``error`` is the message itself."""
    error = body["error"]
    return (error, body["clawproxy"]) if isinstance(error, str) else (error["message"], error["clawproxy"])


@pytest.mark.parametrize(
    ("job_id", "named"), [("job-1", "job-1"), (None, "JOB"), ("a b; rm", "JOB"), ("-x", "JOB"), ("j\n", "JOB")]
)
def test_what_to_do_about_a_missing_approval_names_the_job_where_its_id_can_stand_in_a_command(
    job_id: str | None, named: str
) -> None:
    _, _, body = built("APPROVAL_REQUIRED", None, job_id=job_id)
    message, marks = message_and_marks(body)
    assert f"clawproxy approve grant --job {named} --key FILE" in message
    assert f"--job {named} --key FILE" in marks["remedy"]


@pytest.mark.parametrize("name", [*sorted(FORMATS), None])
@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_refusal_says_reason_rule_contract_receipt_and_what_to_do(name: str | None, reason: str) -> None:
    status, headers, body = built(reason, name)
    row = REASONS[reason]
    assert status == row.status
    remedy = row.remedy.replace("--job JOB ", "--job job-1 ")
    message, marks = message_and_marks(body)
    for word in (reason, row.meaning, "allowed_models has no entry", HASH, RECEIPT, remedy):
        assert word in message
    assert "\n" not in message
    assert marks == {
        "reason": reason,
        "step": row.step,
        "rule": 'allowed_models has no entry for "gpt-9"',
        "policy_hash_b64u": HASH,
        "receipt_id": RECEIPT,
        "job": "job-1",
        "remedy": remedy,
    }
    assert headers["content-type"] == "application/json"
    assert (headers["x-clawproxy-receipt-id"], headers["x-clawproxy-job"]) == (RECEIPT, "job-1")
    assert headers["x-clawproxy-reason"] == reason
    assert (headers.get("x-should-retry") == "false") == is_final(Refusal(reason, "r"))
    assert ("www-authenticate" in headers) == (status == 401)


def test_the_shapes_are_those_of_the_providers() -> None:
    for name in ("openai_chat", "openai_responses"):
        error = built("POLICY_TOOL_DENIED", name)[2]["error"]
        assert {key: error[key] for key in ("type", "param", "code")} == {
            "type": "permission_error",
            "param": None,
            "code": "POLICY_TOOL_DENIED",
        }
    body = built("POLICY_TOOL_DENIED", "anthropic_messages")[2]
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", "permission_error", RECEIPT)
    assert body["error"]["details"] == {"error_code": "POLICY_TOOL_DENIED"}
    body = built("ROUTE_NOT_FOUND", None)[2]
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == (
        "error",
        "not_found_error",
        "ROUTE_NOT_FOUND",
    )


def test_what_is_not_known_is_null_and_has_no_header() -> None:
    _, headers, body = built("TOKEN_REQUIRED", None, policy_hash=None, job_id=None)
    assert (body["error"]["clawproxy"]["policy_hash_b64u"], body["error"]["clawproxy"]["job"]) == (None, None)
    assert "x-clawproxy-job" not in headers


def test_text_of_the_agent_is_clipped_and_makes_no_header_or_line() -> None:
    _, headers, body = built("POLICY_TOOL_DENIED", None, rule="r\r\nx: y\ud800" + "z" * 5000, job_id="a\r\nb: c")
    assert "x-clawproxy-job" not in headers
    assert "\n" not in body["error"]["message"]
    assert len(body["error"]["message"]) < 2000


def test_what_may_pass_later_may_be_retried() -> None:
    assert not is_final(Refusal("TOO_MANY_CALLS", "r"))
    assert built("TOO_MANY_CALLS", None)[1]["retry-after"] == "1"
    assert not is_final(Refusal("EVIDENCE_UNAVAILABLE", "r"))
    assert is_final(Refusal("GATEWAY_FAULT", "r"))
    assert is_final(Refusal("POLICY_MODEL_NOT_ALLOWED", "r"))


# -- the real SDKs -------------------------------------------------------------------------------------------------


@contextmanager
def refusing_server(reason: str, name: str) -> Iterator[tuple[str, list[str]]]:
    status, headers, body = built(reason, name)
    seen: list[str] = []

    class Answer(Quiet):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.path)
            data = json.dumps(body).encode()
            self.send_response(status)
            for field, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(field, value)
            self.end_headers()
            self.wfile.write(data)

    with serving(Answer) as address:
        yield address, seen


def call_sdk(name: str, base: str, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    if name == "anthropic_messages":
        with anthropic.Anthropic(base_url=base, api_key="k") as client:
            client.messages.create(model="m", max_tokens=5, messages=messages, stream=stream)
        return
    with openai.OpenAI(base_url=f"{base}/v1", api_key="k") as sdk:
        if name == "openai_chat":
            sdk.chat.completions.create(model="m", messages=messages, stream=stream)
        else:
            sdk.responses.create(model="m", input="hi", stream=stream)


@pytest.mark.parametrize("name", ["anthropic_messages", "openai_chat", "openai_responses"])
@pytest.mark.parametrize(
    ("reason", "exception"),
    [
        ("POLICY_MODEL_NOT_ALLOWED", "PermissionDeniedError"),
        ("TOKEN_EXPIRED", "AuthenticationError"),
        ("INVALID_REQUEST", "BadRequestError"),
        ("ROUTE_NOT_FOUND", "NotFoundError"),
        ("GATEWAY_FAULT", "InternalServerError"),
    ],
)
def test_sdks_raise_their_own_exception_with_our_sentence_and_do_not_retry(
    name: str, reason: str, exception: str
) -> None:
    sdk: Any = anthropic if name == "anthropic_messages" else openai
    with refusing_server(reason, name) as (base, seen):
        for stream in (False, True):
            with pytest.raises(getattr(sdk, exception)) as caught:
                call_sdk(name, base, stream)
            for word in (reason, HASH, RECEIPT, REASONS[reason].remedy):
                assert word in str(caught.value)
            assert caught.value.response.headers["x-clawproxy-receipt-id"] == RECEIPT
            if sdk is openai:
                assert caught.value.code == reason
    assert len(seen) == 2
