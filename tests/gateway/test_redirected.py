"""The transparent listener of a host: the name is the handshake's, the token the call's, the address nobody's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.errors import ClawproxyError

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, Bed, chat_body, make_state, running_bed
from .namespace_rig import hosted, needs_namespaces
from .raw_client import RawClient
from .tool_server import tool_server

LISTEN = {
    "listen": {"reverse": "", "regular": "127.0.0.1:0", "transparent": "127.0.0.1:0", "admin": False},
}
CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def redirecting(
    tmp_path: Path, provider: Provider, destination: Callable[[socket.socket], tuple[str, int]], **more: Any
) -> AsyncIterator[Bed]:
    async with running_bed(tmp_path / "s", provider, **{"sections": LISTEN, **more}) as bed:
        bed.gateway.destination_of = destination
        yield bed


async def _open(bed: Bed, sni: str | None = None) -> RawClient:
    client = await bed.client("transparent")
    if sni is not None:
        await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), sni)
    return client


def _to(address: str, port: int) -> Callable[[socket.socket], tuple[str, int]]:
    return lambda _: (address, port)


def _fields(bed: Bed, host: str, **more: str) -> dict[str, str]:
    return {"host": host, "content-type": "application/json", "authorization": f"Bearer {bed.token()}", **more}


async def test_a_call_to_a_providers_name_passes_whatever_the_address(tmp_path: Path, provider: Provider) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443)) as bed:
        client = await _open(bed, "api.openai.com")
        answer = await client.request("POST", CHAT, _fields(bed, "api.openai.com"), chat_body())
        assert answer.status == 200, answer.body
        detail = bed.records("intent")[0]["detail"]
        assert (detail["way_in"], detail["presenter"]) == ("transparent", "addr:127.0.0.1")
        assert bed.records("event")[0]["detail"]["containment"] == "not attested"
        await bed.gateway.seal("job-1")
        assert verify_path(bed.state / "jobs" / "job-1", bed.trust()).verdict is Verdict.VERIFIED


async def test_a_token_is_needed_and_no_host_is_told_apart_without_one(tmp_path: Path, provider: Provider) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443)) as bed:
        for host in ("api.openai.com", "evil.example"):
            client = await _open(bed, host)
            answer = await client.request("POST", CHAT, {"host": host, "content-type": "application/json"}, b"{}")
            assert answer.refusal["reason"] == "TOKEN_REQUIRED"


async def test_a_host_that_the_contract_does_not_list_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443)) as bed:
        client = await _open(bed, "evil.example")
        fields = _fields(bed, "evil.example") | {"x-cst": bed.token()}
        answer = await client.request("GET", "/", fields)
        assert answer.refusal["reason"] == "EGRESS_NOT_ALLOWED"
        assert bed.records("denial")[0]["destination"] == "evil.example:443"


@pytest.mark.parametrize(("sni", "host"), [("api.openai.com", "api.anthropic.com"), ("evil.example", "api.openai.com")])
async def test_server_name_and_host_must_agree(tmp_path: Path, provider: Provider, sni: str, host: str) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443)) as bed:
        before = len(provider.seen())
        client = await _open(bed, sni)
        answer = await client.request("POST", CHAT, _fields(bed, host) | {"x-cst": bed.token()}, chat_body())
        assert answer.refusal["reason"] == "DESTINATION_MISMATCH"
        assert len(provider.seen()) == before


@pytest.mark.parametrize("sni", ["10.0.0.1", "API.OPENAI.COM", "a..b", "localhost."])
async def test_a_handshake_for_what_is_no_name_ends_there(tmp_path: Path, provider: Provider, sni: str) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443)) as bed:
        outgoing = ssl.MemoryBIO()
        context = ssl.create_default_context()
        tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a" * len(sni))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        client = await _open(bed)
        await client.send(outgoing.read().replace(b"a" * len(sni), sni.encode()))
        assert not (await client.rest()).startswith(b"\x16\x03")
        assert [d["reason"] for d in bed.refusals()] == ["DESTINATION_MISMATCH"]


async def test_the_port_is_that_of_the_connection(tmp_path: Path, provider: Provider) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 8443)) as bed:
        client = await _open(bed, "api.openai.com")
        answer = await client.request("POST", CHAT, _fields(bed, "api.openai.com:8443"), chat_body())
        assert answer.refusal["reason"] == "ROUTE_NOT_FOUND"


async def test_a_connection_that_nobody_redirected_is_closed_at_once(tmp_path: Path, provider: Provider) -> None:
    def unknown(_: socket.socket) -> tuple[str, int]:
        raise OSError

    for destination in (unknown, lambda sock: sock.getsockname()[:2]):
        async with redirecting(tmp_path / destination.__name__, provider, destination) as bed:
            client = await _open(bed)
            with contextlib.suppress(ConnectionError):
                await client.send(b"GET / HTTP/1.1\r\nhost: api.openai.com\r\n\r\n")
            assert await client.rest() == b""
            await until(bed.refusals)
            assert [(d["reason"], d["way_in"]) for d in bed.refusals()] == [("CONNECTION_REFUSED", "transparent")]


async def test_a_listener_for_both_families_knows_its_own_address_in_either(tmp_path: Path, provider: Provider) -> None:
    def as_the_kernel_tells(sock: socket.socket) -> tuple[str, int]:
        address, port = sock.getsockname()[:2]
        return address.removeprefix("::ffff:"), port

    anywhere = {"listen": {**LISTEN["listen"], "transparent": "[::]:0", "allow_plain_remote": True}}
    async with redirecting(tmp_path, provider, as_the_kernel_tells, sections=anywhere) as bed:
        port = urlsplit(bed.gateway.addresses["transparent"]).port
        for host in ("127.0.0.1", "::1"):
            client = RawClient(*await asyncio.open_connection(host, port))
            bed.clients.append(client)
            with contextlib.suppress(ConnectionError):
                await client.send(b"GET / HTTP/1.1\r\nhost: api.openai.com\r\n\r\n")
            assert await client.rest() == b"", host
        await until(lambda: len(bed.refusals()) == 2)
        assert [d["reason"] for d in bed.refusals()] == ["CONNECTION_REFUSED"] * 2


async def test_plain_http_to_a_listed_host_passes_and_to_any_other_is_answered(
    tmp_path: Path, provider: Provider
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with tool_server(Path(provider.ca).parent) as tool:
        listed = [{"host": "localhost", "port": tool.plain_port, "scheme": "http", "paths": ["/plain"]}]
        sections = {**LISTEN, "egress_private": [f"localhost:{tool.plain_port}"]}
        contract = {**CONTRACT, "egress_allowlist": listed}
        here = _to("203.0.113.9", tool.plain_port)
        async with redirecting(tmp_path, provider, here, contract=contract, sections=sections, resolve=resolve) as bed:
            fields = {"x-cst": bed.token()}
            client = await _open(bed)
            host = f"localhost:{tool.plain_port}"
            answer = await client.request("GET", "/plain", {**fields, "host": host})
            assert (answer.status, answer.body) == (200, b"hello")
            assert tool.header("x-cst") == []
            for other, reason in (
                ("evil.example", "DESTINATION_MISMATCH"),
                (f"evil.example:{tool.plain_port}", "EGRESS_NOT_ALLOWED"),
                ("169.254.169.254", "DESTINATION_MISMATCH"),
                (f"api.openai.com:{tool.plain_port}", "TLS_REQUIRED"),
            ):
                client = await _open(bed)
                answer = await client.request("GET", "/plain", {**fields, "host": other})
                assert answer.refusal["reason"] == reason, other
            assert tool.connections == 1


@pytest.mark.parametrize("first", [b"SSH-2.0-x\r\n", b"\x00\x01", b"\x05\x01\x00"])
async def test_what_is_neither_tls_nor_http_ends_at_once(tmp_path: Path, provider: Provider, first: bytes) -> None:
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 22)) as bed:
        client = await _open(bed)
        await client.send(first)
        assert await client.rest() == b""
        await until(bed.refusals)
        assert [d["reason"] for d in bed.refusals()] == ["PROTOCOL_REFUSED"]


async def test_it_can_be_the_only_listener_and_says_where_it_cannot_listen(tmp_path: Path, provider: Provider) -> None:
    alone = {"listen": {"reverse": "", "regular": "", "transparent": "127.0.0.1:0", "admin": False}}
    async with redirecting(tmp_path, provider, _to("203.0.113.9", 443), sections=alone) as bed:
        assert list(bed.gateway.addresses) == ["transparent"]
        client = await _open(bed, "api.openai.com")
        answer = await client.request("POST", CHAT, _fields(bed, "api.openai.com"), chat_body())
        assert answer.status == 200
        port = urlsplit(bed.gateway.addresses["transparent"]).port
        make_state(tmp_path / "other", CONTRACT)
        document = {
            "gateway": {"state_dir": str(tmp_path / "other")},
            "listen": {"reverse": "", "regular": "", "transparent": f"127.0.0.1:{port}"},
        }
        with pytest.raises(ClawproxyError, match="PORT_IN_USE"):
            await Gateway(parse_settings(document, where="test")).start()


@needs_namespaces
async def test_a_rule_of_the_host_brings_an_sdk_here_and_a_direct_connection_gets_nothing(
    tmp_path: Path, provider: Provider
) -> None:
    script = """
import json, os, socket, openai
answer = openai.OpenAI(api_key=os.environ["TOKEN"]).chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
direct = socket.create_connection(("127.0.0.1", 8082), 30)
direct.settimeout(30)
try:
    direct.sendall(b"GET / HTTP/1.1\\r\\nhost: api.openai.com\\r\\n\\r\\n")
    got = direct.recv(10).decode()
except OSError:
    got = ""
print(json.dumps([bool(answer.choices[0].message.content), got]))
"""
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed, hosted(bed, tmp_path / "host") as inside:
        told = await inside.run(script, SSL_CERT_FILE=str(bed.gateway.ca_file), TOKEN=bed.token())
        assert json.loads(told.splitlines()[-1]) == [True, ""]
        assert bed.records("intent")[0]["detail"]["way_in"] == "transparent"
        await until(bed.refusals)
        assert [d["reason"] for d in bed.refusals()] == ["CONNECTION_REFUSED"]
