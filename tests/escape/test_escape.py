"""Nothing leaves an isolated job, by any of the ways that lead out of an ordinary one. The whole table: make escape."""

from __future__ import annotations

import pytest

from .__main__ import LEAST, faults, table
from .inside.attempt import ATTEMPTS, Attempt
from .machine import can_run
from .score import run_all

_REASON = can_run()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON or "runs")

_SOME = (
    "tcp4 public", "tcp4 metadata", "tcp6 public", "udp4 public", "udp6 public", "quic 4", "every port",
    "dns, udp, public resolvers", "dns, the system's", "dns, the system's: below an allowed name", "doh, by address",
    "icmp echo, raw", "raw udp", "fragments", "6in4", "frame: ip", "frame: for the host's loopback",
    "host service, tcp", "host loopback, tcp", "proxy: connect", "another job, its address",
    "docker.sock", "abstract socket", "admin socket", "state, by path", "state, by file handle",
    "inherited descriptors", "memory of others", "signal", "keyring", "vsock", "core_pattern", "disks",
    "sni of another", "domain fronting", "no sni", "encrypted client hello", "smuggling: two lengths",
    "gateway: a host outside the contract", "gateway: its own machine", "variables unset",
)  # fmt: skip


def _check(wanted: list[Attempt], least: int) -> None:
    rows, results = run_all(wanted)
    assert not faults(rows, results, least), table(rows)


def test_some_of_the_attempts_leave_an_ordinary_namespace_and_none_leaves_a_cage() -> None:
    _check([ATTEMPTS[name] for name in _SOME], len(_SOME) - 2)


@pytest.mark.slow
def test_every_attempt_leaves_an_ordinary_namespace_and_none_leaves_a_cage() -> None:
    _check(list(ATTEMPTS.values()), LEAST)
