"""Leak probes of a fence around a user: a child with that user's uid tries to get out. Forks; opens sockets.

Addresses are those of documentation (RFC 5737, RFC 3849), which nobody has: what is not refused at once was let go.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
from dataclasses import dataclass
from typing import Literal

from ..cage import kernel

_V4, _V6 = "192.0.2.1", "2001:db8::1"
_WAIT_S = 1.0
_NO_ROUTE = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_NO_RULE = {errno.ETIMEDOUT, errno.EINPROGRESS, errno.EAGAIN}

type Outcome = Literal["to the gateway", "refused", "no route", "let go"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way out. ``expected``: it comes to the gateway's listener, which may be down."""

    name: str
    kind: socket.SocketKind
    host: str
    port: int
    expected: bool = False


ATTEMPTS = tuple(
    Attempt(f"{what} {version}", kind, host, port, port in (80, 443) and kind is socket.SOCK_STREAM)
    for version, host in (("IPv4", _V4), ("IPv6", _V6))
    for what, kind, port in (
        ("https", socket.SOCK_STREAM, 443),
        ("http", socket.SOCK_STREAM, 80),
        ("ssh", socket.SOCK_STREAM, 22),
        ("DNS over TLS", socket.SOCK_STREAM, 853),
        ("DNS over TCP", socket.SOCK_STREAM, 53),
        ("QUIC", socket.SOCK_DGRAM, 443),
        ("DNS", socket.SOCK_DGRAM, 53),
        ("any UDP", socket.SOCK_DGRAM, 4242),
    )
)


def attempts_of(uid: int, *, dns: bool) -> dict[str, Outcome]:
    """What became of each attempt, by its name. ``dns``: names are answered on this host, so port 53 is no way out."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(uid, uid, uid)
            kernel.die_with_parent(signal.SIGKILL)
            found = {each.name: _try(each) for each in ATTEMPTS if not (dns and each.port == 53)}
            os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = told.read()
    os.waitpid(child, 0)
    outcomes: dict[str, Outcome] = json.loads(answer or b"{}")
    return outcomes


def _try(attempt: Attempt) -> Outcome:
    family = socket.AF_INET6 if ":" in attempt.host else socket.AF_INET
    with socket.socket(family, attempt.kind) as sock:
        sock.settimeout(_WAIT_S)
        try:
            sock.connect((attempt.host, attempt.port))
            if attempt.kind is socket.SOCK_STREAM:
                return "to the gateway"
            sock.send(b"probe")
            sock.recv(1)
        except TimeoutError:
            return "let go"
        except OSError as err:
            if err.errno in _NO_ROUTE:
                return "no route"
            return "let go" if err.errno in _NO_RULE else "refused"
    return "let go"


def leaks(outcomes: dict[str, Outcome]) -> list[str]:
    """The names of the attempts that were let go, or reached somebody where nobody listens."""
    expected = {each.name for each in ATTEMPTS if each.expected}
    return [
        name
        for name, outcome in outcomes.items()
        if outcome == "let go" or (outcome == "to the gateway" and name not in expected)
    ]
