"""Receipts of one job's bundle put into another bundle: each says whose call it answers, and that is compared."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.receipts.verify_wire import verify_wire_file
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.envelope import build_envelope, timestamp
from clawproxy.tokens.keys import Role, SigningKey

from .forge import JOB_KEY, START_MS, Forge, plain_job, trust

OTHER_AGENT = SigningKey.from_seed(Role.JOB, bytes([0x56]) * 32)


def proof(forge: Forge) -> JsonObject:
    """The payload of the first segment's proof bundle."""
    payload: JsonObject = orjson.loads(forge.files()["proof_bundle.json"])["payload"]
    return payload


def verify(payload: JsonObject, key: SigningKey = JOB_KEY) -> Report:
    payload = {**payload, "agent_did": key.did}
    return verify_wire_file(build_envelope("proof_bundle", payload, key, timestamp(START_MS)), trust(), START_MS)


def changed(payload: JsonObject, *path: str | int, to: Any) -> JsonObject:
    out = copy.deepcopy(payload)
    inner: Any = out
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return out


def test_the_bundle_that_the_gateway_made_conforms() -> None:
    assert verify(proof(plain_job())).verdict is Verdict.CONFORMS


@pytest.mark.parametrize("metadata", [None, {"clawproxy": {"custody": "gateway"}}, {"clawproxy": "x"}])
def test_receipts_in_a_bundle_of_another_agent_fail(metadata: JsonObject | None) -> None:
    payload = proof(plain_job())
    payload.pop("metadata")
    report = verify(payload | ({"metadata": metadata} if metadata else {}), OTHER_AGENT)
    assert (report.verdict, report.reason) == (Verdict.FAILED, "EVIDENCE_MISMATCH")


@pytest.mark.parametrize("member", ["job_id", "incarnation"])
def test_receipts_in_a_bundle_that_says_it_is_of_another_job_fail(member: str) -> None:
    payload = changed(proof(plain_job()), "metadata", "clawproxy", member, to="another")
    assert verify(payload).reason == "EVIDENCE_MISMATCH"
    del payload["metadata"]["clawproxy"][member]
    assert verify(payload).reason == "EVIDENCE_MISMATCH"


def _harness_bound(job_id: str, incarnation: str) -> JsonObject:
    """A receipt of another job of this agent that binds to the events of ``plain_job``."""
    event = proof(plain_job())["event_chain"][2]
    forge = Forge(job_id=job_id, incarnation=incarnation)
    forge.open()
    over = {"harness_run_id": event["run_id"], "harness_event_hash_b64u": event["event_hash_b64u"]}
    forge.attest(forge.intend(50, **over))
    forge.end()
    lines = forge.files()["receipts.jsonl"].splitlines()
    receipt: JsonObject = orjson.loads(lines[2])["body"]
    return receipt


def test_a_harness_bound_receipt_of_another_job_fails_beside_those_of_a_job() -> None:
    payload = proof(plain_job())
    del payload["metadata"]
    payload["receipts"].append(_harness_bound("job-other", "f" * 32))
    assert verify(payload).reason == "EVIDENCE_MISMATCH"


def test_a_bundle_of_the_gateways_custody_holds_no_harness_bound_receipt() -> None:
    payload = proof(plain_job())
    payload["receipts"] = [_harness_bound("job-forged", "0123456789abcdef" * 2)]
    assert verify(payload).reason == "RECEIPT_BINDING_MISMATCH"
    del payload["metadata"]["clawproxy"]["custody"]
    assert verify(payload).verdict is Verdict.CONFORMS


def test_a_receipt_stays_with_the_event_of_its_intent() -> None:
    forge = plain_job()
    hashes = [event["event_hash_b64u"] for event in proof(forge)["event_chain"]]

    def rebind(n: int, payload: dict[str, Any]) -> None:
        if n == 2:
            payload["binding"]["event_hash_b64u"] = hashes[3]

    forge.meddle["payload"] = rebind
    report = verify(proof(forge))
    assert (report.reason, report.findings[0].path) == (
        "RECEIPT_BINDING_MISMATCH",
        "payload.receipts[0].payload.binding.event_hash_b64u",
    )


def test_a_receipt_in_a_journal_names_the_agent_of_the_job() -> None:
    forge = plain_job()

    def rename(n: int, payload: dict[str, Any]) -> None:
        if n == 2:
            payload["metadata"]["clawproxy"]["agent_did"] = OTHER_AGENT.did

    forge.meddle["payload"] = rename
    report = verify_job(forge.files(), trust())
    assert (report.reason, report.findings[0].rule) == ("EVIDENCE_MISMATCH", "J37")
