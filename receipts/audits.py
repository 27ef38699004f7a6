"""What an audit of an agent's own configuration left, as details of job events. Pure.

``config_compared``: the configuration beside the contract. ``config_audited``: what the agent's own audit says of it.
Both are the operator's word, taken down by whoever ran the command and signed by the gateway; ``label`` says whether it
was ``before`` or ``after`` hardening. Reports are there as a digest, counts, and a short list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError, clip

LABELS = ("before", "after")
MAX_LISTED = 64
MAX_TEXT_CHARS = 256
MAX_COUNT = 1_000_000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_SEVERITIES = ("critical", "info", "warn")
_MEMBERS = {
    "config_compared": {
        "agent",
        "agent_version",
        "config_hash_b64u",
        "label",
        "policy_hash_b64u",
        "report_hash_b64u",
        "wider",
        "wider_total",
    },
    "config_audited": {
        "agent",
        "agent_version",
        "config_hash_b64u",
        "critical_ids",
        "detail",
        "exit_code",
        "label",
        "outcome",
        "report_hash_b64u",
        "summary",
    },
}


def audit_detail(event_type: str, told: JsonObject) -> JsonObject:
    """The detail of such an event, closed and bounded; raises ``ClawproxyError`` (INVALID_REQUEST).

    ``wider`` is a list of ``{"path", "value", "field"}``, ``critical_ids`` one of check ids; both are cut to
    ``MAX_LISTED``, and texts to ``MAX_TEXT_CHARS``.
    """
    members = _MEMBERS.get(event_type)
    if members is None or told.keys() != members:
        raise _invalid(event_type, "its members are others")
    texts = {name: _text(told[name]) for name in ("agent", "agent_version")}
    if not _NAME.fullmatch(texts["agent"]) or told["label"] not in (None, *LABELS):
        raise _invalid(event_type, "no such agent or label")
    detail: JsonObject = {**texts, "label": told["label"]}
    for name in ("config_hash_b64u", "report_hash_b64u", "policy_hash_b64u"):
        if name not in told:
            continue
        missing = told[name] is None and event_type == "config_audited"
        if not missing and not is_sha256_b64u(told[name]):
            raise _invalid(event_type, f"{name} is no digest")
        detail[name] = told[name]
    return detail | (_compared(told) if event_type == "config_compared" else _audited(told))


def _compared(told: Mapping[str, Any]) -> JsonObject:
    rows = _list(told["wider"], "config_compared")
    wider = [{name: _text(_member(row, name)) for name in ("field", "path", "value")} for row in rows]
    total = _count(told["wider_total"], "config_compared")
    if total < len(wider):
        raise _invalid("config_compared", "more is listed than counted")
    return {"wider": wider, "wider_total": total}


def _audited(told: Mapping[str, Any]) -> JsonObject:
    summary, outcome, exit_code = told["summary"], told["outcome"], told["exit_code"]
    if outcome not in ("done", "failed") or (summary is None) is (outcome == "done"):
        raise _invalid("config_audited", "an outcome without its summary")
    if not (exit_code is None or (type(exit_code) is int and -255 <= exit_code <= 255)):
        raise _invalid("config_audited", "no exit code")
    if summary is not None:
        if not isinstance(summary, dict) or summary.keys() != set(_SEVERITIES):
            raise _invalid("config_audited", "no summary")
        summary = {name: _count(summary[name], "config_audited") for name in _SEVERITIES}
    return {
        "critical_ids": [_text(item) for item in _list(told["critical_ids"], "config_audited")],
        "detail": _text(told["detail"]),
        "exit_code": exit_code,
        "outcome": outcome,
        "summary": summary,
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ClawproxyError("INVALID_REQUEST", "not a text", got=type(value).__name__)
    return clip(value, MAX_TEXT_CHARS)


def _list(value: object, event_type: str) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(event_type, "not a list")
    return value[:MAX_LISTED]


def _member(row: object, name: str) -> object:
    return row.get(name) if isinstance(row, dict) else None


def _count(value: object, event_type: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise _invalid(event_type, "not a count")
    return value


def _invalid(event_type: str, why: str) -> ClawproxyError:
    return ClawproxyError("INVALID_REQUEST", f"not an audit to record: {why}", where=event_type)
