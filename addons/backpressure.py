"""Reading from an upstream stops while too much waits behind a held part of its answer. Works on live transports.

Limits: on an HTTP/2 upstream this would stop its other streams too; the gateway speaks HTTP/1.1 upstream.
"""

from __future__ import annotations

import asyncio

from mitmproxy.addons.proxyserver import Proxyserver

from .holds import Hold


class Backpressure:
    """The addon behind ``seam_pressure``."""

    def __init__(self, proxyserver: Proxyserver) -> None:
        self._proxyserver = proxyserver

    def seam_pressure(self, hold: Hold) -> None:
        """Pause the upstream of this call, or let it go on. Asked again on each piece, since readers resume alone."""
        handler = self._proxyserver.connections.get(hold.flow.client_conn.id)
        transport = handler.transports.get(hold.flow.server_conn) if handler else None
        if transport is None or not isinstance(transport.writer, asyncio.StreamWriter):
            return
        stream = transport.writer.transport
        if not isinstance(stream, asyncio.ReadTransport) or stream.is_closing():
            return
        if hold.pressed:
            stream.pause_reading()
        else:
            stream.resume_reading()
