"""What verification says: a verdict, and findings that name the rule and the place.

``VERIFIED`` and ``CONFORMS`` exit 0, ``FAILED`` 1, ``INCOMPLETE`` 3 (2 is a usage error and never comes from here).
A job directory ends in VERIFIED, INCOMPLETE or FAILED; a single wire file in CONFORMS or FAILED.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from ..tokens.errors import ClawproxyError, clip

type Severity = Literal["fail", "gap", "warning", "note"]

MAX_FINDINGS = 200


def printable(text: str) -> str:
    """``text`` on one line: what moves a cursor or turns text around (controls, C1, bidi) is written as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


class Verdict(StrEnum):
    """How a verification ended."""

    VERIFIED = "VERIFIED"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"
    CONFORMS = "CONFORMS"


EXIT_CODES: Mapping[Verdict, int] = {
    Verdict.VERIFIED: 0,
    Verdict.CONFORMS: 0,
    Verdict.FAILED: 1,
    Verdict.INCOMPLETE: 3,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something not as it was (``fail``), missing but accounted for (``gap``), worth knowing (``note``), or worth
    knowing before the evidence is relied on (``warning``).

    ``rule`` is the number in a verifier module's docstring; ``path`` is the file, then line or member.
    """

    rule: str
    reason: str
    path: str
    detail: str
    severity: Severity = "fail"

    def to_json(self) -> dict[str, str]:
        return {
            "rule": self.rule,
            "reason": self.reason,
            "path": self.path,
            "detail": self.detail,
            "severity": self.severity,
        }


class Findings:
    """Collects findings in the order of the checks.

    Keeps the first ``MAX_FINDINGS`` of each severity and counts the rest: so many notes hide no gap and no failure.
    """

    def __init__(self, found: Iterable[Finding] = ()) -> None:
        self.kept: list[Finding] = []
        self.dropped = 0
        self._seen: dict[Severity, int] = {}
        for finding in found:
            self.add(finding)

    @property
    def failed(self) -> bool:
        return "fail" in self._seen

    def add(self, finding: Finding) -> None:
        seen = self._seen[finding.severity] = self._seen.get(finding.severity, 0) + 1
        if seen <= MAX_FINDINGS:
            self.kept.append(finding)
        else:
            self.dropped += 1

    def fail(self, rule: str, reason: str, path: str, detail: str) -> None:
        self.add(Finding(rule, reason, path, detail))

    def gap(self, rule: str, reason: str, path: str, detail: str) -> None:
        self.add(Finding(rule, reason, path, detail, "gap"))

    def warn(self, rule: str, reason: str, path: str, detail: str) -> None:
        self.add(Finding(rule, reason, path, detail, "warning"))

    def note(self, rule: str, reason: str, path: str, detail: str) -> None:
        self.add(Finding(rule, reason, path, detail, "note"))

    def first(self, severity: Severity) -> Finding | None:
        """The one that decides, if any of its severity was found: it is always kept."""
        return next((f for f in self.kept if f.severity == severity), None)

    def all(self) -> tuple[Finding, ...]:
        if not self.dropped:
            return tuple(self.kept)
        rest = Finding("", "MORE_FINDINGS", "", f"{self.dropped} more findings are not listed", "note")
        return (*self.kept, rest)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. ``reason`` is ``OK``, or the code of the first finding that decided the verdict."""

    verdict: Verdict
    kind: str
    reason: str
    findings: tuple[Finding, ...] = ()
    job: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth telling: proof tier, hash rule, policy hash, run id."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "reason_code": self.reason,
            "kind": self.kind,
            "findings": [finding.to_json() for finding in self.findings],
            "job": self.job,
            "counts": dict(self.counts),
            **self.facts,
        }


def build_report(
    kind: str,
    findings: Findings,
    *,
    whole: Verdict = Verdict.CONFORMS,
    job: str | None = None,
    counts: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Report:
    """Any ``fail`` gives FAILED, else any ``gap`` INCOMPLETE, else ``whole``."""
    verdict, deciding = whole, None
    if gap := findings.first("gap"):
        verdict, deciding = Verdict.INCOMPLETE, gap
    if failure := findings.first("fail"):
        verdict, deciding = Verdict.FAILED, failure
    reason = deciding.reason if deciding else "OK"
    return Report(verdict, kind, reason, findings.all(), job, dict(counts or {}), dict(facts or {}))


class Fault(Exception):
    """A broken rule, inside the verifiers: becomes a ``fail`` finding where it is caught. Never leaves this package."""

    def __init__(self, rule: str, reason: str, path: str, detail: str) -> None:
        super().__init__(detail)
        self.rule, self.reason, self.path, self.detail = rule, reason, path, clip(detail, 200)

    @classmethod
    def of(cls, error: ClawproxyError, rule: str, path: str) -> Fault:
        """The fault that an error of tokens/ or policies/ means under ``rule``."""
        where = f"{path}: {error.where}" if error.where and path else path or error.where
        facts = [f"got {error.got}"] if error.got is not None else []
        facts += [f"expected {error.expected}"] if error.expected else []
        return cls(rule, error.reason, where, error.message + (f" ({', '.join(facts)})" if facts else ""))

    def finding(self) -> Finding:
        return Finding(self.rule, self.reason, self.path, self.detail)
