"""The named counters of nftables in the network namespace that this process is in, asked of the kernel by netlink.

Without a program: the warden's children belong to the job's PID namespace, which is gone when the counters are read.
Sources: linux/netfilter/nf_tables.h, netlink(7).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

_NETLINK_NETFILTER = 12
_GETOBJ = 10 << 8 | 19  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ
_REQUEST, _DUMP = 1, 0x300
_DONE, _ERROR = 3, 2
_NFPROTO_INET = 1
_NAME, _DATA, _PACKETS = 2, 4, 2
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_WAIT_S = 2.0
_ROOM = 65_536


def read_counters(prefix: str) -> dict[str, int]:
    """Packets of each counter whose name begins with ``prefix``, by the rest of its name. Raises ``OSError``."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.settimeout(_WAIT_S)
        body = struct.pack("=BBH", _NFPROTO_INET, 0, 0)
        sock.send(_HEADER.pack(_HEADER.size + len(body), _GETOBJ, _REQUEST | _DUMP, 1, 0) + body)
        found: dict[str, int] = {}
        while True:
            for kind, message in _messages(sock.recv(_ROOM)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", message)[0]
                    raise OSError(number, os.strerror(number))
                attributes = dict(_attributes(message[4:]))
                name = attributes.get(_NAME, b"").rstrip(b"\0").decode("ascii", "replace")
                packets = dict(_attributes(attributes.get(_DATA, b""))).get(_PACKETS)
                if name.startswith(prefix) and packets is not None:
                    found[name.removeprefix(prefix)] = int.from_bytes(packets, "big")


def _messages(text: bytes) -> Iterator[tuple[int, bytes]]:
    while len(text) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(text)
        yield kind, text[_HEADER.size : length]
        text = text[max(length + 3 & ~3, _HEADER.size) :]


def _attributes(text: bytes) -> Iterator[tuple[int, bytes]]:
    with contextlib.suppress(struct.error):
        while text:
            length, kind = struct.unpack_from("=HH", text)
            yield kind & _TYPE_MASK, text[4:length]
            text = text[max(length + 3 & ~3, 4) :]
