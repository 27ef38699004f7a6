"""Real clients that do not trust the CA: the person is told which variable the client reads."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, running_bed

URL = "https://api.openai.com/v1/models"
NODE = """
const [port] = process.argv.slice(1), s = require('net').connect(+port, '127.0.0.1', () => {
  s.write('CONNECT api.openai.com:443 HTTP/1.1\\r\\nHost: api.openai.com:443\\r\\n\\r\\n');
  s.once('data', () => require('tls').connect({socket: s, servername: 'api.openai.com'})
    .on('error', () => process.exit(7)));
});
"""


@pytest.fixture
async def bed(tmp_path: Path, provider: Provider) -> AsyncIterator[Bed]:
    async with running_bed(tmp_path / "s", provider) as running:
        yield running


async def run(command: list[str], proxy: str) -> int:
    environment = {"PATH": os.environ["PATH"], "HTTPS_PROXY": proxy, "https_proxy": proxy}
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
    return await asyncio.wait_for(process.wait(), 120)


@pytest.mark.parametrize(
    ("client", "variable"),
    [
        ("python", "SSL_CERT_FILE"),
        ("curl", "CURL_CA_BUNDLE"),
        ("git", "GIT_SSL_CAINFO"),
        ("node", "NODE_EXTRA_CA_CERTS"),
    ],
)
async def test_a_client_that_does_not_trust_the_ca_is_told_its_variable(
    bed: Bed, caplog: pytest.LogCaptureFixture, client: str, variable: str
) -> None:
    if client != "python" and shutil.which(client) is None:
        pytest.skip(f"no {client} here")
    proxy = bed.gateway.addresses["regular"]
    commands = {
        "python": [sys.executable, "-c", f"import httpx; httpx.get({URL!r})"],
        "curl": ["curl", "-s", URL],
        "git": ["git", "ls-remote", "https://api.openai.com/x.git"],
        "node": ["node", "-e", NODE, proxy.rpartition(":")[2]],
    }
    with caplog.at_level(logging.WARNING, logger="clawproxy.untrusting"):
        assert await run(commands[client], proxy) != 0
        await until(lambda: bed.gateway.status()["untrusting"])
    assert variable in caplog.text
    (row,) = bed.gateway.status()["untrusting"]
    assert row["host"] == "api.openai.com"
    assert variable in row["remedy"]


async def test_a_client_that_trusts_it_is_not_spoken_of(bed: Bed) -> None:
    tunnel = await bed.tunnel("api.openai.com")
    await tunnel.close()
    await asyncio.sleep(0.1)
    assert bed.gateway.status()["untrusting"] == []
