"""What a contract says about the arguments of a tool's call: a JSON Schema, or simple conditions. Pure.

``tool_arguments`` maps a word of the contract to ``{"schema": …}``, ``{"when": [condition, …]}``, or both; a call of
any tool that the word stands for must satisfy all of it. A condition looks at one argument:

    {"argument": "path", "like": ["/srv/data/*"]}        a text that fits one of the patterns (``*``: any characters)
    {"argument": "command", "not_like": ["*rm *"]}       a text that fits none of them
    {"argument": "mode", "one_of": ["read", 3, true]}    equal to one of these texts, integers or flags
    {"argument": "limit", "at_least": 1, "at_most": 50}  an integer within these bounds
    {"argument": "body", "max_chars": 2000}              a text that is no longer

``argument`` is the name of a member, or a JSON pointer (RFC 6901) that begins with ``/``. An argument that is not
there, or of another type, fails its condition; with ``"optional": true`` it may be absent. Case counts, and a member
that only looks like the argument (``PATH``) fails it as well: some readers of JSON take one for the other.

Limits: a schema's patterns are matched in linear time (no look-around, no back references); it may not refer to
anything outside itself. A condition judges what is written, not what a shell would make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.errors import ClawproxyError, clip
from .fields import Fields
from .names import fold, matches

CONDITION_FIELDS = ("argument", "optional", "like", "not_like", "one_of", "at_least", "at_most", "max_chars")
MAX_WORDS = 64
MAX_CONDITIONS = 64
_REGEX_BYTES = 1024 * 1024
_ABSENT = object()
_UNCLEAR = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of one argument; a member that is None asks for nothing."""

    argument: str
    optional: bool = False
    like: tuple[str, ...] | None = None
    not_like: tuple[str, ...] | None = None
    one_of: tuple[str | int | bool, ...] | None = None
    at_least: int | None = None
    at_most: int | None = None
    max_chars: int | None = None

    def __eq__(self, other: object) -> bool:
        """The same members, and ``true`` is not 1, since ``fault`` tells them apart."""
        return isinstance(other, Condition) and self._told_apart() == other._told_apart()

    def __hash__(self) -> int:
        return hash(self._told_apart())

    def _told_apart(self) -> tuple[object, ...]:
        return (*(getattr(self, name) for name in CONDITION_FIELDS), *map(type, self.one_of or ()))

    def fault(self, arguments: Any) -> str | None:
        """What is wrong, as the name of the part that fails; None if nothing is."""
        value = _at(arguments, self.argument)
        if value is _UNCLEAR or value is _ABSENT:
            return None if self.optional and value is _ABSENT else "argument"
        if self.one_of is not None and not any(type(value) is type(known) and value == known for known in self.one_of):
            return "one_of"
        if self.at_least is not None or self.at_most is not None:
            if type(value) is not int or (self.at_least is not None and value < self.at_least):
                return "at_least" if self.at_least is not None else "at_most"
            if self.at_most is not None and value > self.at_most:
                return "at_most"
        if self.like is not None and not (isinstance(value, str) and _fits(self.like, value)):
            return "like"
        if self.not_like is not None and not (isinstance(value, str) and not _fits(self.not_like, value)):
            return "not_like"
        if self.max_chars is not None and not (isinstance(value, str) and len(value) <= self.max_chars):
            return "max_chars"
        return None


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """All that a contract says about the arguments of one word's tools."""

    word: str
    conditions: tuple[Condition, ...] = ()
    schema: jsonschema_rs.Validator | None = field(default=None, repr=False, compare=False)
    schema_text: str = field(default="", repr=False)
    """The schema in canonical JSON; empty where there is none."""

    def fault(self, arguments: Any) -> str | None:
        """The rule that ``arguments`` (a JSON value) break, as a place in the contract; None if they break none."""
        place = f'tool_arguments["{self.word}"]'
        for n, condition in enumerate(self.conditions):
            if (part := condition.fault(arguments)) is not None:
                return f"{place}.when[{n}].{part}"
        if self.schema is not None and not self.schema.is_valid(arguments):
            return f"{place}.schema"
        return None


@dataclass(frozen=True, slots=True)
class ArgumentRules:
    """The rules by wire name; made by ``read_argument_rules``."""

    rules: tuple[ArgumentRule, ...] = ()
    _literals: Mapping[str, tuple[ArgumentRule, ...]] = field(default_factory=dict, repr=False)
    _globs: tuple[tuple[str, ArgumentRule], ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """The folded names and patterns of the tools that some rule speaks of."""
        return (*self._literals, *(pattern for pattern, _ in self._globs))

    def of(self, name: str) -> tuple[ArgumentRule, ...]:
        """Those that speak of the tool ``name``, by its folded name, so that no other spelling gets around one."""
        if not self.rules:
            return ()
        folded = fold(name)
        return (
            *self._literals.get(folded, ()),
            *(rule for pattern, rule in self._globs if matches(pattern, folded)),
        )


NO_ARGUMENT_RULES = ArgumentRules()


def read_argument_rules(fields: Fields, classes: Mapping[str, tuple[str, ...]]) -> ArgumentRules:
    """The field ``tool_arguments``; raises ``ClawproxyError`` (WPC_INVALID)."""
    inner = fields.object("tool_arguments")
    if inner is None:
        return NO_ARGUMENT_RULES
    rules: list[ArgumentRule] = []
    literals: dict[str, tuple[ArgumentRule, ...]] = {}
    globs: list[tuple[str, ArgumentRule]] = []
    for word in inner.names("tool", max_items=MAX_WORDS):
        if "*" in word:
            inner.refuse(word, "a pattern where a word stands", expected="a word of tool_classes, or a wire name")
        rule = _read_rule(inner, word)
        rules.append(rule)
        for pattern in {word, *classes.get(word, ())}:
            key = fold(pattern)
            if "*" in key:
                globs.append((key, rule))
            else:
                literals[key] = (*literals.get(key, ()), rule)
    return ArgumentRules(tuple(rules), literals, tuple(globs))


def _read_rule(fields: Fields, word: str) -> ArgumentRule:
    rule = fields.object(word, ("schema", "when"))
    assert rule is not None
    conditions = rule.objects("when", CONDITION_FIELDS, min_items=1, max_items=MAX_CONDITIONS) or ()
    schema = rule.object("schema")
    if schema is None and not conditions:
        fields.refuse(word, "nothing is asked of the arguments", expected='"schema" or "when"', remedy="take it out")
    return ArgumentRule(
        word,
        tuple(_read_condition(condition) for condition in conditions),
        None if schema is None else _validator(rule, schema.document),
        "" if schema is None else jcs_bytes(schema.document).decode("utf-8"),
    )


def _read_condition(fields: Fields) -> Condition:
    fields.need("argument")
    condition = Condition(
        argument=fields.text("argument", max_chars=256) or "",
        optional=fields.flag("optional") or False,
        like=fields.texts("like", min_items=1),
        not_like=fields.texts("not_like", min_items=1),
        one_of=fields.scalars("one_of", min_items=1),
        at_least=fields.integer("at_least", least=-(2**53) + 1),
        at_most=fields.integer("at_most", least=-(2**53) + 1),
        max_chars=fields.integer("max_chars"),
    )
    asked = (condition.like, condition.not_like, condition.one_of, condition.at_least, condition.at_most)
    if all(part is None for part in (*asked, condition.max_chars)):
        fields.refuse("argument", "nothing is asked of the argument", expected=", ".join(CONDITION_FIELDS[2:]))
    return condition


def _validator(fields: Fields, schema: JsonObject) -> jsonschema_rs.Validator:
    """Draft 2020-12 unless ``$schema`` says another."""
    try:
        options = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
        return jsonschema_rs.validator_for(schema, offline=True, pattern_options=options)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as err:
        message = clip(str(err).splitlines()[0].lower())
        raise ClawproxyError(
            "WPC_INVALID", f"not a JSON Schema that can be used: {message}", where=fields.at("schema")
        ) from None


def _at(arguments: Any, place: str) -> Any:
    """The value at a name or a JSON pointer, or ``_ABSENT``; ``_UNCLEAR`` where another spelling stands there."""
    names = place.split("/")[1:] if place.startswith("/") else [place]
    value = arguments
    for name in names:
        if place.startswith("/"):
            name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and _has_other_spelling(value, name):
            return _UNCLEAR
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 7 and int(name) < len(value):
            value = value[int(name)]
        else:
            return _ABSENT
    return value


def _has_other_spelling(value: dict[str, Any], name: str) -> bool:
    folded = fold(name)
    return any(key != name and fold(key) == folded for key in value)


def _fits(patterns: tuple[str, ...], value: str) -> bool:
    return any(matches(pattern, value) for pattern in patterns)
