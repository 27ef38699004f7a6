from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.journal import Journal
from clawproxy.receipts.refusals import RefusalLog
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.envelope import check_envelope_signature
from clawproxy.tokens.errors import ClawproxyError

from ..waiting import until
from .faulty_disk import FaultyDisk, failing
from .workshop import GATEWAY_ID, RECEIPT_KEY, START_MS, make_denied


class Rig:
    def __init__(self, root: Path, **limits: int) -> None:
        self.now_ms = START_MS
        self.disk = FaultyDisk()
        self.journal = Journal(self.disk)
        self.directory = root / "gateway"
        self.log = RefusalLog(self.directory, self.journal, RECEIPT_KEY, GATEWAY_ID, lambda: self.now_ms, **limits)

    def records(self) -> list[Any]:
        [path] = self.directory.iterdir()
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def lines(self) -> int:
        """Whole ones: half a line may be there while it is written."""
        [path] = self.directory.iterdir()
        return path.read_bytes().count(b"\n")

    async def end(self) -> None:
        await self.log.close()
        await asyncio.to_thread(self.journal.close)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, per_second=3)
    await rig.log.open()
    yield rig
    await rig.end()


async def test_a_refusal_is_on_the_disk_when_deny_returns(rig: Rig) -> None:
    envelope = await rig.log.deny(make_denied(reason="TOKEN_EXPIRED"))
    check_envelope_signature(envelope)
    assert [record["body"] for record in rig.records()] == [envelope]
    assert envelope["payload"]["reason"] == "TOKEN_EXPIRED"
    assert "recorded" not in envelope["payload"]


async def test_the_records_make_a_signed_chain(rig: Rig) -> None:
    for _ in range(3):
        await rig.log.deny(make_denied())
    records = rig.records()
    prev = sha256_b64u(records[0]["body"]["payload"]["incarnation"].encode())
    for seq, record in enumerate(records):
        payload = record["body"]["payload"]
        assert (record["seq"], record["prev"]) == (payload["seq"], payload["prev_b64u"]) == (seq, prev)
        prev = record.pop("h")
        assert prev == sha256_b64u(b"clawproxy.log.v1\n" + jcs_bytes(record))


async def test_a_flood_is_signed_but_only_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawproxy.receipts.refusals.SUMMARY_EVERY_S", 3.0)  # longer than the flood
    envelopes = [await rig.log.deny(make_denied(reason=("TOKEN_EXPIRED", "TOKEN_REVOKED")[n % 2])) for n in range(20)]
    assert len(rig.records()) == 3
    assert [envelope["payload"].get("recorded", True) for envelope in envelopes] == [True] * 3 + [False] * 17
    for envelope in envelopes:
        check_envelope_signature(envelope)
    await until(lambda: rig.lines() > 3)
    summary = rig.records()[3]
    assert (summary["t"], summary["body"]["envelope_type"]) == ("summary", "gateway_refusals")
    counts = {item["reason"]: item["count"] for item in summary["body"]["payload"]["counts"]}
    assert counts == {"TOKEN_EXPIRED": 8, "TOKEN_REVOKED": 9}
    rig.now_ms += 1000
    assert "recorded" not in (await rig.log.deny(make_denied()))["payload"]


async def test_closing_counts_what_is_left(rig: Rig) -> None:
    for _ in range(5):
        await rig.log.deny(make_denied())
    await rig.log.close()
    assert rig.records()[-1]["body"]["payload"]["counts"] == [{"count": 2, "reason": "POLICY_MODEL_NOT_ALLOWED"}]
    assert (await rig.log.deny(make_denied()))["payload"]["recorded"] is False


async def test_the_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    rig = Rig(tmp_path, per_second=1000, max_bytes=5000)
    await rig.log.open()
    for _ in range(50):
        await rig.log.deny(make_denied())
    assert len(rig.records()) <= 5
    await rig.end()


async def test_a_disk_that_fails_does_not_keep_a_refusal_from_being_answered(rig: Rig) -> None:
    [path] = rig.directory.iterdir()
    rig.disk.fail = failing(errno.EIO, "fdatasync", path.name)
    for _ in range(2):
        envelope = await rig.log.deny(make_denied())
        assert envelope["payload"]["recorded"] is False
    assert path.read_bytes() == b""


async def test_a_place_that_cannot_be_written_says_so_at_the_start(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "missing")
    with pytest.raises(ClawproxyError) as caught:
        await rig.log.open()
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    await rig.end()


async def test_each_start_has_a_file_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        rig = Rig(tmp_path)
        await rig.log.open()
        await rig.log.deny(make_denied())
        await rig.end()
    assert len(list((tmp_path / "gateway").iterdir())) == 2
