"""Whom a job is bound to: each ends as the strength that is on record says it must. Loopback addresses stand in for
machines; where a source address is worth more, the strength says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons import gate
from clawproxy.addons.operations import Operations
from clawproxy.receipts.explain import explain
from clawproxy.receipts.presenters import Strength, presenter_at, strength_of
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.errors import ClawproxyError

from ..clawproxy.standin_process import Provider
from .bed import Bed, chat_body, running_bed
from .raw_client import Answer, RawClient
from .test_stops import _stream_to


async def call_from(bed: Bed, address: str, token: str, text: str = "hello") -> Answer:
    url = urlsplit(bed.gateway.addresses["reverse"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port, local_addr=(address, 0))
    client = RawClient(reader, writer)
    answer = await client.request("POST", "/openai/v1/chat/completions", bed.headers(token), chat_body(text))
    await client.close()
    return answer


async def rebind(bed: Bed, **arguments: Any) -> Any:
    return await Operations(bed.gateway).by_name()["rebind"]({"op": "rebind", **arguments})


def authority(bed: Bed) -> list[dict[str, Any]]:
    kinds = ("job_opened", "authority_changed")
    return [e["detail"] for e in bed.records("event") if e["event"]["event_type"] in kinds]


async def test_two_clients_behind_one_address_are_one_presenter_and_the_strength_says_so(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        assert (await call_from(bed, "127.0.0.1", token)).status == 200
        assert (await call_from(bed, "127.0.0.1", token)).status == 200
        assert [d["presenter_strength"] for d in authority(bed)] == ["loopback-address"]
        await bed.gateway.seal("job-1")
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert report.verdict is Verdict.VERIFIED
        assert report.facts["presenter_strength"] == ["loopback-address"]


async def test_a_second_presenter_with_a_stolen_token_is_refused_and_stands_in_the_jobs_evidence(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        assert (await call_from(bed, "127.0.0.1", token)).status == 200
        before = len(provider.seen())
        refused = await call_from(bed, "127.0.0.2", token)
        assert refused.status == 403
        assert refused.refusal["reason"] == "PRESENTER_MISMATCH"
        assert len(provider.seen()) == before
        assert [d["presenter"] for d in bed.records("denial")] == ["addr:127.0.0.2"]
        assert (await call_from(bed, "127.0.0.1", token)).status == 200


async def test_a_pod_that_restarts_is_refused_until_the_operator_binds_the_job_anew(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        first = await call_from(bed, "127.0.0.1", token)
        assert (await call_from(bed, "127.0.0.2", token)).status == 403
        assert (await rebind(bed, job_id="job-1", to="127.0.0.2"))["presenter"] == "addr:127.0.0.2"
        assert (await call_from(bed, "127.0.0.1", token)).status == 403
        assert (await call_from(bed, "127.0.0.2", token)).status == 200
        assert (await rebind(bed, job_id="job-1"))["presenter"] is None
        assert (await call_from(bed, "127.0.0.3", token)).status == 200
        assert (await call_from(bed, "127.0.0.2", token)).status == 403
        told = [(d["presenter"], d.get("presenter_before"), d.get("rebound")) for d in authority(bed)]
        assert told == [
            ("addr:127.0.0.1", None, None),
            ("addr:127.0.0.2", "addr:127.0.0.1", True),
            (None, "addr:127.0.0.2", True),
            ("addr:127.0.0.3", None, None),
        ]
        await bed.gateway.seal("job-1")
        directory = bed.state / "jobs" / "job-1"
        assert verify_path(directory, bed.trust()).verdict is Verdict.VERIFIED
        told_of = explain(load_directory(directory).files, first.headers["x-clawproxy-receipt-id"], bed.trust())
        assert told_of.call["presenter_strength"].startswith("loopback-address: any process")


async def test_binding_anew_cuts_what_the_former_presenter_has_open(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        url, began = urlsplit(bed.gateway.addresses["reverse"]), asyncio.Event()
        live = asyncio.create_task(_stream_to(url.hostname, url.port, bed.token(), began))
        await began.wait()
        await rebind(bed, job_id="job-1", to="127.0.0.2")
        async with asyncio.timeout(20):  # the stream would take minutes
            await live
        assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] == "stopped"


async def test_a_job_that_is_not_there_and_an_address_that_is_none_are_errors(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        for arguments in ({"job_id": "nobody"}, {"job_id": "../x"}, {"job_id": "nobody", "to": "a pod"}):
            with pytest.raises(ClawproxyError):
                await rebind(bed, **arguments)


async def test_without_the_presenter_of_the_connection_a_stolen_token_works(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "presenter_at", lambda address: "addr:127.0.0.1")
    async with running_bed(tmp_path / "s", provider) as bed:
        token = bed.token()
        assert (await call_from(bed, "127.0.0.1", token)).status == 200
        assert (await call_from(bed, "127.0.0.2", token)).status == 200


@pytest.mark.parametrize(
    ("address", "presenter", "strength"),
    [
        ("127.0.0.1", "addr:127.0.0.1", Strength.LOOPBACK_ADDRESS),
        ("127.9.9.9", "addr:127.9.9.9", Strength.LOOPBACK_ADDRESS),
        ("::1", "addr:::1", Strength.LOOPBACK_ADDRESS),
        ("::ffff:10.0.0.7", "addr:10.0.0.7", Strength.SOURCE_ADDRESS),
        ("10.0.0.7", "addr:10.0.0.7", Strength.SOURCE_ADDRESS),
        ("fe80::1%eth0", "addr:fe80::1", Strength.SOURCE_ADDRESS),
        ("2001:DB8::1", "addr:2001:db8::1", Strength.SOURCE_ADDRESS),
    ],
)
def test_an_address_is_one_presenter_in_one_spelling(address: str, presenter: str, strength: Strength) -> None:
    assert presenter_at(address) == presenter
    assert strength_of(presenter) is strength
