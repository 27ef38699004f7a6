"""``[egress.NAME]`` and ``egress_private`` of the configuration, read. Reads secrets, at start-up only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..policies.addresses import host_fault
from ..policies.egress import destination_fault
from ..policies.fields import PROVIDER_NAME
from ..tokens.errors import ClawproxyError
from .dial import Destination
from .egress_request import OF_THE_CONNECTION, OURS, EgressCredential
from .settings import EgressSection, read_secret

_HOST_PORT = re.compile(r"[^:\[\]]+:[0-9]{1,5}", re.ASCII)


def egress_credentials(sections: Mapping[str, EgressSection]) -> dict[str, EgressCredential]:
    """The credentials by name. Raises ``ClawproxyError`` (CONFIG_INVALID, SECRET_UNREADABLE)."""
    return {name: egress_credential(name, section) for name, section in sections.items()}


def egress_credential(name: str, section: EgressSection) -> EgressCredential:
    """One of them."""
    where = f"egress.{name}"
    if not PROVIDER_NAME.fullmatch(name):
        raise ClawproxyError("CONFIG_INVALID", "not a name", where=where, expected=PROVIDER_NAME.pattern)
    for n, host in enumerate(section.hosts):
        if fault := host_fault(host):
            raise ClawproxyError(
                "CONFIG_INVALID",
                fault,
                where=f"{where}.hosts[{n}]",
                got=host,
                expected="an exact host name",
                remedy="leave the port out; the contract's entry has it" if _HOST_PORT.fullmatch(host) else "",
            )
    if section.header in OF_THE_CONNECTION | OURS:
        raise ClawproxyError(
            "CONFIG_INVALID", "this header is no place for a credential", where=f"{where}.header", got=section.header
        )
    secret = read_secret(section.credential, where=f"{where}.credential")
    return EgressCredential(name, section.header, section.scheme, secret, frozenset(section.hosts))


def private_destinations(entries: list[str]) -> frozenset[Destination]:
    """``host:port`` of tools in the gateway's own network. Raises ``ClawproxyError`` (CONFIG_INVALID)."""
    found = set()
    for n, entry in enumerate(entries):
        host, _, port = entry.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if destination_fault(host) or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65_535:
            raise ClawproxyError(
                "CONFIG_INVALID", "not a destination", where=f"egress_private[{n}]", got=entry, expected="HOST:PORT"
            )
        found.add((host, int(port)))
    return frozenset(found)
