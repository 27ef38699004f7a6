"""The load: keep-alive connections that send the same request again and again, and check every answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

REQUEST_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of traffic."""

    name: str
    stream: bool
    paced: bool
    connections: int
    requests: int
    """Per round, over all connections."""
    calls: bool = False
    """Most of the events are pieces of a call of a tool."""

    def body(self) -> bytes:
        """A chat request of ``REQUEST_BYTES``."""
        fields = {"model": "gpt-bench", "stream": self.stream}
        text = "paced " if self.paced else "calls " if self.calls else "burst "
        bare = len(json.dumps(self._with(fields, text), separators=(",", ":")))
        return json.dumps(self._with(fields, text + "x" * (REQUEST_BYTES - bare)), separators=(",", ":")).encode()

    @staticmethod
    def _with(fields: dict[str, object], text: str) -> dict[str, object]:
        return {**fields, "messages": [{"role": "user", "content": text}]}


SHAPES = (
    Shape("JSON, 2 KB in and out, 16 connections", False, False, 16, 800),
    Shape("SSE, 500 events at once, 8 connections", True, False, 8, 64),
    Shape("SSE, 500 events at once, 400 of a call, 8 connections", True, False, 8, 64, calls=True),
    Shape("SSE, 500 events 2 ms apart, 8 connections", True, True, 8, 24),
)


async def run(port: int, path: str, headers: dict[str, str], shape: Shape, requests: int | None = None) -> None:
    """One round of ``shape`` against a target. Raises if an answer is not whole."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = shape.body()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{lines}"
    message = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    left = iter(range(requests or shape.requests))
    await asyncio.gather(*(_connection(port, message, shape.stream, left) for _ in range(shape.connections)))


async def _connection(port: int, message: bytes, stream: bool, left: object) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    for _ in left:  # type: ignore[attr-defined]
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"refused: {head[:400]!r} {(await reader.read(800))!r}")
        if stream:
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
            if b"[DONE]" not in answer[-200:]:
                raise RuntimeError("a stream without its terminal event")
        else:
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
