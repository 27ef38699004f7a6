"""Which clients on this machine trust the gateway's CA, as this shell's variables stand. Reads files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from .symptom import Symptom

_NODE, _CURL = ("NODE_EXTRA_CA_CERTS",), ("CURL_CA_BUNDLE", "SSL_CERT_FILE")
_VARIABLES = {
    "claude": (*_NODE, "SSL_CERT_FILE"),
    "codex": ("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"),
    "opencode": (*_NODE, "SSL_CERT_FILE"),
    "pi": _NODE,
    "gemini": _NODE,
    "openclaw": _NODE,
    "node": _NODE,
    "python3": ("SSL_CERT_FILE",),
    "curl": _CURL,
    "git": ("GIT_SSL_CAINFO",),
    "aws": ("AWS_CA_BUNDLE",),
}
"""By program, the variables of which it reads one, the best first (docs/isolation.md has the table)."""
_MAX_BYTES = 4 * 1024 * 1024


def check_clients(root: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Symptom]:
    """The CA, then one row for the clients that trust it and one for those that do not."""
    from ...addons.ca import CERT_FILE

    path = (root / "ca" / CERT_FILE).absolute()
    if not path.is_file():
        yield Symptom("ok", "CA", "not made yet", "clawproxy serve makes it; only clients of the proxy port need it")
        return
    ca = path.read_bytes().strip()
    here = [name for name in _VARIABLES if shutil.which(name)]
    trusting = [name for name in here if any(_holds(environment.get(v, ""), ca) for v in _VARIABLES[name])]
    bundle = "=, ".join(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    names = f"NODE_EXTRA_CA_CERTS= this file, {bundle}= what clawproxy ca bundle -o writes"
    yield Symptom("ok", "CA", str(path), f"for clients of the proxy port: {names}; see: clawproxy ca show")
    if trusting:
        yield Symptom("ok", "clients that trust it", ", ".join(trusting))
    others = [f"{name} ({_VARIABLES[name][0]})" for name in here if name not in trusting]
    if others:
        remedy = "clawproxy run sets these by itself; elsewhere: clawproxy ca bundle -o ca.pem, and the variable to it"
        yield Symptom("ok", "clients without it", ", ".join(others), remedy)


def _holds(value: str, ca: bytes) -> bool:
    """Whether a variable names a file with the CA in it."""
    try:
        with open(value, "rb") as file:
            return ca in file.read(_MAX_BYTES)
    except (OSError, ValueError):
        return False
