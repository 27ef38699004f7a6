"""Closed shapes for wire documents: a small declarative checker. Pure.

A shape is a value; its ``fault`` walks a parsed document beside it and returns the first member that does not fit, or
None. Objects are closed unless said otherwise. A shape may carry its own reason code, since the reference reports some
misfits (causal members) under another code than SCHEMA_VALIDATION_FAILED (protocol.md E.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

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
    reason: str = SCHEMA_REASON

    def under(self, step: str) -> Misfit:
        """The same, seen from one level up. Paths are put together only on the way out: documents mostly fit."""
        between = "" if self.path[:1] in ("", "[") else "."
        return Misfit(step + between + self.path, self.detail, self.reason)


def _misfit(value: Any, expected: str, reason: str = SCHEMA_REASON) -> Misfit:
    shown = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)
    return Misfit("", f"got {clip(shown, 60)}, expected {expected}", reason)


class Shape(Protocol):
    """What a value must look like."""

    def fault(self, value: Any) -> Misfit | None:
        """The first thing in ``value`` that does not fit, depth first in the order of the shape."""


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

    def fault(self, value: Any) -> Misfit | None:
        if not isinstance(value, str) or len(value) < self.min or (self.max is not None and len(value) > self.max):
            return _misfit(value, self.what, self.reason)
        if self.among is not None and value not in self.among:
            return _misfit(value, " or ".join(self.among), self.reason)
        if self.pattern is not None and not self.pattern.fullmatch(value):
            return _misfit(value, self.what, self.reason)
        if self.test is not None and not self.test(value):
            return _misfit(value, self.what, self.reason)
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a closed range; ``whole`` takes integers only (1.0 is one, as in JSON Schema)."""

    min: float | None = None
    max: float | None = None
    whole: bool = False
    reason: str = SCHEMA_REASON

    def fault(self, value: Any) -> Misfit | None:
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and (not self.whole or value == value // 1)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
        ):
            return None
        low, high = (self.min if self.min is not None else "-∞"), (self.max if self.max is not None else "∞")
        return _misfit(value, f"{'an integer' if self.whole else 'a number'} in {low}..{high}", self.reason)


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def fault(self, value: Any) -> Misfit | None:
        return None if isinstance(value, bool) else _misfit(value, "true or false")


@dataclass(frozen=True, slots=True)
class Nullable:
    """null, or the shape."""

    shape: Shape

    def fault(self, value: Any) -> Misfit | None:
        return None if value is None else self.shape.fault(value)


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of one shape."""

    shape: Shape
    min: int = 0
    max: int | None = None

    def fault(self, value: Any) -> Misfit | None:
        if not isinstance(value, list):
            return _misfit(value, "an array")
        if len(value) < self.min or (self.max is not None and len(value) > self.max):
            most = " or more" if self.max is None else f"..{self.max}"
            return Misfit("", f"got {len(value)} items, expected {self.min}{most}")
        for n, item in enumerate(value):
            if misfit := self.shape.fault(item):
                return misfit.under(f"[{n}]")
        return None


@dataclass(frozen=True, slots=True)
class Obj:
    """An object. ``open`` lets others through, ``also`` those whose names match; ``others`` gives them a shape."""

    required: Mapping[str, Shape] = field(default_factory=dict)
    optional: Mapping[str, Shape] = field(default_factory=dict)
    open: bool = False
    others: Shape | None = None
    also: re.Pattern[str] | None = None
    max_members: int | None = None

    def fault(self, value: Any) -> Misfit | None:
        if not isinstance(value, dict):
            return _misfit(value, "an object")
        for name, shape in self.required.items():
            if name not in value:
                return Misfit(name, "the member is missing")
            if misfit := shape.fault(value[name]):
                return misfit.under(name)
        if len(value) == len(self.required):
            return None
        if self.max_members is not None and len(value) > self.max_members:
            return Misfit("", f"got {len(value)} members, expected at most {self.max_members}")
        return self._fault_beyond(value)

    def _fault_beyond(self, value: dict[str, Any]) -> Misfit | None:
        """Among the members that are not required."""
        for name, item in value.items():
            if name in self.required:
                continue
            shape = self.optional.get(name, self.others)
            if shape is None and not self.open and not (self.also and self.also.fullmatch(name)):
                return Misfit(clip(name, 40), "the member is not known here")
            if shape is not None and (misfit := shape.fault(item)):
                return misfit.under(clip(name, 40))
        return None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several object shapes, told apart by ``pick`` (document -> shape, or None when it is none of them)."""

    pick: Callable[[Mapping[str, Any]], Shape | None]
    what: str

    def fault(self, value: Any) -> Misfit | None:
        shape = self.pick(value) if isinstance(value, dict) else None
        return shape.fault(value) if shape else _misfit(value, self.what)


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON value."""

    def fault(self, value: Any) -> Misfit | None:
        return None
