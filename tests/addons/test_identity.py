"""Where a call's token is found: in place of a provider's key, behind the words that SDKs put before keys."""

from __future__ import annotations

import pytest
from clawproxy.addons.identity import collect_token
from clawproxy.tokens.reasons import Refusal

HANDLE = "cph_" + "a" * 43
OTHER = "cph_" + "b" * 43


@pytest.mark.parametrize("written", ["Bearer {}", "bearer {}", "Key {}", "key  {}", "{}"])
@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"X-Goog-Api-Key", b"api-key"])
def test_a_handle_in_place_of_a_key_is_found(name: bytes, written: str) -> None:
    fields = [(name, written.format(HANDLE).encode())]
    assert collect_token(fields, None) == HANDLE
    assert collect_token(fields, HANDLE) == HANDLE
    other = collect_token(fields, OTHER)
    assert isinstance(other, Refusal)
    assert other.reason == "TOKEN_AMBIGUOUS"


def test_a_cst_as_access_key_of_an_aws_signature_is_found() -> None:
    token = f"eyJ{'a' * 200}.{'b' * 700}.{'c' * 86}"
    signed = (
        f"AWS4-HMAC-SHA256 Credential={token}/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature="
    )
    assert collect_token([(b"authorization", signed.encode() + b"0" * 64)], None) == token
    own = collect_token([(b"authorization", signed.replace(token, "AKIAEXAMPLE").encode())], None)
    assert isinstance(own, Refusal)
    assert "AWS signature" in own.detail
    assert "proxy-authorization" in own.detail


@pytest.mark.parametrize("written", ["Key id:secret", "Key sk-own", "Basic cph_x", "Token {}", "Key Key {}", "KeyX {}"])
def test_a_key_of_the_agents_own_is_no_token(written: str) -> None:
    fields = [(b"authorization", written.format(HANDLE).encode())]
    found = collect_token(fields, None)
    assert isinstance(found, Refusal)
    assert found.reason == "TOKEN_REQUIRED"
    assert collect_token(fields, OTHER) == OTHER
