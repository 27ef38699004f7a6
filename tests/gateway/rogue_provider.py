"""A provider that misbehaves, in this process: certificates that do not fit, answers that echo, redirects, resets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

type Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""What is done with the head of a request."""

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A throw-away CA: ``file`` is what a gateway trusts, ``leaf`` makes what a server shows."""

    folder: Path
    file: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def leaf(self, *names: str, days: int = 2, signed_by_itself: bool = False) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("rogue provider")
        now = datetime.datetime.now(datetime.UTC)
        signer = key if signed_by_itself else self.key
        made = (
            x509.CertificateBuilder(
                subject if signed_by_itself else self.certificate.subject, subject, key.public_key(),
                x509.random_serial_number(), now - 3 * _DAY, now + days * _DAY,
            )
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )  # fmt: skip
        path = self.folder / f"leaf-{made.serial_number}.pem"
        path.write_bytes(_pem(key) + made.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def make_authority(folder: Path) -> Authority:
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = _name("rogue CA")
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - 4 * _DAY, now + 4 * _DAY
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "rogue-ca.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, file, key, made)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class Rogue:
    """A running one. ``seen`` are the requests that it could read, ``raw`` the first bytes where it has no TLS."""

    port: int = 0
    seen: list[bytes] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0


@contextlib.asynccontextmanager
async def running_rogue(script: Script, context: ssl.SSLContext | None) -> AsyncIterator[Rogue]:
    """``script`` answers each request; without ``context`` it gets the first bytes that came, whatever they are."""
    rogue = Rogue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rogue.connections += 1
        try:
            if context is None:
                await script(b"", writer)
                rogue.raw.append(await reader.read(4096))
                return
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
                rogue.seen.append(head + await reader.readexactly(length))
                await script(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    if context is not None:
        context.sni_callback = lambda _socket, name, _context: rogue.names.append(name)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    rogue.port = server.sockets[0].getsockname()[1]
    try:
        yield rogue
    finally:
        server.close()
