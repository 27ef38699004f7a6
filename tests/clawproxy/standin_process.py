"""Starts the provider stand-in as its own process for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """A running stand-in."""

    url: str
    ca: str
    record: Path
    key_files: dict[str, str]
    pid: int

    def key(self, provider: str) -> str:
        return Path(self.key_files[provider]).read_text().strip()

    def seen(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()]


@contextmanager
def running_standin(folder: Path, *options: str) -> Iterator[Provider]:
    """A stand-in on a free port, ended with the context."""
    record = folder / "record.jsonl"
    command = [sys.executable, "-m", "clawproxy.standin", "--dir", str(folder), "--record", str(record), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield Provider(ready["url"], ready["ca"], record, ready["credentials"], ready["pid"])
        finally:
            process.terminate()
