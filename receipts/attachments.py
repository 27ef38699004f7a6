"""Touches files: other evidence of a run in a job's bundle, ``attachments/<digest>`` (a test report, a ticket, receipts
of an agent's runtime).

A file is staged beside the jobs, whole, then renamed into place, then named by a signed event ``attached``. A crash in
between leaves a file that no event names, which is taken away when the job is opened again or sealed. Content is stored
as it is: who attaches looks for secrets in it. Without the file (``stored`` false) the event holds its digest alone.

Limits: what a file says is its author's word; the chain says which bytes they were, and since when.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..tokens.canonical import JsonObject
from ..tokens.digests import b64u_encode, is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .contract_files import stray_file
from .disk import Disk, write_all
from .job_paths import JobPaths

MAX_ATTACHMENT_BYTES = 16 * 1024 * 1024
MAX_ATTACHED_BYTES = 64 * 1024 * 1024
"""Of all stored attachments of a job together: with its journal still less than a verifier reads."""
MAX_ATTACHMENTS = 256
"""How many events ``attached`` a job takes."""
MAX_NAME_CHARS = 200
MAX_NOTE_CHARS = 500
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Attachment:
    """What an event ``attached`` says. ``name`` is the file's own, without its directory; both texts are one line."""

    kind: str
    name: str
    note: str
    sha256_b64u: str
    size_bytes: int
    stored: bool

    def __post_init__(self) -> None:
        """Raises ``ClawproxyError`` (ATTACHMENT_INVALID)."""
        wrong = ""
        if not _KIND.fullmatch(self.kind):
            wrong = "kind: expected a word of lower-case letters, digits and _, such as test_report"
        elif not 1 <= len(self.name) <= MAX_NAME_CHARS or not self.name.isprintable() or "/" in self.name:
            wrong = f"name: expected 1 to {MAX_NAME_CHARS} printable characters without /"
        elif len(self.note) > MAX_NOTE_CHARS or not (self.note.isprintable() or not self.note):
            wrong = f"note: expected one line of up to {MAX_NOTE_CHARS} characters"
        elif not is_sha256_b64u(self.sha256_b64u):
            wrong = "sha256_b64u: not a digest"
        elif not 0 <= self.size_bytes <= MAX_ATTACHMENT_BYTES:
            wrong = f"size: expected at most {MAX_ATTACHMENT_BYTES} bytes"
        if wrong:
            raise ClawproxyError("ATTACHMENT_INVALID", wrong, where=self.name[:MAX_NAME_CHARS])

    @classmethod
    def parse(cls, told: JsonObject) -> Attachment:
        """From the members of a request; raises ``ClawproxyError`` (ATTACHMENT_INVALID)."""
        texts = [told.get(name) for name in ("kind", "name", "note", "sha256_b64u")]
        size, stored = told.get("size_bytes"), told.get("stored")
        if not all(isinstance(text, str) for text in texts) or type(size) is not int or type(stored) is not bool:
            raise ClawproxyError("ATTACHMENT_INVALID", "a member is missing or of the wrong type")
        kind, name, note, digest = map(str, texts)
        return cls(kind, name, note, digest, size, stored)

    def to_json(self) -> JsonObject:
        """The event's detail."""
        return {
            "kind": self.kind,
            "name": self.name,
            "note": self.note,
            "sha256_b64u": self.sha256_b64u,
            "size_bytes": self.size_bytes,
            "stored": self.stored,
        }


def measure_file(path: Path) -> tuple[str, int]:
    """Digest and size of a regular file; raises ``ClawproxyError`` (FILE_UNREADABLE, ATTACHMENT_INVALID)."""
    return _read_file(path, None, -1)


def stage_file(disk: Disk, paths: JobPaths, path: Path) -> tuple[str, int]:
    """Copy a regular file to where ``place_attachment`` takes it from; digest and size. Raises ``ClawproxyError``."""
    disk.mkdir(paths.staging)
    staged = _staged_as(paths, f"{os.getpid()}")
    handle = disk.create(staged)
    try:
        _give_to_owner(handle, paths.jobs_dir)
        digest, size = _read_file(path, disk, handle)
        disk.fdatasync(handle)
        disk.rename(staged, _staged_as(paths, digest))
    except BaseException:
        disk.unlink(staged)
        raise
    finally:
        disk.close(handle)
    return digest, size


def read_staged(paths: JobPaths, sha256_b64u: str) -> bytes:
    """The bytes of a staged file: those that will be stored."""
    return _staged_as(paths, sha256_b64u).read_bytes()


def drop_staged(disk: Disk, paths: JobPaths, sha256_b64u: str) -> None:
    """Take a staged file away, if it is there: nobody took it."""
    staged = _staged_as(paths, sha256_b64u)
    if disk.size(staged) is not None:
        disk.unlink(staged)


def place_attachment(disk: Disk, paths: JobPaths, attachment: Attachment) -> None:
    """Move the staged file into the job; durable on return. Raises ``ClawproxyError`` (ATTACHMENT_INVALID) where it is
    not the one that ``attachment`` names, or ``OSError``."""
    staged, target = _staged_as(paths, attachment.sha256_b64u), paths.attachments / attachment.sha256_b64u
    if disk.size(target) is not None:
        drop_staged(disk, paths, attachment.sha256_b64u)
        _check_file(disk, target, attachment.sha256_b64u, attachment.size_bytes)
        return
    if disk.size(staged) is None:
        raise ClawproxyError("ATTACHMENT_INVALID", "the file is not staged", where=str(staged))
    if not disk.is_dir(paths.attachments):
        disk.mkdir(paths.attachments)
        disk.fsync_dir(paths.directory)
    disk.rename(staged, target)
    disk.fsync_dir(paths.attachments)
    _check_file(disk, target, attachment.sha256_b64u, attachment.size_bytes)


def settle_attachments(disk: Disk, paths: JobPaths, named: Mapping[str, int], *, whole: bool = False) -> None:
    """That each file that an event names is there with its size (``whole``: its bytes), and no other; what a crash
    left unnamed is taken away. Raises ``ClawproxyError`` (JOB_DAMAGED) or ``OSError``."""
    there = attachment_names(disk, paths)
    for digest, size_bytes in sorted(named.items()):
        path = paths.attachments / digest
        if digest not in there:
            raise ClawproxyError("JOB_DAMAGED", "an attachment of the job is missing", where=str(path))
        if disk.size(path) != size_bytes:
            raise ClawproxyError("JOB_DAMAGED", "an attachment of the job is another", where=str(path))
        if whole:
            try:
                _check_file(disk, path, digest, size_bytes)
            except ClawproxyError as err:
                raise ClawproxyError("JOB_DAMAGED", "an attachment of the job is another", where=err.where) from None
    for digest in sorted(there - named.keys()):
        disk.unlink(paths.attachments / digest)
        disk.fsync_dir(paths.attachments)


def attachment_names(disk: Disk, paths: JobPaths) -> set[str]:
    """The digests that files in ``attachments/`` bear as names; raises ``ClawproxyError`` (JOB_DAMAGED) for others."""
    found = set()
    for name in disk.names(paths.attachments):
        if not is_sha256_b64u(name) or disk.size(paths.attachments / name) is None:
            raise stray_file(paths, f"attachments/{name}")
        found.add(name)
    return found


def _staged_as(paths: JobPaths, name: str) -> Path:
    return paths.staged(f"attachment.{name}")


def _give_to_owner(handle: int, jobs_dir: Path) -> None:
    """What root stages must be readable to the user that the gateway runs as."""
    if os.geteuid() == 0:
        owner = jobs_dir.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _read_file(path: Path, disk: Disk | None, target: int) -> tuple[str, int]:
    try:
        handle = os.open(path, _READ)
    except OSError as err:
        why = "a symlink" if path.is_symlink() else (err.strerror or "error").lower()
        raise ClawproxyError("FILE_UNREADABLE", f"cannot read: {why}", where=str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ClawproxyError("FILE_UNREADABLE", "not a regular file", where=str(path))
    with os.fdopen(handle, "rb") as file:
        digest, size = hashlib.sha256(), 0
        while block := file.read(_BLOCK_BYTES):
            size += len(block)
            if size > MAX_ATTACHMENT_BYTES:
                raise ClawproxyError(
                    "ATTACHMENT_INVALID",
                    "the file is too large",
                    where=str(path),
                    expected=f"at most {MAX_ATTACHMENT_BYTES} bytes",
                    remedy="attach a part of it",
                )
            digest.update(block)
            if disk is not None:
                write_all(disk, target, block)
    return b64u_encode(digest.digest()), size


def _check_file(disk: Disk, path: Path, sha256_b64u: str, size_bytes: int) -> None:
    digest, size = hashlib.sha256(), 0
    for block in disk.read_blocks(path):
        digest.update(block)
        size += len(block)
        if size > size_bytes:
            break
    if size != size_bytes or b64u_encode(digest.digest()) != sha256_b64u:
        raise ClawproxyError("ATTACHMENT_INVALID", "the file is not the one that was named", where=str(path))
