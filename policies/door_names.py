"""The names of one door, and the addresses they have there. Pure.

A name has an address only where the contract lets calls go to it: the names of the providers that it allows, and the
hosts of its ``egress_allowlist``. Each has one of its own for the life of the door, so an address says which name was
looked up. Names that the contract writes out have theirs from the start; those under a ``*.`` get one when they are
asked for, as long as there are addresses left.

Limits: an address literal in ``egress_allowlist`` is no name, so no door leads there. What a name may be used for is
judged call by call; ``ports`` only says which connections are worth reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from .addresses import host_fault, is_literal
from .door_plan import FIRST_NAME_V4, LAST_NAME_V4, NAMES_V6, OWN_ADDRESSES, is_name_v4, pointed_at
from .observe import name_could_be_listed
from .policy import Policy
from .routes import Catalogue

MAX_NAMES = 4096
ANSWERABLE_PORTS = frozenset({80, 443})
"""Of every name: what comes there is HTTP or TLS, so a refusal can be answered."""


class DoorNames:
    """The table of one door under one contract. ``catalogue`` gives the providers of now. With ``observe`` each name
    that a contract could list is there, at every port (``observe``)."""

    def __init__(
        self,
        policy: Policy,
        catalogue: Callable[[], Catalogue],
        *,
        observe: bool = False,
        max_names: int = MAX_NAMES,
    ) -> None:
        self._policy = policy
        self._observe = observe
        self.noticed: Callable[[str], None] = lambda name: None
        """Told each name that is there for ``observe`` alone, when it gets its addresses."""
        self._catalogue = catalogue
        self._max_names = min(max_names, int(LAST_NAME_V4) - int(FIRST_NAME_V4) + 1)
        self._index: dict[str, int] = {}
        self._names: list[str] = []
        written = {host for host, _ in self._provider_hosts()} | {
            entry.host for entry in policy.egress if not entry.host.startswith("*.")
        }
        for name in sorted(written):
            if host_fault(name) is None and len(self._names) < self._max_names:
                self._place(name)

    def addresses(self, name: str) -> tuple[IPv4Address, IPv6Address] | None:
        """Those of ``name``, in lower case without the last dot; None where it may not be called, or none is left."""
        if not self.allows(name):
            return None
        index = self._index.get(name)
        if index is None:
            if len(self._names) >= self._max_names:
                return None
            index = self._place(name)
            if self._observe and not self._is_known(name):
                self.noticed(name)
        return FIRST_NAME_V4 + index, NAMES_V6[index + 1]

    def allows(self, name: str) -> bool:
        """Whether the contract lets some call go to ``name``."""
        if host_fault(name) is not None:
            return False
        if self._observe and name_could_be_listed(name):
            return True
        return any(True for _ in self._ports(name))

    def name_at(self, address: str) -> str | None:
        """The name that has ``address``; None where none has."""
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if isinstance(parsed, IPv4Address):
            index = int(parsed) - int(FIRST_NAME_V4) if is_name_v4(parsed) else -1
        else:
            index = int(parsed) - int(NAMES_V6.network_address) - 1 if parsed in NAMES_V6 else -1
        return self._names[index] if 0 <= index < len(self._names) else None

    def is_own_pointer(self, name: str) -> bool:
        """Whether ``name``, in lower case, is the reverse name of an address that the job has, or knows from here.

        Some programs look up what such are called when they start. They are called nothing, and nobody is meant by it.
        """
        address = pointed_at(name)
        return address is not None and (address in OWN_ADDRESSES or self.name_at(str(address)) is not None)

    def takes(self, name: str, port: int) -> bool:
        """Whether a connection to ``port`` of ``name`` is worth reading."""
        return self._observe or port in ANSWERABLE_PORTS or port in set(self._ports(name))

    def _place(self, name: str) -> int:
        index = self._index[name] = len(self._names)
        self._names.append(name)
        return index

    def _is_known(self, name: str) -> bool:
        """Whether it is a provider's, allowed or not, or one of the contract's."""
        hosts = (host for provider in self._catalogue().providers.values() for host, _ in provider.hosts)
        return name in hosts or any(True for _ in self._ports(name))

    def _provider_hosts(self) -> Iterator[tuple[str, int]]:
        allowed = self._policy.providers
        for provider in self._catalogue().providers.values():
            if allowed is None or provider.name in allowed:
                yield from ((host, port) for host, port in provider.hosts if not is_literal(host))

    def _ports(self, name: str) -> Iterator[int]:
        yield from (port for host, port in self._provider_hosts() if host == name)
        for entry in self._policy.egress:
            if entry.reaches(entry.scheme, name, entry.port):
                yield entry.port
