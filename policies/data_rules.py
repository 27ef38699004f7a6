"""What a contract says of data: classes and what becomes of them, labels of tools' results, paths to redact. Pure.

A *class* is found by detectors (``detect.classes``); a *label* is what a contract says that a tool's results carry. A
denial wins over everything, then the action that leaves least.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..tokens.reasons import Refusal
from .detect.classes import CLASS_NAME, PII, DataClasses
from .fields import Fields
from .names import fold, matches

EXPORT = "export"
_ARRAY = "[*]"
_MAX_PATH_STEPS = 16


class Action(StrEnum):
    """What becomes of data of a class, the strictest first."""

    DENY = "deny"
    REMOVE = "remove"
    MASK = "mask"
    HASH = "hash"
    LOGS = "redact_in_logs"
    ALLOW = "allow"


ACTION_WORDS = {**{str(action): action for action in Action}, "redact": Action.MASK}
_STRICT = {action: n for n, action in enumerate(Action)}
_REDACTS = frozenset({Action.REMOVE, Action.MASK, Action.HASH})


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: a key, and whether each item of the list there is meant."""

    key: str
    each: bool


@dataclass(frozen=True, slots=True)
class PathRule:
    """One of WPC v1's ``redaction_rules``: what stands at ``steps`` is removed, hashed or masked."""

    path: str
    steps: tuple[Step, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class ToolWords:
    """Words that a contract ties to a tool, by its wire names or patterns."""

    names: tuple[str, ...]
    words: frozenset[str]
    field: str

    def fits(self, tool: str) -> bool:
        folded = fold(tool)
        return any(matches(fold(name), folded) for name in self.names)


@dataclass(frozen=True, slots=True)
class DataRules:
    """The rules on data of one contract. ``allowed`` None means that any label is."""

    actions: tuple[tuple[str, str, Action], ...] = ()
    """(field, class or label or ``pii``, action)."""
    allowed: frozenset[str] | None = None
    export_denied: bool = False
    carries: tuple[ToolWords, ...] = ()
    access: tuple[ToolWords, ...] = ()
    paths: tuple[PathRule, ...] = ()

    @property
    def labels(self) -> frozenset[str]:
        """Every label that some tool's results carry."""
        return frozenset[str]().union(*(entry.words for entry in self.carries))

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """(field, name) of each class or label that the contract speaks of, but those that it gives itself."""
        names = [(field, name) for field, name, _ in self.actions]
        names += [("data_classes_allowed", name) for name in sorted(self.allowed or ())]
        names += [(entry.field, name) for entry in self.access for name in sorted(entry.words)]
        return tuple(names)

    def unknown(self, classes: DataClasses) -> list[str]:
        """The names that are neither a class nor a label, with their fields."""
        labels = classes.labels | self.labels
        return [
            f'{field}["{name}"]' for field, name in self.named if not classes.is_detected(name) and name not in labels
        ]

    def result_labels(self, tool: str | None) -> frozenset[str]:
        """What the results of a tool carry; all labels where nobody knows whose results they are."""
        if tool is None:
            return self.labels
        return frozenset[str]().union(*(entry.words for entry in self.carries if entry.fits(tool)))


def read_data_rules(fields: Fields, tools: Mapping[str, tuple[str, ...]]) -> DataRules | None:
    """The rules in the fields ``data_boundaries``, ``data_classes_allowed``, ``data_classes_denied``,
    ``tool_data_classes`` and ``tool_data_access``; None where they ask for nothing. ``tools`` are the contract's
    ``tool_classes``. Raises ``ClawproxyError`` (WPC_INVALID).
    """
    actions: list[tuple[str, str, Action]] = []
    export_denied = False
    boundaries = fields.object("data_boundaries")
    for name in boundaries.names("data boundary", max_items=64) if boundaries is not None else ():
        assert boundaries is not None
        if name == EXPORT:
            export_denied = boundaries.text(name, one_of=("allow", "deny")) == "deny"
            continue
        _check_class(boundaries, name, name)
        word = boundaries.text(name, one_of=tuple(ACTION_WORDS)) or ""
        actions.append((f"data_boundaries.{name}", name, ACTION_WORDS[word]))
    for n, name in enumerate(fields.texts("data_classes_denied") or ()):
        _check_class(fields, f"data_classes_denied[{n}]", name)
        actions.append(("data_classes_denied", name, Action.DENY))
    allowed = fields.texts("data_classes_allowed")
    for n, name in enumerate(allowed or ()):
        _check_class(fields, f"data_classes_allowed[{n}]", name)
    carries = _tool_words(fields, "tool_data_classes", tools)
    access = _tool_words(fields, "tool_data_access", tools)
    asks = any(action is not Action.ALLOW for _, _, action in actions) or allowed is not None
    if not (asks or export_denied or carries or access):
        return None
    return DataRules(
        actions=tuple(actions),
        allowed=None if allowed is None else frozenset(allowed),
        export_denied=export_denied,
        carries=carries,
        access=access,
    )


def _check_class(fields: Fields, place: str, name: str) -> None:
    if not CLASS_NAME.fullmatch(name):
        fields.refuse(place, "not the name of a class of data", got=name, expected=CLASS_NAME.pattern)


def _tool_words(fields: Fields, name: str, tools: Mapping[str, tuple[str, ...]]) -> tuple[ToolWords, ...]:
    inner = fields.object(name)
    found = []
    for word in inner.names("tool", max_items=256) if inner is not None else ():
        assert inner is not None
        if "*" in word:
            inner.refuse(word, "a pattern where a word stands", got=word, expected="a word of tool_classes")
        words = inner.texts(word, max_items=64) or ()
        for n, one in enumerate(words):
            _check_class(inner, f"{word}[{n}]", one)
        found.append(ToolWords((*tools.get(word, ()), word), frozenset(words), f'{name}["{word}"]'))
    return tuple(found)


_KEY = re.compile(r"[^.\[\]]{1,256}")


def read_path_rules(fields: Fields) -> tuple[PathRule, ...]:
    """WPC v1's ``redaction_rules`` (protocol.md C.5), in order; raises ``ClawproxyError`` (WPC_INVALID).

    ``$.`` in front is left out; steps are divided by ``.``; ``name[*]`` means each item of the list at ``name``. What
    the reference takes and then does nothing about (an index, ``$[*]``) is refused.
    """
    rules = []
    for rule in fields.objects("redaction_rules", ("path", "action")) or ():
        rule.need("path", "action")
        path = rule.text("path", max_chars=512) or ""
        action = ACTION_WORDS[rule.text("action", one_of=("remove", "hash", "mask")) or ""]
        steps: list[Step] = []
        for part in path.removeprefix("$.").split("."):
            key = part.removesuffix(_ARRAY)
            if not _KEY.fullmatch(key) or key == "$" or len(steps) == _MAX_PATH_STEPS:
                rule.refuse("path", "not a path that can be followed", got=path, expected="$.name.name[*].name")
            steps.append(Step(key, part != key))
        rules.append(PathRule(path, tuple(steps), action))
    return tuple(rules)


# -- what the rules come to, with the classes of a gateway -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of what one detector finds: the strictest of the rules that speak of it."""

    field: str
    data_class: str
    action: Action


@dataclass(frozen=True, slots=True)
class DataPlan:
    """The rules of a contract, detector by detector."""

    rules: DataRules
    by_detector: Mapping[str, Judged]
    log_detectors: frozenset[str]
    """Those whose findings have no place in logs, errors and records."""
    export_detectors: frozenset[str]
    """Those whose findings may not go to a host that is no provider."""

    @property
    def enforced(self) -> frozenset[str]:
        """Detectors whose findings are denied or redacted."""
        return frozenset(
            name
            for name, judged in self.by_detector.items()
            if judged.action is Action.DENY or judged.action in _REDACTS
        )


def build_plan(rules: DataRules, classes: DataClasses) -> DataPlan:
    """The plan of a contract whose names are all known."""
    by_detector: dict[str, Judged] = {}
    in_logs: set[str] = set()
    for field, name, action in rules.actions:
        for detector in sorted(classes.behind(name)):
            if action is not Action.ALLOW:
                in_logs.add(detector)
            known = by_detector.get(detector)
            if known is None or _STRICT[action] < _STRICT[known.action]:
                shown = _class_of(detector, classes) if name == PII else name
                by_detector[detector] = Judged(field, shown, action)
    export: frozenset[str] = frozenset()
    if rules.export_denied:  # what the contract says nothing of: secrets and what is personal
        spoken = frozenset(name for name, judged in by_detector.items() if judged.action is Action.ALLOW)
        export = (classes.behind("secrets") | classes.behind(PII) | in_logs) - spoken
    return DataPlan(rules, by_detector, frozenset(in_logs), export)


def _class_of(detector: str, classes: DataClasses) -> str:
    """The narrowest class of a detector."""
    return min((len(names), name) for name, names in classes.detectors_of.items() if detector in names)[1]


# -- labels ------------------------------------------------------------------------------------------------------


def label_refusal(rules: DataRules, labels: Iterable[str]) -> Refusal | None:
    """Why text that carries ``labels`` may not go to the provider."""
    for label in sorted(labels):
        for field, name, action in rules.actions:
            if name == label and action not in (Action.ALLOW, Action.LOGS):
                return Refusal("DATA_CLASS_DENIED", f'{field} "{label}"', f"the conversation carries {label} data")
        if rules.allowed is not None and label not in rules.allowed:
            detail = f"the conversation carries {label} data"
            return Refusal("DATA_CLASS_DENIED", "data_classes_allowed", detail)
    return None


def call_refusal(rules: DataRules | None, carried: Iterable[str], tool: str) -> Refusal | None:
    """Why an answer may not call ``tool`` in a conversation that carries these labels and classes.

    ``tool_data_access`` names what a tool may see; a tool without an entry may see everything.
    """
    if rules is None:
        return None
    for entry in rules.access:
        if entry.fits(tool):
            over = sorted(frozenset(carried) - entry.words)
            if over:
                detail = f"the conversation carries {', '.join(over)} data, which this tool may not see"
                return Refusal("DATA_CLASS_DENIED", entry.field, detail)
    return None
