"""The walk through messages and items: every object in them is seen, and of those that hold content, each one is of a
known type. Pure.

What a tool was called with is the agent's own and is not looked into. Everywhere else a member that could define tools
is refused, unless it stands in an object of the type that the provider documents for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...tokens.canonical import JsonObject
from .asked import Asked
from .keys import HOLDS_TOOLS, PART, refuse, refuse_type

_CONTENT = frozenset({"output", "file", "source", "content", "audio", "input_audio", "image_url"})
"""Members through which content is reached; what is elsewhere is only searched for tools."""
_PARTS = frozenset({"content", "output"})
"""Of these, the members that are lists of parts with a type each."""
_ARGUMENTS = frozenset({"input", "arguments", "parameters", "input_schema", "output_schema", "schema", "attributes"})
_NOTHING: frozenset[str] = frozenset()


class Parts:
    """The objects of one API's conversations.

    ``types`` are those of content parts. ``loose`` are the types of items that repeat what a tool of the provider gave:
    its parts have types of their own. ``holders`` says which members with tools a type has; the format reads these.
    """

    def __init__(self, types: str, loose: str = "", holders: Mapping[str, str] | None = None) -> None:
        self._types = frozenset(types.split())
        self._loose = frozenset(loose.split())
        self._holders = {kind: frozenset(members.split()) for kind, members in (holders or {}).items()}

    def walk(self, asked: Asked, value: Any, where: str, *, content: bool = False) -> Iterator[JsonObject]:
        """Every object in ``value`` that holds content, in order; notes files and URLs in ``asked``.

        With ``content``, ``value`` is itself a list of content parts. Raises ``ClawproxyError`` (INVALID_REQUEST).
        """
        left = [(value, True, content, True)] if isinstance(value, dict | list) else []
        while left:
            item, on_path, typed, strict = left.pop()
            if isinstance(item, list):
                if typed and not all(isinstance(inner, dict) for inner in item):
                    refuse(where, "a part of the content is not an object", expected="objects with a type")
                left.extend(
                    (inner, on_path, typed, strict) for inner in reversed(item) if isinstance(inner, dict | list)
                )
                continue
            kind = item.get("type")
            (PART if on_path else HOLDS_TOOLS).check(item, where)
            if typed and not (isinstance(kind, str) and kind in self._types):
                refuse_type(where, kind, "a part")
            held = self._holders.get(kind, _NOTHING) if isinstance(kind, str) else _NOTHING
            strict = strict and not (isinstance(kind, str) and kind in self._loose)
            for key, inner in item.items():
                if key in HOLDS_TOOLS.read:
                    if key not in held:
                        refuse(where, f"{key!r} in an object that is not known to hold any", expected="no such key")
                elif key not in _ARGUMENTS and isinstance(inner, dict | list):
                    left.append((inner, on_path and key in _CONTENT, strict and key in _PARTS, strict))
            _note_fetched(asked, item)
            if on_path:
                _note_held(asked, item)
                yield item


def _note_held(asked: Asked, part: JsonObject) -> None:
    """Content that the provider holds: files, and media that vLLM keeps under a name that a client gave."""
    for key in ("file_id", "uuid"):
        if part.get(key) is not None:
            asked.state(key)


def _note_fetched(asked: Asked, part: JsonObject) -> None:
    """URLs that the provider would fetch, in annotations that repeat a file as well."""
    for key in ("image_url", "file_url"):
        if (found := part.get(key)) is not None and not (key == "image_url" and isinstance(found, dict)):
            asked.url(found, key)
    if isinstance(data := part.get("file_data"), str) and ":" in data:
        asked.url(data, "file_data")  # base64 has no colon
    image = part.get("image_url")
    if isinstance(image, dict):
        asked.url(image.get("url"), "image_url.url")
    source = part.get("source")
    if isinstance(source, dict) and (source.get("type") == "url" or "url" in source):
        asked.url(source.get("url"), "source.url")
