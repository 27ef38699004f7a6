from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from clawproxy.receipts.journal import MAX_LINE_BYTES
from clawproxy.receipts.records import ENVELOPE_TYPES, Record, build_event, build_record, event_hash, read_record
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import b64u_encode, sha256_b64u
from clawproxy.tokens.envelope import check_envelope_signature
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .workshop import ISSUER, RECEIPT_KEY

PREV = sha256_b64u(b"before")
SIGNERS = frozenset({RECEIPT_KEY.did})
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def make_record(payload: dict[str, Any], **over: Any) -> Record:
    given_: dict[str, Any] = {"seq": 3, "prev_b64u": PREV, "timestamp": "2030-01-01T00:00:00.000Z"} | over
    return build_record("event", payload, RECEIPT_KEY, **given_)


def read(line: bytes, **over: Any) -> Record:
    given_: dict[str, Any] = {"seq": 3, "prev_b64u": PREV, "signers": SIGNERS} | over
    return read_record(line, **given_)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), _values, max_size=4))
def test_a_line_is_the_jcs_bytes_of_its_record_and_h_is_their_hash_without_h(payload: dict[str, Any]) -> None:
    record = make_record(payload)
    parsed = json.loads(record.line)
    assert record.line == jcs_bytes(parsed) + b"\n"
    h = parsed.pop("h")
    digest = hashlib.sha256(b"clawproxy.log.v1\n" + jcs_bytes(parsed)).digest()
    assert h == record.h_b64u == b64u_encode(digest)
    assert parsed["body"] == record.envelope
    check_envelope_signature(record.envelope)


def test_a_record_that_was_built_is_read_back() -> None:
    record = make_record({"a": [1, "é", None]})
    again = read(record.line[:-1])
    assert (again.kind, again.seq, again.h_b64u, again.envelope) == ("event", 3, record.h_b64u, record.envelope)
    assert again.line == record.line


def test_every_changed_byte_of_a_line_is_refused() -> None:
    line = make_record({"a": [1, "é", None], "b": True}).line[:-1]
    for at in range(len(line)):
        for flipped in (line[at] ^ 1, line[at] ^ 0x20):
            changed = line[:at] + bytes([flipped]) + line[at + 1 :]
            with pytest.raises(ClawproxyError):
                read(changed)


@given(st.binary(max_size=60) | st.text().map(str.encode) | _values.map(lambda value: json.dumps(value).encode()))
def test_only_our_errors_escape_from_reading_a_line(line: bytes) -> None:
    with pytest.raises(ClawproxyError):
        read(line)


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"seq": 4}, "HASH_MISMATCH"),
        ({"prev_b64u": sha256_b64u(b"other")}, "HASH_MISMATCH"),
        ({"signers": frozenset({ISSUER.did})}, "CLAIM_NOT_FOUND"),
    ],
)
def test_a_record_elsewhere_or_by_another_is_refused(over: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        read(make_record({}).line[:-1], **over)
    assert caught.value.reason == reason


def test_a_version_that_only_equals_one_is_refused() -> None:
    line = make_record({}).line[:-1].replace(b'"v":1}', b'"v":true}')
    with pytest.raises(ClawproxyError) as caught:
        read(line)
    assert caught.value.reason == "MALFORMED_ENVELOPE"


def test_a_record_too_long_to_be_a_line_is_refused() -> None:
    with pytest.raises(ClawproxyError):
        make_record({"a": "x" * MAX_LINE_BYTES})


def test_each_kind_has_an_envelope_type_of_its_own() -> None:
    assert len(set(ENVELOPE_TYPES.values())) == len(ENVELOPE_TYPES)


def test_the_event_hash_is_over_the_members_in_the_order_of_the_wire() -> None:
    entry = build_event(
        "evt_1", "run_1::0001", "llm_call", "2030-01-01T00:00:00.000Z", jcs_bytes({"b": 1, "a": "ü"}), None
    )
    text = (
        '{"event_id":"evt_1","run_id":"run_1::0001","event_type":"llm_call","timestamp":"2030-01-01T00:00:00.000Z",'
        f'"payload_hash_b64u":"{sha256_b64u(b'{"a":"\xc3\xbc","b":1}')}","prev_hash_b64u":null}}'
    )
    assert event_hash(entry) == entry["event_hash_b64u"] == sha256_b64u(text.encode())
    assert list(entry) == sorted(entry)
