"""Which agents a run of the tests has: pi always, each of the others where it is installed as its lock says."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from .agents import PI, Agent
from .install import NotToBeHad, bin_of, install


@cache
def _pi() -> Path | str:
    try:
        return install(PI.package)
    except NotToBeHad as err:
        return str(err)


def programs_of(agent: Agent) -> Path:
    """The ``bin`` folder of an agent; without it the test is skipped, but for pi in CI, where it fails."""
    if agent.package == PI.package:
        found = _pi()
        if isinstance(found, Path):
            return found
        if os.environ.get("CI"):
            pytest.fail(f"pi must run here: {found}")
        pytest.skip(found)
    programs = bin_of(agent.package)
    if programs is None:
        pytest.skip(f"{agent.package} is not installed as its lock says: make agents")
    return programs
