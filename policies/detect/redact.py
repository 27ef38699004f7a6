"""Writes a document anew without what was found in it. Pure.

``remove`` leaves nothing, ``mask`` leaves ``[redacted:<class>]``, ``hash`` leaves ``[redacted:<class>:<8 hex>]``, a
keyed digest: the same value has the same mark within a job, and nobody without the key can try values against it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ...tokens.canonical import JsonObject, jcs_bytes
from ...tokens.errors import ClawproxyError
from ..data_rules import Action, PathRule, Step
from .engine import Finding, Scan

_Mark = tuple[int, int, str]


def keyed_digest(key: bytes, value: bytes) -> str:
    """HMAC-SHA-256 of ``value``, in hex."""
    return hmac.new(key, value, hashlib.sha256).hexdigest()


def mark_for(action: Action, name: str, value: str, key: bytes) -> str:
    """What stands in place of ``value``."""
    if action is Action.REMOVE:
        return ""
    if action is Action.HASH:
        return f"[redacted:{name}:{keyed_digest(key, value.encode('utf-8', 'surrogatepass'))[:8]}]"
    return f"[redacted:{name}]"


def redact_document(scan: Scan, judged: Callable[[Finding], tuple[str, Action] | None], key: bytes) -> Counter[str]:
    """Replace findings in the document of ``scan``, in place; how many of which class. ``judged`` gives class and
    action of a finding, None for one that stays."""
    counts: Counter[str] = Counter()
    marks: dict[int, list[_Mark]] = {}
    for finding in scan.findings:
        verdict = judged(finding)
        if verdict is None:
            continue
        name, action = verdict
        counts[name] += 1
        value = "".join(scan.leaves[leaf].text[start:end] for leaf, start, end in finding.pieces)
        mark = mark_for(action, name, value, key)
        for n, (leaf, start, end) in enumerate(finding.pieces):
            marks.setdefault(leaf, []).append((start, end, mark if n == 0 else ""))
    renamed: dict[int, tuple[Any, dict[str, str]]] = {}
    for leaf, found in marks.items():
        at = scan.leaves[leaf]
        text = _rewritten(at.text, found)
        if at.is_key:
            renamed.setdefault(id(at.holder), (at.holder, {}))[1][at.key] = text
        else:
            at.holder[at.key] = text
    for holder, names in renamed.values():  # last, since leaves find their values by the key that was
        _rename(holder, names)
    return counts


def _rewritten(text: str, marks: list[_Mark]) -> str:
    parts, at = [], 0
    for start, end, mark in sorted(marks, key=lambda one: (one[0], -one[1])):
        if start >= at:
            parts += [text[at:start], mark]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _rename(holder: JsonObject, names: Mapping[str, str]) -> None:
    items = [(names.get(key, key), value) for key, value in holder.items()]
    holder.clear()
    last: dict[str, int] = {}  # by key: thousands may have become the same one
    for key, value in items:
        unique, n = key, last.get(key, 1)
        while unique in holder:
            n += 1
            unique = f"{key}#{n}"
        last[key] = n
        holder[unique] = value


# -- paths -------------------------------------------------------------------------------------------------------


def redact_paths(document: JsonObject, rules: tuple[PathRule, ...], key: bytes) -> Counter[str]:
    """Carry out WPC v1's rules, in order and in place; how many values each action changed. Removals come last.

    Raises ``ClawproxyError`` (DATA_SCAN_FAILED) for a rule that meets nothing, or something that it cannot go into:
    what it was written for may then stand elsewhere.
    """
    counts: Counter[str] = Counter()
    removals: dict[tuple[int, Any], tuple[Any, Any]] = {}
    for rule in rules:
        places = list(_places(document, rule, rule.steps))
        if not places:
            raise ClawproxyError("DATA_SCAN_FAILED", "a redaction rule meets nothing in the request", where=rule.path)
        for holder, at in places:
            counts[str(rule.action)] += 1
            if rule.action is Action.REMOVE:
                removals[id(holder), at] = (holder, at)
            elif rule.action is Action.MASK:
                holder[at] = "[REDACTED]"
            else:
                holder[at] = f"[HASH:{keyed_digest(key, jcs_bytes(holder[at]))[:32]}]"
    # of a list the last first, so that the places of those before stay
    for holder, at in sorted(removals.values(), key=lambda one: one[1] if isinstance(one[1], int) else 0, reverse=True):
        del holder[at]
    return counts


def _places(value: Any, rule: PathRule, steps: tuple[Step, ...]) -> list[tuple[Any, Any]]:
    first, rest = steps[0], steps[1:]
    if not isinstance(value, dict):
        raise ClawproxyError("DATA_SCAN_FAILED", "a redaction rule cannot go into what it meets", where=rule.path)
    if first.key not in value:
        return []
    if not first.each:
        return _places(value[first.key], rule, rest) if rest else [(value, first.key)]
    items = value[first.key]
    if not isinstance(items, list):
        raise ClawproxyError("DATA_SCAN_FAILED", "a redaction rule meets no list where it names one", where=rule.path)
    if not rest:
        return [(items, n) for n in range(len(items))]
    return [place for item in items for place in _places(item, rule, rest)]
