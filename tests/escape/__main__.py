"""``make escape``: every attempt, as a table, then jobs killed at random moments. Ends with 1 where one
left, a control does not work, or something is left behind.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import fenced, planted
from .inside.attempt import ATTEMPTS, Attempt
from .machine import can_run
from .score import FencedRow, Outcome, Result, Row, kill_at_random, plant, run_all, run_fenced

LEAST = 60
LEAST_FENCED = 100
"""Attempts that must apply to a fence of each kind."""
_NAME, _CELL = 44, 9


def faults(rows: Iterable[Row], results: Iterable[Result], least: int = LEAST) -> list[str]:
    """What is wrong, a line each; nothing when all is well."""
    table = list(rows)
    found = [f"LEFT: {row.attempt.name}: {_how(row)}" for row in table if row.left]
    found += [
        f"the control of {row.attempt.name!r} does not work, so that it proves nothing: {row.control.how}"
        for row in table
        if not row.applies and not row.why_not
    ]
    for result in results:
        found += [f"{count} packets went to {address}" for address, count in result.strangers.items()]
        by_probe = {name: f"leak probe {name} reached {seen}" for name, _, seen in result.reached}
        found += by_probe.values()
    applying = sum(row.applies for row in table)
    if applying < least:
        found.append(f"only {applying} attempts apply here, of {least} that must")
    return found


def fence_faults(rows: Iterable[FencedRow], result: Result, wrong: Iterable[str], least: int) -> list[str]:
    """What is wrong with the fences, a line each."""
    table = list(rows)
    found = list(wrong)
    for kind in fenced.KINDS:
        applying = [row for row in table if row.applies(kind)]
        found += [
            f"LEFT a fence around a {kind}: {row.attempt.name}: {row.fenced[kind].how}"
            for row in table
            if kind in row.fenced and row.fenced[kind].left
        ]
        if len(applying) < least:
            found.append(f"only {len(applying)} attempts apply to a fence around a {kind}, of {least} that must")
    return found + [
        f"{count} packets of who is fenced went to {address}" for address, count in result.strangers.items()
    ]


def fence_table(rows: Iterable[FencedRow]) -> str:
    """The rows by group: what became of each attempt beside its control, in a fence of each kind."""
    columns = [word for kind in fenced.KINDS for word in ("control", kind)]
    return _by_group(
        (
            (row.attempt, [of.get(kind) for kind in fenced.KINDS for of in (row.control, row.fenced)], "")
            for row in rows
        ),
        columns,
    )


def fence_figures(rows: Iterable[FencedRow]) -> str:
    """How many left, by kind of fence."""
    table, lines = list(rows), []
    for kind in fenced.KINDS:
        mine = [row for row in table if row.applies(kind)]
        left = sum(row.fenced[kind].left for row in mine)
        lines.append(f"in a fence around a {kind}: {left} of {len(mine)} left")
    return "\n".join(lines)


def _how(row: Row) -> str:
    places = (("user", row.user), ("root", row.root), ("rootless", row.rootless))
    return "; ".join(f"{who}: {outcome.how}" for who, outcome in places if outcome and outcome.left)


def table(rows: Iterable[Row]) -> str:
    """The rows by group, for people."""
    told = (
        (
            row.attempt,
            (row.control, row.user, row.root, row.rootless),
            row.attempt.control if row.applies else f"not applicable: {row.why_not or row.control.how}",
        )
        for row in rows
    )
    return _by_group(told, ["control", "user", "root", "rootless"], "control run as")


def _by_group(
    rows: Iterable[tuple[Attempt, Iterable[Outcome | None], str]], columns: Sequence[str], note: str = ""
) -> str:
    """A line for each attempt, what became of it in each column, and a note; before each group, its name and the
    columns'."""
    lines: list[str] = []
    group = ""
    for attempt, outcomes, of_row in rows:
        if attempt.group != group:
            group = attempt.group
            lines += ["", _line(group, columns, note)]
        lines.append(_line(f"  {attempt.name}", map(_cell, outcomes), of_row))
    return "\n".join(lines)


def _line(name: str, cells: Iterable[str], note: str) -> str:
    return f"{name:<{_NAME}}" + "".join(f"{cell:<{_CELL}}" for cell in cells) + note


def _cell(outcome: Outcome | None) -> str:
    return "·" if outcome is None else "left" if outcome.left else "held"


def killed_table(told: Mapping[str, Any], seed: int) -> str:
    """What was killed at random, and what ``clawproxy host check --repair`` said afterwards, for people."""
    kinds = ", ".join(f"{count} times {kind}" for kind, count in sorted(told["killed"].items()))
    repairs = told["repairs"]
    ends = {
        turn: ", ".join(f"exit {code}: {count}" for code, count in sorted(repairs[turn].items()))
        for turn in ("first", "second")
    }
    done = ", ".join(f"{count} times {what}" for what, count in sorted(repairs["repaired"].items())) or "nothing"
    return (
        f"{told['jobs']} isolated jobs in {told['rounds']} rounds, SIGKILL at random moments (seed {seed}): {kinds}\n"
        f"the agent ran in {told['came'].get('the agent ran', 0)}\n"
        f"clawproxy host check --repair after each round: {ends['first']}; repaired: {done}\n"
        f"the same again: {ends['second']}; left behind: {len(told['faults'])}"
    )


def planted_table(told: Mapping[str, Any]) -> str:
    """The control of that: what was left on purpose, and how three commands ended."""
    head = f"{'left on purpose':<{_NAME}}" + "".join(f"{word:<{_CELL}}" for word in ("check", "repair", "again"))
    return "\n".join(
        [head]
        + [
            f"  {name:<{_NAME - 2}}" + "".join(f"{code:<{_CELL}}" for code in row["codes"])
            for name, row in told.items()
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Run, print, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.escape", description=__doc__)
    parser.add_argument("--only", default="", help="attempts whose name fits this regular expression")
    parser.add_argument("--rounds", type=int, default=14, help="rounds of SIGKILL at random moments, 3 jobs each")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of those")
    parser.add_argument("--why", action="store_true", help="say what stopped each")
    asked = parser.parse_args(argv)
    if reason := can_run():
        print(f"escape: cannot run here: {reason}", file=sys.stderr)
        return 2
    began = time.monotonic()
    wanted = [attempt for attempt in ATTEMPTS.values() if re.search(asked.only, attempt.name)]
    with ThreadPoolExecutor(1) as pool:
        if not asked.only:
            killing = pool.submit(lambda: (kill_at_random(asked.rounds, asked.seed), plant()))
        rows, results = run_all(wanted)
        print(table(rows))
        fence_rows, fence_result, fence_wrong = run_fenced(wanted, {row.attempt.name: row.control for row in rows})
        print(f"\nfences (clawproxy host install){fence_table(fence_rows)}")
        told, left = killing.result() if not asked.only else ({}, {})
    if asked.why:
        for row in rows:
            print(f"{row.attempt.name}: {row.user.how} | {row.root.how if row.root else '·'}")
    applying = [row for row in rows if row.applies]
    as_root = [row for row in applying if row.root is not None]
    print(
        f"\n{len(rows)} attempts, {len(applying)} of which leave where nothing isolates ({len(rows) - len(applying)} "
        f"not applicable here)\nisolated, as the job's user: {sum(row.user.left for row in applying)} of "
        f"{len(applying)} left\nisolated, as root in the job's network: "
        f"{sum(bool(row.root and row.root.left) for row in as_root)} of {len(as_root)} left\n"
        f"isolated without root: {sum(row.rootless.left for row in applying)} of {len(applying)} left\n"
        f"{fence_figures(fence_rows)}\n{time.monotonic() - began:.0f} s"
    )
    wrong = faults(rows, results, 0 if asked.only else LEAST)
    wrong += fence_faults(fence_rows, fence_result, fence_wrong, 0 if asked.only else LEAST_FENCED)
    if not asked.only:
        print(f"\n{killed_table(told, asked.seed)}\n\n{planted_table(left)}\n{time.monotonic() - began:.0f} s in all")
        wrong += told["faults"] + planted.faults(left)
    for line in wrong:
        print(line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
