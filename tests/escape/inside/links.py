"""Root in the job's network namespace rebuilds it: links, addresses, routes, rules, its own firewall."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt, must_one
from .direct import devices, interface_addresses, say_tcp, say_udp
from .packets import ETH_P_IP, ip4, own4, udp

_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH, _NEWRULE = 16, 20, 24, 28, 32
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 1, 4, 0x200, 0x400, 0x100
_IFF_UP = 1


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of netlink, padded."""
    text = struct.pack("=HH", 4 + len(value), kind) + value
    return text + b"\0" * (-len(text) % 4)


def ask(kind: int, body: bytes, flags: int = 0, protocol: int = 0) -> None:
    """Send one request and wait for the kernel's word."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        sock.settimeout(1)
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = sock.recv(65_536)
    kind_back = struct.unpack_from("=IH", answer)[1]
    if kind_back == 2 and (code := struct.unpack_from("=i", answer, 16)[0]):
        raise OSError(-code, os.strerror(-code))


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def up(name: str) -> None:
    """Put a link up."""
    ask(_NEWLINK, _link(socket.if_nametoindex(name), _IFF_UP))


def address4(name: str, address: str, bits: int) -> None:
    """Give a link an address."""
    raw = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, bits, 0, 0, socket.if_nametoindex(name))
    ask(_NEWADDR, body + attribute(1, raw) + attribute(2, raw), _CREATE)


def route4(device: str, via: str | None, *, table: int = 254) -> None:
    """A default route, by a gateway or straight onto the link."""
    scope = 0 if via else 253
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, table, 4, scope, 1, 4 if via else 0)
    body += attribute(4, struct.pack("=i", socket.if_nametoindex(device)))
    if via:
        body += attribute(5, socket.inet_aton(via))
    ask(_NEWROUTE, body, _CREATE | _REPLACE)


def neighbour4(device: str, address: str, mac: bytes) -> None:
    """A neighbour that is told, not asked for."""
    body = struct.pack("=BxHiHBB", socket.AF_INET, 0, socket.if_nametoindex(device), 0x80, 0, 0)
    ask(_NEWNEIGH, body + attribute(1, socket.inet_aton(address)) + attribute(2, mac), _CREATE | _REPLACE)


def hops() -> list[tuple[str, str]]:
    """Each link and the first address of its network, other than our own."""
    return [(name, own.rsplit(".", 1)[0] + ".1") for name, own in interface_addresses() if name != "lo"]


def _speak(it: Try) -> None:
    say_udp(it.to.public4, 443, it.mark)
    with suppress(OSError):
        say_tcp(it.to.public4, 443, it.mark)


@attempt("add a default route", "by the neighbour", control=Control.NO_ROUTE, alone=True)
def _add_route(it: Try) -> None:
    must_one(partial(route4, device, hop) for device, hop in hops())
    _speak(it)


@attempt(
    "add a route onto the link",
    "everything is a neighbour, whose link address we tell",
    control=Control.NO_ROUTE,
    alone=True,
)
def _on_link(it: Try) -> None:
    for device, hop in hops():
        with suppress(OSError):
            say_udp(hop, 9, b"")
        mac = next((m for d, m in _neighbours() if d == device), b"\xff" * 6)
        with suppress(OSError):
            route4(device, None)
            neighbour4(device, it.to.public4, mac)
    _speak(it)


def _neighbours() -> list[tuple[str, bytes]]:
    with open("/proc/net/arp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [(row[5], bytes.fromhex(row[3].replace(":", ""))) for row in rows]


@attempt("policy routing", "a rule and a table of one's own", control=Control.NO_ROUTE, alone=True)
def _rule(it: Try) -> None:
    must_one(partial(route4, device, hop, table=100) for device, hop in hops())
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 100, 0, 0, 1, 0)
    ask(_NEWRULE, body + attribute(6, struct.pack("=I", 1)), _CREATE)
    _speak(it)


@attempt("ip6 default route", "by each link-local neighbour", control=Control.NO_ROUTE, alone=True)
def _route6(it: Try) -> None:
    for device in devices():
        for hop in ("fe80::1", "fd63:6c61:7770::1", "fd99::1"):
            body = struct.pack("=BBBBBBBBI", socket.AF_INET6, 0, 0, 0, 254, 4, 0, 1, 0)
            body += attribute(4, struct.pack("=i", socket.if_nametoindex(device)))
            body += attribute(5, socket.inet_pton(socket.AF_INET6, hop))
            with suppress(OSError):
                ask(_NEWROUTE, body, _CREATE | _EXCL)
    say_udp(it.to.public6, 443, it.mark)


@attempt("take another address", "the neighbour's, a sibling's, the host's", control=Control.ONE_SOURCE, alone=True)
def _address(it: Try) -> None:
    for device, own in [(n, a) for n, a in interface_addresses() if n != "lo"]:
        base, last = own.rsplit(".", 1)
        for other in (f"{base}.{int(last) + 1}", f"{base}.1", it.to.host4[0]):
            with suppress(OSError):
                address4(device, other, 24)
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((other, 0))
                sock.sendto(it.mark, (it.to.public4, 443))


@attempt("flush the firewall", "every table of one's own namespace is deleted", control=Control.FILTERED, alone=True)
def _flush(it: Try) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        sock.bind((0, 0))
        sock.settimeout(1)
        generic = struct.pack("=BBH", 0, 0, socket.htons(10))
        parts = ((0x10, 0, generic), (10 << 8 | 2, 0, struct.pack("=BBH", 0, 0, 0)), (0x11, 0, generic))
        text = b"".join(
            struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, number, 0) + body
            for number, (kind, flags, body) in enumerate(parts, 1)
        )
        sock.send(text)
        with suppress(TimeoutError):
            sock.settimeout(0.2)
            sock.recv(4096)
    _speak(it)


@attempt(
    "settings of the namespace",
    "forwarding, martians, redirects, router advertisements on",
    control=Control.FILTERED,
    alone=True,
)
def _settings(it: Try) -> None:
    """In the control the firewall is what holds, and frames by a packet socket pass it with any setting."""
    for device in ("all", *devices()):
        for path, value in (
            (f"ipv4/conf/{device}/route_localnet", "1"),
            (f"ipv4/conf/{device}/accept_redirects", "1"),
            (f"ipv4/conf/{device}/accept_source_route", "1"),
            (f"ipv4/conf/{device}/rp_filter", "0"),
            (f"ipv4/conf/{device}/forwarding", "1"),
            (f"ipv6/conf/{device}/accept_ra", "2"),
            (f"ipv6/conf/{device}/forwarding", "1"),
        ):
            with suppress(OSError), open(f"/proc/sys/net/{path}", "w") as file:
                file.write(value)
    with suppress(OSError):
        say_udp(it.to.public4, 443, it.mark)
    _raw(devices(), it)


def _raw(names: list[str], it: Try) -> None:
    """A packet as a frame on each link, to whom the neighbours table names, and to everyone."""
    macs = [mac for _, mac in _neighbours() if any(mac)] + [b"\xff" * 6]
    sent = 0
    for name in names:
        for mac in macs:
            with suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
                sock.sendto(ip4(own4(), it.to.public4, 17, udp(it.mark)), (name, ETH_P_IP, 0, 0, mac))
                sent += 1
    if not sent:
        raise OSError("no frame left")


@attempt("mtu", "the smallest and the largest packets that a link takes", control=Control.NO_ROUTE, alone=True)
def _mtu(it: Try) -> None:
    for device, hop in hops():
        with suppress(OSError):
            route4(device, hop)
    for size in (68, 65_000, 1280):
        for device in devices():
            with suppress(OSError):
                ask(_NEWLINK, _link(socket.if_nametoindex(device)) + attribute(4, struct.pack("=I", size)))
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, 10, 0)
            sock.sendto(it.mark * 200, (it.to.public4, 443))


def _made(kind: str, name: str, details: bytes, below: str | None) -> None:
    info = attribute(18, attribute(1, kind.encode() + b"\0") + (attribute(2, details) if details else b""))
    extra = attribute(5, struct.pack("=I", socket.if_nametoindex(below))) if below else b""
    ask(_NEWLINK, _link() + attribute(3, name.encode() + b"\0") + extra + info, _CREATE | _EXCL)
    up(name)


@attempt("macvlan", "a second link address upon the link", control=Control.FILTERED, alone=True)
def _macvlan(it: Try) -> None:
    for number, device in enumerate(devices()):
        _made("macvlan", f"mv{number}", attribute(1, struct.pack("=I", 4)), device)
    with suppress(OSError):
        say_udp(it.to.public4, 443, it.mark)
    for _, hop in hops():
        with suppress(OSError):
            say_udp(hop, 9, b"")
    _raw(devices(), it)


@attempt("vlan", "a tagged link upon the link", control=Control.FILTERED, alone=True)
def _vlan(it: Try) -> None:
    for number, device in enumerate(devices()):
        with suppress(OSError):
            _made("vlan", f"vl{number}", attribute(1, struct.pack("=H", 42)), device)
    _raw(devices(), it)


@attempt("vxlan", "a tunnel link to the world", control=Control.NO_ROUTE, alone=True)
def _vxlan(it: Try) -> None:
    for device, hop in hops():
        with suppress(OSError):
            route4(device, hop)
    details = attribute(1, struct.pack("=I", 42)) + attribute(2, socket.inet_aton(it.to.public4))
    details += attribute(15, struct.pack("!H", 4789))
    _made("vxlan", "vx0", details, None)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("vx0", 0))
        sock.send(b"\xff" * 6 + b"\x02\0\0\0\0\x01" + struct.pack("!H", 0x88B5) + it.mark)


@attempt(
    "move the link",
    "one's own end goes into a namespace without rules, and speaks from there",
    control=Control.FILTERED,
    alone=True,
)
def _move(it: Try) -> None:
    links = [(name, own) for name, own in interface_addresses() if name != "lo"]
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.unshare(os.CLONE_NEWNET)
    fresh = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.setns(before, os.CLONE_NEWNET)
    for name, _ in links:
        ask(_NEWLINK, _link(socket.if_nametoindex(name)) + attribute(28, struct.pack("=I", fresh)))
    os.setns(fresh, os.CLONE_NEWNET)
    for name, own in links:
        with suppress(OSError):
            address4(name, own, 24)
            up(name)
            route4(name, own.rsplit(".", 1)[0] + ".1")
    _speak(it)


@attempt(
    "a link into the host",
    "one end of a new pair in the namespace of another process",
    control=Control.NO_ROUTE,
    alone=True,
)
def _pair(it: Try) -> None:
    """The witness is the host's list of links."""
    for pid in (1, it.to.host_init, os.getppid()):
        peer = _link() + attribute(3, f"p{it.nonce[:13]}\0".encode()) + attribute(19, struct.pack("=I", pid))
        info = attribute(18, attribute(1, b"veth\0") + attribute(2, attribute(1, peer)))
        with suppress(OSError):
            ask(_NEWLINK, _link() + attribute(3, f"q{it.nonce[:13]}\0".encode()) + info, _CREATE | _EXCL)


@attempt("rename the link", "names that the other side could use in rules", control=Control.NO_ROUTE, alone=True)
def _alias(it: Try) -> None:
    """A default route by a link with a new name and link address: rules by name or address no longer fit."""
    for number, device in enumerate(devices()):
        index = socket.if_nametoindex(device)
        with suppress(OSError):
            ask(_NEWLINK, _link(index) + attribute(1, b"\x02\0\0\0\0\x07"))
            ask(_NEWLINK, struct.pack("=BxHiII", 0, 0, index, 0, 1))
            ask(_NEWLINK, _link(index) + attribute(3, f"up{number}\0".encode()))
            up(f"up{number}")
    must_one(partial(route4, device, hop) for device, hop in hops())
    _speak(it)
