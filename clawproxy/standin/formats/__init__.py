"""What the providers answer, one module per API, as JSON and as streams. Pure.

Shapes: the providers' own API documentation; the real SDKs accept them.
Identifiers and figures depend on the request alone, so that runs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import (
    anthropic_messages,
    bedrock,
    fal,
    gemini,
    ollama,
    openai_chat,
    openai_embeddings,
    openai_responses,
)
from .ask import Ask, read_ask
from .encode import JsonObject, dump
from .errors import error_answer, error_object
from .models import models_answer

__all__ = [
    "Ask",
    "JsonObject",
    "error_answer",
    "error_object",
    "json_answer",
    "models_answer",
    "read_ask",
    "stream_answer",
    "stream_type",
    "streams",
    "terminal_events",
]


@dataclass(frozen=True, slots=True)
class _Stream:
    """How a kind streams; ``terminal`` is the number of events that make up the provider's end."""

    events: Callable[[Ask], Iterator[bytes]]
    content_type: str = "text/event-stream; charset=utf-8"
    terminal: int = 1


_AMAZON = "application/vnd.amazon.eventstream"
_LINES = "application/x-ndjson"
_JSON: dict[str, Callable[[Ask], JsonObject]] = {
    "chat": openai_chat.answer,
    "responses": openai_responses.answer,
    "embeddings": openai_embeddings.answer,
    "messages": anthropic_messages.answer,
    "count-tokens": anthropic_messages.count,
    "gemini": gemini.answer,
    "gemini-array": gemini.answer,
    "gemini-count": gemini.count,
    "fal-router": fal.answer,
    "bedrock-invoke": anthropic_messages.answer,
    "bedrock-converse": bedrock.converse,
    "ollama-chat": ollama.chat,
    "ollama-generate": ollama.generate,
    "ollama-embed": ollama.embed,
    "ollama-show": ollama.show,
}
_STREAMS = {
    "chat": _Stream(openai_chat.events),
    "responses": _Stream(openai_responses.events),
    "messages": _Stream(anthropic_messages.events),
    "gemini": _Stream(gemini.events),
    "gemini-array": _Stream(gemini.array, "application/json; charset=UTF-8", 2),
    "bedrock-invoke": _Stream(bedrock.invoke_events, _AMAZON),
    "bedrock-converse": _Stream(bedrock.converse_events, _AMAZON, 2),
    "ollama-chat": _Stream(ollama.chat_lines, _LINES),
    "ollama-generate": _Stream(ollama.generate_lines, _LINES),
}


def json_answer(ask: Ask) -> bytes:
    """The whole answer as one JSON document."""
    return dump(_JSON[ask.kind](ask))


def streams(ask: Ask) -> bool:
    """Whether the answer is a stream; some kinds never are, whatever the body says."""
    return ask.stream and ask.kind in _STREAMS


def stream_answer(ask: Ask) -> list[bytes]:
    """The answer as events (or lines, frames, elements); the last ones are the provider's end."""
    return list(_STREAMS[ask.kind].events(ask))


def stream_type(kind: str) -> str:
    """The content type of a stream."""
    return _STREAMS[kind].content_type


def terminal_events(kind: str) -> int:
    """How many events at the end of a stream tell that it is whole."""
    return _STREAMS[kind].terminal
