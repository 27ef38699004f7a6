"""The resolver of a door: it knows the names that the contract allows, and asks nobody else, ever. Opens no socket.

``answer_to`` is a pure function of one message and the door's table. A name that may be called has one IPv4 and one
IPv6 address, and no record of any other type; every other name does not exist, and is told to ``refused``, but for
those of the addresses that are here. So nothing that is looked up gets out: no query upstream could carry it.

Limits: one question per message, no zone transfers, no DNSSEC; what is no plain query is answered with an error.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable

from mitmproxy.dns import DNSMessage, Question, ResourceRecord
from mitmproxy.net.dns import classes, domain_names, response_codes, types

from ..policies.door_names import DoorNames
from ..receipts.per_second import PerSecond

log = logging.getLogger("clawproxy.door_dns")

MAX_QUERY_BYTES = 512
"""A query with the longest name, a cookie and padding has less."""
TTL_S = 60
_HEADER = struct.Struct("!HHHHHH")
_RESPONSE = 0x8000
_OPT = 41
_OUR_PAYLOAD_BYTES = 1232
_BAD_VERSION = 1 << 24
_TCP_CONNECTIONS = 16
_TCP_IDLE_S = 5.0
_TCP_QUERIES = 64
_UDP_PER_SECOND = 500

type Refused = Callable[[str], None]
"""Told the name that was asked for and does not exist, as it stands in the query, in lower case."""


def answer_to(wire: bytes, names: DoorNames, refused: Refused) -> bytes | None:
    """The answer to one message; None for what deserves none (too short to have an id, or an answer itself)."""
    if len(wire) < _HEADER.size:
        return None
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    if flags & _RESPONSE:
        return None
    if flags >> 11 & 0xF:
        return _error(number, flags, response_codes.NOTIMP)
    if len(wire) > MAX_QUERY_BYTES or (questions, answers, authorities) != (1, 0, 0) or additionals > 1:
        return _error(number, flags, response_codes.FORMERR)
    query = _read(wire)
    if query is None:
        return _error(number, flags, response_codes.FORMERR)
    return _answered(query, names, refused).packed


def _read(wire: bytes) -> DNSMessage | None:
    """The one plain query in ``wire``; None where it has another reading, or none."""
    try:
        query = DNSMessage.unpack(wire)
        again = domain_names.pack(query.questions[0].name)
    except (struct.error, ValueError, RecursionError, IndexError):
        return None
    # without compression, and no label that turns into two or into another one
    return query if wire[_HEADER.size : _HEADER.size + len(again)] == again else None


def _answered(query: DNSMessage, names: DoorNames, refused: Refused) -> DNSMessage:
    question = query.questions[0]
    options = [record for record in query.additionals if record.type == _OPT]
    if options and options[0].ttl >> 16 & 0xFF:
        return _reply(query, options, [], response_codes.NOERROR, _BAD_VERSION)
    if question.class_ != classes.IN:
        return _reply(query, options, [], response_codes.REFUSED)
    name = question.name.lower().removesuffix(".")
    found = names.addresses(name) if name.isascii() else None
    if found is None:
        if name and not names.is_own_pointer(name):
            refused(name)
        return _reply(query, options, [], response_codes.NXDOMAIN)
    v4, v6 = found
    records = []
    if question.type == types.A:
        records = [_record(question, v4.packed)]
    elif question.type == types.AAAA:
        records = [_record(question, v6.packed)]
    return _reply(query, options, records, response_codes.NOERROR)


def _record(question: Question, packed: bytes) -> ResourceRecord:
    return ResourceRecord(question.name, question.type, classes.IN, TTL_S, packed)


def _reply(
    query: DNSMessage, options: list[ResourceRecord], records: list[ResourceRecord], code: int, extended: int = 0
) -> DNSMessage:
    return DNSMessage(
        timestamp=None,
        id=query.id,
        query=False,
        op_code=query.op_code,
        authoritative_answer=False,
        truncation=False,
        recursion_desired=query.recursion_desired,
        recursion_available=True,  # some clients take an answer without it for a server that is no use
        reserved=0,
        response_code=code,
        questions=query.questions,
        answers=records,
        authorities=[],
        additionals=[ResourceRecord("", _OPT, _OUR_PAYLOAD_BYTES, extended, b"")] if options else [],
    )


def _error(number: int, flags: int, code: int) -> bytes:
    """An answer without a question, for a message whose question is not taken."""
    return _HEADER.pack(number, _RESPONSE | flags & 0x7900 | 0x80 | code, 0, 0, 0, 0)


class UdpResolver(asyncio.DatagramProtocol):
    """Answers on one bound UDP socket."""

    def __init__(self, names: DoorNames, refused: Refused, clock_ms: Callable[[], int]) -> None:
        self._names = names
        self._refused = refused
        self._clock_ms = clock_ms
        self._rate = PerSecond(_UDP_PER_SECOND)
        self._transport: asyncio.DatagramTransport | None = None
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is None or self._is_full:
            return
        if self._rate.take(self._clock_ms()):
            answer = answer_to(data, self._names, self._refused)
            if answer is not None:
                self._transport.sendto(answer, addr)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    def error_received(self, exc: Exception) -> None:
        """A client that has gone: nothing to do."""


class TcpResolver:
    """Answers on listening TCP sockets: few connections, few queries on each, none that waits."""

    def __init__(self, names: DoorNames, refused: Refused) -> None:
        self._names = names
        self._refused = refused
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first query to its end."""
        if len(self._open) >= _TCP_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(_TCP_IDLE_S * 4):
                for _ in range(_TCP_QUERIES):
                    length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), _TCP_IDLE_S))
                    if length > MAX_QUERY_BYTES:
                        return
                    wire = await asyncio.wait_for(reader.readexactly(length), _TCP_IDLE_S)
                    answer = answer_to(wire, self._names, self._refused)
                    if answer is None:
                        return
                    writer.write(len(answer).to_bytes(2) + answer)
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            log.debug("a connection to a door's resolver ended early")
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        """End what is open."""
        for writer in list(self._open):
            writer.transport.abort()
