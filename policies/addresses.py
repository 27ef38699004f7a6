"""Which addresses the gateway may dial, and which host names are only that. Pure.

``address_fault`` judges what a name resolved to, ``host_fault`` a name as it stands in a request or a contract. An
address is public only where the IANA registries of special-purpose addresses (RFC 6890) say nothing else about it.

Limits: a public address that a provider uses for something private of its own is known only if it is in ``_METADATA``.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address

_METADATA = frozenset(
    {
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # credentials of containers, AWS
        "169.254.170.23",
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
    }
)
_V4_RANGES = tuple(
    (ipaddress.IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6_RANGES = tuple(
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("100::/64", "discard-only"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_EMBEDDING = tuple(
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("::/96", "IPv4-compatible"),
    )
)
"""Forms in which an IPv6 address stands for an IPv4 one; no provider answers under them."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""What a resolver of an IPv6-only network makes of any IPv4 address (RFC 6147): judged by that one."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_CONFIGURABLE = frozenset({"loopback", "private", "carrier-grade NAT", "unique local", "benchmark"})

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_MAX_HOST_CHARS = 253


def address_fault(ip: str, *, private: bool = False) -> str | None:
    """Why ``ip`` may not be dialled; None if it may. ``private`` also lets loopback and private networks pass, never
    a metadata service, link-local, multicast, reserved or wrapped addresses."""
    if "%" in ip:
        return "has a zone"
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an address"
    if address.compressed in _METADATA:
        return "metadata service"
    if isinstance(address, IPv4Address):
        fault = next((what for network, what in _V4_RANGES if address in network), None)
        if fault is None and not address.is_global:
            fault = "reserved"
    else:
        fault = _v6_fault(address, private=private)
    return None if private and fault in _CONFIGURABLE else fault


def _v6_fault(address: IPv6Address, *, private: bool) -> str | None:
    if address in _NAT64:
        inner = address_fault(str(IPv4Address(int(address) & 0xFFFF_FFFF)), private=private)
        return f"NAT64 of {inner}" if inner else None
    plain = next((what for network, what in _V6_RANGES[:2] if address in network), None)
    if plain:  # :: and ::1 are in ::/96 as well
        return plain
    for network, what in _EMBEDDING:
        if address in network:
            inner = address_fault(str(_embedded(address, what)))
            return f"{what} of {inner}" if inner else what
    fault = next((what for network, what in _V6_RANGES if address in network), None)
    if fault is None and (address not in _GLOBAL_UNICAST or not address.is_global):
        return "reserved"
    return fault


def _embedded(address: IPv6Address, what: str) -> IPv4Address:
    if what == "6to4":
        return IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    low = int(address) & 0xFFFF_FFFF
    return IPv4Address(low ^ 0xFFFF_FFFF if what == "Teredo" else low)


def is_literal(host: str) -> bool:
    """Whether ``host`` is an address in its only spelling."""
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return False


def host_fault(host: str) -> str | None:
    """Why ``host`` is not one plain DNS name in its only spelling (lower-case ASCII, no trailing dot); None if it is.

    An address in any notation that some resolver takes (``127.1``, ``0x7f.1``, ``2130706433``, ``[::1]``) is none.
    """
    if not host:
        return "empty"
    if not host.isascii():
        return "not ASCII"
    if len(host) > _MAX_HOST_CHARS:
        return "too long"
    if ":" in host or "[" in host or "%" in host:
        return "an IP address, a port or an encoding"
    if host != host.lower():
        return "not lower case"
    if host.endswith("."):
        return "ends in a dot"
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return "not a host name"
    if _NUMBER.fullmatch(labels[-1]):  # WHATWG URL, "ends in a number": what resolvers read as an IPv4 address
        return "an IP address"
    if not all(_settled(label) for label in labels):
        return "a label in an encoding that stands for another name"
    return None


def _settled(label: str) -> bool:
    """Whether a label reads as itself: no ``??--`` but IDNA's, and that decodes to letters that IDNA would keep."""
    if label[2:4] != "--":
        return True
    if not label.startswith("xn--"):
        return False
    try:
        text = label[4:].encode("ascii").decode("punycode")
        again = text.encode("punycode").decode("ascii")
    except (UnicodeError, ValueError):
        return False
    return again == label[4:] and not text.isascii() and unicodedata.normalize("NFKC", text).casefold() == text


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
