"""Where a redirected connection was made to, as the kernel's connection tracking knows it (Linux). Asks the kernel.

Raises ``OSError`` where it knows nothing: then nobody redirected the connection, or nobody tracks it.
"""

from __future__ import annotations

import socket
import struct

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h
_V4_BYTES = 16
_V6_BYTES = 28


def original_destination(sock: socket.socket) -> tuple[str, int]:
    """Address and port that the client dialled. The socket's namespace is the one that is asked."""
    if ":" in sock.getsockname()[0].removeprefix("::ffff:"):
        raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _V6_BYTES)
        port, packed = struct.unpack_from("!2xH4x16s", raw)
        return socket.inet_ntop(socket.AF_INET6, packed), port
    raw = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _V4_BYTES)
    port, packed = struct.unpack_from("!2xH4s", raw)
    return socket.inet_ntop(socket.AF_INET, packed), port
