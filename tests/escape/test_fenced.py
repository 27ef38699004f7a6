"""What an agent in a fence of ``clawproxy host install`` sends comes to the gateway, or does not leave."""

from __future__ import annotations

import pytest

from . import fenced
from .__main__ import LEAST_FENCED, fence_faults, fence_table
from .inside.attempt import ATTEMPTS, Control
from .machine import can_run
from .score import run_control, run_fenced

_REASON = can_run()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON or "runs")

_SOME = (
    "tcp4 public", "tcp6 public", "udp4 public", "quic 4", "dns, udp, public resolvers", "dns, the system's",
    "doh, by address", "raw udp", "spoofed source", "6in4", "host service, tcp", "host loopback, tcp", "proxy: connect",
    "another job, its address", "domain fronting", "gateway: a host outside the contract", "variables unset",
)  # fmt: skip


def _check(names: list[str], least: int) -> None:
    rows = [ATTEMPTS[name] for name in names]
    control = run_control([row for row in rows if row.control is Control.USER]).outcomes
    table, result, wrong = run_fenced(rows, control)
    assert not fence_faults(table, result, wrong, least), fence_table(table)


def test_some_of_the_attempts_leave_without_a_fence_and_none_leaves_one() -> None:
    _check(list(_SOME), 12)


@pytest.mark.slow
def test_every_attempt_that_a_fence_is_against_is_held() -> None:
    _check([name for name, row in ATTEMPTS.items() if any(fenced.applies(row, k) for k in fenced.KINDS)], LEAST_FENCED)
