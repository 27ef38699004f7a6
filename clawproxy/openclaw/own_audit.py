"""Runs OpenClaw's own commands that look at a configuration: ``security audit``, ``plugins list``. Starts a process.

Bounded in time and output; of the environment only what OpenClaw needs to find its files. The agent may write what is
looked at, so it gets no secret of whoever runs the audit: the names that the configuration refers to are there, with
nothing of their values but the length. Run by root, it is asked as the user whose files they are (``agent_user``).

The audit is judged by its ``summary``: its exit code is 0 with criticals too, and without a summary nothing is known,
which is a failure. Standard error carries warnings, and is kept apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError, clip
from .agent_user import User

TIMEOUT_S = 120.0
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_SEVERITIES = ("critical", "warn", "info")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "OPENCLAW_STATE_DIR", "OPENCLAW_HOME")
_HELD = ("NODE_OPTIONS", "NODE_PATH", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "OPENCLAW_LOAD_SHELL_ENV")
"""Empty, but there: OpenClaw takes from the ``.env`` in its state directory only what is not there yet, and these would
run code of whoever wrote that file."""
_STAND_IN_CHARS = 4096


@dataclass(frozen=True, slots=True)
class OwnAudit:
    """``outcome`` is ``done`` or ``failed`` (``detail`` says why). ``report`` is what came on standard output."""

    outcome: str
    summary: Mapping[str, int] | None = None
    findings: tuple[Mapping[str, str], ...] = ()
    """``id``, ``severity`` and ``title`` of each."""
    report: bytes = field(default=b"", repr=False)
    exit_code: int | None = None
    detail: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether it ran, and found nothing critical: neither in its summary nor in its list."""
        return self.outcome == "done" and not self.critical_ids and not (self.summary or {}).get("critical", 1)

    @property
    def critical_ids(self) -> list[str]:
        return [row["id"] for row in self.findings if row["severity"] == "critical"]

    @property
    def report_hash_b64u(self) -> str | None:
        """Over the report as it came; None where there is none."""
        return sha256_b64u(self.report) if self.report else None

    def to_json(self) -> JsonObject:
        return {
            "outcome": self.outcome,
            "summary": None if self.summary is None else dict(self.summary),
            "findings": [dict(row) for row in self.findings],
            "exit_code": self.exit_code,
            "detail": self.detail,
            "report_hash_b64u": self.report_hash_b64u,
        }


def scrubbed(
    environment: Mapping[str, str], config: Path, references: Collection[str], state_dir: Path | None = None
) -> dict[str, str]:
    """The environment for OpenClaw: no key, no proxy. What the configuration refers to by name is there if it is there,
    as a text of the same length (OpenClaw says when a secret is short) without the value."""
    env = {name: _stand_in(environment[name]) for name in references if name in environment}
    env |= {name: value for name, value in environment.items() if name in _PASSED_ON}
    if state_dir is not None:
        env["OPENCLAW_STATE_DIR"] = str(state_dir.absolute())
    env |= dict.fromkeys(_HELD, "")
    return {**env, "OPENCLAW_CONFIG_PATH": str(config.absolute()), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


def _stand_in(value: str) -> str:
    return "x" * min(len(value), _STAND_IN_CHARS)


async def security_audit(
    program: str, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S, user: User | None = None
) -> OwnAudit:
    """Never raises for what OpenClaw does: that is an audit that failed."""
    try:
        code, out = await _run([program, "security", "audit", "--json"], environment, timeout_s, user)
    except ClawproxyError as err:
        return OwnAudit("failed", detail=err.message)
    return judge_report(out, code)


async def loaded_plugins(
    program: str, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S, user: User | None = None
) -> list[JsonObject]:
    """The plugins that are enabled, as OpenClaw tells of them. Raises ``ClawproxyError`` (OPENCLAW_FAILED)."""
    _, out = await _run([program, "plugins", "list", "--json"], environment, timeout_s, user)
    try:
        rows = orjson.loads(out)["plugins"]
        return [row for row in rows if row.get("enabled") is not False]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ClawproxyError("OPENCLAW_FAILED", "openclaw plugins list gave no list") from None


def judge_report(out: bytes, exit_code: int | None) -> OwnAudit:
    """What ``openclaw security audit --json`` said."""
    try:
        told = orjson.loads(out)
    except orjson.JSONDecodeError:
        return OwnAudit("failed", report=out, exit_code=exit_code, detail="its output is not JSON")
    summary = told.get("summary") if isinstance(told, dict) else None
    if not isinstance(summary, dict) or not all(_is_count(summary.get(name)) for name in _SEVERITIES):
        error = told.get("error") if isinstance(told, dict) else None
        why = error.get("message") if isinstance(error, dict) else None
        detail = f"no summary: {clip(str(why), 160)}" if why else "no summary"
        return OwnAudit("failed", report=out, exit_code=exit_code, detail=detail)
    rows = told.get("findings")
    findings = tuple(
        {"id": _text(row, "checkId"), "severity": _text(row, "severity"), "title": _text(row, "title")}
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
    )
    return OwnAudit("done", {name: summary[name] for name in _SEVERITIES}, findings, out, exit_code)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= 1_000_000


def _text(row: Mapping[str, object], name: str) -> str:
    return clip(str(row.get(name, "")), 160)


async def _run(
    command: list[str], environment: Mapping[str, str], timeout_s: float, user: User | None = None
) -> tuple[int, bytes]:
    """Exit code and standard output; the whole process group ends with the time. Programs beside it come first.

    Not asyncio's own subprocess: its ``wait`` also waits for the pipes, which nobody reads after a flood, and which a
    child that left the group may hold open for ever.
    """
    process = _started(command, environment, user)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as reading:
            out = reading.create_task(_bounded(process.stdout))
            reading.create_task(_bounded(process.stderr))
            ended = reading.create_task(asyncio.to_thread(process.wait))
        return ended.result(), out.result()
    except TimeoutError:
        raise ClawproxyError("OPENCLAW_FAILED", f"it did not end within {timeout_s:g} seconds") from None
    except ExceptionGroup:
        raise ClawproxyError("OPENCLAW_FAILED", f"it wrote more than {MAX_OUTPUT_BYTES} bytes") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)


def _started(command: list[str], environment: Mapping[str, str], user: User | None) -> subprocess.Popen[bytes]:
    beside = os.path.dirname(os.path.abspath(command[0]))
    path = os.pathsep.join((beside, environment.get("PATH", os.defpath)))
    home = {"HOME": user.home} if user is not None else {}
    try:
        return subprocess.Popen(
            command,
            env={**environment, **home, "PATH": path},
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else (),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as err:
        whose = "" if user is None else f" as user {user.uid}"
        why = (err.strerror or "error").lower()
        raise ClawproxyError("OPENCLAW_FAILED", f"cannot be started{whose}: {why}") from None


async def _bounded(pipe: IO[bytes]) -> bytes:
    """What comes to the end of the pipe, which is closed then. Raises ``ValueError`` over ``MAX_OUTPUT_BYTES``."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    parts, size = [], 0
    try:
        while block := await reader.read(64 * 1024):
            size += len(block)
            if size > MAX_OUTPUT_BYTES:
                raise ValueError
            parts.append(block)
    finally:
        transport.close()
    return b"".join(parts)
