"""A redirect to loopback holds for sockets that are bound to a device, too: not a packet leaves by that."""

from __future__ import annotations

import json
import sys

import pytest

from .conftest import UID, V4, V6, Host
from .test_fence import installed

SNIFF = """
import json, select, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("down0", 3))
print("ready", flush=True)
sys.stdin.readline()
found = []
while select.select([sock], [], [], 0.3)[0]:
    frame = sock.recv(2000)
    if frame[12:14] == b"\\x08\\x00" and frame[23] == 6:
        found.append(socket.inet_ntoa(frame[30:34]))
    elif frame[12:14] == b"\\x86\\xdd" and frame[20] == 6:
        found.append(socket.inet_ntop(socket.AF_INET6, frame[38:54]))
print(json.dumps(sorted(set(found))), flush=True)
"""
BOUND = """
import os, socket, sys
os.setresuid(*[int(sys.argv[2])] * 3)
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"up0")
    sock.settimeout(1.5)
    try:
        sock.connect((sys.argv[1], 443))
    except OSError as err:
        print(type(err).__name__)
"""


def _arrived(host: Host, address: str) -> list[str]:
    assert host.outside is not None
    with host.outside.started(SNIFF) as sniffer:
        assert sniffer.stdout.readline() == "ready\n"
        host.run(sys.executable, "-c", BOUND, address, str(UID))
        sniffer.stdin.write("\n")
        sniffer.stdin.flush()
        found: list[str] = json.loads(sniffer.stdout.readline())
        return found


@pytest.mark.parametrize("address", [V4, V6])
def test_nothing_leaves_by_the_device_that_a_socket_is_bound_to(host: Host, address: str) -> None:
    assert any(address in _arrived(host, address) for _ in range(3))
    installed(host)
    assert _arrived(host, address) == []
