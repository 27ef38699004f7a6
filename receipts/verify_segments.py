"""Rules of the proof bundles in a job directory, one per segment (docs/evidence-format.md). Pure.

J50 there is one for each segment, if the gateway holds the agent's key (``agent_did`` is ``job_did``) and the segment's
    receipts are not all bound to a harness's chain; else there is none (FILE_MISSING, FILE_UNLISTED)
J51 it is the JCS bytes of a closed envelope, signed by the job key
J52 it holds exactly the segment's events, in order, its receipts and the side effects and approvals that
    hang on them, by receipt id (EVIDENCE_MISMATCH)
J53 its metadata say what the journal says (EVIDENCE_MISMATCH)
J54 it verifies as the wire file that it is (verify_proof)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tokens.canonical import JsonObject
from ..tokens.trust import Trust
from .job_shapes import envelope
from .report import Fault, Findings
from .verify_calls import JobSeen, SegmentSeen
from .verify_journal import parse_canonical
from .verify_proof import check_proof_bundle
from .wire_envelope import Signatures, check_shape, join, same_json

_ENVELOPE = envelope("proof_bundle")


def proof_bundle_name(segment: int) -> str:
    """``proof_bundle.json`` for the first segment, ``proof_bundle.0002.json`` for the second."""
    return "proof_bundle.json" if segment == 1 else f"proof_bundle.{segment:04d}.json"


def check_proof_bundles(
    files: Mapping[str, bytes],
    seen: JobSeen,
    trust: Trust,
    findings: Findings,
    signatures: Signatures,
    *,
    all_due: bool,
) -> None:
    """J50 to J54. Raises ``Fault``. ``trust`` holds the receipt keys that count here.

    ``all_due`` is False for a seal that was cut off while it wrote them: then those that are there must hold.
    """
    held = seen.facts["agent_did"] == seen.facts["job_did"]
    due = {
        proof_bundle_name(segment.number): segment
        for segment in seen.segments
        if held and (segment.receipts or not segment.harness_bound)
    }
    there = {name for name in files if name.startswith("proof_bundle")}
    for name in sorted(due.keys() - there) if all_due else ():
        raise Fault("J50", "FILE_MISSING", name, "the segment has no proof bundle")
    for name in sorted(there - due.keys()):
        raise Fault("J50", "FILE_UNLISTED", name, "no segment of the journal has this proof bundle")
    for name in sorted(due.keys() & there):
        segment = due[name]
        bundle = parse_canonical(files[name], "J51", name)
        check_shape(_ENVELOPE, bundle, "J51", name)
        if bundle["signer_did"] != seen.facts["job_did"]:
            raise Fault("J51", "CLAIM_NOT_FOUND", join(name, "signer_did"), "not the job key of job.json")
        _check_contents(bundle["payload"], segment, seen, join(name, "payload"))
        check_proof_bundle(
            bundle, trust, 0, findings, signatures, name, of_a_journal=True
        )  # our envelopes do not expire


def _check_contents(payload: JsonObject, segment: SegmentSeen, seen: JobSeen, path: str) -> None:
    receipts = sorted(segment.receipts, key=lambda item: str(item["payload"]["receipt_id"]))
    effects = sorted(segment.effects, key=lambda item: str(item["receipt_id"]))
    told: dict[str, int] = {}
    if segment.effects_total:
        told = {"effects": segment.effects_total, "effects_unanchored": segment.effects_total - len(effects)}
    approvals = sorted(segment.anchored_approvals, key=lambda item: str(item["receipt_id"]))
    if segment.approvals_total:
        told |= {
            "approvals": segment.approvals_total,
            "approvals_unanchored": segment.approvals_total - len(approvals),
        }
    expected: dict[str, Any] = {
        "agent_did": seen.facts["agent_did"],
        "event_chain": segment.events,
        "metadata": {
            "clawproxy": {
                "custody": "gateway",
                "denials": segment.denials,
                **told,
                "gaps": segment.gaps,
                "harness_bound": segment.harness_bound,
                "incarnation": seen.facts["incarnation"],
                "job_id": seen.facts["job_id"],
                "policy_hash_b64u": segment.policy_hash_b64u,
                "segment": segment.number,
                "segments": len(seen.segments),
            }
        },
    }
    if claims := seen.budgets.rate_claims(
        segment.number, seen.facts["agent_did"], segment.run_id, (seen.opened_at, seen.ended_at)
    ):
        expected["rate_limit_claims"] = claims
    if receipts:
        expected["receipts"] = receipts
    if effects:
        expected["side_effect_receipts"] = effects
    if approvals:
        expected["human_approval_receipts"] = approvals
    for member in payload.keys() | expected.keys():
        if member in ("bundle_id", "bundle_version"):
            continue
        if not same_json(payload.get(member), expected.get(member)):
            where = join(path, member)
            rule = "J53" if member == "metadata" else "J52"
            raise Fault(rule, "EVIDENCE_MISMATCH", where, _difference(payload.get(member), expected.get(member)))


def _difference(got: Any, expected: Any) -> str:
    """The first item that differs, for lists; a plain word otherwise."""
    if isinstance(got, list) and isinstance(expected, list):
        if len(got) != len(expected):
            return f"got {len(got)}, the journal has {len(expected)}"
        first = next(n for n, pair in enumerate(zip(got, expected, strict=True)) if not same_json(*pair))
        return f"item {first} is not the journal's"
    return "not what the journal says"
