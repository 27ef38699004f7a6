"""Rules of jobs that were opened to observe (docs/evidence-format.md, "Observed"). Pure.

J90 ``enforcement`` stands in ``job_opened`` alone, and says ``observe`` (SCHEMA_VALIDATION_FAILED)
J91 ``would_refuse``, the ``path`` of a tool's call, and ``inner`` of a call in an answer stand only in such a job
    (NOT_OBSERVED); a receipt and an effect say what their intent says, and every code is one that is about the
    contract, once each (EVIDENCE_MISMATCH); a path without a query is the one that the digest of the target is over
    ``host_observed`` events stand there alone too, once for each host and port
J92 worked out again, the contract refuses what ``would_refuse`` names, with this code and rule, and what it refuses is
    named (verify_contract)

A job that was opened so is told in a warning, with the count of what its contract would have refused; the verdict is
that of the evidence. With a contract that the auditor gives, each such call is CONTRACT_EXCEEDED.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..policies.egress import EgressFacts, parse_target
from ..policies.observe import WAIVED
from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.reasons import Refusal
from .job_shapes import HOST_OBSERVED
from .report import Fault
from .wire_envelope import check_shape, join, same_json

OBSERVE = "observe"
OPENED_TO_OBSERVE = "opened to observe: nothing of the contract was enforced"
_CUT_CHARS = 24
"""A rule that was cut has more: 192 bytes of JSON, up to 12 for a character, less an eighth."""


def check_enforcement(event_type: str, detail: Mapping[str, Any], path: str) -> bool:
    """J90: whether the event opens a job to observe."""
    if "enforcement" not in detail:
        return False
    if event_type != "job_opened" or detail["enforcement"] != OBSERVE:
        where = join(path, "enforcement")
        raise Fault("J90", "SCHEMA_VALIDATION_FAILED", where, "a job is opened to observe, or its contract is enforced")
    return True


def check_intent(detail: JsonObject, path: str, *, observe: bool) -> frozenset[str]:
    """J91 for an intent: the codes of what would have refused it."""
    for member in ("would_refuse", "path", "has_query"):
        if member in detail and not observe:
            raise Fault("J91", "NOT_OBSERVED", join(path, member), "the job was not opened to observe")
    if (told := detail.get("path")) is not None:
        _check_path(told, detail, join(path, "path"))
    codes = [entry["code"] for entry in detail.get("would_refuse", ())]
    unknown = [code for code in codes if code not in WAIVED]
    if unknown or (not codes and "would_refuse" in detail):
        where = join(path, "would_refuse")
        raise Fault("J91", "EVIDENCE_MISMATCH", where, f"not a refusal of a contract: {', '.join(unknown) or 'none'}")
    if len({(entry["code"], entry["rule"]) for entry in detail.get("would_refuse", ())}) != len(codes):
        raise Fault("J91", "EVIDENCE_MISMATCH", join(path, "would_refuse"), "the same stands there twice")
    return frozenset(codes)


def _check_path(told: str, detail: JsonObject, path: str) -> None:
    if not isinstance(parse_target(told), tuple) or "?" in told:
        raise Fault("J91", "EVIDENCE_MISMATCH", path, "no path that a request can have")
    facts = EgressFacts(detail["scheme"], detail["host"], detail["port"], detail["method"], told)
    if not detail.get("has_query") and sha256_b64u(facts.url.encode()) != detail["target_hash_b64u"]:
        raise Fault("J91", "EVIDENCE_MISMATCH", path, "the digest of the target is over another path")


def check_same(told: JsonObject, detail: JsonObject, path: str) -> None:
    """J91 for a receipt or an effect."""
    if not same_json(told.get("would_refuse"), detail.get("would_refuse")):
        raise Fault("J91", "EVIDENCE_MISMATCH", join(path, "would_refuse"), "not what the intent said")


def check_called(called: list[JsonObject], path: str, *, observe: bool) -> None:
    """J91 for the calls of tools in an answer."""
    for n, item in enumerate(called):
        where = join(path, f"called[{n}]")
        for member in ("would_refuse", "inner"):
            if member in item and not observe:
                raise Fault("J91", "NOT_OBSERVED", join(where, member), "the job was not opened to observe")
        if "would_refuse" not in item:
            continue
        if item["would_refuse"]["code"] not in WAIVED:
            raise Fault("J91", "EVIDENCE_MISMATCH", join(where, "would_refuse"), "not a refusal of a contract")
        if item["outcome"] != "allowed":
            raise Fault("J91", "EVIDENCE_MISMATCH", join(where, "outcome"), "let through, and not delivered")


def is_same(told: Mapping[str, Any], refusal: Refusal | None) -> bool:
    """J92: whether this is what would have refused it; a rule on record may be cut."""
    if refusal is None or told["code"] != refusal.reason:
        return False
    rule = str(told["rule"])
    return rule == refusal.rule or (len(rule) >= _CUT_CHARS and refusal.rule.startswith(rule))


def check_host(detail: JsonObject, path: str, known: set[tuple[str, int | None]], *, observe: bool) -> None:
    """J91 for ``host_observed``: a name that was looked up, or a tunnel that was opened, and that no contract lists."""
    check_shape(HOST_OBSERVED, detail, "J91", path)
    if not observe:
        raise Fault("J91", "NOT_OBSERVED", path, "the job was not opened to observe")
    code = "NAME_NOT_ALLOWED" if detail["port"] is None else "EGRESS_NOT_ALLOWED"
    key = (detail["host"], detail["port"])
    if detail["code"] != code or key in known:
        raise Fault("J91", "EVIDENCE_MISMATCH", path, f"not {code}, or the host stands there twice")
    known.add(key)


def outside(payload: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What of an intent's ``detail``, or of a receipt's ``metadata.clawproxy``, would have been refused."""
    yield from payload.get("would_refuse", ())
    for item in payload.get("called", ()):
        if "would_refuse" in item:
            yield item["would_refuse"]
