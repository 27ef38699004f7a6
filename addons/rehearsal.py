"""The seam played through without sockets: a request and its answer, fed to mitmproxy's HTTP layer event by event.

``rehearse`` runs at every start, in a few milliseconds: it shows that the seam is in place and does in this mitmproxy
what ``http_stream.py`` promises. ``Stage`` is also what the unit tests of the seam play on. Opens nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode

from ..tokens.errors import ClawproxyError
from .http_stream import Hold, Watch

type Answer = Callable[[Any], bool]
"""Plays an addon's hook; False leaves it unanswered, as a hook that hangs."""

_OPTIONS: dict[str, Any] = {
    "connection_strategy": "lazy",
    "keep_host_header": True,
    "body_size_limit": None,
    "stream_large_bodies": None,
    "store_streamed_bodies": False,
    "validate_inbound_headers": True,
    "websocket": False,
    "rawtcp": False,
    "proxy_debug": False,
    "http2": False,
}


@dataclass
class Stage:
    """One client connection with its HTTP layer, and whatever it sends, opens, closes and asks."""

    answers: dict[str, Answer]
    asked: list[str] = field(default_factory=list)
    waiting: list[commands.StartHook] = field(default_factory=list)
    naps: list[commands.RequestWakeup] = field(default_factory=list)
    to_client: bytearray = field(default_factory=bytearray)
    to_upstream: bytearray = field(default_factory=bytearray)
    closed: set[str] = field(default_factory=set)
    upstreams: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        mode = mode_specs.ProxyMode.parse("reverse:http://upstream.invalid:80")
        self.client = Client(
            peername=("127.0.0.1", 2),
            sockname=("127.0.0.1", 1),
            timestamp_start=0.0,
            state=ConnectionState.OPEN,
            proxy_mode=mode,
        )
        context = Context(self.client, SimpleNamespace(**_OPTIONS))  # type: ignore[arg-type]
        context.server.address = ("upstream.invalid", 80)
        self._layer = HttpLayer(context, HTTPMode.transparent)
        self._events: deque[events.Event] = deque()
        self.send(events.Start())

    def send(self, event: events.Event) -> None:
        """Feed an event, and whatever follows from it, until the layer waits for the world."""
        self._events.append(event)
        while self._events:
            for command in self._layer.handle_event(self._events.popleft()):
                self._obey(command)

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            self._sink(command.connection).extend(command.data)
        elif isinstance(command, commands.OpenConnection):
            command.connection.state = ConnectionState.OPEN
            self.upstreams.append(command.connection)
            self._events.append(events.OpenConnectionCompleted(command, None))
        elif isinstance(command, commands.CloseConnection):
            if command.connection.state is not ConnectionState.CLOSED:
                command.connection.state = ConnectionState.CLOSED
                self.closed.add(self._name(command))
                self._events.append(events.ConnectionClosed(command.connection))
        elif isinstance(command, commands.RequestWakeup):
            self.naps.append(command)
        elif isinstance(command, commands.StartHook):
            self.asked.append(command.name)
            answer = self.answers.get(command.name)
            done = answer(*command.args()) if answer else True
            if done is False:
                self.waiting.append(command)
            elif command.blocking:
                self._events.append(events.HookCompleted(command))

    def _name(self, command: commands.ConnectionCommand) -> str:
        return "client" if command.connection is self.client else "upstream"

    def _sink(self, connection: object) -> bytearray:
        return self.to_client if connection is self.client else self.to_upstream

    # -- the world's side ------------------------------------------------------------------------------------------

    def client_sends(self, data: bytes) -> None:
        self.send(events.DataReceived(self.client, data))

    def upstream_sends(self, data: bytes) -> None:
        self.send(events.DataReceived(self.upstreams[-1], data))

    def upstream_leaves(self) -> None:
        self.upstreams[-1].state &= ~ConnectionState.CAN_READ
        self.send(events.ConnectionClosed(self.upstreams[-1]))

    def client_leaves(self) -> None:
        self.client.state &= ~ConnectionState.CAN_READ
        self.send(events.ConnectionClosed(self.client))

    def answer(self, name: str) -> None:
        """A hook that was left unanswered returns now."""
        hook = next(hook for hook in self.waiting if hook.name == name)
        self.waiting.remove(hook)
        self.send(events.HookCompleted(hook))

    def wake(self) -> None:
        """All naps that are pending now are over."""
        naps, self.naps = self.naps, []
        for nap in naps:
            self.send(events.Wakeup(nap))


REQUEST = b"POST /v1/messages HTTP/1.1\r\nHost: upstream.invalid\r\nContent-Length: 2\r\n\r\n{}"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """``data`` as one HTTP/1.1 chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class _Tap:
    """Lets everything pass but ``[DONE]``."""

    def __init__(self, flow: http.HTTPFlow) -> None:
        self._flow = flow

    def feed(self, data: bytes) -> bytes | Hold:
        now, mark, held = data.partition(b"data: [DONE]")
        return Hold(self._flow, "end", now, mark + held) if mark else data

    def close(self) -> tuple[bytes, bytes]:
        return b"", b""


def _play(hold: Answer, watch: Answer | None = None) -> Stage:
    def responseheaders(flow: http.HTTPFlow) -> bool:
        flow.response.stream = _Tap(flow)  # type: ignore[union-attr]
        return True

    stage = Stage({"responseheaders": responseheaders, "seam_hold": hold, "seam_watch": watch or (lambda watch: False)})
    stage.client_sends(REQUEST)
    stage.upstream_sends(SSE_HEAD + chunk(b"data: one\n\n"))
    return stage


def rehearse() -> None:
    """Play a release, a refusal and a stop. Raises ``ClawproxyError`` (ENGINE_UNKNOWN) where the seam does not hold."""
    holds: list[Hold] = []

    def keep(hold: Hold) -> bool:
        holds.append(hold)
        return False

    stage = _play(keep)
    _expect(stage.to_client.endswith(chunk(b"data: one\n\n")), "text does not pass")
    stage.upstream_sends(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    _expect(len(holds) == 1 and b"[DONE]" not in stage.to_client, "the terminal event is not held")
    holds[0].verdict = holds[0].held
    stage.answer("seam_hold")
    _expect(stage.to_client.endswith(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"), "a released end does not leave")
    _expect(stage.asked.count("response") == 1 and "error" not in stage.asked, "a released call has no response hook")

    stage = _play(keep)
    stage.upstream_sends(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    stage.answer("seam_hold")
    _expect_cut(stage, "a hold without a verdict")

    watches: list[Watch] = []

    def watch_on(watch: Watch) -> bool:
        watches.append(watch)
        return False

    stage = _play(keep, watch_on)
    _expect(len(watches) == 1, "the stop switch is not armed")
    watches[0].stop = "rehearsal"
    stage.answer("seam_watch")
    _expect_cut(stage, "a stop")

    stage = Stage({"seam_hold": keep})
    stage.client_sends(REQUEST)
    stage.upstream_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    _expect(not stage.to_client, "a whole answer does not wait")
    stage.answer("seam_hold")
    _expect(not stage.to_client, "a whole answer leaves without a verdict")


def _expect_cut(stage: Stage, what: str) -> None:
    _expect(
        b"[DONE]" not in stage.to_client and not stage.to_client.endswith(b"0\r\n\r\n"), f"{what} lets the end pass"
    )
    _expect("client" in stage.closed, f"{what} does not break the connection")
    _expect(stage.asked.count("error") == 1 and "response" not in stage.asked, f"{what} has no error hook")


def _expect(held: bool, what: str) -> None:
    if not held:
        raise ClawproxyError(
            "ENGINE_UNKNOWN",
            f"the rehearsal of the response seam failed: {what}",
            where="mitmproxy",
            remedy="install the mitmproxy of requirements.lock",
        )
