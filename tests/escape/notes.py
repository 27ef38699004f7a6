"""The witness's book: what arrived somewhere outside, a line each. Whoever may write adds, nobody takes away."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

_MOST_TEXT = 6_000


class Notes:
    """Appends to a file; a line is whole, whoever else writes."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._lock = threading.Lock()

    def add(self, by: str, text: bytes, **more: str | int) -> None:
        """What was received, as Latin-1, so that a mark in it can be searched for."""
        line = json.dumps({"by": by, **more, "text": text[:_MOST_TEXT].decode("latin-1")}) + "\n"
        with self._lock:
            os.write(self.fd, line.encode())
