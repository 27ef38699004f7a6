"""Presenters: whom a job is bound to, and what that binding is worth. Pure.

A presenter is ``addr:<IP>``, the source address of the client's connection, in one spelling (an IPv4 address in IPv6
clothes is the IPv4 address). A job is bound to the first one that uses it, or to one that the operator names. Each
loopback address is a presenter of its own, 127.0.0.1, 127.0.0.2 and ::1 too: so a binding fails closed, though any
process of the machine can take any of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import StrEnum


class Strength(StrEnum):
    """What a presenter can be told from."""

    SOURCE_ADDRESS = "source-address"
    LOOPBACK_ADDRESS = "loopback-address"


WORTH: Mapping[str, str] = {
    Strength.SOURCE_ADDRESS: "whoever shares the address (behind NAT, on one host) passes for the same presenter",
    Strength.LOOPBACK_ADDRESS: "any process of the gateway's machine can take the address",
}
"""What each strength does not tell apart, for people."""


def presenter_at(address: str) -> str:
    """The presenter at an IP address; raises ``ValueError`` where it is none."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return f"addr:{mapped or parsed}"


def strength_of(presenter: str) -> Strength:
    """What binding to this presenter is worth."""
    try:
        loopback = ipaddress.ip_address(presenter.removeprefix("addr:")).is_loopback
    except ValueError:
        loopback = False
    return Strength.LOOPBACK_ADDRESS if loopback else Strength.SOURCE_ADDRESS
