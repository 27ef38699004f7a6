"""A door of a gateway that runs elsewhere: its sockets come over the admin socket; it lives as that connection does."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.admin import call_admin, call_admin_with_files
from clawproxy.addons.door_sockets import DoorSockets, open_remote_door
from clawproxy.tokens.errors import ClawproxyError

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, running_bed
from .door_rig import ISOLATED, new_sockets, tcp_listener, udp_socket

LISTEN = {"listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True}}


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _steady_files() -> int:
    """How many are open, once that has not changed for half a second; without what only the collector would close."""
    gc.collect()
    files = [-1, _open_files()]
    while files[-1] != files[-2]:
        await asyncio.sleep(0.5)
        files.append(_open_files())
    return files[-1]


async def _lease(bed: Bed, **more: Any) -> dict[str, Any]:
    path = bed.state / "admin.sock"
    return await call_admin(path, "lease", policy_hash=bed.policy_hash, job_id="caged", **more)


async def test_a_job_is_leased_as_contained_and_its_door_is_open_as_long_as_the_connection(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        lease = await _lease(bed, containment=ISOLATED.to_json())
        assert bed.records("event", "caged")[0]["detail"]["isolation"]["probes"][0]["name"] == "direct-ipv4"
        sockets = new_sockets()
        address = sockets.tcp[0].getsockname()
        door = await open_remote_door(bed.state / "admin.sock", "caged", lease["handle"], sockets)
        assert sockets.tcp[0].fileno() == -1
        reader, writer = await asyncio.open_connection(*address)
        assert await asyncio.wait_for(reader.read(), 30) == b""  # nobody redirected it
        writer.close()
        await door.close()
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection(*address)
                except OSError:
                    break
                writer.close()
                await asyncio.sleep(0.01)


async def test_sealing_the_job_ends_the_door_and_the_client_sees_it(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        lease = await _lease(bed, containment=ISOLATED.to_json())
        door = await open_remote_door(bed.state / "admin.sock", "caged", lease["handle"], new_sockets())
        await call_admin(bed.state / "admin.sock", "seal", job_id="caged")
        await asyncio.wait_for(door.wait_closed(), 30)
        await door.close()


async def test_without_containment_a_lease_is_not_contained(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        await _lease(bed)
        detail = bed.records("event", "caged")[0]["detail"]
        assert (detail["containment"], "isolation" in detail) == ("not contained", False)


@pytest.mark.parametrize(
    "told",
    [
        {"containment": "isolated"},
        {"containment": "very"},
        {"containment": "not contained", "isolation": ISOLATED.to_json()["isolation"]},
        {"containment": "isolated", "isolation": {**ISOLATED.to_json()["isolation"], "more": 1}},
        {"containment": "isolated", "isolation": {**ISOLATED.to_json()["isolation"], "probes": []}},
        {
            "containment": "isolated",
            "isolation": {**ISOLATED.to_json()["isolation"], "probes": [{"name": "dns", "outcome": "reached"}]},
        },
        {"containment": "isolated", "isolation": {**ISOLATED.to_json()["isolation"], "rules_hash_b64u": "x"}},
        {"containment": "isolated", "isolation": {**ISOLATED.to_json()["isolation"], "uid_changed": 1}},
        {"containment": "isolated", "isolation": {**ISOLATED.to_json()["isolation"], "limits": [{"name": "x"}]}},
        "isolated",
    ],
)
async def test_facts_that_are_none_open_no_job(tmp_path: Path, provider: Provider, told: Any) -> None:
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        with pytest.raises(ClawproxyError) as err:
            await _lease(bed, containment=told)
        assert err.value.reason == "INVALID_REQUEST"
        assert not (bed.state / "jobs" / "caged").exists()


async def test_files_that_are_no_sockets_of_a_door_open_nothing_and_none_stays_open(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        lease = await _lease(bed, containment=ISOLATED.to_json())
        path = bed.state / "admin.sock"
        unbound, connected = socket.socket(), socket.socket()
        unix = socket.socket(socket.AF_UNIX)
        tcp, udp, dns = tcp_listener(), udp_socket(), tcp_listener()
        connected.connect(tcp.getsockname())
        null = os.open("/dev/null", os.O_RDONLY)
        good = [tcp.fileno(), udp.fileno(), dns.fileno()]
        one = {"tcp": 1, "dns_udp": 1, "dns_tcp": 1}
        cases: list[tuple[list[int], dict[str, Any]]] = [
            ([null, good[1], good[2]], one),
            ([good[0], null, good[2]], one),
            ([unbound.fileno(), good[1], good[2]], one),
            ([connected.fileno(), good[1], good[2]], one),
            ([unix.fileno(), good[1], good[2]], one),
            ([good[1], good[0], good[2]], one),
            (good[:2], one),
            ([*good, good[0]], one),
            (good, {**one, "tcp": 0}),
            (good, {**one, "tcp": "1"}),
            (good, {"tcp": 1}),
            (good * 2, {**one, "tcp": 5}),
            (good * 8, one),
            (good, {**one, "more": 1}),
        ]
        before = await _steady_files()  # the connection of the lease has ended
        for files, counts in cases:
            with pytest.raises(ClawproxyError):
                await call_admin_with_files(path, "open_door", files, job_id="caged", handle=lease["handle"], **counts)
            await until(lambda: _open_files() <= before)
        with pytest.raises(ClawproxyError) as err:
            await call_admin_with_files(path, "open_door", good, job_id="caged", handle="cph_other", **one)
        assert err.value.reason == "JOB_NOT_FOUND"
        await until(lambda: _open_files() <= before)
        _, writer, _ = await call_admin_with_files(
            path, "open_door", good, job_id="caged", handle=lease["handle"], **one
        )
        writer.close()
        for sock in (unbound, connected, unix):
            sock.close()
        DoorSockets((tcp,), (udp,), (dns,)).close()
        os.close(null)


async def test_who_sends_no_files_is_waited_for_only_so_long(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.addons.admin._FILES_WITHIN_S", 0.1)
    async with running_bed(tmp_path / "s", provider, sections=LISTEN) as bed:
        reader, writer = await asyncio.open_unix_connection(bed.state / "admin.sock")
        writer.write(b'{"op": "open_door", "job_id": "x", "handle": "y"}\n')
        assert json.loads(await reader.readline()) == {"ok": True, "send_files": True}
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        assert (await call_admin(bed.state / "admin.sock", "status"))["jobs"] == []
