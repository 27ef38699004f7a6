from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.legacy import build_legacy_receipt
from clawproxy.receipts.payloads import receipt_payload
from clawproxy.tokens.digests import b64u_decode, sha256_b64u
from clawproxy.tokens.envelope import build_envelope
from clawproxy.tokens.keys import Role, SigningKey, verify_signature

from .workshop import AGENT_DID, GATEWAY_ID, RECEIPT_KEY, make_end, make_grant, make_start

_SAMPLES = Path(__file__).parents[2].parent / "shared" / "vectors" / "kat" / "proxy_samples.json"
KEY = SigningKey.from_seed(Role.RECEIPT, bytes(range(32)))


def make_envelope(**over: Any) -> dict[str, Any]:
    payload = {
        "binding": {"event_hash_b64u": "E" * 43, "nonce": "n-1", "policy_hash": "P" * 43, "run_id": "run_9"},
        "gateway_id": "did:web:gateway.example",
        "latency_ms": 21,
        "metadata": {},
        "model": "claude-haiku-4",
        "provider": "anthropic",
        "receipt_id": "rcpt_1",
        "receipt_version": "1",
        "request_hash_b64u": sha256_b64u(b"ask"),
        "response_hash_b64u": sha256_b64u(b"answer"),
        "timestamp": "2030-03-04T05:06:07.008Z",
        "tokens_input": 1,
        "tokens_output": 2,
    }
    return build_envelope("gateway_receipt", payload | over, KEY, "2030-03-04T05:06:07.008Z")


def test_the_signed_text_is_this_text_and_no_other() -> None:
    """Written out by hand from protocol.md D.7; sha256 of the two bodies by sha256sum."""
    receipt = build_legacy_receipt(make_envelope(), KEY)
    text = (
        '{"version":"1.0","proxyDid":"did:web:gateway.example","provider":"anthropic","model":"claude-haiku-4",'
        '"requestHash":"2f2fc7f2e9ce13b09b84f63d54d0b4a59f4dbd46aea41da67023817e2d0c5e59",'
        '"responseHash":"0db52f4076c082518412afd3dd3576e2cb0c63703fd7fed5e23ade60efef31d9",'
        f'"timestamp":"2030-03-04T05:06:07.008Z","latencyMs":21,"kid":"{KEY.kid}",'
        f'"binding":{{"runId":"run_9","eventHash":"{"E" * 43}","nonce":"n-1","policyHash":"{"P" * 43}"}},'
        '"payment":{"mode":"user","paid":false},"privacyMode":"hash_only"}'
    )
    assert verify_signature(KEY.did, text.encode(), receipt["signature"])
    assert list(receipt) == [
        "version", "provider", "model", "requestHash", "responseHash", "timestamp", "latencyMs", "payment", "binding",
        "privacyMode", "proxyDid", "kid", "signature",
    ]  # fmt: skip


def test_a_call_that_named_no_model_has_none() -> None:
    receipt = build_legacy_receipt(make_envelope(model="unknown"), KEY)
    assert "model" not in receipt


def test_it_is_made_from_a_receipt_of_ours() -> None:
    place = {"incarnation": "a" * 32, "job_id": "j", "prev_b64u": "p" * 43, "segment": 1, "seq": 2}
    payload = receipt_payload(
        make_start(make_grant()),
        make_end(),
        place,
        agent_did=AGENT_DID,
        gateway_id=GATEWAY_ID,
        run_id="run_1::0001",
        event_hash_b64u="E" * 43,
        intent_seq=1,
        parent_span_id=None,
        timestamp="2030-01-01T00:00:00.000Z",
    )
    receipt = build_legacy_receipt(build_envelope("gateway_receipt", payload, RECEIPT_KEY, "x"), RECEIPT_KEY)
    assert receipt["binding"]["tokenScopeHashB64u"] == make_grant().token_scope_hash_b64u
    assert "span_id" not in json.dumps(receipt)


@pytest.mark.skipif(not _SAMPLES.exists(), reason="the shared known answers are not here")
@pytest.mark.parametrize("name", ["json_call", "rt_call"])
def test_the_reference_gateway_signs_the_same(name: str) -> None:
    samples = json.loads(_SAMPLES.read_text())
    key = SigningKey.from_seed(Role.RECEIPT, b64u_decode(samples["seeds"]["proxy"]))
    sample = samples[name]
    answer = json.loads(sample if isinstance(sample, str) else sample["response_body"])
    expected = answer["_receipt"]
    assert build_legacy_receipt(answer["_receipt_envelope"], key) == expected
    assert list(build_legacy_receipt(answer["_receipt_envelope"], key)) == list(expected)
