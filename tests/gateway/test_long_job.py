"""A job of 2,500 calls: segments roll, the bundle seals and verifies, each proof bundle keeps the caps of the wire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path

from ..clawproxy.standin_process import Provider
from .bed import Bed, chat_body, running_bed

CALLS, CLIENTS = 2500, 10


async def _calls(bed: Bed, token: str, count: int) -> None:
    client = await bed.client()
    for _ in range(count):
        answer = await client.request("POST", "/openai/v1/chat/completions", bed.headers(token), chat_body("hi"))
        assert answer.status == 200


@pytest.mark.slow
async def test_a_job_of_2500_calls_rolls_segments_seals_and_verifies(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        lease = await bed.gateway.lease(bed.policy_hash, "long-job")
        await asyncio.gather(*(_calls(bed, lease.handle, CALLS // CLIENTS) for _ in range(CLIENTS)))
        sealed = await bed.gateway.seal("long-job")
        directory = Path(sealed["directory"])
        bundles = sorted(directory.glob("proof_bundle*.json"))  # noqa: ASYNC240 - nothing else runs here
        assert len(bundles) == 3
        total = 0
        for path in bundles:
            payload = json.loads(path.read_bytes())["payload"]
            assert len(payload["event_chain"]) <= 1000
            assert len(payload["receipts"]) <= 1000
            assert len(json.dumps(payload["metadata"])) <= 16384
            total += len(payload["receipts"])
        assert total == CALLS
        report = verify_path(directory, bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.counts["receipts"] == CALLS
