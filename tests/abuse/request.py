"""The bytes of one execution: a head around a changed body, or bytes as they stand. Pure."""

from __future__ import annotations

from typing import Any

from .bodies import Base, build_body, clean_body
from .texts import expand

JOB = "abuse"


def values_of(base: Base, transport: str, token: bytes, good_token: bytes, other_token: bytes) -> dict[str, bytes]:
    """What the placeholders stand for."""
    host = base.host if transport in ("regular", "connect") else "gateway"
    return {
        "token": token,
        "good_token": good_token,
        "other_token": other_token,
        "host": host.encode(),
        "provider_host": base.host.encode(),
        "other_host": b"api.anthropic.com" if base.provider == "openai" else b"api.openai.com",
        "target": base.target(transport).encode(),
        "path": base.path.encode(),
        "prefix": b"" if transport in ("connect", "bare", "compat") else base.prefix.encode(),
        "job": JOB.encode(),
    }


def request_bytes(send: Any, base: Base, transport: str, values: dict[str, bytes]) -> bytes:
    """All that is sent on a connection."""
    body = build_body(base, send["body"], values) if "body" in send else clean_body(base)
    values = {**values, "body": body, "length": str(len(body)).encode()}
    fields = [
        (b"host", values["host"]),
        (b"content-type", b"application/json"),
        *_placed(send.get("place", "x-cst"), values["token"]),
        (b"content-length", values["length"]),
    ]
    without = {name.encode() for name in send.get("without", [])}
    fields = [(name, value) for name, value in fields if name not in without]
    fields += [(expand(name, values), expand(value, values)) for name, value in send.get("headers", [])]
    values["headers"] = b"".join(b"%b: %b\r\n" % field for field in fields if field[0].lower() != b"content-length")
    if "raw" in send:
        return expand(send["raw"], values)
    target = expand(send.get("target", "{{target}}"), values)
    if send.get("place") == "query":
        target += b"?token=" + values["token"]
    head = b"%b %b %b\r\n" % (
        send.get("method", base.method).encode(),
        target,
        send.get("version", "HTTP/1.1").encode(),
    )
    return head + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body


def _placed(place: str, token: bytes) -> list[tuple[bytes, bytes]]:
    """The header field that carries the token, if one does."""
    match place:
        case "none" | "query":
            return []
        case "authorization":
            return [(b"authorization", b"Bearer " + token)]
        case "cookie":
            return [(b"cookie", b"x-cst=" + token)]
        case _:
            return [(place.encode(), token)]
