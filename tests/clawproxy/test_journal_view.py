"""A journal for people: each line says what happened, and why."""

from __future__ import annotations

from typing import Any

import pytest

from clawproxy.cli.journal_view import SCREEN_CHARS, WHOLE_CHARS, record_row


def row(kind: str, payload: dict[str, Any]) -> str:
    return record_row({"seq": 1, "t": kind, "body": {"payload": payload}})[3]


def test_a_line_is_cut_for_a_screen_and_whole_for_a_pipe() -> None:
    payload = {"receipt_id": "rcpt_1", "step": "decide", "reason": "R", "rule": "x" * 300 + "\x1b"}
    record = {"seq": 1, "t": "denial", "body": {"payload": payload}}
    assert len(record_row(record)[3]) == SCREEN_CHARS
    whole = record_row(record, WHOLE_CHARS)[3]
    assert "x" * 300 in whole
    assert whole.isprintable()


@pytest.mark.parametrize(
    ("kind", "detail", "told"),
    [
        (
            "stopped",
            {"number": 1, "scope": "all", "name": "", "mode": "stop", "reason": "looking"},
            "stopped order 1: all: looking",
        ),
        (
            "stopped",
            {"number": 5, "scope": "job", "name": "j-1", "mode": "no_tools", "reason": ""},
            "stopped order 5: job j-1 (no tools)",
        ),
        (
            "revoked",
            {"number": 3, "kind": "jti", "name": "x", "reason": "leaked"},
            "revoked order 3: jti x: leaked",
        ),
        ("resumed", {"number": 2, "lifts": 1}, "resumed order 2: lifts order 1"),
        (
            "budget_warning",
            {"budget": "requests", "limit": 5, "percent": 80, "used": 4},
            "budget_warning requests 4 of 5 used (passed 80 %)",
        ),
    ],
)
def test_an_event_says_what_it_is_about(kind: str, detail: dict[str, Any], told: str) -> None:
    assert row("event", {"event": {"event_type": kind}, "detail": detail}) == told


def test_a_receipt_says_why_a_call_of_a_tool_was_refused() -> None:
    called = [{"name": "send", "outcome": "denied", "rule": 'APPROVAL_DENIED: approvals["send"]'}]
    mine = {"outcome": "call_refused", "status": 200, "called": called}
    assert "call_refused 200, APPROVAL_DENIED for send" in row("receipt", {"metadata": {"clawproxy": mine}})
