"""Calls that went to another provider than they were addressed to: intent and receipt say the same of it."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.receipts.payloads import start_detail
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job

from .forge import CONTRACT_DOCUMENT, Forge, trust
from .workshop import make_grant, make_start

ELSEWHERE = {"upstream": "fal", "upstream_model": "acme/m"}
ALLOWED = {"allowed_providers": ["openai", "fal"], "allowed_models": ["openrouter/acme/*"]}


def rerouted_job() -> tuple[Forge, dict[str, Any], dict[str, Any]]:
    """A job whose first call went elsewhere; the detail of its intent and the metadata of its receipt."""
    forge = Forge(document={**CONTRACT_DOCUMENT, **ALLOWED})
    forge.open()
    forge.attest(forge.intend(0, model="openrouter/acme/m", **ELSEWHERE))
    forge.end()
    intent = next(record for record in forge.records if record["kind"] == "intent")["payload"]["detail"]
    metadata = next(record for record in forge.records if record["kind"] == "receipt")["payload"]["metadata"]
    metadata |= ELSEWHERE
    return forge, intent, metadata


def test_a_call_that_went_elsewhere_verifies() -> None:
    assert verify_job(rerouted_job()[0].files(), trust()).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("member", sorted(ELSEWHERE))
@pytest.mark.parametrize("place", ["intent", "receipt"])
@pytest.mark.parametrize("to", ["another", None])
def test_a_receipt_that_says_otherwise_than_its_intent_fails(member: str, place: str, to: str | None) -> None:
    forge, intent, metadata = rerouted_job()
    where = intent if place == "intent" else metadata
    if to is None:
        del where[member]
    else:
        where[member] = to
    report = verify_job(forge.files(), trust())
    assert report.verdict is Verdict.FAILED
    assert "EVIDENCE_MISMATCH" in [finding.reason for finding in report.findings]


def test_a_call_that_stayed_says_nothing_of_it() -> None:
    assert not ELSEWHERE.keys() & start_detail(make_start(make_grant())).keys()
    assert start_detail(make_start(make_grant(), **ELSEWHERE)).items() >= ELSEWHERE.items()
