"""Waiting for what a test expects, however busy the machine is: as short as it can be, red after half a minute."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0
_EVERY_S = 0.01


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that is written meanwhile, by another thread or process: the last one may be half there."""
    return path.read_bytes().split(b"\n")[:-1]


async def until(so: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    """Until ``so`` says yes; asked a hundred times a second, since files and other processes have no events.

    Raises:
        AssertionError: It did not within ``within_s``.
    """
    end_s = time.monotonic() + within_s
    while not so():
        assert time.monotonic() < end_s, f"not so after {within_s} s: {inspect.getsource(so).strip()}"
        await asyncio.sleep(_EVERY_S)
