"""What the gateway tells the evidence about one call: its start, its end, or its refusal. Plain values, no clocks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ..policies.facts import CallFacts
from ..tokens.canonical import JsonObject

if TYPE_CHECKING:
    from .budget import Reservation


class Outcome(StrEnum):
    """How a call that was intended ended. Exactly one per intent."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # the stream ended cleanly, but without the provider's terminal event
    CLIENT_GONE = "client_gone"  # the agent left before the end
    UPSTREAM_FAILED = "upstream_failed"  # the provider's connection died after the request left
    UPSTREAM_UNREACHABLE = "upstream_unreachable"  # no connection to the provider: nothing left
    STOPPED = "stopped"  # cut by the gateway: stop switch, limit, shutdown
    FAULT = "fault"  # a step after the intent failed inside the gateway
    CALL_REFUSED = "call_refused"  # the answer called a tool that it may not, and was ended there with an error


class CalledOutcome(StrEnum):
    """What became of a call of a tool in an answer."""

    ALLOWED = "allowed"  # delivered
    APPROVED = "approved"  # a person said yes; delivered
    DENIED = "denied"  # not delivered
    WITHHELD = "withheld"  # not delivered, though nothing was wrong with it: it stood beside a denied one, or broke off


@dataclass(frozen=True, slots=True)
class WouldRefuse:
    """What would have refused something that a job opened to observe let through: code and rule of the refusal."""

    code: str
    rule: str


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """A call of a tool in an answer, as it was judged. ``rule`` is what decided, ``approval`` a receipt id.

    ``arguments_hash_b64u`` is over the arguments' JCS form, or over their text where they have none. ``would_refuse``
    and ``inner``, the tools that are named inside a call of a meta-tool, only in a job opened to observe.
    """

    name: str
    arguments_hash_b64u: str
    outcome: CalledOutcome
    rule: str
    approval: str | None = None
    would_refuse: WouldRefuse | None = None
    inner: tuple[str, ...] = ()


class Usage(StrEnum):
    """Whose the figures of a receipt's tokens are."""

    REPORTED = "reported"  # the provider's
    ESTIMATED = "estimated"  # at least one of them is worked out from bytes
    NONE = "none"  # all are 0: no model answered


@dataclass(frozen=True, slots=True)
class DataSeen:
    """What a call carries, as far as its contract asks: ``labels`` of its conversation; how often each class of data
    was ``found``, and of these ``redacted``; how many values each action of a path rule changed. No content."""

    labels: tuple[str, ...] = ()
    found: tuple[tuple[str, int], ...] = ()
    redacted: tuple[tuple[str, int], ...] = ()
    paths: tuple[tuple[str, int], ...] = ()


NO_DATA = DataSeen()


@dataclass(frozen=True, slots=True)
class CallStart:
    """What is about to leave. ``request_hash_b64u`` is over the body bytes sent upstream (protocol.md D.8).

    ``upstream`` is the provider that the call goes to in place of ``provider``, and ``upstream_model`` the model's name
    there (protocol.md D.5); None where it goes where it was addressed. ``facts`` are those that were judged: what of
    them no other field says goes on record as well, so that the decision can be worked out again.
    """

    receipt_id: str
    nonce: str
    provider: str
    route: str
    model: str
    stream: bool
    request_hash_b64u: str
    request_bytes: int
    tools: tuple[str, ...]
    token_hash_hex: str
    token_scope_hash_b64u: str
    policy_hash_b64u: str
    presenter: str
    way_in: str
    started_ms: int
    harness_run_id: str | None = None
    harness_event_hash_b64u: str | None = None
    stripped: tuple[str, ...] = ()
    """Tools that the agent declared and that were taken out."""
    upstream: str | None = None
    upstream_model: str | None = None
    facts: CallFacts | None = None
    budget: Reservation | None = None
    """Where the contract has budgets: what the call may use."""
    data: DataSeen = NO_DATA
    would_refuse: tuple[WouldRefuse, ...] = ()
    """Only in a job opened to observe."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What came back. ``response_hash_b64u`` is over the content-decoded bytes from upstream, as far as they came.

    ``usage`` says whose figures ``tokens_*`` are. ``tokens_cached`` and ``tokens_cache_write`` are parts of
    ``tokens_input``, ``tokens_reasoning`` is one of ``tokens_output``; 0 where the provider did not tell.
    ``tool_calls`` are the names of the tools that the answer calls, in order; ``called`` is what became of each.
    ``delivered_hash_b64u`` is over the body that the agent was given, None where that is what came, or where it broke
    off; the receipt's own comments on a compatibility route are not in it.
    """

    outcome: Outcome
    status: int | None
    response_hash_b64u: str
    response_bytes: int
    tokens_input: int
    tokens_output: int
    usage: Usage
    response_model: str | None
    tool_calls: tuple[str, ...]
    first_byte_ms: int | None
    ended_ms: int
    tokens_cached: int = 0
    tokens_cache_write: int = 0
    tokens_reasoning: int = 0
    detail: str = ""
    sent: bool = True
    """False where it is certain that nothing left."""
    per_contract: JsonObject | None = None
    """The state of the contract's budgets once this call has ended, where it has any."""
    called: tuple[JudgedCall, ...] = ()
    delivered_hash_b64u: str | None = None


@dataclass(frozen=True, slots=True)
class CallDenied:
    """A call that did not go out. What is not known at the step of the refusal is None; so are ``facts``, which are
    those of a model call whose body was read."""

    receipt_id: str
    step: str
    reason: str
    rule: str
    detail: str
    at_ms: int
    presenter: str
    way_in: str
    method: str
    provider: str | None = None
    route: str | None = None
    model: str | None = None
    request_hash_b64u: str | None = None
    token_hash_hex: str | None = None
    policy_hash_b64u: str | None = None
    facts: CallFacts | None = None
    destination: str | None = None
    """Host, or host and port, that it was for, where that is no provider's route (``side_traffic``)."""
