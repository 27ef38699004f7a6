"""The opening handshake of a WebSocket (RFC 6455 section 4): what is taken from a client, what leaves, and which answer
is one. Pure, but for the random key.

The gateway makes two handshakes of one: towards the provider it has a key of its own, and the client's answer is made
here. No extension is ever agreed to, since what is compressed could not be judged in time. Of subprotocols only
``realtime`` passes: others carry keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping

from mitmproxy import http

from ..tokens.reasons import Refusal

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PROTOCOLS = frozenset({"realtime"})
_BETAS = re.compile(r"responses_websockets=\d{4}-\d{2}-\d{2}|realtime=v1", re.ASCII)
_CONNECTION = ({"upgrade"}, {"upgrade", "keep-alive"})


def check_upgrade(headers: Mapping[str, str], *, websocket: bool) -> Refusal | None:
    """Whether a request with these fields is what its route takes: a handshake on a socket's route, none elsewhere."""
    if not websocket:
        if "upgrade" in headers:
            return _refused("Upgrade is served on no other route than those of sockets")
        return None
    if headers.get("upgrade", "").lower() != "websocket" or _tokens(headers.get("connection")) not in _CONNECTION:
        return _refused("this route takes the handshake of a WebSocket only")
    if headers.get("sec-websocket-version") != "13":
        return _refused("the version of the WebSocket is not 13")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:
        return _refused("the handshake has no key of 16 bytes")
    if "sec-websocket-protocol" in headers and headers["sec-websocket-protocol"] not in _PROTOCOLS:
        return _refused("this subprotocol is not served; a key does not belong there")
    return None


def _refused(why: str) -> Refusal:
    return Refusal("PROTOCOL_REFUSED", "WebSocket handshake", why)


def _tokens(value: str | None) -> set[str]:
    return {part.strip().lower() for part in (value or "").split(",")}


def new_key() -> str:
    """For our own handshake with the provider."""
    return base64.b64encode(secrets.token_bytes(16)).decode("ascii")


def request_fields(headers: Mapping[str, str], key: str) -> dict[str, str]:
    """What a handshake has beside the fields of any request."""
    fields = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
    }
    for name, known in (("sec-websocket-protocol", None), ("openai-beta", _BETAS)):
        if name in headers and (known is None or known.fullmatch(headers[name])):
            fields[name] = headers[name]
    return fields


def answer_fault(response: http.Response, headers: Mapping[str, str], key: str) -> str | None:
    """Why a 101 is not the answer to our handshake, if it is not. ``headers`` are the client's."""
    told = response.headers
    protocols = told.get_all("sec-websocket-protocol")
    asked = headers.get("sec-websocket-protocol")
    if told.get("upgrade", "").lower() != "websocket" or "upgrade" not in _tokens(told.get("connection")):
        return "the provider switched to another protocol"
    if told.get_all("sec-websocket-accept") != [_accept(key)]:
        return "the provider did not read the handshake"
    if told.get_all("sec-websocket-extensions"):
        return "the provider uses an extension that was not asked for"
    if protocols and protocols != [asked]:
        return "the provider chose a subprotocol that was not asked for"
    return None


def answer_fields(response: http.Response, headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """What our own answer to the client's handshake has beside the provider's other fields."""
    fields = {
        b"connection": b"Upgrade",
        b"upgrade": b"websocket",
        b"sec-websocket-accept": _accept(headers["sec-websocket-key"]).encode("ascii"),
    }
    if "sec-websocket-protocol" in response.headers:
        fields[b"sec-websocket-protocol"] = headers["sec-websocket-protocol"].encode("ascii")
    return fields


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()).decode("ascii")
