from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clawproxy.tokens.reasons import _ROWS, REASONS, STEPS, Reason, Refusal
from clawproxy.tokens.reasons_page import render_reasons

PAGE = Path(__file__).parents[2] / "docs" / "reason-codes.md"


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == render_reasons(), "run: python -m clawproxy.tokens.reasons_page > docs/reason-codes.md"


def test_the_page_is_printed_by_its_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "clawproxy.tokens.reasons_page"], capture_output=True, check=True, text=True
    )
    assert shown.stdout == render_reasons()


def test_the_page_holds_each_code_once() -> None:
    page = render_reasons()
    for code in REASONS:
        assert page.count(f"| `{code}` |") == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("CREDENTIAL_MISSING", ["providers.<name>.credential", "[egress.NAME]"]),
        ("UPSTREAM_UNREACHABLE", ["providers.<name>.upstream", "tool's host"]),
        ("POLICY_STATE_NOT_READABLE", ['"state:<member>"', "allowed_provider_features"]),
        ("POLICY_REMOTE_URL", ['"url:<member>"', "allowed_provider_features"]),
    ],
)
def test_a_remedy_names_what_helps_for_tools_and_in_contracts(code: str, words: list[str]) -> None:
    assert all(word in REASONS[code].remedy for word in words)


def test_no_code_stands_twice() -> None:
    assert len(_ROWS) == len(REASONS)


@pytest.mark.parametrize("row", REASONS.values(), ids=REASONS.keys())
def test_every_row_can_be_acted_on(row: Reason) -> None:
    assert row.code == row.code.upper()
    assert row.step in STEPS
    assert 400 <= row.status < 600
    assert len(row.meaning) > 10
    assert len(row.remedy) > 10
    assert (row.meaning + row.remedy).isprintable()


@pytest.mark.parametrize("code", REASONS)
def test_every_refusal_has_step_status_and_remedy(code: str) -> None:
    refusal = Refusal(code, "a rule")
    assert (refusal.step, refusal.status, refusal.remedy) == (
        REASONS[code].step,
        REASONS[code].status,
        REASONS[code].remedy,
    )


def test_a_final_decision_is_no_status_that_clients_retry() -> None:
    """SDKs retry 408, 409, 429 and 5xx by themselves (docs/protocol.md D.4)."""
    for row in REASONS.values():
        if row.step in ("collect", "authenticate", "decide"):
            assert row.status in (401, 403)


def test_a_fault_names_the_step_where_it_happened() -> None:
    assert Refusal("GATEWAY_FAULT", "exception", at="decide").step == "decide"
    assert Refusal("GATEWAY_FAULT", "exception").step == "admit"
