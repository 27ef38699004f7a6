"""The process's memory: large blocks go back to the system when they are freed, and garbage with them.

glibc learns from the first large body that is freed to keep blocks of that size, up to 32 MB each, so that memory after
a burst of large requests depends on their order; here the threshold is fixed. The flow of a call and the layers of its
connection are cycles of objects, which only the garbage collector ends; after a large body, a call that broke off, or
one that no job pays for, it is asked to, on the event loop, at most once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_BLOCK_BYTES = 256 * 1024
_KEPT_BYTES = 1024 * 1024
LARGE_BYTES = 1024 * 1024
"""Bodies from this size on are worth a collection."""
_EVERY_S = 1.0


def fix_thresholds() -> bool:
    """For the whole process; False where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
    return False


class Sweeper:
    """Collects garbage a moment after it is asked to, however often it is asked."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._due: asyncio.TimerHandle | None = None
        self._again = False

    def ask(self) -> None:
        """Something large is about to become garbage: there is a collection no sooner than ``every_s`` from now."""
        if self._due is not None:
            self._again = True
        else:
            self._due = asyncio.get_running_loop().call_later(self._every_s, self._collect)

    def _collect(self) -> None:
        self._due = None
        gc.collect()
        if self._again:
            self._again = False
            self.ask()
