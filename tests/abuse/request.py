"""The bytes of one execution: a head around a changed body, or bytes as they stand. Pure."""

from __future__ import annotations

import base64
from typing import Any

from .bodies import EGRESS, SOCKETS, Base, build_body, clean_body
from .texts import expand

JOB = "abuse"
_HANDSHAKE = [
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


def values_of(
    base: Base,
    transport: str,
    token: bytes,
    good_token: bytes,
    other_token: bytes,
    ports: tuple[int, int] = (8443, 8080),
) -> dict[str, bytes]:
    """What the placeholders stand for; ``ports`` are those of the server that tools call, with TLS and without."""
    host = base.host if transport in ("regular", "connect", "websocket_connect") else "gateway"
    if base.egress:
        host = f"localhost:{ports[transport == 'egress_http']}"
    return {
        "tool_port": str(ports[0]).encode(),
        "plain_port": str(ports[1]).encode(),
        "basic": _basic(token),
        "other_basic": _basic(other_token),
        "token": token,
        "good_token": good_token,
        "other_token": other_token,
        "host": host.encode(),
        "provider_host": base.host.encode(),
        "other_host": b"api.anthropic.com" if base.provider == "openai" else b"api.openai.com",
        "target": base.target(transport).replace("{{plain_port}}", str(ports[1])).encode(),
        "path": base.path.encode(),
        "prefix": b"" if transport not in ("reverse", "regular", "websocket") else base.prefix.encode(),
        "job": JOB.encode(),
    }


def request_bytes(send: Any, base: Base, transport: str, values: dict[str, bytes]) -> bytes:
    """All that is sent on a connection; of a WebSocket, the handshake."""
    body, place = b"", send.get("place", "x-cst")
    if transport not in SOCKETS and (not base.egress or "body" in send):
        body = build_body(base, send["body"], values) if "body" in send else clean_body(base)
    if transport in EGRESS:
        place = send.get("place", "none" if transport == "egress_connect" else "proxy")
    values = {**values, "body": body, "length": str(len(body)).encode()}
    fields = [
        (b"host", values["host"]),
        *([] if transport in SOCKETS or (base.egress and not body) else [(b"content-type", b"application/json")]),
        *_placed(place, values["token"]),
        *(_HANDSHAKE if transport in SOCKETS else []),
        *([(b"content-length", values["length"])] if body or transport not in (*SOCKETS, *EGRESS) else []),
    ]
    without = {name.encode() for name in send.get("without", [])}
    fields = [(name, value) for name, value in fields if name not in without]
    fields += [(expand(name, values), expand(value, values)) for name, value in send.get("headers", [])]
    values["headers"] = b"".join(b"%b: %b\r\n" % field for field in fields if field[0].lower() != b"content-length")
    if "raw" in send:
        return expand(send["raw"], values)
    target = expand(send["target"], values) if "target" in send else values["target"]
    if send.get("place") == "query":
        target += b"?token=" + values["token"]
    head = b"%b %b %b\r\n" % (
        send.get("method", "GET" if transport in SOCKETS else base.method).encode(),
        target,
        send.get("version", "HTTP/1.1").encode(),
    )
    return head + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body


def _placed(place: str, token: bytes) -> list[tuple[bytes, bytes]]:
    """The header field that carries the token, if one does."""
    match place:
        case "none" | "query":
            return []
        case "proxy":
            return [(b"proxy-authorization", b"Basic " + _basic(token))]
        case "authorization":
            return [(b"authorization", b"Bearer " + token)]
        case "cookie":
            return [(b"cookie", b"x-cst=" + token)]
        case _:
            return [(place.encode(), token)]


def _basic(token: bytes) -> bytes:
    return base64.b64encode(b"job:" + token)
