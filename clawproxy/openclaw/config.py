"""Reads openclaw.json: JSON5, bounded, with ``${NAME}`` put in place as OpenClaw does. Touches the file system.

What cannot be read in one way is an error, never an empty configuration. A name that the environment does not have
is taken from ``env.vars``, else stays as it stands; ``compare`` names it. ``$include`` is not followed, and named as
well.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import json5
import orjson

from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError, clip

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PARTS = 20_000
_MAX_REPLACED_CHARS = 4 * 1024 * 1024
"""Of all texts together, once the names in them are put in place."""
_REFERENCE = re.compile(r"(\$?)\$\{([A-Z_][A-Z0-9_]*)\}", re.ASCII)
_REFERENCE_BYTES = re.compile(_REFERENCE.pattern.encode())

type Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """``tree`` with names put in place, to be judged; ``raw`` as it stands, to be shown: what a name stands for may be
    a secret. ``content`` are the file's bytes."""

    tree: JsonObject
    raw: JsonObject
    content: bytes = field(repr=False)
    given: frozenset[str] = frozenset()
    """The names that the environment has. What others stand for is not known: OpenClaw's ``.env`` files are taken for
    its environment, and that counts before ``env.vars``."""

    @property
    def sha256_b64u(self) -> str:
        """Over the file's bytes."""
        return sha256_b64u(self.content)

    @property
    def references(self) -> frozenset[str]:
        """The names ``${NAME}`` that it refers to."""
        return frozenset(found.decode() for _, found in _REFERENCE_BYTES.findall(self.content))

    @property
    def version(self) -> str:
        """The version that wrote it last, or empty."""
        meta = self.tree.get("meta")
        version = meta.get("lastTouchedVersion") if isinstance(meta, dict) else None
        return clip(version, 64) if isinstance(version, str) else ""


def read_config(path: Path, environment: Mapping[str, str]) -> LiveConfig:
    """Raises ``ClawproxyError`` (FILE_UNREADABLE, OPENCLAW_CONFIG)."""
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as err:
        raise ClawproxyError(
            "FILE_UNREADABLE", f"cannot read: {(err.strerror or 'error').lower()}", where=str(path)
        ) from None
    if len(content) > MAX_BYTES:
        raise ClawproxyError(
            "OPENCLAW_CONFIG", "the file is too large", where=str(path), expected=f"at most {MAX_BYTES} bytes"
        )
    try:
        return parse_config(content, environment)
    except ClawproxyError as err:
        raise err.at(str(path)) from None


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Up to one byte more than ``max_bytes`` of a regular file; of a pipe or a device, which can keep a reader waiting,
    ``OSError``."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "not a regular file")
        return file.read(max_bytes + 1)


def parse_config(content: bytes, environment: Mapping[str, str]) -> LiveConfig:
    """Raises ``ClawproxyError`` (OPENCLAW_CONFIG)."""
    try:
        tree = orjson.loads(content)  # what OpenClaw writes itself is JSON; the JSON5 reader takes a second for 50 KB
    except orjson.JSONDecodeError:
        tree = _json5(content)
    if not isinstance(tree, dict):
        raise ClawproxyError("OPENCLAW_CONFIG", "not an object", got=type(tree).__name__)
    for parts, (path, _) in enumerate(walk(tree)):
        if parts > MAX_PARTS or len(path) > MAX_DEPTH:
            raise ClawproxyError("OPENCLAW_CONFIG", "more settings, or deeper ones, than are read")
    vars_ = _inner_vars(tree)
    given = frozenset(name for name, text in environment.items() if text)
    return LiveConfig(_Replacing({**vars_, **environment}).replaced(tree), tree, content, given)


def walk(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every setting with its path, objects and lists before what is in them; places in a list are ``[0]``, ``[1]``."""
    stack = [(path, value)]
    while stack:
        at, item = stack.pop()
        if at:
            yield at, item
        if len(at) > MAX_DEPTH:
            continue
        if isinstance(item, dict):
            stack += [((*at, str(key)), inner) for key, inner in reversed(list(item.items()))]
        elif isinstance(item, list):
            stack += [((*at, f"[{n}]"), inner) for n, inner in reversed(list(enumerate(item)))]


def references_in(text: str) -> frozenset[str]:
    """The names ``${NAME}`` in a text."""
    return frozenset(found[2] for found in _REFERENCE.finditer(text) if not found[1])


def at(tree: Any, *path: str) -> Any:
    """The value at ``path``, None where there is none."""
    for name in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(name)
    return tree


def written(path: Path_) -> str:
    """A path as people write it: ``agents.list[0].tools``."""
    return clip(".".join(path).replace(".[", "["), 200)


def _json5(content: bytes) -> Any:
    try:
        return json5.loads(content.decode("utf-8"), allow_duplicate_keys=False)
    except (ValueError, RecursionError) as err:
        raise ClawproxyError("OPENCLAW_CONFIG", f"not JSON5: {clip(str(err).lower() or 'too deep', 120)}") from None


def _inner_vars(tree: JsonObject) -> dict[str, str]:
    """``env.vars``, which OpenClaw takes where the environment has no such name."""
    told = at(tree, "env", "vars")
    return {name: text for name, text in told.items() if isinstance(text, str)} if isinstance(told, dict) else {}


class _Replacing:
    """Puts names in place, so much and no more: a long value that is named often is longer than any file."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._left = _MAX_REPLACED_CHARS

    def replaced(self, value: Any) -> Any:
        if isinstance(value, str):
            return _REFERENCE.sub(self._value, value) if "${" in value else value
        if isinstance(value, dict):
            return {key: self.replaced(inner) for key, inner in value.items()}
        return [self.replaced(inner) for inner in value] if isinstance(value, list) else value

    def _value(self, found: re.Match[str]) -> str:
        text = _value_of(found, self._names)
        self._left -= len(text)
        if self._left < 0:
            raise ClawproxyError("OPENCLAW_CONFIG", "the names in it stand for more text than is read")
        return text


def _value_of(found: re.Match[str], names: Mapping[str, str]) -> str:
    if found[1]:
        return found[0][1:]
    return names.get(found[2]) or found[0]
