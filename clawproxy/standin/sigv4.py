"""AWS Signature Version 4, checked over what arrived. Reads the clock that it is given.

Limits: header signatures only, no presigned queries, no chunked or unsigned payloads; service ``bedrock``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    _ALGORITHM + r" Credential=(?P<access>[A-Za-z0-9]{1,128})/(?P<day>[0-9]{8})/(?P<region>[a-z0-9-]{1,64})"
    r"/(?P<service>[a-z0-9-]{1,64})/aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;_-]{1,4096}),"
    r" ?Signature=(?P<signature>[0-9a-f]{64})"
)
_MAX_SKEW_S = 300
_EMPTY_DATE = "00000000T000000Z"


def access_key_of(authorization: str) -> str:
    """The access key that a signature names, or nothing."""
    found = _AUTHORIZATION.fullmatch(authorization)
    return found["access"] if found else ""


def fault_of(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    credential: str,
    now_s: float,
) -> str:
    """What is wrong with the signature, or nothing. ``credential`` is ``ACCESS:SECRET``; header names in lower case."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    found = _AUTHORIZATION.fullmatch(",".join(values.get("authorization", [])))
    if not found:
        return "no AWS4-HMAC-SHA256 authorization"
    access, _, secret = credential.partition(":")
    if not hmac.compare_digest(found["access"], access):
        return "unknown access key"
    if found["service"] != "bedrock":
        return "another service"
    date = ",".join(values.get("x-amz-date", [_EMPTY_DATE]))
    if not date.startswith(found["day"]) or abs(_seconds(date) - now_s) > _MAX_SKEW_S:
        return "x-amz-date is not now"
    host = ",".join(values.get("host", []))
    region = re.match(r"bedrock-runtime\.([a-z0-9-]+)\.amazonaws\.com", host)
    if region and region[1] != found["region"]:
        return "the region of another host"
    signed = found["headers"].split(";")
    must = {"host", "x-amz-date"} | {name for name in values if name.startswith("x-amz-")}
    if not must <= set(signed) or signed != sorted(set(signed)):
        return "a header that must be signed is not"
    if any(name not in values for name in signed):
        return "a signed header is missing"
    payload = hashlib.sha256(body).hexdigest()
    if values.get("x-amz-content-sha256", [payload]) != [payload]:
        return "x-amz-content-sha256 is of another body"
    canonical = _canonical_request(method, target, {name: values[name] for name in signed}, payload)
    scope = f"{found['day']}/{found['region']}/{found['service']}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode('latin-1')).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    right = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(right, found["signature"]) else "the signature is of another request"


def _seconds(date: str) -> float:
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _canonical_request(method: str, target: str, signed: dict[str, list[str]], payload: str) -> str:
    """The path as it was sent, encoded once more; the query's pairs in order; the signed headers, blanks folded."""
    path, _, query = target.partition("?")
    pairs = sorted(tuple((pair + "=").split("=")[:2]) for pair in query.split("&") if pair)
    lines = [f"{name}:{','.join(' '.join(value.split()) for value in values)}" for name, values in signed.items()]
    return "\n".join(
        [
            method,
            quote(path.encode("latin-1"), safe="/~"),
            "&".join("=".join(pair) for pair in pairs),
            *lines,
            "",
            ";".join(signed),
            payload,
        ]
    )
