"""What the messages of a WebSocket mean: the state of one connection, as both sides have told it. Pure.

A session reads each message of the client before it leaves, and hears those of the provider that tell of responses.
What a client asks for is judged with all that it set up before on the same connection: tools that were declared, and
responses that it builds on. Every kind of message that is not known is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .reader import ResponseReader

MAX_TOOLS = 1024
"""Declared on one connection and still in force."""


@dataclass(frozen=True, slots=True)
class Told:
    """One message of the client: ``facts`` to decide about, if it holds any, and whether it asks for a response."""

    facts: CallFacts | None
    asks: bool = False


class Session(Protocol):
    """One connection."""

    def read(self, message: JsonObject) -> Told:
        """A message of the client. Raises ``ClawproxyError`` (INVALID_REQUEST) for what cannot be judged."""
        ...

    def heard(self, event: JsonObject) -> None:
        """An event of the provider."""
        ...

    def may_come(self, event: JsonObject) -> bool:
        """Whether the provider may send this event while no response is open: one of a type that it sends unasked, and
        no call of a tool that nobody has judged."""
        ...

    def new_reader(self) -> ResponseReader:
        """For the next response."""
        ...
