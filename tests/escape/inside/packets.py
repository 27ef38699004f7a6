"""Packets that no ordinary socket sends: ICMP, other transports, raw IP, frames."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt, must_one
from .direct import devices, interface_addresses

ETH_P_IP, ETH_P_IPV6, ETH_P_ARP = 0x0800, 0x86DD, 0x0806
_IP_HDRINCL = 3
_IPV6_RAW = 255
_BROADCAST = b"\xff" * 6


def checksum(text: bytes) -> int:
    """RFC 1071."""
    text += b"\0" * (len(text) % 2)
    total: int = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(source: str, to: str, protocol: int, payload: bytes, *, offset: int = 0, ident: int = 0) -> bytes:
    """An IPv4 packet; ``offset`` is the field as it stands, flags and all."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, offset, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(source: str, to: str, following: int, payload: bytes) -> bytes:
    """An IPv6 packet."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + addresses + payload


def udp(payload: bytes, port: int = 443) -> bytes:
    """A UDP header without a checksum, which IPv4 allows."""
    return struct.pack("!HHHH", 40_000, port, 8 + len(payload), 0) + payload


def syn(payload: bytes, port: int = 443) -> bytes:
    """A TCP SYN that carries bytes."""
    return struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, 0x50, 2, 65_535, 0, 0) + payload


def own4() -> str:
    """An address of ours that is not the loopback's."""
    return next((address for name, address in interface_addresses() if name != "lo"), "198.18.0.2")


def own6() -> str:
    """A routable IPv6 address of ours."""
    with open("/proc/net/if_inet6") as table:
        for line in table:
            digits, _index, _length, scope, _flags, name = line.split()
            if name != "lo" and scope == "00":
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    return "fd63:6c61:7770::2"


def send4(packet: bytes, to: str) -> None:
    """By a raw socket, the header ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_HDRINCL, 1)
        sock.sendto(packet, (to, 0))


def send6(packet: bytes, to: str) -> None:
    """The same for IPv6."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, _IPV6_RAW) as sock:
        sock.sendto(packet, (to, 0))


def peers(device: str) -> list[bytes]:
    """Link addresses to try on a device: those in the neighbours table, and everyone's."""
    found: list[bytes] = []
    with suppress(OSError), open("/proc/net/arp") as table:
        for line in table.readlines()[1:]:
            row = line.split()
            if row[5] == device:
                found.append(bytes.fromhex(row[3].replace(":", "")))
    return [mac for mac in dict.fromkeys(found) if any(mac)] + [_BROADCAST]


def send_frames(kind: int, payload: bytes, *, to: bytes = b"") -> None:
    """A frame on every link, to every neighbour that is known."""

    def one(device: str, mac: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind((device, 0))
            own = sock.getsockname()[4]
            sock.send(mac + own + struct.pack("!H", kind) + payload)

    must_one(partial(one, device, mac) for device in devices() for mac in ([to] if to else peers(device)))


def wake_neighbours(it: Try) -> None:
    """Have the kernel learn the link address of the next hop."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.sendto(b"", (it.to.public4, 9))


def _echo(kind: int, it: Try) -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + it.mark
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


@attempt("icmp echo, raw", "ping by a raw socket", control=Control.ROOT)
def _icmp_raw(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(_echo(8, it), (it.to.public4, 0))


@attempt("icmp echo", "ping by the kernel's ping sockets")
def _icmp(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
        sock.sendto(_echo(8, it), (it.to.public4, 0))


@attempt("icmp6 echo, raw", "ping by a raw socket", control=Control.ROOT)
def _icmp6_raw(it: Try) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.sendto(_echo(128, it), (it.to.public6, 0))


@attempt("icmp6 echo", "ping by the kernel's ping sockets")
def _icmp6(it: Try) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6) as sock:
        sock.sendto(_echo(128, it), (it.to.public6, 0))


@attempt("icmp timestamp", "a kind of ICMP that firewalls forget", control=Control.ROOT)
def _timestamp(it: Try) -> None:
    send4(ip4(own4(), it.to.public4, 1, _echo(13, it)), it.to.public4)


@attempt("icmp error", "an unreachable that quotes the data", control=Control.ROOT)
def _unreachable(it: Try) -> None:
    quoted = ip4(it.to.public4, own4(), 17, udp(it.mark))
    body = struct.pack("!BBHI", 3, 1, 0, 0) + quoted
    send4(ip4(own4(), it.to.public4, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:]), it.to.public4)


@attempt("router advertisement", "a router of our own making for the neighbours, then a datagram", control=Control.ROOT)
def _advertise(it: Try) -> None:
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    body += struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:5::"))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        for device in devices():
            with suppress(OSError):
                sock.sendto(body, ("ff02::1", 0, 0, socket.if_nametoindex(device)))
    send6(ip6(own6(), it.to.public6, 17, _udp6(own6(), it.to.public6, it.mark)), it.to.public6)


def _udp6(source: str, to: str, payload: bytes) -> bytes:
    text = udp(payload)
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    total = checksum(pseudo + struct.pack("!IxxxB", len(text), 17) + text)
    return text[:6] + struct.pack("!H", total) + text[8:]


def _other_transport(name: str, protocol: int, about: str, wrap: Callable[[Try], bytes]) -> None:
    def act(it: Try) -> None:
        send4(ip4(own4(), it.to.public4, protocol, wrap(it)), it.to.public4)

    attempt(name, about, control=Control.ROOT)(act)


for _name, _protocol, _about, _wrap in (
    ("igmp", 2, "a group report with data", lambda it: b"\x16\0\0\0\xe0\0\0\x09" + it.mark),
    ("ip in ip", 4, "IPv4 in IPv4", lambda it: ip4("10.1.1.1", it.to.public4, 17, udp(it.mark))),
    ("dccp", 33, "a transport few rules name", lambda it: b"\x9c\x40\x01\xbb" + bytes(12) + it.mark),
    ("6in4", 41, "IPv6 in IPv4", lambda it: ip6("2001:db8::1", it.to.public6, 17, udp(it.mark))),
    ("gre", 47, "a GRE tunnel", lambda it: b"\0\0\x08\0" + ip4("10.1.1.1", it.to.public4, 17, udp(it.mark))),
    ("esp", 50, "an IPsec packet", lambda it: b"\0\0\0\x01\0\0\0\x01" + it.mark),
    ("pim", 103, "a multicast router's packet", lambda it: b"\x20\0\0\0" + it.mark),
    ("vrrp", 112, "a router's packet", lambda it: b"\x31\x01\x64\x01" + it.mark),
    ("l2tp", 115, "an L2TP packet", lambda it: b"\0\0\0\x2a" + it.mark),
    ("sctp", 132, "an SCTP packet", lambda it: b"\x9c\x40\x01\xbb" + bytes(8) + b"\0\0\0\x14" + it.mark),
    ("ip protocol 253", 253, "a number for experiments", lambda it: it.mark),
):
    _other_transport(_name, _protocol, _about, _wrap)


@attempt("raw udp", "a datagram whose header is ours", control=Control.ROOT)
def _raw_udp(it: Try) -> None:
    send4(ip4(own4(), it.to.public4, 17, udp(it.mark)), it.to.public4)


@attempt("raw tcp", "a SYN with data, from a raw socket", control=Control.ROOT)
def _raw_tcp(it: Try) -> None:
    send4(ip4(own4(), it.to.public4, 6, syn(it.mark)), it.to.public4)


@attempt(
    "spoofed source",
    "datagrams from addresses of the host, another job, the neighbour, the world",
    control=Control.ROOT,
)
def _spoofed(it: Try) -> None:
    sources = (it.to.host4[-1], it.to.other4, "198.18.0.1", "127.0.0.1", it.to.allowed4, "0.0.0.0")
    must_one(partial(send4, ip4(s, it.to.public4, 17, udp(it.mark)), it.to.public4) for s in sources)


@attempt(
    "spoofed answer",
    "a datagram that looks like the answer of a resolver, and a TCP ACK of nobody's",
    control=Control.ROOT,
)
def _answers(it: Try) -> None:
    text = struct.pack("!HHHH", 53, 40_000, 8 + len(it.mark), 0) + it.mark
    send4(ip4(own4(), it.to.public4, 17, text), it.to.public4)
    ack = struct.pack("!HHIIBBHHH", 443, 40_000, 7, 7, 0x50, 0x18, 65_535, 0, 0) + it.mark
    send4(ip4(own4(), it.to.public4, 6, ack), it.to.public4)


@attempt("fragments", "the second fragment carries the data, and no port to judge by", control=Control.ROOT)
def _fragments(it: Try) -> None:
    text = udp(b"x" * 16 + it.mark)
    for offset, part in ((0x2000, text[:24]), (3, text[24:])):
        send4(ip4(own4(), it.to.public4, 17, part, offset=offset, ident=4242), it.to.public4)


@attempt("tiny fragments", "the header of TCP itself is cut in two", control=Control.ROOT)
def _tiny(it: Try) -> None:
    text = syn(it.mark)
    for offset, part in ((0x2000, text[:8]), (1, text[8:])):
        send4(ip4(own4(), it.to.public4, 6, part, offset=offset, ident=4243), it.to.public4)


@attempt(
    "fragments to an allowed address", "the first fragment is for the allowed address's port", control=Control.ROOT
)
def _fragments_allowed(it: Try) -> None:
    to = socket.getaddrinfo(it.to.allowed, 443, socket.AF_INET)[0][4][0]
    assert isinstance(to, str)
    text = udp(b"x" * 16 + it.mark)
    for offset, part in ((0x2000, text[:24]), (3, text[24:])):
        send4(ip4(own4(), to, 17, part, offset=offset, ident=4244), to)


@attempt("ip6 fragment header", "a fragment that is whole", control=Control.ROOT)
def _atomic(it: Try) -> None:
    inner = b"\x11\0\0\0" + struct.pack("!I", 77) + _udp6(own6(), it.to.public6, it.mark)
    send6(ip6(own6(), it.to.public6, 44, inner), it.to.public6)


@attempt("ip6 routing header", "by way of the neighbour", control=Control.ROOT)
def _routing(it: Try) -> None:
    for kind in (0, 2, 3, 4):
        hop = socket.inet_pton(socket.AF_INET6, it.to.public6)
        inner = struct.pack("!BBBBI", 17, 2, kind, 0, 0) + hop + _udp6(own6(), it.to.public6, it.mark)
        with suppress(OSError):
            send6(ip6(own6(), it.to.public6, 43, inner), it.to.public6)


@attempt("ip6 many headers", "a chain of options longer than filters read", control=Control.ROOT)
def _chain(it: Try) -> None:
    options = b"\x3c\x00\x01\x04\0\0\0\0" * 10 + b"\x11\x00\x01\x04\0\0\0\0"
    send6(ip6(own6(), it.to.public6, 60, options + _udp6(own6(), it.to.public6, it.mark)), it.to.public6)


@attempt("ip6 no next header", "data behind the last header", control=Control.ROOT)
def _none(it: Try) -> None:
    send6(ip6(own6(), it.to.public6, 59, it.mark), it.to.public6)


@attempt("frame: ip", "a packet socket passes the job's own firewall and routes by", control=Control.ROOT)
def _frame4(it: Try) -> None:
    wake_neighbours(it)
    send_frames(ETH_P_IP, ip4(own4(), it.to.public4, 17, udp(it.mark)))


@attempt("frame: ip6", "the same for IPv6", control=Control.ROOT)
def _frame6(it: Try) -> None:
    wake_neighbours(it)
    send_frames(ETH_P_IPV6, ip6(own6(), it.to.public6, 17, _udp6(own6(), it.to.public6, it.mark)))


@attempt("frame: cooked", "a packet socket of the datagram kind", control=Control.ROOT)
def _cooked(it: Try) -> None:
    def one(device: str, mac: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
            sock.sendto(ip4(own4(), it.to.public4, 17, udp(it.mark)), (device, ETH_P_IP, 0, 0, mac))

    wake_neighbours(it)
    must_one(partial(one, device, mac) for device in devices() for mac in peers(device))


@attempt("frame: unknown type", "a frame of no protocol, to everyone", control=Control.ROOT)
def _frame_unknown(it: Try) -> None:
    send_frames(0x88B5, it.mark, to=_BROADCAST)


@attempt("frame: arp", "an ARP packet with data behind it", control=Control.ROOT)
def _frame_arp(it: Try) -> None:
    body = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1) + os.urandom(6) + socket.inet_aton(own4())
    send_frames(ETH_P_ARP, body + bytes(6) + socket.inet_aton(it.to.public4) + it.mark, to=_BROADCAST)


@attempt("frame: vlan", "an IP packet behind a VLAN tag", control=Control.ROOT)
def _frame_vlan(it: Try) -> None:
    packet = ip4(own4(), it.to.public4, 17, udp(it.mark))
    send_frames(0x8100, struct.pack("!HH", 42, ETH_P_IP) + packet, to=_BROADCAST)


@attempt("frame: lldp", "a frame for the nearest bridge", control=Control.ROOT)
def _frame_lldp(it: Try) -> None:
    send_frames(0x88CC, b"\x02\x11\x07" + it.mark, to=bytes.fromhex("0180c200000e"))


@attempt("frame: stp", "a frame without a type", control=Control.ROOT)
def _frame_stp(it: Try) -> None:
    send_frames(3 + len(it.mark), b"\x42\x42\x03" + it.mark, to=bytes.fromhex("0180c2000000"))


@attempt("frame: for the host's loopback", "a packet for 127.0.0.1 over the link", control=Control.NO_ROUTE)
def _frame_loopback(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        own = own4().rsplit(".", 1)[0]
        sock.sendto(b"", (f"{own}.1", 9))
    send_frames(ETH_P_IP, ip4(own4(), "127.0.0.1", 17, udp(it.mark, it.to.loopback_port)))


@attempt(
    "frame: for other addresses of the neighbour", "the host's own addresses over the link", control=Control.NO_ROUTE
)
def _frame_host(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        own = own4().rsplit(".", 1)[0]
        sock.sendto(b"", (f"{own}.1", 9))
    for address in it.to.host4:
        send_frames(ETH_P_IP, ip4(own4(), address, 17, udp(it.mark, it.to.service_port)))
