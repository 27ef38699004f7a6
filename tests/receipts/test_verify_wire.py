"""Wire files: each gets the reference's outcome and reason code, and where the reference has holes, ours refuses.

Seen red by taking each check out in turn (every ``raise`` and every ``check_…`` of the verifiers, one at a time): a
test here failed for each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify_wire import verify_wire_file
from clawproxy.tokens.canonical import jcs_bytes, parse_json_object
from clawproxy.tokens.envelope import build_envelope
from clawproxy.tokens.keys import Role
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust, parse_trust
from hypothesis import given
from hypothesis import strategies as st

from .wire_makers import (
    AGENT,
    ATTESTER,
    AUDITOR,
    BOUND,
    DERIVER,
    EVENTS,
    EXECUTOR,
    FILED,
    GATEWAY,
    NOW_MS,
    POLICY,
    STRANGER,
    VECTORS,
    Document,
    approval,
    at,
    attestation,
    bundle,
    chain,
    changed,
    claim,
    co_signed,
    contract,
    derivation,
    digest,
    disclosing,
    envelope,
    execution,
    export,
    log_proof,
    malleable,
    receipt,
    side_effect,
    spanned,
    tool,
    tool_payload,
    trust,
    vector_texts,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "vectors"


def verify(document: Document, trusted: Trust | None = None) -> Report:
    return verify_wire_file(document, trusted or trust(), NOW_MS)


def noted(report: Report) -> list[str]:
    """What was found besides that a bundle does not show by itself that it is whole, which is noted always."""
    assert all(finding.severity == "note" for finding in report.findings)
    told = [finding.reason for finding in report.findings]
    if report.kind.endswith("_bundle"):
        told.remove("COMPLETENESS_NOT_SHOWN")
    return told


# -- vectors ---------------------------------------------------------------------------------------------------------


def test_the_vectors_on_disk_are_those_that_the_makers_make() -> None:
    texts = vector_texts()
    assert {path.name for path in VECTORS.iterdir()} == set(texts)
    for name, text in texts.items():
        assert (VECTORS / name).read_text() == text, f"{name}: run python -m tests.receipts.wire_makers"


@pytest.mark.parametrize("name", FILED)
@pytest.mark.parametrize("form", ["trust.json", "config.json"])
def test_each_vector_gets_its_outcome_under_both_forms_of_trust(name: str, form: str) -> None:
    manifest = json.loads((VECTORS / "manifest.json").read_text())
    expected = {row["file"]: row["reason_code"] for row in manifest["vectors"]}[f"{name}.json"]
    trusted = parse_trust((VECTORS / form).read_bytes())
    if name == "export_bundle_pass":
        trusted = trust()  # needs the lists of the one form and the log key of the other
    report = verify(parse_json_object((VECTORS / f"{name}.json").read_bytes()), trusted)
    assert report.reason == expected
    assert report.verdict is (Verdict.CONFORMS if expected == "OK" else Verdict.FAILED)
    assert report.exit_code == (0 if expected == "OK" else 1)


def _shared_vectors() -> list[tuple[str, list[str]]]:
    path = SHARED / "conformance" / "manifest.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text())["vectors"]
    return [(row["file"], _codes(row["expected"]["reason_code"])) for row in rows]


def _codes(stated: str | list[str]) -> list[str]:
    return [stated] if isinstance(stated, str) else stated


@pytest.mark.parametrize(("file", "codes"), _shared_vectors())
def test_each_shared_conformance_vector_gets_its_outcome(file: str, codes: list[str]) -> None:
    folder = SHARED / "conformance"
    trusted = parse_trust((folder / "clawverify.config.conformance.v1.json").read_bytes())
    report = verify(parse_json_object((folder / file).read_bytes()), trusted)
    assert report.reason in codes
    assert (report.verdict is Verdict.CONFORMS) == (codes == ["OK"])


@pytest.mark.parametrize("name", ["bundle_gateway_min", "export_bundle", "gateway_mixed_bundle"])
def test_the_shared_known_answers_conform_at_tier_gateway(name: str) -> None:
    path = SHARED / "kat" / f"{name}.json"
    if not path.exists():
        pytest.skip("the shared known answers are not here")
    trusted = parse_trust((SHARED / "kat" / "clawverify.config.kat.json").read_bytes())
    report = verify(parse_json_object(path.read_bytes()), trusted)
    assert (report.verdict, report.facts["proof_tier"]) == (Verdict.CONFORMS, "gateway")


# -- what holds ------------------------------------------------------------------------------------------------------


def test_a_bundle_tells_its_tier_and_the_hash_rule_that_held() -> None:
    assert verify(bundle()).facts["hash_rule"] == "wire-order"
    assert verify(bundle()).facts["proof_tier"] == "gateway"
    assert verify(bundle(receipts=None)).facts["proof_tier"] == "self"
    assert verify(bundle(attestations=[attestation()])).facts["proof_tier"] == "sandbox"
    ours = json.loads(jcs_bytes(bundle(receipts=None)["payload"]))
    assert verify(envelope("proof_bundle", ours, AGENT, 30)).facts["hash_rule"] == "jcs"


@pytest.mark.parametrize("wrapper", ["envelope", "bundle"])
def test_a_wrapped_file_is_taken_out_of_its_wrapper(wrapper: str) -> None:
    assert verify({wrapper: bundle(), "vector_version": "1", "description": "x"}).reason == "OK"
    assert verify({wrapper: changed(bundle(), "algorithm", drop=True)}).findings[0].path == f"{wrapper}.algorithm"


@pytest.mark.parametrize(
    "beside",
    [{"note": "x"}, {"verdict": "VERIFIED"}, {"bundle": {"x": 1}}, {"description": {"receipts": []}}, {"receipts": []}],
)
def test_a_wrapper_holds_nothing_that_could_be_taken_for_signed(beside: Document) -> None:
    report = verify({"envelope": bundle(), **beside})
    assert (report.verdict, report.reason) == (Verdict.FAILED, "MALFORMED_ENVELOPE")
    assert report.findings[0].path in beside


def test_a_tool_receipt_alone_conforms_only_if_the_trust_file_names_its_signer() -> None:
    agents = build_trust([*trust().keys, TrustedKey(AGENT.did, Role.JOB)])
    assert verify(tool(), agents).reason == "OK"
    assert verify(co_signed(), agents).facts["signer_did"] == AGENT.did
    assert verify(tool()).reason == "CLAIM_NOT_FOUND"
    assert verify(tool(), Trust()).reason == "DEPENDENCY_NOT_CONFIGURED"
    assert verify(tool_payload(), agents).reason == "MALFORMED_ENVELOPE"


def test_an_attestation_lifts_no_bundle_without_a_gateway_receipt() -> None:
    report = verify(bundle(receipts=None, attestations=[attestation()]))
    assert (report.facts["proof_tier"], report.counts["attestations"]) == ("self", 1)
    alone = verify(bundle(receipts=None, event_chain=None, attestations=[attestation()]))
    assert (alone.verdict, alone.reason) == (Verdict.FAILED, "RECEIPT_MISSING")


def test_an_attestation_counts_once_however_often_it_is_there() -> None:
    report = verify(bundle(attestations=[attestation()] * 3))
    assert (report.facts["proof_tier"], report.counts["attestations"]) == ("sandbox", 1)
    assert noted(report) == ["ATTESTATION_REPEATED"] * 2


def test_no_did_of_a_bundle_stands_in_the_trust_file_for_something_else() -> None:
    def under(role: Role, did: str) -> Trust:
        return build_trust([*trust().keys, TrustedKey(did, role)], trust().allowlists)

    co_signing = bundle(tool_receipts=[co_signed()])
    for role in (Role.RECEIPT, Role.POLICY, Role.TOKEN, Role.LOG):
        assert verify(bundle(), under(role, AGENT.did)).reason == "KEY_IN_TWO_ROLES"
        assert verify(export(), under(role, export()["issuer_did"])).reason == "KEY_IN_TWO_ROLES"
        assert verify(co_signing, under(role, AUDITOR.did)).reason == "KEY_IN_TWO_ROLES"
    assert noted(verify(bundle(), under(Role.JOB, AGENT.did))) == []
    assert noted(verify(export(), under(Role.APPROVAL, export()["issuer_did"]))) == []
    assert noted(verify(co_signing, under(Role.APPROVAL, AUDITOR.did))) == []
    listed = build_trust(trust().keys, {"attestation_signer_dids": [AGENT.did]})
    assert verify(bundle(), listed).reason == "KEY_IN_TWO_ROLES"


def test_an_export_bundle_tells_its_issuer() -> None:
    assert verify(export()).facts["issuer_did"] == export()["issuer_did"]


def test_a_signed_contract_conforms_if_its_signer_is_trusted() -> None:
    report = verify(contract())
    assert (report.kind, report.reason) == ("work_policy_contract", "OK")
    assert report.facts["policy_hash_b64u"] == contract()["payload_hash_b64u"]
    other = build_trust([TrustedKey(STRANGER.did, Role.RECEIPT)])
    assert verify(contract(), other).reason == "DEPENDENCY_NOT_CONFIGURED"
    assert verify(contract(), other).verdict is Verdict.FAILED
    other = build_trust([TrustedKey(STRANGER.did, Role.POLICY)])
    assert verify(contract(), other).reason == "CLAIM_NOT_FOUND"


def test_a_contract_without_a_trust_file_is_incomplete_and_one_that_was_changed_still_fails() -> None:
    report = verify(contract(), Trust())
    assert (report.verdict, report.exit_code, report.reason) == (Verdict.INCOMPLETE, 3, "DEPENDENCY_NOT_CONFIGURED")
    unsigned = {**contract(), "signature_b64u": STRANGER.sign_b64u(b"x")}
    other_hash = {**contract(), "payload_hash_b64u": digest("another")}
    for other, reason in ((unsigned, "SIGNATURE_INVALID"), (other_hash, "HASH_MISMATCH")):
        report = verify(other, Trust())
        assert (report.verdict, report.reason) == (Verdict.FAILED, reason)


def test_an_execution_attestation_bound_to_its_bundle_conforms() -> None:
    proof = bundle()
    assert verify(export(proof, execution_attestation_envelopes=[execution(proof)])).reason == "OK"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9])
def test_a_log_proof_of_each_leaf_holds(size: int) -> None:
    for index in range(size):
        document = export(derivation_attestation_envelopes=[derivation(proof=log_proof(index=index, size=size))])
        assert verify(document).reason == "OK"


_ROOT = {"span_id": "span_0"}

NOTED: dict[str, tuple[Callable[[], Document], str]] = {
    "a bare tool receipt": (lambda: bundle(tool_receipts=[tool_payload()]), "TOOL_RECEIPT_UNSIGNED"),
    "a tool receipt of a stranger": (lambda: bundle(tool_receipts=[tool(key=STRANGER)]), "TOOL_RECEIPT_OTHER_SIGNER"),
    "a tool receipt of the gateway, alone": (lambda: tool(key=GATEWAY), "TOOL_RECEIPT_OTHER_SIGNER"),
    "no gateway receipt": (lambda: bundle(receipts=None), "NO_GATEWAY_RECEIPT"),
    "an export by a stranger": (export, "ISSUER_NOT_TRUSTED"),
    "a rate claim": (lambda: bundle(rate_limit_claims=[claim()]), "NOBODY_SIGNED_IT"),
    "a side effect": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], side_effect_receipts=[side_effect()]),
        "NOBODY_SIGNED_IT",
    ),
    "an approval": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], human_approval_receipts=[approval()]),
        "NOBODY_SIGNED_IT",
    ),
    "web receipts": (lambda: bundle(web_receipts=[{"x": 1}]), "NOT_CHECKED"),
    "assurance metadata": (lambda: bundle(metadata={"policy_binding": {}}), "NOT_CHECKED"),
    "an attestation of a stranger": (lambda: bundle(attestations=[attestation(STRANGER)]), "CLAIM_NOT_FOUND"),
    "an attestation for another agent": (
        lambda: bundle(attestations=[attestation(subject_did=AUDITOR.did)]),
        "EVIDENCE_MISMATCH",
    ),
    "an attestation that expired": (lambda: bundle(attestations=[attestation(expires_at=at(0))]), "EXPIRED_TTL"),
    "an attestation with another signature": (
        lambda: bundle(attestations=[changed(attestation(), "attestation_id", to="att_2")]),
        "SIGNATURE_INVALID",
    ),
    "receipts under different tokens": (
        lambda: bundle(receipts=[receipt(0, binding={**BOUND, "token_scope_hash_b64u": digest("t")}), receipt(1)]),
        "TOKEN_SCOPE_VARIES",
    ),
}


@pytest.mark.parametrize("name", NOTED)
def test_it_conforms_but_is_noted(name: str) -> None:
    make, reason = NOTED[name]
    report = verify(make())
    assert report.verdict is Verdict.CONFORMS
    assert noted(report) == [reason]
    if "attestation" in name:
        assert report.facts["proof_tier"] == "gateway"


# -- what does not ---------------------------------------------------------------------------------------------------

LOW_ORDER_DID = "did:key:z6MkeTG3bFFSLYVU7VqhgZxqr6YzpaGrQtFMh1uvqGy1vDnP"  # the all-zero point

REFUSED: dict[str, tuple[Callable[[], Document], str]] = {
    # which file is it
    "nothing": (dict, "MALFORMED_ENVELOPE"),
    "an aggregate bundle": (lambda: envelope("aggregate_bundle", {}, AGENT, 1), "UNKNOWN_ENVELOPE_TYPE"),
    # the hole of the reference: an input that is no envelope is taken as a payload
    "a bare bundle payload": (lambda: dict(bundle()["payload"]), "MALFORMED_ENVELOPE"),
    "a bundle without its signature": (lambda: changed(bundle(), "signature_b64u", drop=True), "MALFORMED_ENVELOPE"),
    "a bundle without its version": (lambda: changed(bundle(), "envelope_version", drop=True), "MALFORMED_ENVELOPE"),
    "a bare gateway receipt": (lambda: dict(receipt()["payload"]), "MALFORMED_ENVELOPE"),
    # envelope
    "another signature algorithm": (lambda: changed(bundle(), "algorithm", to="RSA"), "UNKNOWN_ALGORITHM"),
    "a hash nobody computes": (lambda: changed(bundle(), "hash_algorithm", to="BLAKE3"), "HASH_MISMATCH"),
    "a signer that is no DID": (lambda: changed(bundle(), "signer_did", to="did:x:y"), "INVALID_DID_FORMAT"),
    "a date that is none": (lambda: changed(bundle(), "issued_at", to="yesterday"), "MALFORMED_ENVELOPE"),
    "padded base64url": (lambda: changed(bundle(), "signature_b64u", to="AAAAAAAA=="), "MALFORMED_ENVELOPE"),
    "a bundle past its time": (lambda: bundle(extra={"expires_at": at(50)}), "EXPIRED_TTL"),
    "a member more": (lambda: bundle(extra={"note": "x"}), "SCHEMA_VALIDATION_FAILED"),
    "a date without zone": (
        lambda: bundle(event_chain=[changed(EVENTS[0], "timestamp", to="2030-03-01T12:00:00")], receipts=None),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a second text for the same signature": (
        lambda: changed(bundle(), "signature_b64u", to=malleable(bundle()["signature_b64u"])),
        "MALFORMED_ENVELOPE",
    ),
    "a short signature": (lambda: changed(bundle(), "signature_b64u", to="AAAAAAAA"), "SIGNATURE_INVALID"),
    "a key of small order": (
        lambda: changed(bundle(agent_did=LOW_ORDER_DID), "signer_did", to=LOW_ORDER_DID),
        "INVALID_DID_FORMAT",
    ),
    # bundle
    "a bundle that holds nothing": (lambda: bundle(event_chain=None, receipts=None), "MALFORMED_ENVELOPE"),
    "a bundle signed by someone else": (lambda: bundle(key=STRANGER), "INVALID_DID_FORMAT"),
    "too much metadata": (lambda: bundle(metadata={"x": "y" * 17_000}), "MALFORMED_ENVELOPE"),
    "an event id twice": (
        lambda: bundle(event_chain=[EVENTS[0], changed(EVENTS[1], "event_id", to="evt_0")]),
        "MALFORMED_ENVELOPE",
    ),
    "too many events": (lambda: bundle(event_chain=chain(1001), receipts=None), "SCHEMA_VALIDATION_FAILED"),
    "a legacy receipt among the receipts": (
        lambda: bundle(receipts=[receipt(), {"receipt_type": "legacy"}]),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "no receipts in the list": (lambda: bundle(receipts=[]), "SCHEMA_VALIDATION_FAILED"),
    "a URM": (
        lambda: bundle(
            urm={"urm_version": "1", "urm_id": "u", "resource_type": "x", "resource_hash_b64u": digest("u")}
        ),
        "URM_MISSING",
    ),
    # chain
    "an event of another run": (
        lambda: bundle(event_chain=[EVENTS[0], changed(EVENTS[1], "run_id", to="x")], receipts=None),
        "MALFORMED_ENVELOPE",
    ),
    "a first event with a past": (lambda: bundle(event_chain=EVENTS[1:]), "MALFORMED_ENVELOPE"),
    "an event with another hash": (
        lambda: bundle(event_chain=[EVENTS[0], changed(EVENTS[1], "timestamp", to=at(2))], receipts=None),
        "HASH_MISMATCH",
    ),
    # receipts: any that does not verify fails the bundle
    "a receipt of an unknown gateway": (lambda: bundle(receipts=[receipt(), receipt(1, STRANGER)]), "CLAIM_NOT_FOUND"),
    "a changed receipt": (
        lambda: bundle(receipts=[receipt(), changed(receipt(1), "payload", "tokens_input", to=99)]),
        "HASH_MISMATCH",
    ),
    "a receipt with another signature": (
        lambda: bundle(receipts=[changed(receipt(), "signature_b64u", to=receipt(1)["signature_b64u"])]),
        "SIGNATURE_INVALID",
    ),
    "a receipt without an event": (
        lambda: bundle(receipts=[receipt(), receipt(1, binding={"run_id": BOUND["run_id"]})]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt without binding": (
        lambda: bundle(receipts=[receipt(), _without_binding()]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt of no event of the chain": (
        lambda: bundle(receipts=[receipt(binding={**BOUND, "event_hash_b64u": digest("x")})]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "receipts without a chain": (lambda: bundle(event_chain=None), "RECEIPT_BINDING_MISMATCH"),
    "a receipt twice": (lambda: bundle(receipts=[receipt(), receipt()]), "CAUSAL_RECEIPT_REPLAY_DETECTED"),
    "two receipts with one id": (
        lambda: bundle(receipts=[receipt(), receipt(0, tokens_input=12)]),
        "CAUSAL_RECEIPT_REPLAY_DETECTED",
    ),
    "receipts of two policies": (
        lambda: bundle(
            receipts=[
                receipt(0, binding={**BOUND, "policy_hash": digest("p")}),
                receipt(1, binding={**BOUND, "policy_hash": digest("q")}),
            ]
        ),
        "EVIDENCE_MISMATCH",
    ),
    "half a token": (lambda: receipt(tokens_input=0.5), "MALFORMED_ENVELOPE"),
    "a latency with a fraction": (lambda: receipt(latency_ms=81.5), "MALFORMED_ENVELOPE"),
    "more than an hour": (lambda: receipt(latency_ms=3_600_001), "MALFORMED_ENVELOPE"),
    "too many tokens": (lambda: receipt(tokens_output=10_000_001), "MALFORMED_ENVELOPE"),
    "a large receipt": (lambda: receipt(metadata={"x": "y" * 17_000}), "MALFORMED_ENVELOPE"),
    "less than no tokens": (lambda: receipt(tokens_output=-1), "SCHEMA_VALIDATION_FAILED"),
    "a receipt with a member more": (lambda: receipt(x=1), "SCHEMA_VALIDATION_FAILED"),
    "a model identity with another hash": (
        lambda: receipt(metadata={"model_identity": {}, "model_identity_hash_b64u": digest("x")}),
        "HASH_MISMATCH",
    ),
    "a receipt of a later version": (
        lambda: changed(receipt(), "envelope_version", to="2"),
        "UNKNOWN_ENVELOPE_VERSION",
    ),
    "a receipt with another signature algorithm": (
        lambda: changed(receipt(), "algorithm", to="RSA"),
        "UNKNOWN_ALGORITHM",
    ),
    "a receipt by no DID": (lambda: changed(receipt(), "signer_did", to="did:x:y"), "INVALID_DID_FORMAT"),
    "a receipt without a date": (lambda: changed(receipt(), "issued_at", to="now"), "SCHEMA_VALIDATION_FAILED"),
    "a receipt of another type": (
        lambda: bundle(receipts=[changed(receipt(), "envelope_type", to="web_receipt")]),
        "SCHEMA_VALIDATION_FAILED",
    ),
    # rate limits
    "more requests than allowed": (
        lambda: bundle(rate_limit_claims=[claim(observed_requests=11)]),
        "RATE_LIMIT_EXCEEDED",
    ),
    "a window that ends first": (
        lambda: bundle(rate_limit_claims=[claim(window_end=at(0), window_start=at(1))]),
        "RATE_LIMIT_WINDOW_INVALID",
    ),
    "a window without dates": (
        lambda: bundle(rate_limit_claims=[claim(window_end="later")]),
        "RATE_LIMIT_CLAIM_INCONSISTENT",
    ),
    "half a pair": (lambda: bundle(rate_limit_claims=[claim(max_tokens_input=1)]), "RATE_LIMIT_CLAIM_INCONSISTENT"),
    "more tokens than allowed": (
        lambda: bundle(rate_limit_claims=[claim(max_tokens_output=1, observed_tokens_output=2)]),
        "RATE_LIMIT_EXCEEDED",
    ),
    "a claim of another run": (
        lambda: bundle(rate_limit_claims=[claim(run_id="run_x")]),
        "RATE_LIMIT_CLAIM_INCONSISTENT",
    ),
    # tool receipts
    "a tool receipt of another agent": (
        lambda: bundle(tool_receipts=[tool_payload(agent_did=STRANGER.did)]),
        "PROOF_BUNDLE_AGENT_MISMATCH",
    ),
    "a tool receipt of another run": (
        lambda: bundle(tool_receipts=[tool(binding={"run_id": "run_x"})]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a tool receipt of another event": (
        lambda: bundle(tool_receipts=[tool(binding={"event_hash_b64u": digest("x")})]),
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a tool receipt with another hash": (
        lambda: bundle(tool_receipts=[tool_payload(hash_algorithm="BLAKE3")]),
        "UNKNOWN_HASH_ALGORITHM",
    ),
    "a tool receipt past its time": (lambda: tool(extra={"expires_at": at(50)}), "EXPIRED_TTL"),
    "a tool receipt by no DID": (lambda: changed(tool(), "signer_did", to="did:x:y"), "INVALID_DID_FORMAT"),
    "a changed tool receipt by no DID": (
        lambda: {**changed(tool(), "payload", "tool_name", to="x"), "signer_did": "did:x:y"},
        "INVALID_DID_FORMAT",
    ),
    "a changed tool receipt": (lambda: changed(tool(), "payload", "tool_name", to="shell"), "HASH_MISMATCH"),
    "a tool receipt with another signature": (
        lambda: changed(tool(), "signature_b64u", to=AGENT.sign_b64u(b"x")),
        "SIGNATURE_INVALID",
    ),
    "a co-signature of something else": (lambda: co_signed(AUDITOR.sign_b64u(b"x")), "CO_SIGNATURE_INVALID"),
    "a co-signature that is too short": (lambda: co_signed("AAAAAAAA"), "CO_SIGNATURE_INVALID"),
    "a co-signer without a key": (
        lambda: changed(co_signed(), "co_signatures", 0, "signer_did", to="did:web:x"),
        "CO_SIGNATURE_INVALID",
    ),
    "too many co-signatures": (
        lambda: changed(co_signed(), "co_signatures", to=co_signed()["co_signatures"] * 17),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a co-signature on version 1": (
        lambda: tool(extra={"co_signatures": co_signed()["co_signatures"]}),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a version 1 payload in a version 2 envelope": (
        lambda: envelope("tool_receipt", tool_payload("1"), AGENT, 4, "2"),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a disclosed leaf of another type": (lambda: disclosing(kind="number"), "DISCLOSURE_TYPE_MISMATCH"),
    "a flag disclosed as a number": (lambda: disclosing(kind="number", value=True), "DISCLOSURE_TYPE_MISMATCH"),
    "a leaf of an unknown type": (lambda: disclosing(kind="date"), "DISCLOSURE_TYPE_MISMATCH"),
    "a disclosure by another algorithm": (lambda: disclosing(algorithm="x"), "DISCLOSURE_ALGORITHM_UNKNOWN"),
    "a disclosure of other arguments": (
        lambda: tool("2", args_hash_b64u=digest("other"), args_disclosure=disclosing()["payload"]["args_disclosure"]),
        "DISCLOSURE_ROOT_MISMATCH",
    ),
    # side effects and approvals
    "a side effect without a span": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], side_effect_receipts=[side_effect("span_x")]),
        "CAUSAL_SIDE_EFFECT_ORPHANED",
    ),
    "a side effect in a bundle without spans": (
        lambda: bundle(side_effect_receipts=[side_effect()]),
        "CAUSAL_SIDE_EFFECT_ORPHANED",
    ),
    "a side effect with a blank span": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], side_effect_receipts=[side_effect(" ")]),
        "CAUSAL_BINDING_NORMALIZATION_FAILED",
    ),
    "an approval without a span": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], human_approval_receipts=[approval("span_x")]),
        "CAUSAL_HUMAN_APPROVAL_ORPHANED",
    ),
    "a side effect of another agent": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], side_effect_receipts=[side_effect(agent_did=STRANGER.did)]),
        "PROOF_BUNDLE_AGENT_MISMATCH",
    ),
    "a side effect with another hash": (
        lambda: bundle(receipts=[spanned(0, **_ROOT)], side_effect_receipts=[side_effect(hash_algorithm="MD5")]),
        "UNKNOWN_HASH_ALGORITHM",
    ),
    # causal members
    "two names of one member that differ": (
        lambda: bundle(receipts=[spanned(0, span_id="a", spanId="b")]),
        "CAUSAL_BINDING_FIELD_CONFLICT",
    ),
    "a blank span": (lambda: bundle(receipts=[spanned(0, span_id=" ")]), "CAUSAL_BINDING_NORMALIZATION_FAILED"),
    "a span that is a number": (
        lambda: bundle(receipts=[spanned(0, span_id=7)]),
        "CAUSAL_BINDING_NORMALIZATION_FAILED",
    ),
    "an unknown phase": (lambda: bundle(receipts=[spanned(0, **_ROOT, phase="lunch")]), "CAUSAL_PHASE_INVALID"),
    "more than certain": (
        lambda: bundle(receipts=[spanned(0, **_ROOT, attribution_confidence=1.1)]),
        "CAUSAL_CONFIDENCE_OUT_OF_RANGE",
    ),
    "certain without evidence": (
        lambda: bundle(receipts=[spanned(0, **_ROOT, attribution_confidence=0.6)]),
        "CAUSAL_CONFIDENCE_EVIDENCE_INCONSISTENT",
    ),
    "a parent that is nowhere": (
        lambda: bundle(receipts=[spanned(0, **_ROOT, parent_span_id="span_x")]),
        "CAUSAL_REFERENCE_DANGLING",
    ),
    "a span used twice for different things": (
        lambda: bundle(receipts=[spanned(0, **_ROOT), spanned(1, **_ROOT, phase="setup")]),
        "CAUSAL_SPAN_REUSE_CONFLICT",
    ),
    "a span used at two times": (
        lambda: bundle(receipts=[spanned(0, **_ROOT), spanned(1, **_ROOT)]),
        "CAUSAL_CLOCK_CONTRADICTION",
    ),
    "a receipt from after its issue": (
        lambda: bundle(receipts=[changed(spanned(0, **_ROOT), "issued_at", to=at(0))]),
        "CAUSAL_CLOCK_CONTRADICTION",
    ),
    "a child before its parent": (
        lambda: bundle(receipts=[spanned(0, span_id="b", parent_span_id="a"), spanned(1, span_id="a")]),
        "CAUSAL_CLOCK_CONTRADICTION",
    ),
    "a circle": (
        lambda: bundle(
            receipts=[spanned(0, span_id="a", parent_span_id="b"), spanned(1, span_id="b", parent_span_id="a")]
        ),
        "CAUSAL_CYCLE_DETECTED",
    ),
    "execution before setup": (
        lambda: bundle(
            receipts=[
                spanned(0, span_id="a", phase="setup"),
                spanned(1, span_id="b", parent_span_id="a", phase="teardown"),
            ]
        ),
        "CAUSAL_PHASE_TRANSITION_INVALID",
    ),
    "two separate stories": (
        lambda: bundle(receipts=[spanned(0, span_id="a"), spanned(1, span_id="b")]),
        "CAUSAL_GRAPH_DISCONNECTED",
    ),
    # export bundles
    "an export without its hash": (
        lambda: changed(export(), "bundle_hash_b64u", drop=True),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "an export by nobody": (lambda: export(change=_put("issuer_did", "did:x:y")), "INVALID_DID_FORMAT"),
    "a changed export by nobody": (
        lambda: export(change=_put("issuer_did", "did:x:y"), resign=False),
        "INVALID_DID_FORMAT",
    ),
    "an export made after its issue": (lambda: export(change=_put("created_at", at(50))), "CAUSAL_CLOCK_CONTRADICTION"),
    "an export from the future": (
        lambda: export(change=_put("issued_at", "2031-01-01T00:00:00Z")),
        "FUTURE_TIMESTAMP_POISONING",
    ),
    "an export past its time": (lambda: export(change=_put("expires_at", at(50))), "EXPIRED_TTL"),
    "an export that lists a file twice": (
        lambda: export(change=lambda out: out["manifest"]["entries"].append(out["manifest"]["entries"][0])),
        "MALFORMED_ENVELOPE",
    ),
    "an export that lists a file it does not hold": (
        lambda: export(change=lambda out: out["manifest"]["entries"][0].update(path="artifacts/x.json")),
        "MISSING_REQUIRED_FIELD",
    ),
    "an export with another size": (
        lambda: export(change=lambda out: out["manifest"]["entries"][0].update(size_bytes=1)),
        "HASH_MISMATCH",
    ),
    "an export with another type": (
        lambda: export(change=lambda out: out["manifest"]["entries"][0].update(content_type="text/html")),
        "MALFORMED_ENVELOPE",
    ),
    "a changed export": (lambda: export(change=_put("export_id", "x"), resign=False), "HASH_MISMATCH"),
    "an export whose expiry was taken away": (
        lambda: changed(export(change=_put("expires_at", "2031-01-01T00:00:00Z")), "expires_at", drop=True),
        "HASH_MISMATCH",
    ),
    "an export with another signature": (
        lambda: changed(export(), "signature_b64u", to=AGENT.sign_b64u(b"x")),
        "SIGNATURE_INVALID",
    ),
    "an export of a bad bundle": (lambda: export(bundle(receipts=[receipt(0, STRANGER)])), "CLAIM_NOT_FOUND"),
    "an attestation by nobody known": (
        lambda: export(derivation_attestation_envelopes=[derivation(STRANGER)]),
        "CLAIM_NOT_FOUND",
    ),
    "an attestation of another list": (
        lambda: export(derivation_attestation_envelopes=[derivation(ATTESTER)]),
        "CLAIM_NOT_FOUND",
    ),
    "an attestation without its envelope": (
        lambda: export(derivation_attestation_envelopes=[dict(derivation()["payload"])]),
        "MALFORMED_ENVELOPE",
    ),
    "an attestation with a member more": (
        lambda: export(derivation_attestation_envelopes=[{**derivation(), "note": "x"}]),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "an attestation by no DID": (
        lambda: export(derivation_attestation_envelopes=[{**derivation(), "signer_did": "did:x:y"}]),
        "INVALID_DID_FORMAT",
    ),
    "an attestation past its time": (
        lambda: export(derivation_attestation_envelopes=[{**derivation(), "expires_at": at(50)}]),
        "EXPIRED_TTL",
    ),
    "an attestation with a signature that is no text of one": (
        lambda: export(derivation_attestation_envelopes=[_malleable(derivation())]),
        "MALFORMED_ENVELOPE",
    ),
    "a changed attestation": (
        lambda: export(derivation_attestation_envelopes=[changed(derivation(), "payload", "derivation_id", to="x")]),
        "HASH_MISMATCH",
    ),
    "an attestation with another signature": (
        lambda: export(derivation_attestation_envelopes=[{**derivation(), "signature_b64u": AGENT.sign_b64u(b"x")}]),
        "SIGNATURE_INVALID",
    ),
    "an attestation of another kind": (
        lambda: export(execution_attestation_envelopes=[derivation()]),
        "UNKNOWN_ENVELOPE_TYPE",
    ),
    "an attestation that nobody can list": (
        lambda: export(audit_result_attestation_envelopes=[envelope("audit_result_attestation", {}, STRANGER, 9)]),
        "DEPENDENCY_NOT_CONFIGURED",
    ),
    "an execution attestation of another bundle": (
        lambda: export(execution_attestation_envelopes=[execution(bundle(bundle_id="other"))]),
        "EVIDENCE_MISMATCH",
    ),
    "an execution attestation of no bundle": (
        lambda: export(execution_attestation_envelopes=[_unbound_execution()]),
        "EVIDENCE_MISMATCH",
    ),
    "an execution attestation of another run": (
        lambda: export(execution_attestation_envelopes=[execution(bundle(), run_id="x")]),
        "EVIDENCE_MISMATCH",
    ),
    # log proofs
    "a log root of an unknown log": (
        lambda: export(derivation_attestation_envelopes=[derivation(proof=log_proof(STRANGER))]),
        "CLAIM_NOT_FOUND",
    ),
    "a log root with another signature": (
        lambda: _proof(lambda proof: changed(proof, "root_signature", "sig_b64u", to=AGENT.sign_b64u(b"x"))),
        "SIGNATURE_INVALID",
    ),
    "another leaf of the log": (
        lambda: _proof(lambda proof: changed(proof, "leaf_hash_b64u", to=digest("x"))),
        "INCLUSION_PROOF_INVALID",
    ),
    "another place in the log": (
        lambda: _proof(lambda proof: changed(proof, "metadata", "leaf_index", to=2)),
        "INCLUSION_PROOF_INVALID",
    ),
    "a place beyond the log": (
        lambda: _proof(lambda proof: changed(proof, "metadata", "leaf_index", to=5)),
        "INCLUSION_PROOF_INVALID",
    ),
    "a path that is too short": (
        lambda: _proof(lambda proof: changed(proof, "audit_path", 0, drop=True)),
        "INCLUSION_PROOF_INVALID",
    ),
    "a log proof with a member more": (lambda: _proof(lambda proof: {**proof, "x": 1}), "SCHEMA_VALIDATION_FAILED"),
    "a log of no DID": (
        lambda: _proof(lambda proof: changed(proof, "root_signature", "signer_did", to="did:x:y")),
        "INVALID_DID_FORMAT",
    ),
    "a step of a path that is no text of one": (
        lambda: _proof(lambda proof: changed(proof, "audit_path", 0, to="A" * 42 + "B")),
        "MALFORMED_ENVELOPE",
    ),
    "an empty log": (lambda: _proof(lambda proof: changed(proof, "tree_size", to=0)), "INCLUSION_PROOF_INVALID"),
    # contracts
    "a changed contract": (lambda: changed(contract(), "payload", "allowed_models", to=["*"]), "HASH_MISMATCH"),
    "a contract with another signature": (
        lambda: changed(contract(), "signature_b64u", to=AGENT.sign_b64u(b"x")),
        "SIGNATURE_INVALID",
    ),
    "a contract without its algorithm": (lambda: changed(contract(), "algorithm", drop=True), "MALFORMED_ENVELOPE"),
    "a contract without its envelope": (lambda: dict(contract()["payload"]), "MALFORMED_ENVELOPE"),
    "a contract of a later version": (
        lambda: changed(contract(), "envelope_version", to="2"),
        "UNKNOWN_ENVELOPE_VERSION",
    ),
    "a contract by no DID": (
        lambda: {**changed(contract(), "payload", "allowed_models", to=[]), "signer_did": "did:x:y"},
        "INVALID_DID_FORMAT",
    ),
    "a contract with a placeholder": (lambda: _with_placeholder(), "WPC_INVALID"),
    "a contract that expires": (
        lambda: changed(contract(), "expires_at", to="2031-01-01T00:00:00Z"),
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a contract that says nothing known": (
        lambda: envelope("work_policy_contract", {"hello": "world"}, STRANGER, 1),
        "WPC_INVALID",
    ),
}


def _with_placeholder() -> Document:
    """Signed by hand: ``sign_contract`` fills the placeholder."""
    document = {"policy_name": "wire", "wpc_version": "v1", "allowed_models": ["gpt-*"]}
    return build_envelope(
        "work_policy_contract", {**document, "policy_hash": "b64u:...hash..."}, POLICY, at(0), hashed=document
    )


def _malleable(document: Document) -> Document:
    return {**document, "signature_b64u": malleable(document["signature_b64u"])}


def _put(member: str, value: Any) -> Callable[[Document], None]:
    def change(out: Document) -> None:
        out[member] = value

    return change


def _without_binding() -> Document:
    payload = {name: value for name, value in receipt(1)["payload"].items() if name != "binding"}
    return envelope("gateway_receipt", payload, GATEWAY, 3)


def _unbound_execution() -> Document:
    payload = {
        name: value for name, value in execution(bundle())["payload"].items() if name != "proof_bundle_hash_b64u"
    }
    return envelope("execution_attestation", payload, EXECUTOR, 9)


def _proof(change: Callable[[Document], Document]) -> Document:
    return export(derivation_attestation_envelopes=[derivation(DERIVER, change(log_proof()))])


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    make, reason = REFUSED[name]
    report = verify(make())
    assert (report.verdict, report.reason) == (Verdict.FAILED, reason), report.findings
    assert report.findings[-1].rule


IN_ORDER: dict[str, tuple[Document, list[str]]] = {
    "a proof bundle": (
        {
            **bundle(),
            "algorithm": "RSA",
            "envelope_version": "9",
            "expires_at": at(50),
            "hash_algorithm": "MD5",
            "note": "x",
            "signer_did": "did:x:y",
        },
        [
            "UNKNOWN_ENVELOPE_VERSION",
            "UNKNOWN_ALGORITHM",
            "UNKNOWN_HASH_ALGORITHM",
            "INVALID_DID_FORMAT",
            "EXPIRED_TTL",
            "SCHEMA_VALIDATION_FAILED",
            "OK",
        ],
    ),
    "a gateway receipt": (
        {**receipt(), "note": "x", "signer_did": STRANGER.did, "signature_b64u": "AAAA+AAAA"},
        ["SCHEMA_VALIDATION_FAILED", "CLAIM_NOT_FOUND", "OK"],
    ),
}
_MENDED = {
    "UNKNOWN_ENVELOPE_VERSION": ("envelope_version", "1"),
    "UNKNOWN_ALGORITHM": ("algorithm", "Ed25519"),
    "UNKNOWN_HASH_ALGORITHM": ("hash_algorithm", "SHA-256"),
    "INVALID_DID_FORMAT": ("signer_did", AGENT.did),
    "EXPIRED_TTL": ("expires_at", None),
    "SCHEMA_VALIDATION_FAILED": ("note", None),
    "CLAIM_NOT_FOUND": ("signer_did", GATEWAY.did),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_of_several_faults_the_one_that_the_reference_tells_is_told(name: str) -> None:
    made, codes = IN_ORDER[name]
    document = dict(made)
    for code in codes:
        assert verify(document).reason == code
        if code == "SCHEMA_VALIDATION_FAILED" and name == "a gateway receipt":
            document["signature_b64u"] = receipt()["signature_b64u"]
        member, value = _MENDED.get(code, ("", None))
        document = {key: item for key, item in document.items() if key != member}
        if value is not None:
            document[member] = value


def test_half_a_surrogate_pair_is_refused_wherever_it_is_hashed() -> None:
    half = "\ud800"
    broken = [
        changed(bundle(receipts=None), "payload", "event_chain", 0, "event_id", to=half),
        changed(bundle(receipts=None), "payload", "bundle_id", to=half),
        changed(bundle(), "payload", "receipts", 0, "payload", "model", to=half),
        changed(receipt(), "payload", "metadata", to={"x": half}),
        changed(export(), "artifacts", "proof_bundle_envelope", "payload", "bundle_id", to=half),
        changed(export(), "export_id", to=half),
        changed(disclosing(), "payload", "args_disclosure", "disclosed_leaves", "args.ticket", "value", to=half),
        changed(contract(), "payload", "policy_name", to=half),
    ]
    for document in broken:
        assert verify(document).reason == "PARSE_ERROR"


def test_without_any_trusted_receipt_signer_a_bundle_with_receipts_is_refused() -> None:
    assert verify(bundle(), Trust()).reason == "DEPENDENCY_NOT_CONFIGURED"
    assert verify(bundle(receipts=None), Trust()).reason == "DEPENDENCY_NOT_CONFIGURED"


# -- anything at all -------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bent_documents(draw: st.DrawFn) -> Document:
    """A valid document with one member, somewhere, replaced by anything or taken out."""
    made = draw(
        st.sampled_from(
            ["proof_bundle_mixed", "export_bundle_pass", "proof_bundle_tool_co_signature", "proof_bundle_pass"]
        )
    )
    document: Document = json.loads((VECTORS / f"{made}.json").read_text())
    thing: Any = document
    while True:
        keys = list(thing) if isinstance(thing, dict) else list(range(len(thing)))
        key = draw(st.sampled_from(keys))
        inner = thing[key]
        if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
            break
        thing = inner
    if draw(st.booleans()):
        thing[key] = draw(json_values)
    else:
        del thing[key]
    return document


@given(bent_documents())
def test_a_bent_document_gets_a_verdict_and_never_an_exception(document: Document) -> None:
    report = verify(document)
    assert report.verdict in (Verdict.CONFORMS, Verdict.FAILED)
    if report.verdict is Verdict.CONFORMS:
        # only what the wire format leaves unsigned may change without notice (protocol.md A.3)
        texts = [json.loads((VECTORS / f"{name}.json").read_text()) for name in FILED]
        assert any(_without_unsigned(document) == _without_unsigned(text) for text in texts)


def _without_unsigned(value: Any) -> Any:
    if isinstance(value, dict):
        rest = {name: item for name, item in value.items() if name not in ("issued_at", "co_signatures")}
        return {name: _without_unsigned(item) for name, item in rest.items()}
    return [_without_unsigned(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.sampled_from(["envelope_type", "export_version", "payload", "bundle", "x"]), json_values))
def test_any_object_gets_a_verdict(document: Document) -> None:
    assert verify(document).verdict is Verdict.FAILED
