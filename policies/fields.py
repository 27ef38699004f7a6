"""Strict reading of one object of a contract or a config file: unknown fields refused, types checked, one clear line.

Pure. Every error is a ``ClawproxyError`` whose ``where`` is the path of the field inside the document.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from ..tokens.canonical import MAX_SAFE_INT, JsonObject
from ..tokens.errors import ClawproxyError, clip

PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
}


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


class Fields:
    """The fields of one object. Reading an absent field gives None; a field that is null is refused as a wrong type."""

    __slots__ = ("_document", "_reason", "where")

    def __init__(
        self, document: object, known: Collection[str], *, where: str = "", reason: str = "WPC_INVALID"
    ) -> None:
        self.where = where
        self._reason = reason
        if not isinstance(document, dict):
            raise ClawproxyError(reason, "wrong type", where=where, got=kind_of(document), expected="an object")
        self._document: JsonObject = document
        for name in document:
            if name not in known:
                self._refuse_unknown(str(name), known)

    def _refuse_unknown(self, name: str, known: Collection[str]) -> NoReturn:
        near = difflib.get_close_matches(name[:128], known, n=1, cutoff=0.6)
        raise ClawproxyError(
            self._reason,
            "unknown field",
            where=self.where,
            got=f'"{clip(name)}"',
            expected="" if near else f"one of {', '.join(sorted(known))}",
            remedy=f'did you mean "{near[0]}"?' if near else "remove it",
        )

    @property
    def document(self) -> JsonObject:
        """The object itself, for fields that something else reads."""
        return self._document

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def closed(self, known: Collection[str]) -> Fields:
        """The same object, in which only ``known`` fields may stand."""
        return Fields(self._document, known, where=self.where, reason=self._reason)

    def at(self, name: str) -> str:
        """The path of a field, for messages."""
        return f"{self.where}.{clip(name)}" if self.where else clip(name)

    def refuse(self, name: str, message: str, *, got: object = None, expected: str = "", remedy: str = "") -> NoReturn:
        """Raise for the field ``name``."""
        raise ClawproxyError(self._reason, message, where=self.at(name), got=got, expected=expected, remedy=remedy)

    def need(self, *names: str) -> None:
        """Refuse if one of ``names`` is missing."""
        for name in names:
            if name not in self._document:
                self.refuse(name, "the field is missing")

    def _typed(self, name: str, kind: type) -> Any:
        value = self._document[name]
        if type(value) is not kind:
            self.refuse(name, "wrong type", got=kind_of(value), expected=_KINDS[kind])
        return value

    def _listed(self, name: str, least: int, most: int) -> list[Any]:
        values: list[Any] = self._typed(name, list)
        if not least <= len(values) <= most:
            self.refuse(name, "wrong number of entries", got=len(values), expected=f"{least} to {most}")
        return values

    def text(
        self, name: str, *, max_chars: int = 128, one_of: Collection[str] = (), like: re.Pattern[str] | None = None
    ) -> str | None:
        """A printable string without surrounding spaces, 1 to ``max_chars`` characters."""
        if name not in self._document:
            return None
        value: str = self._typed(name, str)
        self._check_text(name, value, max_chars)
        if one_of and value not in one_of:
            self.refuse(name, "not a known value", got=value, expected=" or ".join(sorted(one_of)))
        if like is not None and not like.fullmatch(value):
            self.refuse(name, "not of the right form", got=value, expected=like.pattern)
        return value

    def _check_text(self, name: str, value: str, max_chars: int) -> None:
        if not 1 <= len(value) <= max_chars:
            self.refuse(name, "wrong length", got=f"{len(value)} characters", expected=f"1 to {max_chars}")
        if value != value.strip() or not value.isprintable():
            self.refuse(
                name, "spaces around it, or characters that cannot be printed", got=value, expected="plain text"
            )
        if unicodedata.normalize("NFKC", value) != value:
            # two spellings of one name would let a reviewer read another name than the one compared
            self.refuse(
                name, "not in normal form (NFKC)", got=value, expected=clip(unicodedata.normalize("NFKC", value))
            )

    def texts(
        self,
        name: str,
        *,
        max_items: int = 256,
        max_chars: int = 256,
        min_items: int = 0,
        like: re.Pattern[str] | None = None,
    ) -> tuple[str, ...] | None:
        """A list of strings as ``text`` reads them, in order."""
        if name not in self._document:
            return None
        values = self._listed(name, min_items, max_items)
        for n, value in enumerate(values):
            entry = f"{name}[{n}]"
            if type(value) is not str:
                self.refuse(entry, "wrong type", got=kind_of(value), expected="a string")
            self._check_text(entry, value, max_chars)
            if like is not None and not like.fullmatch(value):
                self.refuse(entry, "not of the right form", got=value, expected=like.pattern)
        return tuple(values)

    def scalars(self, name: str, *, max_items: int = 256, min_items: int = 0) -> tuple[str | int | bool, ...] | None:
        """A list of texts of up to 1024 characters, integers and flags."""
        if name not in self._document:
            return None
        values = self._listed(name, min_items, max_items)
        for n, value in enumerate(values):
            if type(value) not in (str, int, bool):
                self.refuse(f"{name}[{n}]", "wrong type", got=kind_of(value), expected="a string, an integer or a flag")
            if isinstance(value, str) and len(value) > 1024:
                self.refuse(f"{name}[{n}]", "too long", got=f"{len(value)} characters", expected="at most 1024")
        return tuple(values)

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``."""
        return self._typed(name, bool) if name in self._document else None

    def integer(self, name: str, *, least: int = 0, most: int = MAX_SAFE_INT) -> int | None:
        """An integer in ``least..most``."""
        if name not in self._document:
            return None
        value: int = self._typed(name, int)
        if not least <= value <= most:
            self.refuse(name, "out of range", got=value, expected=f"{least} to {most}")
        return value

    def object(self, name: str, known: Collection[str] | None = None) -> Fields | None:
        """An inner object; ``known=None`` takes any names."""
        if name not in self._document:
            return None
        value: JsonObject = self._typed(name, dict)
        return Fields(value, value if known is None else known, where=self.at(name), reason=self._reason)

    def objects(
        self, name: str, known: Collection[str], *, min_items: int = 0, max_items: int = 256
    ) -> tuple[Fields, ...] | None:
        """A list of objects with the same known fields."""
        if name not in self._document:
            return None
        values = self._listed(name, min_items, max_items)
        return tuple(
            Fields(value, known, where=f"{self.at(name)}[{n}]", reason=self._reason) for n, value in enumerate(values)
        )

    def is_list(self, name: str) -> bool:
        """Whether the field is there as a list, for fields that have two forms."""
        return isinstance(self._document.get(name), list)

    def is_empty(self) -> bool:
        """Whether the object has no field."""
        return not self._document

    def names(self, what: str, *, max_items: int, max_chars: int = 128) -> Iterator[str]:
        """The names of an open map, sorted, each checked as text; ``what`` says what they are.

        Sorted, since a hash does not cover the order of keys: one hash, one reading.
        """
        if len(self._document) > max_items:
            raise ClawproxyError(
                self._reason,
                f"too many {what}s",
                where=self.where,
                got=len(self._document),
                expected=f"at most {max_items}",
            )
        for name in sorted(self._document):
            self._check_text(name, name, max_chars)
            yield name
