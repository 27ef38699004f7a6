"""Touches the file system: the only file operations that evidence is written with, as a port and the real thing.

Everything that must survive a power cut goes through ``Disk``, so that a test can put a disk underneath that forgets
what was not synced (tests/receipts/lossy_disk.py). What counts as durable: the bytes of a file after ``fdatasync``, a
name in a directory after ``fsync_dir`` of that directory, and a rename as one step: both names or none.

Limits: a disk that lies about its flush defeats this, as everything. The lock is advisory, and not for NFS.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

READ_BLOCK_BYTES = 256 * 1024
FULL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WRITE_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_F_FULLFSYNC = 51  # macOS: fdatasync there does not reach the platter (fcntl.F_FULLFSYNC, absent elsewhere)


class Disk(Protocol):
    """File operations of the evidence. Each raises ``OSError`` as the system call does; handles are small integers."""

    def create(self, path: Path) -> int:
        """Open for writing from the start, mode 0600; what was there is gone."""

    def open_append(self, path: Path) -> int:
        """Open an existing file so that each write lands at its end."""

    def write(self, handle: int, data: bytes) -> int:
        """Write at the end; returns how many bytes went, which may be fewer than given."""

    def fdatasync(self, handle: int) -> None: ...

    def ftruncate(self, handle: int, size_bytes: int) -> None: ...

    def preallocate(self, handle: int, size_bytes: int) -> None:
        """Claim blocks of the disk for the file."""

    def close(self, handle: int) -> None: ...

    def read_blocks(self, path: Path) -> Iterator[bytes]: ...

    def size(self, path: Path) -> int | None:
        """Size of a regular file in bytes; None where there is none."""

    def names(self, directory: Path) -> list[str]:
        """Sorted names in a directory; empty where there is none."""

    def is_dir(self, path: Path) -> bool: ...

    def mkdir(self, path: Path) -> None:
        """Make one directory, mode 0700; no error where it is there already."""

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def fsync_dir(self, directory: Path) -> None: ...

    def make_read_only(self, path: Path) -> None: ...

    def lock(self, path: Path) -> int | None:
        """Take the lock file for the life of the handle; None when another process has it."""


class OsDisk:
    """``Disk`` on the operating system."""

    def create(self, path: Path) -> int:
        return os.open(path, _WRITE_FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)

    def open_append(self, path: Path) -> int:
        return os.open(path, _WRITE_FLAGS | os.O_APPEND)

    def write(self, handle: int, data: bytes) -> int:
        return os.write(handle, data)

    def fdatasync(self, handle: int) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(handle, _F_FULLFSYNC)
        else:
            os.fdatasync(handle)

    def ftruncate(self, handle: int, size_bytes: int) -> None:
        os.ftruncate(handle, size_bytes)

    def preallocate(self, handle: int, size_bytes: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size_bytes)
        else:
            os.write(handle, bytes(size_bytes))

    def close(self, handle: int) -> None:
        os.close(handle)

    def read_blocks(self, path: Path) -> Iterator[bytes]:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while block := os.read(handle, READ_BLOCK_BYTES):
                yield block
        finally:
            os.close(handle)

    def size(self, path: Path) -> int | None:
        return path.stat(follow_symlinks=False).st_size if path.is_file() and not path.is_symlink() else None

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory)) if directory.is_dir() else []

    def is_dir(self, path: Path) -> bool:
        return path.is_dir() and not path.is_symlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def fsync_dir(self, directory: Path) -> None:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def make_read_only(self, path: Path) -> None:
        os.chmod(path, 0o500 if path.is_dir() else 0o400)

    def lock(self, path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle


def write_all(disk: Disk, handle: int, data: bytes) -> None:
    """One write of all of ``data``. A short write on a regular file means that the disk is full, so it is an error."""
    written = disk.write(handle, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_whole(disk: Disk, path: Path, max_bytes: int) -> bytes:
    """A small file; raises ``OSError`` (EFBIG) beyond ``max_bytes``."""
    parts, size = [], 0
    for block in disk.read_blocks(path):
        size += len(block)
        if size > max_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        parts.append(block)
    return b"".join(parts)


def write_synced(disk: Disk, path: Path, data: bytes) -> None:
    """A file whose bytes are durable on return; its name is not before ``fsync_dir``."""
    handle = disk.create(path)
    try:
        write_all(disk, handle, data)
        disk.fdatasync(handle)
    finally:
        disk.close(handle)


def place_file(disk: Disk, staged: Path, target: Path, data: bytes) -> None:
    """Write ``staged`` and rename it to ``target``: the target is whole or absent at each moment, durable on return."""
    write_synced(disk, staged, data)
    disk.rename(staged, target)
    disk.fsync_dir(target.parent)
