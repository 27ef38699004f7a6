"""J46: what a job says of its containment, and that its calls came the way that it names. Pure.

``job_opened`` says ``isolated``, ``not contained`` or ``not attested``, and only with the first the facts of it, closed
and bounded (SCHEMA_VALIDATION_FAILED). No leak probe reached anything, and one at least was tried; an isolated job is
bound to ``namespace:<its id>`` from the start and for good, no other job is bound to a namespace, and each of its calls
came by the way in that is named (EVIDENCE_MISMATCH). Later events say nothing of it; those of before repeat
``not attested``.

J47 ``door_counted``: closed, its numbers bounded (SCHEMA_VALIDATION_FAILED), of an isolated job, and once
(EVIDENCE_MISMATCH).

Limits: that the rules are what their hash says, and that the probes were run, is the word of who opened the job; so is
what was counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..tokens.canonical import JsonObject
from .job_shapes import CONTAINMENT, DOOR_COUNTED, ISOLATION
from .report import Fault
from .wire_envelope import check_shape, join

_ISOLATED = "isolated"
_OPENED = "job_opened"


@dataclass(slots=True)
class ContainmentSeen:
    """What is known of a job's containment, record by record."""

    job_id: str
    kind: str = "not attested"
    isolation: JsonObject | None = None
    turned_away: JsonObject | None = None
    """Packets by kind, where that was counted."""
    denials_left_out: int = 0

    @property
    def told(self) -> str:
        """One line for people."""
        if self.isolation is None:
            return self.kind
        outcomes = [probe["outcome"] for probe in self.isolation["probes"]]
        tried = f"{outcomes.count('blocked')} leak probes blocked"
        left = f", {outcomes.count('not tried')} not tried" if "not tried" in outcomes else ""
        if kinds := self.isolation.get("distant_files"):
            left += f", files that live elsewhere in sight ({', '.join(kinds)})"
        return f"{self.kind}: {tried}{left}, rules {self.isolation['rules_hash_b64u']}"

    def take(self, event_type: str, detail: JsonObject, path: str) -> None:
        """A ``job_opened`` or ``authority_changed``. Raises ``Fault``."""
        stated, facts = detail.get("containment", "not attested"), detail.get("isolation")
        if event_type != _OPENED:
            if facts is not None or stated != "not attested":
                raise Fault("J46", "SCHEMA_VALIDATION_FAILED", join(path, "containment"), "it stands in job_opened")
        else:
            check_shape(CONTAINMENT, stated, "J46", join(path, "containment"))
            if (stated == _ISOLATED) != (facts is not None):
                raise Fault("J46", "SCHEMA_VALIDATION_FAILED", join(path, "isolation"), f"of a job that is {stated}")
            self.kind = stated
            if facts is not None:
                self._take_facts(facts, join(path, "isolation"))
        own = f"namespace:{self.job_id}"
        presenter = detail.get("presenter")
        if self.kind == _ISOLATED and presenter != own:
            raise Fault("J46", "EVIDENCE_MISMATCH", join(path, "presenter"), f"an isolated job is bound to {own}")
        if self.kind != _ISOLATED and str(presenter).startswith("namespace:"):
            raise Fault("J46", "EVIDENCE_MISMATCH", join(path, "presenter"), f"the job is {self.kind}")

    def _take_facts(self, facts: JsonObject, path: str) -> None:
        check_shape(ISOLATION, facts, "J46", path)
        for member in ("limits", "probes"):
            names = [entry["name"] for entry in facts[member]]
            if len(set(names)) != len(names):
                raise Fault("J46", "SCHEMA_VALIDATION_FAILED", join(path, member), "a name occurs twice")
        kinds = facts.get("distant_files", ["-"])
        if kinds != sorted(set(kinds)) or not kinds:
            raise Fault("J46", "SCHEMA_VALIDATION_FAILED", join(path, "distant_files"), "none, twice, or not in order")
        outcomes = {probe["outcome"] for probe in facts["probes"]}
        if "reached" in outcomes or "blocked" not in outcomes:
            what = "one reached what it must not" if "reached" in outcomes else "none was tried"
            raise Fault("J46", "EVIDENCE_MISMATCH", join(path, "probes"), f"of the leak probes {what}")
        self.isolation = facts

    def take_counts(self, detail: JsonObject, path: str) -> None:
        """A ``door_counted``. Raises ``Fault``."""
        check_shape(DOOR_COUNTED, detail, "J47", path)
        if self.kind != _ISOLATED or self.turned_away is not None:
            what = "it is there twice" if self.turned_away is not None else f"the job is {self.kind}"
            raise Fault("J47", "EVIDENCE_MISMATCH", path, what)
        self.turned_away = detail["packets"]
        self.denials_left_out = detail.get("denials_left_out", 0)

    def check_intent(self, detail: JsonObject, path: str) -> None:
        """A call. Raises ``Fault``."""
        if self.isolation is not None and detail["way_in"] != self.isolation["way_in"]:
            raise Fault("J46", "EVIDENCE_MISMATCH", join(path, "way_in"), "a call of an isolated job came another way")
