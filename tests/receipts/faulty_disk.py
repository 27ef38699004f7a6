"""The real disk, on which chosen operations fail (the port ``receipts.disk.Disk``)."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from clawproxy.receipts.disk import OsDisk


class FaultyDisk(OsDisk):
    """``fail(operation, path)`` gives the errno to fail with, or None; ``short`` writes half of what is asked first."""

    def __init__(self) -> None:
        self.fail: Callable[[str, Path], int | None] = lambda operation, path: None
        self.short = False
        self.calls: Counter[str] = Counter()
        self._paths: dict[int, Path] = {}

    def create(self, path: Path) -> int:
        self._judge("create", path)
        handle = super().create(path)
        self._paths[handle] = path
        return handle

    def open_append(self, path: Path) -> int:
        self._judge("open_append", path)
        handle = super().open_append(path)
        self._paths[handle] = path
        return handle

    def write(self, handle: int, data: bytes) -> int:
        path = self._paths[handle]
        if self.short and self.fail("write", path) is not None:
            return super().write(handle, data[: len(data) // 2])
        self._judge("write", path)
        return super().write(handle, data)

    def fdatasync(self, handle: int) -> None:
        self._judge("fdatasync", self._paths[handle])
        super().fdatasync(handle)

    def ftruncate(self, handle: int, size_bytes: int) -> None:
        self._judge("ftruncate", self._paths[handle])
        super().ftruncate(handle, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        self._judge("rename", target)
        super().rename(source, target)

    def fsync_dir(self, directory: Path) -> None:
        self._judge("fsync_dir", directory)
        super().fsync_dir(directory)

    def unlink(self, path: Path) -> None:
        self._judge("unlink", path)
        super().unlink(path)

    def _judge(self, operation: str, path: Path) -> None:
        self.calls[operation] += 1
        number = self.fail(operation, path)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path))


def failing(number: int, operation: str, name: str) -> Callable[[str, Path], int | None]:
    """Fail one operation on files of one name."""
    return lambda asked, path: number if (asked, path.name) == (operation, name) else None


def full(*spared: str) -> Callable[[str, Path], int | None]:
    """No space left for any write."""
    return lambda asked, path: errno.ENOSPC if asked == "write" and path.name not in spared else None
