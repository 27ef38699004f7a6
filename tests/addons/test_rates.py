"""Token buckets: as many as come in a minute at once, then evenly, and the wait that is told is the true one."""

from __future__ import annotations

from clawproxy.addons.rates import Buckets


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _taken(buckets: Buckets, key: str, tries: int) -> int:
    return sum(1 for _ in range(tries) if buckets.take(key) == 0)


def test_a_burst_is_one_minutes_worth_and_then_it_is_even() -> None:
    clock = _Clock()
    buckets = Buckets(60, clock)
    assert _taken(buckets, "a", 100) == 60
    clock.now += 1.0
    assert _taken(buckets, "a", 100) == 1
    clock.now += 30.0
    assert _taken(buckets, "a", 100) == 30


def test_the_wait_that_is_told_is_true_however_often_one_asks() -> None:
    clock = _Clock()
    buckets = Buckets(2, clock)
    assert [buckets.take("a"), buckets.take("a")] == [0, 0]
    wait_s = buckets.take("a")
    assert wait_s == 30
    for _ in range(10):
        clock.now += 2.9
        assert buckets.take("a") > 0
    clock.now += 1.0
    assert buckets.take("a") == 0


def test_each_key_has_its_own() -> None:
    buckets = Buckets(1, _Clock())
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


def test_one_a_minute_is_not_none() -> None:
    clock = _Clock()
    buckets = Buckets(1, clock)
    assert [buckets.take("a"), buckets.take("a")] == [0, 60]
    clock.now += 60
    assert buckets.take("a") == 0


def test_full_buckets_are_forgotten() -> None:
    clock = _Clock()
    buckets = Buckets(60, clock)
    for n in range(20_000):
        buckets.take(f"job-{n}")
        clock.now += 0.01
    assert len(buckets) < 5000
