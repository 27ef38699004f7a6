"""By way of the machine: its services, its proxies, its other jobs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from .attempt import Try, attempt, must_one
from .direct import devices, interface_addresses, say_tcp, say_udp
from .names import question

_LOOPBACKS = ("127.0.0.1", "127.0.0.53", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1")


def machine(it: Try) -> list[str]:
    """Every address that could be the machine's: told, next hops, first addresses of our links, well-known ones."""
    found = [*it.to.host4, *it.to.host6]
    with suppress(OSError), open("/proc/net/route") as table:
        found += [socket.inet_ntoa(struct.pack("=I", int(r.split()[2], 16))) for r in table.readlines()[1:]]
    for _, own in interface_addresses():
        found.append(own.rsplit(".", 1)[0] + ".1")
    found += ["198.18.0.1", "fd63:6c61:7770::1", "172.17.0.1", "10.0.2.2", "192.168.127.1"]
    for name in ("host.docker.internal", "host.containers.internal", "gateway.docker.internal"):
        with suppress(OSError):
            found.append(str(socket.getaddrinfo(name, 1)[0][4][0]))
    return [address for address in dict.fromkeys(found) if address not in ("0.0.0.0", "127.0.0.1")]


@attempt("host service, tcp", "a service on each of the machine's addresses")
def _service(it: Try) -> None:
    must_one(partial(say_tcp, address, it.to.service_port, it.mark) for address in machine(it))


@attempt("host service, udp", "the same by UDP")
def _service_udp(it: Try) -> None:
    must_one(partial(say_udp, address, it.to.service_port, it.mark) for address in machine(it))


@attempt("host loopback, tcp", "a service on the machine's loopback")
def _loopback(it: Try) -> None:
    must_one(partial(say_tcp, address, it.to.loopback_port, it.mark) for address in (*_LOOPBACKS, *machine(it)))


@attempt("host loopback, udp", "the same by UDP")
def _loopback_udp(it: Try) -> None:
    must_one(partial(say_udp, a, it.to.loopback_port, it.mark) for a in ("127.0.0.1", "127.0.0.53", "::1"))


@attempt("host dns", "the machine's own resolver, on each of its addresses")
def _host_dns(it: Try) -> None:
    asked = question(f"{it.nonce}.tunnel.example")
    must_one(partial(say_udp, address, 53, asked) for address in ("127.0.0.53", "127.0.0.1", *machine(it)))


def _connect(address: str, port: int, it: Try) -> None:
    with socket.create_connection((address, port), timeout=1.5) as sock:
        sock.sendall(f"CONNECT {it.to.public4}:443 HTTP/1.1\r\nhost: {it.to.public4}:443\r\n\r\n".encode())
        sock.settimeout(1)
        if b"200" in sock.recv(4096):
            sock.sendall(it.mark)
            with suppress(TimeoutError):
                sock.recv(100)


def _absolute(address: str, port: int, it: Try) -> None:
    text = f"GET http://{it.to.public4}/{it.nonce} HTTP/1.1\r\nhost: {it.to.public4}\r\n\r\n"
    say_tcp(address, port, text.encode())


def _socks5(address: str, port: int, it: Try) -> None:
    with socket.create_connection((address, port), timeout=1.5) as sock:
        sock.settimeout(1)
        sock.sendall(b"\x05\x01\x00")
        if sock.recv(2) == b"\x05\x00":
            sock.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(it.to.public4) + struct.pack("!H", 443))
            sock.recv(10)
            sock.sendall(it.mark)
            with suppress(TimeoutError):
                sock.recv(100)


@attempt("proxy: connect", "HTTP proxies of the machine and the network, CONNECT")
def _proxy_connect(it: Try) -> None:
    must_one(partial(_connect, a, p, it) for a in ("127.0.0.1", *machine(it)) for p in (3128, 8080, 8118))


@attempt("proxy: absolute form", "HTTP proxies, an absolute URL")
def _proxy_absolute(it: Try) -> None:
    must_one(partial(_absolute, a, p, it) for a in ("127.0.0.1", *machine(it)) for p in (3128, 8080, 8118))


@attempt("proxy: socks", "a SOCKS 5 proxy of the machine")
def _proxy_socks(it: Try) -> None:
    must_one(partial(_socks5, a, p, it) for a in ("127.0.0.1", *machine(it)) for p in (1080, 9050))


def _open_ports(address: str, ports: range) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(0.2)
            if sock.connect_ex((address, port)) == 0:
                yield port


@attempt(
    "every port of the neighbour",
    "whatever listens on the next hop's addresses gets the data, as it is and as a proxy's",
)
def _scan(it: Try) -> None:
    hops = [a for a in machine(it) if a in ("198.18.0.1", "fd63:6c61:7770::1", it.to.host4[0])]
    reached = 0
    for hop in hops:
        for port in _open_ports(hop, range(1, 12_000)):
            reached += 1
            for say in (_absolute, _socks5):
                with suppress(OSError):
                    say(hop, port, it)
            with suppress(OSError):
                say_tcp(hop, port, it.mark)
    if not reached:
        raise OSError("no port is open")


@attempt("another job, its address", "a listener of another job's")
def _other(it: Try) -> None:
    must_one(partial(say_tcp, address, it.to.other_port, it.mark) for address in (it.to.other4, it.to.other6))


@attempt("another job, by udp", "the same by UDP")
def _other_udp(it: Try) -> None:
    must_one(partial(say_udp, address, it.to.other_port, it.mark) for address in (it.to.other4, it.to.other6))


@attempt("another job, the same addresses", "all jobs have the same address: one's own, its siblings, the whole prefix")
def _same(it: Try) -> None:
    four = (f"198.18.0.{last}" for last in (2, 3, 1, 5, 6, 9, 10, 13, 14))
    six = (f"fd63:6c61:7770::{last}" for last in (2, 3, 1, 4, 5))
    must_one(partial(say_tcp, address, it.to.other_port, it.mark) for address in (*four, *six))


@attempt("link-local neighbours", "every neighbour by its link-local address, on the ports of the machine's services")
def _neighbours6(it: Try) -> None:
    found: list[str] = []
    for device in devices():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(b"", ("ff02::1", 9, 0, socket.if_nametoindex(device)))
        macs = [_mac(device, flip) for flip in (0, 1)]
        found += [f"fe80::1%{device}", f"fe80::2%{device}", *(f"{mac}%{device}" for mac in macs if mac)]
    found += [f"{address}%{device}" for address in it.to.host6 if address.startswith("fe80") for device in devices()]
    ports = (it.to.service_port, 53, 3128)  # most addresses are nobody's, and say nothing
    must_one(partial(say_tcp, a, p, it.mark, patience_s=0.5) for a in found for p in ports)


def _mac(device: str, flip: int) -> str:
    """The link-local address that belongs to a device's link address, or to the one beside it."""
    with open(f"/sys/class/net/{device}/address") as file:
        mac = bytearray.fromhex(file.read().strip().replace(":", ""))
    if len(mac) != 6:
        return ""
    mac[0] ^= 2
    mac[5] ^= flip
    text = mac[:3].hex() + "fffe" + mac[3:].hex()
    return "fe80::" + ":".join(text[i : i + 4] for i in range(0, 16, 4))
