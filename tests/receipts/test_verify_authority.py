"""Who signed in which role, and whether the token was valid when its call was made."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.keys import Role
from clawproxy.tokens.trust import TrustedKey, build_trust

from .forge import JOB_KEY, POLICY_KEY, RECEIPT_KEY, START_MS, STRANGER_KEY, Forge, job_of_two_keys, plain_job, trust


@pytest.mark.parametrize("name", ["attestation_signer_dids", "derivation_attestation_signer_dids"])
def test_an_agent_that_stands_in_a_list_of_the_trust_file_is_a_key_in_two_roles(name: str) -> None:
    report = verify_job(plain_job().files(), build_trust(trust().keys, {name: [JOB_KEY.did]}))
    assert (report.verdict, report.reason) == (Verdict.FAILED, "KEY_IN_TWO_ROLES")


@pytest.mark.parametrize("issuer", [RECEIPT_KEY, POLICY_KEY, JOB_KEY, STRANGER_KEY], ids=lambda key: str(key.role))
def test_a_token_issuer_signs_nothing_else(issuer: Any) -> None:
    forge = plain_job()
    forge.records[0]["payload"]["detail"]["token"]["issuer_did"] = issuer.did
    keys = [TrustedKey(RECEIPT_KEY.did, Role.RECEIPT), TrustedKey(POLICY_KEY.did, Role.POLICY)]
    report = verify_job(forge.files(), build_trust(keys))
    if issuer is STRANGER_KEY:
        assert report.verdict is Verdict.VERIFIED
    else:
        assert (report.verdict, report.reason) == (Verdict.FAILED, "KEY_IN_TWO_ROLES")


@pytest.mark.parametrize(
    ("over", "holds"),
    [
        ({"iat": START_MS // 1000 + 60}, True),
        ({"iat": START_MS // 1000 + 62}, False),
        ({"iat": START_MS // 1000 - 900, "exp": START_MS // 1000 - 59}, True),
        ({"iat": START_MS // 1000 - 900, "exp": START_MS // 1000 - 61}, False),
        ({"exp": None}, False),
    ],
)
def test_a_call_outside_of_its_tokens_time_is_a_gap(over: dict[str, Any], holds: bool) -> None:
    forge = Forge()
    forge.claims |= over
    forge.open()
    forge.attest(forge.intend(0))
    forge.end()
    report = verify_job(forge.files(), trust())
    expected = (Verdict.VERIFIED, "OK") if holds else (Verdict.INCOMPLETE, "TOKEN_NOT_VALID_THEN")
    assert (report.verdict, report.reason) == expected


def test_a_second_receipt_key_in_one_job_is_told() -> None:
    forge = job_of_two_keys()
    report = verify_job(forge.files(), trust(TrustedKey(STRANGER_KEY.did, Role.RECEIPT)))
    assert report.verdict is Verdict.VERIFIED
    assert [(finding.reason, finding.severity) for finding in report.findings] == [("SIGNER_CHANGED", "note")]
