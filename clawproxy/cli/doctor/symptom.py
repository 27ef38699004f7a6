"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...tokens.errors import ClawproxyError


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that was looked at. ``fail``: the gateway would not start, or nothing would verify."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    remedy: str = ""


def failed(what: str, err: ClawproxyError, remedy: str = "") -> Symptom:
    """What ``clawproxy serve`` would end with."""
    fault = ClawproxyError(err.reason, err.message, where=err.where, got=err.got, expected=err.expected)
    return Symptom("fail", what, fault.one_line(), err.remedy or remedy)
