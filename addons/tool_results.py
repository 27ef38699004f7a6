"""Results of tools, found in a request by their shape in every format, and the tool that each is from. Pure.

A result names its call by an id, and the call, which stands in the same request, names the tool; some formats name the
tool beside the result, and what tools of the provider gave back stands in their call. A result whose tool cannot be
told, or that two calls claim, is nobody's: ``tool`` is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..policies.call_rules import ALSO_CALLED
from ..tokens.canonical import JsonObject
from .wire.called import CalledTool
from .wire.called_items import name_called
from .wire.inner_calls import inner_names

_IDS = ("tool_use_id", "tool_call_id", "call_id", "toolUseId", "id")
_RESULT_MEMBERS = ("functionResponse", "function_response", "toolResult", "tool_result")
_CALL_MEMBERS = ("functionCall", "function_call", "toolUse", "tool_use")
_OF_GEMINI = ("codeExecutionResult", "code_execution_result", "toolResponse", "tool_response")
"""Results of tools that the provider runs, in a part of their own."""
_NOT_OF_CALLS = frozenset({"message", "reasoning", "text", "image", "document"})
_HOLD_THEIR_RESULT = frozenset(
    {"code_interpreter_call", "file_search_call", "image_generation_call", "mcp_call", "web_search_call"}
)
_OUTPUTS = ("tool_result", "_call_output", "_result", "tool_search_output", "program_output")
_COMPACTED = frozenset({"compaction", "compaction_summary"})
_ARGUMENTS = ("arguments", "input", "args", "code")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back: ``value`` with everything in it. ``also`` are other names that a contract may have for
    where it is from: the server of an MCP tool, the type that declares the tool, and, of a tool that calls others,
    those that its call names."""

    tool: str | None
    value: Any
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Called:
    name: str
    also: frozenset[str]


def tool_results(document: Any) -> list[ToolResult]:
    """Every result in a request."""
    calls: dict[str, _Called | None] = {}
    found: list[JsonObject] = []
    for item in _objects(document):
        _note_call(item, calls)
        if _is_result(item):
            found.append(item)
    return [_result(item, calls) for item in found]


def is_compacted(document: Any) -> bool:
    """Whether an earlier conversation stands in a request as its provider condensed it: without the results in it, and
    often in a form that nobody else reads."""
    return any(_text(item.get("type")) in _COMPACTED for item in _objects(document))


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
    if kind.endswith(_OUTPUTS) or kind in _HOLD_THEIR_RESULT:
        return True
    return item.get("role") in ("tool", "function") or any(
        isinstance(item.get(member), dict) for member in (*_RESULT_MEMBERS, *_OF_GEMINI)
    )


def _note_call(item: JsonObject, calls: dict[str, _Called | None]) -> None:
    """Keep under which ids a call of a tool goes."""
    if _is_result(item):
        return
    call = next((item[member] for member in _CALL_MEMBERS if isinstance(item.get(member), dict)), item)
    function = item.get("function")
    inner = function if isinstance(function, dict) else call
    name, kind = _text(call.get("name")) or _text(inner.get("name")), _text(item.get("type"))
    if not name and kind.endswith(("_call", "program")):
        name = name_called(item) or ""
    if not name or kind in _NOT_OF_CALLS:
        return
    space = _text(call.get("namespace"))
    name = f"{space}.{name}" if space else name
    told = _Called(name, frozenset((*_named_in(name, inner), *_other_names(name, item))))
    for member in _IDS:
        one = _text(call.get(member)) or _text(item.get(member))
        if one:
            known = calls.get(one, told)
            if known is not None and known.name == name:
                calls[one] = _Called(name, known.also | told.also)
            else:
                calls[one] = None


def _named_in(name: str, call: JsonObject) -> tuple[str, ...]:
    """The tools that a call of one that calls others names."""
    given = next((call[member] for member in _ARGUMENTS if call.get(member) is not None), None)
    if isinstance(given, str):
        asked = (CalledTool(None, name, free_text=free, written=[given]) for free in (False, True))
        return tuple(inner for each in asked for inner in inner_names(each))
    return inner_names(CalledTool(None, name, value=given))


def _other_names(name: str, item: JsonObject) -> Iterator[str]:
    yield from ALSO_CALLED.get(name, ())
    server = _text(item.get("server_label")) or _text(item.get("server_name"))
    if server:
        yield from (f"mcp:{server}", f"mcp:{server}.{name}")


def _result(item: JsonObject, calls: dict[str, _Called | None]) -> ToolResult:
    inner = next((item[member] for member in _RESULT_MEMBERS if isinstance(item.get(member), dict)), item)
    ids = [one for member in _IDS for one in (_text(inner.get(member)), _text(item.get(member))) if one]
    by_id = {one: calls[one] for one in ids if one in calls}
    names = {None if call is None else call.name for call in by_id.values()}
    names |= set(_told_names(item, inner))
    tool = names.pop() if len(names) == 1 else None
    also = frozenset[str]().union(*(call.also for call in by_id.values() if call is not None))
    return ToolResult(tool, item, tuple(sorted(also.union(_other_names(tool, item) if tool else ()))))


def _told_names(item: JsonObject, inner: JsonObject) -> Iterator[str]:
    """What the result itself says that it is from."""
    kind = _text(item.get("type"))
    if told := _text(inner.get("name")) or _text(inner.get("tool_name")):
        yield told
    elif kind in _HOLD_THEIR_RESULT and (called := name_called(item)):
        yield called
    for member in _OF_GEMINI:
        if isinstance(part := item.get(member), dict):
            yield _text(part.get("toolType") or part.get("tool_type")).lower() or "code_execution"
