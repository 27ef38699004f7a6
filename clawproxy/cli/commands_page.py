"""docs/commands.md, made from the help texts: ``python -m clawproxy.cli.commands_page``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from . import COMMANDS, load_command, top_help

_WIDTH = 100
_HEAD = """\
# Commands

<!-- made by: python -m clawproxy.cli.commands_page > docs/commands.md -->

Every command takes `--help`; those whose output a program would read take `--json`. The state directory is
`.clawproxy`, or `--state`, or `CLAWPROXY_STATE`. Colour only on a terminal. Secrets are never arguments: tokens are
read from a file or standard input, credentials are references in the configuration.

| exit code | meaning |
|---|---|
| 0 | done, and what was checked holds |
| 1 | a check or a verification failed |
| 2 | usage, configuration, or a file that cannot be read |
| 3 | incomplete (`verify`): unsealed, a recorded gap, or no trust file |
| 70 | a fault in clawproxy itself; `clawproxy --debug …` shows where |
| 130 | interrupted |

`run` ends with the exit code of the command that it ran (128 + n when a signal n ended it, 127 when there is no such
command). Whatever goes wrong is one line on standard error.

"""


def render_commands() -> str:
    """The page as Markdown: each command's own help text, in the order of ``clawproxy --help``."""
    sections = [_section("clawproxy", top_help())]
    for name in COMMANDS:
        sections += [_section(title, text) for title, text in _helps(name)]
    return _HEAD + "\n".join(sections)


def _helps(name: str) -> Iterator[tuple[str, str]]:
    command: Any = typer.main.get_command(load_command(name))
    path = f"clawproxy {name}"
    if not hasattr(command, "commands"):
        yield path, _help(command, path)
        return
    for verb, below in command.commands.items():
        yield f"{path} {verb}", _help(below, f"{path} {verb}")


def _help(command: Any, path: str) -> str:
    with command.make_context(path, [], resilient_parsing=True, terminal_width=_WIDTH) as context:
        text: str = command.get_help(context)
    return text.strip()


def _section(title: str, text: str) -> str:
    level = "###" if title.count(" ") > 1 else "##"
    return f"{level} {title}\n\n```\n{text.strip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(render_commands())
