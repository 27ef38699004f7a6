"""Straight to an address: TCP and UDP, both versions, every kind of address."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt, must_one

_PATIENCE_S = 2.5
"""A first packet that is lost is sent again after a second."""
_TCP_FASTOPEN_NO_COOKIE = 34
_MPTCP = 262
_UDPLITE = 136
_IP_TRANSPARENT = 19
_IP_FREEBIND = 15
_IP_OPTIONS = 4
_SO_MARK = 36
_DSTOPTS = 59
_HOPOPTS = 54


def say_tcp(
    address: str, port: int, text: bytes, *, device: str = "", source: str = "", patience_s: float = _PATIENCE_S
) -> bytes:
    """Connect, send, and read what comes at once."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience_s)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            sock.bind((source, 0))
        sock.connect(socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)[0][4])
        sock.sendall(text)
        sock.settimeout(0.3)
        with suppress(OSError):
            return sock.recv(4096)
        return b""


def say_udp(address: str, port: int, text: bytes, *, device: str = "") -> None:
    """Send one datagram."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        base, _, link = address.partition("%")
        sock.sendto(text, (base, port, 0, socket.if_nametoindex(link)) if link else (address, port))


def devices() -> list[str]:
    """Every link but the loopback."""
    return [name for _, name in socket.if_nameindex() if name != "lo"]


def _tcp(name: str, address: str, port: int, about: str) -> None:
    def act(it: Try) -> None:
        say_tcp(address, port, b"hello " + it.mark)

    attempt(name, about)(act)


def _udp(name: str, address: str, port: int, about: str) -> None:
    def act(it: Try) -> None:
        say_udp(address, port, b"hello " + it.mark)

    attempt(name, about)(act)


for _name, _address, _port, _about in (
    ("tcp4 public", "93.184.215.14", 443, "a public address"),
    ("tcp4 public, any port", "93.184.215.14", 4444, "a port of no service"),
    ("tcp4 ssh", "140.82.121.3", 22, "SSH"),
    ("tcp4 smtp", "142.250.27.26", 25, "SMTP"),
    ("tcp4 private 10/8", "10.11.12.13", 443, "RFC 1918"),
    ("tcp4 private 172.16/12", "172.16.5.5", 443, "RFC 1918"),
    ("tcp4 private 192.168/16", "192.168.77.1", 443, "RFC 1918"),
    ("tcp4 shared 100.64/10", "100.64.9.9", 443, "carrier grade NAT"),
    ("tcp4 link-local", "169.254.7.7", 80, "link-local"),
    ("tcp4 metadata", "169.254.169.254", 80, "the metadata service of clouds"),
    ("tcp4 metadata, container", "169.254.170.2", 80, "the credentials of containers"),
    ("tcp4 reserved 240/4", "240.1.2.3", 443, "class E"),
    ("tcp4 benchmark", "198.19.200.1", 443, "198.18.0.0/15 outside the job's own"),
    ("tcp6 public", "2606:2800:21f:cb07::1", 443, "a public address"),
    ("tcp6 public, any port", "2606:2800:21f:cb07::1", 4444, "a port of no service"),
    ("tcp6 metadata", "fd00:ec2::254", 80, "the metadata service of clouds"),
    ("tcp6 local", "fd12:3456:789a::1", 443, "a unique local address"),
    ("tcp6 nat64", "64:ff9b::5db8:d70e", 443, "an IPv4 address behind NAT64"),
    ("tcp6 6to4", "2002:5db8:d70e::1", 443, "an IPv4 address behind 6to4"),
    ("tcp6 mapped", "::ffff:93.184.215.14", 443, "an IPv4 address through an IPv6 socket"),
    ("tcp6 teredo", "2001:0:53aa:64c::1", 443, "Teredo's prefix"),
):
    _tcp(_name, _address, _port, _about)

for _name, _address, _port, _about in (
    ("udp4 public", "93.184.215.14", 40000, "a public address"),
    ("udp4 ntp", "162.159.200.1", 123, "NTP"),
    ("udp4 private", "10.11.12.13", 161, "RFC 1918"),
    ("udp4 metadata", "169.254.169.254", 80, "the metadata service"),
    ("udp4 multicast", "239.1.2.3", 5000, "a multicast group"),
    ("udp4 mdns", "224.0.0.251", 5353, "the link's name service"),
    ("udp4 ssdp", "239.255.255.250", 1900, "the link's service discovery"),
    ("udp4 broadcast", "255.255.255.255", 67, "everyone on the link"),
    ("udp6 public", "2606:2800:21f:cb07::1", 40000, "a public address"),
    ("udp6 local", "fd12:3456:789a::1", 161, "a unique local address"),
    ("udp6 mapped", "::ffff:93.184.215.14", 40001, "an IPv4 address through an IPv6 socket"),
):
    _udp(_name, _address, _port, _about)


@attempt("udp6 multicast", "all nodes, all routers, mDNS and a global group, on every link")
def _link_multicast(it: Try) -> None:
    groups = ("ff02::1", "ff02::2", "ff02::fb", "ff05::2", "ff0e::4242")
    must_one(partial(say_udp, f"{group}%{device}", 5353, it.mark) for device in devices() for group in groups)


@attempt("tcp, data in the SYN", "TCP fast open without a cookie")
def _fast_open(it: Try) -> None:
    with socket.socket() as sock:
        sock.settimeout(_PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE, 1)
        sock.sendto(it.mark, socket.MSG_FASTOPEN, (it.to.public4, 443))


@attempt("mptcp", "multipath TCP")
def _multipath(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.connect((it.to.public4, 443))
        sock.sendall(it.mark)


@attempt("udp-lite", "a transport that rules for UDP do not name")
def _udp_lite(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, _UDPLITE) as sock:
        sock.sendto(it.mark, (it.to.public4, 443))


@attempt("bound to each device", "SO_BINDTODEVICE passes routing rules by")
def _to_devices(it: Try) -> None:
    must_one(partial(say_tcp, it.to.public4, 443, it.mark, device=device) for device in devices())


@attempt("marked", "SO_MARK, with every mark that proxies use for themselves", control=Control.ROOT)
def _marked(it: Try) -> None:
    for mark in (1, 2, 0x29A, 0x1337, 0x7FFFFFFF):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            sock.sendto(it.mark, (it.to.public4, 443))


@attempt(
    "another source address", "IP_FREEBIND and IP_TRANSPARENT, an address of somebody else's", control=Control.ROOT
)
def _other_source(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        sock.bind((it.to.other4, 0))
        sock.sendto(it.mark, (it.to.public4, 443))


@attempt("source routed", "loose source route through each neighbour", control=Control.ROOT)
def _source_routed(it: Try) -> None:
    via = ("198.18.0.1", it.to.host4[0], it.to.allowed4)

    def send(hop: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            route = b"\x83\x07\x04" + socket.inet_aton(hop) + b"\x01"
            sock.setsockopt(socket.IPPROTO_IP, _IP_OPTIONS, route)
            sock.sendto(it.mark, (it.to.public4, 443))

    must_one(partial(send, hop) for hop in via)


@attempt("udp6, destination options", "an extension header before the UDP header", control=Control.ROOT)
def _options6(it: Try) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        padding = b"\x00\x00\x01\x04\x00\x00\x00\x00"
        sock.setsockopt(socket.IPPROTO_IPV6, _DSTOPTS, padding)
        sock.setsockopt(socket.IPPROTO_IPV6, _HOPOPTS, padding)
        sock.sendto(it.mark, (it.to.public6, 443))


@attempt("large datagrams", "more than the link carries, in fragments of the kernel's making")
def _large(it: Try) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: may be cut into fragments
        sock.sendto(it.mark * 500, (it.to.public4, 443))


@attempt("every port", "a public address on each of 2,000 ports")
def _every_port(it: Try) -> None:
    said = 0
    for port in (*range(1, 1025), *range(7900, 8800), 9418, 11434, 51820):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(it.mark, (it.to.public4, port))
            said += 1
    if not said:
        raise OSError("every port was refused")


@attempt("quic 4", "a QUIC initial packet")
def _quic4(it: Try) -> None:
    say_udp(it.to.public4, 443, _initial(it))


@attempt("quic 6", "a QUIC initial packet")
def _quic6(it: Try) -> None:
    say_udp(it.to.public6, 443, _initial(it))


def _initial(it: Try) -> bytes:
    """A long header, version 1, the nonce as connection id, padded to the least size."""
    head = b"\xc3\x00\x00\x00\x01" + bytes([len(it.mark)]) + it.mark + b"\x00\x00\x44\x9e" + os.urandom(4)
    return head.ljust(1200, b"\x00")


@attempt("io_uring", "connect and send by the ring, which filters of system calls do not see")
def _ring(it: Try) -> None:
    with socket.socket() as sock:
        sock.settimeout(_PATIENCE_S)
        ring = _Ring()
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(443), socket.inet_aton(it.to.public4))
        ring.submit(opcode=16, fd=sock.fileno(), buffer=address, offset=len(address), length=0)
        ring.submit(opcode=26, fd=sock.fileno(), buffer=it.mark, offset=0, length=len(it.mark))


class _Ring:
    """As much of io_uring as two operations take: one submission at a time, waited for."""

    _SETUP, _ENTER = 425, 426

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        params = (ctypes.c_uint32 * 30)()
        self.fd = self._libc.syscall(self._SETUP, 4, params)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        self._sq_tail, self._sq_array, self._sq_mask = params[11], params[16], params[12]
        self._libc.mmap.restype = ctypes.c_void_p
        size = params[16] + params[0] * 4
        self._sq = self._map(size, 0)
        self._sqes = self._map(params[0] * 64, 0x10000000)

    def _map(self, size: int, offset: int) -> int:
        where = self._libc.mmap(None, ctypes.c_size_t(size), 3, 0x8001, self.fd, ctypes.c_long(offset))
        if where in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap of a ring")
        return int(where)

    def submit(self, *, opcode: int, fd: int, buffer: bytes, offset: int, length: int) -> None:
        kept = ctypes.create_string_buffer(buffer, len(buffer))
        tail = ctypes.c_uint32.from_address(self._sq + self._sq_tail)
        index = tail.value & ctypes.c_uint32.from_address(self._sq + self._sq_mask).value
        entry = struct.pack("=BBHiQQII", opcode, 0, 0, fd, offset, ctypes.addressof(kept), length, 0).ljust(64, b"\0")
        ctypes.memmove(self._sqes + 64 * index, entry, 64)
        ctypes.c_uint32.from_address(self._sq + self._sq_array + 4 * index).value = index
        tail.value += 1
        if self._libc.syscall(self._ENTER, self.fd, 1, 1, 1, None, 0) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_enter")


@attempt(
    "route through each neighbour", "every address that the link's neighbours table and /proc/net name, as a proxy"
)
def _through_neighbours(it: Try) -> None:
    hops: list[str] = []
    with open("/proc/net/arp") as table:
        hops += [line.split()[0] for line in table.readlines()[1:]]
    with open("/proc/net/route") as table:
        for line in table.readlines()[1:]:
            hops.append(socket.inet_ntoa(struct.pack("=I", int(line.split()[2], 16))))
    known = [hop for hop in dict.fromkeys(hops) if hop != "0.0.0.0"]
    text = f"CONNECT {it.to.public4}:443 HTTP/1.1\r\n\r\n{it.nonce}".encode()
    must_one(partial(say_tcp, hop, port, text) for hop in known for port in (3128, 8080, 80, 443, 1080))


def interface_addresses() -> Iterator[tuple[str, str]]:
    """Each link and its IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                yield name, socket.inet_ntoa(fcntl.ioctl(sock.fileno(), 0x8915, asked)[20:24])
