"""A request as a format reads it: the parsed body, and what the route already says of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...policies.facts import CallKind
from ...tokens.canonical import JsonObject


@dataclass(frozen=True, slots=True)
class WireRequest:
    """``body`` comes from the strict parser, and is empty for a route without one (GET).

    ``model`` is the one that stands in the path, decoded; ``stream`` what the route itself says of streaming (Gemini
    and Bedrock have a path of their own for it). Both are None where the body says it.
    """

    body: JsonObject
    provider: str
    route: str
    kind: CallKind = CallKind.GENERATE
    model: str | None = None
    stream: bool | None = None
