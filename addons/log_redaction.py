"""Log lines without data that a contract keeps out of logs. Changes the process's log record factory while it is on.

Every record of every logger is looked through as it is made: the line with its arguments filled in, and the trace. Both
are clipped, so that no line takes long. A line that cannot be looked through is not written at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

MAX_LINE_CHARS = 8192
_FORMATTER = logging.Formatter()


class LogRedaction:
    """``clean`` gives a text as it may be written."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._before: Callable[..., logging.LogRecord] | None = None

    def start(self) -> None:
        """From now on; a second time changes nothing."""
        if self._before is None:
            self._before = logging.getLogRecordFactory()
            logging.setLogRecordFactory(self._make)

    def stop(self) -> None:
        """No longer. Where somebody else changed the factory since, ours stays below theirs and cleans on."""
        if self._before is not None and logging.getLogRecordFactory() == self._make:
            logging.setLogRecordFactory(self._before)
            self._before = None

    def _make(self, *args: object, **more: object) -> logging.LogRecord:
        assert self._before is not None
        record = self._before(*args, **more)
        try:
            line = self._clean(record.getMessage()[:MAX_LINE_CHARS])
            trace = _FORMATTER.formatException(record.exc_info)[-MAX_LINE_CHARS:] if record.exc_info else ""
            trace = self._clean(trace) if trace else ""
        except Exception:
            line, trace = f"a line of {record.name} that could not be looked through", ""
        record.msg, record.args = line, None  # without arguments nothing in it is filled in
        record.exc_info, record.exc_text, record.stack_info = None, trace or None, None
        return record
