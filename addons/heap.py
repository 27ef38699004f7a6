"""The process's memory: large blocks go back to the system when they are freed, and garbage with them.

glibc learns from the first large body that is freed to keep blocks of that size, up to 32 MB each, so that memory after
a burst of large requests depends on their order; here the threshold is fixed. The flow of a call and the layers of its
connection are cycles of objects, which only the garbage collector ends; after a large body, a call that broke off, or
one that no job pays for, it is asked to, on the event loop, at most once a second and a few times.
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
_TIMES = 3


def fix_thresholds() -> bool:
    """For the whole process; False where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
    return False


class Sweeper:
    """Collects garbage a few times after it is asked to, however often it is asked."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._left = 0

    def ask(self) -> None:
        """Something large becomes garbage now or soon: when the last reference goes is up to tasks that are ending, so
        there is more than one collection, ``every_s`` apart."""
        running, self._left = self._left > 0, _TIMES
        if not running:
            asyncio.get_running_loop().call_later(self._every_s, self._collect)

    def _collect(self) -> None:
        gc.collect()
        self._left -= 1
        if self._left > 0:
            asyncio.get_running_loop().call_later(self._every_s, self._collect)
