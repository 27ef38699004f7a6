"""What a contract demands of data that this gateway cannot tell. Pure, but for the classes that ship (package data)."""

from __future__ import annotations

from .detect.classes import DataClasses
from .packaged import packaged_data_classes
from .policy import Demand, Policy


def class_demands(policy: Policy, known: DataClasses | None = None) -> tuple[Demand, ...]:
    """What a contract demands of data that no detector finds and that no label names; ``known`` is what the gateway
    has, by default what ships."""
    if policy.data is None:
        return ()
    unknown = policy.data.unknown(known or packaged_data_classes())
    why = "neither a class of data that is detected nor a label (docs/data-boundaries.md has their names)"
    return tuple(Demand(place, why) for place in unknown)
