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

from ..waiting import whole_lines


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

    def make_state(self, root: Path, *names: str) -> Path:
        """A state directory whose gateway asks this stand-in for the providers ``names``; no keys, no contract yet."""
        root.mkdir(mode=0o700)
        lines = [f"upstream_ca = {json.dumps(self.ca)}", "[listen]"]
        lines += [f'{listener} = "127.0.0.1:0"' for listener in ("reverse", "regular")]
        for name in names:
            credential = f"file:{self.key_files[name]}"
            lines += [f"[providers.{name}]", f'upstream = "{self.url}"', f'credential = "{credential}"']
        (root / "clawproxy.toml").write_text("\n".join(lines) + "\n")
        return root

    def seen(self) -> list[dict[str, Any]]:
        """What it has on record."""
        return [json.loads(line) for line in whole_lines(self.record)]


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
