"""Ready tool classes for known agents (configs/tool_classes.toml): which wire names stand behind a contract's word.
Pure.

They take part in no decision: a class counts only where it was copied into a contract and signed with it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from ..tokens.errors import ClawproxyError
from .fields import Fields


@dataclass(frozen=True, slots=True)
class ToolClasses:
    """Agent name → class word → wire names or patterns."""

    agents: Mapping[str, Mapping[str, tuple[str, ...]]]

    def agents_with(self, word: str) -> list[str]:
        """The agents that have a class of this name, ``shell_exec`` and ``shell.exec`` being the same here."""
        dotted = word.replace("_", ".")
        return [agent for agent, classes in self.agents.items() if dotted in classes]

    def is_wire_name(self, name: str) -> bool:
        """Whether a known agent has a tool of exactly this name on the wire."""
        return any(name in patterns for classes in self.agents.values() for patterns in classes.values())


def load_tool_classes(toml: bytes) -> ToolClasses:
    """Parse tool classes; raises ``ClawproxyError`` (CONFIG_INVALID)."""
    tables = parse_toml(toml)
    agents: dict[str, dict[str, tuple[str, ...]]] = {}
    for agent in tables.names("agent", max_items=64):
        inner = tables.object(agent)
        if inner is None:
            continue
        agents[agent] = {
            word: inner.texts(word, min_items=1) or () for word in inner.names("tool class", max_items=256)
        }
    return ToolClasses(agents)


def parse_toml(toml: bytes) -> Fields:
    """The top-level table of a TOML document with any names; raises ``ClawproxyError`` (CONFIG_INVALID)."""
    try:
        document = tomllib.loads(toml.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise ClawproxyError("CONFIG_INVALID", "not UTF-8", got=f"byte {err.start}", expected="valid UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise ClawproxyError(
            "CONFIG_INVALID", f"not TOML: {str(err)[:80].lower()}", expected="a TOML document"
        ) from None
    return Fields(document, document, reason="CONFIG_INVALID")
