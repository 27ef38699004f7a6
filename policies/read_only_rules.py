"""``read_only_tools``: which of the allowed tools change nothing, for ``stop --read-only-tools``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .fields import Fields
from .tools import ToolRules, build_tool_rules

FIELD = "read_only_tools"


@dataclass(frozen=True, slots=True)
class ReadOnlyTools:
    """The words of ``read_only_tools``, tied to wire names. The default covers nothing."""

    words: tuple[str, ...] = ()
    _listed: ToolRules = field(default_factory=build_tool_rules, repr=False)
    _others: ToolRules = field(default_factory=build_tool_rules, repr=False)

    def covers(self, name: str, *, exact: bool = False) -> bool:
        """Whether every word of ``allowed_tools`` that stands for ``name`` is listed, and one does.

        With ``exact`` no pattern lists it (tools through which any other can be called).
        """
        return self._listed.permission(name, exact=exact) is not None and self._others.permission(name) is None


def read_read_only(fields: Fields, allowed: tuple[str, ...], classes: Mapping[str, tuple[str, ...]]) -> ReadOnlyTools:
    """The field of a Claw contract; raises ``ClawproxyError`` (WPC_INVALID) for a word that is not allowed at all."""
    words = fields.texts(FIELD) or ()
    for n, word in enumerate(words):
        if word not in allowed:
            fields.refuse(
                f"{FIELD}[{n}]",
                "not one of allowed_tools",
                got=word,
                expected="a word of allowed_tools",
                remedy="add it there, or take it out here",
            )
    others = tuple(word for word in allowed if word not in words)
    return ReadOnlyTools(
        words,
        build_tool_rules(allowed=words, classes=classes),
        build_tool_rules(allowed=others, classes=classes),
    )
