"""Where a gateway itself must be let out to under a contract, as lists for what stands around it. Pure.

For a firewall behind the gateway, which then lets nothing else out. nftables and network policies know addresses only:
names are looked up when the list is made, so it must be made again when they move; ``*.name`` cannot be written there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .addresses import bracketed, is_literal
from .policy import Policy
from .routes import Catalogue

type LookUp = Callable[[str], Sequence[str]]
"""Addresses of a name, none where it has none."""


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """A host (a name, ``*.name`` or an address) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def destinations(policy: Policy, catalogue: Catalogue) -> tuple[Destination, ...]:
    """Where calls go: the upstreams of the providers that the contract allows, and the hosts of its tools."""
    providers = (
        Destination(provider.host, provider.port)
        for provider in catalogue.providers.values()
        if policy.providers is None or provider.name in policy.providers
    )
    return tuple(sorted({*providers, *(Destination(entry.host, entry.port) for entry in policy.egress)}))


def plain_list(found: Iterable[Destination]) -> str:
    """One ``host:port`` a line."""
    return "".join(f"{destination}\n" for destination in found)


def nft_list(found: Sequence[Destination], look_up: LookUp, header: str) -> str:
    """Two sets of nftables for ``ip daddr . tcp dport @clawproxy_out4 accept``, and the same for ``ip6``."""
    lines = [f"# {header}"]
    elements: dict[int, list[str]] = {4: [], 6: []}
    for destination, addresses in _looked_up(found, look_up):
        lines.append(_comment(destination, addresses))
        for address in addresses:
            elements[address.version].append(f"{address} . {destination.port}")
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        held = f"\n    elements = {{ {', '.join(sorted(elements[version]))} }}" if elements[version] else ""
        lines.append(f"set clawproxy_out{version} {{\n    type {kind} . inet_service{held}\n}}")
    return "\n".join(lines) + "\n"


def network_policy(found: Sequence[Destination], look_up: LookUp, header: str, name: str) -> str:
    """A NetworkPolicy for pods labelled ``app.kubernetes.io/name: clawproxy``: out to these addresses, and to DNS."""
    lines = [
        f"# {header}",
        "apiVersion: networking.k8s.io/v1",
        "kind: NetworkPolicy",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  podSelector: {matchLabels: {app.kubernetes.io/name: clawproxy}}",
        "  policyTypes: [Egress]",
        "  egress:",
        "    - to:",
        "        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}",
        "          podSelector: {matchLabels: {k8s-app: kube-dns}}",
        "      ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]",
    ]
    for destination, addresses in _looked_up(found, look_up):
        lines.append(f"    {_comment(destination, addresses)}")
        if addresses:
            lines.append("    - to:")
            lines += [f'        - ipBlock: {{cidr: "{address}/{address.max_prefixlen}"}}' for address in addresses]
            lines.append(f"      ports: [{{protocol: TCP, port: {destination.port}}}]")
    return "\n".join(lines) + "\n"


type _Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _looked_up(found: Sequence[Destination], look_up: LookUp) -> Iterable[tuple[Destination, list[_Address]]]:
    for destination in found:
        host = destination.host
        texts = [host] if is_literal(host) else [] if host.startswith("*.") else look_up(host)
        parsed = {ipaddress.ip_address(text) for text in texts}
        yield destination, sorted(parsed, key=lambda address: (address.version, int(address)))


def _comment(destination: Destination, addresses: Sequence[object]) -> str:
    if addresses:
        return f"# {destination}"
    why = "names below another cannot be written as addresses" if "*" in destination.host else "it has no address now"
    return f"# {destination}: left out, {why}"
