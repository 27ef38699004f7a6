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
    """Set it and return without a verdict: it is sent (a keep-alive comment, or nothing) where the answer is a stream,
    and ``seam_hold`` is asked again, with new time."""
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
        """What may leave now, or what must wait. Asked with no bytes when a part was released."""
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


# -- sockets -------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Frame:
    """A whole message of a WebSocket that waits; without a verdict the socket is closed."""

    flow: http.HTTPFlow
    from_client: bool
    data: bytes
    fault: str = ""
    """What is wrong with what came, where it is no message that could be judged; there is no verdict then."""
    verdict: bytes | tuple[bytes, ...] | None = None
    """The message as it leaves, or several."""
    again: bool = False
    """Set it and return without a verdict: ``seam_frame`` is asked again, with new time."""
    block: tuple[bytes, ...] = ()
    """Messages that were held back before this one, and wait with it."""
    goodbye: bytes = b""
    """What the agent is told before the socket is closed."""
    code: int = 1008
    """The close code that the agent gets."""


@dataclass(frozen=True, slots=True)
class SocketEnd:
    """A socket is closed. ``by`` says who did it first."""

    flow: http.HTTPFlow
    by: Literal["client", "server", "gateway"]
    why: str = ""


@runtime_checkable
class FrameJudge(Protocol):
    """Judges the messages of one socket. Synchronous; an exception cuts. ``client_bytes`` and ``server_bytes`` bound
    one message of either side."""

    client_bytes: int
    server_bytes: int

    def take(self, data: bytes, *, from_client: bool) -> bytes | tuple[bytes, ...] | Frame:
        """The message as it may leave now, several (or none), or what must wait for ``seam_frame``."""
        ...


@dataclass
class SeamFrameHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """A message of a socket waits."""

    frame: Frame


@dataclass
class SeamSocketEndHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """A socket is closed."""

    blocking = False
    end: SocketEnd
