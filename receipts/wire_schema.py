"""Closed shapes for wire documents: a small declarative checker. Pure.

A shape is a value; ``first_fault`` walks a parsed document beside it and returns the first member that does not fit, or
None. Objects are closed unless said otherwise. A shape may carry its own reason code, since the reference reports some
misfits (causal members) under another code than SCHEMA_VALIDATION_FAILED (protocol.md E.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..tokens.errors import clip

SCHEMA_REASON = "SCHEMA_VALIDATION_FAILED"

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt\s](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)", re.ASCII
)


def parse_date_time_ms(text: object) -> int | None:
    """Unix milliseconds of an RFC 3339 date-time (protocol.md A.4), or None. The fraction is cut to milliseconds."""
    match = _DATE_TIME.fullmatch(text) if isinstance(text, str) and len(text) <= 64 else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, _, sign, zone_hours, zone_minutes = match.groups()[6:]
    if int(zone_hours or 0) > 23 or int(zone_minutes or 0) > 59:
        return None
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        shift = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
        since = moment - datetime(1970, 1, 1, tzinfo=UTC) + (shift if sign == "-" else -shift)
    except (ValueError, OverflowError):
        return None
    return since // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])


@dataclass(frozen=True, slots=True)
class Misfit:
    """Where and how a document leaves its shape."""

    path: str
    detail: str
    reason: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string: length in characters, a full-match pattern, or one of ``among``."""

    min: int = 1
    max: int | None = None
    pattern: re.Pattern[str] | None = None
    among: tuple[str, ...] | None = None
    test: Callable[[str], bool] | None = None
    what: str = "a non-empty string"
    reason: str = SCHEMA_REASON


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a closed range; ``whole`` takes integers only (1.0 is one, as in JSON Schema)."""

    min: float | None = None
    max: float | None = None
    whole: bool = False
    reason: str = SCHEMA_REASON


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""


@dataclass(frozen=True, slots=True)
class Nullable:
    """null, or the shape."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of one shape."""

    shape: Shape
    min: int = 0
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Obj:
    """An object. ``open`` lets others through, ``also`` those whose names match; ``others`` gives them a shape."""

    required: Mapping[str, Shape] = field(default_factory=dict)
    optional: Mapping[str, Shape] = field(default_factory=dict)
    open: bool = False
    others: Shape | None = None
    also: re.Pattern[str] | None = None
    max_members: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several object shapes, told apart by ``pick`` (document -> shape, or None when it is none of them)."""

    pick: Callable[[Mapping[str, Any]], Shape | None]
    what: str


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON value."""


type Shape = Text | Number | Flag | Nullable | ListOf | Obj | Choice | Anything


def first_fault(shape: Shape, value: Any, path: str = "") -> Misfit | None:
    """The first member of ``value`` that does not fit, depth first in the order of the shape; None if all fits."""
    match shape:
        case Text():
            return _text(shape, value, path)
        case Obj():
            return _object(shape, value, path)
        case Number():
            return _number(shape, value, path)
        case ListOf():
            return _list(shape, value, path)
        case Nullable():
            return None if value is None else first_fault(shape.shape, value, path)
        case Flag():
            return None if isinstance(value, bool) else _misfit(path, value, "true or false")
        case Choice():
            picked = shape.pick(value) if isinstance(value, dict) else None
            return first_fault(picked, value, path) if picked else _misfit(path, value, shape.what)
        case Anything():
            return None


def _misfit(path: str, value: Any, expected: str, reason: str = SCHEMA_REASON) -> Misfit:
    shown = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)
    return Misfit(path, f"got {clip(shown, 60)}, expected {expected}", reason)


def _text(shape: Text, value: Any, path: str) -> Misfit | None:
    if not isinstance(value, str) or len(value) < shape.min or (shape.max is not None and len(value) > shape.max):
        return _misfit(path, value, shape.what, shape.reason)
    if shape.among is not None and value not in shape.among:
        return _misfit(path, value, " or ".join(shape.among), shape.reason)
    if shape.pattern is not None and not shape.pattern.fullmatch(value):
        return _misfit(path, value, shape.what, shape.reason)
    if shape.test is not None and not shape.test(value):
        return _misfit(path, value, shape.what, shape.reason)
    return None


def _number(shape: Number, value: Any, path: str) -> Misfit | None:
    fits = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (not shape.whole or value == value // 1)
        and (shape.min is None or value >= shape.min)
        and (shape.max is None or value <= shape.max)
    )
    if fits:
        return None
    low, high = (shape.min if shape.min is not None else "-∞"), (shape.max if shape.max is not None else "∞")
    return _misfit(path, value, f"{'an integer' if shape.whole else 'a number'} in {low}..{high}", shape.reason)


def _list(shape: ListOf, value: Any, path: str) -> Misfit | None:
    if not isinstance(value, list):
        return _misfit(path, value, "an array")
    if len(value) < shape.min or (shape.max is not None and len(value) > shape.max):
        most = "" if shape.max is None else f"..{shape.max}"
        return Misfit(path, f"got {len(value)} items, expected {shape.min}{most or ' or more'}", SCHEMA_REASON)
    for n, item in enumerate(value):
        if fault := first_fault(shape.shape, item, f"{path}[{n}]"):
            return fault
    return None


def _object(shape: Obj, value: Any, path: str) -> Misfit | None:
    if not isinstance(value, dict):
        return _misfit(path, value, "an object")
    inside = f"{path}." if path else ""
    for name, member in shape.required.items():
        if name not in value:
            return Misfit(f"{inside}{name}", "the member is missing", SCHEMA_REASON)
        if fault := first_fault(member, value[name], f"{inside}{name}"):
            return fault
    if shape.max_members is not None and len(value) > shape.max_members:
        return Misfit(path, f"got {len(value)} members, expected at most {shape.max_members}", SCHEMA_REASON)
    for name, item in value.items():
        if name in shape.required:
            continue
        rule = shape.optional.get(name, shape.others)
        if rule is None and not shape.open and not (shape.also and shape.also.fullmatch(name)):
            return Misfit(f"{inside}{clip(name, 40)}", "the member is not known here", SCHEMA_REASON)
        if rule is not None and (fault := first_fault(rule, item, f"{inside}{clip(name, 40)}")):
            return fault
    return None
