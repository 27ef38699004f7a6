"""How much a request asks for beside its tokens: several answers, and what costs more than the list price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tokens.canonical import MAX_SAFE_INT, JsonObject
from .keys import refuse

_AT_LIST_PRICE: Mapping[str, frozenset[str]] = {
    # member of a body: the values with which a call costs what the list says, or less
    "service_tier": frozenset({"auto", "default", "flex", "standard", "standard_only"}),
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global"}),
}
_OF_BEDROCK: Mapping[str, tuple[str, frozenset[str]]] = {
    "serviceTier": ("type", frozenset({"default", "flex"})),
    "performanceConfig": ("latency", frozenset({"standard"})),
}


def read_choices(stated: object) -> int:
    """How many answers; null means one. Refuses anything but a whole number from 1."""
    if stated is None:
        return 1
    if isinstance(stated, bool) or not isinstance(stated, int) or not 1 <= stated <= MAX_SAFE_INT:
        refuse("n", "not a number of answers", type(stated).__name__, "a whole number from 1")
    return stated


def surcharges(body: JsonObject) -> tuple[str, ...]:
    """The members of ``body`` that ask for more than the list price pays for; a value not known here is one."""
    found = [name for name, known in _AT_LIST_PRICE.items() if not _is_plain(body.get(name), known)]
    for name, (inner, known) in _OF_BEDROCK.items():
        held = body.get(name)
        if held is not None and not (isinstance(held, dict) and _is_plain(held.get(inner), known)):
            found.append(name)
    return tuple(found)


def _is_plain(value: Any, known: frozenset[str]) -> bool:
    return value is None or (isinstance(value, str) and value in known)
