"""Other readers of a request body: what each would find in the bytes that arrived. Pure.

Each of them is careless in its own way, as JSON libraries of providers are: the last or the first of two keys counts,
keys match without regard to case or compatibility characters. Where policy and they disagree, one call was judged and
another one was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
import rfc8785

_MODEL_IN_PATH = re.compile(r"/models?/([^/:]+(?::[0-9]+)?)[:/]([A-Za-z-]+)")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader finds; ``digest`` is SHA-256 of the RFC 8785 form of the whole document, hex."""

    digest: str
    model: Any
    stream: Any
    tools: frozenset[Any]


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As Go's encoding/json finds struct fields: exact, or folded; the last one counts."""
    return {unicodedata.normalize("NFKC", key).casefold().strip(): value for key, value in pairs}


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "orjson": orjson.loads,
    "first of two": lambda raw: json.loads(raw, object_pairs_hook=_first_wins),
}
FOLDING: Callable[[bytes], Any] = lambda raw: json.loads(raw, object_pairs_hook=_folded)  # noqa: E731 - beside PARSERS


def digest(document: Any) -> str:
    try:
        canonical = rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):  # nothing that the strict parser lets through
        canonical = repr(document).encode("utf-8", "surrogatepass")
    return hashlib.sha256(canonical).hexdigest()


def reading(name: str, path: str, document: Any) -> Reading:
    """What ``document`` asks for, as a request of the format ``name`` that was sent to ``path``."""
    in_path = _MODEL_IN_PATH.search(path)
    if in_path is not None:
        model, stream = unquote(in_path[1]), "stream" in in_path[2]
    else:
        model, stream = document.get("model"), document.get("stream", name == "ollama_chat")
    return Reading(digest(document), model, stream, frozenset(_TOOLS[name](document)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _chat_tools(body: Any) -> list[Any]:
    named = [tool.get(tool["type"], {}).get("name") for tool in _list(body.get("tools"))]
    return named + [function.get("name") for function in _list(body.get("functions"))]


def _responses_tools(body: Any) -> list[Any]:
    found: list[Any] = []

    def read(tools: Any, space: str) -> None:
        for tool in _list(tools):
            kind = tool.get("type")
            if kind == "namespace":
                read(tool.get("tools"), f"{tool.get('name')}.")
            elif kind in ("function", "custom"):
                found.append(space + str(tool.get("name")))
            else:
                found.append(kind)

    read(body.get("tools"), "")
    for item in _list(body.get("input")):
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            read(item.get("tools"), "")
    return found


def _gemini_tools(body: Any) -> list[Any]:
    declared = [
        tool.get("functionDeclarations", tool.get("function_declarations")) for tool in _list(body.get("tools"))
    ]
    return [function.get("name") for functions in declared for function in _list(functions)]


def _converse_tools(body: Any) -> list[Any]:
    tools = _list((body.get("toolConfig") or {}).get("tools"))
    return [tool["toolSpec"].get("name") for tool in tools if "toolSpec" in tool]


_TOOLS: dict[str, Callable[[Any], list[Any]]] = {
    "openai_chat": _chat_tools,
    "openai_responses": _responses_tools,
    "anthropic_messages": lambda body: [tool.get("name") for tool in _list(body.get("tools"))],
    "gemini": _gemini_tools,
    "bedrock_converse": _converse_tools,
    "bedrock_anthropic": lambda body: [tool.get("name") for tool in _list(body.get("tools"))],
    "ollama_chat": lambda body: [tool.get("function", {}).get("name") for tool in _list(body.get("tools"))],
}
