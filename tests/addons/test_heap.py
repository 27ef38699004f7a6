"""Memory that is free goes back to the system, also from the middle of the heap."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest
from clawproxy.addons import heap

from ..waiting import until

_HOLE = """
import os
from pathlib import Path
from clawproxy.addons import heap

def rss_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

heap.fix_thresholds()
blocks = [b"x" * 65000 + bytes([n % 256]) for n in range(400)]
last = blocks[-1]  # behind them, and it stays
full = rss_mb()
blocks.clear()
freed = rss_mb()
heap.give_back()
print(full - freed, freed - rss_mb())
"""


@pytest.mark.skipif(not heap.give_back(), reason="the C library is not glibc")
def test_free_blocks_in_front_of_one_that_stays_are_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", _HOLE], capture_output=True, text=True, check=True, timeout=60)
    by_free_mb, by_trim_mb = map(float, told.stdout.split())
    assert by_free_mb < 2  # the reason why it is needed
    assert by_trim_mb > 20


async def test_a_sweep_collects_and_gives_back_a_few_times_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(heap, "give_back", lambda: done.append("give back"))
    sweeper = heap.Sweeper(every_s=0.01)
    for _ in range(5):
        sweeper.ask()
    await until(lambda: len(done) >= 6)
    await asyncio.sleep(0.3)
    assert done == ["collect", "give back"] * 3
