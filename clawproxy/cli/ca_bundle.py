"""The certificates that an agent trusts: the system's, and the gateway's CA. Reads the file system."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import certifi

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?")


def system_certificates() -> bytes:
    """The system's list in PEM, without comments; where there is none, the one that comes with certifi."""
    candidates = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, certifi.where())
    found = next(Path(path) for path in candidates if path and Path(path).is_file())
    return b"".join(_CERTIFICATE.findall(found.read_bytes().replace(b"\r\n", b"\n")))
