"""Which tools a contract allows, denies, or ties to an approval. Pure.

A contract speaks of tools in its own words (``shell.exec``); ``tool_classes``, signed with it, ties a word to wire
names or patterns (``Bash``, ``mcp__tickets__*``). A word without a class stands for the wire name that equals it. A
denied word stands for its class *and* for the wire name that equals it.

Denials and approvals compare folded names (``names.fold``), so another case or a compatibility character does not get
around them. Allowing, that by an approval as well, compares exactly, and a name that folds into one that the contract
speaks of, without being it, is a lookalike and is refused even where a ``*`` would fit it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .names import fold, matches

MODEL_CALL = "model_call_via_clawproxy"
"""The contract word for the model call itself: never a tool on the wire."""


@dataclass(frozen=True, slots=True)
class ToolRule:
    """One entry of a tool list, tied to one wire name or pattern."""

    field: str
    entry: str
    pattern: str
    classed: bool

    def __str__(self) -> str:
        place = f'{self.field}["{self.entry}"]'
        return f'{place} → tool_classes "{self.pattern}"' if self.classed else place


@dataclass(frozen=True, slots=True)
class _Index:
    """Rules by literal name, and the few with a ``*``, so that judging a tool is a look-up."""

    literals: Mapping[str, ToolRule]
    globs: tuple[tuple[str, ToolRule], ...]

    @classmethod
    def of(cls, rules: Iterable[ToolRule], *, folded: bool) -> _Index:
        literals: dict[str, ToolRule] = {}
        globs: list[tuple[str, ToolRule]] = []
        for rule in rules:
            key = fold(rule.pattern) if folded else rule.pattern
            if "*" in key:
                globs.append((key, rule))
            else:
                literals.setdefault(key, rule)
        return cls(literals, tuple(globs))

    def find(self, name: str) -> ToolRule | None:
        rule = self.literals.get(name)
        if rule is None:
            rule = next((rule for pattern, rule in self.globs if matches(pattern, name)), None)
        return rule


@dataclass(frozen=True, slots=True)
class ToolRules:
    """The tool part of a contract; made by ``build_tool_rules``."""

    allowed: tuple[ToolRule, ...]
    denied: tuple[ToolRule, ...]
    on_approval: tuple[ToolRule, ...]
    _allowed: _Index
    _denied: _Index
    _on_approval: _Index
    _asks: _Index
    _spoken: Mapping[str, frozenset[str]]

    def denial(self, name: str) -> ToolRule | None:
        """The entry that denies the wire name ``name``, if one does."""
        return self._denied.find(fold(name))

    def approval(self, name: str) -> ToolRule | None:
        """The entry that ties ``name`` to an approval, if one does."""
        return self._on_approval.find(fold(name))

    def permission_to_ask(self, name: str, *, exact: bool = False) -> ToolRule | None:
        """The entry by which ``name`` may be declared since each call of it asks for an approval."""
        return self._asks.literals.get(name) if exact else self._asks.find(name)

    def permission(self, name: str, *, exact: bool = False) -> ToolRule | None:
        """The entry that allows ``name``, looked at by itself: denials and lookalikes are asked for first.

        With ``exact`` no pattern does.
        """
        if name == MODEL_CALL:
            return None
        return self._allowed.literals.get(name) if exact else self._allowed.find(name)

    def lookalike(self, name: str) -> str | None:
        """A name that the contract speaks of and that ``name`` only looks like."""
        spoken = self._spoken.get(fold(name))
        return min(spoken) if spoken and name not in spoken else None


def build_tool_rules(
    *,
    allowed: Iterable[str] = (),
    denied: Iterable[str] = (),
    on_approval: Iterable[str] = (),
    classes: Mapping[str, tuple[str, ...]] | None = None,
) -> ToolRules:
    """Tie the words of a contract to wire names. ``model_call_via_clawproxy`` is left out: it is no tool."""
    classes = classes or {}

    def rules(field: str, entries: Iterable[str], *, also_itself: bool) -> tuple[ToolRule, ...]:
        out = []
        for entry in entries:
            if entry == MODEL_CALL:
                continue
            patterns = classes.get(entry)
            out += [ToolRule(field, entry, pattern, classed=True) for pattern in patterns or ()]
            if patterns is None or (also_itself and entry not in patterns):
                out.append(ToolRule(field, entry, entry, classed=False))
        return tuple(out)

    may = rules("allowed_tools", allowed, also_itself=False)
    may_not = rules("denied_tools", denied, also_itself=True)
    asks = rules("approvals", on_approval, also_itself=True)
    spoken: dict[str, set[str]] = {}
    for rule in (*may, *may_not, *asks):
        for word in (rule.pattern, rule.entry):
            if "*" not in word:
                spoken.setdefault(fold(word), set()).add(word)
    return ToolRules(
        allowed=may,
        denied=may_not,
        on_approval=asks,
        _allowed=_Index.of(may, folded=False),
        _denied=_Index.of(may_not, folded=True),
        _on_approval=_Index.of(asks, folded=True),
        _asks=_Index.of(asks, folded=False),
        _spoken={folded: frozenset(words) for folded, words in spoken.items()},
    )
