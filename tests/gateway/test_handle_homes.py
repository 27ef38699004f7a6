"""What is refused before a job's first call is in the job's bundle, if it came with the job's handle, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clawproxy.policies.orders import Mode, Scope
from clawproxy.receipts.containment import NOT_CONTAINED, Containment
from clawproxy.receipts.explain import explain
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.receipts.verify_job import verify_job

from ..clawproxy.standin_process import Provider
from .bed import Bed, chat_body, running_bed
from .door_rig import ISOLATED
from .raw_client import Answer
from .test_egress import _connect
from .test_stops import stop

NO_ROUTE = "/openai/v1/no/such/route"


async def leased(bed: Bed, job_id: str = "job-1", containment: Containment = NOT_CONTAINED) -> str:
    return (await bed.gateway.lease(bed.policy_hash, job_id, containment=containment)).handle


async def ask_no_route(bed: Bed, handle: str, **headers: str) -> Answer:
    answer = await bed.post(NO_ROUTE, chat_body(), bed.headers(handle, **headers))
    assert answer.refusal["reason"] == "ROUTE_NOT_FOUND"
    return answer


def reasons(payloads: list[dict[str, Any]]) -> list[str]:
    return [payload["reason"] for payload in payloads]


async def test_a_refusal_before_the_first_call_is_in_the_jobs_bundle_and_verifies_there(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await leased(bed)
        receipt_id = (await ask_no_route(bed, handle)).headers["x-clawproxy-receipt-id"]
        assert (await bed.chat(token=handle)).status == 200
        assert (reasons(bed.records("denial")), bed.refusals()) == (["ROUTE_NOT_FOUND"], [])
        await bed.gateway.seal("job-1")
        directory = bed.state / "jobs" / "job-1"
        report = verify_path(directory, bed.trust())
        assert (report.verdict, report.counts["denials"], report.counts["calls"]) == (Verdict.VERIFIED, 1, 1)
        files = load_directory(directory).files
        told = explain(files, receipt_id, bed.trust())
        assert (told.kind, told.decision["reason"], told.decision["step"]) == ("refused", "ROUTE_NOT_FOUND", "admit")
        lines = files["receipts.jsonl"].splitlines(keepends=True)
        (place,) = [n for n, line in enumerate(lines) if b'"t":"denial"' in line]
        for journal in (
            lines[:place] + lines[place + 1 :],
            [line.replace(b"ROUTE_NOT", b"ROUTE_TOO") for line in lines],
        ):
            tampered = verify_job({**files, "receipts.jsonl": b"".join(journal)}, bed.trust())
            assert tampered.verdict is Verdict.FAILED


async def test_a_job_that_is_stopped_from_the_start_has_the_stop_and_its_refusals(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        await stop(bed, Scope.ALL, mode=Mode.STOP)
        handle = await leased(bed)
        for _ in range(2):
            assert (await bed.chat(token=handle)).refusal["reason"] == "STOPPED_BY_OPERATOR"
        assert (reasons(bed.records("denial")), bed.refusals()) == (["STOPPED_BY_OPERATOR"] * 2, [])
        events = [payload["event"]["event_type"] for payload in bed.records("event")]
        assert events == ["job_opened", "stopped"]
        await bed.gateway.seal("job-1")
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert (report.verdict, report.counts["calls"]) == (Verdict.VERIFIED, 0)


async def test_a_tunnel_by_a_handle_is_refused_in_its_job(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await leased(bed)
        _, answer = await _connect(bed, "api.openai.com:8443", handle)
        assert answer.status == 403
        (denial,) = bed.records("denial")
        assert (denial["method"], denial["destination"], bed.refusals()) == ("CONNECT", "api.openai.com:8443", [])


@pytest.mark.parametrize("which", ["no handle", "one that nobody gave out", "a scoped token", "two of them"])
async def test_without_one_handle_of_a_job_a_refusal_stays_in_the_gateways_journal(
    tmp_path: Path, provider: Provider, which: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle, other = await leased(bed), await leased(bed, "job-2")
        presented = {
            "no handle": {"x-cst": "nothing"},
            "one that nobody gave out": {"x-cst": "cph_" + "A" * 43},
            "a scoped token": {"x-cst": bed.token()},
            "two of them": {"x-cst": handle, "authorization": f"Bearer {other}"},
        }[which]
        headers = {"host": "gateway", "content-type": "application/json", **presented}
        answer = await bed.post(NO_ROUTE, chat_body(), headers)
        assert answer.refusal["reason"] == "ROUTE_NOT_FOUND"
        assert reasons(bed.refusals()) == ["ROUTE_NOT_FOUND"]
        assert bed.records("denial") == bed.records("denial", "job-2") == []


async def test_a_refusal_is_in_the_job_of_its_handle_and_in_no_other(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        await leased(bed)
        other = await leased(bed, "job-2")
        await ask_no_route(bed, other)
        assert (bed.records("denial"), reasons(bed.records("denial", "job-2"))) == ([], ["ROUTE_NOT_FOUND"])


async def test_the_handle_of_an_isolated_or_of_a_sealed_job_says_nothing(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        caged, ended = await leased(bed, "caged", containment=ISOLATED), await leased(bed, "ended")
        await bed.gateway.seal("ended")
        for handle in (caged, ended):
            await ask_no_route(bed, handle)
        assert reasons(bed.refusals()) == ["ROUTE_NOT_FOUND"] * 2
        assert bed.records("denial", "caged") == bed.records("denial", "ended") == []


async def test_what_a_job_has_no_room_for_is_in_the_gateways_journal(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await leased(bed)
        bed.gateway.jobs.renew(lambda limits: replace(limits, denials=1), ())
        for _ in range(2):
            await ask_no_route(bed, handle)
        assert reasons(bed.records("denial")) == reasons(bed.refusals()) == ["ROUTE_NOT_FOUND"]


async def test_a_job_that_is_damaged_leaves_the_refusal_to_the_gateways_journal(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await leased(bed)
        journal = bed.state / "jobs" / "job-1" / "receipts.jsonl"
        damaged = journal.read_bytes().replace(b"job_opened", b"job_closed")
        journal.write_bytes(damaged)
        await ask_no_route(bed, handle)
        assert (journal.read_bytes(), reasons(bed.refusals())) == (damaged, ["ROUTE_NOT_FOUND"])


async def test_without_the_check_for_isolation_a_stolen_handle_writes_into_an_isolated_job(
    tmp_path: Path, provider: Provider
) -> None:
    """The guard taken out, so that the test above is known to be able to fail."""
    async with running_bed(tmp_path / "s", provider) as bed:
        caged = await leased(bed, "caged", containment=ISOLATED)
        lease = bed.gateway._leases.of(caged)
        assert lease is not None
        lease.isolated = False
        await ask_no_route(bed, caged)
        assert reasons(bed.records("denial", "caged")) == ["ROUTE_NOT_FOUND"]
