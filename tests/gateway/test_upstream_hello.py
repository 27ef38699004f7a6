"""What the provider's server is greeted with is the gateway's own: nothing of the client's hello goes on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from mitmproxy.proxy.layers.tls import parse_client_hello

from ..clawproxy.standin_process import Provider
from .bed import chat_body, running_bed
from .raw_client import RawClient


class Greeted:
    """A server that reads one hello and hangs up."""

    def __init__(self) -> None:
        self.hello = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (found := parse_client_hello(self.hello)) is None:
            self.hello += await reader.read(65536)
        self.alpn, self.sni = found.alpn_protocols, found.sni
        writer.close()


async def tunnel(address: str, ca: Path, offers: list[str]) -> RawClient:
    host, _, port = address.removeprefix("http://").rpartition(":")
    client = await RawClient.open(host, int(port))
    await client.send(b"CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\n\r\n")
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(offers)
    await client.start_tls(context, "api.openai.com")
    return client


@pytest.mark.parametrize("offers", [["a-secret-of-the-agent", "http/1.1"], ["h2", "http/1.1"], ["http/1.1"]])
async def test_protocol_names_that_an_agent_offers_do_not_reach_the_provider(
    tmp_path: Path, provider: Provider, offers: list[str]
) -> None:
    greeted = Greeted()
    server = await asyncio.start_server(greeted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    key = {"upstream": f"https://127.0.0.1:{port}", "credential": f"file:{provider.key_files['openai']}"}
    async with running_bed(tmp_path / "s", provider, sections={"providers": {"openai": key}}) as bed:
        client = await tunnel(bed.gateway.addresses["regular"], bed.gateway.ca_file, offers)
        answer = await client.request(
            "POST", "/v1/chat/completions", {**bed.headers(), "host": "api.openai.com"}, chat_body()
        )
        await client.close()
    server.close()
    assert answer.status == 502
    assert greeted.alpn == [b"http/1.1"]
    assert b"a-secret" not in greeted.hello
