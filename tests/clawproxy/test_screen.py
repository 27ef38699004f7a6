"""Tables: for programs that read a pipe, and for people at a terminal of eighty columns."""

from __future__ import annotations

import io
import re
import sys

import pytest

from clawproxy.cli.demo import journal_remark
from clawproxy.cli.screen import counted, print_table

ID = "rcpt_00000000-0000-4000-8000-000000000001"
HASH = "8U4" + "x" * 40


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, columns: int, rows: list[tuple[str, ...]]) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_table(("job", "contract", "note", "receipt"), rows, whole=("job", "contract", "receipt"))
    return out.getvalue()


LONG = "a remark of quite some words that does not fit into one line beside an id"


def test_without_a_terminal_columns_are_not_padded_and_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, terminal=False, columns=80, rows=[("j", HASH, LONG, ID), ("longer", "", "", ID)])
    assert out.splitlines() == [f"j  {HASH}  {LONG}  {ID}", f"longer  {ID}"]


@pytest.mark.parametrize("columns", [20, 40, 80, 100, 120, 200])
def test_ids_are_never_broken_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    out = shown(monkeypatch, terminal=True, columns=columns, rows=[("j-1", HASH, LONG, ID)])
    assert HASH in out
    assert ID in out
    assert "…" not in out
    assert all(word in out for word in LONG.split())


def test_where_ids_leave_room_the_rest_folds_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, terminal=True, columns=80, rows=[("j-1", "", LONG, ID)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out).strip().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["job", "contract", "note", "receipt"]


def test_one_is_one() -> None:
    assert (counted(1, "denial"), counted(2, "denial"), counted(0, "denial")) == ("1 denial", "2 denials", "0 denials")


def test_the_demo_says_where_the_refusals_without_a_job_are() -> None:
    assert journal_remark(0) == ""
    assert journal_remark(1) == "(1 refusal had no job: it is in the gateway's journal)"
    assert journal_remark(4) == "(4 refusals had no job: they are in the gateway's journal)"
