"""Rounds of a check: how many there are, what ends them, and what counts."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from clawproxy.cli import rounds
from clawproxy.cli.rounds import Rounds


def run(told: list[bool], *, pause_s: float = 0.01, times: int = 0, ended: list[str] | None = None) -> Rounds:
    async def check() -> bool:
        return told.pop(0)

    made = Rounds(check, pause_s, times)
    asyncio.run(made.run(lambda: ended.pop(0) if ended else ""))
    return made


@pytest.mark.parametrize(("pause_s", "times", "done"), [(0, 0, 1), (0, 5, 1), (0.01, 1, 1), (0.01, 3, 3)])
def test_there_are_as_many_as_there_should_be(pause_s: float, times: int, done: int) -> None:
    made = run([True] * 9, pause_s=pause_s, times=times)
    assert (made.done, made.all_well, made.why) == (done, True, "")


@pytest.mark.parametrize("told", [[False, True, True], [True, False, True], [True, True, False]])
def test_one_that_is_not_well_is_not_forgotten(told: list[bool]) -> None:
    assert not run(told, times=3).all_well


def test_what_has_ended_ends_them_in_the_middle_of_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_LOOK_S", 0.01)
    began = time.monotonic()
    made = run([True], pause_s=600, ended=["", "", "it is over"])
    assert (made.done, made.why) == (1, "it is over")
    assert time.monotonic() - began < 60


def test_what_has_ended_ends_them_without_a_pause() -> None:
    assert run([True], pause_s=600, ended=["it is over"]).why == "it is over"


def test_a_signal_ends_a_pause_and_a_check_that_hangs_and_its_way_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    checks = 0

    async def check() -> bool:
        nonlocal checks
        checks += 1
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.sleep(600 if checks == 2 else 0)
        return True

    for pause_s, done in ((600, 1), (0.01, 0)):
        made = Rounds(check, pause_s, 0)
        asyncio.run(made.run(lambda: ""))
        assert (made.done, made.why) == (done, "interrupted")
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_check_raises_comes_out() -> None:
    async def check() -> bool:
        raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(Rounds(check, 0, 0).run(lambda: ""))
