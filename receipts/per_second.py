"""A count per second, for records that anyone can cause. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class PerSecond:
    """At most ``limit`` in each second of the clock."""

    limit: int
    _second: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)

    def take(self, now_ms: int) -> bool:
        """Take one, if there is one left at ``now_ms`` (Unix milliseconds)."""
        second = now_ms // 1000
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= self.limit
