"""While an agent has the terminal, the log waits: a line of it in the middle of an agent's screen helps nobody."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 200


class _Waiting(logging.Handler):
    """Keeps the last ``_MOST`` records, and how many came before those."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=_MOST)
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lost += len(self.records) == _MOST
        self.records.append(record)


@contextmanager
def log_waits() -> Iterator[None]:
    """Hold the log back where it goes to a terminal, and write it when the agent has ended, the last ``_MOST`` lines.

    A log that goes to a file or a pipe is not touched.
    """
    if not sys.stderr.isatty():
        yield
        return
    root = logging.getLogger()
    usual, waiting = root.handlers[:], _Waiting()
    root.handlers[:] = [waiting]
    try:
        yield
    finally:
        root.handlers[:] = usual
        if waiting.lost:
            root.warning("%d lines of the log, written while the agent ran, are not kept", waiting.lost)
        for record in waiting.records:
            root.handle(record)
