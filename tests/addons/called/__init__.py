"""Streams that call tools, in the shapes that providers send, for every format: ``STREAMS``.

Each says what it calls and where: readers, the tool gate and rewriting are tested with the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    anthropic_streams,
    bedrock_streams,
    chat_streams,
    gemini_streams,
    ollama_streams,
    realtime_messages,
    responses_streams,
)
from .shape import Called, CalledMessages, CalledStream

__all__ = ["MESSAGES", "STREAMS", "Called", "CalledMessages", "CalledStream"]

MAKERS = (anthropic_streams, bedrock_streams, chat_streams, gemini_streams, ollama_streams, responses_streams)
STREAMS: Mapping[str, CalledStream] = MappingProxyType(
    {stream.name: stream for maker in MAKERS for stream in maker.streams()}
)
MESSAGES: Mapping[str, CalledMessages] = MappingProxyType(
    {told.name: told for told in (*realtime_messages.messages(), *responses_streams.messages())}
)
"""What comes over WebSockets, one message each."""
