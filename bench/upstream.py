"""A provider stand-in that costs little: OpenAI-shaped answers on plain HTTP. Prints its port.

``"stream":true`` in the request gives 500 events; the word ``paced`` sends them 2 ms apart, else they come in one go;
with ``calls``, 400 of them are pieces of a call of the tool ``ticket_read``.
"""

from __future__ import annotations

import asyncio
import json
import re

EVENTS = 500
CALL_EVENTS = 400
PACE_S = 0.002
JSON_BYTES = 2048

_EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-bench",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-bench",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
_USAGE = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-bench","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":500,"total_tokens":509}}\n\n'
)
_SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json_answer() -> bytes:
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
    }
    text = "x" * (JSON_BYTES - len(json.dumps(answer)))
    answer["choices"][0]["message"]["content"] = text  # type: ignore[index]
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


_JSON = _json_answer()
_END = _chunk(_LAST) + _chunk(_USAGE) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _call_event(index: int) -> bytes:
    """A piece of a call of a tool; the first names it, and together they are one JSON object."""
    function = {"arguments": '{"text":"' if not index else '"}' if index == CALL_EVENTS - 1 else "word "}
    call = {"index": 0, "function": function}
    if not index:
        call |= {"id": "call_1", "type": "function"}
        function["name"] = "ticket_read"
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-bench", "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


_CALLS = (
    _SSE_HEAD
    + _chunk(_EVENT) * (EVENTS - CALL_EVENTS)
    + b"".join(_chunk(_call_event(n)) for n in range(CALL_EVENTS))
    + _END.replace(_chunk(_LAST), _chunk(_LAST.replace(b'"stop"', b'"tool_calls"')))
)
_BURST = _SSE_HEAD + _chunk(_EVENT) * EVENTS + _END


class _Provider(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._pacing: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, head + 2)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[head + 4 : end], self._buffer[end:]
            if b'"stream":true' not in body:
                self._transport.write(_JSON)
            elif b"paced" not in body:
                self._transport.write(_CALLS if b"calls " in body else _BURST)
            else:
                task = asyncio.get_running_loop().create_task(self._pace())
                self._pacing.add(task)
                task.add_done_callback(self._pacing.discard)

    async def _pace(self) -> None:
        self._transport.write(_SSE_HEAD)
        event = _chunk(_EVENT)
        for _ in range(EVENTS):
            self._transport.write(event)
            await asyncio.sleep(PACE_S)
        self._transport.write(_END)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
