"""Each guard of a door taken out, in the test's own process: what the other tests look for then happens."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import doors, gate
from clawproxy.addons.connection_limits import peer_of
from clawproxy.addons.connections import Connections, Tunnel
from clawproxy.addons.doors import Door
from clawproxy.addons.redirected import Redirected
from clawproxy.policies.door_names import DoorNames
from clawproxy.receipts.job import Job

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import chat_body, running_bed
from .door_rig import open_door
from .test_redirected import LISTEN
from .test_the_checks_can_fail import Without

CHAT = "/v1/chat/completions"


async def test_without_the_handle_as_its_credential_another_jobs_token_works_at_a_door(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = Door._arrive

    def arrive(self: Door, sock: socket.socket) -> Tunnel | None:
        tunnel = stock(self, sock)
        return None if tunnel is None else replace(tunnel, credential=None)

    monkeypatch.setattr(Door, "_arrive", arrive)
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.tls("api.openai.com")
        fields = rig.headers("api.openai.com") | {"authorization": f"Bearer {bed.token('job-2')}"}
        assert (await client.request("POST", CHAT, fields, chat_body())).status == 200
        assert bed.records("intent", "job-2")


async def test_without_the_table_an_address_that_no_name_has_leads_somewhere(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DoorNames, "name_at", lambda self, address: "api.openai.com")
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.open("", 443, address="198.18.77.7")
        await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), "api.openai.com")
        answer = await client.request("POST", CHAT, rig.headers("api.openai.com"), chat_body())
        assert answer.status == 200


async def test_without_the_ports_a_connection_to_any_of_them_is_read(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DoorNames, "takes", lambda self, name, port: True)
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.tls("api.openai.com", port=8443)
        answer = await client.request("POST", CHAT, rig.headers("api.openai.com:8443"), chat_body())
        assert answer.status >= 400


async def test_without_the_look_at_the_handshake_a_certificate_is_made_for_any_name(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "hello_fault", lambda *_, **__: None)
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        assert await rig.tls("api.openai.com", sni="evil.example")


async def test_without_a_limit_of_its_own_one_door_takes_the_places_of_another(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections, "party", lambda self, client: peer_of(client))
    few = running_bed(tmp_path / "s", provider, max_connections_per_peer=2)
    async with few as bed, open_door(bed, "one") as one, open_door(bed, "two") as two:
        held = [await one.tls("api.openai.com") for _ in range(2)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await two.tls("api.openai.com")
        await held[0].close()


async def test_without_bounds_each_lookup_is_a_record(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "DENIALS_PER_SECOND", 10_000)
    monkeypatch.setattr(doors, "_DENIALS_AT_ONCE", 10_000)
    monkeypatch.setattr(doors, "_TOLD_AGAIN_MS", 0)
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        for _ in range(60):
            await rig.ask("statsig.example")
        await until(lambda: len(bed.records("denial", "caged") + bed.refusals()) > 40)


async def test_without_its_lock_a_job_of_a_namespace_can_be_taken_elsewhere(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.receipts.job.NAMESPACE", "nothing:")
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        await bed.gateway.jobs.rebind("caged", "addr:127.0.0.1")
        assert (await bed.chat(token=rig.handle)).status == 200
        assert isinstance(bed.gateway.jobs.opened("caged"), Job)


async def test_without_a_look_at_who_redirected_it_a_direct_connection_is_served(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arrive(self: Any, sock: Any) -> Any:
        return Tunnel("", self._destination_of(sock)[1], None, "transparent")

    monkeypatch.setattr(Redirected, "arrive", arrive)
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        bed.gateway.destination_of = lambda sock: sock.getsockname()[:2]
        client = await bed.client("transparent")
        answer = await client.request("GET", "/", {"host": "evil.example"})
        assert answer.status >= 400
        assert answer.refusal["reason"] != "CONNECTION_REFUSED"


async def test_without_the_last_lock_the_engine_dials_the_name_that_a_connection_stands_for(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[Any] = []
    stock = gate.Gate.server_connect

    def note(self: gate.Gate, data: Any) -> None:
        dialled.append(data.server.address)
        data.server.error = "the test ends it here"

    def locked(self: gate.Gate, data: Any) -> None:
        stock(self, data)
        assert data.server.error == "no decided call goes there"

    steps: dict[str, Any] = {"wrap_steps": lambda real: Without(real, forward=lambda call: None)}
    for number, hook in enumerate((note, locked)):
        monkeypatch.setattr(gate.Gate, "server_connect", hook)
        async with running_bed(tmp_path / f"s{number}", provider, **steps) as bed, open_door(bed) as rig:
            before = len(provider.seen())
            client = await rig.tls("api.openai.com")
            answer = await client.request("POST", CHAT, rig.headers("api.openai.com"), chat_body())
            assert answer.status != 200
            assert len(provider.seen()) == before
    assert dialled == [("api.openai.com", 443)]  # by name, never the address of the table
