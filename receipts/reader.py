"""Reads files: a job's evidence from a directory or a .zip, within bounds, believing nothing about names and sizes.

B01 a name is relative, plain, inside the bundle, and occurs once (BUNDLE_NAME_REFUSED)
B02 only regular files: no symlink, device, socket, or directory besides ``torn``, ``contracts`` and ``attachments``
    (BUNDLE_NAME_REFUSED)
B03 within the bounds of files, bytes per file and bytes in all (BUNDLE_TOO_LARGE)
B04 a .zip is not encrypted, unpacks to the sizes it states, and to at most ``Bounds.zip_ratio`` times its own
B05 each file can be read (BUNDLE_UNREADABLE)
B06 a .zip is its members, one after the other from its first byte, stored or deflated, then its directory and its end
    record, and nothing else, and before each member stands what the directory says of it: so all tools see one bundle
    in it, those as well that read from its beginning

A broken rule is a finding, and what cannot be read safely is left out; what can, is still returned. A .zip may hold
the files at its root or under one directory, as tools that pack a directory make it.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..tokens.errors import ClawproxyError, clip
from .report import Finding

MAX_WIRE_FILE_BYTES = 16 * 1024 * 1024
_FREE_RATIO_BYTES = 1024 * 1024
_MAX_NAME_CHARS = 255
_KNOWN_DIRECTORIES = frozenset({"attachments", "contracts", "torn"})
_BLOCK_BYTES = 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCAL = struct.Struct("<6x2H4x3L2H")
_EXTRA = struct.Struct("<2H")
_UNICODE_PATH = 0x7075
_SIZES_BEHIND = 0x8
_PACKED_BLOCK_BYTES = 16 * 1024
_DIRECTORY_ENTRY_BYTES = 1024
_DESCRIPTOR_BYTES = frozenset({12, 16, 20, 24})
_ZIP_FAULTS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is read before a bundle is refused. A writer stops well below (``job.JobLimits``)."""

    files: int = 4_096
    file_bytes: int = 512 * 1024 * 1024
    total_bytes: int = 896 * 1024 * 1024
    zip_ratio: int = 200


BOUNDS = Bounds()
_MOST_BYTES = {
    "job.json": 16 * 1024,
    "contract.json": 1024 * 1024,
    "SEAL.json": 64 * 1024,
    "MANIFEST.json": 4 * 1024 * 1024,
    "receipts.jsonl": BOUNDS.file_bytes,
}
"""By name, since each is read whole, and the small ones are parsed before anything shows who made them."""
_MOST_BYTES_OF_A_PROOF_BUNDLE = 32 * 1024 * 1024
_MOST_BYTES_TORN = 512 * 1024
_MOST_BYTES_ATTACHED = 16 * 1024 * 1024
_MOST_BYTES_UNKNOWN = 64 * 1024


def most_bytes(name: str) -> int:
    """How large the file of this name may be."""
    if name.startswith("torn/"):
        return _MOST_BYTES_TORN
    if name.startswith("attachments/"):
        return _MOST_BYTES_ATTACHED
    if name.startswith("contracts/"):
        return _MOST_BYTES["contract.json"]
    if name.startswith("proof_bundle"):
        return _MOST_BYTES_OF_A_PROOF_BUNDLE
    return _MOST_BYTES.get(name, _MOST_BYTES_UNKNOWN)


@dataclass(slots=True)
class Loaded:
    """File contents by their path in the bundle (``/`` between parts), and what was refused."""

    bounds: Bounds = BOUNDS
    files: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    total_bytes: int = 0

    def refuse(self, rule: str, reason: str, name: str, detail: str) -> None:
        self.findings.append(Finding(rule, reason, clip(name), detail))

    def room_bytes(self, name: str) -> int:
        return min(self.bounds.file_bytes, most_bytes(name), self.bounds.total_bytes - self.total_bytes)

    def keep(self, name: str, content: bytes) -> None:
        self.files[name] = content
        self.total_bytes += len(content)


def load_directory(directory: Path, bounds: Bounds = BOUNDS) -> Loaded:
    """The regular files of a job directory, of its ``torn``, its ``contracts`` and its ``attachments``.

    Raises ``ClawproxyError`` when it cannot be listed."""
    loaded = Loaded(bounds)
    try:
        entries = sorted(_walk(directory, "", loaded))
    except OSError as err:
        raise ClawproxyError(
            "BUNDLE_UNREADABLE", f"cannot list the directory: {_why(err)}", where=str(directory)
        ) from None
    for n, (name, path) in enumerate(entries):
        if n >= bounds.files:
            loaded.refuse("B03", "BUNDLE_TOO_LARGE", name, f"more than {bounds.files} files")
            break
        try:
            _read_regular(name, path, loaded)
        except OSError as err:
            loaded.refuse("B05", "BUNDLE_UNREADABLE", name, _why(err))
    return loaded


def _walk(directory: Path, prefix: str, loaded: Loaded) -> Iterator[tuple[str, Path]]:
    with os.scandir(directory) as entries:
        for n, entry in enumerate(entries):
            name = prefix + entry.name
            if n > loaded.bounds.files:
                return
            if entry.is_dir(follow_symlinks=False):
                if name in _KNOWN_DIRECTORIES:
                    yield from _walk(directory / entry.name, f"{name}/", loaded)
                else:
                    loaded.refuse("B02", "BUNDLE_NAME_REFUSED", name, "a directory that a bundle does not have")
            elif not entry.is_file(follow_symlinks=False):
                loaded.refuse("B02", "BUNDLE_NAME_REFUSED", name, "not a regular file")
            elif fault := _name_fault(name):
                loaded.refuse("B01", "BUNDLE_NAME_REFUSED", name, fault)
            else:
                yield name, directory / entry.name


def _read_regular(name: str, path: Path, loaded: Loaded) -> None:
    room_bytes = loaded.room_bytes(name)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            loaded.refuse("B02", "BUNDLE_NAME_REFUSED", name, "not a regular file")
            return
        content = file.read(room_bytes + 1)
    if len(content) > room_bytes:
        loaded.refuse("B03", "BUNDLE_TOO_LARGE", name, f"more than {room_bytes} bytes")
        return
    loaded.keep(name, content)


def load_zip(path: Path, bounds: Bounds = BOUNDS) -> Loaded:
    """The files of a packed job directory. Raises ``ClawproxyError`` when it is no .zip at all."""
    loaded = Loaded(bounds)
    try:
        with _open_regular(path) as file:
            packed_bytes = os.fstat(file.fileno()).st_size
            directory_at = _check_end(file, packed_bytes, loaded)
            if directory_at is not None:
                with zipfile.ZipFile(file) as archive:
                    _load_archive(archive, file, directory_at, packed_bytes, loaded)
    except FileNotFoundError:
        raise ClawproxyError("BUNDLE_UNREADABLE", "no such file or directory", where=str(path)) from None
    except (*_ZIP_FAULTS, UnicodeError, RecursionError) as err:
        raise ClawproxyError(
            "BUNDLE_UNREADABLE", "not a .zip that can be read", where=str(path), got=_why(err)
        ) from None
    return loaded


def _open_regular(path: Path) -> IO[bytes]:
    """Open without waiting for whoever holds the other end of a FIFO."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ClawproxyError("BUNDLE_UNREADABLE", "not a regular file", where=str(path))
    return file


def _check_end(file: IO[bytes], packed_bytes: int, loaded: Loaded) -> int | None:
    """B06, as far as the end record shows it, before the directory is read; returns where the directory begins."""
    file.seek(max(0, packed_bytes - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.startswith(_END_SIGNATURE):
        file.seek(max(0, packed_bytes - _END.size - 0xFFFF))
        if _END_SIGNATURE not in file.read():
            raise ClawproxyError("BUNDLE_UNREADABLE", "not a .zip that can be read", got="no end record")
        loaded.refuse("B06", "BUNDLE_UNREADABLE", "", "something stands after the end record of the .zip")
        return None
    _, disk, directory_disk, here, members, directory_bytes, directory_at, comment_bytes = _END.unpack(end)
    if disk or directory_disk or here != members or comment_bytes:
        loaded.refuse("B06", "BUNDLE_UNREADABLE", "", "a .zip of several parts, or with a comment")
    elif members > loaded.bounds.files or directory_bytes > _DIRECTORY_ENTRY_BYTES * loaded.bounds.files:
        loaded.refuse("B03", "BUNDLE_TOO_LARGE", "", f"more than {loaded.bounds.files} entries")
    elif directory_at + directory_bytes + _END.size != packed_bytes:
        loaded.refuse("B06", "BUNDLE_UNREADABLE", "", "the directory of the .zip does not end where it should")
    else:
        return int(directory_at)
    return None


def _is_contiguous(members: list[zipfile.ZipInfo], file: IO[bytes], directory_at: int) -> bool:
    """B06: from the first byte to the directory there is nothing but the members, one after the other."""
    at, has_sizes_behind = 0, False
    for member in sorted(members, key=lambda member: member.header_offset):
        if not _follows(at, member.header_offset, has_sizes_behind=has_sizes_behind):
            return False
        begins_at = _begins_at(member, file)
        if begins_at is None:
            return False
        at, has_sizes_behind = begins_at + member.compress_size, bool(member.flag_bits & _SIZES_BEHIND)
    return _follows(at, directory_at, has_sizes_behind=has_sizes_behind)


def _follows(end: int, start: int, *, has_sizes_behind: bool) -> bool:
    # a member whose sizes were not known in advance has them behind it, in one of four lengths
    return start == end or (has_sizes_behind and start - end in _DESCRIPTOR_BYTES)


def _begins_at(member: zipfile.ZipInfo, file: IO[bytes]) -> int | None:
    """B06: where the bytes of ``member`` begin; None where its own header says another thing than the directory."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        return None
    flags, method, *sizes, name_bytes, extra_bytes = _LOCAL.unpack(header)
    extra = file.read(name_bytes + extra_bytes)[name_bytes:]
    stated = [member.CRC, member.compress_size, member.file_size]
    if (flags, method) != (member.flag_bits, member.compress_type) or _has_other_name(extra):
        return None
    if not flags & _SIZES_BEHIND and sizes != stated:
        return None
    return int(member.header_offset + _LOCAL.size + name_bytes + extra_bytes)


def _has_other_name(extra: bytes) -> bool:
    while len(extra) >= _EXTRA.size:
        kind, size_bytes = _EXTRA.unpack_from(extra)
        if kind == _UNICODE_PATH:
            return True
        extra = extra[_EXTRA.size + size_bytes :]
    return False


def _fills_its_room(member: zipfile.ZipInfo, file: IO[bytes]) -> bool:
    """B06: what is packed ends with its last byte, so that nothing is hidden behind it. ``zipfile`` does not look."""
    if member.compress_type == zipfile.ZIP_STORED:
        return member.compress_size == member.file_size
    file.seek(_begins_at(member, file) or 0)
    inflater, left, size = zlib.decompressobj(-zlib.MAX_WBITS), member.compress_size, 0
    while left and not inflater.eof and size <= member.file_size:
        block = file.read(min(left, _PACKED_BLOCK_BYTES))
        left = left - len(block) if block else 0
        size += len(inflater.decompress(block))
    return inflater.eof and not left and not inflater.unused_data and size == member.file_size


def _load_archive(
    archive: zipfile.ZipFile, packed: IO[bytes], directory_at: int, packed_bytes: int, loaded: Loaded
) -> None:
    members = archive.infolist()
    bounds = loaded.bounds
    if len(members) > bounds.files:
        loaded.refuse("B03", "BUNDLE_TOO_LARGE", "", f"more than {bounds.files} entries")
        return
    if not _is_contiguous(members, packed, directory_at):
        loaded.refuse("B06", "BUNDLE_UNREADABLE", "", "the .zip holds more than its members, or less")
        return
    most = min(bounds.total_bytes, max(_FREE_RATIO_BYTES, bounds.zip_ratio * packed_bytes))
    if sum(member.file_size for member in members) > most:
        loaded.refuse("B04", "BUNDLE_TOO_LARGE", "", f"unpacks to more than {most} bytes")
        return
    root = _common_root([member.filename for member in members])
    seen: set[str] = set()
    for member in members:
        name = member.filename.removeprefix(root)
        empty_directory = member.filename.endswith("/") and not member.compress_size
        if empty_directory and name.rstrip("/") in {"", *_KNOWN_DIRECTORIES}:
            continue
        fault = _zip_fault(member, name, seen)
        if fault:
            loaded.refuse("B01", "BUNDLE_NAME_REFUSED", member.filename, fault)
            continue
        seen.add(name.casefold())
        if member.file_size > (room_bytes := loaded.room_bytes(name)):
            loaded.refuse("B03", "BUNDLE_TOO_LARGE", member.filename, f"more than {room_bytes} bytes")
            continue
        try:
            with archive.open(member) as file:
                content = _read_bounded(file, member.file_size)
        except _ZIP_FAULTS as err:
            loaded.refuse("B04", "BUNDLE_UNREADABLE", member.filename, _why(err))
            continue
        if content is None or len(content) != member.file_size:
            loaded.refuse("B04", "BUNDLE_UNREADABLE", member.filename, "it unpacks to another size than it states")
            continue
        if not _fills_its_room(member, packed):
            loaded.refuse("B06", "BUNDLE_UNREADABLE", member.filename, "something stands behind what is packed there")
            continue
        loaded.keep(name, content)


def _common_root(names: list[str]) -> str:
    """``job/`` where all entries lie under one directory that is not one of ours, else empty."""
    first, slash, _ = (names[0] if names else "").partition("/")
    root = first + slash
    plain = bool(slash) and first not in {"", ".", "..", *_KNOWN_DIRECTORIES}
    return root if plain and all(name.startswith(root) for name in names) else ""


def _zip_fault(member: zipfile.ZipInfo, name: str, seen: set[str]) -> str:
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "not a regular file"
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "neither stored nor deflated"
    if member.orig_filename != member.filename:
        return "a name that tools read in different ways"
    if fault := _name_fault(name):
        return fault
    return "the name occurs twice" if name.casefold() in seen else ""


def _name_fault(name: str) -> str:
    """Why ``name`` is not a plain relative path of a bundle, or empty."""
    parts = name.split("/")
    if not name or len(name) > _MAX_NAME_CHARS or name.startswith("/") or name.endswith("/"):
        return "not the name of a file"
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name:
        return "a path that leads elsewhere"
    if not name.isascii() or not name.isprintable():
        return "not plain ASCII"
    if len(parts) > 2 or (len(parts) == 2 and parts[0] not in _KNOWN_DIRECTORIES):
        return "in a directory that a bundle does not have"
    return ""


def _read_bounded(file: IO[bytes], most_bytes: int) -> bytes | None:
    """All of ``file``, or None as soon as it gives more than ``most_bytes``."""
    parts, size = [], 0
    while block := file.read(_BLOCK_BYTES):
        size += len(block)
        if size > most_bytes:
            return None
        parts.append(block)
    return b"".join(parts)


def read_wire_file(path: Path) -> bytes:
    """One JSON file of at most ``MAX_WIRE_FILE_BYTES``; raises ``ClawproxyError`` (BUNDLE_UNREADABLE, _TOO_LARGE)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ClawproxyError("BUNDLE_UNREADABLE", "not a regular file", where=str(path))
            content = file.read(MAX_WIRE_FILE_BYTES + 1)
    except (OSError, ValueError) as err:
        raise ClawproxyError(
            "BUNDLE_UNREADABLE",
            f"cannot read it: {_why(err)}",
            where=str(path),
            remedy="give a job directory, a .zip or a signed JSON file",
        ) from None
    if len(content) > MAX_WIRE_FILE_BYTES:
        raise ClawproxyError(
            "BUNDLE_TOO_LARGE",
            "the file is too large",
            where=str(path),
            expected=f"at most {MAX_WIRE_FILE_BYTES} bytes",
        )
    return content


def _why(err: BaseException) -> str:
    return clip((getattr(err, "strerror", None) or str(err) or type(err).__name__).lower())
