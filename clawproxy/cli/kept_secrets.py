"""Secrets of the gateway itself in a file that somebody wants to hand on. Reads its keys, and its credentials.

Looked for are the credentials that the configuration names (in each form that ``addons.redaction`` knows: raw, escaped,
in base64) and, as their files have them, the private keys: the gateway's, its CA's and the job's.

Limits: secrets of others are not looked for, nor are tokens of jobs, which end by themselves, nor keys of other jobs. A
credential that this process cannot read (an environment variable of the gateway's, a command) is not looked for;
``unread`` names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..tokens.errors import ClawproxyError
from .state import StateDir

if TYPE_CHECKING:
    from ..addons.settings import Settings

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=]{24,})")
_MIN_SECRET_CHARS = 8
_MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeptSecrets:
    """``found`` and ``unread`` name them by where they are: ``providers.openai.credential``, ``keys/receipt.pem``."""

    found: tuple[str, ...]
    unread: tuple[str, ...]


def look_for_secrets(content: bytes, settings: Settings, folder: StateDir, job: str) -> KeptSecrets:
    """Which of the gateway's own secrets are in ``content``; takes a while for a large one. Raises ``OSError`` where a
    key cannot be read."""
    from ..addons.redaction import redactor_for

    found, unread = [], []
    for where, secret in _credentials(settings):
        if secret is None:
            unread.append(where)
        elif len(secret) >= _MIN_SECRET_CHARS and redactor_for(secret).found_in(content):
            found.append(where)
    found += [where for where, line in _keys(folder, job) if line in content]
    return KeptSecrets(tuple(found), tuple(unread))


def _credentials(settings: Settings) -> Iterator[tuple[str, bytes | None]]:
    """The configured credentials with their places; None for one that cannot be read here. No command is started."""
    from ..addons.settings import NO_CREDENTIAL, read_secret

    sections = [(f"providers.{name}.credential", each.credential) for name, each in settings.providers.items()]
    sections += [(f"egress.{name}.credential", each.credential) for name, each in settings.egress.items()]
    for where, reference in sections:
        if not reference or reference == NO_CREDENTIAL:
            continue
        try:
            yield where, None if reference.startswith("exec:") else read_secret(reference, where=where).encode()
        except ClawproxyError:
            yield where, None


def _keys(folder: StateDir, job: str) -> Iterator[tuple[str, bytes]]:
    """The first line of each private key: it has bytes of the secret itself."""
    for path in sorted([*folder.keys.glob("*.pem"), *folder.job_keys.glob(f"{job}.pem"), *folder.ca.glob("*.pem")]):
        for match in _KEY.finditer(_start_of(path)):
            yield str(path.relative_to(folder.root)), match[1]


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_KEY_BYTES)
