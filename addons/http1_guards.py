"""Three gaps in mitmproxy's HTTP layers, closed: each would leave a call hanging, or memory growing, without a record.

* A crash inside the HTTP layers is logged by mitmproxy and the call hangs: here the client's connection is closed.
* HTTP/1 trailers raise ``NotImplementedError`` there: here they are a protocol error, in both directions.
* The head of an HTTP/1 message has no bound there: here it is ``head_cap_bytes``.

In each case mitmproxy's own ``error`` hook follows wherever there is a flow.
"""

from __future__ import annotations

import logging

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp

log = logging.getLogger("clawproxy.seam")

_STOCK_LAYER_EVENT = HttpLayer._handle_event
_STOCK_READ_BODY = _http1.Http1Connection.read_body
_STOCK_SERVER_HEAD = _http1.Http1Server.read_headers
_STOCK_CLIENT_HEAD = _http1.Http1Client.read_headers

_head_cap_bytes = 256 * 1024


def where(err: BaseException) -> str:
    """A fault for the log: its type and line, never its message, which may quote a body."""
    frame = err.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return type(err).__name__ + (f" at {frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else "")


def _layer_event(self: HttpLayer, event: events.Event) -> CommandGenerator[None]:
    try:
        yield from _STOCK_LAYER_EVENT(self, event)
    except Exception as err:
        log.error("the HTTP layer failed: %s", where(err))
        yield commands.CloseConnection(self.context.client)


def _read_body(self: _http1.Http1Connection, event: events.Event) -> CommandGenerator[None]:
    try:
        yield from _STOCK_READ_BODY(self, event)
    except NotImplementedError:
        yield from _refuse(self, "trailers are not accepted", 400)


def _read_server_head(self: _http1.Http1Server, event: events.ConnectionEvent) -> CommandGenerator[None]:
    yield from _STOCK_SERVER_HEAD(self, event)
    if len(self.buf) > _head_cap_bytes and self.state == self.read_headers:
        yield from _refuse(self, "the head of the request is too large", 431)


def _read_client_head(self: _http1.Http1Client, event: events.ConnectionEvent) -> CommandGenerator[None]:
    yield from _STOCK_CLIENT_HEAD(self, event)
    if len(self.buf) > _head_cap_bytes and self.state == self.read_headers:
        yield from _refuse(self, "the head of the response is too large", 0)


def _refuse(self: _http1.Http1Connection, why: str, status: int) -> CommandGenerator[None]:
    if isinstance(self, _http1.Http1Server):
        yield commands.SendData(self.conn, _http1.make_error_response(status, why))
    self.state = self.done
    yield commands.CloseConnection(self.conn)
    if self.stream_id is not None:
        error = self.ReceiveProtocolError(self.stream_id, f"HTTP/1: {why}", code=self.ReceiveProtocolError.code)
        yield ReceiveHttp(error)


def install(head_cap_bytes: int) -> None:
    """Close the gaps, for the whole process."""
    global _head_cap_bytes
    _head_cap_bytes = head_cap_bytes
    HttpLayer._handle_event = _layer_event  # type: ignore[method-assign]
    _http1.Http1Connection.read_body = _read_body  # type: ignore[method-assign]
    _http1.Http1Server.read_headers = _read_server_head  # type: ignore[method-assign]
    _http1.Http1Client.read_headers = _read_client_head  # type: ignore[method-assign]


def uninstall() -> None:
    """mitmproxy as it comes."""
    HttpLayer._handle_event = _STOCK_LAYER_EVENT  # type: ignore[method-assign]
    _http1.Http1Connection.read_body = _STOCK_READ_BODY  # type: ignore[method-assign]
    _http1.Http1Server.read_headers = _STOCK_SERVER_HEAD  # type: ignore[method-assign]
    _http1.Http1Client.read_headers = _STOCK_CLIENT_HEAD  # type: ignore[method-assign]
