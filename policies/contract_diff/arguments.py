"""Whether every set of arguments that one contract takes for a tool is taken by another. Pure.

A rule that stands in both asks for nothing new. Of what is left, conditions on one argument say nothing of another, so
each argument is looked at alone: one value for every way in which the conditions on it can fit, a text for every way in
which the patterns can. Those show everything, but where a schema, a JSON pointer, or names that only differ in spelling
take part: there values are tried, and what they do not show is not decided.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ..argument_rules import ArgumentRule, Condition
from ..names import fold
from .names import names_that_fit
from .patterns import Machine, Reader, View, literal_steps, name_steps

_ABSENT, _UNCLEAR = object(), object()
_MAX_CHARS = 4096
_MAX_TRIED = 4_000
_OTHER_TYPES: tuple[Any, ...] = (None, True, False, 0.5, [], {})


@dataclass(frozen=True, slots=True)
class Arguments:
    """``example``, where ``found``; else ``decided`` says whether there is none."""

    example: Any = None
    found: bool = False
    decided: bool = True


def arguments_only_here(here: Sequence[ArgumentRule], there: Sequence[ArgumentRule]) -> Arguments:
    """Arguments that the rules ``here`` take and those ``there`` do not."""
    asked = [rule for rule in there if not any(_same(rule, mine) for mine in here)]
    if not asked:
        return Arguments()
    mine = _conditions(here)
    theirs = [left for condition in _conditions(asked) if (left := _beyond(condition, mine)) is not None]
    schemas = [rule for rule in asked if rule.schema is not None]
    places = _Places(mine, theirs)
    if places.empty is not None and not places.unsure:
        return Arguments()
    for arguments in itertools.chain(places.rows(), itertools.islice(_of_schemas([*schemas, *here]), _MAX_TRIED)):
        if takes(here, arguments) and not takes(there, arguments):
            return Arguments(arguments, found=True)
    # without a value beyond the conditions, a schema here can only take away
    return Arguments(decided=not schemas and not places.unsure and (not places.beyond or not _has_schema(here)))


def takes(rules: Iterable[ArgumentRule], arguments: Any) -> bool:
    """Whether the arguments break no rule."""
    return all(rule.fault(arguments) is None for rule in rules)


def arguments_for(rules: Sequence[ArgumentRule]) -> Arguments:
    """Arguments that the rules take, if some can be found."""
    places = _Places(_conditions(rules), [])
    for arguments in itertools.chain(({},), places.rows(), itertools.islice(_of_schemas(rules), _MAX_TRIED)):
        if takes(rules, arguments):
            return Arguments(arguments, found=True)
    return Arguments(decided=not places.unsure and not _has_schema(rules))


def _same(a: ArgumentRule, b: ArgumentRule) -> bool:
    return (a.conditions, a.schema_text) == (b.conditions, b.schema_text)


def _conditions(rules: Iterable[ArgumentRule]) -> list[Condition]:
    return [condition for rule in rules for condition in rule.conditions]


def _has_schema(rules: Iterable[ArgumentRule]) -> bool:
    return any(rule.schema is not None for rule in rules)


def _beyond(asked: Condition, mine: Iterable[Condition]) -> Condition | None:
    """What ``asked`` asks that no single condition of ``mine`` asks already; None where that is nothing."""
    if asked in mine:
        return None
    for of in mine:
        if of.argument != asked.argument or (of.optional and not asked.optional):
            continue
        if asked.max_chars is not None and of.max_chars is not None and of.max_chars <= asked.max_chars:
            asked = replace(asked, max_chars=None)
    parts = (asked.like, asked.not_like, asked.one_of, asked.at_least, asked.at_most, asked.max_chars)
    return None if all(part is None for part in parts) else asked


class _Places:
    """The arguments that conditions name, with the values of each that are taken here.

    ``empty`` is one without any, so that no arguments are taken at all. ``beyond`` says that some value is taken here
    that the other conditions do not take; ``unsure``, that there may be values which were not looked at.
    """

    def __init__(self, mine: Sequence[Condition], theirs: Sequence[Condition]) -> None:
        self._names = tuple(dict.fromkeys(condition.argument for condition in (*mine, *theirs)))
        self.unsure = any(name.startswith("/") or name.isdigit() for name in self._names)
        self.unsure |= len({fold(name) for name in self._names}) < len(self._names)
        self.empty: str | None = None
        self.beyond = False
        self._taken: list[list[Any]] = []
        self._only_here: list[list[Any]] = []
        for name in self._names:
            here = [condition for condition in mine if condition.argument == name]
            there = [condition for condition in theirs if condition.argument == name]
            values, complete = _values(here, there)
            taken = [value for value in values if _fits(here, value)]
            only = [value for value in taken if not _fits(there, value)]
            if not taken:
                self.empty = name
            self.unsure |= not complete and not only
            self.beyond |= bool(only)
            self._taken.append(taken)
            self._only_here.append(only)

    def rows(self) -> Iterator[Any]:
        """Arguments to try: each value that is only taken here, with the others as they must be."""
        if self.empty is not None and not self.unsure:
            return
        usual = [taken[0] if taken else _ABSENT for taken in self._taken]
        yield self._row(usual)
        for n, values in enumerate(self._only_here):
            for value in values:
                yield self._row([*usual[:n], value, *usual[n + 1 :]])

    def _row(self, values: Sequence[Any]) -> Any:
        row: dict[str, Any] = {}
        for name, value in zip(self._names, values, strict=True):
            if value is _UNCLEAR:
                row[_other_spelling(name)] = ""
            elif value is not _ABSENT:
                _put(row, name, value)
        return row


def _put(row: dict[str, Any], place: str, value: Any) -> None:
    """At the name, or below objects that the pointer names."""
    names = [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]] or [place]
    names = names if place.startswith("/") else [place]
    for name in names[:-1]:
        inner = row.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        row = inner
    row[names[-1]] = value


def _other_spelling(name: str) -> str:
    swapped = name.swapcase()
    return swapped if swapped != name and fold(swapped) == fold(name) else f"{name} "


def _fits(conditions: Sequence[Condition], value: Any) -> bool:
    row = {} if value is _ABSENT else {_other_spelling("a"): ""} if value is _UNCLEAR else {"a": value}
    return all(replace(condition, argument="a").fault(row) is None for condition in conditions)


def _values(here: Sequence[Condition], there: Sequence[Condition]) -> tuple[list[Any], bool]:
    """Values of one argument, and whether they show every way in which the conditions can fit."""
    conditions = (*here, *there)
    known = [value for condition in conditions for value in condition.one_of or ()]
    bounds = [bound for c in conditions for bound in (c.at_least, c.at_most) if bound is not None]
    numbers = [*bounds, *(value for value in known if type(value) is int)]
    integers = sorted({number + step for number in (*numbers, 0) for step in (-1, 0, 1)})
    patterns = [pattern for c in conditions for pattern in (*(c.like or ()), *(c.not_like or ()))]
    texts = [value for value in known if isinstance(value, str)]
    steps = (*(name_steps(pattern) for pattern in patterns), *(literal_steps(text) for text in texts))
    machine = Machine(Reader(View.EXACT, tuple(dict.fromkeys(steps))))
    found = names_that_fit([(machine, machine.start)], takes=_is_text, max_chars=_MAX_CHARS)
    lengths = [condition.max_chars for condition in conditions if condition.max_chars is not None]
    likes = [pattern for condition in here for pattern in condition.like or () if "*" in pattern]
    stretched = [_stretched(text, length) for length in lengths for text in (*found.names, *likes)]
    values = ["", *texts, *found.names, *stretched, *integers, *_OTHER_TYPES, _ABSENT, _UNCLEAR]
    # a text that must be longer than all that were found could still fit where nothing here bounds it
    grows = any(condition.max_chars is not None for condition in there) and not any(_bounds_texts(c) for c in here)
    return values, found.complete and not grows


def _bounds_texts(condition: Condition) -> bool:
    """Whether texts of some length are all refused: other than a few, those without a star, or all, as no numbers."""
    if condition.one_of is not None or condition.at_least is not None or condition.at_most is not None:
        return True
    return condition.like is not None and not any("*" in pattern for pattern in condition.like)


def _is_text(text: str) -> bool:
    return True


def _stretched(text: str, length: int) -> str:
    """``text``, or a pattern with its first star filled, of one character more than ``length``."""
    filler = "x" * max(0, min(length, _MAX_CHARS) + 1 - len(text.replace("*", "")))
    return text.replace("*", filler, 1).replace("*", "") if "*" in text else text + filler


# -- schemas -----------------------------------------------------------------------------------------------------------


def _of_schemas(rules: Iterable[ArgumentRule]) -> Iterator[Any]:
    """Arguments that lie at the edges of what schemas say."""
    schemas = [orjson.loads(rule.schema_text) for rule in rules if rule.schema_text]
    if not schemas:
        return
    yield from ({}, [], "", 0, None, {"x": "x"})
    per_name: dict[str, list[Any]] = {}
    for schema in schemas:
        for name, values in _edges(schema, 4).items():
            known = per_name.setdefault(name, [])
            known += [value for value in values if not any(_is_same(value, other) for other in known)]
    usual = {name: values[0] for name, values in per_name.items() if values}
    yield usual
    for name in per_name:
        yield {other: value for other, value in usual.items() if other != name}
    yield {**usual, "x": "x"}
    for name, values in per_name.items():
        for value in values:
            yield {**usual, name: value}
            yield {name: value}
    yield from (dict(zip(per_name, row, strict=True)) for row in itertools.product(*per_name.values()))


def _is_same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def _edges(schema: Any, depth: int) -> dict[str, list[Any]]:
    """By the name of a member, values that the schema lets through or nearly so."""
    found: dict[str, list[Any]] = {}
    if not isinstance(schema, dict) or not depth:
        return found
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        found.setdefault(name, []).extend(_near(inner, depth - 1))
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, ()) if isinstance(schema.get(key), list) else ():
            for name, values in _edges(part, depth - 1).items():
                found.setdefault(name, []).extend(values)
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        found.setdefault(str(name), ["x"])
    return found


def _near(schema: Any, depth: int) -> list[Any]:
    if not isinstance(schema, dict):
        return ["x"]
    values: list[Any] = [*_list(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(bound := schema.get(key), int):
            values += [bound, bound - 1, bound + 1]
    for key in ("minLength", "maxLength"):
        if isinstance(length := schema.get(key), int) and length < _MAX_CHARS:
            values += ["x" * length, "x" * (length + 1), "x" * max(0, length - 1)]
    kinds = schema.get("type")
    usual = {"string": "x", "integer": 1, "number": 0.5, "boolean": True, "null": None, "array": ["x"], "object": {}}
    values += [usual[kind] for kind in ([kinds] if isinstance(kinds, str) else _list(kinds)) if kind in usual]
    inner = {name: near[0] for name, near in _edges(schema, depth).items() if near}
    return [*([inner] if inner else []), *values, "x", "", 1, None]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
