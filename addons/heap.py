"""The process's memory: large blocks go back to the system when they are freed, and garbage with them.

glibc learns from the first large body that is freed to keep blocks of that size, up to 32 MB each, so that memory after
a burst of large requests depends on their order; here the threshold is fixed. The flow of a call and the layers of its
connection are cycles of objects, which only the garbage collector ends; after a large body, a call that broke off, or
one that no job pays for, it is asked to, on the event loop, at most once a second and a few times.

Blocks below the threshold lie in one heap, of which ``free`` gives back only the end. A large body leaves through TLS
as hundreds of blocks of 64 KB; one small object behind them that outlives them keeps tens of MB resident, all of it
free. So each collection is followed by a trim, which gives back whole pages from the middle too (2 to 4 ms).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_BLOCK_BYTES = 512 * 1024
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


def _find_trim() -> Callable[[int], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


_trim = _find_trim()


def give_back() -> bool:
    """Free pages in the middle of the heap, to the system; False where the C library is not glibc."""
    if _trim is None:
        return False
    _trim(0)
    return True


class Sweeper:
    """Collects garbage a few times after it is asked to, however often it is asked, and gives its memory back."""

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
        give_back()
        self._left -= 1
        if self._left > 0:
            asyncio.get_running_loop().call_later(self._every_s, self._collect)
