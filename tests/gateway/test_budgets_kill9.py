"""kill -9 under a budget: what was reserved stays charged, so that no restart makes room that was used already."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons.admin import call_admin
from clawproxy.receipts.budget_ledger import FILE_NAME
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, chat_body
from .kill_ground import gone, lay_ground, running_forks
from .raw_client import RawClient

ROUNDS = 4
CALLS = 64
MAX_TOKENS = 100
PRICE = {"provider": "openai", "models": ["gpt-4o-mini"], "input": 0, "output": 1_000_000}
TEN: dict[str, dict[str, int]] = {
    # ten calls of MAX_TOKENS each, at a micro-dollar a token
    "requests": {"requests": 10},
    "tokens": {"output_tokens": 10 * MAX_TOKENS},
    "money": {"cost_microusd": 10 * MAX_TOKENS},
}


async def _call(address: str, token: str, text: str) -> None:
    url = urlsplit(address)
    with contextlib.suppress(OSError):
        client = await RawClient.open(str(url.hostname), int(url.port or 0))
        # without usage a call stays charged as reserved, so that ten are all that fit, however they end
        body = chat_body(f"{text} no-usage slow:40", max_tokens=MAX_TOKENS)
        headers = {"host": "gateway", "content-type": "application/json", "x-cst": token}
        with contextlib.suppress(asyncio.IncompleteReadError, EOFError):
            await client.request("POST", "/openai/v1/chat/completions", headers, body)
        await client.close()


@pytest.mark.parametrize("scope", ["job", "contract"])
@pytest.mark.parametrize("kind", sorted(TEN))
async def test_never_more_than_ten_of_64_at_once_leave_over_kills_and_restarts(
    tmp_path: Path, provider: Provider, scope: str, kind: str
) -> None:
    limits = TEN[kind]
    rules = {**CONTRACT, "budgets": limits if scope == "job" else {"per_contract": limits}}
    ground = lay_ground(tmp_path, provider, rules, prices={"rows": [PRICE]})
    rng, before = random.Random(f"{scope} {kind}"), len(provider.seen())
    jobs = ["job-1"] if scope == "job" else [f"job-{n}" for n in range(ROUNDS)]
    unknown = 0
    with running_forks(ground.settings) as forks:
        ready: dict[str, Any] = forks.start()
        for turn in range(ROUNDS):
            job = jobs[turn % len(jobs)]
            calls = asyncio.gather(*(_call(ready["reverse"], ground.token(job), f"{turn}-{n}") for n in range(CALLS)))
            if turn < ROUNDS - 1:
                await asyncio.sleep(rng.uniform(0.03, 0.12))
            else:
                await calls  # to their ends, however long that takes: by then the limit is reached
            os.kill(ready["pid"], signal.SIGKILL)
            await calls
            await gone(ready["pid"])
            ready = forks.start()
        assert len(provider.seen()) - before <= 10, "more left than the budget has"
        name, limit = next(iter(limits.items()))
        used = 0
        for job in jobs:
            await _call(ready["reverse"], ground.token(job), "after")
            sealed = await call_admin(Path(ready["admin"]), "seal", job_id=job)
            directory = Path(sealed["directory"])
            report = verify_path(directory, ground.trust)
            assert report.verdict is not Verdict.FAILED, report.findings
            assert "BUDGET_OVERRUN" not in str(report.findings)
            records = [json.loads(line) for line in (directory / "receipts.jsonl").read_bytes().splitlines()]
            intents = {
                record["body"]["payload"]["detail"]["receipt_id"]: record["body"]["payload"]["detail"]["budget"]
                for record in records
                if record["t"] == "intent"
            }
            gaps = [i for r in records if r["t"] == "recovery" for i in r["body"]["payload"]["open_calls"]]
            unknown += len(gaps)
            charged = {
                record["body"]["payload"]["receipt_id"]: record["body"]["payload"]["metadata"]["clawproxy"]["budget"]
                for record in records
                if record["t"] == "receipt"
            }
            used += sum(told["charged"][name] for told in charged.values())
            used += sum(intents[receipt_id]["reserved"][name] for receipt_id in gaps)
        assert used <= limit
        assert (ground.state / FILE_NAME).exists() is (scope == "contract")
        os.kill(ready["pid"], signal.SIGTERM)
    assert used == limit or unknown, "the load never came to the limit: the test tests nothing"
