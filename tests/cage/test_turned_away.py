"""What the door's rules turn away is counted: all of it, by kind, and nothing but what the agent sent."""

from __future__ import annotations

import pytest
from clawproxy.receipts.door_counts import KINDS

from clawproxy.cage.rules import door_rules

from .rig import PYTHON, SYSTEM_PATH, caged, needs_root

pytestmark = needs_root

SEND = """
import errno, socket, sys
def tcp(family, address, port):
    with socket.socket(family) as sock:
        assert sock.connect_ex((address, port)) == errno.ECONNREFUSED
def udp(family, address, port, times):
    for _ in range(times):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x" * 100, (address, port))
four, six = socket.AF_INET, socket.AF_INET6
tcp(four, "1.1.1.1", 853); tcp(six, "2606:4700:4700::1111", 22); tcp(four, "198.18.0.1", 8082)
udp(four, "1.1.1.1", 443, 3); udp(six, "2606:4700:4700::1111", 443, 2); udp(four, "198.18.1.0", 443, 1)
udp(four, "8.8.8.8", 4242, 4); udp(six, "fd00::1", 123, 1)
"""
RAW = """
import socket
echo = b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0"
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
    for _ in range(5):
        sock.sendto(echo, ("1.1.1.1", 0))
for protocol in (132, 253, 41):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        sock.sendto(b"x" * 40, ("1.1.1.1", 0))
"""
FLOOD = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for _ in range(50_000):
        try:
            sock.sendto(b"x", ("1.1.1.1", 9))
        except OSError:
            pass
"""


def turned_away(program: str, *, probed: bool = True, root_inside: bool = False) -> dict[str, int] | None:
    with caged(root_inside=root_inside) as cage:
        if probed:
            cage.probe()
        cage.start([PYTHON, "-c", program], {"PATH": SYSTEM_PATH})
        assert cage.wait() == 0
        return cage.turned_away


def test_each_packet_that_is_turned_away_is_counted_once_and_the_probes_own_are_not() -> None:
    assert turned_away(SEND) == {"tcp": 3, "quic": 6, "udp": 5, "icmp": 0, "other": 0}


def test_an_agent_that_sends_nothing_is_counted_with_nothing() -> None:
    assert turned_away("pass") == dict.fromkeys(KINDS, 0)


def test_what_no_user_could_send_is_counted_too() -> None:
    assert turned_away(RAW, probed=False, root_inside=True) == {"tcp": 0, "quic": 0, "udp": 0, "icmp": 5, "other": 3}


def test_a_flood_is_a_number() -> None:
    found = turned_away(FLOOD)
    assert found is not None
    assert found["udp"] + 5 > 20_000  # one in so many comes back as an error of the next
    assert {kind: count for kind, count in found.items() if kind != "udp"} == dict.fromkeys({*KINDS} - {"udp"}, 0)


def test_what_cannot_be_counted_is_not_said_to_be_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from clawproxy.cage import cage as module

    program = "from clawproxy.cage import warden\n"
    program += "def fails(prefix):\n    raise PermissionError\nwarden.read_counters = fails\n"
    program += "import sys\nwarden.main(int(sys.argv[1]))"
    monkeypatch.setattr(module, "WARDEN", ("-c", program))
    assert turned_away(SEND) is None


def test_the_rules_count_what_the_records_name() -> None:
    counters = [line.split()[1] for line in door_rules().splitlines() if line.strip().startswith("counter turned_")]
    assert counters[: len(KINDS)] == [f"turned_{kind}" for kind in KINDS]
