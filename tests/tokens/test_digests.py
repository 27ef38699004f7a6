from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from clawproxy.tokens.digests import b64u_decode, b64u_encode, is_sha256_b64u, sha256_b64u, sha256_hex
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(min_size=1, max_size=100))
def test_decoding_takes_back_what_encoding_gave(raw: bytes) -> None:
    text = b64u_encode(raw)
    assert b64u_decode(text) == raw
    assert b64u_decode(text, length_bytes=len(raw)) == raw


@pytest.mark.parametrize("size", [1, 2, 31, 32, 64])
def test_only_one_last_character_decodes_to_the_same_bytes(size: int) -> None:
    """Malleable trailing bits: all 63 other last characters either mean other bytes or are refused."""
    raw = bytes(range(size))
    text = b64u_encode(raw)
    same = []
    for char in ALPHABET:
        with suppress(ClawproxyError):
            if b64u_decode(text[:-1] + char) == raw:
                same.append(char)
    assert same == [text[-1]]


@pytest.mark.parametrize(
    "text", ["", "A", "AA==", "AA=", "A+A", "A/A", "AA\n", " AA", "A A", "ÄÄ", "٠٠", "AAAAA", "\ud800A"]
)
def test_other_text_forms_are_refused(text: str) -> None:
    with pytest.raises(ClawproxyError):
        b64u_decode(text)


@pytest.mark.parametrize("value", [None, 7, b"AA", ["AA"]])
def test_what_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(ClawproxyError):
        b64u_decode(value)  # type: ignore[arg-type]  # what a JSON document may hold in its place


def test_another_length_is_refused() -> None:
    with pytest.raises(ClawproxyError):
        b64u_decode(b64u_encode(bytes(31)), length_bytes=32)


@given(st.text(max_size=60))
def test_decoding_random_text_raises_nothing_but_our_error(text: str) -> None:
    with suppress(ClawproxyError):
        assert b64u_encode(b64u_decode(text)) == text


def test_digests_are_sha_256() -> None:
    assert sha256_hex(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert b64u_decode(sha256_b64u(b"abc")) == hashlib.sha256(b"abc").digest()


def test_a_digest_text_is_recognised_only_in_its_canonical_form() -> None:
    good = sha256_b64u(b"x")
    assert is_sha256_b64u(good)
    loose = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) + 1]
    for bad in (loose, good + "=", good[:-1], good + "A", "", None, 43, "*" * 43):
        assert not is_sha256_b64u(bad)
