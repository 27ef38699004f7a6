"""What commands print: JSON for programs, tables for people, colour only on a terminal. Writes to stdout and stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

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


def note(line: str) -> None:
    """A line for the person at the terminal, on stderr, so that stdout stays for programs."""
    sys.stderr.write(f"{line}\n")


def console() -> Console:
    """A rich console on stdout; without a terminal it prints plain text, as wide as the text is."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 200
    return Console(width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table with a header; cells are plain text (nothing in them is read as markup)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """``name  value`` lines, aligned."""
    shown = list(pairs)
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        sys.stdout.write(f"{name:<{width}}  {value}\n")
