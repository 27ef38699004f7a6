"""Clients that do not trust the gateway's CA: who they may be, said seldom and counted. An addon.

A handshake that the client breaks off is no call, so nothing of it is recorded; without this a person sees only that
"nothing works".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from mitmproxy import connection, http, tls

from ..receipts.per_second import PerSecond
from . import client_hello
from .trust_hint import hint_for, looks_later

log = logging.getLogger("clawproxy.untrusting")

_MAX_COUNTED = 64
_MAX_SUITES = 256


class Untrusting:
    """Remembers what each client's hello offered until the handshake ends. Bounded by the connections there are."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._suites: dict[str, tuple[int, ...]] = {}
        self._warnings = PerSecond(1)
        self.seen: Counter[tuple[str, str]] = Counter()
        """Broken-off handshakes by host and what to do; further hosts are not told apart."""

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        self._suites[data.context.client.id] = tuple(data.client_hello.cipher_suites[:_MAX_SUITES])

    def tls_established_client(self, data: tls.TlsData) -> None:
        client = data.context.client
        if not looks_later(self._suites.get(client.id, ())):
            self._suites.pop(client.id, None)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self._suites.pop(flow.client_conn.id, None)

    def client_disconnected(self, client: connection.Client) -> None:
        """One that looks at the certificate after its handshake left without a request."""
        suites = self._suites.pop(client.id, None)
        if suites is not None and client.tls_established:
            self._count(client.sni, suites)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        suites = self._suites.pop(data.context.client.id, ())
        if data.conn.error != client_hello.REFUSED:
            self._count(data.conn.sni, suites)

    def _count(self, sni: str | None, suites: tuple[int, ...]) -> None:
        hint = hint_for(suites)
        host = sni or "a host"
        key = (host, f"{hint.client}: set {hint.remedy}")
        self.seen[key if key in self.seen or len(self.seen) < _MAX_COUNTED else ("other hosts", key[1])] += 1
        if self._warnings.take(self._clock_ms()):
            log.warning("a client does not trust the gateway's CA for %s. If it is %s", host, key[1])
