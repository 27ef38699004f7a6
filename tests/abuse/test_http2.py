"""HTTP/2 is not served: ALPN does not offer it, and a client that speaks it all the same gets nothing through.

When a gateway serves it, the transport ``http2`` of the runner takes the place of this test.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import h2.connection
import pytest

from ..clawproxy.standin_process import Provider
from ..gateway.bed import Bed, chat_body
from .runner import Line, running_runner


async def _tunnel(bed: Bed, protocols: list[str]) -> Line:
    address = urlsplit(bed.gateway.addresses["regular"])
    line = Line(*await asyncio.open_connection(address.hostname, address.port))
    await line.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
    assert (await line.answer("CONNECT")).status == 200
    context = ssl.create_default_context(cafile=bed.gateway.ca_file)
    context.set_alpn_protocols(protocols)
    await line.writer.start_tls(context, server_hostname="api.openai.com")
    return line


def _request(bed: Bed, authority: str) -> bytes:
    client = h2.connection.H2Connection()
    client.initiate_connection()
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", "/v1/chat/completions"),
        ("content-type", "application/json"),
        ("x-cst", bed.token()),
    ]
    client.send_headers(1, fields)
    client.send_data(1, chat_body(), end_stream=True)
    return client.data_to_send()


@pytest.mark.parametrize("protocols", [["h2"], ["h2", "http/1.1"], ["h2c"], ["h3", "h2"]])
async def test_alpn_never_agrees_on_http2(tmp_path: Path, provider: Provider, protocols: list[str]) -> None:
    async with running_runner(tmp_path, provider) as runner:
        before = runner.relay.seen
        try:
            line = await _tunnel(runner.bed, protocols)
        except (ssl.SSLError, ConnectionError):
            pass
        else:
            chosen = line.writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen in (None, "http/1.1")
            line.close()
        assert runner.relay.seen == before


@pytest.mark.parametrize("way", ["reverse", "regular", "tunnel"])
async def test_http2_by_prior_knowledge_reaches_no_provider(tmp_path: Path, provider: Provider, way: str) -> None:
    async with running_runner(tmp_path, provider) as runner:
        before = runner.relay.seen
        if way == "tunnel":
            line = await _tunnel(runner.bed, ["http/1.1"])
        else:
            address = urlsplit(runner.bed.gateway.addresses[way])
            line = Line(*await asyncio.open_connection(address.hostname, address.port))
        await line.send(_request(runner.bed, "api.openai.com"))
        answer = await line.answer(timeout_s=3)
        line.close()
        assert answer.status in (0, 400)
        assert runner.relay.seen == before
        assert runner.bed.records("intent") == []
        assert (await runner.bed.chat()).status == 200
