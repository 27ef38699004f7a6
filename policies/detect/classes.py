"""Which detectors stand behind a class of data (configs/data_classes.toml, and the operator's own file). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..fields import Fields
from ..tool_classes import parse_toml
from .checks import Span, alone
from .detectors import DETECTORS, Detector, Looks

PII = "pii"
"""Stands for all classes that are personal."""

CLASS_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_MAX_PATTERN_CHARS = 1024
_MAX_WORDS = 2000


@dataclass(frozen=True, slots=True)
class DataClasses:
    """Classes by name, those of them that are personal, the labels, and the detectors that a file added."""

    detectors_of: Mapping[str, frozenset[str]]
    personal: frozenset[str]
    labels: frozenset[str]
    own: Mapping[str, Detector] = field(default_factory=dict)

    def detectors(self) -> list[Detector]:
        """Every detector that some class names."""
        named = frozenset[str]().union(*self.detectors_of.values())
        return [detector for name, detector in {**DETECTORS, **self.own}.items() if name in named]

    def behind(self, name: str) -> frozenset[str]:
        """The detectors of a class, of the alias ``pii``, or none for a label."""
        if name == PII:
            return frozenset[str]().union(*(self.detectors_of[one] for one in self.personal))
        return self.detectors_of.get(name, frozenset())

    def is_detected(self, name: str) -> bool:
        """Whether ``name`` is a class with detectors, or the alias."""
        return name == PII or name in self.detectors_of


def load_data_classes(toml: bytes, base: DataClasses | None = None) -> DataClasses:
    """Parse a file of classes, on top of ``base``; raises ``ClawproxyError`` (CONFIG_INVALID)."""
    fields = parse_toml(toml).closed(("labels", "classes", "patterns", "dictionaries"))
    base = base or DataClasses({}, frozenset(), frozenset())
    own = {**base.own, **{detector.name: detector for detector in _own(fields)}}
    detectors_of, personal = dict(base.detectors_of), set(base.personal)
    known = {*DETECTORS, *own}
    classes = fields.object("classes")
    included: dict[str, tuple[str, ...]] = {}
    for name in classes.names("class of data", max_items=256) if classes is not None else ():
        inner = classes.object(name, ("detectors", "includes", "personal")) if classes is not None else None
        if inner is None:
            continue
        if not CLASS_NAME.fullmatch(name) or name == PII:
            inner.refuse(name, "not the name of a class", got=name, expected=f"{CLASS_NAME.pattern}, not {PII}")
        wanted = inner.texts("detectors") or ()
        for n, detector in enumerate(wanted):
            if detector not in known:
                inner.refuse(f"detectors[{n}]", "no such detector", got=detector)
        included[name] = inner.texts("includes") or ()
        detectors_of[name] = frozenset(wanted)
        personal.discard(name)
        if inner.flag("personal"):
            personal.add(name)
    for name, others in included.items():  # one level: what is included is named by its detectors
        for other in others:
            if other not in detectors_of or included.get(other):
                fields.refuse(f"classes.{name}.includes", "not a class with detectors of its own", got=other)
            detectors_of[name] |= detectors_of[other]
        if not detectors_of[name]:
            fields.refuse(f"classes.{name}", "a class without detectors", expected="detectors or includes")
    labels = base.labels | frozenset(fields.texts("labels", like=CLASS_NAME) or ())
    for label in labels & detectors_of.keys():
        fields.refuse("labels", "a label with the name of a class", got=label)
    return DataClasses(detectors_of, frozenset(personal), labels, own)


def _own(fields: Fields) -> Iterable[Detector]:
    patterns = fields.object("patterns")
    for name in patterns.names("pattern", max_items=256) if patterns is not None else ():
        inner = patterns.object(name, ("pattern", "keywords")) if patterns is not None else None
        if inner is None:
            continue
        _check_name(inner, name)
        inner.need("pattern")
        pattern = inner.text("pattern", max_chars=_MAX_PATTERN_CHARS) or ""
        if not pattern.isascii():
            inner.refuse("pattern", "not ASCII", expected="a pattern over ASCII characters")
        words = inner.texts("keywords", max_items=64) or ()
        # without a keyword it is looked for everywhere: "" stands in every text
        keywords = tuple(word.lower().encode("ascii", "replace") for word in words) or (b"",)
        yield Detector(name, pattern, _whole, keywords, looks=Looks.DECODED)
    dictionaries = fields.object("dictionaries")
    for name in dictionaries.names("dictionary", max_items=256) if dictionaries is not None else ():
        inner = dictionaries.object(name, ("words",)) if dictionaries is not None else None
        if inner is None:
            continue
        _check_name(inner, name)
        words = inner.texts("words", max_items=_MAX_WORDS, min_items=1) or ()
        for n, word in enumerate(words):
            if not word.isascii():
                inner.refuse(f"words[{n}]", "not ASCII", got=word, expected="words of ASCII characters")
        either = "|".join(_quote(word) for word in sorted(words, key=len, reverse=True))
        keywords = tuple(dict.fromkeys(word.lower().encode("ascii") for word in words))
        yield Detector(name, f"(?i:{either})", _word, keywords, looks=Looks.DECODED)


def _check_name(inner: Fields, name: str) -> None:
    if not CLASS_NAME.fullmatch(name) or name in DETECTORS:
        inner.refuse(name, "not a free name for a detector", got=name, expected=CLASS_NAME.pattern)


def _quote(word: str) -> str:
    # spaces in a word fit any run of spaces and line ends
    return r"[ \t\n]{1,4}".join(re.escape(part) for part in word.split())


def _whole(_text: bytes, start: int, end: int) -> Span | None:
    return (start, end) if end > start else None


def _word(text: bytes, start: int, end: int) -> Span | None:
    """A word of a dictionary, not in the middle of another."""
    return (start, end) if alone(text, start, end) else None
