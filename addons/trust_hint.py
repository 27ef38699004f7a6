"""Which variable a client reads that does not trust the gateway's CA: told from its TLS hello. Pure.

A client that breaks the handshake off has sent no request yet, so its name is not known; the list of cipher suites
tells the library, and the library the variable. Measured with Python 3.13, Node 20, Claude Code (Bun), Codex (rustls),
git (GnuTLS) and curl (OpenSSL); an unknown list gets the whole set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AES_128, AES_256, AES_128_CCM = 0x1301, 0x1302, 0x1304
_RUSTLS_AT_MOST = 12
_PYTHON = range(16, 20)
_NODE_FROM = 50


@dataclass(frozen=True, slots=True)
class TrustHint:
    """Who it may be, and the variables that it reads; those of ``bundles`` want the system's certificates as well."""

    client: str
    alone: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do, for a person."""
        parts = [f"{'='.join(self.alone)}= the CA's file"] if self.alone else []
        if self.bundles:
            parts.append(f"{'='.join(self.bundles)}= the system's certificates and the CA's (clawproxy ca bundle)")
        return ", or ".join(parts)


_GNUTLS = TrustHint("git, or another program with GnuTLS", bundles=("GIT_SSL_CAINFO",))
_BORING = TrustHint("Claude Code, opencode, or another Bun program", ("NODE_EXTRA_CA_CERTS",), ("SSL_CERT_FILE",))
_RUSTLS = TrustHint("Codex, or another program with rustls", ("CODEX_CA_CERTIFICATE",), ("SSL_CERT_FILE",))
_NODE = TrustHint("a Node program", ("NODE_EXTRA_CA_CERTS",))
_OF_PYTHON = TrustHint("a Python program", bundles=("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"))
_OPENSSL = TrustHint("curl, or another program with OpenSSL", bundles=("CURL_CA_BUNDLE", "SSL_CERT_FILE"))
_UNKNOWN = TrustHint(
    "a client",
    ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE"),
    ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO"),
)


def hint_for(suites: Sequence[int]) -> TrustHint:
    """The hint for a client that offers these cipher suites, in this order (RFC 8446 section 4.1.2)."""
    if not suites:
        return _UNKNOWN
    if AES_128_CCM in suites:
        return _GNUTLS
    if suites[0] == AES_128:
        return _BORING
    if suites[0] != AES_256:
        return _UNKNOWN
    if len(suites) <= _RUSTLS_AT_MOST:
        return _RUSTLS
    if len(suites) in _PYTHON:
        return _OF_PYTHON
    return _NODE if len(suites) >= _NODE_FROM else _OPENSSL


def looks_later(suites: Sequence[int]) -> bool:
    """Whether such a client looks at the certificate only when the handshake is over (GnuTLS does)."""
    return hint_for(suites) is _GNUTLS
