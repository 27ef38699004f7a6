"""The head of a request, read so that it has one reading: step 1 for every way in. Pure."""

from __future__ import annotations

import re
from collections import Counter

from mitmproxy import http

from ..tokens.reasons import Refusal
from .identity import EXPLICIT_HEADERS, KEY_HEADERS

MAX_HEADERS = 128
# of all fields of a request, joined by LF
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\n[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_HEADER_VALUES = re.compile(rb"[\x20-\x7e\t\n]*")
_SINGLE_HEADERS = frozenset(
    {
        "accept",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "proxy-authorization",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-event-hash",
        "x-idempotency-key",
        "x-openai-api",
        "x-policy-hash",
        "x-run-id",
        *EXPLICIT_HEADERS,
        *KEY_HEADERS,
    }
)
_METHOD = re.compile(rb"[A-Z]{1,16}")


def read_head(request: http.Request, max_header_bytes: int, max_headers: int = MAX_HEADERS) -> dict[str, str] | Refusal:
    """The header fields by name, if the head can be read in one way only."""
    if not _METHOD.fullmatch(request.data.method):  # `request.method` would read it in upper case
        return Refusal("REQUEST_AMBIGUOUS", "request method", "a method is written in capitals")
    fields = request.headers.fields
    names, values = b"\n".join([name for name, _ in fields]), b"\n".join([value for _, value in fields])
    if len(fields) > max_headers:
        return Refusal("REQUEST_TOO_LARGE", "gateway.max_headers", f"at most {max_headers} header fields", at="admit")
    if len(names) + len(values) > max_header_bytes:
        detail = f"at most {max_header_bytes} bytes of header fields"
        return Refusal("REQUEST_TOO_LARGE", "gateway.max_header_bytes", detail, at="admit")
    if not _HEADER_NAMES.fullmatch(names) or not _HEADER_VALUES.fullmatch(values) or values.count(b"\n") >= len(fields):
        return Refusal("REQUEST_AMBIGUOUS", "header fields", "a header field is not plain ASCII")
    seen = dict(zip(names.decode("ascii").lower().split("\n"), values.decode("ascii").split("\n"), strict=True))
    if len(seen) != len(fields):
        twice = Counter(names.decode("ascii").lower().split("\n"))
        for name in _SINGLE_HEADERS:
            if twice[name] > 1:
                return Refusal("REQUEST_AMBIGUOUS", f"header {name}", f"the header {name} occurs twice")
    if "trailer" in seen or "http2-settings" in seen:
        return Refusal("PROTOCOL_REFUSED", "HTTP/1.1 requests", "h2c and Trailer are not served")
    if "trailers" in seen.get("te", "").lower() or request.http_version != "HTTP/1.1":
        return Refusal("PROTOCOL_REFUSED", "HTTP/1.1 requests", "trailers and other versions are not served")
    return seen
