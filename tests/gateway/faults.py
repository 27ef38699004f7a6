"""Faults to put into a running gateway: between steps, into hooks, into the tap of a stream."""

from __future__ import annotations

import asyncio
from typing import Any

from clawproxy.addons.call import Call

KINDS = ("raise", "hang", "cancel")


class InjectedFaultError(Exception):
    """What a test put in."""


async def misbehave(kind: str) -> None:
    """Fail the way ``kind`` says."""
    if kind == "raise":
        raise InjectedFaultError
    if kind == "cancel":
        raise asyncio.CancelledError
    await _hang()


async def _hang() -> None:
    """For hours, by the clock of the event loop, of which seconds pass at once: what bounds a hang ends it soon, and
    the bound may be so long that no busy machine brings anything else to its own."""
    loop = asyncio.get_running_loop()
    real, ahead_s = loop.time, 0.0
    loop.time = lambda: real() + ahead_s  # type: ignore[method-assign]
    while True:
        ahead_s += 1.0
        await asyncio.sleep(0.01)


class FaultySteps:
    """The real steps with one that misbehaves, ``before`` its own work or ``after`` it."""

    def __init__(self, real: Any, step: str, kind: str, when: str) -> None:
        self._real = real
        setattr(self, step, self._around(getattr(real, step), kind, when, is_sync=step == "observe"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @staticmethod
    def _around(work: Any, kind: str, when: str, *, is_sync: bool) -> Any:
        def sync_step(call: Call) -> Any:
            if when == "after":
                work(call)
            raise asyncio.CancelledError if kind == "cancel" else InjectedFaultError

        async def step(call: Call) -> Any:
            if when == "after":
                verdict = work(call)
                if asyncio.iscoroutine(verdict):
                    await verdict
            await misbehave(kind)

        return sync_step if is_sync else step


class FaultyTap:
    """A tap that fails at the piece in which its ``at``-th event ends, or in ``close`` (at 0)."""

    def __init__(self, tap: Any, at: int, kind: str) -> None:
        self._tap, self._left, self._kind = tap, at, kind

    def feed(self, data: bytes) -> Any:
        before = self._left
        self._left -= data.count(b"\n\n")
        if before > 0 >= self._left:
            raise asyncio.CancelledError if self._kind == "cancel" else InjectedFaultError
        return self._tap.feed(data)

    def close(self) -> Any:
        raise asyncio.CancelledError if self._kind == "cancel" else InjectedFaultError


class FaultyHook:
    """An addon that misbehaves in one hook."""

    def __init__(self, hook: str, kind: str, *, is_sync: bool = False) -> None:
        async def run(_subject: object) -> None:
            await misbehave(kind)

        def run_sync(_subject: object) -> None:
            raise asyncio.CancelledError if kind == "cancel" else InjectedFaultError

        setattr(self, hook, run_sync if is_sync else run)
