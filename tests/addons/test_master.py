"""Listeners, TLS, drain and stop of the engine, and what it refuses to start with."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.ca import CA_FILE, ensure_ca
from clawproxy.addons.master import EngineOptions, GatewayMaster
from clawproxy.tokens.errors import ClawproxyError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy import ctx

from ..waiting import until
from .engine_rig import DONE, EVENT, Client, json_answer, rig, sse

REVERSE = "reverse:http://127.0.0.1:9@127.0.0.1:0"
REGULAR = "regular@127.0.0.1:0"


def _options(tmp_path: Path, *modes: str, **more: Any) -> EngineOptions:
    return EngineOptions(modes=modes or (REVERSE,), confdir=tmp_path, max_body_bytes=1000, **more)


# -- listeners -----------------------------------------------------------------------------------------------------


async def test_both_listeners_get_free_ports_and_their_addresses_in_order(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer, modes=(REVERSE, REGULAR)) as r:
        reverse, regular = r.master.addresses()
        assert reverse[0] == regular[0] == "127.0.0.1"
        assert len({reverse[1], regular[1], 0}) == 3
        for listener in (0, 1):
            client = await r.client(listener)
            target = "/v1/x" if listener == 0 else "http://api.test/v1/x"
            client.writer.write(f"POST {target} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            assert (await client.whole()).startswith(b"HTTP/1.1 200")
            client.close()


async def test_port_in_use_is_one_clear_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mode = f"reverse:http://127.0.0.1:9@127.0.0.1:{taken.getsockname()[1]}"
        master = GatewayMaster.build(_options(tmp_path, mode, REGULAR), [])
        with pytest.raises(ClawproxyError) as caught:
            await master.start()
    assert caught.value.reason == "PORT_IN_USE"
    assert mode in str(caught.value)
    assert caught.value.remedy
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert master.addresses() == ()


async def test_address_that_is_not_ours_is_one_clear_error(tmp_path: Path) -> None:
    master = GatewayMaster.build(_options(tmp_path, "regular@192.0.2.1:8080"), [])
    with pytest.raises(ClawproxyError) as caught:
        await master.start()
    assert caught.value.reason == "ADDRESS_UNUSABLE"


@pytest.mark.parametrize("modes", [("nonsense",), ("regular@127.0.0.1:8080", "socks5@127.0.0.1:8080")])
async def test_listen_address_that_mitmproxy_refuses_is_one_clear_error(tmp_path: Path, modes: tuple[str, ...]) -> None:
    with pytest.raises(ClawproxyError) as caught:
        GatewayMaster.build(_options(tmp_path, *modes), [])
    assert caught.value.reason == "ENGINE_OPTIONS"


class _FailsAt:
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)

    def _fail(self, *args: Any) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("hook", ["configure", "running"])
async def test_addon_that_fails_at_the_start_ends_the_start(tmp_path: Path, hook: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        await GatewayMaster.build(_options(tmp_path), [_FailsAt(hook)]).start()
    assert caught.value.reason == "ADDON_FAILED"


@pytest.mark.parametrize(
    ("name", "value"),
    [("validate_inbound_headers", False), ("ssl_insecure", True), ("rawtcp", True), ("connection_strategy", "eager")],
)
async def test_engine_does_not_start_with_a_guard_of_mitmproxy_turned_off(
    tmp_path: Path, name: str, value: Any
) -> None:
    class Loosens:
        def configure(self, updated: set[str]) -> None:
            if "mode" in updated:
                ctx.options.update_known(**{name: value})  # type: ignore[no-untyped-call]

    with pytest.raises(ClawproxyError) as caught:
        GatewayMaster.build(_options(tmp_path), [Loosens()])
    assert caught.value.reason == "ENGINE_OPTIONS"
    assert name in str(caught.value)


# -- TLS -----------------------------------------------------------------------------------------------------------


def test_ca_is_made_once_with_an_ec_key_that_only_we_can_read(tmp_path: Path) -> None:
    cert_path = ensure_ca(tmp_path / "ca")
    key_path = tmp_path / "ca" / CA_FILE
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in cert_path.read_bytes()
    certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    before = key_path.read_bytes()
    assert ensure_ca(tmp_path / "ca") == cert_path
    assert key_path.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == ["mitmproxy-ca-cert.pem", CA_FILE]


def test_ca_key_open_to_others_or_unreadable_is_refused(tmp_path: Path) -> None:
    ensure_ca(tmp_path)
    (tmp_path / CA_FILE).chmod(0o640)
    with pytest.raises(ClawproxyError, match="open to others"):
        ensure_ca(tmp_path)
    (tmp_path / CA_FILE).chmod(0o600)
    (tmp_path / CA_FILE).write_text("not pem")
    with pytest.raises(ClawproxyError) as caught:
        ensure_ca(tmp_path)
    assert caught.value.reason == "CA_UNUSABLE"


async def _tls(r: Any, client: Client, name: str) -> Client:
    context = ssl.create_default_context(cafile=r.master.ca_cert_path)
    await client.writer.start_tls(context, server_hostname=name)
    return client


@pytest.mark.parametrize("proxy_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_tunnel_is_opened_with_our_certificate_and_holds_ends_too(tmp_path: Path, proxy_tls: bool) -> None:
    go = asyncio.Event()
    async with rig(tmp_path, sse(EVENT, go, DONE), modes=(REVERSE, REGULAR)) as r:
        client = await r.client(1)
        if proxy_tls:
            await _tls(r, client, "127.0.0.1")
        client.writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        if proxy_tls:  # TLS in TLS is beyond asyncio's start_tls
            client.close()
            return
        await _tls(r, client, "api.test")
        for _ in range(3):
            go.clear()
            await client.post()
            answer = await client.until(EVENT)
            go.set()
            answer += await client.until(b"0\r\n\r\n")
            assert answer.endswith(DONE + b"\r\n0\r\n\r\n")
        go.clear()
        await client.post()
        await client.until(EVENT)
        r.gate.watches[-1].stop = "test"
        r.gate.watches[-1].over.set()
        assert b"[DONE]" not in await client.rest()
        assert r.gate.ends() == ["response"] * 3 + ["error"]
        assert r.gate.errors == ["cut by the gateway: stopped"]


async def test_reverse_listener_speaks_tls_as_well(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await _tls(r, await r.client(), "127.0.0.1")
        await client.post()
        assert (await client.whole()).startswith(b"HTTP/1.1 200")
        client.close()


async def test_upstream_with_a_certificate_of_its_own_is_not_believed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    ensure_ca(other)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(other / CA_FILE)
    reached: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
    async with rig(tmp_path / "ours", json_answer) as r:

        def https(flow: Any) -> None:
            flow.request.scheme = "https"
            flow.request.port = server.sockets[0].getsockname()[1]

        r.gate.bends["request"] = https
        client = await r.client()
        await client.post()
        assert (await client.rest()).startswith(b"HTTP/1.1 502")
        assert reached == []
    server.close()


# -- the end -------------------------------------------------------------------------------------------------------


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


async def test_drain_closes_the_listener_and_lets_the_open_call_finish(tmp_path: Path) -> None:
    closed = asyncio.Event()
    async with rig(tmp_path, sse(EVENT, closed, DONE)) as r:
        client = await r.client()
        await client.post()
        await client.until(EVENT)
        address = r.master.addresses()[0]
        drained = asyncio.create_task(r.master.drain(30, lambda: bool(r.gate.ends())))
        await until(lambda: not _listens(address))
        closed.set()
        assert b"[DONE]" in await client.until(b"0\r\n\r\n")
        assert await drained
        client.close()


async def test_drain_gives_up_at_its_deadline(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        assert not await r.master.drain(0.1, lambda: False)


async def test_stop_gives_every_open_call_its_error_hook_before_the_addons_end(tmp_path: Path) -> None:
    done: list[int] = []

    async def slow_record(flow: Any) -> None:
        await asyncio.sleep(0.2)
        done.append(1)

    async with rig(tmp_path, sse(EVENT, asyncio.Event(), DONE)) as r:
        r.gate.bends["error"] = slow_record
        clients = [await r.client() for _ in range(5)]
        for client in clients:
            await client.post()
            await client.until(EVENT)
        await r.master.stop(5)
        assert done == [1] * 5
        assert r.gate.errors == ["Client disconnected."] * 5
        assert r.master.connection_count == 0
        for client in clients:
            assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_engine_can_be_built_again_after_a_stop(tmp_path: Path) -> None:
    for _ in range(2):
        async with rig(tmp_path, json_answer) as r:
            client = await r.client()
            await client.post()
            assert (await client.whole()).startswith(b"HTTP/1.1 200")
            client.close()
