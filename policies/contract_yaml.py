"""A contract written as YAML: read as the JSON that it stands for, or refused. Pure.

YAML has many readings of one text; here it has one. Objects, lists, texts, ``true``, ``false``, ``null`` and numbers as
JSON writes them, and comments, which are no part of the contract. Refused are anchors, aliases, tags, merge keys,
directives, a second document, a key that stands there twice or is no text, a text without quotes on more than one line,
and a word without quotes that some version of YAML takes for something else (``no``, ``on``, ``1:30``, ``2026-01-02``,
``0x10``, ``1_000``, ``1.10``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ..tokens.canonical import MAX_SAFE_INT, JsonObject
from ..tokens.errors import ClawproxyError, clip

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 262_144
"""Four times what a contract may have, for comments and blanks."""
_MAX_DEPTH, _MAX_NODES = 16, 20_000
_WORDS = {"true": True, "false": False, "null": None}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_AMBIGUOUS = re.compile(
    r"y|n|yes|no|on|off|true|false|null|~|=|<<"  # in any case: true, false, absent, or a key of its own
    r"|[-+]?\.?[0-9_][0-9_.,:eE+-]*|[-+]?\.(?:inf|nan)"  # numbers with base 60, signs, exponents, marks; dates
    r"|[-+]?0[xob][0-9a-f_]+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?",
    re.ASCII | re.IGNORECASE,
)


def parse_yaml_object(data: bytes) -> JsonObject:
    """The object that ``data`` stands for; raises ``ClawproxyError`` (WPC_INVALID) with the line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(data) > MAX_BYTES:
        raise _fault("the document is too large", got=f"{len(data)} bytes", expected=f"at most {MAX_BYTES}")
    try:
        events = YAML(typ="safe", pure=True).parse(data.decode("utf-8"))
        value = _Reading(events).document()
    except UnicodeDecodeError as err:
        raise _fault("not UTF-8", got=f"byte {err.start}") from None
    except YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        problem = clip(str(getattr(err, "problem", None) or "it cannot be read").lower())
        raise _fault(f"not YAML: {problem}", line=None if mark is None else mark.line + 1) from None
    if not isinstance(value, dict):
        raise _fault("not an object", expected="a YAML mapping")
    return value


def _fault(
    message: str, *, line: int | None = None, got: object = None, expected: str = "", remedy: str = ""
) -> ClawproxyError:
    where = "" if line is None else f"line {line}"
    return ClawproxyError("WPC_INVALID", message, where=where, got=got, expected=expected, remedy=remedy)


class _Reading:
    """The events of one document, made into a value."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._nodes = 0

    def document(self) -> Any:
        value: Any = None
        documents = 0
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document", expected="one")
                if event.version or event.tags:
                    self._refuse(event, "a directive", remedy="take the line out")
            elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                value = self._value(event, 1)
        if not documents:
            raise _fault("nothing in it", expected="a contract")
        return value

    def _refuse(
        self, event: Any, message: str, *, got: object = None, expected: str = "", remedy: str = ""
    ) -> NoReturn:
        line = event.start_mark.line + 1
        raise _fault(message, line=line, got=got, expected=expected, remedy=remedy)

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            self._refuse(event, "too deep, or too many values", expected=f"{_MAX_DEPTH} levels, {_MAX_NODES} values")
        if kind == "AliasEvent":
            self._refuse(event, "an alias", remedy="write it out; a text that begins with a star needs quotes")
        if event.anchor is not None:
            self._refuse(event, "an anchor", got=event.anchor, remedy="write each value out")
        if event.tag is not None:
            self._refuse(event, "a tag", got=event.tag, remedy="take it out")
        if kind == "ScalarEvent":
            return self._scalar(event)
        return self._list(depth) if kind == "SequenceStartEvent" else self._object(depth)

    def _list(self, depth: int) -> list[Any]:
        items = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._value(event, depth + 1))
        return items

    def _object(self, depth: int) -> JsonObject:
        found: JsonObject = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                self._refuse(event, "a key that is no text", got=key, remedy="put it in quotes")
            if key in found:
                self._refuse(event, "a key that stands there twice", got=key, remedy="keep one of the two")
            found[key] = self._value(next(self._events), depth + 1)
        return found

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style not in (None, ""):
            return text
        if event.start_mark.line != event.end_mark.line:
            self._refuse(event, "a text over more than one line", got=text, remedy="put it in quotes")
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text) and text != "-0" and abs(int(text)) <= MAX_SAFE_INT:
            return int(text)
        if _NUMBER.fullmatch(text) and repr(float(text)) == text and float(text) != int(float(text)):
            return float(text)
        if not text:
            self._refuse(event, "no value", expected='a value; "" is the empty text')
        if _AMBIGUOUS.fullmatch(text):
            self._refuse(
                event,
                "a word that YAML can read in more than one way",
                got=text,
                expected="true, false, or a number as JSON writes it",
                remedy=f'if it is a text, put it in quotes: "{clip(text)}"',
            )
        return text
