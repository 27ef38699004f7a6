from __future__ import annotations

from typing import Any

import orjson
import pytest
from clawproxy.policies.budget_rules import METERED, Amounts
from clawproxy.receipts.calls import Usage
from clawproxy.receipts.job_shapes import CALL_END
from clawproxy.receipts.payloads import (
    authority_detail,
    clip_names,
    clip_text,
    denial_fields,
    receipt_payload,
    start_detail,
    token_facts,
)
from clawproxy.receipts.wire_shapes import MAX_METADATA_BYTES
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.claims import MAX_TEXT_CHARS
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.scope_hash import token_scope_hash
from hypothesis import given
from hypothesis import strategies as st

from .workshop import AGENT_DID, GATEWAY_ID, make_denied, make_end, make_grant, make_start

PLACE: JsonObject = {"incarnation": "a" * 32, "job_id": "j", "prev_b64u": sha256_b64u(b""), "segment": 1, "seq": 9}
EVENT_HASH = sha256_b64u(b"event")
_any_text = st.text(st.characters(), max_size=3000) | st.sampled_from(["\x1f" * 4000, "\ud800" * 900, "€" * 4000])
_names = st.lists(_any_text, max_size=8) | st.sampled_from([["n" * 300] * 5000, ["\x00" * 200] * 300])


def make_payload(start: dict[str, Any] | None = None, end: dict[str, Any] | None = None, **over: Any) -> JsonObject:
    given_: dict[str, Any] = {
        "agent_did": AGENT_DID,
        "gateway_id": GATEWAY_ID,
        "run_id": "run_1::0001",
        "event_hash_b64u": EVENT_HASH,
        "intent_seq": 4,
        "parent_span_id": None,
        "timestamp": "2030-01-01T00:00:00.000Z",
    }
    return receipt_payload(
        make_start(make_grant(), **(start or {})), make_end(**(end or {})), dict(PLACE), **(given_ | over)
    )


def assert_sorted(value: Any) -> None:
    if isinstance(value, dict):
        assert list(value) == sorted(value)
        for below in value.values():
            assert_sorted(below)


def test_a_receipt_has_the_members_of_the_wire_and_keys_in_jcs_order() -> None:
    payload = make_payload()
    assert_sorted(payload)
    assert set(payload) == {
        "receipt_version", "receipt_id", "gateway_id", "provider", "model", "request_hash_b64u", "response_hash_b64u",
        "tokens_input", "tokens_output", "latency_ms", "timestamp", "binding", "metadata",
    }  # fmt: skip
    assert payload["metadata"]["model_identity"]["tier"] == "closed_opaque"
    identity = jcs_bytes(payload["metadata"]["model_identity"])
    assert payload["metadata"]["model_identity_hash_b64u"] == sha256_b64u(identity)
    assert orjson.dumps(payload) == jcs_bytes(payload)  # any writer that keeps the order writes JCS


_STATE: JsonObject = {
    **{name: {"limit": 2**53 - 1, "reserved": 2**53 - 1, "used": 2**53 - 1} for name in METERED},
    **{name: {"limit": 2**53 - 1, "used": 2**53 - 1} for name in ("concurrent_calls", "wall_time_s")},
}
LARGEST_BUDGET: JsonObject = {
    "basis": "reported",
    "charged": Amounts(*[2**53 - 1] * 4).to_json(),
    "per_contract": _STATE,
    "state": _STATE,
}


@given(
    _names, _names, _any_text, _any_text, _any_text, _any_text, st.integers(-(10**20), 10**20), st.integers(-5, 10**10)
)
def test_metadata_stays_within_the_wire_format_whatever_the_agent_sends(
    tools: list[str], calls: list[str], model: str, route: str, detail: str, nonce: str, number: int, ended_ms: int
) -> None:
    payload = make_payload(
        {"tools": tuple(tools), "model": model, "route": route, "nonce": nonce, "presenter": route, "way_in": model},
        {
            "tool_calls": tuple(calls), "response_model": model, "detail": detail, "tokens_input": number,
            "tokens_output": -number, "ended_ms": ended_ms, "response_bytes": number, "first_byte_ms": number,
            "status": number, "tokens_cached": number, "tokens_cache_write": number, "tokens_reasoning": -number,
            "usage": Usage.ESTIMATED,
        },
        agent_did="\x1f" * MAX_TEXT_CHARS,
        budget=LARGEST_BUDGET,
    )  # fmt: skip
    assert len(jcs_bytes(payload["metadata"])) <= MAX_METADATA_BYTES
    assert 0 <= payload["tokens_input"] <= 10_000_000
    assert 0 <= payload["tokens_output"] <= 10_000_000
    assert 0 <= payload["latency_ms"] <= 3_600_000
    assert payload["model"]
    ours = payload["metadata"]["clawproxy"]
    assert ours["tokens_cached"] + ours["tokens_cache_write"] <= payload["tokens_input"]
    assert ours["tokens_reasoning"] <= payload["tokens_output"]
    assert CALL_END.fault(ours) is None


@given(_any_text, st.integers(1, 2000))
def test_clipped_text_fits_and_is_a_prefix(text: str, max_bytes: int) -> None:
    clipped = clip_text(text, max_bytes)
    assert len(orjson.dumps(clipped)) - 2 <= max_bytes
    assert text.encode("utf-8", "replace").startswith(clipped.encode())


def test_short_texts_and_names_are_kept_as_they_are() -> None:
    assert clip_text("claude-opus-5") == "claude-opus-5"
    assert clip_names(("Bash", "mcp__x__y", "ärger")) == ["Bash", "mcp__x__y", "ärger"]


def test_a_clipped_list_is_known_by_its_total() -> None:
    ours = make_payload({"tools": tuple(f"tool_{n}" for n in range(1000))})["metadata"]["clawproxy"]
    assert ours["tools_total"] == 1000
    assert ours["tools"] == [f"tool_{n}" for n in range(len(ours["tools"]))]
    assert len(ours["tools"]) < 1000


def test_spans_hang_on_the_first_receipt_of_the_segment() -> None:
    root = make_payload()["binding"]
    assert root["span_id"].startswith("span_")
    assert "parent_span_id" not in root
    assert make_payload(parent_span_id=root["span_id"])["binding"]["parent_span_id"] == root["span_id"]


def test_a_harness_that_keeps_its_own_chain_is_bound_to_that_and_ours_is_in_the_metadata() -> None:
    theirs = {"harness_run_id": "run_theirs", "harness_event_hash_b64u": sha256_b64u(b"theirs")}
    payload = make_payload(theirs, parent_span_id="span_1")
    assert payload["binding"]["run_id"] == "run_theirs"
    assert payload["binding"]["event_hash_b64u"] == theirs["harness_event_hash_b64u"]
    assert "span_id" not in payload["binding"]
    assert "parent_span_id" not in payload["binding"]
    ours = payload["metadata"]["clawproxy"]
    assert (ours["run_id"], ours["event_hash_b64u"]) == ("run_1::0001", EVENT_HASH)
    half = make_payload({"harness_run_id": "run_theirs"})
    assert half["binding"]["run_id"] == "run_1::0001"


def test_a_call_without_a_model_says_unknown() -> None:
    assert make_payload({"model": ""})["model"] == "unknown"


@pytest.mark.parametrize(("started_ms", "latency_ms"), [(0, 3_600_000), (10**15, 0), (1_900_000_000_037, 3)])
def test_latency_is_an_integer_within_the_wire_format(started_ms: int, latency_ms: int) -> None:
    assert make_payload({"started_ms": started_ms})["latency_ms"] == latency_ms


def test_the_scope_hash_of_a_token_can_be_computed_from_the_record() -> None:
    grant = make_grant(owner_ref="team-7", spend_cap=12)
    token = authority_detail(token_facts(grant), "uid:1", "reverse")["token"]
    assert token_scope_hash(token) == grant.token_scope_hash_b64u == token["token_scope_hash_b64u"]
    assert token["token_hash_hex"] == grant.token_hash_hex


def test_names_that_an_agent_chose_are_values_and_never_keys() -> None:
    fixed = start_detail(make_start(make_grant(), tools=("a",)))
    chosen = start_detail(make_start(make_grant(), tools=("model", "10", "__proto__"), model="seq"))
    assert fixed.keys() == chosen.keys()
    assert denial_fields(make_denied()).keys() == denial_fields(make_denied(model="10", route="x")).keys()


@pytest.mark.parametrize("status", [-1, 0, 42, 99, 1000, 10**20])
def test_a_status_that_is_none_of_http_is_told_in_words(status: int) -> None:
    ours = make_payload(end={"status": status, "detail": "and more"})["metadata"]["clawproxy"]
    assert ours["status"] is None
    assert ours["detail"].startswith(f"the provider answered with status {min(status, 2**53 - 1)}")
    assert ours["detail"].endswith("; and more")
    assert CALL_END.fault(ours) is None


@pytest.mark.parametrize("status", [None, 100, 200, 599, 999])
def test_any_status_of_http_is_kept(status: int | None) -> None:
    ours = make_payload(end={"status": status})["metadata"]["clawproxy"]
    assert (ours["status"], ours["detail"]) == (status, "")


def test_a_receipt_names_its_agent_also_where_a_harness_keeps_the_chain() -> None:
    for start in ({}, {"harness_run_id": "run_theirs", "harness_event_hash_b64u": EVENT_HASH}):
        assert make_payload(start=start)["metadata"]["clawproxy"]["agent_did"] == AGENT_DID


@pytest.mark.parametrize("usage", Usage)
def test_a_receipt_says_whose_its_figures_are_and_what_they_are_made_of(usage: Usage) -> None:
    end = {"usage": usage, "tokens_cached": 4, "tokens_cache_write": 3, "tokens_reasoning": 2}
    ours = make_payload(end=end)["metadata"]["clawproxy"]
    assert {name: ours[name] for name in end} == end


def test_parts_of_tokens_are_no_more_than_the_whole() -> None:
    end = {"tokens_input": 10, "tokens_output": 5, "tokens_cached": 8, "tokens_cache_write": 8, "tokens_reasoning": 8}
    ours = make_payload(end=end)["metadata"]["clawproxy"]
    assert (ours["tokens_cached"], ours["tokens_cache_write"], ours["tokens_reasoning"]) == (8, 2, 5)


@pytest.mark.parametrize(
    ("answered", "match"),
    [("gpt-5-mini", "same"), ("gpt-5-mini-2030-01-01", "snapshot"), ("gpt-3", "other"), (None, "unknown")],
)
def test_a_receipt_compares_the_model_that_answered_with_the_one_asked_for(answered: str | None, match: str) -> None:
    ours = make_payload({"model": "gpt-5-mini"}, {"response_model": answered})["metadata"]["clawproxy"]
    assert (ours["response_model"], ours["model_match"]) == (answered, match)
