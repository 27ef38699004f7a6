"""A call of a tool on its way: what is known of it, and the request as it leaves (step 9).

Everything passes but what belongs to one connection, to proxies, to this gateway, or is a credential. A credential of
the client's own passes only where the contract's entry says so, and never where it is a token of ours.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from mitmproxy import http

from ..policies.egress import EgressEntry, EgressFacts
from .call import Call
from .identity import EXPLICIT_HEADERS, HANDLE_PREFIX, KEY_HEADERS
from .plain_tap import PlainTap

OF_THE_CONNECTION = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
OURS = frozenset({*EXPLICIT_HEADERS, "x-event-hash", "x-openai-api", "x-policy-hash", "x-run-id"})
_CREDENTIALS = frozenset({*KEY_HEADERS, "cookie"})
_JWS = re.compile(r"eyJ[A-Za-z0-9_-]*\.([A-Za-z0-9_-]+)\.")


@dataclass(frozen=True, slots=True)
class EgressCredential:
    """An ``[egress.NAME]`` of the configuration. It goes to ``hosts`` alone, and only where a contract names it."""

    name: str
    header: str
    scheme: str
    secret: str = field(repr=False)
    hosts: frozenset[str]


@dataclass(slots=True)
class Egress:
    """What the steps find out about a call of a tool; in ``Call.egress``."""

    facts: EgressFacts
    entry: EgressEntry | None = None  # decide
    credential: EgressCredential | None = None  # intend
    tap: PlainTap | None = None  # observe
    answered: bool = False
    """The head of the answer is here."""


def rebuild_egress(call: Call, egress: Egress) -> None:
    """Point the flow at the host that was judged, with the client's header fields less those named above.

    ``_`` in a name counts as ``-``: servers that hand fields on as variables (CGI, WSGI) make no difference.
    """
    facts, request, entry = egress.facts, call.flow.request.data, egress.entry
    own = {name.strip().lower().replace("_", "-") for name in call.headers.get("connection", "").split(",")}
    dropped = OF_THE_CONNECTION | OURS | own
    if entry is None or not entry.client_credentials:  # None: let through in a job opened to observe
        dropped |= _CREDENTIALS
    if egress.credential is not None:
        # of an echoed credential two halves would be none
        dropped |= {egress.credential.header.lower().replace("_", "-"), "range", "if-range"}
    fields = [
        (raw_name, value)
        for raw_name, value in request.headers.fields
        for name in [raw_name.decode("ascii").lower().replace("_", "-")]
        if name not in dropped and not name.startswith("x-clawproxy-") and not holds_our_token(value.decode("ascii"))
    ]
    fields.append((b"Host", facts.authority.encode("ascii")))
    fields.append((b"Accept-Encoding", b"identity"))
    body = request.content or b""
    if body or facts.method in ("PATCH", "POST", "PUT"):
        fields.append((b"Content-Length", str(len(body)).encode("ascii")))
    if egress.credential is not None:
        value = f"{egress.credential.scheme} {egress.credential.secret}".strip()
        fields.append((egress.credential.header.encode("ascii"), value.encode("ascii")))
    request.headers = http.Headers(fields)
    request.trailers = None
    request.method = facts.method.encode("ascii")
    request.scheme, request.host, request.port = facts.scheme.encode("ascii"), facts.host, facts.port
    request.authority = b""
    request.path = facts.target.encode("ascii")
    call.destination = (facts.host, facts.port)


def holds_our_token(value: str) -> bool:
    """Whether a job handle or a CST stands in a header field. Another JWS is the tool's own affair."""
    return HANDLE_PREFIX in value or any(_names_a_job(found[1]) for found in _JWS.finditer(value))


def _names_a_job(payload_b64u: str) -> bool:
    try:
        payload = base64.urlsafe_b64decode(payload_b64u + "=" * (-len(payload_b64u) % 4))
    except (binascii.Error, ValueError):
        return False
    return b'"mission_id"' in payload or b'"token_scope_hash_b64u"' in payload
