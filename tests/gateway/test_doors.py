"""What comes by a job's door is judged as what comes by a tunnel, for the job of the door and no other."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from pathlib import Path

import pytest
from clawproxy.addons.original_destination import original_destination
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.errors import ClawproxyError

from ..clawproxy.standin_process import Provider
from .bed import chat_body, running_bed
from .door_rig import new_sockets, open_door
from .raw_client import RawClient

CHAT = "/v1/chat/completions"


async def test_a_call_needs_no_token_of_its_own_and_is_the_jobs(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with open_door(bed) as rig:
            client = await rig.tls("api.openai.com")
            answer = await client.request("POST", CHAT, rig.headers("api.openai.com"), chat_body())
            assert answer.status == 200, answer.body
        await bed.gateway.seal("caged")
        (intent,) = [e["detail"] for e in bed.records("intent", "caged")]
        assert (intent["way_in"], intent["presenter"]) == ("transparent", "namespace:caged")
        opened = bed.records("event", "caged")[0]["detail"]
        assert opened["containment"] == "isolated"
        assert opened["presenter_strength"] == "network-namespace"
        report = verify_path(bed.state / "jobs" / "caged", bed.trust())
        assert report.verdict is Verdict.VERIFIED, report


@pytest.mark.parametrize(
    ("address", "port", "shown"),
    [
        ("198.18.77.7", 443, "198.18.77.7:443"),  # of the range, without a name
        ("fd63:6c61:7770:1::ffff", 443, "[fd63:6c61:7770:1::ffff]:443"),
        ("169.254.169.254", 80, "169.254.169.254:80"),
        ("198.18.0.1", 8082, "198.18.0.1:8082"),  # the door itself
        (None, 8443, "api.openai.com:8443"),
        (None, 22, "api.openai.com:22"),
    ],
)
async def test_a_connection_to_anything_else_is_closed_at_once_with_a_denial_in_the_job(
    tmp_path: Path, provider: Provider, address: str | None, port: int, shown: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.open("api.openai.com", port, address=address)
        assert await client.rest() == b""
        (denial,) = await rig.denials()
        assert (denial["reason"], denial["step"], denial["destination"]) == ("CONNECTION_REFUSED", "admit", shown)
        assert (denial["presenter"], denial["way_in"]) == ("namespace:caged", "transparent")
        assert bed.refusals() == []


async def test_a_connection_that_nobody_redirected_is_closed_at_once(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        rig.door._destination_of = original_destination
        client = await rig.open("api.openai.com")
        assert await client.rest() == b""
        assert (await rig.denials())[0]["reason"] == "CONNECTION_REFUSED"


@pytest.mark.parametrize(
    ("sni", "host"),
    [
        ("api.anthropic.com", "api.openai.com"),
        ("api.openai.com", "api.anthropic.com"),
        ("evil.example", "evil.example"),
    ],
)
async def test_server_name_host_and_destination_must_agree(
    tmp_path: Path, provider: Provider, sni: str, host: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        before = len(provider.seen())
        if sni != "api.openai.com":
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await rig.tls("api.openai.com", sni=sni)
        else:
            client = await rig.tls("api.openai.com")
            answer = await client.request("POST", CHAT, rig.headers(host), chat_body())
            assert answer.refusal["reason"] == "DESTINATION_MISMATCH"
        (denial,) = await rig.denials()
        assert denial["reason"] == "DESTINATION_MISMATCH"
        assert len(provider.seen()) == before


async def test_the_token_of_another_job_is_refused_and_the_denial_is_the_doors_jobs(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        other = await bed.gateway.lease(bed.policy_hash, "other")
        async with open_door(bed) as rig:
            for wrong in (bed.token("job-2"), other.handle, "cph_" + "x" * 43):
                client = await rig.tls("api.openai.com")
                fields = rig.headers("api.openai.com") | {"authorization": f"Bearer {wrong}"}
                answer = await client.request("POST", CHAT, fields, chat_body())
                assert answer.refusal["reason"] == "TOKEN_AMBIGUOUS"
            found = await rig.denials(3)
            assert [d["reason"] for d in found] == ["TOKEN_AMBIGUOUS"] * 3
            assert bed.refusals() == []
            client = await rig.tls("api.openai.com")
            own = rig.headers("api.openai.com") | {"authorization": f"Bearer {rig.handle}"}
            assert (await client.request("POST", CHAT, own, chat_body())).status == 200


async def test_the_handle_is_worth_nothing_on_any_other_way_in(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        answer = await bed.chat(token=rig.handle)
        assert answer.refusal["reason"] == "PRESENTER_MISMATCH"
        tunnel = await bed.tunnel("api.openai.com", credential=base64.b64encode(f"x:{rig.handle}".encode()).decode())
        answer = await tunnel.request("POST", CHAT, rig.headers("api.openai.com"), chat_body())
        assert answer.refusal["reason"] == "PRESENTER_MISMATCH"
        assert [d["reason"] for d in await rig.denials(2)] == ["PRESENTER_MISMATCH"] * 2


async def test_a_job_of_a_namespace_is_not_bound_to_anything_else(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed):
        for to in (None, "addr:127.0.0.1"):
            with pytest.raises(ClawproxyError) as err:
                await bed.gateway.jobs.rebind("caged", to)
            assert err.value.reason == "PRESENTER_MISMATCH"


@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\x00\x01\x02\x03", b"\x05\x01\x00", b"EHLO there\r\n"])
async def test_what_is_neither_tls_nor_http_ends_at_once(tmp_path: Path, provider: Provider, first: bytes) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.open("api.openai.com")
        await client.send(first)
        assert await client.rest() == b""
        (denial,) = await rig.denials()
        assert (denial["reason"], denial["destination"]) == ("PROTOCOL_REFUSED", "api.openai.com:443")


async def test_tls_inside_tls_ends_there(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.tls("api.openai.com")
        outgoing = ssl.MemoryBIO()
        context = ssl.create_default_context()
        inner = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="api.openai.com")
        with contextlib.suppress(ssl.SSLWantReadError):
            inner.do_handshake()
        await client.send(outgoing.read())
        assert not (await client.rest()).startswith(b"\x16\x03")
        (denial,) = await rig.denials()
        assert denial["reason"] == "PROTOCOL_REFUSED"


async def test_plain_http_to_a_provider_is_answered_with_a_refusal(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        for port in (80, 443):
            client = await rig.open("api.openai.com", port)
            host = "api.openai.com" if port == 80 else "api.openai.com:443"
            answer = await client.request("POST", CHAT, rig.headers(host), chat_body())
            assert answer.refusal["reason"] == "TLS_REQUIRED"
            assert answer.refusal["job"] == "caged"
        assert len(await rig.denials(2)) == 2


async def test_a_connect_inside_a_door_opens_nothing(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        client = await rig.open("api.openai.com", 80)
        await client.send(b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nhost: api.anthropic.com:443\r\n\r\n")
        answer = await client.rest()
        assert b" 200 " not in answer.split(b"\r\n")[0]
        client = await rig.open("api.openai.com", 80)
        await client.send(b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n"), 30)
        assert head.split()[1] != b"200"
        inside = await rig.tls("api.openai.com")
        await inside.send(b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nhost: api.anthropic.com:443\r\n\r\n")
        assert b" 200 " not in (await inside.rest()).split(b"\r\n")[0]
        assert len(await rig.denials(3)) == 3


async def test_a_door_holds_so_many_connections_and_another_door_none_of_them(
    tmp_path: Path, provider: Provider
) -> None:
    few = running_bed(tmp_path / "s", provider, max_connections_per_peer=2)
    async with few as bed, open_door(bed, "one") as one, open_door(bed, "two") as two:
        held = [await one.tls("api.openai.com") for _ in range(2)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await one.tls("api.openai.com")
        client = await two.tls("api.openai.com")
        answer = await client.request("POST", CHAT, two.headers("api.openai.com"), chat_body())
        assert answer.status == 200
        await held[0].close()


async def test_closing_a_door_hangs_up_and_ends_the_names(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed) as rig:
        idle = await rig.tls("api.openai.com")
        address = rig.sockets.tcp[0].getsockname()
        await rig.door.close()
        assert await idle.rest() == b""
        with pytest.raises(OSError):
            await RawClient.open(*address)
        await bed.settled()
        again = await bed.gateway.open_door("caged", rig.handle, new_sockets())
        sockets = new_sockets()
        with pytest.raises(ClawproxyError) as err:
            await bed.gateway.open_door("caged", rig.handle, sockets)
        assert err.value.reason == "DOOR_INVALID"
        assert sockets.tcp[0].fileno() == -1  # the gateway took them, and closed them
        await again.close()


async def test_only_an_isolated_job_has_a_door(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        plain = await bed.gateway.lease(bed.policy_hash, "plain")
        for job_id, handle in (("plain", plain.handle), ("other", plain.handle), ("plain", "cph_unknown")):
            sockets = new_sockets()
            with pytest.raises(ClawproxyError) as err:
                await bed.gateway.open_door(job_id, handle, sockets)
            assert err.value.reason == "JOB_NOT_FOUND"
            assert sockets.dns_udp[0].fileno() == -1


async def test_an_idle_connection_is_closed_in_time(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, request_timeout_s=0.3) as bed, open_door(bed) as rig:
        assert await (await rig.open("api.openai.com")).rest() == b""
