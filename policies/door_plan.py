"""The numbers of an isolated job's network, which the cage, its rules and the gateway's door must agree on. Pure.

A job's namespace has one link, to its door; the door's namespace has no other. Each name that the contract allows gets
an address of its own out of ``NAMES_V4`` and ``NAMES_V6``, which exist nowhere else: so the address that a connection
was made to says which name was meant. TCP to them is redirected to ``TCP_PORT`` of the door, what goes to port 53 of
any address to ``DNS_PORT``.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

DOOR_V4 = IPv4Address("198.18.0.1")
JOB_V4 = IPv4Address("198.18.0.2")
LINK_V4 = IPv4Network("198.18.0.0/30")
DOOR_V6 = IPv6Address("fd63:6c61:7770::1")
JOB_V6 = IPv6Address("fd63:6c61:7770::2")
LINK_V6 = IPv6Network("fd63:6c61:7770::/126")
"""As few neighbours as there are: the kernel's table of those is one for all namespaces, and a job could fill it."""

OWN_ADDRESSES = frozenset({DOOR_V4, JOB_V4, DOOR_V6, JOB_V6, IPv4Address("127.0.0.1"), IPv6Address("::1")})
"""What a job finds at its own interfaces, and where its link leads."""

FIRST_NAME_V4 = IPv4Address("198.18.1.0")
LAST_NAME_V4 = IPv4Address("198.18.255.255")
NAMES_V6 = IPv6Network("fd63:6c61:7770:1::/64")

TCP_PORT = 8082
"""Where the transparent listener is, in the door's namespace."""
DNS_PORT = 8053
"""Where the resolver is, for UDP and TCP. Not 53: a redirect that changes nothing is not marked as one."""

WAY_IN = "transparent"
"""How receipts and denials name the way of what came by a door or by a redirect of the host."""


def is_name_v4(address: IPv4Address) -> bool:
    """Whether ``address`` is one that a name can have."""
    return FIRST_NAME_V4 <= address <= LAST_NAME_V4


def pointed_at(name: str) -> IPv4Address | IPv6Address | None:
    """The address whose reverse name (``1.0.18.198.in-addr.arpa``) this is, in lower case; None where it is none."""
    labels = name.split(".")[-3::-1]  # without the zone, the first part of the address first
    text = ".".join(labels) if len(labels) == 4 else ":".join("".join(labels[n : n + 4]) for n in range(0, 32, 4))
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found if found.reverse_pointer == name else None
