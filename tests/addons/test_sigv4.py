"""Requests that leave signed: what the stand-in's own reading of Signature Version 4 accepts, and nothing else."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import pytest
from clawproxy.addons.identity import collect_token
from clawproxy.addons.sigv4 import signer_for
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal
from hypothesis import given
from hypothesis import strategies as st

from clawproxy.standin.sigv4 import fault_of

pytest.importorskip("botocore")
PAIR = "AKIA" + "Q" * 16 + ":" + "secret-Of/This+Test=" * 2
HOST = "bedrock-runtime.eu-central-1.amazonaws.com"
MODELS = st.text("abcXYZ019.-_:/", max_size=40).map(lambda rest: "m" + rest)


def signed(path: str, body: bytes, credential: str = PAIR, **more: str) -> list[tuple[str, str]]:
    signer = signer_for(credential, HOST, None)
    assert signer is not None
    headers = {"host": HOST, "content-type": "application/json", "user-agent": "a/1", "accept": "*/*", **more}
    headers |= signer.sign("POST", f"https://{HOST}{path}", headers, hashlib.sha256(body).hexdigest())
    return list(headers.items())


def fault(path: str, headers: list[tuple[str, str]], body: bytes) -> str:
    return fault_of("POST", path, headers, body, credential=PAIR, now_s=time.time())


@given(model=MODELS, body=st.binary(max_size=50))
def test_a_signed_request_is_accepted(model: str, body: bytes) -> None:
    path = f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse"
    assert fault(path, signed(path, body), body) == ""


def test_a_changed_request_is_not_accepted() -> None:
    path, body = "/model/a%3A0/converse", b'{"a":1}'
    headers = signed(path, body, **{"x-amzn-bedrock-guardrailidentifier": "g"})
    assert fault(path, headers, body) == ""
    assert fault("/model/b%3A0/converse", headers, body)
    assert fault(path, headers, b'{"a":2}')
    for name in ("host", "x-amz-date", "content-type", "x-amzn-bedrock-guardrailidentifier", "x-amz-content-sha256"):
        assert fault(path, [(n, "other" if n == name else v) for n, v in headers], body), name


def test_a_session_token_is_sent_and_signed() -> None:
    headers = dict(signed("/model/a/converse", b"{}", f"{PAIR}:session/token+=="))
    assert headers["x-amz-security-token"] == "session/token+=="
    assert "x-amz-security-token" in headers["authorization"]
    assert fault("/model/a/converse", list(headers.items()), b"{}") == ""
    assert "secret-Of" not in str(headers)


@pytest.mark.parametrize(
    ("host", "stated", "region"),
    [
        (HOST, None, "eu-central-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", None, "us-gov-west-1"),
        ("vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", None, "us-east-1"),
        ("bedrock.internal.example", "us-east-2", "us-east-2"),
        (HOST, "us-east-2", "us-east-2"),
    ],
)
def test_the_region_is_that_of_the_host_or_of_the_configuration(host: str, stated: str | None, region: str) -> None:
    signer = signer_for(PAIR, host, stated)
    assert signer is not None
    assert signer.region == region


def test_a_region_that_is_not_known_and_half_a_pair_are_refused() -> None:
    for credential, host, region in (
        (PAIR, "bedrock.internal.example", None),
        (PAIR, f"{HOST}.example", None),
        (PAIR, HOST, "here"),
        ("short:secret", HOST, None),
        (f"{PAIR.partition(':')[0]}:", HOST, None),
    ):
        with pytest.raises(ClawproxyError) as caught:
            signer_for(credential, host, region)
        assert caught.value.reason == "CONFIG_INVALID"
        assert "Of/This" not in str(caught.value)
    assert signer_for("a-bearer-key", HOST, None) is None


def test_the_signer_shows_no_key() -> None:
    signer = signer_for(f"{PAIR}:the-session", HOST, None)
    assert not re.search("AKIA|secret|session", repr(signer))


def test_a_job_handle_can_stand_as_the_access_key() -> None:
    def found(value: str, *more: tuple[bytes, bytes]) -> Any:
        return collect_token([(b"Authorization", value.encode()), *more], None)

    handle = "cph_" + "a-B_9" * 8
    rest = "/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + "0" * 64
    assert found(f"AWS4-HMAC-SHA256 Credential={handle}{rest}") == handle
    for other in (
        f"AWS4-HMAC-SHA256 Credential=AKIAQQQQQQQQQQQQQQQQ{rest}",
        f"AWS4-HMAC-SHA256 Credential={handle}",
        f"AWS4-HMAC-SHA256 SignedHeaders=a, Credential={handle}{rest}",
        f"AWS4-HMAC-SHA256 Credential=x{handle}{rest}",
    ):
        refused = found(other)
        assert isinstance(refused, Refusal)
        assert refused.reason == "TOKEN_REQUIRED"
    refused = found(f"AWS4-HMAC-SHA256 Credential={handle}{rest}", (b"x-cst", b"cph_another"))
    assert isinstance(refused, Refusal)
    assert refused.reason == "TOKEN_AMBIGUOUS"
