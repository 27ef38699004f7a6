"""Gaps in mitmproxy's HTTP layers, closed: each would leave a call hanging, or cost memory or time without bound.

* A crash inside the HTTP layers is logged by mitmproxy and the call hangs: here the client's connection is closed.
* Chunked bodies have bounds in nothing but their decoded length there, and trailers crash: here they are read by
  ``http1_chunks.py``, and what it refuses is a protocol error, in both directions.
* The head of an HTTP/1 message has no bound there, and folded lines (RFC 9112 section 5.2) cost time that grows with
  their square: here a head has at most ``head_cap_bytes`` and no folded line, before anything reads it.
* A request line may have any white space in it there, and lines may end with a bare LF, so that another server could
  read another request: here the parts of a request line stand one space apart, and lines end with CRLF.
* A message in several transfer codings has only the last one undone there: here ``chunked`` is the only one.
* What a client sends behind a running call has no bound there: here the client is dropped beyond
  ``head_cap_bytes + BEHIND_BYTES``.
* What a server sends in place of HTTP is quoted there in the error, which goes to the agent and into the record, and
  decides about the outcome: here an error about the head of an answer quotes nothing of it.
* A connection that is closed by command while its next event waits for the one before stays open there, unread, for
  ever: here it is closed.

In each case mitmproxy's own ``error`` hook follows wherever there is a flow.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.http import Message
from mitmproxy.net.http import validate
from mitmproxy.proxy import commands, events, server
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import http as engine
from mitmproxy.proxy.layers.http import HttpLayer, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError

from .http1_chunks import BodyRefusedError, ChunkReader

log = logging.getLogger("clawproxy.seam")

_STOCK_HANDLE_CONNECTION = server.ConnectionHandler.handle_connection
_STOCK_TRANSFER_ENCODING = validate.parse_transfer_encoding
_STOCK_VALIDATE_HEADERS = validate.validate_headers
_STOCK_LAYER_EVENT = HttpLayer._handle_event
_STOCK_READ_BODY = _http1.Http1Connection.read_body
_STOCK_BODY_READER = _http1.make_body_reader
_STOCK_WAIT = _http1.Http1Connection.wait
_STOCK_SERVER_HEAD = _http1.Http1Server.read_headers
_STOCK_CLIENT_HEAD = _http1.Http1Client.read_headers

HEAD_CAP_BYTES = 64 * 1024
BEHIND_BYTES = 64 * 1024
"""What may wait behind a running call besides one head: mitmproxy reads as much at a time."""

_head_cap_bytes = HEAD_CAP_BYTES


def where(err: BaseException) -> str:
    """A fault for the log: its type and line, never its message, which may quote a body."""
    frame = err.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return type(err).__name__ + (f" at {frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else "")


def _transfer_encoding(value: str | bytes) -> validate.TransferEncoding:
    coding = _STOCK_TRANSFER_ENCODING(value)
    if coding != "chunked":
        raise ValueError("transfer-encoding is not chunked")
    return coding


async def _handle_connection(self: server.ConnectionHandler, connection: Connection) -> None:
    try:
        await _STOCK_HANDLE_CONNECTION(self, connection)
    finally:
        if connection in self.transports:  # cancelled where mitmproxy does not expect it: before the lock of its events
            connection.state = ConnectionState.CLOSED
            try:
                await self.server_event(events.ConnectionClosed(connection))
            finally:
                transport = self.transports.pop(connection, None)
                if transport is not None and transport.writer is not None:
                    transport.writer.close()


def _layer_event(self: HttpLayer, event: events.Event) -> CommandGenerator[None]:
    try:
        yield from _STOCK_LAYER_EVENT(self, event)
    except Exception as err:
        log.error("the HTTP layer failed: %s", where(err))
        yield commands.CloseConnection(self.context.client)


def _read_body(self: _http1.Http1Connection, event: events.Event) -> CommandGenerator[None]:
    reader: object = self.body_reader
    try:
        yield from _STOCK_READ_BODY(self, event)
        is_wasteful = isinstance(self, _http1.Http1Server) and isinstance(reader, ChunkReader) and reader.is_wasteful
        if is_wasteful and self.state == self.read_body:
            raise BodyRefusedError("the body comes in too many too small chunks")
    except BodyRefusedError as err:
        yield from _refuse(self, str(err), 400)


def _body_reader(expected_size: int | None) -> object:
    return ChunkReader() if expected_size is None else _STOCK_BODY_READER(expected_size)


def _read_server_head(self: _http1.Http1Server, event: events.ConnectionEvent) -> CommandGenerator[None]:
    fault = (_head_fault_of(self) or request_fault(bytes(self.buf))) if isinstance(event, events.DataReceived) else None
    if fault:
        status = 431 if fault is TOO_LARGE else 400
        yield from _refuse(self, f"the head of the request {fault}", status)
    else:
        yield from _STOCK_SERVER_HEAD(self, event)


def _read_client_head(self: _http1.Http1Client, event: events.ConnectionEvent) -> CommandGenerator[None]:
    fault = _head_fault_of(self) if isinstance(event, events.DataReceived) else None
    if fault:
        yield from _refuse(self, f"the head of the response {fault}", 0)
    else:
        yield from _unquoted(_STOCK_CLIENT_HEAD(self, event))


NOT_HTTP = "the answer is not well-formed HTTP"
_QUOTING = ("Cannot parse HTTP response", "unexpected server response")


def _unquoted(reading: CommandGenerator[None]) -> CommandGenerator[None]:
    """The same commands, but for errors and logs that quote what the server sent."""
    reply: Any = None
    while True:
        try:
            command = reading.send(reply)
        except StopIteration:
            return
        if isinstance(command, commands.Log):
            reply = None
            continue
        if isinstance(command, ReceiveHttp) and isinstance(command.event, ResponseProtocolError):
            told = command.event
            if told.message.startswith(_QUOTING):
                command = ReceiveHttp(ResponseProtocolError(told.stream_id, NOT_HTTP, told.code))
        reply = yield command


def _validate_headers(message: Message) -> None:
    try:
        _STOCK_VALIDATE_HEADERS(message)
    except ValueError:
        raise ValueError("header fields that are not well-formed") from None


def _head_fault_of(self: _http1.Http1Connection) -> str | None:
    """Of what has arrived. Empty lines before a head are taken out (RFC 9112 section 2.2): mitmproxy takes out one per
    read, and would then wait for more with a whole head in its hands."""
    received = bytes(self.buf)
    before = len(received) - len(received.lstrip(b"\r\n"))
    if 0 < before <= _MOST_LINE_ENDS:
        self.buf.maybe_extract_at_most(before)
    return head_fault(received, _head_cap_bytes)


_MOST_LINE_ENDS = 8
TOO_LARGE = "is too large"
FOLDED = "has a folded line"
LOOSE = "is not written as RFC 9112 says: one space between the parts of its first line, CRLF after each line"
_REQUEST_LINE = re.compile(rb"[^\x00-\x20\x7f]+ [^\x00-\x20\x7f]+ HTTP/[0-9.]{1,4}\r\n")


def head_fault(received: bytes, cap_bytes: int) -> str | None:
    """What is wrong with the head that ``received`` begins with, whole or not; None if nothing is. Pure."""
    received, before = received.lstrip(b"\r\n"), len(received)
    if before - len(received) > _MOST_LINE_ENDS:
        return TOO_LARGE
    end = received.find(b"\n\r\n")
    bare = received.find(b"\n\n", 0, end if end >= 0 else len(received))
    end = bare if bare >= 0 else end
    if (end if end >= 0 else len(received)) > cap_bytes:
        return TOO_LARGE
    if received[:1] in (b" ", b"\t"):
        return FOLDED
    if end >= 0 and (received.find(b"\n ", 0, end) >= 0 or received.find(b"\n\t", 0, end) >= 0):
        return FOLDED
    return None


def request_fault(received: bytes) -> str | None:
    """What is wrong with the way in which the head of a request is written, once it is whole. Pure."""
    received = received.lstrip(b"\r\n")
    ends = [end for end in (received.find(b"\n\r\n"), received.find(b"\n\n")) if end >= 0]
    if not ends:
        return None
    head = received[: min(ends) + 1]
    if not _REQUEST_LINE.match(head) or head.count(b"\n") != head.count(b"\r\n"):
        return LOOSE
    if b"\v" in head or b"\f" in head:  # Python strips them from values: "\vchunked" would be read as chunked
        return LOOSE
    return LOOSE if received[len(head) : len(head) + 1] == b"\n" else None


def _wait(self: _http1.Http1Connection, event: events.Event) -> CommandGenerator[None]:
    """Behind a running call. A client that sends without bound counts as one that left; to stop reading would hide it
    when it really leaves."""
    if not isinstance(event, events.DataReceived):
        yield from _STOCK_WAIT(self, event)
    elif len(self.buf) > _head_cap_bytes + BEHIND_BYTES:
        self.state = self.done
        self.buf = ReceiveBuffer()
        assert self.stream_id is not None
        yield commands.CloseConnection(self.conn)
        why = "Client disconnected: too much sent behind a running call."
        yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, why, code=ErrorCode.CLIENT_DISCONNECTED))


def _refuse(self: _http1.Http1Connection, why: str, status: int) -> CommandGenerator[None]:
    if isinstance(self, _http1.Http1Server):
        yield commands.SendData(self.conn, _http1.make_error_response(status, why))
    self.state = self.done
    self.buf = ReceiveBuffer()
    yield commands.CloseConnection(self.conn)
    if self.stream_id is not None:
        error = self.ReceiveProtocolError(self.stream_id, f"HTTP/1: {why}", code=self.ReceiveProtocolError.code)
        yield ReceiveHttp(error)


def install(head_cap_bytes: int) -> None:
    """Close the gaps, for the whole process."""
    global _head_cap_bytes
    _head_cap_bytes = head_cap_bytes
    server.ConnectionHandler.handle_connection = _handle_connection  # type: ignore[method-assign]
    validate.parse_transfer_encoding = _transfer_encoding
    engine.validate_headers = _validate_headers  # type: ignore[attr-defined]
    HttpLayer._handle_event = _layer_event  # type: ignore[method-assign]
    _http1.Http1Connection.read_body = _read_body  # type: ignore[method-assign]
    _http1.make_body_reader = _body_reader  # type: ignore[assignment]
    _http1.Http1Connection.wait = _wait  # type: ignore[method-assign]
    _http1.Http1Server.read_headers = _read_server_head  # type: ignore[method-assign]
    _http1.Http1Client.read_headers = _read_client_head  # type: ignore[method-assign]


def uninstall() -> None:
    """mitmproxy as it comes."""
    server.ConnectionHandler.handle_connection = _STOCK_HANDLE_CONNECTION  # type: ignore[method-assign]
    validate.parse_transfer_encoding = _STOCK_TRANSFER_ENCODING
    engine.validate_headers = _STOCK_VALIDATE_HEADERS  # type: ignore[attr-defined]
    HttpLayer._handle_event = _STOCK_LAYER_EVENT  # type: ignore[method-assign]
    _http1.Http1Connection.read_body = _STOCK_READ_BODY  # type: ignore[method-assign]
    _http1.make_body_reader = _STOCK_BODY_READER
    _http1.Http1Connection.wait = _STOCK_WAIT  # type: ignore[method-assign]
    _http1.Http1Server.read_headers = _STOCK_SERVER_HEAD  # type: ignore[method-assign]
    _http1.Http1Client.read_headers = _STOCK_CLIENT_HEAD  # type: ignore[method-assign]
