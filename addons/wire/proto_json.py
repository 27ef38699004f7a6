"""JSON as the parsers of protocol-buffer APIs read it: a field has two names, ``fileUri`` and ``file_uri``. Pure.

A ``Messages`` is a closed description of messages; what it reads has the underscored names only. Whatever leaves room
for a second reading is refused: a key that is neither of the two names, both names in one object, an object or a list
where a plain value stands. One object in place of a list of them is a list of one (the provider documents it so), and
null is a field that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from ...tokens.canonical import JsonObject
from ...tokens.errors import ClawproxyError
from .keys import fold_key, named, refuse

_UNDERSCORED = re.compile(r"_([a-z0-9])")
_PLAIN = "plain"
_ANY = "any"


class Messages:
    """The messages of one API: ``{"Part": "text file_data:FileData args:any parts:Part*"}``.

    A field is a plain value or a list of such, or what stands after its colon: another message, a list of them
    (``*``), or ``any`` for JSON that is the agent's own (schemas, arguments).
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._fields: dict[str, dict[str, tuple[str, str]]] = {}
        self._folded: dict[str, dict[str, str]] = {}
        for message, spec in messages.items():
            names = self._fields[message] = {}
            for entry in spec.split():
                field, _, kind = entry.partition(":")
                for spelling in (field, camel(field)):
                    names[spelling] = (field, kind or _PLAIN)
            self._folded[message] = {fold_key(field): field for field, _ in names.values()}

    def keys(self, message: str) -> str:
        """Every key that ``message`` may have."""
        return " ".join(self._fields[message])

    def read(self, message: str, value: Any, where: str) -> JsonObject:
        """``value`` under its underscored names, messages within it too; raises ``ClawproxyError``."""
        if not isinstance(value, dict):
            refuse(where, "not an object", type(value).__name__, "an object")
        fields, out = self._fields[message], {}
        for key, inner in value.items():
            known = fields.get(key)
            if known is None:
                self._refuse_key(message, key, where)
            field, kind = known
            if field in out:
                _ambiguous(where, f"{field!r} occurs in two spellings", "one of them")
            out[field] = self._read_field(kind, inner, f"{where}.{field}")
        return {field: inner for field, inner in out.items() if inner is not None}

    def _read_field(self, kind: str, value: Any, where: str) -> Any:
        if value is None or kind == _ANY:
            return value
        if kind == _PLAIN:
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, dict | list):
                    refuse(where, "not a plain value", type(item).__name__, "a string, a number or a list of them")
            return value
        if not kind.endswith("*"):
            return self.read(kind, value, where)
        items = value if isinstance(value, list) else [value]
        return [self.read(kind[:-1], item, where) for item in items]

    def _refuse_key(self, message: str, key: str, where: str) -> NoReturn:
        meant = self._folded[message].get(fold_key(key)) if len(key) <= 128 else None
        if meant is not None:
            _ambiguous(where, f"a key reads like {meant!r} without being it", f"{meant!r} or {camel(meant)!r}")
        refuse(
            where,
            f"{named('a key', key)}: the gateway cannot judge this key",
            expected="the keys that the provider documents",
        )


def _ambiguous(where: str, message: str, expected: str) -> NoReturn:
    raise ClawproxyError("REQUEST_AMBIGUOUS", message, where=where, expected=expected)


def camel(field: str) -> str:
    """The other name of a field: ``file_uri`` is ``fileUri``."""
    return _UNDERSCORED.sub(lambda found: found[1].upper(), field)
