"""The request as it leaves: rebuilt from an allow-list, with our credential and nobody else's (step 9)."""

from __future__ import annotations

import re

from mitmproxy import http
from mitmproxy.net.http.status_codes import RESPONSES

from ..policies.routes import RouteMatch
from ..tokens.digests import b64u_decode
from ..tokens.errors import ClawproxyError
from .call import Call
from .handshake import new_key, request_fields
from .http_stream import UPGRADE
from .redaction import redactor_for
from .sigv4 import Signer

# a job handle, or a JWS: wherever the agent put it, it does not leave
_HOLDS_A_TOKEN = re.compile(r"cph_|eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.")
_DROPPED_FROM_ANSWERS = frozenset(
    {
        b"alt-svc",
        b"alt-used",
        b"clear-site-data",
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"nel",
        b"proxy-authenticate",
        b"proxy-connection",
        b"refresh",
        b"report-to",
        b"reporting-endpoints",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
_NO_CONTROLS = bytes(b if b >= 32 or b == 9 else 32 for b in range(127)) + b" " + bytes(range(128, 256))
"""Some clients begin a new field at a bare CR; a space stands there instead (RFC 9110 section 5.5)."""


def rebuild_request(call: Call, match: RouteMatch, credential: str, signer: Signer | None = None) -> None:
    """Point the flow at the provider, with those of the client's header fields that the route forwards, and ours.

    The body stays as it was judged, byte for byte. ``accept-encoding: identity`` keeps the answer readable, so that
    what is hashed is what is judged. Works on mitmproxy's own fields: its setters would rewrite Host at each step.
    """
    provider, request = match.provider, call.flow.request.data
    forwarded = {
        name: value
        for name, value in call.headers.items()
        if name in provider.forwarded_headers and not _HOLDS_A_TOKEN.search(value)
    }
    ours = {
        **provider.default_headers,
        **forwarded,
        "host": provider.authority,
        "accept-encoding": "identity",
        **_of_body(request.content or b"", match.route.method),
    }
    if match.route.websocket:
        call.flow.metadata[UPGRADE] = key = new_key()
        ours |= request_fields(call.headers, key)
    if (credential or signer) and provider.scheme != "https":
        # the configuration was refused with it; this is the lock behind that one
        raise ClawproxyError("GATEWAY_FAULT", "a credential never crosses plain HTTP")
    if signer:
        assert call.request_hash_b64u is not None
        url = f"{provider.scheme}://{provider.authority}{match.upstream_path}"
        ours |= signer.sign(match.route.method, url, ours, b64u_decode(call.request_hash_b64u).hex())
    elif credential:
        header, scheme = match.credential_field
        ours[header] = f"{scheme} {credential}".strip()
    request.headers = _headers([(name.encode("ascii"), value.encode("ascii")) for name, value in ours.items()])
    request.trailers = None
    request.method = match.route.method.encode("ascii")
    request.scheme, request.host, request.port = provider.scheme.encode("ascii"), provider.host, provider.port
    request.authority = b""
    request.path = match.upstream_path.encode("ascii")
    call.destination = (provider.host, provider.port)


def _of_body(body: bytes, method: str) -> dict[str, str]:
    return {} if method == "GET" else {"content-type": "application/json", "content-length": str(len(body))}


def clean_answer(response: http.Response, credential: str, marks: dict[bytes, bytes]) -> None:
    """Drop what an answer may not tell the agent, connection headers, other services, cookies, forged marks of ours and
    our key, in the reason phrase too; then put our ``marks`` on it."""
    redactor = redactor_for(credential.encode())
    fields = []
    for name, value in response.headers.fields:
        lower = name.lower()
        dropped = lower in _DROPPED_FROM_ANSWERS or lower.startswith(b"x-clawproxy-")
        if not dropped and not redactor.found_in(name):
            fields.append((name, redactor.clean(value.translate(_NO_CONTROLS))))
    response.data.reason = RESPONSES.get(response.status_code, "").encode("ascii")
    response.headers = _headers([*fields, *marks.items()])


def _headers(fields: list[tuple[bytes, bytes]]) -> http.Headers:
    headers = http.Headers()
    headers.fields = tuple(fields)  # they are bytes already, the constructor would look at each
    return headers
