"""Bytes of JSON, of server-sent events and of lines. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

type JsonObject = dict[str, Any]

CREATED_S = 1_767_225_600
"""When everything was made, so that runs can be compared."""
CREATED = "2026-01-01T00:00:00Z"


def dump(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def data_event(data: JsonObject) -> bytes:
    """A server-sent event that has only data."""
    return b"data: " + dump(data) + b"\n\n"


def named_event(data: JsonObject) -> bytes:
    """A server-sent event that repeats the object's ``type`` as its name."""
    return b"event: " + str(data["type"]).encode() + b"\n" + data_event(data)


def line(data: JsonObject) -> bytes:
    """A line of NDJSON."""
    return dump(data) + b"\n"


def pieces_of(text: str) -> list[str]:
    """``text`` in the pieces in which tool arguments are streamed."""
    return [text[n : n + 7] for n in range(0, len(text), 7)]


def objects(value: Any) -> Iterator[JsonObject]:
    """The objects in a list; nothing when it is no list."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
