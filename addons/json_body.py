"""The body of a request as a JSON object: strictly, under configured bounds, each refusal under its own reason. Pure.

What two parsers could read differently is REQUEST_AMBIGUOUS, what is too deep or has too many values is
REQUEST_TOO_LARGE, and everything else that is not one JSON object is INVALID_REQUEST.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..tokens.canonical import (
    MAX_BODY_NODES,
    MAX_JSON_DEPTH,
    AmbiguousJsonError,
    JsonObject,
    TooDeepJsonError,
    TooManyNodesError,
    parse_json_object,
)
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import REASONS, Refusal


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """How deep a body may be nested, and how many keys, items and scalars it may have in all."""

    depth: int = MAX_JSON_DEPTH
    nodes: int = MAX_BODY_NODES


def parse_body(body: bytes, max_bytes: int, bounds: JsonBounds) -> JsonObject:
    """The object in ``body``; raises ``ClawproxyError``, for ``refusal_of_body``."""
    return parse_json_object(body, max_bytes=max_bytes, max_depth=bounds.depth, max_nodes=bounds.nodes)


def refusal_of_body(err: ClawproxyError, rule: str = "body") -> Refusal:
    """What could not be parsed, or not be judged, as a refusal at step read."""
    # not `got`: what the agent wrote has no place in the evidence
    why = f"{err.message} (expected {err.expected})" if err.expected else err.message
    match err:
        case TooDeepJsonError():
            return Refusal("REQUEST_TOO_LARGE", "gateway.max_json_depth", why, at="read")
        case TooManyNodesError():
            return Refusal("REQUEST_TOO_LARGE", "gateway.max_json_nodes", why, at="read")
        case AmbiguousJsonError():
            return Refusal("REQUEST_AMBIGUOUS", rule, why, at="read")
    return Refusal(err.reason if err.reason in REASONS else "INVALID_REQUEST", rule, why, at="read")
