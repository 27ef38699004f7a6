"""Answers that carry their receipt, as the compatibility routes promise (protocol.md D.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clawproxy.addons.compat import json_answer, sse_comments
from clawproxy.tokens.digests import b64u_decode
from hypothesis import given
from hypothesis import strategies as st

ENVELOPE = {"envelope_version": "1", "payload": {"a": 1, "ü": "€"}, "signature_b64u": "s"}
LEGACY = {"version": "1.0", "binding": {"runId": "r"}, "signature": "x"}


def test_an_object_is_written_again_in_its_order_with_the_receipts_behind() -> None:
    body = b'{ "id": "x", "z": 1.0, "a": [1e2, true, null], "2": 0, "text": "\\u00e9\\u2028/" }'
    status, out = json_answer(201, body, ENVELOPE, LEGACY)
    assert status == 200
    head = '{"2":0,"id":"x","z":1,"a":[100,true,null],"text":"é\u2028/","_receipt":{'
    assert out.decode().startswith(head)
    parsed = json.loads(out)
    assert list(parsed)[-2:] == ["_receipt", "_receipt_envelope"]
    assert (parsed["_receipt"], parsed["_receipt_envelope"]) == (LEGACY, ENVELOPE)


def test_receipts_that_a_provider_forges_are_replaced() -> None:
    _, out = json_answer(200, b'{"_receipt_envelope":"forged","_receipt":"forged","id":1}', ENVELOPE, None)
    assert json.loads(out) == {"id": 1, "_receipt_envelope": ENVELOPE}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"plain \xff", {"data": "plain \ufffd"}),
        (200, b"[1]", {"data": [1]}),
        (429, b'{"error":{"message":"m"}}', {"error": {"error": {"message": "m"}}, "status": 429}),
        (502, b"<html>", {"error": {"raw": "<html>"}, "status": 502}),
    ],
)
def test_what_is_no_object_or_no_success_is_wrapped(status: int, body: bytes, expected: dict[str, Any]) -> None:
    sent, out = json_answer(status, body, ENVELOPE, LEGACY)
    assert sent == status
    assert json.loads(out) == {**expected, "_receipt": LEGACY, "_receipt_envelope": ENVELOPE}


@given(status=st.sampled_from([200, 204, 400, 503]), body=st.binary(max_size=60) | st.just(b"[" * 900 + b"]" * 900))
def test_no_answer_of_a_provider_raises(status: int, body: bytes) -> None:
    sent, out = json_answer(status, body, ENVELOPE, LEGACY)
    assert sent == (200 if status < 300 else status)
    assert json.loads(out)["_receipt_envelope"] == ENVELOPE


def test_the_comments_of_a_stream_hold_both_receipts() -> None:
    out = sse_comments(ENVELOPE, LEGACY)
    first, second, *rest = out.split(b"\n")
    assert rest == [b"", b""]
    for line, name, document in (
        (first, b":clawproxy_receipt_envelope_b64u=", ENVELOPE),
        (second, b":clawproxy_receipt_b64u=", LEGACY),
    ):
        assert line.startswith(name)
        assert json.loads(b64u_decode(line.removeprefix(name).decode())) == document
    assert sse_comments(ENVELOPE, None).count(b"\n") == 2


@pytest.mark.parametrize(("after", "glued"), [(b"data: x\n\n", False), (b"data: x\r", False), (b"data: [DONE]", True)])
def test_a_comment_is_never_glued_to_a_line_of_data(after: bytes, glued: bool) -> None:
    out = sse_comments(ENVELOPE, None, after=after)
    assert out.startswith(b"\n:") == glued
    assert out.lstrip(b"\n").startswith(b":clawproxy_receipt_envelope_b64u=")
