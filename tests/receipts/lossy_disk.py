"""A disk in memory that keeps what was synced and, of the rest, whatever suits it (the port ``receipts.disk.Disk``).

It records every operation. ``crashes(prefix)`` gives the disks that a power cut after that many operations may leave:
unsynced bytes gone, cut, zeroed, or with a hole in front of later ones; unsynced names gone or there; and any mixture.
A rename is one step, a file's bytes hang on the file and not on its name, and both are durable only after their sync.

``ignore`` names syncs that this disk forgets to do, so that a test can show what each of them is for.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

PAGE_BYTES = 512
_RANDOM_CRASHES = 3


@dataclass(eq=False)
class Node:
    """A file or a directory; ``number`` is its inode number."""

    number: int
    entries: dict[str, Node] | None = None
    content: bytearray = field(default_factory=bytearray)

    @property
    def is_dir(self) -> bool:
        return self.entries is not None


@dataclass(frozen=True)
class Op:
    """One recorded operation on node numbers. ``add`` and ``drop`` are (directory, name) of a changed name."""

    kind: Literal["data", "truncate", "sync", "name", "sync_dir", "ack"]
    node: int = 0
    offset: int = 0
    data: bytes = b""
    add: tuple[int, str] | None = None
    drop: tuple[int, str] | None = None
    makes_dir: bool = False
    label: str = ""


class LossyDisk:
    """``Disk`` in memory. ``root`` exists from the start, and what is in ``base`` is durable."""

    def __init__(
        self,
        root: Path,
        ignore: Callable[[str, Path], bool] = lambda kind, path: False,
        base: Node | None = None,
        sync_s: float = 0.0,
    ) -> None:
        self.root_path = root
        self.ignore = ignore
        self.sync_s = sync_s
        """How long a sync takes, so that writers queue up behind it."""
        self._base = base or Node(0, {})
        self.ops: list[Op] = []
        self.read_only: set[Path] = set()
        self._root = _copy(self._base)
        self._numbers = itertools.count(1 + max(node.number for node in _walk(self._base)))
        self._handles: dict[int, tuple[Node, Path]] = {}
        self._next_handle = 1000
        self._locked: dict[int, Path] = {}
        self._mutex = threading.Lock()

    # -- the port ------------------------------------------------------------------------------------------------------

    def create(self, path: Path) -> int:
        with self._mutex:
            parent = self._directory(path.parent)
            node = self._entries(parent).get(path.name)
            if node is None:
                node = self._entries(parent)[path.name] = Node(next(self._numbers))
                self._record(Op("name", node.number, add=(parent.number, path.name)))
            else:
                node.content.clear()
                self._record(Op("truncate", node.number))
            return self._open(node, path)

    def open_append(self, path: Path) -> int:
        with self._mutex:
            return self._open(self._find(path), path)

    def write(self, handle: int, data: bytes) -> int:
        with self._mutex:
            node, _ = self._handles[handle]
            self._record(Op("data", node.number, offset=len(node.content), data=data))
            node.content += data
            return len(data)

    def fdatasync(self, handle: int) -> None:
        time.sleep(self.sync_s)
        with self._mutex:
            node, path = self._handles[handle]
            if not self.ignore("fdatasync", path):
                self._record(Op("sync", node.number))

    def ftruncate(self, handle: int, size_bytes: int) -> None:
        with self._mutex:
            node, _ = self._handles[handle]
            del node.content[size_bytes:]
            self._record(Op("truncate", node.number, offset=size_bytes))

    def preallocate(self, handle: int, size_bytes: int) -> None:
        pass

    def close(self, handle: int) -> None:
        with self._mutex:
            self._locked.pop(handle, None)
            self._handles.pop(handle, None)

    def read_blocks(self, path: Path) -> Iterator[bytes]:
        with self._mutex:
            content = bytes(self._find(path).content)
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    def size(self, path: Path) -> int | None:
        with self._mutex:
            try:
                node = self._find(path)
            except FileNotFoundError:
                return None
            return None if node.is_dir else len(node.content)

    def names(self, directory: Path) -> list[str]:
        with self._mutex:
            try:
                return sorted(self._entries(self._directory(directory)))
            except FileNotFoundError:
                return []

    def is_dir(self, path: Path) -> bool:
        with self._mutex:
            try:
                return self._find(path).is_dir
            except FileNotFoundError:
                return False

    def mkdir(self, path: Path) -> None:
        with self._mutex:
            parent = self._directory(path.parent)
            if path.name not in self._entries(parent):
                node = self._entries(parent)[path.name] = Node(next(self._numbers), {})
                self._record(Op("name", node.number, add=(parent.number, path.name), makes_dir=True))

    def rename(self, source: Path, target: Path) -> None:
        with self._mutex:
            before, after = self._directory(source.parent), self._directory(target.parent)
            node = self._find(source)
            there = self._entries(after).get(target.name)
            if there is not None and there.is_dir:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target))
            del self._entries(before)[source.name]
            self._entries(after)[target.name] = node
            self._record(Op("name", node.number, add=(after.number, target.name), drop=(before.number, source.name)))

    def unlink(self, path: Path) -> None:
        with self._mutex:
            parent = self._directory(path.parent)
            node = self._entries(parent).pop(path.name)
            self._record(Op("name", node.number, drop=(parent.number, path.name)))

    def fsync_dir(self, directory: Path) -> None:
        with self._mutex:
            if not self.ignore("fsync_dir", directory):
                self._record(Op("sync_dir", self._directory(directory).number))

    def make_read_only(self, path: Path) -> None:
        self.read_only.add(path)

    def lock(self, path: Path) -> int | None:
        with self._mutex:
            if path in self._locked.values():
                return None
            self._next_handle += 1
            self._locked[self._next_handle] = path
            return self._next_handle

    # -- for tests -----------------------------------------------------------------------------------------------------

    def ack(self, label: str) -> None:
        """Note that a caller was told: ``label`` is in every crash after this."""
        with self._mutex:
            self._record(Op("ack", label=label))

    def files(self, directory: Path) -> dict[str, bytes]:
        """Every file below ``directory``, by relative path."""
        found: dict[str, bytes] = {}
        for name in self.names(directory):
            if self.is_dir(directory / name):
                found |= {f"{name}/{n}": content for n, content in self.files(directory / name).items()}
            else:
                found[name] = b"".join(self.read_blocks(directory / name))
        return found

    def acked(self, prefix: int) -> list[str]:
        """What callers were told within the first ``prefix`` operations."""
        return [op.label for op in self.ops[:prefix] if op.kind == "ack"]

    def crashes(self, prefix: int, seed: int = 0) -> list[LossyDisk]:
        """The distinct disks that a power cut after ``prefix`` operations may leave."""
        after = _After(self.ops[:prefix], self._base)
        chance = random.Random(f"{seed} {prefix}")
        ways: list[tuple[_Data, _Names]] = [
            (data, names) for data in (_none, _all, _torn, _hole, _zeros, _last) for names in (_no_names, _all_names)
        ]
        ways += [(_mixed(chance), _some_names(chance)) for _ in range(_RANDOM_CRASHES)]
        left: dict[tuple[tuple[str, bytes], ...], LossyDisk] = {}
        for data, names in ways:
            disk = LossyDisk(self.root_path, self.ignore, after.build(data, names))
            left.setdefault(tuple(sorted(disk.files(self.root_path).items())), disk)
        return list(left.values())

    # -- inside --------------------------------------------------------------------------------------------------------

    def _record(self, op: Op) -> None:
        self.ops.append(op)

    def _open(self, node: Node, path: Path) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = (node, path)
        return self._next_handle

    def _find(self, path: PurePath) -> Node:
        node = self._root
        for part in path.relative_to(self.root_path).parts:
            if node.entries is None or part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = node.entries[part]
        return node

    def _directory(self, path: PurePath) -> Node:
        node = self._find(path)
        if not node.is_dir:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return node

    @staticmethod
    def _entries(node: Node) -> dict[str, Node]:
        assert node.entries is not None
        return node.entries


def _copy(node: Node) -> Node:
    entries = None if node.entries is None else {name: _copy(below) for name, below in node.entries.items()}
    return Node(node.number, entries, bytearray(node.content))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for below in (node.entries or {}).values():
        yield from _walk(below)


# -- what a crash leaves -----------------------------------------------------------------------------------------------

type _Data = Callable[[bytes, list[Op]], bytes]
"""(durable content, unsynced operations) -> content after the crash."""
type _Names = Callable[[list[Op]], list[Op]]
"""Which unsynced changes of names happened after all."""


def _apply(content: bytes, ops: list[Op]) -> bytes:
    after = bytearray(content)
    for op in ops:
        if op.kind == "truncate":
            del after[op.offset :]
        else:
            after.extend(bytes(max(0, op.offset - len(after))))
            after[op.offset : op.offset + len(op.data)] = op.data
    return bytes(after)


def _none(content: bytes, ops: list[Op]) -> bytes:
    return content


def _all(content: bytes, ops: list[Op]) -> bytes:
    return _apply(content, ops)


def _torn(content: bytes, ops: list[Op]) -> bytes:
    """The last write stops in the middle."""
    whole = _apply(content, ops[:-1])
    return whole + ops[-1].data[: len(ops[-1].data) * 2 // 3] if ops else whole


def _zeros(content: bytes, ops: list[Op]) -> bytes:
    """The size reached the disk, the bytes did not."""
    return content + bytes(max(0, len(_apply(content, ops)) - len(content)))


def _hole(content: bytes, ops: list[Op]) -> bytes:
    """Of each write, the first page is missing and the rest is there."""
    return _apply(content, [_without_page(op, 0) for op in ops])


def _last(content: bytes, ops: list[Op]) -> bytes:
    """Only the last write reached the disk."""
    return _apply(content, ops[-1:])


def _without_page(op: Op, page: int) -> Op:
    """Pages are those of the file: the first one of a write may begin in the middle of a page."""
    first = op.offset // PAGE_BYTES
    start = max(0, (first + page) * PAGE_BYTES - op.offset)
    end = min(len(op.data), (first + page + 1) * PAGE_BYTES - op.offset)
    holed = op.data[:start] + bytes(max(0, end - start)) + op.data[end:]
    return op if op.kind == "truncate" or start >= end else Op("data", op.node, op.offset, holed)


def _mixed(chance: random.Random) -> _Data:
    def some(content: bytes, ops: list[Op]) -> bytes:
        kept = [op for op in ops if chance.random() < 0.7]
        return _apply(content, [_without_page(op, chance.randrange(4)) if chance.random() < 0.5 else op for op in kept])

    return some


def _no_names(ops: list[Op]) -> list[Op]:
    return []


def _all_names(ops: list[Op]) -> list[Op]:
    return ops


def _some_names(chance: random.Random) -> _Names:
    return lambda ops: [op for op in ops if chance.random() < 0.5]


class _After:
    """What is durable, and what is not, after some operations."""

    def __init__(self, ops: list[Op], base: Node) -> None:
        self.content: dict[int, bytes] = {}
        self.entries: dict[int, dict[str, int]] = {0: {}}
        self.unsynced: dict[int, list[Op]] = {}
        self.names: list[Op] = []
        for node in _walk(base):
            if node.entries is None:
                self.content[node.number] = bytes(node.content)
            else:
                self.entries[node.number] = {name: below.number for name, below in node.entries.items()}
        for op in ops:
            self._take(op)

    def _take(self, op: Op) -> None:
        if op.kind in ("data", "truncate"):
            self.unsynced.setdefault(op.node, []).append(op)
        elif op.kind == "sync":
            self.content[op.node] = _apply(self.content.get(op.node, b""), self.unsynced.pop(op.node, []))
        elif op.kind == "name":
            self.names.append(op)
            if op.makes_dir:
                self.entries.setdefault(op.node, {})
        elif op.kind == "sync_dir":
            here = [n for n in self.names if op.node in {place[0] for place in (n.add, n.drop) if place}]
            _rename(self.entries, here)
            self.names = [n for n in self.names if n not in here]

    def build(self, data: _Data, names: _Names) -> Node:
        entries = {number: dict(below) for number, below in self.entries.items()}
        _rename(entries, names(self.names))
        return self._node(0, entries, data)

    def _node(self, number: int, entries: dict[int, dict[str, int]], data: _Data) -> Node:
        if number in entries:
            below = {name: self._node(child, entries, data) for name, child in entries[number].items()}
            return Node(number, below)
        content = data(self.content.get(number, b""), self.unsynced.get(number, []))
        return Node(number, None, bytearray(content))


def _rename(entries: dict[int, dict[str, int]], ops: list[Op]) -> None:
    for op in ops:
        if op.drop is not None and entries[op.drop[0]].get(op.drop[1]) == op.node:
            del entries[op.drop[0]][op.drop[1]]
        if op.add is not None:
            entries[op.add[0]][op.add[1]] = op.node
