"""How often: token buckets by key, each one number. Pure, but for the clock that is passed in.

A bucket holds as many as come in a minute and is filled evenly, so that after a burst a caller gets on at the
configured pace. What is refused takes nothing, so the time that a refusal tells is true.

Limits: full buckets are forgotten, so the memory is that of the keys that took something in the last minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SWEEP_FROM = 4096


class Buckets:
    """``per_minute`` for each key; ``clock_s`` is monotonic, in seconds."""

    def __init__(self, per_minute: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._interval_s = 60.0 / per_minute
        self._slack_s = 60.0 - self._interval_s
        self._clock_s = clock_s
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> float:
        """Take one. 0 if there was one, else the seconds until there is."""
        now = self._clock_s()
        full_at = self._full_at.get(key, now)
        if full_at < now:
            full_at = now
        wait_s = full_at - now - self._slack_s
        if wait_s > 1e-9:
            return wait_s
        self._full_at[key] = full_at + self._interval_s
        if len(self._full_at) >= self._sweep_at:
            self._sweep(now)
        return 0.0

    def _sweep(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._full_at))
