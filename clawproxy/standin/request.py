"""Requests of HTTP/1.1 as they arrive.

Limits: heads of 64 KiB (the reader's bound), bodies of 64 MiB.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024


class BadRequest(Exception):
    """The request cannot be read; the connection is closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; ``path`` is the target as it was sent, header names are in lower case."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def bare_path(self) -> str:
        """The path without authority and query."""
        path = self.path.partition("?")[0]
        return "/" + path.split("/", 3)[3] if path.startswith(("http://", "https://")) and path.count("/") > 2 else path

    @property
    def query(self) -> str:
        return self.path.partition("?")[2]

    @property
    def target(self) -> str:
        """The host that is meant, without its port: of an absolute target, else of the Host header."""
        authority = self.path.split("/", 3)[2] if self.path.startswith(("http://", "https://")) else self.header("host")
        name, colon, port = authority.rpartition(":")
        return (name if colon and port.isdigit() else authority).lower()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request, or None when the client is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as err:
        if err.partial:
            raise BadRequest("cut in the head") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest("head too large") from None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _version = lines[0].split(" ")
        headers = tuple((k.lower(), v.strip()) for k, v in (line.split(":", 1) for line in lines[1:] if line))
    except ValueError:
        raise BadRequest("malformed head") from None
    named = dict(headers)
    if named.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if named.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        length = named.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise BadRequest("content-length")
        body = await reader.readexactly(int(length))
    return Request(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        try:
            size = int((await reader.readline()).split(b";")[0], 16)
        except ValueError:
            raise BadRequest("chunk size") from None
        total += size
        if total > MAX_BODY_BYTES:
            raise BadRequest("body too large")
        if size == 0:
            while (await reader.readline()) not in (b"\r\n", b""):
                pass
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
