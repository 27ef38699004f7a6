"""Presenters: whom a job is bound to, and what that binding is worth. Pure.

A presenter is ``addr:<IP>``, the source address of the client's connection, in one spelling (an IPv4 address in IPv6
clothes is the IPv4 address), or ``namespace:<job id>``, the network namespace that was made for the job. A job is bound
to the first one that uses it, or to one that the operator names. Each loopback address is a presenter of its own,
127.0.0.1, 127.0.0.2 and ::1 too: so a binding fails closed, though any process of the machine can take any of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import StrEnum


class Strength(StrEnum):
    """What a presenter can be told from."""

    NETWORK_NAMESPACE = "network-namespace"
    SOURCE_ADDRESS = "source-address"
    LOOPBACK_ADDRESS = "loopback-address"


WORTH: Mapping[str, str] = {
    Strength.NETWORK_NAMESPACE: "only processes inside the job's own network namespace pass for it",
    Strength.SOURCE_ADDRESS: "whoever shares the address (behind NAT, on one host) passes for the same presenter",
    Strength.LOOPBACK_ADDRESS: "any process of the gateway's machine can take the address",
}
"""What each strength does not tell apart, for people."""


NAMESPACE = "namespace:"


def presenter_in_namespace(job_id: str) -> str:
    """The presenter of a job that has a network namespace of its own."""
    return NAMESPACE + job_id


def presenter_at(address: str) -> str:
    """The presenter at an IP address; raises ``ValueError`` where it is none."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return f"addr:{mapped or parsed}"


def strength_of(presenter: str) -> Strength:
    """What binding to this presenter is worth."""
    if presenter.startswith(NAMESPACE):
        return Strength.NETWORK_NAMESPACE
    try:
        loopback = ipaddress.ip_address(presenter.removeprefix("addr:")).is_loopback
    except ValueError:
        loopback = False
    return Strength.LOOPBACK_ADDRESS if loopback else Strength.SOURCE_ADDRESS
