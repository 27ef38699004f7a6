"""J34, the part about presenters: ``job_opened`` and ``authority_changed`` (docs/evidence-format.md). Pure.

A job stays with one presenter, unless the operator binds it anew: then the event says so, names the presenter before,
and the job waits for the next one, or has the one that it names (EVIDENCE_MISMATCH). ``presenter_strength``, where it
is recorded, is what the presenter makes it.
"""

from __future__ import annotations

import re

from ..tokens.canonical import JsonObject
from .report import Fault
from .wire_envelope import join

_LOOPBACK = re.compile(r"addr:(?:127(?:\.[0-9]{1,3}){3}|::1)", re.ASCII)


def is_rebinding(event_type: str, detail: JsonObject) -> bool:
    """Whether the operator bound the job anew, so that no token stands in the event."""
    return event_type == "authority_changed" and detail.get("rebound") is True


def check_presenter(event_type: str, detail: JsonObject, before: str | None, path: str) -> str | None:
    """The presenter from here on; ``before`` is that of until now. Raises ``Fault``."""
    presenter, strength = detail.get("presenter"), detail.get("presenter_strength")
    if is_rebinding(event_type, detail):
        if detail.get("presenter_before") != before:
            where = join(path, "presenter_before")
            raise Fault("J34", "EVIDENCE_MISMATCH", where, "not the presenter that the job was bound to")
    elif "rebound" in detail or "presenter_before" in detail:
        raise Fault("J34", "SCHEMA_VALIDATION_FAILED", join(path, "rebound"), "it cannot stand here")
    elif before is not None and presenter != before:
        raise Fault("J34", "EVIDENCE_MISMATCH", join(path, "presenter"), "the job was bound to another presenter")
    if "presenter_strength" in detail:
        right = None if presenter is None else _strength(presenter)
        if strength != right:
            where = join(path, "presenter_strength")
            raise Fault("J34", "EVIDENCE_MISMATCH", where, f"the presenter makes it {right or 'nothing'}")
    return presenter


def _strength(presenter: str) -> str:
    if presenter.startswith("namespace:"):
        return "network-namespace"
    return "loopback-address" if _LOOPBACK.fullmatch(presenter) else "source-address"
