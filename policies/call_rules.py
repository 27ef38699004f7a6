"""May an answer call this tool with these arguments: the rules for declared tools, and those on arguments. Pure.

A name is judged as ``decide`` judges a declared one. Where an answer calls a tool otherwise than its request declared
it (``called_names``), each of its names can deny it, ask for an approval or rule its arguments; any of them allows it.

Tools through which another is called (meta-tools, code) are allowed by their exact name only, and what they name inside
is judged as well; what needs an approval, or has rules on its arguments, is never reached through them, since neither
could be checked there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ..tokens.errors import ClawproxyError, word_or
from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .argument_rules import ArgumentRule
from .decide import decide_tools
from .facts import CallFacts
from .policy import Policy
from .tools import ToolRule

ALSO_CALLED = {
    "computer": ("computer_use_preview", "computer_use"),
    "web_search": ("web_search_preview",),
}
"""Tools that the provider runs, by their name in an answer: under which types a request may have declared them."""
_MCP = "mcp:"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as it is judged. ``arguments`` is a JSON value, None where they cannot be read in one way only.

    ``is_meta`` says that any other tool can be called through it; ``inner`` are those that it names.
    """

    name: str
    arguments: Any
    is_meta: bool = False
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallAllowed:
    """The entry that allows it."""

    rule: str


@dataclass(frozen=True, slots=True)
class CallAsks:
    """It is allowed if a person approves it. ``action`` is the contract's word for it."""

    rule: str
    action: str


def decide_call(call: ToolCall, facts: CallFacts, grant: Grant, policy: Policy) -> CallAllowed | CallAsks | Refusal:
    """Judge one call of a tool in an answer to a request with these facts."""
    shown = word_or("a tool", call.name)
    rule = judged_rule(call, facts, grant, policy)
    if isinstance(rule, Refusal):
        why = "" if rule.detail.startswith("the call declares") else f": {rule.detail}"  # it was asked as if declared
        return replace(rule, at="observe", detail=f"the answer calls {shown}{why}")
    if call.is_meta and call.arguments is None:
        return Refusal("POLICY_TOOL_ARGUMENTS", "meta-tools", f"what {shown} is to call cannot be read")
    for inner in call.inner:
        fault = _inner_fault(inner, facts, grant, policy)
        if fault is not None:
            return replace(fault, at="observe", detail=f"through {shown}: {fault.detail}")
    names = called_names(call.name, facts.tools)
    for argument_rule in argument_rules(names, policy):
        place = argument_rule.fault(call.arguments) if call.arguments is not None else f'tool_arguments["{call.name}"]'
        if place is not None:
            return Refusal("POLICY_TOOL_ARGUMENTS", place, f"the answer calls {shown} with other arguments")
    approval = approval_of(names, policy)
    return CallAllowed(rule) if approval is None else CallAsks(str(approval), approval.entry)


def called_names(name: str, declared: Collection[str]) -> tuple[str, ...]:
    """What an answer calls ``name``, and the names under which its request may have declared that: the type of a tool
    of the provider, if it did, and the server of an MCP tool."""
    others = tuple(other for other in ALSO_CALLED.get(name, ()) if other in declared)
    server = name.partition(".")[0]
    return (name, *others, server) if name.startswith(_MCP) and server != name else (name, *others)


def argument_rules(names: Collection[str], policy: Policy) -> tuple[ArgumentRule, ...]:
    """The rules on the arguments of a call with these names, each once."""
    if not policy.arguments.rules:
        return ()
    found = [rule for name in names for rule in policy.arguments.of(name)]
    return tuple(rule for n, rule in enumerate(found) if rule not in found[:n])


def approval_of(names: Collection[str], policy: Policy) -> ToolRule | None:
    """The entry that ties a call with these names to an approval, if one does."""
    if policy.tools is None:
        return None
    return next(filter(None, map(policy.tools.approval, names)), None)


def judged_rule(call: ToolCall, facts: CallFacts, grant: Grant, policy: Policy) -> str | Refusal:
    """The entry that allows a call under one of its names, unless another entry denies one of them."""
    rule = _bare_denial(call.name, policy) or _rule(call.name, call.is_meta, facts, grant, policy)
    for other in called_names(call.name, facts.tools)[1:]:
        if _denies(rule):
            break
        again = _rule(other, call.is_meta, facts, grant, policy)
        if isinstance(rule, Refusal) or _denies(again):
            rule = again
    return rule


def _denies(rule: str | Refusal) -> bool:
    """Whether an entry says no, and not only none says yes."""
    if not isinstance(rule, Refusal):
        return False
    return rule.reason == "POLICY_TOOL_DENIED" or (
        rule.reason == "POLICY_STATEMENT_DENIED" and rule.rule != "statements"
    )


def _rule(name: str, is_meta: bool, facts: CallFacts, grant: Grant, policy: Policy) -> str | Refusal:
    if policy.model_call_denied:
        return Refusal("POLICY_TOOL_DENIED", "denied_tools", "the contract allows no model call")
    asked = replace(facts, tools=(name,), any_tools=(name,) if is_meta else (), tool_choice=None)
    try:
        rules = decide_tools(asked, grant, policy)
    except ClawproxyError as err:
        return Refusal("POLICY_TOOL_NOT_ALLOWED", "tool names", err.message)
    return rules if isinstance(rules, Refusal) else rules[0]


def _bare_denial(name: str, policy: Policy) -> Refusal | None:
    """The denial of an MCP tool by the name that its server gives it."""
    if not name.startswith(_MCP) or policy.tools is None:
        return None
    bare = name.partition(".")[2]
    while bare:  # the agent chooses the label of the server, which may have dots of its own
        if (denial := policy.tools.denial(bare)) is not None:
            return Refusal("POLICY_TOOL_DENIED", str(denial), "a denied tool of a server")
        bare = bare.partition(".")[2]
    return None


def _inner_fault(name: str, facts: CallFacts, grant: Grant, policy: Policy) -> Refusal | None:
    rule = _rule(name, False, facts, grant, policy)
    if isinstance(rule, Refusal):
        return rule
    shown = word_or("a tool", name)
    if policy.tools is not None and (approval := policy.tools.approval(name)) is not None:
        return Refusal("POLICY_TOOL_NOT_ALLOWED", str(approval), f"{shown} needs an approval of its own")
    if policy.arguments.of(name):
        return Refusal("POLICY_TOOL_ARGUMENTS", "tool_arguments", f"the arguments of {shown} cannot be judged there")
    return None
