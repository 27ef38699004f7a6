"""The table by class that ``make abuse`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .bodies import BASES
from .cases import TRANSPORTS
from .runner import Execution, Result

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


def print_count(chosen: Sequence[Execution]) -> None:
    """Executions by format and transport, as a table of Markdown."""
    found = Counter((execution.format, execution.transport) for execution in chosen)
    columns = [name for name in TRANSPORTS if any(transport == name for _, transport in found)]
    print(f"{len({execution.case.id for execution in chosen})} cases, {len(chosen)} executions.\n")
    print("| format | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name in BASES:
        print(f"| {name} | " + " | ".join(str(found[name, column] or "") for column in columns) + " |")
