"""Streams that call tools, in the shapes that providers send, for every format: ``STREAMS``.

Each says what it calls and where: readers, the tool gate and rewriting are tested with the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import anthropic_streams, chat_streams, responses_streams
from .shape import Called, CalledStream

__all__ = ["STREAMS", "Called", "CalledStream"]

STREAMS: Mapping[str, CalledStream] = MappingProxyType(
    {
        stream.name: stream
        for maker in (anthropic_streams, chat_streams, responses_streams)
        for stream in maker.streams()
    }
)
