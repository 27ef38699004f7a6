"""The resolver and the dial: what is judged is what is dialled, and nothing else ever is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from clawproxy.addons import dial
from clawproxy.addons.dial import Resolver
from clawproxy.tokens.reasons import Refusal
from mitmproxy.proxy import server

from .engine_rig import json_answer, rig

HOST = ("provider.example", 443)


class Dns:
    """Answers in order, the last one for ever; counts."""

    def __init__(self, *answers: Sequence[str] | BaseException) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        await asyncio.sleep(0)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_host_is_asked_for_once_in_a_while() -> None:
    dns, clock = Dns(["1.1.1.1", "1.0.0.1", "1.1.1.1"]), Clock()
    resolver = Resolver(resolve=dns, clock_s=clock)
    assert resolver.known(HOST) is None
    assert await resolver.look_up(HOST) == ("1.1.1.1", "1.0.0.1")
    assert resolver.known(HOST) == ("1.1.1.1", "1.0.0.1")
    clock.now_s = dial.CACHE_S
    assert resolver.known(HOST) is None
    assert dns.asked == [HOST]


async def test_one_private_address_among_public_ones_refuses_the_host() -> None:
    resolver = Resolver(resolve=Dns(["1.1.1.1", "10.0.0.1"]))
    refusal = await resolver.look_up(HOST)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.step, refusal.status) == ("DESTINATION_REFUSED", "intend", 403)
    assert refusal.detail == "private"
    assert resolver.known(HOST) is None


async def test_a_configured_host_may_be_private_but_never_a_metadata_service() -> None:
    resolver = Resolver(frozenset({HOST}), resolve=Dns(["10.0.0.1"], ["169.254.169.254"]))
    assert await resolver.look_up(HOST) == ("10.0.0.1",)
    refused = await resolver.look_up(HOST)
    assert isinstance(refused, Refusal)
    other = await Resolver(frozenset({HOST}), resolve=Dns(["10.0.0.1"])).look_up(("provider.example", 8443))
    assert isinstance(other, Refusal)


@pytest.mark.parametrize("fault", [OSError("no such host"), UnicodeError("label too long")])
async def test_a_name_that_does_not_resolve_is_unreachable(fault: Exception) -> None:
    refusal = await Resolver(resolve=Dns(fault)).look_up(HOST)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.step) == ("UPSTREAM_UNREACHABLE", "intend")


async def test_a_resolver_that_hangs_is_not_waited_for_and_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "LOOKUP_TIMEOUT_S", 0.02)
    asked: list[str] = []
    answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()

    async def hang(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return await answer

    resolver = Resolver(resolve=hang)
    refusals = await asyncio.gather(*(resolver.look_up(HOST) for _ in range(5)), resolver.look_up(HOST))
    assert {getattr(refusal, "detail", "") for refusal in refusals} == {"no answer in time"}
    assert asked == ["provider.example"]
    answer.set_result(["1.1.1.1"])


async def test_no_more_addresses_are_kept_than_are_dialled_and_all_are_judged() -> None:
    many = [f"1.1.1.{n}" for n in range(1, 40)]
    kept = await Resolver(resolve=Dns(many)).look_up(HOST)
    assert kept == tuple(many[: dial.MAX_ADDRESSES])
    assert isinstance(await Resolver(resolve=Dns([*many, "127.0.0.1"])).look_up(HOST), Refusal)
    assert isinstance(await Resolver(resolve=Dns([f"1.1.2.{n}" for n in range(100)])).look_up(HOST), Refusal)
    assert isinstance(await Resolver(resolve=Dns([])).look_up(HOST), Refusal)


async def test_the_cache_is_bounded() -> None:
    resolver = Resolver(resolve=Dns(["1.1.1.1"]))
    for n in range(600):
        await resolver.look_up((f"h{n}.example", 443))
    assert len(resolver._known) <= 256
    assert resolver.known(("h599.example", 443))


async def test_the_systems_resolver_takes_an_address_for_itself() -> None:
    assert set(await dial.own_threads()("127.0.0.1", 443)) == {"127.0.0.1"}


# -- the dial ------------------------------------------------------------------------------------------------------


async def _listener() -> tuple[asyncio.Server, int, list[int]]:
    seen: list[int] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        writer.close()

    server_ = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server_, server_.sockets[0].getsockname()[1], seen


def _revoke(_data: object) -> None:
    dial._permit.set(None)


async def test_a_dial_without_a_permit_opens_nothing() -> None:
    listener, port, seen = await _listener()
    async with listener:
        with pytest.raises(dial.NotPermittedError):
            await dial.open_connection("127.0.0.1", port)
        dial.permit(("other.example", port), ("127.0.0.1",))
        with pytest.raises(dial.NotPermittedError):
            await dial.open_connection("127.0.0.1", port)
        dial.permit(("127.0.0.1", port), ("127.0.0.1",))
        with pytest.raises(dial.NotPermittedError):
            await dial.open_connection("127.0.0.1", port, local_addr=("127.0.0.1", 0))
        await asyncio.sleep(0.02)
        assert seen == []


async def test_a_permit_serves_once_and_its_addresses_are_tried_in_order() -> None:
    listener, port, _ = await _listener()
    async with listener:
        dial.permit(("provider.example", port), ("127.0.0.2", "127.0.0.1"))
        _, writer = await dial.open_connection("provider.example", port)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        with pytest.raises(dial.NotPermittedError):
            await dial.open_connection("provider.example", port)


async def test_a_name_in_a_permit_is_not_resolved() -> None:
    dial.permit(("provider.example", 9), ("localhost",))
    with pytest.raises(OSError, match=r"not known|not supported|Name|service"):
        await dial.open_connection("provider.example", 9)


async def test_the_engine_dials_only_what_a_hook_permitted(tmp_path: Path) -> None:
    """The hook and the dial of mitmproxy run in one task; a connection that no hook permitted is not opened."""
    async with rig(tmp_path, json_answer) as running:
        assert dial.is_installed()
        client = await running.client()
        await client.post()
        assert b'{"ok":true}' in await client.whole()
        running.gate.bends["server_connect"] = _revoke
        other = await running.client()
        await other.post()
        assert b" 502 " in await other.head()
        assert running.upstream.connections == 1
        client.close()
        other.close()


async def test_without_the_dial_the_engine_connects_where_no_hook_permitted_it(tmp_path: Path) -> None:
    async with rig(tmp_path, json_answer) as running:
        dial.uninstall()
        try:
            running.gate.bends["server_connect"] = _revoke
            client = await running.client()
            await client.post()
            assert b'{"ok":true}' in await client.whole()
        finally:
            dial.install()
        client.close()


def test_installing_twice_changes_nothing() -> None:
    dial.install()
    first = server.asyncio  # type: ignore[attr-defined]
    dial.install()
    assert server.asyncio is first  # type: ignore[attr-defined]
