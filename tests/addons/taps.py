"""A tap, played as the seam plays it."""

from __future__ import annotations

from collections.abc import Iterable

from clawproxy.addons.holds import Hold
from clawproxy.addons.stream_tap import StreamTap


def play(tap: StreamTap, chunks: Iterable[bytes]) -> tuple[bytes, bytes]:
    """What left before the end, and what was held at the end."""
    left, hold = b"", None
    for chunk in chunks:
        out = tap.feed(chunk)
        if isinstance(out, Hold):
            assert hold is None
            hold = out
            left += hold.now
        elif hold is not None:
            hold.held += out
        else:
            left += out
    if hold is None:
        now, held = tap.close()
        return left + now, held
    return left, hold.held
