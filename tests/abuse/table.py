"""The table by class that ``make abuse`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from .runner import Result

_ROW = "{:<6} {:>6} {:>11} {:>8} {:>9} {:>8} {:>8}"


def print_table(results: Sequence[Result]) -> None:
    """One row per class: cases, executions, refused as expected, bypasses, other faults, seconds."""
    print("\n" + _ROW.format("class", "cases", "executions", "refused", "bypasses", "faults", "seconds"))
    classes = sorted(
        {r.execution.case.cls for r in results},
        key=lambda name: (name.rstrip("0123456789"), int(name.strip("ABCDEFG"))),
    )
    for name in [*classes, "all"]:
        rows = [r for r in results if name in (r.execution.case.cls, "all")]
        print(
            _ROW.format(
                name,
                len({r.execution.case.id for r in rows}),
                len(rows),
                sum(not r.red for r in rows),
                sum(r.bypass for r in rows),
                sum(bool(r.red) and not r.bypass for r in rows),
                f"{sum(r.seconds for r in rows):.1f}",
            )
        )


def _place(name: str) -> tuple[str, int]:
    letters = name.rstrip("0123456789")
    return letters, int(name.removeprefix(letters))
