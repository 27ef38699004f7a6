"""Results of tools, found in a request by their shape in every format, and the tool that each is from. Pure.

A result names its call by an id, and the call, which stands in the same request, names the tool; some formats name the
tool beside the result. A result whose tool cannot be told, or that two calls claim, is nobody's: ``tool`` is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..tokens.canonical import JsonObject

_IDS = ("tool_use_id", "tool_call_id", "call_id", "toolUseId", "id")
_RESULT_MEMBERS = ("functionResponse", "function_response", "toolResult", "tool_result")
_CALL_MEMBERS = ("functionCall", "function_call", "toolUse", "tool_use")
_NOT_OF_CALLS = frozenset({"message", "reasoning", "text", "image", "document"})


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back: ``value`` with everything in it."""

    tool: str | None
    value: Any


def tool_results(document: Any) -> list[ToolResult]:
    """Every result in a request."""
    names: dict[str, str | None] = {}
    found: list[JsonObject] = []
    for item in _objects(document):
        _note_call(item, names)
        if _is_result(item):
            found.append(item)
    return [ToolResult(_tool_of(item, names), item) for item in found]


def _objects(value: Any) -> Iterator[JsonObject]:
    left = [value]
    while left:
        item = left.pop()
        if item.__class__ is dict:
            yield item
            left.extend(item.values())
        elif item.__class__ is list:
            left.extend(item)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_result(item: JsonObject) -> bool:
    kind = _text(item.get("type"))
    if kind.endswith(("tool_result", "_call_output", "_result")) or kind in ("mcp_call", "mcp_tool_result"):
        return True
    return item.get("role") in ("tool", "function") or any(
        isinstance(item.get(member), dict) for member in _RESULT_MEMBERS
    )


def _note_call(item: JsonObject, names: dict[str, str | None]) -> None:
    """Keep under which ids a call of a tool goes."""
    if _is_result(item):
        return
    call = next((item[member] for member in _CALL_MEMBERS if isinstance(item.get(member), dict)), item)
    function = item.get("function")
    name = _text(call.get("name")) or (_text(function.get("name")) if isinstance(function, dict) else "")
    if not name or _text(item.get("type")) in _NOT_OF_CALLS:
        return
    space = _text(call.get("namespace"))
    name = f"{space}.{name}" if space else name
    for member in _IDS:
        one = _text(call.get(member)) or _text(item.get(member))
        if one:
            names[one] = name if names.get(one, name) == name else None


def _tool_of(item: JsonObject, names: dict[str, str | None]) -> str | None:
    inner = next((item[member] for member in _RESULT_MEMBERS if isinstance(item.get(member), dict)), item)
    ids = [one for member in _IDS for one in (_text(inner.get(member)), _text(item.get(member))) if one]
    by_id = {names[one] for one in ids if one in names}
    told = _text(inner.get("name")) or _text(inner.get("tool_name"))
    if told:
        by_id.add(told)
    return by_id.pop() if len(by_id) == 1 else None
