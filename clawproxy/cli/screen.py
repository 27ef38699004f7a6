"""What commands print: JSON for programs, tables for people, colour only on a terminal. Writes to stdout and stderr."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

_FOLD_CHARS = 12
"""A column that folds stays at least this wide."""

OBSERVE_WARNING = "observe: nothing of the contract is enforced; what it would refuse is let through and recorded"
"""Whoever opens a job so is told."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def new_app(purpose: str) -> typer.Typer:
    """A command, or a noun with commands below it."""
    return typer.Typer(
        help=purpose,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def print_json(value: Any) -> None:
    """``value`` on stdout, two blanks of indentation, keys as given; ASCII: nothing acts on a terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def counted(number: int, what: str) -> str:
    """``1 denial``, ``2 denials``, ``2 gateway refusals``: ``what`` is one of them."""
    return f"{number} {what}" + ("" if number == 1 else "s")


_COUNTED = {"gaps": "calls of unknown outcome"}
"""How people are told a count, where a report has another meaning for its name (a gap is also any finding of one)."""
_ONE = re.compile(r"s(?=$| )")


def counts_line(counts: Mapping[str, int]) -> str:
    """The counts of a report, each with its name in the right number."""
    told = {_COUNTED.get(what, what): n for what, n in counts.items()}
    return ", ".join(f"{n} {_ONE.sub('', what, count=1) if n == 1 else what}" for what, n in told.items())


def own_command() -> str:
    """How this program was called, for a command line that the person can copy.

    Where that was ``python -m``, without modules out of the working directory: an agent may have left some there.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        found = shutil.which("python") == sys.executable
        return f"{'python' if found else shlex.quote(sys.executable)} -P -m clawproxy"
    return called.name if shutil.which(called.name) else sys.argv[0]


def note(line: str) -> None:
    """A line for the person at the terminal, on stderr, so that stdout stays for programs."""
    sys.stderr.write(f"{line}\n")


def console() -> Console:
    """A rich console on stdout, as wide as the terminal."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", whole: Collection[str] = ()
) -> None:
    """A table with a header; cells are plain text (nothing in them is read as markup).

    Cells of the columns ``whole`` (ids, hashes) stay on one line; where a terminal is too narrow for that, each row
    becomes a list of its cells. Without a terminal: one line per row, no padding, no header, empty cells left out.
    """
    cells = [tuple(row) for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            sys.stdout.write("  ".join(filter(None, row)) + "\n")
        return
    screen = console()
    widths = [max(len(column), *(len(row[n]) for row in cells), 0) for n, column in enumerate(columns)]
    least = [
        width if column in whole else min(width, _FOLD_CHARS) for column, width in zip(columns, widths, strict=True)
    ]
    if sum(least) + 3 * len(columns) > screen.width:
        _print_rows(columns, cells)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column, width in zip(columns, least, strict=True):
        kept = column in whole
        table.add_column(column, overflow="fold", no_wrap=kept, min_width=width)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    screen.print(table)


def _print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Each row as ``name  value`` lines, which the terminal itself wraps; a blank line between rows."""
    for n, row in enumerate(rows):
        sys.stdout.write("\n" if n else "")
        print_pairs((column, cell) for column, cell in zip(columns, row, strict=True) if cell)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """``name  value`` lines, aligned."""
    shown = list(pairs)
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        sys.stdout.write(f"{name:<{width}}  {value}\n")
