"""Real TLS clients trust the constrained certificate for its names and for no other."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clawproxy.addons.ca import CA_FILE, constrained_anchor, ensure_ca, names_of
from clawproxy.tokens.errors import ClawproxyError
from cryptography import x509
from mitmproxy import certs

ALLOWED, BELOW, OTHER = "api.tickets.example", "eu.files.example", "api.elsewhere.example"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return ensure_ca(tmp_path / "ca").parent


@pytest.fixture
def anchor(ca: Path, tmp_path: Path) -> Path:
    path = tmp_path / "anchor.pem"
    path.write_bytes(constrained_anchor(ca, [ALLOWED, "*.files.example"]))
    return path


def serve(ca: Path, folder: Path, name: str) -> tuple[int, threading.Event]:
    """A TLS server with a certificate for ``name`` that the gateway's own way of making them made; its port."""
    store = certs.CertStore.from_store(ca, "mitmproxy", 2048)
    leaf = store.get_cert(name, [x509.DNSName(name)])
    chain = folder / f"{name}.pem"
    chain.write_bytes(leaf.cert.to_pem() + (ca / CA_FILE).read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    over = threading.Event()

    def answer() -> None:
        with listener:
            while not over.is_set():
                try:
                    client, _ = listener.accept()
                    client.settimeout(5)
                    with context.wrap_socket(client, server_side=True) as tls:
                        tls.recv(4096)
                        tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                except OSError:
                    continue

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1], over


@pytest.fixture
def ports(ca: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    made = {name: serve(ca, tmp_path, name) for name in (ALLOWED, BELOW, OTHER)}
    yield {name: port for name, (port, _) in made.items()}
    for _, over in made.values():
        over.set()


def python(anchor: Path, name: str, port: int) -> bool:
    context = ssl.create_default_context(cafile=anchor)
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname=name):
            return True
    except ssl.SSLCertVerificationError as err:
        if "permitted subtree" not in str(err):
            raise
        return False


def curl(anchor: Path, name: str, port: int) -> bool:
    at = ["--resolve", f"{name}:{port}:127.0.0.1", "--cacert", str(anchor), "--noproxy", "*", "-m", "10"]
    found = subprocess.run(["curl", "-s", "-S", *at, f"https://{name}:{port}/"], capture_output=True, check=False)
    return found.stdout == b"ok"


def git(anchor: Path, name: str, port: int) -> bool:
    settings = ["-c", f"http.curloptResolve={name}:{port}:127.0.0.1", "-c", "http.proxy="]
    command = ["git", *settings, "ls-remote", f"https://{name}:{port}/x.git"]
    environment = {"GIT_SSL_CAINFO": str(anchor), "PATH": os.environ["PATH"], "NO_PROXY": "*"}
    found = subprocess.run(command, capture_output=True, check=False, timeout=20, env=environment)
    return b"certificate" not in found.stderr  # what it fetched is no repository


def node(anchor: Path, name: str, port: int) -> bool:
    script = (
        "require('tls').connect({host:'127.0.0.1',port:+process.argv[1],servername:process.argv[2]},"
        "()=>process.exit(0)).on('error',()=>process.exit(7))"
    )
    environment = {"NODE_EXTRA_CA_CERTS": str(anchor), "PATH": os.environ["PATH"]}
    found = subprocess.run(["node", "-e", script, str(port), name], env=environment, check=False, timeout=20)
    return found.returncode == 0


CLIENTS = {"python": python, "curl": curl, "git": git, "node": node}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_trusts_it_for_the_names_of_the_job_alone(
    client: str, anchor: Path, ca: Path, ports: dict[str, int]
) -> None:
    if client != "python" and shutil.which(client) is None:
        pytest.skip(f"no {client} here")
    trusts = CLIENTS[client]
    whole = ca / "mitmproxy-ca-cert.pem"
    assert trusts(whole, OTHER, ports[OTHER])  # the unconstrained one shows that the test can fail
    assert trusts(anchor, ALLOWED, ports[ALLOWED])
    assert trusts(anchor, BELOW, ports[BELOW])
    assert not trusts(anchor, OTHER, ports[OTHER])


def test_an_address_is_never_among_what_it_is_trusted_for(anchor: Path, ca: Path, tmp_path: Path) -> None:
    store = certs.CertStore.from_store(ca, "mitmproxy", 2048)
    leaf = store.get_cert(None, [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    chain = tmp_path / "ip.pem"
    chain.write_bytes(leaf.cert.to_pem() + (ca / CA_FILE).read_bytes())
    context = ssl.create_default_context(cafile=anchor)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(chain)
    client, server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = context.wrap_bio(server, client, server_hostname="127.0.0.1")
    answering = served.wrap_bio(client, server, server_side=True)
    for side in (asking, answering, asking):
        with contextlib.suppress(ssl.SSLWantReadError), pytest.raises(ssl.SSLCertVerificationError, match="excluded"):
            side.do_handshake()


def test_it_says_its_names_and_needs_one(ca: Path, anchor: Path) -> None:
    assert names_of(x509.load_pem_x509_certificate(anchor.read_bytes())) == ["files.example", ALLOWED]
    assert names_of(x509.load_pem_x509_certificate((ca / "mitmproxy-ca-cert.pem").read_bytes())) == []
    assert b"PRIVATE" not in anchor.read_bytes()
    with pytest.raises(ClawproxyError, match="no name"):
        constrained_anchor(ca, [])
    with pytest.raises(ClawproxyError, match="cannot be read"):
        constrained_anchor(ca / "nowhere", [ALLOWED])
