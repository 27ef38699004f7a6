"""One call while it is under way: what each step found out, for the steps after it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..receipts.calls import NO_DATA, DataSeen, Outcome
from ..tokens.canonical import JsonObject

if TYPE_CHECKING:
    import asyncio

    from mitmproxy import http

    from ..policies.facts import CallFacts
    from ..policies.policy import Policy
    from ..policies.routes import RouteMatch
    from ..receipts.budget import Reservation
    from ..receipts.calls import JudgedCall, WouldRefuse
    from ..receipts.job import Job
    from ..receipts.scribe import Intended
    from ..tokens.reasons import Refusal
    from ..tokens.verify import Grant
    from .egress_request import Egress
    from .gate import Steps
    from .http_stream import Watch
    from .stream_tap import StreamTap
    from .tool_gate import ToolGate
    from .websocket import FrameTap
    from .wire.events import Framing
    from .wire.format import ResponseReader, WireFormat, WireRequest


@dataclass(slots=True)
class Call:
    """The state of one flow, filled step by step; a member is None until its step is done."""

    flow: http.HTTPFlow
    way_in: str
    presenter: str
    started_ms: int
    receipt_id: str = field(default_factory=lambda: f"rcpt_{uuid.uuid4()}")
    step: str = "admit"
    home: str | None = None
    """The job whose door it came by: its denial belongs there, where it has no job of its own."""
    steps: Steps | None = None
    """Those that it began with, whatever is reloaded meanwhile (``switch``)."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)  # admit
    """The header fields by lower-case name; those that decide anything occur once (``steps.LiveSteps.admit``)."""
    match: RouteMatch | None = None
    bound_for: tuple[str, int] | None = None
    """Host and port that a tool's call asks for, whether it may go there or not; where it may is ``destination``."""
    egress: Egress | None = None
    """What is known of it, if it is a tool's call and not a model's (``egress_steps``)."""
    token: str | None = field(default=None, repr=False)  # collect
    grant: Grant | None = field(default=None, repr=False)  # authenticate
    policy: Policy | None = None  # pin
    job: Job | None = None
    format: WireFormat | None = None  # read
    wire_request: WireRequest | None = field(default=None, repr=False)
    """The body as it was read; gone once it has left."""
    facts: CallFacts | None = None
    stripped: tuple[str, ...] = ()
    """Tools that were taken out of the request."""
    request_hash_b64u: str | None = None
    would_refuse: tuple[WouldRefuse, ...] = ()
    """What would have refused it, where its job was opened to observe (``observing``)."""
    data: DataSeen = NO_DATA  # decide
    """What it carries (``data_gate``)."""
    nonce: str = ""  # reserve
    reservation: Reservation | None = None
    """What it may use of the contract's budgets, where that has any."""
    context_tokens: int = 0
    """A message of a socket: how many tokens of its conversation stand at the provider already."""
    unsent: bool = False
    """It was refused after its intent, and nothing left."""
    intended: Intended | None = None  # intend
    addresses: tuple[str, ...] = ()
    """Where the provider's host is, checked: what may be dialled."""
    destination: tuple[str, int] | None = None  # forward
    credential: str = field(default="", repr=False)
    reader: ResponseReader | None = None  # observe
    tap: StreamTap | FrameTap | None = None
    watch: Watch | None = None
    gate: ToolGate | None = None
    called: list[JudgedCall] = field(default_factory=list)
    """What became of the calls of tools in the answer."""
    framing: Framing | None = None
    """Of an answer that is a stream."""
    settling: asyncio.Task[None] | None = None
    """Such calls wait for their verdict."""
    released: bytes = b""
    """What may leave of a held part."""
    judged: bool = False
    """The calls in a whole answer were judged."""
    instead: http.Response | None = None
    """What is delivered in place of a whole answer."""

    asks: bool = False
    """A message of a socket: it asks for a response."""
    frame_bytes: int | None = None
    """The size of a request that is made of messages of a socket."""
    steps_done: int = 0
    """How many of the steps before egress have passed (``Gate``)."""
    held_bytes: int = 0
    """Room taken for the body, while it is large and not judged yet."""
    by_handle: bool = False
    """The token is one that the gateway minted for a handle."""
    judging: bool = False
    """Steps 1 to 9 are running; nobody else may end the call meanwhile."""
    outcome: Outcome | None = None
    """How the call will end, where that is known before it ends (a fault, a stop, an unreachable provider)."""
    detail: str = ""
    last_words: str = ""
    """The reason that the agent is told, where the outcome alone does not say it."""
    halt: Refusal | None = None
    """An order of the operator that came while the call was under way: it goes no further."""
    recorded: bool = False
    """The one record of this call is on its way to the journal, or there. Set before the first await."""
    envelope: JsonObject | None = None
    """The record, once it is durable."""
    release: bool = False
    """The agent may see the end of the answer."""

    @property
    def job_id(self) -> str | None:
        return self.grant.job_id if self.grant else None

    @property
    def is_message(self) -> bool:
        """Whether it came as messages of a socket."""
        return self.frame_bytes is not None

    @property
    def request_bytes(self) -> int:
        return len(self.flow.request.raw_content or b"") if self.frame_bytes is None else self.frame_bytes

    @property
    def declared_tools(self) -> tuple[str, ...]:
        """The tools that its request declares, as far as it was read."""
        return self.facts.tools if self.facts is not None else ()

    @property
    def policy_hash_b64u(self) -> str | None:
        return self.grant.policy_hash_b64u if self.grant else None

    @property
    def compat(self) -> bool:
        """Whether the answer carries its receipt (protocol.md D.6)."""
        return self.match is not None and self.match.compat

    def stop(self, why: str) -> None:
        """Cut the call as soon as the event loop turns (about 2 ms, docs/engine.md 4)."""
        self.outcome, self.detail = self.outcome or Outcome.STOPPED, self.detail or why
        if self.watch is not None:
            self.watch.stop = why
            self.watch.over.set()
