"""One session of an agent: a state directory, a gateway by the command line, the agent in a home of its own.

Everything that runs is a process of its own, started with an empty environment beside what is said here, and is ended
with all its children when its time is up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clawproxy.command_line import run_cli
from ..clawproxy.standin_process import Provider

type Json = dict[str, Any]

_PROVIDERS = ("openai", "anthropic", "google", "openrouter")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_OUTPUT_CHARS = 200_000
_GRACE_S = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; ``late`` if it had to be."""

    code: int
    out: str
    err: str
    seconds: float
    late: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a job left: the verdict of ``clawproxy verify``, and its records by kind."""

    verdict: str
    findings: list[str]
    records: dict[str, list[Json]] = field(default_factory=dict)

    @property
    def calls(self) -> list[Json]:
        """The receipts of calls that a model answered or might have: not the handshake of a socket, nor a list."""
        intents = [intent["detail"] for intent in self.records.get("intent", [])]
        asked = {intent["receipt_id"] for intent in intents if intent["facts"]["kind"] == "generate"}
        return [receipt for receipt in self.records.get("receipt", []) if receipt["receipt_id"] in asked]

    @property
    def denials(self) -> list[Json]:
        return self.records.get("denial", [])


@dataclass(frozen=True, slots=True)
class Stage:
    """The files of one session below ``root``."""

    root: Path
    provider: Provider

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def set_up(self, document: Json) -> None:
        """Make the folders, the keys, a configuration, and the contract ``document``, signed."""
        for folder in (self.home, self.work):
            folder.mkdir(mode=0o700)
        self.provider.make_state(self.state, *_PROVIDERS)
        with (self.state / "clawproxy.toml").open("a") as file:
            file.write("[gateway]\nrefuse_inside_tunnels = true\n")
        self.cli("keys", "new", "receipt", "token", "policy")
        contract = self.root / "contract.json"
        contract.write_text(json.dumps(document))
        self.cli("contract", "sign", contract)

    def cli(self, *arguments: str | Path) -> str:
        """``clawproxy ARGUMENTS`` on this state; returns what it printed."""
        done = run_cli(*arguments, state=self.state)
        assert done.code == 0, (arguments, done.err)
        return done.out

    def environment(self, programs: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What an agent is started with: no variable of the machine but what programs need to run at all."""
        return {
            "PATH": f"{programs}:{_SYSTEM_PATH}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "SHELL": "/bin/bash",
            **(more or {}),
        }

    def run(self, command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> Ended:
        """Run ``command`` in the work folder to its end, or to the end of its time."""
        start = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=self.work,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
                late = False
            except subprocess.TimeoutExpired:
                out, err = _end(process)
                late = True
        return Ended(
            process.returncode, out[-_OUTPUT_CHARS:], err[-_OUTPUT_CHARS:], time.monotonic() - start, late=late
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[Json]:
        """``clawproxy serve``; yields its ready line, with the addresses and the CA."""
        command = [sys.executable, "-m", "clawproxy", "serve", "--json", "--state", str(self.state)]
        with (self.root / "serve.log").open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_own_environment())
        with process:
            try:
                assert process.stdout is not None
                yield json.loads(process.stdout.readline())
            finally:
                process.terminate()

    def evidence(self, job: str) -> Evidence:
        """Verify the job's bundle with this state's keys, and read its records."""
        trust = self.root / "trust.json"
        if not trust.exists():
            self.cli("keys", "trust", "-o", trust)
        directory = self.state / "jobs" / job
        report = json.loads(run_cli("verify", "--json", directory, "--trust", trust, state=self.state).out)
        records: dict[str, list[Json]] = {}
        for line in (directory / "receipts.jsonl").read_bytes().splitlines():
            record = json.loads(line)
            records.setdefault(record["t"], []).append(record["body"]["payload"])
        found = [f"{one['reason']}: {one['detail']}" for one in report["findings"]]
        return Evidence(report["verdict"], found, records)

    def refused_early(self) -> list[Json]:
        """Refusals before a job was known, which are in the gateway's own journal."""
        files = sorted((self.state / "gateway").glob("*.jsonl"))
        records = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
        return [record["body"]["payload"] for record in records if record["t"] == "denial"]


def clawproxy_command(*arguments: str) -> list[str]:
    """``clawproxy ARGUMENTS`` as a process: the interpreter of the tests, whatever PATH says."""
    return [sys.executable, "-m", "clawproxy", *arguments]


def _own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CLAWPROXY")}


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End the session that ``process`` leads: asked first, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_GRACE_S)
    return "", ""
