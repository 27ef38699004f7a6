"""The bounds of a TLS ClientHello (RFC 8446 section 4.1.2), before mitmproxy parses it.

mitmproxy gathers up to 16 MiB of it, parses all from the start at each read, and logs a broken one in full; what comes
after it crashes the layer. Here a failed handshake is only told to the addons (``tls_failed_client``; the reason is
``data.conn.error``), and nothing is read after it.

A hello that an addon refuses in its ``tls_clienthello`` hook (``refuse``), or whose hook failed, ends there: no
certificate is made for it.
"""

from __future__ import annotations

from typing import Any

from mitmproxy import connection
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.tls import ClientTLSLayer, TlsClienthelloHook

MAX_HELLO_BYTES = 64 * 1024
MAX_HELLO_RECORDS = 32
_RECORD_HEADER_BYTES = 5
REFUSED = "the handshake was refused"
"""``error`` of a client connection whose hello was refused."""


def refuse(client: connection.Client) -> None:
    """From a ``tls_clienthello`` hook: this handshake goes no further."""
    client.error = REFUSED


_STOCK_HANDSHAKE_ERROR = ClientTLSLayer.on_handshake_error
_STOCK_HANDSHAKE = ClientTLSLayer.receive_handshake_data


def is_over_bounds(received: bytes | bytearray) -> bool:
    """Whether what was received of a ClientHello is too long, or in too many records. Pure, and bounded itself."""
    if len(received) > MAX_HELLO_BYTES:
        return True
    at = 0
    for _ in range(MAX_HELLO_RECORDS):
        if at + _RECORD_HEADER_BYTES > len(received):
            return False
        at += _RECORD_HEADER_BYTES + int.from_bytes(received[at + 3 : at + 5])
    return at < len(received)


def _handshake(self: ClientTLSLayer, data: bytes) -> CommandGenerator[tuple[bool, str | None]]:
    if self.client_hello_parsed:
        return (yield from _STOCK_HANDSHAKE(self, data))
    if is_over_bounds(self.recv_buffer + data):
        self.recv_buffer.clear()
        return False, "Cannot parse ClientHello: too long"
    done, fault = yield from _until_refused(self, _STOCK_HANDSHAKE(self, data))
    if fault is not None and fault.startswith("Cannot parse ClientHello"):
        fault = "Cannot parse ClientHello"
    return done, fault


def _until_refused(
    self: ClientTLSLayer, handshake: CommandGenerator[tuple[bool, str | None]]
) -> CommandGenerator[tuple[bool, str | None]]:
    reply: Any = None
    while True:
        try:
            command = handshake.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        reply = yield command
        if isinstance(command, TlsClienthelloHook) and self.context.client.error == REFUSED:
            handshake.close()
            self.recv_buffer.clear()
            return False, REFUSED


def _handshake_error(self: ClientTLSLayer, err: str) -> CommandGenerator[None]:
    self.receive_data = _ignore  # type: ignore[method-assign]
    for command in _STOCK_HANDSHAKE_ERROR(self, err):
        if not isinstance(command, commands.Log):  # a line for each, and anybody can have as many as he likes
            yield command


def _ignore(data: bytes) -> CommandGenerator[None]:
    yield from ()


def install() -> None:
    """Set the bounds, for the whole process."""
    ClientTLSLayer.receive_handshake_data = _handshake  # type: ignore[method-assign]
    ClientTLSLayer.on_handshake_error = _handshake_error  # type: ignore[method-assign]
