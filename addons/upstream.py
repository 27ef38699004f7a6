"""The request as it leaves: rebuilt from an allow-list, with our credential and nobody else's (step 9, design 3.4)."""

from __future__ import annotations

from mitmproxy import http

from ..policies.routes import RouteMatch
from .call import Call
from .stream_tap import REDACTED

_DROPPED_FROM_ANSWERS = frozenset(
    {
        "alt-svc",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "set-cookie",
        "strict-transport-security",
        "te",
        "trailer",
        "upgrade",
    }
)


def rebuild_request(call: Call, match: RouteMatch, credential: str) -> None:
    """Point the flow at the provider and keep of its header fields only those that the route forwards.

    The body stays as it was judged, byte for byte. ``accept-encoding: identity`` keeps the answer readable, so that
    what is hashed is what is judged.
    """
    request, provider = call.flow.request, match.provider
    kept = [(n, v) for n, v in request.headers.fields if n.decode("ascii").lower() in provider.forwarded_headers]
    present = {n.lower() for n, _ in kept}
    added = {
        "host": provider.authority,
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(request.raw_content or b"")),
        provider.credential_header: f"{provider.credential_scheme} {credential}".strip(),
        **{n: v for n, v in provider.default_headers.items() if n.encode() not in present},
    }
    names = {n.encode() for n in added}
    fields = [(n, v) for n, v in kept if n.lower() not in names]
    request.headers = http.Headers([*((n.encode(), v.encode()) for n, v in added.items()), *fields])
    request.trailers = None
    request.scheme, request.host, request.port = provider.scheme, provider.host, provider.port
    request.data.authority = b""
    request.path = match.upstream_path
    # setting host and port rewrites the Host field; the provider's own form is the one that counts
    request.headers["host"] = provider.authority
    call.destination = (provider.host, provider.port)


def clean_answer(response: http.Response, credential: str) -> None:
    """Drop what an answer may not tell the agent: connection headers, cookies, forged marks of ours, our key."""
    secret = credential.encode()
    fields = []
    for name, value in response.headers.fields:
        lower = name.decode("latin-1").lower()
        if lower in _DROPPED_FROM_ANSWERS or lower.startswith("x-clawproxy-"):
            continue
        fields.append((name, redact(value, secret)))
    response.headers = http.Headers(fields)


def redact(text: bytes, secret: bytes) -> bytes:
    """``text`` without ``secret``, which a provider may echo."""
    return text.replace(secret, REDACTED) if secret and secret in text else text
