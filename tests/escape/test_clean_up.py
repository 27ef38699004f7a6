"""Whatever is killed, and whenever: ``clawproxy host check --repair`` leaves nothing of it on the host."""

from __future__ import annotations

import pytest

from . import planted
from .machine import can_run
from .score import kill_at_random, plant

_REASON = can_run()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON or "runs")


_KILLED = {"run", "gateway", "warden", "first process", "agent", "host install", "host remove"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_left_by_a_repair_when_anything_was_killed_at_any_moment() -> None:
    """More rounds where a busy machine was never at the moment that was meant."""
    met: set[str] = set()
    for seed in (1, 2, 3):
        told = kill_at_random(10, seed)
        assert told["faults"] == []
        assert told["jobs"] == 30
        assert told["repairs"]["first"] == told["repairs"]["second"] == {"0": 10}
        met |= {kind for kind, count in (told["killed"] | told["came"]).items() if count}
        if met >= _KILLED | {"the agent ran"}:
            break
    assert met >= _KILLED | {"the agent ran"}


@pytest.mark.slow
def test_what_is_left_on_purpose_is_seen_found_and_repaired() -> None:
    told = plant()
    assert planted.faults(told) == []
    assert set(told) == set(planted.PLANTS)
    seen = {line.split(":")[0] for row in told.values() for line in row["there"]}
    kinds = {"processes", "namespaces", "named", "links", "rules", "mounts", "files", "cgroups"}
    assert kinds <= seen
