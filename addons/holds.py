"""What the seam and the addons say to each other: held bytes, the stop switch, the tap. See ``http_stream.py``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from mitmproxy import http
from mitmproxy.proxy import commands


@dataclass(slots=True, eq=False)
class Hold:
    """Bytes that wait. ``now`` leaves at once; ``held`` only as ``verdict``.

    ``gone`` is set when nobody waits any more: the client left, the upstream died, or the call was cut. The end of an
    answer is complete once it is held, so there only a cut sets it.
    """

    flow: http.HTTPFlow
    kind: Literal["end", "part"]
    now: bytes
    held: bytes
    verdict: bytes | None = None
    ping: bytes | None = None
    """Set it and return without a verdict: it is sent (a keep-alive comment), and ``seam_hold`` is asked again."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pressed: bool = False
    """Too much has queued up behind this part."""


@dataclass(slots=True, eq=False)
class Watch:
    """The stop switch of one call. ``over`` is set when the call has ended, so that ``seam_watch`` returns."""

    flow: http.HTTPFlow
    stop: str | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


@runtime_checkable
class Tap(Protocol):
    """Reads an answer as it passes. Synchronous; called for each piece of the decoded body.

    After ``feed`` has held the end, it is still given what comes behind the terminal event (to hash it); what it
    returns then joins the held bytes. An exception cuts the call.
    """

    def feed(self, data: bytes) -> bytes | Hold:
        """What may leave now, or what must wait."""
        ...

    def close(self) -> tuple[bytes, bytes]:
        """The upstream ended its message and no end was held: what may leave now, and what is held as the end."""
        ...


# Hooks have exactly one field, since mitmproxy unpacks exactly one argument; the class name is the addon's method.


@dataclass
class SeamHoldHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """Something is held."""

    hold: Hold


@dataclass
class SeamWatchHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """An upstream connection exists."""

    watch: Watch


@dataclass
class SeamPressureHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """The backlog behind a held part grew too large, or is gone again."""

    blocking = False
    hold: Hold
