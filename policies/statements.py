"""Statements of WPC v2 and how they are judged (protocol.md C.2, C.3). Pure.

Deny wins, no matching Allow denies. Where the reference fails open this does not: a condition whose truth cannot be
told (unknown operator, a context key that the gateway has no value for, a number that is none) holds in a Deny and
does not hold in an Allow; ``*`` and ``?`` match line breaks too. A Deny is tried on the folded name as well.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .names import fold

CONTEXT_KEYS = frozenset({"Agent:DID", "Model:Provider", "Model:Name", "Tool:Name"})
"""The context keys that the gateway can give a value for; ``Tool:Name`` only where a tool is judged."""

NUMERIC = frozenset({"NumericEquals", "NumericLessThan", "NumericGreaterThan"})
OPERATORS = NUMERIC | {"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "Bool", "IpAddress"}
NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
"""What counts as a number in a condition: the reference also reads "3abc" as 3."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``{operator: {key: expected}}``, one key."""

    operator: str
    key: str
    expected: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``allows`` False is a Deny."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class StatementVerdict:
    """``sids`` are the Deny statements that hit, or else the Allow statements; empty where nothing matched."""

    allowed: bool
    sids: tuple[str, ...]


def judge(
    statements: tuple[Statement, ...],
    action: str,
    resource: str,
    context: Mapping[str, str],
    *,
    fold_denials: bool = False,
) -> StatementVerdict:
    """Judge one action on one resource. ``fold_denials`` also tries each Deny on folded names."""
    denies = tuple(
        s.sid
        for s in statements
        if not s.allows
        and (_hits(s, action, resource, context) or (fold_denials and _hits(s, action, resource, context, fold)))
    )
    if denies:
        return StatementVerdict(False, denies)
    allows = tuple(s.sid for s in statements if s.allows and _hits(s, action, resource, context))
    return StatementVerdict(bool(allows), allows)


def naming(statements: tuple[Statement, ...], resource: str) -> tuple[Statement, ...]:
    """``statements`` without each Allow that does not name ``resource`` in full among its resources."""
    return tuple(s for s in statements if not s.allows or resource in s.resources)


def lookalike_of(statements: tuple[Statement, ...], resource: str, stated: tuple[str, str]) -> str | None:
    """A name without ``*`` and ``?`` that a statement speaks of, and that ``resource`` only looks like.

    ``stated`` is the key and value by which conditions speak of the same thing.
    """
    spoken = [(name, resource) for s in statements for name in s.resources]
    key, value = stated
    spoken += [(c.expected, value) for s in statements for c in s.conditions if c.key == key]
    plain = [(name, seen) for name, seen in spoken if "*" not in name and "?" not in name]
    if any(name == seen for name, seen in plain):
        return None
    return next((name for name, seen in plain if fold(name) == fold(seen)), None)


def _same(text: str) -> str:
    return text


def _hits(
    statement: Statement, action: str, resource: str, context: Mapping[str, str], view: Callable[[str], str] = _same
) -> bool:
    if not any(glob_matches(pattern, action) for pattern in statement.actions):
        return False
    if not any(glob_matches(view(pattern), view(resource)) for pattern in statement.resources):
        return False
    for condition in statement.conditions:
        truth = _truth(condition, context, view)
        if truth is False or (truth is None and statement.allows):
            return False
    return True


def _truth(condition: Condition, context: Mapping[str, str], view: Callable[[str], str]) -> bool | None:
    """True, False, or None where it cannot be told."""
    operator, expected = condition.operator, view(condition.expected)
    if operator not in OPERATORS or condition.key not in CONTEXT_KEYS:
        return None
    if condition.key not in context:
        return operator in ("StringNotEquals", "StringNotLike")
    value = view(context[condition.key])
    match operator:
        case "StringEquals":
            return value == expected
        case "StringNotEquals":
            return value != expected
        case "StringLike":
            return glob_matches(expected, value)
        case "StringNotLike":
            return not glob_matches(expected, value)
        case "Bool":
            return (value.lower() == "true") == (expected.lower() == "true")
        case "IpAddress":
            return _ip_truth(value, expected)
    return _numeric_truth(operator, value, expected)


def truths(statements: Iterable[Statement], context: Mapping[str, str]) -> tuple[bool | None, ...]:
    """What is true of each condition that is about something in ``context``, as it is and folded."""
    about = [c for statement in statements for c in statement.conditions if c.key in context]
    return tuple(_truth(condition, context, view) for condition in about for view in (_same, fold))


def _ip_truth(value: str, network: str) -> bool | None:
    try:
        return ipaddress.IPv4Address(value) in ipaddress.IPv4Network(network, strict=False)
    except ValueError:
        return None


def _numeric_truth(operator: str, value: str, expected: str) -> bool | None:
    if not NUMBER.fullmatch(value) or not NUMBER.fullmatch(expected):
        return None
    left, right = float(value), float(expected)
    if operator == "NumericEquals":
        return left == right
    return left < right if operator == "NumericLessThan" else left > right


_ANY, _RUN, _ONE = "**", "*", "?"


@lru_cache(maxsize=4096)
def pattern_steps(pattern: str) -> tuple[tuple[str, str], ...]:
    """``(kind, literal)`` steps; ``**`` swallows one ``/`` that follows it."""
    steps: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 2 + pattern.startswith("/", at + 2)
            steps.append((_ANY, ""))
        elif pattern[at] in "*?":
            steps.append((_RUN if pattern[at] == "*" else _ONE, ""))
            at += 1
        else:
            steps.append(("", pattern[at]))
            at += 1
    return tuple(steps)


def glob_matches(pattern: str, value: str) -> bool:
    """Anchored and case-sensitive: ``*`` any run without ``/``, ``**`` any run, ``?`` one character but ``/``.

    ``*`` or ``**`` alone match everything. Steps are walked as a set of positions, so time is bounded by the product of
    the lengths whatever the pattern is.
    """
    if pattern in ("*", "**"):
        return True
    if "*" not in pattern and "?" not in pattern:
        return pattern == value
    steps = pattern_steps(pattern)
    states = _skip_runs(steps, {0})
    for char in value:
        following: set[int] = set()
        for state in states:
            if state == len(steps):
                continue
            kind, literal = steps[state]
            if kind == _ANY or (kind == _RUN and char != "/"):
                following.add(state)
            elif (kind == _ONE and char != "/") or (not kind and literal == char):
                following.add(state + 1)
        states = _skip_runs(steps, following)
        if not states:
            return False
    return len(steps) in states


def _skip_runs(steps: tuple[tuple[str, str], ...], states: set[int]) -> set[int]:
    """Add the states behind runs, which may be empty."""
    out = set(states)
    for state in states:
        while state < len(steps) and steps[state][0] in (_ANY, _RUN):
            state += 1
            out.add(state)
    return out
