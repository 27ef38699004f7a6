"""kill -9 at random moments under load: nothing acknowledged is lost, nothing left without intent, gaps are named."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clawproxy.addons.admin import call_admin
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.digests import b64u_encode

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import chat_body
from .kill_ground import lay_ground, running_forks
from .raw_client import RawClient

KILLS = 100
CLIENTS = 6
SEED = 20_261_122


@dataclass
class _Load:
    """What the clients of one job saw."""

    acknowledged: set[str] = field(default_factory=set)
    bodies: dict[str, str] = field(default_factory=dict)


async def _client(address: str, token: str, name: str, load: _Load) -> None:
    """Calls one after the other until the connection breaks."""
    url = urlsplit(address)
    assert url.hostname
    assert url.port
    with contextlib.suppress(OSError):
        client = await RawClient.open(url.hostname, url.port)
        for n in range(10_000):
            stream = n % 2 == 0
            body = chat_body(f"{name}-{n} events:4" + (" slow:2" if n % 3 == 0 else ""), stream=stream)
            load.bodies[b64u_encode(hashlib.sha256(body).digest())] = name
            headers = {"host": "gateway", "content-type": "application/json", "x-cst": token}
            answer = await client.request("POST", "/openai/v1/chat/completions", headers, body)
            if not (answer.complete and answer.status == 200):
                return
            load.acknowledged.add(answer.headers["x-clawproxy-receipt-id"])


async def _is_gone(pid: int) -> None:
    """A connection breaks before all locks of a killed process are free."""
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def _has_heard_more(provider: Provider, than: int) -> None:
    await until(lambda: len(provider.seen()) > than)


@pytest.mark.slow
async def test_a_hundred_kills_lose_nothing_acknowledged(tmp_path: Path, provider: Provider) -> None:
    ground = lay_ground(tmp_path, provider)
    rng = random.Random(SEED)
    verdicts: dict[str, int] = {}
    with running_forks(ground.settings) as forks:
        ready = forks.start()
        for kill in range(KILLS):
            job_id, load, already = f"kill-{kill}", _Load(), len(provider.seen())
            clients = [_client(ready["reverse"], ground.token(job_id), f"{job_id}-{c}", load) for c in range(CLIENTS)]
            running = asyncio.gather(*clients)
            if kill % 4 == 0:  # on a busy machine, too, some are killed in the middle of a call
                await _has_heard_more(provider, already)
            await asyncio.sleep(rng.uniform(0.005, 0.4))
            os.kill(ready["pid"], signal.SIGKILL)
            await running
            await _is_gone(ready["pid"])
            seen = {row["body_sha256_b64u"] for row in provider.seen()[already:]}

            ready = forks.start()
            again = _Load()
            url = urlsplit(ready["reverse"])
            client = await RawClient.open(str(url.hostname), int(url.port or 0))
            headers = {"host": "gateway", "content-type": "application/json", "x-cst": ground.token(job_id)}
            answer = await client.request("POST", "/openai/v1/chat/completions", headers, chat_body("after"))
            assert answer.status == 200, answer.body
            await client.close()
            again.acknowledged.add(answer.headers["x-clawproxy-receipt-id"])
            sealed = await call_admin(Path(ready["admin"]), "seal", job_id=job_id)

            lines = [
                json.loads(line) for line in (Path(sealed["directory"]) / "receipts.jsonl").read_bytes().splitlines()
            ]
            intents = [line["body"]["payload"]["detail"] for line in lines if line["t"] == "intent"]
            receipts = {line["body"]["payload"]["receipt_id"] for line in lines if line["t"] == "receipt"}
            recovered = [line["body"]["payload"] for line in lines if line["t"] == "recovery"]
            named = {receipt_id for record in recovered for receipt_id in record["open_calls"]}
            assert seen <= {intent["request_hash_b64u"] for intent in intents}, "a request left without an intent"
            assert load.acknowledged | again.acknowledged <= receipts, "an acknowledged call is lost"
            assert {intent["receipt_id"] for intent in intents} - receipts == named - receipts
            report = verify_path(Path(sealed["directory"]), ground.trust)
            expected = Verdict.INCOMPLETE if named or any(r["torn"] for r in recovered) else Verdict.VERIFIED
            assert report.verdict is expected, report.findings
            verdicts[report.verdict] = verdicts.get(report.verdict, 0) + 1
        os.kill(ready["pid"], signal.SIGTERM)
    print(f"{KILLS} kills: {verdicts}")
    assert verdicts.get(Verdict.INCOMPLETE, 0) > 0, "no kill hit an open call: the test tests nothing"
