"""Runs command lines: in this process (quick), or in one of their own, as a person would."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from clawproxy.cli import dispatch


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def _environment(state: Path | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLAWPROXY")}
    return env if state is None else env | {"CLAWPROXY_STATE": str(state)}


def run_cli(*arguments: str | Path, state: Path | None = None, stdin: str | bytes = "") -> Done:
    """``clawproxy ARGUMENTS`` here; ``state`` becomes CLAWPROXY_STATE."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin), "utf-8")
    with (
        mock.patch.dict(os.environ, _environment(state), clear=True),
        mock.patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = dispatch(list(map(str, arguments)))
    out.flush()
    raw = out.buffer
    assert isinstance(raw, io.BytesIO)
    return Done(code, raw.getvalue().decode(), err.getvalue())


def spawn_cli(*arguments: str | Path, state: Path | None = None, stdin: str = "") -> Done:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "clawproxy", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=_environment(state),
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def one_line(done: Done) -> str:
    """The one line on stderr of a command that failed; anything else fails the test."""
    assert "Traceback" not in done.err + done.out
    assert done.err.startswith("clawproxy: ")
    assert done.err.count("\n") == 1
    return done.err.removeprefix("clawproxy: ").strip()
