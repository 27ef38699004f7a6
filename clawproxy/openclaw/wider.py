"""One setting that allows more than the contract, and how it is shown without its secrets. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..receipts.report import printable
from ..tokens.canonical import JsonObject
from ..tokens.errors import clip
from .config import Path_, written

_SECRET = re.compile(r"token|api_?key|secret|passw|authorization|cookie|credential|private", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9 _.:/*@+-]{0,80}", re.ASCII)
_REFERENCE = re.compile(r"\$\{[A-Z_][A-Z0-9_]*\}", re.ASCII)
_HEADERS = frozenset({"headers", "env", "vars"})
_SHOWN = 4
_MOST_SAID = 400


@dataclass(frozen=True, slots=True)
class Wider:
    """``field`` is the field of the contract that it goes beyond, ``says`` what that says, ``value`` what stands there
    (a secret only as what it is)."""

    path: str
    value: str
    field: str
    says: str
    remedy: str

    def to_json(self) -> JsonObject:
        return {name: getattr(self, name) for name in ("path", "value", "field", "says", "remedy")}

    def line(self) -> str:
        """For people, on one line."""
        return f"{self.path} = {self.value}: {self.says} ({self.field}); {self.remedy}"


def wider(path: Path_ | str, value: Any, field: str, says: str, remedy: str) -> Wider:
    """``value`` None stands for a setting that is not there. Names in what is said may be the agent's own words: they
    are cut short, and nothing in them acts on a terminal."""
    parts = tuple(path.split(".")) if isinstance(path, str) else path
    said, done = (printable(text)[:_MOST_SAID] for text in (says, remedy))
    return Wider(written(parts), shown(value, parts), field, said, done)


def shown(value: Any, path: Path_ = ()) -> str:
    """A value without what may be a secret; short, one line."""
    if value is None:
        return "absent"
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, list):
        parts = [shown(item, path) for item in value[:_SHOWN]]
        return clip(f"[{', '.join(parts)}{', …' if len(value) > _SHOWN else ''}]", 200)
    return f"{{{clip(', '.join(map(str, list(value)[:_SHOWN])), 120)}{', …' if len(value) > _SHOWN else ''}}}"


def is_secret(path: Path_) -> bool:
    """Whether a text there may be a secret, by its name."""
    return any(_SECRET.search(name) for name in path[-1:]) or any(name in _HEADERS for name in path[-2:])


def _text(value: str, path: Path_) -> str:
    if _REFERENCE.fullmatch(value):
        return value
    if is_secret(path):
        return "(a text)"
    if "://" in value:
        return _address(value)
    return json.dumps(value) if _PLAIN.fullmatch(value) else f"(a text of {len(value)} characters)"


def _address(value: str) -> str:
    """An address without user, password, query and fragment."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address)"
    if "${" in value:
        return clip(value.partition("?")[0], 80) if "@" not in value else "(an address)"
    return json.dumps(clip(f"{parts.scheme}://{host}{port}{parts.path}", 80))
