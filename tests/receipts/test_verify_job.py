"""Job directories: what holds, what is a gap, and each rule of the rule book broken behind valid hashes and signatures.

The forged jobs are signed with the real keys after the change, so only the rule under test can notice. Seen red by
taking each check out of the verifiers in turn: a test here, or in test_verify_tamper, failed for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clawproxy.receipts.report import Finding, Report, Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

from .forge import (
    CONTRACT_DOCUMENT,
    ISSUER_KEY,
    JOB_KEY,
    POLICY_KEY,
    RECEIPT_KEY,
    STRANGER_KEY,
    Forge,
    job_of_two_keys,
    numbered_receipt_id,
    plain_job,
    trust,
)


def deciding(report: Report) -> Finding:
    """The finding that decided the verdict."""
    severity = "fail" if report.verdict is Verdict.FAILED else "gap"
    return next(finding for finding in report.findings if finding.severity == severity)


def reasons(report: Report) -> list[str]:
    return [finding.reason for finding in report.findings]


# -- what holds ------------------------------------------------------------------------------------------------------


def test_a_sealed_job_verifies_and_is_counted() -> None:
    report = verify_job(plain_job(calls=3, denials=2).files(), trust())
    assert (report.verdict, report.reason, report.exit_code, report.findings) == (Verdict.VERIFIED, "OK", 0, ())
    expected = {"calls": 3, "denials": 2, "events": 5, "gaps": 0, "receipts": 3, "segments": 1, "records": 10}
    assert report.counts == expected
    assert report.to_json()["reason_code"] == "OK"
    assert report.job == "job-forged"


def test_models_that_answered_and_whose_figures_tokens_are_is_counted() -> None:
    forge = plain_job(calls=3)
    ours = [record["payload"]["metadata"]["clawproxy"] for record in forge.records if record["kind"] == "receipt"]
    ours[0] |= {"model_match": "same", "usage": "estimated"}
    report = verify_job(forge.files(), trust())
    assert report.verdict is Verdict.VERIFIED
    told = {"model_match": {"other": 2, "same": 1}, "usage": {"estimated": 1, "reported": 2}}
    assert {name: report.to_json()[name] for name in told} == told


def test_a_job_of_before_whose_receipts_say_only_whether_usage_was_known_verifies() -> None:
    forge = plain_job(calls=2)
    for record in forge.records:
        if record["kind"] == "receipt":
            ours = record["payload"]["metadata"]["clawproxy"]
            for name in ("model_match", "tokens_cache_write", "tokens_cached", "tokens_reasoning", "usage"):
                del ours[name]
            ours["usage_known"] = False
    report = verify_job(forge.files(), trust())
    assert (report.verdict, report.facts["usage"]) == (Verdict.VERIFIED, {})


def test_a_job_that_recorded_zero_calls_verifies() -> None:
    report = verify_job(plain_job(calls=0, denials=0).files(), trust())
    assert (report.verdict, report.counts["calls"]) == (Verdict.VERIFIED, 0)


def test_a_job_opened_before_there_is_a_token_verifies() -> None:
    forge = Forge()
    template = {name: forge.claims[name] for name in ("aud", "scope", "mission_id", "policy_hash_b64u", "sub")}
    forge.event("job_opened", {**forge.authority(), "presenter": None, "token": template})
    forge.event("authority_changed", forge.authority())
    forge.attest(forge.intend(0))
    forge.end()
    assert verify_job(forge.files(), trust()).verdict is Verdict.VERIFIED


def test_segments_roll_and_each_has_its_proof_bundle() -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0))
    late = forge.intend(1)
    forge.roll()
    forge.attest(forge.intend(2))
    forge.attest(late)  # it ends in the segment in which it began
    forge.deny(9)
    forge.end()
    files = forge.files()
    report = verify_job(files, trust())
    assert (report.verdict, report.counts["segments"]) == (Verdict.VERIFIED, 2)
    assert {name for name in files if name.startswith("proof")} == {"proof_bundle.json", "proof_bundle.0002.json"}


def test_a_segment_that_names_another_before_it_fails() -> None:
    forge = Forge()
    forge.open()
    forge.segment += 1
    forge.event("segment_opened", {"head_b64u": "x", "previous_event_hash_b64u": "y", "previous_run_id": "z"})
    forge.end()
    report = verify_job(forge.files(), trust())
    assert (deciding(report).rule, report.reason) == ("J32", "EVENT_OUT_OF_PLACE")


def test_receipts_bound_to_a_harness_verify_and_stay_out_of_the_proof_bundle() -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0, harness_run_id="run_h", harness_event_hash_b64u="evthash_abcdefgh"))
    forge.attest(forge.intend(1))
    forge.end()
    files = forge.files()
    assert verify_job(files, trust()).verdict is Verdict.VERIFIED
    assert files["proof_bundle.json"].count(b'"gateway_receipt"') == 1


def test_a_job_whose_agent_keeps_its_own_key_has_no_proof_bundle() -> None:
    forge = plain_job(facts_over={"agent_did": STRANGER_KEY.did})
    forge.claims["sub"] = STRANGER_KEY.did
    for record in forge.records:
        detail = record["payload"].get("detail", {})
        if "token" in detail:
            detail["token"] = forge.token()
        for thing in (detail, record["payload"].get("binding", {}), record["payload"]):
            if "token_hash_hex" in thing:
                thing["token_hash_hex"] = forge.token()["token_hash_hex"]
            if "token_scope_hash_b64u" in thing:
                thing["token_scope_hash_b64u"] = forge.token()["token_scope_hash_b64u"]
    files = forge.files()
    assert "proof_bundle.json" not in files
    assert verify_job(files, trust()).verdict is Verdict.VERIFIED


def test_torn_tails_that_recovery_named_do_not_spoil_a_sealed_job() -> None:
    tail = b'{"body":{"algori'
    forge = Forge(torn={"torn/512.0": tail})
    forge.open()
    forge.recover([], [{"path": "torn/512.0", "sha256_b64u": sha256_b64u(tail), "size_bytes": len(tail)}])
    forge.attest(forge.intend(0))
    forge.end()
    assert verify_job(forge.files(), trust()).verdict is Verdict.VERIFIED


# -- gaps ------------------------------------------------------------------------------------------------------------


def test_without_a_seal_a_bundle_is_incomplete() -> None:
    files = plain_job().files()
    del files["SEAL.json"]
    report = verify_job(files, trust())
    assert (report.verdict, report.reason, report.exit_code) == (Verdict.INCOMPLETE, "NOT_SEALED", 3)
    assert "the last record says that the job was sealed" in report.findings[0].detail


def test_an_unsealed_job_with_a_call_open_is_incomplete_and_names_the_call() -> None:
    forge = Forge(sealed=False)
    forge.open()
    forge.intend(0)
    report = verify_job(forge.files(), trust())
    assert report.verdict is Verdict.INCOMPLETE
    assert reasons(report) == ["CALL_OPEN", "NOT_SEALED"]
    assert numbered_receipt_id(0) in report.findings[0].detail


def test_a_call_that_recovery_named_is_a_gap_also_in_a_sealed_job() -> None:
    forge = Forge()
    forge.open()
    intent = forge.intend(0)
    forge.recover([numbered_receipt_id(0)])
    forge.end()
    report = verify_job(forge.files(), trust())
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN")
    assert deciding(report).path == f"receipts.jsonl:{intent + 1}"
    assert report.counts["gaps"] == 1


@pytest.mark.parametrize("holed", [False, True])
def test_a_torn_tail_of_an_unsealed_journal_is_a_gap_with_its_place(holed: bool) -> None:
    forge = Forge(sealed=False)
    forge.open()
    files = forge.files()
    size = len(files["receipts.jsonl"])
    files["receipts.jsonl"] += b"\0" * (-size % 512) + b'\n{"x"' if holed else b'{"body":'
    report = verify_job(files, trust())
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "TORN_TAIL")
    assert deciding(report).path == "receipts.jsonl:2"
    assert f"offset {size}" in deciding(report).detail


def test_a_torn_tail_that_holds_more_than_one_write_fails() -> None:
    forge = Forge(sealed=False)
    forge.open()
    whole = forge.files()
    forge.attest(forge.intend(0))
    lines = forge.files()["receipts.jsonl"].splitlines(keepends=True)
    first, intent, receipt = lines
    whole["receipts.jsonl"] = first + b"\0" * len(intent) + receipt  # the receipt says that its intent was durable
    report = verify_job(whole, trust())
    assert (report.verdict, report.reason, deciding(report).path) == (Verdict.FAILED, "TORN_TAIL", "receipts.jsonl:2")
    whole["receipts.jsonl"] = first + b"\0" * (256 * 1024 + 1)
    assert verify_job(whole, trust()).verdict is Verdict.FAILED
    whole["receipts.jsonl"] = first + b"\0" * 256 * 1024
    assert verify_job(whole, trust()).verdict is Verdict.INCOMPLETE


def test_a_torn_tail_after_the_end_of_the_job_fails() -> None:
    files = plain_job(sealed=False).files()
    files["receipts.jsonl"] += b"{"
    report = verify_job(files, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "TORN_TAIL")


def test_a_torn_file_that_no_record_names_is_a_gap_until_the_end_and_a_failure_after() -> None:
    forge = Forge(sealed=False, torn={"torn/9.0": b"x"})
    forge.open()
    report = verify_job(forge.files(), trust())
    assert (report.verdict, report.reason, deciding(report).path) == (Verdict.INCOMPLETE, "TORN_TAIL", "torn/9.0")
    forge.end()
    forge.sealed = True
    report = verify_job(forge.files(), trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "TORN_FILE_MISMATCH")


def test_an_unsealed_journal_cut_at_a_lines_end_is_incomplete_which_is_the_known_limit() -> None:
    files = plain_job(sealed=False).files()
    files["receipts.jsonl"] = b"".join(files["receipts.jsonl"].splitlines(keepends=True)[:3])
    assert verify_job(files, trust()).verdict is Verdict.INCOMPLETE


# -- trust -----------------------------------------------------------------------------------------------------------


def test_without_a_trust_file_a_whole_bundle_is_incomplete() -> None:
    report = verify_job(plain_job().files(), Trust())
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "TRUST_NOT_GIVEN")
    assert [finding.path for finding in report.findings] == ["job.json", "contract.json"]


def test_without_a_trust_file_a_broken_bundle_still_fails() -> None:
    files = plain_job().files()
    files["receipts.jsonl"] = files["receipts.jsonl"].replace(b"gpt-5-mini", b"gpt-5-maxi", 1)
    assert verify_job(files, Trust()).verdict is Verdict.FAILED


def test_a_bundle_of_another_gateway_fails_though_it_is_whole() -> None:
    files = plain_job(receipt_key=STRANGER_KEY).files()
    report = verify_job(files, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "CLAIM_NOT_FOUND")


def test_a_contract_signed_by_someone_else_fails() -> None:
    other = type(POLICY_KEY).from_seed(Role.POLICY, bytes([0x77]) * 32)
    report = verify_job(plain_job(policy_key=other).files(), trust())
    assert (deciding(report).rule, report.reason) == ("J06", "CLAIM_NOT_FOUND")


def test_the_contract_that_the_auditor_gives_replaces_trust_in_its_signer_and_must_be_the_jobs() -> None:
    receipts_only = build_trust([TrustedKey(RECEIPT_KEY.did, Role.RECEIPT)])
    files = plain_job().files()
    assert verify_job(files, receipts_only).reason == "TRUST_NOT_GIVEN"
    assert verify_job(files, receipts_only, jcs_bytes(CONTRACT_DOCUMENT)).verdict is Verdict.VERIFIED
    assert verify_job(files, receipts_only, files["contract.json"]).verdict is Verdict.VERIFIED
    other = jcs_bytes({**CONTRACT_DOCUMENT, "allowed_models": ["*"]})
    report = verify_job(files, trust(), other)
    assert (report.verdict, deciding(report).rule, report.reason) == (Verdict.FAILED, "J05", "POLICY_HASH_MISMATCH")
    assert verify_job(files, trust(), b"not json").reason == "PARSE_ERROR"


@pytest.mark.parametrize(
    ("over", "more"),
    [
        ({}, TrustedKey(JOB_KEY.did, Role.LOG)),
        ({"facts_over": {"job_did": RECEIPT_KEY.did}}, None),
        ({"facts_over": {"job_did": POLICY_KEY.did, "agent_did": POLICY_KEY.did}}, None),
        ({"facts_over": {"agent_did": RECEIPT_KEY.did}}, None),
        ({"facts_over": {"agent_did": ISSUER_KEY.did}}, None),
    ],
)
def test_one_key_in_two_roles_fails(over: dict[str, Any], more: TrustedKey | None) -> None:
    report = verify_job(plain_job(**over).files(), trust(more) if more else trust())
    assert (deciding(report).rule, report.reason) == ("J03", "KEY_IN_TWO_ROLES")


def test_a_gateway_that_signed_its_own_contract_fails_also_without_trust() -> None:
    same = type(POLICY_KEY).from_seed(Role.POLICY, bytes([0x51]) * 32)
    assert verify_job(plain_job(policy_key=same).files(), Trust()).reason == "KEY_IN_TWO_ROLES"


def test_the_jobs_own_key_cannot_sign_records_also_without_trust() -> None:
    forge = plain_job()
    _stage("envelope", 2, _resign(JOB_KEY))(forge)
    report = verify_job(forge.files(), Trust())
    assert (deciding(report).rule, report.reason) == ("J03", "KEY_IN_TWO_ROLES")


def test_a_token_of_an_issuer_that_the_trust_file_does_not_name_fails() -> None:
    other = build_trust(
        [
            TrustedKey(RECEIPT_KEY.did, Role.RECEIPT),
            TrustedKey(POLICY_KEY.did, Role.POLICY),
            TrustedKey(STRANGER_KEY.did, Role.TOKEN),
        ]
    )
    report = verify_job(plain_job().files(), other)
    assert (deciding(report).rule, report.reason) == ("J34", "CLAIM_NOT_FOUND")


# -- each rule, broken behind valid hashes and signatures ------------------------------------------------------------

INTENT, RECEIPT = 1, 2  # record numbers of the first call in ``plain_job``


def _payload(change: Callable[[dict[str, Any]], Any], number: int = RECEIPT) -> Callable[[Forge], None]:
    def apply(forge: Forge) -> None:
        change(forge.records[number]["payload"])

    return apply


def _stage(stage: str, number: int, change: Callable[[dict[str, Any]], Any]) -> Callable[[Forge], None]:
    def meddle(n: int, thing: dict[str, Any]) -> None:
        if n == number:
            change(thing)

    def apply(forge: Forge) -> None:
        forge.meddle[stage] = meddle

    return apply


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(thing: dict[str, Any]) -> None:
        for step in path[:-1]:
            thing = thing[step]
        thing[path[-1]] = to

    return change


def _resign(key: SigningKey) -> Callable[[dict[str, Any]], None]:
    def change(envelope: dict[str, Any]) -> None:
        message = envelope["payload_hash_b64u"].encode()
        envelope |= {"signer_did": key.did, "signature_b64u": key.sign_b64u(message)}

    return change


def _drop(number: int) -> Callable[[Forge], None]:
    def apply(forge: Forge) -> None:
        forge.records.pop(number)

    return apply


def _insert(number: int, make: Callable[[Forge], int]) -> Callable[[Forge], None]:
    def apply(forge: Forge) -> None:
        make(forge)
        record = forge.records.pop()
        record["payload"]["timestamp"] = forge.records[number - 1]["payload"]["timestamp"]
        forge.records.insert(number, record)

    return apply


def _facts(**over: Any) -> Callable[[Forge], None]:
    return lambda forge: forge.facts_over.update(over)


def _second_intent_of_the_same_call(forge: Forge) -> None:
    forge.records[3]["payload"]["detail"]["receipt_id"] = numbered_receipt_id(0)
    forge.records[4]["payload"]["receipt_id"] = numbered_receipt_id(0)


def _same_nonce(forge: Forge) -> None:
    forge.records[3]["payload"]["detail"]["nonce"] = "nonce-0"
    forge.records[4]["payload"]["binding"]["nonce"] = "nonce-0"


def _overfull(forge: Forge) -> None:
    calls = [forge.intend(10 + n) for n in range(899)]
    made = [forge.records.pop() for _ in calls]
    forge.records[-1:-1] = reversed(made)


def _overfull_of_events(forge: Forge) -> None:
    made = [forge.event("frozen", {"n": n}) for n in range(987)]
    events = [forge.records.pop() for _ in made]
    for event in events:
        event["payload"]["timestamp"] = forge.records[-2]["payload"]["timestamp"]
    forge.records[-1:-1] = events


def _without_token_hash(forge: Forge) -> dict[str, Any]:
    authority = forge.authority()
    del authority["token"]["token_hash_hex"]
    return authority


def _torn(content: bytes) -> dict[str, Any]:
    return {"path": "torn/1.0", "sha256_b64u": sha256_b64u(content), "size_bytes": len(content)}


def _recover_x(forge: Forge) -> int:
    return forge.recover([], [_torn(b"x")])


def _renumber_receipts(forge: Forge) -> None:
    """After an insertion, receipts name their intents again."""
    places = {
        record["payload"]["detail"]["receipt_id"]: n
        for n, record in enumerate(forge.records)
        if record["kind"] == "intent"
    }
    for record in forge.records:
        if record["kind"] == "receipt":
            number = places.get(record["payload"]["receipt_id"], 0)
            record["payload"]["metadata"]["clawproxy"]["intent_seq"] = number


BROKEN: dict[str, tuple[Callable[[Forge], Any], str, str]] = {
    # job.json
    "unknown member in job.json": (_facts(extra=1), "J02", "SCHEMA_VALIDATION_FAILED"),
    "another format version": (_facts(format_version="2"), "J02", "SCHEMA_VALIDATION_FAILED"),
    "a job id that is a path": (_facts(job_id="../x"), "J02", "SCHEMA_VALIDATION_FAILED"),
    "a gateway without a key": (_facts(gateway_did="did:web:x"), "J03", "INVALID_DID_FORMAT"),
    "another gateway at opening": (_facts(gateway_did=STRANGER_KEY.did), "J03", "EVIDENCE_MISMATCH"),
    "another contract in job.json": (_facts(policy_hash_b64u=sha256_b64u(b"x")), "J05", "POLICY_HASH_MISMATCH"),
    # seal and manifest
    "seal of another job": (_stage("seal", 0, _set("job_id", to="job-other")), "J13", "EVIDENCE_MISMATCH"),
    "seal of another incarnation": (_stage("seal", 0, _set("incarnation", to="f" * 32)), "J13", "EVIDENCE_MISMATCH"),
    "seal with a later head": (_stage("seal", 0, _set("head_b64u", to=sha256_b64u(b"x"))), "J18", "SEAL_MISMATCH"),
    "seal with another end": (_stage("seal", 0, _set("final_seq", to=99)), "J18", "SEAL_MISMATCH"),
    "seal with fewer calls": (_stage("seal", 0, _set("counts", "calls", to=2)), "J18", "SEAL_MISMATCH"),
    "seal with more denials": (_stage("seal", 0, _set("counts", "denials", to=2)), "J18", "SEAL_MISMATCH"),
    "seal with an extra count": (_stage("seal", 0, _set("counts", "x", to=2)), "J10", "SCHEMA_VALIDATION_FAILED"),
    "seal issued at another time": (
        _stage("seal_envelope", 0, _set("issued_at", to="2030-01-01T00:00:00.000Z")),
        "J11",
        "CAUSAL_CLOCK_CONTRADICTION",
    ),
    "seal that expires": (
        _stage("seal_envelope", 0, _set("expires_at", to="2030-01-01T00:00:00.000Z")),
        "J10",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "seal signed by a stranger": (_stage("seal_envelope", 0, _resign(STRANGER_KEY)), "J12", "CLAIM_NOT_FOUND"),
    "seal signed by the job key": (_stage("seal_envelope", 0, _resign(JOB_KEY)), "J12", "CLAIM_NOT_FOUND"),
    "seal with a signature of something else": (
        _stage("seal_envelope", 0, _set("signature_b64u", to=RECEIPT_KEY.sign_b64u(b"something else"))),
        "J12",
        "SIGNATURE_INVALID",
    ),
    "seal with another payload hash": (
        _stage("seal_envelope", 0, _set("payload_hash_b64u", to=sha256_b64u(b"x"))),
        "J12",
        "HASH_MISMATCH",
    ),
    "seal of another manifest": (
        _stage("seal", 0, _set("manifest_sha256_b64u", to=sha256_b64u(b"x"))),
        "J14",
        "HASH_MISMATCH",
    ),
    "manifest with a member more": (_stage("manifest", 0, _set("x", to=1)), "J15", "SCHEMA_VALIDATION_FAILED"),
    "manifest with a file that is not there": (
        _stage("manifest", 0, lambda manifest: manifest["entries"].append({**manifest["entries"][0], "path": "z"})),
        "J16",
        "FILE_MISSING",
    ),
    "manifest out of order": (
        _stage("manifest", 0, lambda manifest: manifest["entries"].reverse()),
        "J15",
        "MALFORMED_ENVELOPE",
    ),
    "manifest without a file": (
        _stage("manifest", 0, lambda manifest: manifest["entries"].pop()),
        "J16",
        "FILE_UNLISTED",
    ),
    "manifest with a size that is not": (
        _stage("manifest", 0, lambda manifest: manifest["entries"][0].update(size_bytes=1)),
        "J17",
        "HASH_MISMATCH",
    ),
    # records
    "a record of an unknown kind": (_stage("record", 2, _set("t", to="memo")), "J21", "SCHEMA_VALIDATION_FAILED"),
    "a record of another version": (_stage("record", 2, _set("v", to=2)), "J21", "SCHEMA_VALIDATION_FAILED"),
    "a record with a member more": (_stage("record", 2, _set("x", to=2)), "J21", "SCHEMA_VALIDATION_FAILED"),
    "a record with another number": (_stage("record", 2, _set("seq", to=3)), "J22", "RECORD_OUT_OF_PLACE"),
    "a record after another": (_stage("record", 2, _set("prev", to=sha256_b64u(b"x"))), "J23", "RECORD_OUT_OF_PLACE"),
    "an envelope of another type": (
        _stage("envelope", 2, _set("envelope_type", to="gateway_event")),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "an envelope that expires": (
        _stage("envelope", 2, _set("expires_at", to="2030-01-01T00:00:00.000Z")),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a payload changed after signing": (
        _stage("envelope", 2, lambda envelope: envelope["payload"].update(tokens_input=12)),
        "J26",
        "HASH_MISMATCH",
    ),
    "a record signed by a stranger": (
        _stage("envelope", 2, _set("signer_did", to=STRANGER_KEY.did)),
        "J27",
        "CLAIM_NOT_FOUND",
    ),
    "a signature of something else": (
        _stage("envelope", 2, _set("signature_b64u", to=RECEIPT_KEY.sign_b64u(b"something else"))),
        "J28",
        "SIGNATURE_INVALID",
    ),
    "a signed place in another job": (
        _payload(_set("metadata", "clawproxy", "job_id", to="job-other")),
        "J29",
        "RECORD_OUT_OF_PLACE",
    ),
    "a signed place of another incarnation": (
        _payload(_set("metadata", "clawproxy", "incarnation", to="e" * 32)),
        "J29",
        "RECORD_OUT_OF_PLACE",
    ),
    "a signed place elsewhere": (
        _payload(_set("metadata", "clawproxy", "seq", to=7)),
        "J29",
        "RECORD_OUT_OF_PLACE",
    ),
    "a signed place after another record": (
        _payload(_set("metadata", "clawproxy", "prev_b64u", to=sha256_b64u(b"x"))),
        "J29",
        "RECORD_OUT_OF_PLACE",
    ),
    "issued at another time than its payload": (
        _stage("envelope", 2, _set("issued_at", to="2030-01-01T00:00:00.000Z")),
        "J30",
        "CAUSAL_CLOCK_CONTRADICTION",
    ),
    "time goes back": (_payload(_set("timestamp", to="2029-01-01T00:00:00.000Z")), "J30", "CAUSAL_CLOCK_CONTRADICTION"),
    # events
    "an event of another run": (_stage("event", 1, _set("run_id", to="run_x::0001")), "J31", "RECORD_OUT_OF_PLACE"),
    "an event after another": (
        _stage("event", 1, _set("prev_hash_b64u", to=sha256_b64u(b"x"))),
        "J31",
        "RECORD_OUT_OF_PLACE",
    ),
    "an event at another time": (
        _stage("event", 1, _set("timestamp", to="2030-01-01T00:00:00.000Z")),
        "J31",
        "RECORD_OUT_OF_PLACE",
    ),
    "an event over another detail": (
        _stage("event", 1, _set("payload_hash_b64u", to=sha256_b64u(b"x"))),
        "J31",
        "HASH_MISMATCH",
    ),
    "an event with another hash": (
        _stage("payload", 1, _set("event", "event_hash_b64u", to=sha256_b64u(b"x"))),
        "J31",
        "HASH_MISMATCH",
    ),
    "an event id used twice": (
        _stage("event", 3, _set("event_id", to="evt_" + "0123456789abcdef" * 2 + "_1")),
        "J31",
        "RECORD_OUT_OF_PLACE",
    ),
    "no opening": (_drop(0), "J32", "EVENT_OUT_OF_PLACE"),
    "opened twice": (_insert(1, lambda forge: forge.open()), "J32", "EVENT_OUT_OF_PLACE"),
    "a denial before the opening": (_insert(0, lambda forge: forge.deny(55)), "J32", "EVENT_OUT_OF_PLACE"),
    "a segment that follows no other": (
        _insert(7, lambda forge: forge.event("segment_opened", {"head_b64u": "x"})),
        "J31",
        "RECORD_OUT_OF_PLACE",
    ),
    "an event in another segment": (_payload(_set("segment", to=2), INTENT), "J31", "RECORD_OUT_OF_PLACE"),
    "no end": (_drop(-1), "J32", "EVENT_OUT_OF_PLACE"),
    "a record after the end": (lambda forge: forge.deny(77), "J32", "EVENT_OUT_OF_PLACE"),
    "an end that counts wrong": (_payload(_set("detail", to={"counts": {}}), -1), "J32", "EVENT_OUT_OF_PLACE"),
    "a call that is no intent": (
        lambda forge: forge.records[INTENT].update(kind="event"),
        "J32",
        "EVENT_OUT_OF_PLACE",
    ),
    "an event type of nobody": (
        _payload(_set("event", "event_type", to="party"), INTENT),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "too many calls in a segment": (_overfull, "J33", "SEGMENT_OVERFULL"),
    "too many events in a segment": (_overfull_of_events, "J33", "SEGMENT_OVERFULL"),
    # authority
    "a token of another job": (
        lambda forge: forge.records[0]["payload"].update(detail=forge.authority(mission_id="job-other")),
        "J34",
        "EVIDENCE_MISMATCH",
    ),
    "a token pinned to another contract": (
        lambda forge: forge.records[0]["payload"].update(detail=forge.authority(policy_hash_b64u=sha256_b64u(b"x"))),
        "J34",
        "EVIDENCE_MISMATCH",
    ),
    "a token of another agent": (
        lambda forge: forge.records[0]["payload"].update(detail=forge.authority(sub=STRANGER_KEY.did)),
        "J34",
        "EVIDENCE_MISMATCH",
    ),
    "token claims that do not have the scope hash": (
        _payload(lambda payload: payload["detail"]["token"].update(scope=["*"]), 0),
        "J34",
        "TOKEN_SCOPE_HASH_MISMATCH",
    ),
    "an opening without authority": (_payload(_set("detail", to={}), 0), "J34", "SCHEMA_VALIDATION_FAILED"),
    "an opening with a presenter of another type": (
        _payload(_set("detail", "presenter", to=7), 0),
        "J34",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a token that has no hash": (
        _payload(lambda payload: payload["detail"]["token"].update(token_hash_hex="x"), 0),
        "J34",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a token without scope": (
        _payload(lambda payload: payload["detail"]["token"].update(scope=7), 0),
        "J34",
        "TOKEN_INVALID_CLAIMS",
    ),
    "a new authority without a token": (
        _insert(3, lambda forge: forge.event("authority_changed", _without_token_hash(forge))),
        "J34",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a job that changes hands": (
        _insert(3, lambda forge: forge.event("authority_changed", {**forge.authority(), "presenter": "uid:0"})),
        "J34",
        "EVIDENCE_MISMATCH",
    ),
    # calls
    "a call under another contract": (
        _payload(_set("detail", "policy_hash_b64u", to=sha256_b64u(b"x")), INTENT),
        "J35",
        "EVIDENCE_MISMATCH",
    ),
    "a call with a token that is not on record": (
        _payload(_set("detail", "token_hash_hex", to="0" * 64), INTENT),
        "J35",
        "EVIDENCE_MISMATCH",
    ),
    "a call by another presenter": (
        _payload(_set("detail", "presenter", to="uid:0"), INTENT),
        "J35",
        "EVIDENCE_MISMATCH",
    ),
    "a call with an unknown fact": (_payload(_set("detail", "x", to=1), INTENT), "J35", "SCHEMA_VALIDATION_FAILED"),
    "two intents of one call": (_second_intent_of_the_same_call, "J36", "RECEIPT_DUPLICATE"),
    "a nonce used twice": (_same_nonce, "J36", "RECEIPT_DUPLICATE"),
    "a receipt without intent": (_payload(_set("receipt_id", to=numbered_receipt_id(50))), "J36", "RECEIPT_UNMATCHED"),
    "a receipt of another intent": (
        _payload(_set("metadata", "clawproxy", "intent_seq", to=3)),
        "J36",
        "RECEIPT_UNMATCHED",
    ),
    "a receipt in another segment": (
        _payload(_set("metadata", "clawproxy", "segment", to=2)),
        "J36",
        "RECEIPT_UNMATCHED",
    ),
    "a receipt for another request": (
        _payload(_set("request_hash_b64u", to=sha256_b64u(b"x"))),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "a receipt of another model": (_payload(_set("model", to="o1")), "J37", "EVIDENCE_MISMATCH"),
    "a receipt of another provider": (_payload(_set("provider", to="anthropic")), "J37", "EVIDENCE_MISMATCH"),
    "a receipt with other tools": (
        _payload(_set("metadata", "clawproxy", "tools", to=["shell"])),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "a receipt by another way": (
        _payload(_set("metadata", "clawproxy", "way_in", to="regular")),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "a model identity of another model": (
        _payload(_set("metadata", "model_identity", "model", to={"name": "o1", "provider": "openai"})),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "a model identity with another hash": (
        _payload(_set("metadata", "model_identity_hash_b64u", to=sha256_b64u(b"x"))),
        "J37",
        "HASH_MISMATCH",
    ),
    "more cached tokens than were read": (
        _payload(_set("metadata", "clawproxy", "tokens_cached", to=12)),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "more cached and cache-written tokens than were read": (
        _payload(_set("metadata", "clawproxy", "tokens_cache_write", to=9)),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "more thoughts than were written": (
        _payload(_set("metadata", "clawproxy", "tokens_reasoning", to=6)),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "tokens where nothing was used": (
        _payload(_set("metadata", "clawproxy", "usage", to="none")),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "a match with a model that is not named": (
        _payload(_set("metadata", "clawproxy", "response_model", to=None)),
        "J37",
        "EVIDENCE_MISMATCH",
    ),
    "usage of a kind that there is not": (
        _payload(_set("metadata", "clawproxy", "usage", to="guessed")),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a match of a kind that there is not": (
        _payload(_set("metadata", "clawproxy", "model_match", to=["same"])),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "half a cached token": (
        _payload(_set("metadata", "clawproxy", "tokens_cached", to=0.5)),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a receipt without the kind of its usage": (
        _payload(lambda payload: payload["metadata"]["clawproxy"].pop("usage")),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a receipt in the form of now and of before": (
        _payload(_set("metadata", "clawproxy", "usage_known", to=True)),
        "J25",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a receipt bound to another event": (
        _payload(_set("binding", "event_hash_b64u", to=sha256_b64u(b"x"))),
        "J38",
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt bound to another run": (
        _payload(_set("binding", "run_id", to="run_x::0001")),
        "J38",
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt bound to another contract": (
        _payload(_set("binding", "policy_hash", to=sha256_b64u(b"x"))),
        "J38",
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt bound to another token": (
        _payload(_set("binding", "token_scope_hash_b64u", to=sha256_b64u(b"x"))),
        "J38",
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt with another nonce": (_payload(_set("binding", "nonce", to="other")), "J38", "RECEIPT_BINDING_MISMATCH"),
    "a receipt that claims a harness": (
        _payload(lambda payload: payload["metadata"]["clawproxy"].update(run_id="run_forged::0001")),
        "J38",
        "RECEIPT_BINDING_MISMATCH",
    ),
    "a receipt with another span": (
        _payload(_set("binding", "span_id", to="span_x")),
        "J38",
        "CAUSAL_REFERENCE_DANGLING",
    ),
    "a second receipt that is a root": (
        _payload(_set("binding", "parent_span_id", to="span_x"), 4),
        "J38",
        "CAUSAL_REFERENCE_DANGLING",
    ),
    "a receipt with a member more": (_payload(_set("x", to=1)), "J25", "SCHEMA_VALIDATION_FAILED"),
    "a receipt with half a token": (_payload(_set("tokens_input", to=1.5)), "J25", "SCHEMA_VALIDATION_FAILED"),
    "a denial of a call that went out": (
        _payload(_set("receipt_id", to=numbered_receipt_id(0)), 7),
        "J36",
        "RECEIPT_DUPLICATE",
    ),
    "a denial in another segment": (_payload(_set("segment", to=2), 7), "J39", "RECORD_OUT_OF_PLACE"),
    # recovery and end
    "recovery of a call that ended": (
        _insert(7, lambda forge: forge.recover([numbered_receipt_id(0)])),
        "J40",
        "RECOVERY_INVALID",
    ),
    "recovery in another segment": (
        _insert(7, lambda forge: forge.add("recovery", {"open_calls": [], "torn": [], "segment": 2})),
        "J40",
        "RECORD_OUT_OF_PLACE",
    ),
    "a torn file named twice": (
        _insert(7, lambda forge: forge.recover([], [_torn(b"x"), _torn(b"x")])),
        "J40",
        "RECOVERY_INVALID",
    ),
    "a torn file with other bytes": (
        lambda forge: (forge.torn.update({"torn/1.0": b"y"}), _insert(7, _recover_x)(forge)),
        "J42",
        "TORN_FILE_MISMATCH",
    ),
    "a call without receipt in a sealed job": (_drop(6), "J41", "RECEIPT_MISSING"),
    "recovery that names a torn file that is not there": (
        _insert(7, lambda forge: forge.recover([], [_torn(b"x")])),
        "J42",
        "TORN_FILE_MISMATCH",
    ),
    # proof bundles
    "no proof bundle": (lambda forge: forge.leave_out.add("proof_bundle.json"), "J50", "FILE_MISSING"),
    "a proof bundle that expires": (
        _stage("bundle_envelope", 1, _set("expires_at", to="2031-01-01T00:00:00.000Z")),
        "J51",
        "SCHEMA_VALIDATION_FAILED",
    ),
    "a proof bundle signed by another key": (
        _stage("bundle_envelope", 1, _resign(STRANGER_KEY)),
        "J51",
        "CLAIM_NOT_FOUND",
    ),
    "a proof bundle with a signature of something else": (
        _stage("bundle_envelope", 1, _set("signature_b64u", to=JOB_KEY.sign_b64u(b"something else"))),
        "P07",
        "SIGNATURE_INVALID",
    ),
    "a proof bundle without a receipt": (
        _stage("bundle", 1, lambda payload: payload["receipts"].pop()),
        "J52",
        "EVIDENCE_MISMATCH",
    ),
    "a proof bundle without an event": (
        _stage("bundle", 1, lambda payload: payload["event_chain"].pop()),
        "J52",
        "EVIDENCE_MISMATCH",
    ),
    "a proof bundle with something more": (_stage("bundle", 1, _set("urm", to={})), "J52", "EVIDENCE_MISMATCH"),
    "a proof bundle that counts other denials": (
        _stage("bundle", 1, _set("metadata", "clawproxy", "denials", to=0)),
        "J53",
        "EVIDENCE_MISMATCH",
    ),
    "a proof bundle with the agent's own custody": (
        _stage("bundle", 1, _set("metadata", "clawproxy", "custody", to="agent")),
        "J53",
        "EVIDENCE_MISMATCH",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_job_is_refused_with(name: str) -> None:
    forge = plain_job(calls=3, denials=1)
    apply, rule, reason = BROKEN[name]
    apply(forge)
    _renumber_unless_meddled(forge, rule)
    report = verify_job(forge.files(), trust())
    assert (report.verdict, deciding(report).rule, report.reason) == (Verdict.FAILED, rule, reason), report.findings[:1]
    assert deciding(report).path


def _renumber_unless_meddled(forge: Forge, rule: str) -> None:
    if rule != "J36":
        _renumber_receipts(forge)


def test_a_proof_bundle_too_few_or_too_many_fails() -> None:
    forge = plain_job()
    files = forge.files()
    files["proof_bundle.0002.json"] = files["proof_bundle.json"]
    assert verify_job(files, trust()).reason == "FILE_UNLISTED"
    del files["SEAL.json"], files["MANIFEST.json"]
    assert deciding(verify_job(files, trust())).rule == "J50"
    lone = plain_job(sealed=False)
    unsealed = lone.files()
    assert verify_job(unsealed, trust()).verdict is Verdict.INCOMPLETE  # a seal that was cut off before its first file
    unsealed["proof_bundle.json"] = files["proof_bundle.json"]
    assert verify_job(unsealed, trust()).verdict is Verdict.INCOMPLETE  # and after it
    forge.meddle["bundle"] = lambda _, payload: payload.update(bundle_id="")
    unsealed["proof_bundle.json"] = forge.files()["proof_bundle.json"]
    assert deciding(verify_job(unsealed, trust())).rule == "P03"


def test_files_of_a_seal_beside_a_journal_without_end_fail() -> None:
    forge = Forge()
    forge.open()
    files = forge.files()
    del files["SEAL.json"]
    report = verify_job(files, trust())
    assert (report.verdict, deciding(report).rule) == (Verdict.FAILED, "J32")


@pytest.mark.parametrize("name", ["notes.txt", "torn/x", "blobs/aa", "proof_bundle.0001.json", "proof_bundle.1.json"])
def test_a_file_that_the_format_does_not_have_fails(name: str) -> None:
    for sealed in (True, False):
        report = verify_job({**plain_job(sealed=sealed).files(), name: b"{}"}, trust())
        assert (report.verdict, report.reason, deciding(report).path) == (Verdict.FAILED, "FILE_UNLISTED", name)


@pytest.mark.parametrize("name", ["job.json", "contract.json", "receipts.jsonl", "MANIFEST.json", "proof_bundle.json"])
def test_a_file_that_is_missing_fails(name: str) -> None:
    files = plain_job().files()
    del files[name]
    report = verify_job(files, trust())
    assert (report.verdict, report.reason, deciding(report).path) == (Verdict.FAILED, "FILE_MISSING", name)


def test_a_contract_under_the_right_hash_that_is_no_contract_fails() -> None:
    forge = plain_job(calls=0, denials=0)
    forge.contract["payload"] = {"policy_name": "x"} | {"nonsense": True}
    report = verify_job(forge.files(), trust())
    assert (report.verdict, deciding(report).rule, report.reason) == (Verdict.FAILED, "J04", "HASH_MISMATCH")


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (lambda data: data.replace(b'":', b'": '), "not the canonical bytes"),
        (lambda data: b'{"a":1,"a":1}', "not the canonical bytes"),
        (lambda data: b'{"a":1152921504606846976}', "RFC 8785"),
        (lambda data: b"[" * 2000 + b"]" * 2000, "not JSON"),
        (lambda data: b"\xff", "not JSON"),
    ],
)
def test_a_file_that_is_not_canonical_json_fails(spoil: Callable[[bytes], bytes], detail: str) -> None:
    files = plain_job(sealed=False).files()
    report = verify_job({**files, "job.json": spoil(files["job.json"])}, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "MALFORMED_ENVELOPE")
    assert detail in deciding(report).detail


def test_a_record_whose_hash_alone_is_changed_fails() -> None:
    files = plain_job(calls=0, denials=0, sealed=False).files()
    lines = files["receipts.jsonl"].splitlines(keepends=True)
    at = lines[-1].index(b'"h":"') + 5
    lines[-1] = lines[-1][:at] + (b"A" if lines[-1][at : at + 1] != b"A" else b"B") + lines[-1][at + 1 :]
    report = verify_job({**files, "receipts.jsonl": b"".join(lines)}, trust())
    assert (deciding(report).rule, report.reason) == ("J24", "HASH_MISMATCH")


@pytest.mark.parametrize("journal", [b"\n" * 1_000_001, b'{"' + b"a" * 1024 * 1024 + b'":1}\n'])
def test_a_journal_beyond_all_bounds_fails(journal: bytes) -> None:
    report = verify_job({**plain_job(sealed=False).files(), "receipts.jsonl": journal}, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "BUNDLE_TOO_LARGE")


def test_nothing_at_all_fails() -> None:
    assert verify_job({}, trust()).reason == "FILE_MISSING"
    empty = {"job.json": b"", "contract.json": b"", "receipts.jsonl": b""}
    assert verify_job(empty, trust()).reason == "MALFORMED_ENVELOPE"


def test_an_unsealed_job_without_any_record_fails() -> None:
    report = verify_job(Forge(sealed=False).files(), trust())
    assert (report.verdict, deciding(report).path) == (Verdict.FAILED, "receipts.jsonl")
    torn = {**Forge(sealed=False).files(), "receipts.jsonl": b'{"body":'}
    assert verify_job(torn, trust()).verdict is Verdict.FAILED


def test_a_job_that_outlives_its_first_receipt_key_verifies_if_both_are_trusted() -> None:
    forge = job_of_two_keys()
    files = forge.files()
    assert verify_job(files, trust()).reason == "CLAIM_NOT_FOUND"
    assert verify_job(files, trust(TrustedKey(STRANGER_KEY.did, Role.RECEIPT))).verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "path",
    [("receipts", 0, "payload", "metadata", "clawproxy", "stream"), ("metadata", "clawproxy", "gaps")],
    ids=lambda path: path[-1],
)
def test_false_in_a_proof_bundle_is_not_the_zero_of_the_journal(path: tuple[str | int, ...]) -> None:
    def turn(_: int, payload: dict[str, Any]) -> None:
        inner: Any = payload
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = 0 if inner[path[-1]] is False else False

    report = verify_job(plain_job(meddle={"bundle": turn}).files(), trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "EVIDENCE_MISMATCH")


def test_true_in_the_end_of_a_job_is_no_count() -> None:
    forge = plain_job(calls=1)
    forge.records[-1]["payload"]["detail"] = {
        "counts": {"calls": True, "denials": 1, "events": 2, "gaps": False, "receipts": 1, "segments": 1}
    }
    assert verify_job(forge.files(), trust()).reason == "EVENT_OUT_OF_PLACE"


def test_findings_are_bounded() -> None:
    extra = {f"x{n}": b"" for n in range(500)}
    report = verify_job({**plain_job().files(), **extra}, trust())
    assert len(report.findings) == 201
    assert report.findings[-1].reason == "MORE_FINDINGS"
