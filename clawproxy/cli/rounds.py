"""A check that is made again and again: until it was made so often, a signal comes, or what it is about has ended.

Takes the signals SIGINT, SIGTERM and SIGHUP of the process while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_S = 2.0


class Rounds:
    """``check`` says whether all is well. After ``run``, ``why`` says what ended the rounds: nothing where they were as
    many as they should be."""

    def __init__(self, check: Callable[[], Awaitable[bool]], pause_s: float, times: int) -> None:
        """``times`` 0 is without end; ``pause_s`` 0 is one round."""
        self._check = check
        self._pause_s = pause_s
        self._times = times if pause_s else 1
        self.done = 0
        self.all_well = True
        self.why = ""

    async def run(self, ended: Callable[[], str]) -> None:
        """``ended`` says what has ended, if it has; it is asked after each check, and every two seconds of a pause.
        Raises what ``check`` raises. A signal ends a check in the middle, as it does a pause."""
        task = asyncio.current_task()
        assert task is not None
        with _on_signals(task.cancel), contextlib.suppress(asyncio.CancelledError):
            self.why = "interrupted"
            await self._run(ended)
        task.uncancel()

    async def _run(self, ended: Callable[[], str]) -> None:
        why = ""
        while not why:
            self.all_well = await self._check() and self.all_well
            self.done += 1
            if self.done == self._times:
                break
            why = ended() or await self._pause(ended)
        self.why = why

    async def _pause(self, ended: Callable[[], str]) -> str:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pause_s
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, _LOOK_S))
            if why := ended():
                return why
        return ""


@contextlib.contextmanager
def _on_signals(stop: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
