"""J34, the part about contracts: which one is in force at each place of a journal (docs/evidence-format.md). Pure.

A job is under one contract at a time: that of job.json, then that of the last ``authority_changed`` that names
``policy_hash_b64u``. Such an event names the contract before, a contract that lies in the bundle, and a token that was
issued later than all that are on record (before there is one, than the job was opened); it follows right after the
``segment_opened`` of its segment, so that the receipts of one proof bundle name one contract (EVIDENCE_MISMATCH).
After the end, each file in ``contracts/`` is one that an event names (FILE_UNLISTED); before it, another is a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from ..tokens.canonical import JsonObject
from .job_shapes import DIGEST, NAME
from .report import Fault, Findings
from .wire_envelope import check_shape, join
from .wire_schema import Obj

_CHANGE = Obj(required={"policy_hash_b64u": DIGEST, "previous_policy_hash_b64u": DIGEST, "way_in": NAME}, open=True)
_HASHES = ("policy_hash_b64u", "previous_policy_hash_b64u")


@dataclass(slots=True)
class ContractSeen:
    """The contract in force, after each record."""

    facts: Mapping[str, Any]
    """job.json."""
    known: Set[str] = frozenset()
    """Hashes of the contracts in the bundle that hold."""
    in_force: str = field(init=False)
    named: set[str] = field(init=False)
    """Every contract that was ever in force."""
    issued_s: float = 0
    """When the newest token on record was issued, Unix seconds."""

    def __post_init__(self) -> None:
        self.in_force = self.facts["policy_hash_b64u"]
        self.named = {self.in_force}

    def take(self, event_type: str, detail: JsonObject, *, begins_segment: bool, path: str) -> bool:
        """``job_opened`` or ``authority_changed``, before its token is looked at; returns whether the contract changes.

        Raises ``Fault``."""
        if not any(name in detail for name in _HASHES):
            return False
        check_shape(_CHANGE, detail, "J34", path)
        before, after = detail["previous_policy_hash_b64u"], detail["policy_hash_b64u"]
        if event_type != "authority_changed" or "rebound" in detail:
            raise Fault("J34", "SCHEMA_VALIDATION_FAILED", join(path, "policy_hash_b64u"), "it cannot stand here")
        if before != self.in_force or after == before:
            where = join(path, "previous_policy_hash_b64u")
            raise Fault("J34", "EVIDENCE_MISMATCH", where, f"expected {self.in_force}, and another after it")
        if after not in self.known:
            raise Fault("J34", "FILE_MISSING", join(path, "policy_hash_b64u"), "the bundle does not hold this contract")
        if not begins_segment:
            raise Fault("J34", "EVENT_OUT_OF_PLACE", path, "another contract begins with a segment")
        issued_s, newest_s = _issued_s(detail["token"]), self.issued_s or self.facts["opened_ms"] // 1000
        if issued_s <= newest_s:
            where = join(path, "token.iat")
            raise Fault("J34", "EVIDENCE_MISMATCH", where, f"not issued after {newest_s}, so it changes no contract")
        self.in_force = after
        self.named.add(after)
        return True

    def take_token(self, token: JsonObject) -> None:
        """A token that is on record from here on."""
        self.issued_s = max(self.issued_s, _issued_s(token))

    def check_end(self, files: Mapping[str, bytes], findings: Findings, *, ended: bool) -> None:
        """No file in ``contracts/`` but those that events name, and not the job's first contract."""
        later = self.named - {self.facts["policy_hash_b64u"]}
        for name in sorted(name for name in files if name.startswith("contracts/")):
            if name.removeprefix("contracts/").removesuffix(".json") in later:
                continue
            if ended:
                raise Fault("J34", "FILE_UNLISTED", name, "no event names this contract")
            findings.gap("J34", "FILE_UNLISTED", name, "no event names this contract yet")


def _issued_s(token: JsonObject) -> float:
    issued_s = token.get("iat")
    return issued_s if isinstance(issued_s, int | float) and not isinstance(issued_s, bool) else 0
