"""The certificate authority behind the certificates that clients of the proxy port see. Reads and writes files.

An EC P-256 key (a fresh TLS connection costs about 0.8 of what it does with mitmproxy's RSA), made once, private to the
gateway. Clients are given the certificate only, or one of the same name and key that is constrained to the names of a
job. The name of the file is mitmproxy's: it finds it there by itself.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..tokens.errors import ClawproxyError

CA_FILE = "mitmproxy-ca.pem"
"""Key and certificate, mode 0600."""
CERT_FILE = "mitmproxy-ca-cert.pem"
"""The certificate alone, for clients."""

_VALID_DAYS = 3650
_SKEW = datetime.timedelta(days=1)
_EVERY_ADDRESS = [x509.IPAddress(ipaddress.ip_network(net)) for net in ("0.0.0.0/0", "::/0")]


def ensure_ca(confdir: Path) -> Path:
    """The path of the CA certificate that clients must trust; key and certificate are made if there are none.

    Safe against two gateways starting at once: one of them wins, both use its key. Raises ``ClawproxyError``
    (CA_UNUSABLE) if the file is open to others or cannot be read or written.
    """
    ca_path, cert_path = confdir / CA_FILE, confdir / CERT_FILE
    try:
        confdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not ca_path.exists():
            _write_once(ca_path, _new_ca(), 0o600)
        if ca_path.stat().st_mode & 0o077:
            raise _unusable(ca_path, "the key file is open to others", f"chmod 600 {ca_path}")
        public = x509.load_pem_x509_certificate(ca_path.read_bytes()).public_bytes(serialization.Encoding.PEM)
        if not cert_path.exists() or cert_path.read_bytes() != public:
            cert_path.unlink(missing_ok=True)
            _write_once(cert_path, public, 0o644)
    except OSError as err:
        raise _unusable(ca_path, err.strerror or type(err).__name__, "make the directory writable") from None
    except ValueError:
        raise _unusable(ca_path, "not a key and a certificate in PEM", "remove it to have a new one made") from None
    return cert_path


def _unusable(path: Path, message: str, remedy: str) -> ClawproxyError:
    return ClawproxyError("CA_UNUSABLE", message, where=str(path), remedy=remedy)


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Complete or not there at all, and never over another's file."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def constrained_anchor(confdir: Path, names: Iterable[str]) -> bytes:
    """A certificate in PEM for one job's clients to trust: the CA's name and key, but only for these DNS names.

    Clients check it as they check any trust anchor (RFC 5280 section 4.2.1.10): whoever stole the CA's key could stand
    in for these names and no others. ``*.name`` means what lies below it. IP addresses are excluded. Raises
    ``ClawproxyError`` (CA_UNUSABLE) when there is no CA, or no name: then nothing needs to be trusted.
    """
    ca_path = confdir / CA_FILE
    try:
        pem = ca_path.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        issuer = x509.load_pem_x509_certificate(pem).subject
    except (OSError, ValueError):
        raise _unusable(ca_path, "cannot be read", "clawproxy serve makes it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(ca_path, "not a key on a curve", "remove it to have a new one made")
    permitted = [x509.DNSName(name.removeprefix("*.")) for name in sorted(set(names))]
    if not permitted:
        raise _unusable(ca_path, "no name to trust it for", "name a host")
    constraints = x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=_EVERY_ADDRESS)
    certificate = _ca_builder(issuer, key).add_extension(constraints, critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def names_of(certificate: x509.Certificate) -> list[str]:
    """The DNS names that a certificate is constrained to; empty where it is not."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [name.value for name in found.permitted_subtrees or () if isinstance(name, x509.DNSName)]


def _new_ca() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"clawproxy {secrets.token_hex(4)}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "clawproxy"),
        ]
    )
    certificate = _ca_builder(name, key).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _ca_builder(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
