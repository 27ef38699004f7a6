"""Rules of a proof bundle, in the reference's order (protocol.md E.2 to E.8, F.2), without its holes (F.7). Pure.

P01 a whole signed envelope, never a bare payload (MALFORMED_ENVELOPE)
P02 version, type, algorithms; signer DID; dates; not expired (EXPIRED_TTL); base64url
P03 the closed shape, at most 1,000 events and receipts each (SCHEMA_VALIDATION_FAILED, CAUSAL_*, DISCLOSURE_*)
P04 it holds one of urm, event_chain, receipts, attestations; metadata is at most 16 KiB; event ids occur once
    (MALFORMED_ENVELOPE)
P05 the signer is the agent (INVALID_DID_FORMAT), whose key the trust file has in no other role (KEY_IN_TWO_ROLES)
P06 the payload hash holds (HASH_MISMATCH)
P07 the signature is the agent's (SIGNATURE_INVALID)
P08 event chain: one run, each event names the hash before (MALFORMED_ENVELOPE), each hash is right (HASH_MISMATCH)
P09 rate-limit claims agree with themselves (RATE_LIMIT_*); note: nobody but the agent signed them
P10 a URM document is named; none is supplied here (URM_MISSING)
P11 every receipt verifies (verify_receipt) and is bound to the run and an event of the chain (RECEIPT_BINDING_MISMATCH)
P12 a receipt id occurs once (CAUSAL_RECEIPT_REPLAY_DETECTED); receipts name one policy (EVIDENCE_MISMATCH)
P18 receipts of ours are of one job, incarnation and agent, those of the bundle (EVIDENCE_MISMATCH), and bound to the
    event of their own intent, or to a harness's, but then the bundle is not of the gateway's custody
    (RECEIPT_BINDING_MISMATCH)
P13 tool receipts verify (verify_tool)
P14 side effects and approvals: SHA-256 (UNKNOWN_HASH_ALGORITHM), of this agent (PROOF_BUNDLE_AGENT_MISMATCH);
    note: nobody but the agent signed them
P15 causal rules, and anchors of side effects and approvals (verify_causal)
P16 attestations that count: listed attester, this agent, not expired, signature holds, once each. One that does not
    count is noted
P17 note: members that this verifier does not check, and that count for nothing

The reference keeps a bundle valid whose receipts do not verify, and skips receipts without an event; here either fails.

Limits: attestation references are not bound to a bundle by the wire format; assurance metadata (protocol.md E.9) is
signed by the agent itself and earns nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role
from ..tokens.trust import Trust
from .report import Fault, Findings
from .verify_causal import check_anchor, check_causal
from .verify_receipt import check_receipt
from .verify_tool import check_tool_receipt
from .wire_envelope import (
    Signatures,
    check_base64url,
    check_dates,
    check_did,
    check_hash,
    check_kind,
    check_members,
    check_role,
    check_shape,
    check_signature,
    join,
    json_size_bytes,
    same_json,
)
from .wire_schema import parse_date_time_ms
from .wire_shapes import MAX_METADATA_BYTES, PROOF_BUNDLE_ENVELOPE, UNCHECKED_MEMBERS

_EVENT_HEADER = ("event_id", "run_id", "event_type", "timestamp", "payload_hash_b64u", "prev_hash_b64u")
_ASSURANCE = (
    "policy_binding",
    "sentinels",
    "runner_measurement",
    "runner_attestation_receipt",
    "prompt_pack",
    "data_handling",
)


@dataclass(frozen=True, slots=True)
class ProofFacts:
    """What a bundle that conforms amounts to. ``proof_tier`` is self, gateway or sandbox (protocol.md F.3).

    An attestation lifts to sandbox only what a gateway receipt lifted before: it is bound to no run, and alone it says
    nothing of this bundle.
    """

    hash_rule: str
    proof_tier: str
    agent_did: str
    run_id: str | None
    events: int
    receipts: int
    tool_receipts: int
    attestations: int


def event_hash(event: JsonObject) -> str:
    """The hash of an event's header, all strings and null, in its fixed key order (protocol.md E.2)."""
    try:
        return sha256_b64u(orjson.dumps({name: event[name] for name in _EVENT_HEADER}))
    except orjson.JSONEncodeError:
        raise ClawproxyError("PARSE_ERROR", "a string holds half a surrogate pair", expected="valid Unicode") from None


def check_proof_bundle(
    envelope: JsonObject,
    trust: Trust,
    now_ms: int,
    findings: Findings,
    signatures: Signatures,
    path: str = "",
    *,
    of_a_journal: bool = False,
) -> ProofFacts:
    """Raise ``Fault`` for the first broken rule; add notes to ``findings``; return what the bundle amounts to.

    ``of_a_journal`` says that its side effects, approvals and claims of rates are those of a journal, in whose records
    the gateway and the approvers signed them.
    """
    check_members(envelope, "P01", path)
    check_kind(envelope, "proof_bundle", "P02", path)
    check_did(envelope["signer_did"], "P02", join(path, "signer_did"))
    check_dates(envelope, "P02", path, now_ms)
    check_base64url(envelope, "P02", path)
    check_shape(PROOF_BUNDLE_ENVELOPE, envelope, "P03", path)
    payload = envelope["payload"]
    inside = join(path, "payload")
    _check_basics(payload, inside)
    agent_did = payload["agent_did"]
    check_did(agent_did, "P05", join(inside, "agent_did"))
    if envelope["signer_did"] != agent_did:
        raise Fault("P05", "INVALID_DID_FORMAT", join(path, "signer_did"), "the signer is not the bundle's agent")
    check_role(trust, agent_did, (Role.JOB,), "P05", join(inside, "agent_did"), findings)
    hash_rule = check_hash(envelope, "P06", path)
    check_signature(signatures, agent_did, envelope["payload_hash_b64u"], envelope["signature_b64u"], "P07", path)
    chain = payload.get("event_chain", [])
    check_event_chain(chain, join(inside, "event_chain"))
    run_id = chain[0]["run_id"] if chain else None
    hashes = {event["event_hash_b64u"] for event in chain}
    for n, claim in enumerate(payload.get("rate_limit_claims", ())):
        where = join(inside, f"rate_limit_claims[{n}]")
        _check_rate_claim(claim, run_id, where)
        if not of_a_journal:
            findings.note("P09", "NOBODY_SIGNED_IT", where, "nobody but the agent signed this; it is its own word")
    if "urm" in payload:
        raise Fault("P10", "URM_MISSING", join(inside, "urm"), "the URM document that it names was not supplied")
    receipts = _check_receipts(payload, run_id, hashes, trust, findings, signatures, inside)
    _check_ours(receipts, payload, chain)
    for n, item in enumerate(payload.get("tool_receipts", ())):
        check_tool_receipt(
            item, findings, signatures, now_ms, join(inside, f"tool_receipts[{n}]"),
            trust=trust, agent_did=agent_did, run_id=run_id, event_hashes=hashes,
        )  # fmt: skip
    effects = _check_effects(payload, agent_did, inside)
    spans = check_causal(receipts)
    for item, reason, where in effects:
        check_anchor(item, spans, reason, where)
        if of_a_journal:
            continue
        findings.note("P14", "NOBODY_SIGNED_IT", where, "nobody but the agent signed this; it is its own word")
    attestations = _count_attestations(payload, agent_did, trust, now_ms, findings, inside)
    _note_unchecked(payload, findings, inside)
    return ProofFacts(
        hash_rule=hash_rule,
        proof_tier=("sandbox" if attestations else "gateway") if receipts else "self",
        agent_did=agent_did,
        run_id=run_id,
        events=len(chain),
        receipts=len(receipts),
        tool_receipts=len(payload.get("tool_receipts", ())),
        attestations=attestations,
    )


def _check_basics(payload: JsonObject, path: str) -> None:
    if not any(member in payload for member in ("urm", "event_chain", "receipts", "attestations")):
        detail = "holds none of urm, event_chain, receipts, attestations"
        raise Fault("P04", "MALFORMED_ENVELOPE", path, detail)
    if "metadata" in payload:
        where = join(path, "metadata")
        size_bytes = json_size_bytes(payload["metadata"], "P04", where)
        if size_bytes > MAX_METADATA_BYTES:
            detail = f"got {size_bytes} bytes, expected at most {MAX_METADATA_BYTES}"
            raise Fault("P04", "MALFORMED_ENVELOPE", where, detail)
    seen: set[str] = set()
    for n, event in enumerate(payload.get("event_chain", ())):
        if event["event_id"] in seen:
            raise Fault("P04", "MALFORMED_ENVELOPE", join(path, f"event_chain[{n}].event_id"), "occurs twice")
        seen.add(event["event_id"])


def check_event_chain(chain: list[JsonObject], path: str, rule: str = "P08") -> None:
    """P08 over a list of well-shaped events."""
    before: str | None = None
    for n, event in enumerate(chain):
        where = f"{path}[{n}]"
        if event["run_id"] != chain[0]["run_id"]:
            raise Fault(rule, "MALFORMED_ENVELOPE", join(where, "run_id"), "not the run of the first event")
        if event["prev_hash_b64u"] != before:
            raise Fault(rule, "MALFORMED_ENVELOPE", join(where, "prev_hash_b64u"), "not the hash of the event before")
        try:
            computed = event_hash(event)
        except ClawproxyError as err:
            raise Fault.of(err, rule, where) from None
        if computed != event["event_hash_b64u"]:
            raise Fault(rule, "HASH_MISMATCH", join(where, "event_hash_b64u"), "the hash of the event is another")
        before = event["event_hash_b64u"]


def _check_rate_claim(claim: JsonObject, run_id: str | None, path: str) -> None:
    def broken(reason: str, member: str, detail: str) -> Fault:
        return Fault("P09", reason, join(path, member), detail)

    start_ms, end_ms = parse_date_time_ms(claim["window_start"]), parse_date_time_ms(claim["window_end"])
    if start_ms is None or end_ms is None:
        raise broken("RATE_LIMIT_CLAIM_INCONSISTENT", "window_start", "the window's ends are not dates")
    if start_ms > end_ms:
        raise broken("RATE_LIMIT_WINDOW_INVALID", "window_end", "the window ends before it starts")
    if claim["observed_requests"] > claim["max_requests"]:
        raise broken("RATE_LIMIT_EXCEEDED", "observed_requests", "more than max_requests")
    for kind in ("tokens_input", "tokens_output"):
        most, seen = claim.get(f"max_{kind}"), claim.get(f"observed_{kind}")
        if (most is None) != (seen is None):
            raise broken("RATE_LIMIT_CLAIM_INCONSISTENT", f"max_{kind}", "maximum and observation belong together")
        if most is not None and seen is not None and seen > most:
            raise broken("RATE_LIMIT_EXCEEDED", f"observed_{kind}", f"more than max_{kind}")
    if run_id is not None and claim.get("run_id", run_id) != run_id:
        raise broken("RATE_LIMIT_CLAIM_INCONSISTENT", "run_id", "not the run of the event chain")


def _check_receipts(
    payload: JsonObject,
    run_id: str | None,
    hashes: set[str],
    trust: Trust,
    findings: Findings,
    signatures: Signatures,
    path: str,
) -> list[tuple[JsonObject, str]]:
    """P11, P12. Unlike the reference, one receipt that does not verify or is not bound fails the bundle."""
    signers = trust.signers(Role.RECEIPT)
    found = [(item, join(path, f"receipts[{n}]")) for n, item in enumerate(payload.get("receipts", ()))]
    ids: dict[str, str] = {}
    policies: dict[str, str] = {}
    scopes: set[str] = set()
    for envelope, where in found:
        if not same_json(signatures.receipts.get(envelope["payload_hash_b64u"]), envelope):
            check_receipt(envelope, signers, signatures, where, shaped=True)
        receipt = envelope["payload"]
        binding = receipt.get("binding", {})
        for member, fits in (
            ("run_id", binding.get("run_id") == run_id),
            ("event_hash_b64u", binding.get("event_hash_b64u") in hashes),
        ):
            if not fits or run_id is None:
                detail = (
                    "not bound to the event chain" if member in binding else "missing: the receipt is bound to no event"
                )
                raise Fault("P11", "RECEIPT_BINDING_MISMATCH", join(where, f"payload.binding.{member}"), detail)
        if first := ids.get(receipt["receipt_id"]):
            raise Fault("P12", "CAUSAL_RECEIPT_REPLAY_DETECTED", where, f"the same receipt id as {first}")
        ids[receipt["receipt_id"]] = where
        if "policy_hash" in binding:
            policies.setdefault(binding["policy_hash"], where)
        scopes.add(binding.get("token_scope_hash_b64u", ""))
    if len(policies) > 1:
        where = join(list(policies.values())[1], "payload.binding.policy_hash")
        raise Fault("P12", "EVIDENCE_MISMATCH", where, "receipts of one bundle name different policies")
    if len(scopes) > 1:
        findings.note("P12", "TOKEN_SCOPE_VARIES", join(path, "receipts"), "receipts were made under different tokens")
    return found


def _check_ours(receipts: list[tuple[JsonObject, str]], payload: JsonObject, chain: list[JsonObject]) -> None:
    """P18. A receipt of ours says whose call it answers, so that no other bundle can hold it."""
    event_ids = {event["event_hash_b64u"]: event["event_id"] for event in chain}
    stated = payload.get("metadata", {}).get("clawproxy")
    stated = stated if isinstance(stated, dict) else {}
    whose: JsonObject = {name: stated.get(name) for name in ("job_id", "incarnation")} if stated else {}
    whose["agent_did"] = payload["agent_did"]
    for envelope, path in receipts:
        ours = envelope["payload"].get("metadata", {}).get("clawproxy")
        if not isinstance(ours, dict) or not isinstance(ours.get("incarnation"), str):
            continue
        where = join(path, "payload.metadata.clawproxy")
        for member in ("job_id", "incarnation", "agent_did"):
            if member != "agent_did" or member in ours:
                expected = whose.setdefault(member, ours.get(member))
                if ours.get(member) != expected:
                    detail = f"not the bundle's, {clip(str(expected))}: the receipt was lifted from elsewhere"
                    raise Fault("P18", "EVIDENCE_MISMATCH", join(where, member), detail)
        if "event_hash_b64u" in ours:
            if stated.get("custody") == "gateway":
                detail = "bound to a harness's chain, in a bundle that says it is of the gateway's custody"
                raise Fault("P18", "RECEIPT_BINDING_MISMATCH", where, detail)
        elif (
            event_ids[envelope["payload"]["binding"]["event_hash_b64u"]]
            != f"evt_{ours['incarnation']}_{ours.get('intent_seq')}"
        ):
            detail = "not the event of the receipt's own intent"
            raise Fault("P18", "RECEIPT_BINDING_MISMATCH", join(path, "payload.binding.event_hash_b64u"), detail)


def _check_effects(payload: JsonObject, agent_did: str, path: str) -> list[tuple[JsonObject, str, str]]:
    """P14; returns each side effect and approval with the reason for a missing anchor, and its path."""
    out = []
    for member, reason in (
        ("side_effect_receipts", "CAUSAL_SIDE_EFFECT_ORPHANED"),
        ("human_approval_receipts", "CAUSAL_HUMAN_APPROVAL_ORPHANED"),
    ):
        for n, item in enumerate(payload.get(member, ())):
            where = join(path, f"{member}[{n}]")
            if item.get("hash_algorithm", "SHA-256") != "SHA-256":
                raise Fault("P14", "UNKNOWN_HASH_ALGORITHM", join(where, "hash_algorithm"), "expected SHA-256")
            if item["agent_did"] != agent_did:
                raise Fault("P14", "PROOF_BUNDLE_AGENT_MISMATCH", join(where, "agent_did"), "not the bundle's agent")
            out.append((item, reason, where))
    return out


def _count_attestations(
    payload: JsonObject, agent_did: str, trust: Trust, now_ms: int, findings: Findings, path: str
) -> int:
    counted: set[tuple[str, str]] = set()
    listed = trust.allowlists.get("attestation_signer_dids", frozenset())
    for n, item in enumerate(payload.get("attestations", ())):
        where = join(path, f"attestations[{n}]")
        try:
            if item["attester_did"] not in listed:
                raise Fault("P16", "CLAIM_NOT_FOUND", join(where, "attester_did"), "the attester is not trusted")
            if item["subject_did"] != agent_did:
                raise Fault("P16", "EVIDENCE_MISMATCH", join(where, "subject_did"), "not the bundle's agent")
            if "expires_at" in item and (parse_date_time_ms(item["expires_at"]) or 0) <= now_ms:
                raise Fault("P16", "EXPIRED_TTL", join(where, "expires_at"), "expired")
            message = jcs_bytes({**item, "signature_b64u": ""}).decode("utf-8")
            check_signature(Signatures(), item["attester_did"], message, item["signature_b64u"], "P16", where)
            if (item["attester_did"], item["attestation_id"]) in counted:
                raise Fault("P16", "ATTESTATION_REPEATED", where, "it is there already")
            counted.add((item["attester_did"], item["attestation_id"]))
        except Fault as fault:
            findings.note("P16", fault.reason, fault.path, f"the attestation does not count: {fault.detail}")
    return len(counted)


def _note_unchecked(payload: JsonObject, findings: Findings, path: str) -> None:
    metadata = payload.get("metadata", {})
    unchecked = [join(path, name) for name in UNCHECKED_MEMBERS if payload.get(name)]
    unchecked += [join(path, f"metadata.{name}") for name in _ASSURANCE if name in metadata]
    for where in unchecked:
        findings.note("P17", "NOT_CHECKED", where, "this verifier does not check it; it counts for nothing")
