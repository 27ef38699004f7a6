"""Each guard of the gate taken out, in the test's own process: what the other tests look for then happens.

A test that stays green without its guard tests nothing. Here the guard is gone, and the provider (or the agent) sees
what it must not see.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import gate
from clawproxy.addons.call import Call
from clawproxy.addons.connections import Tunnel
from clawproxy.addons.ending import start_of

from ..clawproxy.standin_process import Provider
from .bed import chat_body, running_bed


class Without:
    """The real steps, but for those that a test replaces."""

    def __init__(self, real: Any, **replaced: Any) -> None:
        self._real = real
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _pass(_call: Call) -> None:
    return None


async def test_without_decide_a_forbidden_model_reaches_the_provider(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, wrap_steps=lambda real: Without(real, decide=_pass)) as bed:
        before = len(provider.seen())
        assert (await bed.chat(model="gpt-5")).status == 200
        assert len(provider.seen()) == before + 1


async def test_without_forward_the_clients_token_reaches_the_provider(tmp_path: Path, provider: Provider) -> None:
    def point_only(call: Call) -> None:
        assert call.match is not None
        request, target = call.flow.request, call.match.provider
        request.scheme, request.host, request.port, request.path = (
            target.scheme,
            target.host,
            target.port,
            "/v1/messages",
        )
        call.destination = (target.host, target.port)

    async with running_bed(tmp_path / "s", provider, wrap_steps=lambda real: Without(real, forward=point_only)) as bed:
        await bed.chat()
        seen = provider.seen()[-1]
        assert seen["credential"] != "right"
        assert seen["leaks"] != []


async def test_without_observe_an_echoed_credential_reaches_the_agent(tmp_path: Path, provider: Provider) -> None:
    secret = provider.key("openai").encode()

    def blind(real: Any) -> Without:
        def observe(call: Call) -> None:
            real.observe(call)
            call.credential = ""

        return Without(real, observe=observe)

    async with running_bed(tmp_path / "s", provider, wrap_steps=blind) as bed:
        assert secret in (await bed.chat("echo-credential")).body


async def test_without_attest_the_answer_ends_before_its_receipt(tmp_path: Path, provider: Provider) -> None:
    async def release(call: Call) -> None:
        call.release = True

    async with running_bed(tmp_path / "s", provider, wrap_steps=lambda real: Without(real, attest=release)) as bed:
        answer = await bed.chat("events:3", stream=True)
        assert answer.complete
        assert bed.records("receipt") == []


async def test_without_the_wait_for_the_intent_the_provider_is_called_before_it_is_durable(
    tmp_path: Path, provider: Provider
) -> None:
    late: list[int] = []

    def hasty(real: Any) -> Without:
        async def intend(call: Call) -> None:
            call.credential = provider.key("openai")
            assert call.job is not None
            task = asyncio.ensure_future(call.job.intend(start_of(call)))
            await asyncio.sleep(0)
            late.append(len([line for line in bed.lines() if line["t"] == "intent"]))
            call.intended = await task

        return Without(real, intend=intend)

    async with running_bed(tmp_path / "s", provider, wrap_steps=hasty) as bed:
        await bed.chat()
    assert late == [0], "the file had the intent before intend returned, so the wait proves nothing"


async def test_without_the_name_checks_another_host_inside_a_tunnel_is_served(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "hello_fault", lambda *_, **__: None)

    def trusting(real: Any) -> Without:
        def admit(call: Call) -> Any:
            client = call.flow.client_conn
            sni = client.sni or ""
            real._connections.open(client, Tunnel(sni, 443, None))
            call.flow.request.host = sni
            call.flow.request.headers["host"] = sni
            return real.admit(call)

        return Without(real, admit=admit)

    async with running_bed(tmp_path / "s", provider, wrap_steps=trusting) as bed:
        client = await bed.tunnel("api.openai.com", sni="api.anthropic.com")
        body = chat_body()
        answer = await client.request("POST", "/v1/chat/completions", bed.headers(host="api.openai.com"), body)
        assert answer.refusal["reason"] != "DESTINATION_MISMATCH"
