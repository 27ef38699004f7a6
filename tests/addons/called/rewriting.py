"""Streams of the corpus as they leave where their calls are refused."""

from __future__ import annotations

from clawproxy.addons.wire.events import Framing
from clawproxy.addons.wire.format import FORMATS
from clawproxy.addons.wire.refusal_text import RefusalText
from clawproxy.addons.wire.rewrite import Event

from .shape import CalledStream

REFUSAL = RefusalText(
    status=403,
    message="the tool may not be called",
    reason="POLICY_TOOL_NOT_ALLOWED",
    step="observe",
    rule="denied_tools",
    remedy="ask",
    receipt_id="r-1",
    policy_hash_b64u=None,
    job=None,
)


def framing_of(stream: CalledStream) -> Framing:
    framing = FORMATS[stream.format].framing(stream.content_type, stream=True)
    assert framing is not None
    return framing


def events_in(framing: Framing, data: bytes) -> list[tuple[bytes, Event | None, bytes]]:
    """Each event: what stands before it, what it says, and its bytes."""
    buffer, at, found = bytearray(data), 0, []
    while (end := framing.end(buffer, start := framing.begin(buffer, at), 0)) > 0:
        event = bytes(buffer[start:end])
        found.append((bytes(buffer[at:start]), framing.read(event, first=start == 0), event))
        at = end
    return [*found, (bytes(buffer[at:]), None, b"")]


def rewritten(stream: CalledStream, text: str, *, keep: int = 0) -> bytes | None:
    """The stream with ``text`` for each block but the first ``keep``; None where it cannot be said."""
    rewriter = FORMATS[stream.format].new_rewriter()
    assert rewriter is not None
    framing, blocks = framing_of(stream), list(stream.blocks)
    out, at, number, changed = b"", 0, 0, False
    block: list[tuple[Event, bytes, bytes]] = []
    for before, told, data in events_in(framing, stream.data):
        start, at = at + len(before), at + len(before) + len(data)
        out += before if not block else b""
        inside = number < len(blocks) and blocks[number][0] <= start < blocks[number][1]
        if inside and told is not None:
            block.append((told, before, data))
            if at < blocks[number][1]:
                continue
            number += 1
            events: list[Event] = [each for each, _, _ in block]
            if number <= keep:
                rewriter.keep(events)
                out += b"".join(old + event for _, old, event in block)[len(block[0][1]) :]
            else:
                changed = True
                new = rewriter.replace(events, text)
                if new is None:
                    return None
                out += framing.between.join(framing.write(*event) for event in new)
            block = []
        elif changed and told is not None:
            out += framing.between.join(framing.write(*event) for event in rewriter.mend(told))
        else:
            out += data
    return out


def ended_early(stream: CalledStream) -> bytes:
    """The stream up to its first block, and the error in place of the rest."""
    rewriter = FORMATS[stream.format].new_rewriter()
    assert rewriter is not None
    framing, (start, _) = framing_of(stream), stream.blocks[0]
    held = [told for _, told, _ in events_in(framing, stream.data[start:]) if told is not None]
    events = rewriter.error(REFUSAL, held)
    return stream.data[:start] + framing.between.join(framing.write(*event) for event in events) + framing.close
