"""What keeps an agent from other ways out, as ``job_opened`` signs it. Pure.

``isolated``: the job's processes live in a network namespace whose only link is the gateway's door; it says under which
rules, and what leak probes found from inside before the agent started. ``not contained``: the agent was started by
``clawproxy run`` without that. ``not attested``: the gateway did not start the agent, and knows nothing of its network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..policies.door_plan import WAY_IN
from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError

MAX_PROBES = 64
MAX_LIMITS = 16
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class Kind(StrEnum):
    """How far the agent was contained."""

    ISOLATED = "isolated"
    NOT_CONTAINED = "not contained"
    NOT_ATTESTED = "not attested"


MEANING: Mapping[str, str] = {
    Kind.NOT_CONTAINED: "clawproxy run started the agent without --isolate; only what it sends through the gateway "
    "is seen",
    Kind.NOT_ATTESTED: "the gateway did not start the agent, and knows nothing of its other ways out",
}
"""For people, what each kind without facts of its own says; docs/glossary.md has the same words."""


def containment_words(told: str) -> str:
    """What a report or a record tells of a containment, with its meaning where it names a kind alone."""
    return f"{told}: {MEANING[told]}" if told in MEANING else told


class ProbeOutcome(StrEnum):
    """What a leak probe found."""

    BLOCKED = "blocked"
    REACHED = "reached"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Containment:
    """What was done. All but ``kind`` is about an isolated job, and empty for any other.

    ``rules_hash_b64u`` is over the text of the rules that are in force in the door's namespace; ``probes`` are (name,
    outcome), ``limits`` (name, value) of the resources that the job may use. ``user_namespace`` says that root inside
    is nobody outside, ``uid_changed`` that the agent runs as another user than who started it.
    Raises ``ClawproxyError`` (INVALID_REQUEST) for what no job may be opened with: then there is no job either.
    """

    kind: Kind = Kind.NOT_ATTESTED
    rules_hash_b64u: str = ""
    probes: tuple[tuple[str, ProbeOutcome], ...] = ()
    user_namespace: bool = False
    uid_changed: bool = False
    limits: tuple[tuple[str, int], ...] = ()
    distant_files: tuple[str, ...] = ()
    """Types of file systems in sight that live elsewhere: what is done in them goes over the host's network."""

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault is not None:
            raise ClawproxyError("INVALID_REQUEST", f"not the facts of a containment: {fault}", where="containment")

    def _fault(self) -> str | None:
        if self.kind is not Kind.ISOLATED:
            plain = not (self.rules_hash_b64u or self.probes or self.user_namespace or self.uid_changed or self.limits)
            plain = plain and not self.distant_files
            return None if plain else f"what is {self.kind} has no rules, probes or limits"
        names = [name for name, _ in self.probes]
        if not is_sha256_b64u(self.rules_hash_b64u):
            return "rules_hash_b64u is not a SHA-256"
        if not (0 < len(names) <= MAX_PROBES and len(self.limits) <= MAX_LIMITS):
            return f"not 1 to {MAX_PROBES} probes and at most {MAX_LIMITS} limits"
        if len(self.distant_files) > MAX_LIMITS or not all(_WORD.fullmatch(kind) for kind in self.distant_files):
            return f"not at most {MAX_LIMITS} types of file systems, in plain words"
        if list(self.distant_files) != sorted(set(self.distant_files)):
            return "types of file systems are not in order, or twice"
        words = [*names, *(name for name, _ in self.limits)]
        if len(set(words)) != len(words) or not all(_WORD.fullmatch(word) for word in words):
            return "a probe or limit is named twice, or not in plain words"
        if any(outcome is ProbeOutcome.REACHED for _, outcome in self.probes):
            return "a probe reached what it must not"
        if all(outcome is ProbeOutcome.NOT_TRIED for _, outcome in self.probes):
            return "no probe was tried"
        if any(not 0 <= value < 2**53 for _, value in self.limits):
            return "a limit is out of range"
        return None

    def to_json(self) -> JsonObject:
        """The members of ``job_opened`` that say it."""
        if self.kind is not Kind.ISOLATED:
            return {"containment": str(self.kind)}
        return {
            "containment": str(self.kind),
            "isolation": {
                "limits": [{"name": name, "value": value} for name, value in self.limits],
                "probes": [{"name": name, "outcome": str(outcome)} for name, outcome in self.probes],
                "rules_hash_b64u": self.rules_hash_b64u,
                "uid_changed": self.uid_changed,
                "user_namespace": self.user_namespace,
                "way_in": WAY_IN,
                **({"distant_files": list(self.distant_files)} if self.distant_files else {}),
            },
        }


NOT_ATTESTED = Containment()
NOT_CONTAINED = Containment(Kind.NOT_CONTAINED)


def read_containment(document: JsonObject) -> Containment:
    """What ``to_json`` gave, read back; raises ``ClawproxyError`` (INVALID_REQUEST)."""
    try:
        kind = Kind(document["containment"])
        if kind is not Kind.ISOLATED:
            _only(document, {"containment"})
            return Containment(kind)
        _only(document, {"containment", "isolation"})
        facts = document["isolation"]
        distant = facts.get("distant_files", [])
        if type(distant) is not list or not all(type(kind) is str for kind in distant):
            raise ValueError
        known = {"limits", "probes", "rules_hash_b64u", "uid_changed", "user_namespace", "way_in"}
        _only(facts, known | ({"distant_files"} if distant else set()))
        if facts["way_in"] != WAY_IN or any(
            type(facts[flag]) is not bool for flag in ("uid_changed", "user_namespace")
        ):
            raise ValueError
        for entry in facts["limits"]:
            _only(entry, {"name", "value"})
            if type(entry["value"]) is not int or type(entry["name"]) is not str:
                raise ValueError
        for entry in facts["probes"]:
            _only(entry, {"name", "outcome"})
            if type(entry["name"]) is not str:
                raise ValueError
        return Containment(
            kind,
            facts["rules_hash_b64u"],
            tuple((entry["name"], ProbeOutcome(entry["outcome"])) for entry in facts["probes"]),
            facts["user_namespace"],
            facts["uid_changed"],
            tuple((entry["name"], entry["value"]) for entry in facts["limits"]),
            tuple(distant),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ClawproxyError(
            "INVALID_REQUEST", "not the facts of a containment", where="containment", expected="what the cage tells"
        ) from None


def _only(document: JsonObject, names: set[str]) -> None:
    if document.keys() != names:
        raise ValueError
