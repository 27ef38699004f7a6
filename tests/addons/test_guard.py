"""Every hook, failing in every way, on real sockets: nothing goes where it should not, and it is said once.

These probes can go red: ``test_stock_dispatcher_lets_the_same_request_through`` runs one of them on mitmproxy's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
from clawproxy.addons.guard import CLOSED_WORLD, Dispatch
from mitmproxy import hooks, http, tcp
from mitmproxy.addonmanager import AddonManager
from mitmproxy.connection import Client as ClientConnection
from mitmproxy.proxy import server_hooks
from mitmproxy.test import tflow

from .engine_rig import DONE, EVENT, json_answer, rig, sse

REGULAR = "regular@127.0.0.1:0"


def _raise(data: Any) -> None:
    raise ValueError("prompt text that must not be logged")


def _exit(data: Any) -> None:
    raise SystemExit(3)


async def _hang(data: Any) -> None:
    await asyncio.sleep(60)


async def _deaf(data: Any) -> None:
    """Swallows its cancellation."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return


async def _cancel(data: Any) -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError


WAYS: dict[str, Callable[[Any], Any]] = {
    "raises": _raise,
    "exits": _exit,
    "hangs": _hang,
    "hangs deaf": _deaf,
    "cancelled": _cancel,
}
BEFORE_EGRESS = ("client_connected", "requestheaders", "request", "server_connect")
AFTER_EGRESS = ("server_connected", "seam_watch", "responseheaders", "seam_hold")


def ways(*hooks: str, unbounded: tuple[str, ...] = ("seam_watch", "seam_hold")) -> pytest.MarkDecorator:
    pairs = [(hook, way) for hook in hooks for way in WAYS if not (hook in unbounded and way.startswith("hangs"))]
    return pytest.mark.parametrize(("hook", "way"), pairs)


@ways(*BEFORE_EGRESS)
async def test_fault_before_egress_leaves_the_upstream_untouched(tmp_path: Path, hook: str, way: str) -> None:
    async with rig(tmp_path, json_answer, hook_timeout_s=0.15) as r:
        r.gate.bends[hook] = WAYS[way]
        client = await r.client()
        await client.post()
        answer = await client.rest()
        await r.settled()
        assert r.upstream.requests == []
        assert b"200" not in answer.split(b"\r\n")[0]
        assert [fault.split(":")[0] for fault in r.gate.faults] == [hook]
        assert len(r.gate.errors) == (0 if hook == "client_connected" else 1)


@ways(*AFTER_EGRESS, "response")
@pytest.mark.parametrize("kind", ["json", "stream"])
async def test_fault_after_egress_cuts_the_answer(tmp_path: Path, kind: str, hook: str, way: str) -> None:
    script = json_answer if kind == "json" else sse(EVENT, DONE)
    async with rig(tmp_path, script, hook_timeout_s=0.15) as r:
        r.gate.bends[hook] = WAYS[way]
        client = await r.client()
        await client.post()
        answer = await client.rest()
        await r.settled()
        assert b"[DONE]" not in answer
        assert b"ok" not in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert [fault.split(":")[0] for fault in r.gate.faults] == [hook]
        assert len(r.gate.ends()) == 1 or len(r.gate.errors) == 1


@pytest.mark.parametrize("hook", ["seam_hold", "seam_watch"])
async def test_seam_hook_that_hangs_is_bounded_by_the_seam(tmp_path: Path, hook: str) -> None:
    async with rig(tmp_path, sse(EVENT, DONE), end_deadline_s=1.0) as r:
        r.gate.bends[hook] = _hang
        client = await r.client()
        await client.post()
        if hook == "seam_watch":  # only waits, as it should
            assert b"[DONE]" in await client.chunked()
        else:
            answer = await client.rest()
            assert b"[DONE]" not in answer
            assert r.gate.errors == ["cut by the gateway: held past the deadline"]
        client.close()


async def test_fault_in_the_error_hook_still_ends_the_call_and_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path, sse(EVENT, close=True)) as r:
        r.gate.bends["error"] = _raise
        client = await r.client()
        await client.post()
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert r.gate.faults == ["error:ValueError"]


@pytest.mark.parametrize("way", WAYS)
async def test_fault_in_http_connect_is_answered_403_and_opens_no_tunnel(tmp_path: Path, way: str) -> None:
    async with rig(tmp_path, json_answer, modes=(REGULAR,), hook_timeout_s=0.15) as r:
        r.gate.bends["http_connect"] = WAYS[way]
        client = await r.client()
        client.writer.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 403")
        client.close()


async def test_fault_after_a_killed_flow_that_is_no_longer_killable_still_sends_nothing(tmp_path: Path) -> None:
    def spoil(flow: http.HTTPFlow) -> None:
        flow.live = False
        raise ValueError

    async with rig(tmp_path, json_answer) as r:
        r.gate.bends["request"] = spoil
        client = await r.client()
        await client.post()
        assert await client.rest() == b""
        assert r.upstream.requests == []


async def test_fault_handler_that_fails_too_changes_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        r.gate.bends["request"] = _raise
        r.gate.faults = None  # type: ignore[assignment]  # its hook_fault raises now
        client = await r.client()
        await client.post()
        assert await client.rest() == b""
        assert r.upstream.requests == []


async def test_stock_dispatcher_lets_the_same_request_through(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        manager = r.master._master.addons
        stock = MethodType(AddonManager.handle_lifecycle, manager)
        manager.handle_lifecycle = stock  # type: ignore[method-assign]
        r.gate.bends["request"] = _raise
        client = await r.client()
        await client.post()
        assert (await client.whole()).startswith(b"HTTP/1.1 200")
        assert len(r.upstream.requests) == 1
        client.close()


async def test_what_is_not_http_never_reaches_an_upstream(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as r:
        client = await r.client()
        client.writer.write(b"\x00\x01SSH-2.0-x\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        assert r.upstream.connections == 0


# -- the table itself ----------------------------------------------------------------------------------------------


class _Quiet:
    """Listens to nothing."""


@pytest.mark.parametrize("name", sorted(CLOSED_WORLD & {"tcp_start", "tcp_message", "udp_start"}))
async def test_unjudged_protocol_is_killed_without_any_addon(name: str) -> None:
    flow = tflow.ttcpflow() if name.startswith("tcp") else tflow.tudpflow()
    assert isinstance(flow, tcp.TCPFlow) or name.startswith("udp")
    await Dispatch([_Quiet()], hook_timeout_s=1).handle_lifecycle(hooks.all_hooks[name](flow))
    assert flow.error is not None
    assert flow.messages[-1].content == b""


async def test_websocket_message_is_dropped_without_any_addon() -> None:
    flow = tflow.twebsocketflow()
    await Dispatch([], hook_timeout_s=1).handle_lifecycle(hooks.all_hooks["websocket_message"](flow))
    assert flow.websocket is not None
    assert flow.websocket.messages[-1].dropped


async def test_every_hook_that_mitmproxy_knows_fails_closed_or_only_tells() -> None:
    """A new hook in a new mitmproxy lands on the closed side by itself."""

    class Breaks:
        def __getattr__(self, name: str) -> Any:
            if name == "addons" or name.startswith("_"):
                raise AttributeError
            return _raise

    told: list[str] = []

    class Listens:
        def hook_fault(self, name: str, data: object, error: BaseException) -> None:
            told.append(name)

    dispatch = Dispatch([Breaks(), Listens()], hook_timeout_s=1)
    flow = tflow.tflow()
    names = [name for name, hook in hooks.all_hooks.items() if len(hook.__dataclass_fields__) == 1]  # type: ignore[attr-defined]
    for name in names:
        await dispatch.handle_lifecycle(hooks.all_hooks[name](flow))
    assert told == names
    assert dispatch.running == 0


async def test_news_reaches_every_addon_even_if_one_fails_and_decisions_stop_at_the_first_fault() -> None:
    heard: list[str] = []

    class Fails:
        def error(self, flow: http.HTTPFlow) -> None:
            raise ValueError

        request = error

    class Hears:
        def error(self, flow: http.HTTPFlow) -> None:
            heard.append("error")

        def request(self, flow: http.HTTPFlow) -> None:
            heard.append("request")

    dispatch = Dispatch([Fails(), Hears()], hook_timeout_s=1)
    for name in ("error", "request"):
        await dispatch.handle_lifecycle(hooks.all_hooks[name](tflow.tflow()))
    assert heard == ["error"]


async def test_refused_connection_says_so_in_the_field_that_mitmproxy_reads() -> None:
    class Fails:
        def client_connected(self, data: Any) -> None:
            raise ValueError

        server_connect = tls_start_client = client_connected

    dispatch = Dispatch([Fails()], hook_timeout_s=1)
    client = tflow.tclient_conn()
    assert isinstance(client, ClientConnection)
    await dispatch.handle_lifecycle(server_hooks.ClientConnectedHook(client))
    assert client.error
    data = server_hooks.ServerConnectionHookData(tflow.tserver_conn(), client)
    await dispatch.handle_lifecycle(server_hooks.ServerConnectHook(data))
    assert data.server.error


async def test_messages_of_exceptions_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Fails:
        request = staticmethod(_raise)

    await Dispatch([Fails()], hook_timeout_s=1).handle_lifecycle(hooks.all_hooks["request"](tflow.tflow()))
    assert "hook request" in caplog.text
    assert "prompt text" not in caplog.text
