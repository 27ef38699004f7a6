"""What a stream of the corpus is: its bytes, what it calls, and where the blocks with the calls are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Called:
    """One call that the stream makes; ``arguments`` as ``CalledTool.arguments`` gives them."""

    name: str
    arguments: Any
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Events from the first of the first open call to the one after which none is open, as bytes. Without ``closed``
    the terminator is missing."""

    events: tuple[bytes, ...]
    closed: bool = True


@dataclass(frozen=True, slots=True)
class CalledStream:
    """``parts`` are the events in order, those of a block together."""

    name: str
    format: str
    content_type: str
    parts: tuple[bytes | Block, ...] = field(repr=False)
    calls: tuple[Called, ...]
    signed: bool = False
    """Whether it holds signed reasoning."""
    ended: bool = True
    """Whether it has the provider's terminal event."""

    @property
    def events(self) -> tuple[bytes, ...]:
        """Each event as it is sent, with all that stands before the next one."""
        return tuple(event for part in self.parts for event in (part.events if isinstance(part, Block) else (part,)))

    @property
    def data(self) -> bytes:
        """The whole stream."""
        return b"".join(self.events)

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Where each block begins and ends in ``data``."""
        found, at = [], 0
        for part in self.parts:
            size = sum(map(len, part.events)) if isinstance(part, Block) else len(part)
            if isinstance(part, Block):
                found.append((at, at + size))
            at += size
        return tuple(found)

    @property
    def closed(self) -> bool:
        """Whether every call has its end."""
        return all(part.closed for part in self.parts if isinstance(part, Block))


@dataclass(frozen=True, slots=True)
class CalledMessages:
    """One response on a WebSocket. ``blocks``: the first message with a call open, and the one after."""

    name: str
    format: str
    messages: tuple[bytes, ...] = field(repr=False)
    blocks: tuple[tuple[int, int], ...]
    calls: tuple[Called, ...]
    signed: bool = False
    ended: bool = True
    closed: bool = True


def messages_of(name: str, form: str, events: list[Any], calls: tuple[Called, ...], **more: bool) -> CalledMessages:
    """``events`` with those of a block in lists of their own."""
    messages: list[bytes] = []
    blocks = []
    for part in events:
        start = len(messages)
        messages += [json.dumps(event).encode() for event in (part if isinstance(part, list) else [part])]
        if isinstance(part, list):
            blocks.append((start, len(messages)))
    return CalledMessages(name, form, tuple(messages), tuple(blocks), calls, **more)


def block(events: Iterable[bytes], *, closed: bool = True) -> Block:
    return Block(tuple(events), closed)


def sse(told: Any, *, named: bool = False) -> bytes:
    """One server-sent event."""
    head = b"event: " + told["type"].encode() + b"\n" if named else b""
    return head + b"data: " + json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def pieces(text: str, size: int = 7) -> list[str]:
    """``text`` as a model's tokens might cut it."""
    return [text[n : n + size] for n in range(0, len(text), size)]


ARGUMENTS = {"path": '/tmp/notes é "quoted" \\ {}', "lines": [1, 2], "deep": {"end": "content_block_stop"}}
WRITTEN = json.dumps(ARGUMENTS, ensure_ascii=False)
CODE = 'const r = await tools.exec_command({cmd: "ls"});\ntext(tools["apply_patch"](r));'
