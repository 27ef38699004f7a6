"""A contract as YAML for people, with comments. Pure.

Block style, every text in double quotes as JSON writes it, so that no reader takes one for a number or a flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..tokens.canonical import JsonObject

type Place = tuple[str | int, ...]
_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
_NO_KEYS = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})
_MAX_COMMENT_CHARS = 400


def yaml_text(document: JsonObject, comments: Mapping[Place, str], head: Iterable[str], tail: Iterable[str]) -> str:
    """``document`` with each comment behind the line of its place, and whole lines of comment before and after it."""
    lines = [f"# {_shown(line)}" for line in head]
    lines += _members(document, (), "", comments)
    lines += [f"# {_shown(line)}" for line in tail]
    return "\n".join(lines) + "\n"


def _members(value: Mapping[str, Any], place: Place, indent: str, comments: Mapping[Place, str]) -> Iterator[str]:
    for name, member in value.items():
        where = (*place, name)
        yield from _entry(f"{indent}{_key(name)}:", member, where, indent + "  ", comments)


def _entry(begin: str, value: Any, place: Place, indent: str, comments: Mapping[Place, str]) -> Iterator[str]:
    """One key, or one dash, with what belongs to it."""
    if isinstance(value, dict | list) and value:
        yield begin + _comment(place, comments)
        if isinstance(value, dict):
            yield from _members(value, place, indent, comments)
            return
        for n, item in enumerate(value):
            where = (*place, n)
            if isinstance(item, dict) and item:
                first, *rest = _members(item, where, indent + "  ", comments)
                yield f"{indent}- {first[len(indent) + 2 :]}" + _comment(where, comments)
                yield from rest
            else:
                yield from _entry(f"{indent}-", item, where, indent + "  ", comments)
        return
    yield f"{begin} {_scalar(value)}" + _comment(place, comments)


def _key(name: str) -> str:
    plain = _PLAIN_KEY.fullmatch(name) is not None and name.lower() not in _NO_KEYS
    return name if plain else _scalar(name)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _comment(place: Place, comments: Mapping[Place, str]) -> str:
    return f"  # {_shown(comments[place])}" if place in comments else ""


def _shown(text: str) -> str:
    """On one line, and nothing in it that ends a line or turns text around."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= _MAX_COMMENT_CHARS else clean[:_MAX_COMMENT_CHARS] + "…"
