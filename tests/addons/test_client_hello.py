"""A ClientHello has bounds: in bytes, in records and in time."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from .engine_rig import json_answer, rig
from .test_hostile_bytes import flood

REGULAR = "regular@127.0.0.1:0"
BEGINNING = b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"


@pytest.mark.parametrize("size", [1, 16_000], ids=["tiny records", "large records"])
@pytest.mark.parametrize("listener", [0, 1], ids=["reverse", "tunnel"])
async def test_client_hello_that_does_not_end_is_refused_before_it_costs_anything(
    tmp_path: Path, size: int, listener: int, caplog: pytest.LogCaptureFixture
) -> None:
    modes = ("reverse:http://127.0.0.1:9@127.0.0.1:0", REGULAR)
    async with rig(tmp_path, json_answer, modes=modes) as r:
        client = await r.client(listener)
        if listener:
            client.writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
            await client.head()
        record = b"\x16\x03\x01" + size.to_bytes(2, "big") + b"\0" * size
        started = time.process_time()
        await flood(client, BEGINNING, *[record * (16_384 // len(record) + 1)] * 16)
        await r.settled()
        assert r.master.connection_count == 0
        assert time.process_time() - started < 0.5
        client.close()
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_broken_client_hello_is_not_quoted_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(BEGINNING + b"\xaa" * 20_000)
        await asyncio.sleep(0.1)
        await r.settled()
        assert r.master.connection_count == 0
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
