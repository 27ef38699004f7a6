"""Where signed contracts come from. Touches the file system (``DirectorySource``), off the event loop.

A source is not trusted: ``pin`` checks signer, hash and signature of what it returns.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .contract import ENVELOPE_TYPE, MAX_CONTRACT_BYTES

log = logging.getLogger("clawproxy.contracts")

MAX_ENVELOPE_BYTES = 2 * MAX_CONTRACT_BYTES
MAX_FILES = 4096

_TICK_NS = 2_000_000_000
"""No clock of a file system is coarser. A file that is younger than this may change again and look the same."""

type _Version = tuple[int, int, int]
type _Seen = tuple[_Version, bool, str | None]
"""What a file looked like, whether a change since then would show, and the payload hash that it states."""


class ContractSource(Protocol):
    """The port: a registry, a directory, a fake."""

    async def fetch(self, policy_hash_b64u: str) -> JsonObject | None:
        """The envelope with this payload hash, unchecked; None if there is none. Raises when the source cannot be
        read.
        """
        ...


class DirectorySource:
    """The signed contracts of some directories: regular ``*.json`` files, found by the payload hash that they state.

    What is in the directories is looked at on a miss only, and only files that changed, or had just changed, are read
    again. A file that is too large, unreadable or no signed contract is skipped with one logged line per version of it.
    Links are followed only within their directory (mounted configuration is made that way). Names that start with a dot
    are left alone.

    Limits: at most 4,096 files per directory, in order of name.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = tuple(directories)
        self._lock = threading.Lock()  # fetches run in worker threads
        self._seen: dict[Path, _Seen] = {}
        self._paths: dict[str, Path] = {}

    async def fetch(self, policy_hash_b64u: str) -> JsonObject | None:
        """See ``ContractSource``; raises ``ClawproxyError`` (WPC_REGISTRY_FETCH_FAILED) for a miss with a directory
        unread.
        """
        return await asyncio.to_thread(self._fetch, policy_hash_b64u)

    def _fetch(self, policy_hash_b64u: str) -> JsonObject | None:
        with self._lock:
            known = self._read_known(policy_hash_b64u)
            if known is not None:
                return known
            unread = self._scan()
            found = self._read_known(policy_hash_b64u)
        if found is None and unread is not None:
            raise unread
        return found

    def _read_known(self, policy_hash_b64u: str) -> JsonObject | None:
        path = self._paths.get(policy_hash_b64u)
        if path is None:
            return None
        try:
            envelope = _read_envelope(path)
        except (OSError, ClawproxyError):
            return None
        return envelope if envelope["payload_hash_b64u"] == policy_hash_b64u else None

    def _scan(self) -> ClawproxyError | None:
        """Bring the index up to date; returns the fault of the first directory that could not be read."""
        fault: ClawproxyError | None = None
        seen: dict[Path, _Seen] = {}
        for directory in self._directories:
            try:
                names = sorted(n for n in os.listdir(directory) if n.endswith(".json") and not n.startswith("."))
            except OSError as err:
                message = f"cannot read a directory of contracts: {(err.strerror or 'error').lower()}"
                fault = fault or ClawproxyError("WPC_REGISTRY_FETCH_FAILED", message, where=str(directory))
                continue
            if len(names) > MAX_FILES:
                log.warning("%s: %d files, only the first %d are read", directory, len(names), MAX_FILES)
            root = os.path.realpath(directory)
            for name in names[:MAX_FILES]:
                self._look_at(directory / name, root, seen)
        self._seen = seen
        self._paths = {found: path for path, (_, _, found) in reversed(seen.items()) if found is not None}
        return fault

    def _look_at(self, path: Path, root: str, seen: dict[Path, _Seen]) -> None:
        now_ns = time.time_ns()
        try:
            state = path.stat()
        except OSError as err:
            log.warning("%s: skipped: %s", path, (err.strerror or "error").lower())
            return
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        before = self._seen.get(path)
        if before is not None and before[0] != version:
            before = None
        if before is not None and before[1]:
            seen[path] = before
            return
        level = logging.DEBUG if before is not None and before[2] is None else logging.WARNING  # told once
        found: str | None = None
        try:
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise ClawproxyError("WPC_ENVELOPE_INVALID", "a link that leads out of the directory")
            found = _read_envelope(path)["payload_hash_b64u"]
        except ClawproxyError as err:
            log.log(level, "%s: skipped: %s", path, err.message)  # not err itself: it may quote the file
        except OSError as err:
            log.log(level, "%s: skipped: %s", path, (err.strerror or "error").lower())
        seen[path] = (version, state.st_mtime_ns < now_ns - _TICK_NS, found)


def _read_envelope(path: Path) -> JsonObject:
    # non-blocking, so that a pipe of that name cannot hold a worker thread
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ClawproxyError("WPC_ENVELOPE_INVALID", "not a regular file")
        raw = file.read(MAX_ENVELOPE_BYTES + 1)
    envelope = parse_json_object(raw, max_bytes=MAX_ENVELOPE_BYTES, max_depth=32, max_nodes=40_000)
    if envelope.get("envelope_type") != ENVELOPE_TYPE or not is_sha256_b64u(envelope.get("payload_hash_b64u")):
        raise ClawproxyError("WPC_ENVELOPE_INVALID", "not a signed contract")
    return envelope
