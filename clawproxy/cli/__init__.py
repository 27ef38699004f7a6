"""The commands, one module per noun; only the one that was asked for is imported.

Exit codes: 0 done, and what was checked holds · 1 a check or a verification failed · 2 usage, configuration, or a file
that cannot be read · 3 incomplete (``verify``) · 70 a fault in clawproxy itself · 130 interrupted. ``run`` ends with
the code of the command that it ran.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .. import __version__
from ..tokens.errors import ClawproxyError, clip

if TYPE_CHECKING:
    from typer import Typer

COMMANDS = {
    "demo": "the whole story in a minute, without a network; a bundle at the end",
    "run": "run an agent behind a gateway of its own: run -- CMD …",
    "serve": "run the gateway",
    "verify": "verify a job directory, a .zip of one, or any signed file, offline",
    "explain": "why a call was allowed or refused, recomputed from a bundle",
    "contract": "contracts: new, check, sign, show, explain, diff, test, suggest, egress, schema",
    "token": "scoped tokens: mint, inspect, revoke",
    "job": "jobs: open, list, show, attach, seal, rebind, tail",
    "stop": "stop calls, or tools alone, at once: --all, --job, --contract, --provider, --tool",
    "resume": "lift a stop",
    "approve": "approvals: list, grant, deny, send",
    "reload": "have the running gateway read its configuration again",
    "keys": "signing keys: new, list, trust",
    "ca": "what clients of the proxy port must trust: show, bundle",
    "openclaw": "OpenClaw: render its configuration from a contract, audit a live one",
    "host": "fences around agents that live on this host: install, remove, check",
    "doctor": "what is set up, what is missing, and what to do about it",
}
"""Every command and what it is for, in the order of ``clawproxy --help``."""

USAGE, FAULT, INTERRUPTED = 2, 70, 130

_HYPHEN_HASH = re.compile(r"-[A-Za-z0-9_-]{42}", re.ASCII)
_STATE_GIVEN = re.compile(r"\0--state[=\0]([^\0]+)\0")
_KEYS_COMMAND = re.compile(r"clawproxy keys new(?: [a-z]+\b)+")

_HEAD = """\
usage: clawproxy [--debug] COMMAND …

A gateway between AI agents and model providers: signed contracts, scoped tokens, receipts that verify offline.

"""
_FOOT = """
  clawproxy COMMAND --help   what a command takes
  clawproxy --version        the version
  clawproxy --debug …        show the traceback of a fault, too (also CLAWPROXY_DEBUG=1)
"""


def top_help() -> str:
    """What ``clawproxy --help`` prints."""
    return _HEAD + "".join(f"  {name:<10} {what}\n" for name, what in COMMANDS.items()) + _FOOT


def load_command(name: str) -> Typer:
    """The typer application of a command in ``COMMANDS``."""
    app: Typer = importlib.import_module(f".{name}", __package__).app
    return app


def main() -> NoReturn:
    """Run the ``clawproxy`` command and exit."""
    code = dispatch(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
    sys.exit(code)


def dispatch(arguments: list[str]) -> int:
    """Run one command line; returns the exit code. Everything that goes wrong becomes one line on stderr."""
    debug = os.environ.get("CLAWPROXY_DEBUG", "") not in ("", "0")
    if arguments[:1] == ["--debug"]:
        debug, arguments = True, arguments[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(top_help())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        print(f"clawproxy {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "clawproxy --help lists them"
        return _say(f"no such command: {clip(name, 40)}; {hint}", USAGE)
    if debug:
        return _call(name, arguments[1:])
    try:
        return _call(name, arguments[1:])
    except ClawproxyError as err:
        return _say(_with_state(err, arguments).one_line(), USAGE)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    except OSError as err:
        path = f"{err.filename}: " if err.filename else ""
        return _say(f"{path}{(err.strerror or type(err).__name__).lower()}", USAGE)
    except Exception as err:
        return _say(f"a fault in clawproxy: {type(err).__name__}; see where with: clawproxy --debug {name} …", FAULT)


def _call(name: str, arguments: list[str]) -> int:
    import typer

    app = load_command(name)
    command = typer.main.get_command(app)
    # typer ships its own click and exports only leaves of its exceptions
    base = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    click_error = cast("type[typer.BadParameter]", base)
    arguments = _hashes_last(command, arguments)
    try:
        code = command.main(args=arguments, prog_name=f"clawproxy {name}", standalone_mode=False)
    except typer.Abort:
        return _say("interrupted", INTERRUPTED)
    except click_error as err:
        ctx = getattr(err, "ctx", None)
        place = ctx.command_path if ctx else f"clawproxy {name}"
        if type(err).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(err.format_message() + "\n")
            return USAGE
        message = " ".join(err.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
        return _say(f"{message[:1].lower()}{message[1:]}; see: {place} --help", USAGE)
    return code if isinstance(code, int) else 0


def _hashes_last(command: Any, arguments: list[str]) -> list[str]:
    """``arguments`` with a hash that begins with a hyphen, which would be read as an option, behind a ``--``.

    One hash in 64 does. The value of an option stays with its option.
    """
    options: set[str] = set()
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    kept: list[str] = []
    hashes: list[str] = []
    for word in before:
        command = getattr(command, "commands", {}).get(word, command)
        options |= {name for each in command.params if not getattr(each, "is_flag", True) for name in each.opts}
        is_value = bool(kept) and kept[-1] in options
        (hashes if _HYPHEN_HASH.fullmatch(word) and not is_value else kept).append(word)
    rest = arguments[len(before) + 1 :]
    return [*kept, "--", *hashes, *rest] if hashes else arguments


def _with_state(err: ClawproxyError, arguments: list[str]) -> ClawproxyError:
    """The same error, its command that makes keys as it must be typed for the state directory that was given."""
    given = _STATE_GIVEN.search("\0".join(["", *arguments, ""]))
    if given and " --state " not in err.remedy:
        err.remedy = _KEYS_COMMAND.sub(lambda found: f"{found[0]} --state {shlex.quote(given[1])}", err.remedy)
    return err


def _say(line: str, code: int) -> int:
    sys.stderr.write(f"clawproxy: {line}\n")
    return code


def _abandon_stdout() -> None:
    """The reader went away: keep the interpreter from complaining when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
