"""What a tunnel begins with, where there is no request to answer: refused all the same, with a signed denial."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import client_hello, gate
from clawproxy.addons.tunnel_start import first_bytes_fault
from mitmproxy.addons.tlsconfig import TlsConfig

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, chat_body, running_bed
from .raw_client import RawClient

HOST = "api.openai.com"


async def _connected(bed: Bed) -> RawClient:
    client = await bed.client("regular")
    await client.send(f"CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n".encode())
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return client


def _hello(sni: str | None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=sni)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def _denied(bed: Bed) -> list[tuple[str, str]]:
    await until(bed.refusals)
    return [(denial["reason"], denial["step"]) for denial in bed.refusals()]


@pytest.fixture
def minted(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The server names for which a certificate was asked."""
    names: list[str | None] = []
    stock: Callable[..., Any] = TlsConfig.get_cert

    def get_cert(self: TlsConfig, context: Any) -> Any:
        names.append(context.client.sni)
        return stock(self, context)

    monkeypatch.setattr(TlsConfig, "get_cert", get_cert)
    return names


@pytest.mark.parametrize("sni", [None, "api.anthropic.com", "api.openai.com.evil.example", "API.OPENAI.COM"])
async def test_a_handshake_for_another_name_ends_before_a_certificate_is_made(
    tmp_path: Path, provider: Provider, minted: list[str | None], sni: str | None
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await _connected(bed)
        hello = _hello(sni or HOST) if sni != "API.OPENAI.COM" else _hello(HOST).replace(HOST.encode(), sni.encode())
        await client.send(_hello(None) if sni is None else hello)
        assert not (await client.rest()).startswith(b"\x16\x03")
        assert await _denied(bed) == [("DESTINATION_MISMATCH", "admit")]
        assert bed.refusals()[0]["method"] == "CONNECT"
        assert minted == []
        assert (await bed.chat()).status == 200


@pytest.mark.parametrize("size", [1, 5, 40])
async def test_a_hello_in_pieces_is_judged_all_the_same(tmp_path: Path, provider: Provider, size: int) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await _connected(bed)
        hello = _hello("api.anthropic.com")
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(hello), size):
                await client.send(hello[at : at + size])
                await asyncio.sleep(0)
        await client.rest()
        assert await _denied(bed) == [("DESTINATION_MISMATCH", "admit")]


@pytest.mark.parametrize(
    "first",
    [b"SSH-2.0-OpenSSH_9.0\r\n", b"\x00\x01\x02\x03", b"EHLO x\r\n", b"\x05\x01\x00", b"get / HTTP/1.1\r\n\r\n"],
)
async def test_bytes_that_are_neither_tls_nor_http_leave_a_denial(
    tmp_path: Path, provider: Provider, first: bytes
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        client = await _connected(bed)
        await client.send(first)
        await client.rest()
        assert await _denied(bed) == [("PROTOCOL_REFUSED", "admit")]
        assert len(provider.seen()) == before


async def test_tls_inside_tls_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.tunnel(HOST)
        await client.send(_hello(HOST))
        await client.rest()
        assert await _denied(bed) == [("PROTOCOL_REFUSED", "admit")]


async def test_a_connect_inside_a_tunnel_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.tunnel(HOST)
        await client.send(f"CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n".encode())
        assert b" 200 " not in (await client.reader.read(100))
        assert bed.records("intent") == []


async def test_another_host_is_refused_on_a_later_request_of_a_kept_connection(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await bed.tunnel(HOST)
        for host, reason in ((HOST, None), ("api.anthropic.com", "DESTINATION_MISMATCH"), (HOST, None)):
            answer = await client.request("POST", "/v1/chat/completions", bed.headers(host=host), chat_body())
            assert (answer.status == 200) == (reason is None)
            assert reason is None or answer.refusal["reason"] == reason


async def test_without_the_guard_the_handshake_for_another_name_is_served(
    tmp_path: Path, provider: Provider, minted: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "hello_fault", lambda *_, **__: None)
    async with running_bed(tmp_path / "s", provider) as bed:
        await bed.tunnel(HOST, sni="api.anthropic.com")
        assert minted == ["api.anthropic.com"]


async def test_without_the_seam_of_the_hello_a_certificate_is_made(
    tmp_path: Path, provider: Provider, minted: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_hello, "REFUSED", "never said")
    monkeypatch.setattr(client_hello, "refuse", lambda client: None)
    async with running_bed(tmp_path / "s", provider) as bed:
        client = await _connected(bed)
        await client.send(_hello("api.anthropic.com"))
        await asyncio.wait_for(client.reader.read(10), 30)
        assert minted == ["api.anthropic.com"]


@pytest.mark.parametrize(
    "first", [b"", b"\x16", b"\x16\x03\x01", b"G", b"POST", b"POST /v1", b"GET / HTTP/1.1\r\nhost:"]
)
def test_what_may_still_become_tls_or_http_is_not_refused(first: bytes) -> None:
    assert first_bytes_fault(first) is None
