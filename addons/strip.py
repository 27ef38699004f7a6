"""A request without the tools that its contract does not allow (``on_denied_tool: strip``). Pure.

Each declared tool is read by itself, as the format reads it in the whole request; one that the contract refuses is
taken out. The rest is written again and judged as a whole afterwards, so that nothing here has to be right for the
gateway to be: what this module cannot take out is refused.

A declaration takes about 0.1 ms, so that many are for a thread (``steps``).

Limits: tools that come in the middle of a conversation, tools that the provider runs because of the model's name, and
a ``tool_choice`` that needs a tool which is gone are refused, not taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from ..policies.decide import decide_tools
from ..policies.facts import CallFacts
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .wire.format import WireFormat, WireRequest

MAX_TOOLS = 1024
"""Declarations that are judged one by one; a call with a refused one behind them is refused."""
_NESTED = ("functionDeclarations", "function_declarations")
_WITHOUT_TOOLS = ("tool_choice", "parallel_tool_calls", "toolConfig", "tool_config")
"""Members that a request without any tool does not have."""
_NEEDED = ("model", "anthropic_version", "max_tokens")
"""Members without which a format reads no request."""
_CONTENT = ("messages", "input", "contents", "system", "instructions", "prompt", "systemInstruction")


def is_about_tools(refusal: Refusal) -> bool:
    """Whether a request may be allowed with fewer tools."""
    return refusal.reason in ("POLICY_TOOL_DENIED", "POLICY_TOOL_NOT_ALLOWED", "POLICY_STATEMENT_DENIED")


def strip_tools(
    request: WireRequest, wire: WireFormat, facts: CallFacts, grant: Grant, policy: Policy
) -> tuple[JsonObject, tuple[str, ...]] | None:
    """The body without the refused tools, and their names; None where none can be taken out."""
    names: list[str] = []
    judged = 0

    def may_stay(alone: JsonObject) -> bool:
        nonlocal judged
        judged += 1
        if judged > MAX_TOOLS:
            return True
        try:
            told = wire.read_request(replace(request, body=alone))
        except ClawproxyError:
            return True  # the whole request was read, so this one needs its neighbours: it is judged with them
        asked = replace(
            facts, tools=told.tools, any_tools=told.any_tools, provider_tools=told.provider_tools, tool_choice=None
        )
        if not isinstance(decide_tools(asked, grant, policy), Refusal):
            return True
        names.extend(told.tools)
        return False

    body = request.body
    inner = body.get("toolConfig")
    if isinstance(inner, dict) and isinstance(inner.get("tools"), list):
        left = _strip_list(inner["tools"], lambda tool: may_stay(_alone(body, {"toolConfig": {"tools": [tool]}})))
        stripped = {**body, "toolConfig": {**inner, "tools": left}}
    elif isinstance(body.get("tools"), list):
        left = _strip_list(body["tools"], lambda tool: may_stay(_alone(body, {"tools": [tool]})))
        stripped = {**body, "tools": left}
    else:
        return None
    if not names:
        return None
    if not left:
        if _must_use_one(body):
            return None
        stripped = {key: value for key, value in stripped.items() if key not in ("tools", *_WITHOUT_TOOLS)}
    return stripped, tuple(dict.fromkeys(names))


def write(body: JsonObject) -> bytes:
    """The body as it leaves; raises ``ClawproxyError`` for what cannot be written again."""
    try:
        return orjson.dumps(body)
    except TypeError:
        raise ClawproxyError("INVALID_REQUEST", "a value that cannot be written again", where="body") from None


def _strip_list(tools: list[Any], may_stay: Callable[[Any], bool]) -> list[Any]:
    """The tools that may stay; of one that is several declarations, those."""
    left = []
    for tool in tools:
        nested = next((key for key in _NESTED if isinstance(tool, dict) and isinstance(tool.get(key), list)), None)
        if nested is None:
            if may_stay(tool):
                left.append(tool)
            continue
        kept = [one for one in tool[nested] if may_stay({nested: [one]})]
        others = {key: value for key, value in tool.items() if key != nested}
        if others and not may_stay(others):
            others = {}
        if kept or others:
            left.append({**others, **({nested: kept} if kept else {})})
    return left


def _alone(body: JsonObject, tools: JsonObject) -> JsonObject:
    """A small request with one tool: the whole one without its conversation."""
    return {key: body[key] for key in _NEEDED if key in body} | dict(_empty(body)) | tools


def _empty(body: JsonObject) -> Iterator[tuple[str, Any]]:
    for key in _CONTENT:
        if key in body:
            yield key, type(body[key])() if isinstance(body[key], list | dict | str) else body[key]


def _must_use_one(body: JsonObject) -> bool:
    """Whether the request demands that a tool is used."""
    choice = body.get("tool_choice")
    kind = choice.get("type", choice.get("mode")) if isinstance(choice, dict) else choice
    inner = body.get("toolConfig")
    demanded = isinstance(inner, dict) and inner.get("toolChoice", inner.get("functionCallingConfig")) is not None
    return demanded or kind not in (None, "auto", "none")
