"""The resolver of a door, as a function: an answer to each query that is one, an error to the rest, no exception."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from clawproxy.addons.door_dns import MAX_QUERY_BYTES, answer_to
from clawproxy.policies.door_names import DoorNames
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy.dns import DNSMessage, ResourceRecord

from ..gateway.door_rig import TYPES, query
from ..policies.test_door_names import table

HEADER = struct.Struct("!HHHHHH")
NAMES = table()
QUERY = query("api.openai.com").packed


def ask(wire: bytes, names: DoorNames = NAMES) -> tuple[DNSMessage | None, list[str]]:
    told: list[str] = []
    answer = answer_to(wire, names, told.append)
    return (None if answer is None else DNSMessage.unpack(answer)), told


def with_options(message: DNSMessage, ttl: int = 0, data: bytes = b"") -> bytes:
    message.additionals = [ResourceRecord("", 41, 4096, ttl, data)]
    return message.packed


def test_an_allowed_name_has_one_address_of_each_family() -> None:
    v4, v6 = NAMES.addresses("api.openai.com") or (None, None)
    answer, told = ask(query("api.openai.com", "A").packed)
    assert answer is not None
    assert [IPv4Address(record.data) for record in answer.answers] == [v4]
    answer, _ = ask(query("api.openai.com", "AAAA").packed)
    assert answer is not None
    assert [IPv6Address(record.data) for record in answer.answers] == [v6]
    assert (answer.id, answer.query, answer.response_code, answer.recursion_desired) == (7, False, 0, True)
    assert told == []


@pytest.mark.parametrize("kind", ["NS", "MX", "TXT", "SVCB", "HTTPS", "ANY"])
def test_an_allowed_name_has_no_other_record(kind: str) -> None:
    answer, told = ask(query("api.openai.com", kind).packed)
    assert answer is not None
    assert (answer.response_code, answer.answers, told) == (0, [], [])


@pytest.mark.parametrize("kind", sorted(TYPES))
@pytest.mark.parametrize("name", ["evil.example", "aGVsbG8.t.evil.example", "1.1.19.198.in-addr.arpa", "localhost"])
def test_any_other_name_does_not_exist_and_is_told(name: str, kind: str) -> None:
    answer, told = ask(query(name, kind).packed)
    assert answer is not None
    assert (answer.response_code, answer.answers, answer.authorities) == (3, [], [])
    assert told == [name.lower()]


ADDRESSES = ["198.18.0.1", "198.18.0.2", "127.0.0.1", "::1", "fd63:6c61:7770::2"]


@pytest.mark.parametrize("address", [*ADDRESSES, *map(str, NAMES.addresses("api.openai.com") or ())])
def test_the_addresses_that_are_here_are_called_nothing_and_nobody_is_told(address: str) -> None:
    pointer = ip_address(address).reverse_pointer
    question = query(pointer.upper())
    question.questions[0] = replace(question.questions[0], type=12)  # PTR
    answer, told = ask(question.packed)
    assert answer is not None
    assert (answer.response_code, answer.answers, told) == (3, [], [])
    for other in (f"x.{pointer}", f"0{pointer}", pointer.partition(".")[2], pointer.replace("arpa", "example")):
        assert ask(query(other).packed)[1] == [other]


def test_letters_of_either_case_are_one_name_and_come_back_as_they_were_asked() -> None:
    answer, told = ask(query("aPi.OpenAI.coM").packed)
    assert answer is not None
    assert answer.questions[0].name == "aPi.OpenAI.coM"
    assert (answer.answers[0].name, told) == ("aPi.OpenAI.coM", [])


def test_extensions_are_tolerated_and_told_of() -> None:
    answer, _ = ask(with_options(query("api.openai.com"), data=b"\x00\x0a\x00\x08cookie12"))
    assert answer is not None
    assert [record.type for record in answer.additionals] == [41]
    assert len(answer.answers) == 1
    answer, _ = ask(with_options(query("api.openai.com"), ttl=1 << 16))  # a version that nobody has
    assert answer is not None
    assert (answer.answers, answer.additionals[0].ttl >> 24) == ([], 1)
    assert ask(QUERY)[0] is not None
    assert (ask(QUERY)[0] or answer).additionals == []


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (QUERY[:12], 1),
        (QUERY[:-1], 1),
        (QUERY + b"\0", 1),
        (QUERY.ljust(MAX_QUERY_BYTES + 1, b"\0"), 1),
        (HEADER.pack(7, 0x0100, 2, 0, 0, 0) + QUERY[12:] * 2, 1),
        (HEADER.pack(7, 0x0100, 1, 1, 0, 0) + QUERY[12:], 1),
        (HEADER.pack(7, 0x0100, 0, 0, 0, 0), 1),
        (HEADER.pack(7, 0x0100, 1, 0, 0, 9) + QUERY[12:], 1),
        (HEADER.pack(7, 0x2800, 1, 0, 0, 0) + QUERY[12:], 4),  # UPDATE
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01", 1),  # a name that points at itself
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\x0eapi.openai.com\x00\x00\x01\x00\x01", 1),  # one label with dots
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\x03\xff\xfe\xfd\x00\x00\x01\x00\x01", 1),
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\x04xn--\x00\x00\x01\x00\x01", 1),
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\x3f" + b"a" * 63 + b"\x00\x00\x01\x00\x01", 3),
        (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + QUERY[12:-2] + b"\x00\x03", 5),  # CHAOS
    ],
)
def test_what_is_no_plain_query_gets_an_error(wire: bytes, code: int) -> None:
    answer, _ = ask(wire)
    assert answer is not None
    assert (answer.id, answer.response_code, answer.answers) == (7, code, [])


@pytest.mark.parametrize("wire", [b"", b"\0" * 11, HEADER.pack(7, 0x8180, 1, 0, 0, 0) + QUERY[12:]])
def test_what_is_no_question_at_all_gets_nothing(wire: bytes) -> None:
    assert ask(wire) == (None, [])


@st.composite
def _spoilt(draw: Any) -> bytes:
    wire: bytearray = bytearray(
        draw(st.sampled_from([QUERY, with_options(query("x.wild.example", "HTTPS"), data=b"\0\x0c\0\0")]))
    )
    for _ in range(draw(st.integers(0, 6))):
        wire[draw(st.integers(0, len(wire) - 1))] = draw(st.integers(0, 255))
    end: bytes = draw(st.binary(max_size=20))
    return bytes(wire[: draw(st.integers(0, len(wire)))]) + end


@given(st.binary(max_size=700) | _spoilt() | st.binary(max_size=500).map(lambda tail: QUERY[:12] + tail))
@example(QUERY[:12] + b"\xc0\x0c" * 240)
@example(QUERY[:12] + b"".join((0xC000 | (14 + 2 * n)).to_bytes(2) for n in range(240)) + b"\0\0\1\0\1")
def test_no_bytes_make_it_fail_and_an_answer_has_nothing_but_addresses_of_names(wire: bytes) -> None:
    names = table()
    answer, _ = ask(wire, names)
    if answer is not None:
        assert not answer.query
        assert len(answer.answers) <= 1
        assert all(names.name_at(_address(record)) == record.name.lower().rstrip(".") for record in answer.answers)


def _address(record: ResourceRecord) -> str:
    return str(IPv4Address(record.data) if len(record.data) == 4 else IPv6Address(record.data))
