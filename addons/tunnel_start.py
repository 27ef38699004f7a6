"""What a tunnel may begin with: one TLS handshake, for the host that the tunnel was opened to, and nothing else.

``hello_fault`` and ``first_bytes_fault`` are pure; the gate asks them before a certificate is made or a byte is read as
HTTP, and records what they refuse, although there is no request. Plain HTTP inside a tunnel is left to ``admit``, which
can answer it.
"""

from __future__ import annotations

import re

from mitmproxy import connection
from mitmproxy.proxy import commands, events, layer

from ..policies.addresses import host_fault
from ..policies.door_plan import WAY_IN
from ..tokens.reasons import Refusal
from .connections import Tunnel

_TLS_RECORD = b"\x16\x03"
_HTTP_START = re.compile(rb"[\r\n]{0,8}[A-Z]{1,16}( [^\r\n]*)?\Z|[\r\n]{0,8}[A-Z]{1,16} [^\r\n]* HTTP/1\.[01]\r?\n")
_MAX_LOOK_BYTES = 2048


def hello_fault(tunnel: Tunnel, sni: str | None, *, again: bool) -> Refusal | None:
    """Why a ClientHello inside ``tunnel`` is refused. ``again``: it is not the first."""
    if again:
        return Refusal("PROTOCOL_REFUSED", "TLS inside the tunnel", "TLS inside TLS")
    if not sni:
        return Refusal("DESTINATION_MISMATCH", "SNI = Host = destination", "the TLS handshake names no server")
    if sni != tunnel.host:
        return Refusal("DESTINATION_MISMATCH", "SNI = Host = destination", "the TLS handshake names another server")
    return None


def redirected(client: connection.Client, sni: str | None) -> Tunnel:
    """The tunnel of a connection that a rule of the host sent here: to the name that its TLS handshake asks for, at the
    port that it was made to. The address is not used for anything. A name that is none is no tunnel's."""
    name = sni if sni and host_fault(sni) is None else ""
    return Tunnel(name, client.sockname[1], None, WAY_IN)


def may_become_tls(first: bytes) -> bool:
    """Whether ``first`` is the start of a TLS record of which too little has arrived to say."""
    return 0 < len(first) < len(_TLS_RECORD) + 1 and first[: len(_TLS_RECORD)] == _TLS_RECORD[: len(first)]


def first_bytes_fault(first: bytes) -> Refusal | None:
    """Why what a tunnel begins with is refused: it can be neither TLS nor a request that could be answered."""
    look = first[:_MAX_LOOK_BYTES]
    if not look or look[:2] == _TLS_RECORD[: len(look)] or _HTTP_START.match(look):
        return None
    return Refusal("PROTOCOL_REFUSED", "TLS inside the tunnel", "what the tunnel begins with is neither TLS nor HTTP")


class ClosedLayer(layer.Layer):
    """In place of a layer: the client's connection is closed, and nothing that it sent is read."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
