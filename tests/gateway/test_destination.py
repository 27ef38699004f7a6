"""Where a call goes: judged addresses of the configured host, a verified certificate, no redirect; or nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import dial

from ..clawproxy.standin_process import Provider
from .bed import Bed, chat_body, running_bed
from .rogue_provider import Authority, Rogue, Script, make_authority, running_rogue

NAME = "provider.example"
JSON = b'{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":1}}'


async def answer_well(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(JSON), JSON)
    )


class Dns:
    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "ca")


@contextlib.asynccontextmanager
async def in_front_of(
    tmp_path: Path, provider: Provider, authority: Authority, rogue: Rogue, dns: Any, *, private: bool = True
) -> AsyncIterator[Bed]:
    """A gateway whose openai is the rogue, by name."""
    key = f"file:{provider.key_files['openai']}"
    section = {"upstream": f"https://{NAME}:{rogue.port}", "credential": key, "allow_private": private}
    async with running_bed(
        tmp_path / "s",
        replace(provider, ca=str(authority.file)),
        resolve=dns,
        sections={"providers": {"openai": section}},
    ) as bed:
        yield bed


def _only_outcome(bed: Bed) -> str:
    (receipt,) = bed.records("receipt")
    assert len(bed.records("intent")) == 1
    return str(receipt["metadata"]["clawproxy"]["outcome"])


async def test_the_checked_address_is_dialled_and_the_name_is_what_is_verified(
    tmp_path: Path, provider: Provider, authority: Authority
) -> None:
    dns = Dns(["127.0.0.1"], OSError("the name is asked for once, and never by the dial"))
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, dns) as bed,
    ):
        client = await bed.client()
        for _ in range(3):
            answer = await client.request("POST", "/openai/v1/chat/completions", bed.headers(), chat_body())
            assert answer.status == 200
        assert (dns.asked, rogue.connections, len(rogue.seen)) == (1, 1, 3)
        assert rogue.names == [NAME]
        assert b"host: %s:%d\r\n" % (NAME.encode(), rogue.port) in rogue.seen[0]


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["169.254.169.254"],
        ["fd00::1"],
    ],
    ids=str,
)
async def test_a_name_with_a_private_address_is_refused_and_nothing_leaves(
    tmp_path: Path, provider: Provider, authority: Authority, answer: list[str]
) -> None:
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(answer), private=False) as bed,
    ):
        refused = await bed.chat()
        assert (refused.status, refused.refusal["reason"], refused.refusal["step"]) == (
            403, "DESTINATION_REFUSED", "intend",
        )  # fmt: skip
        assert [d["reason"] for d in bed.records("denial")] == ["DESTINATION_REFUSED"]
        assert (bed.records("intent"), rogue.connections) == ([], 0)


async def test_a_metadata_address_is_refused_where_private_ones_are_configured(
    tmp_path: Path, provider: Provider, authority: Authority
) -> None:
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1", "169.254.169.254"])) as bed,
    ):
        assert (await bed.chat()).refusal["reason"] == "DESTINATION_REFUSED"
        assert rogue.connections == 0


async def test_a_name_that_is_rebound_after_the_check_is_not_followed(
    tmp_path: Path, provider: Provider, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the resolver says while the call is under way is not asked; what it says later is judged anew."""
    monkeypatch.setattr(dial, "CACHE_S", 0.0)
    dns = Dns(["127.0.0.1"], ["169.254.169.254"])
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, dns) as bed,
    ):
        assert (await bed.chat()).status == 200
        assert (await bed.chat()).refusal["reason"] == "DESTINATION_REFUSED"
        assert len(rogue.seen) == 1


async def test_a_name_that_does_not_resolve_is_a_denial(
    tmp_path: Path, provider: Provider, authority: Authority
) -> None:
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(OSError("no such host"))) as bed,
    ):
        refused = await bed.chat()
        assert (refused.status, refused.refusal["reason"]) == (502, "UPSTREAM_UNREACHABLE")
        assert (bed.records("intent"), [d["step"] for d in bed.records("denial")]) == ([], ["intend"])


async def test_no_name_is_asked_for_before_the_call_is_decided(
    tmp_path: Path, provider: Provider, authority: Authority
) -> None:
    dns = Dns(["127.0.0.1"])
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, dns) as bed,
    ):
        assert (await bed.chat(model="gpt-5")).status == 403
        assert (await bed.chat(token="nonsense")).status == 401
        assert dns.asked == 0


async def test_without_the_judgement_a_private_address_is_dialled(
    tmp_path: Path, provider: Provider, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "address_fault", lambda *_, **__: None)
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"]), private=False) as bed,
    ):
        assert (await bed.chat()).status == 200
        assert rogue.connections == 1


# -- certificates and protocols --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"names": (NAME,), "days": -1},
        {"names": ("other.example",)},
        {"names": ("*.example.com",)},
        {"names": ("127.0.0.1",)},
        {"names": (NAME,), "signed_by_itself": True},
    ],
    ids=["expired", "wrong name", "wildcard of another", "address only", "self-signed"],
)
async def test_a_certificate_that_does_not_verify_gets_no_request(
    tmp_path: Path, provider: Provider, authority: Authority, fault: dict[str, Any]
) -> None:
    context = authority.leaf(*fault.pop("names"), **fault)
    async with (
        running_rogue(answer_well, context) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        answer = await bed.chat()
        assert (answer.status, answer.refusal["reason"]) == (502, "UPSTREAM_UNREACHABLE")
        assert _only_outcome(bed) == "upstream_unreachable"
        assert rogue.seen == []


async def _ssh(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.0\r\n")


async def _plain_http(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


async def _reset(_head: bytes, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("script", [_ssh, _plain_http, _reset])
async def test_a_server_without_tls_gets_a_client_hello_and_no_more(
    tmp_path: Path, provider: Provider, authority: Authority, script: Script
) -> None:
    async with (
        running_rogue(script, None) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        answer = await bed.chat()
        assert answer.status == 502
        assert _only_outcome(bed) in ("upstream_unreachable", "upstream_failed")
        secret = provider.key("openai").encode()
        assert all(first[:2] in (b"", b"\x16\x03") and secret not in first for first in rogue.raw)


# -- redirects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["same", "other"])
async def test_a_redirect_is_neither_followed_nor_passed_on(
    tmp_path: Path, provider: Provider, authority: Authority, status: int, where: str
) -> None:
    ports: list[int] = []

    async def redirect(_head: bytes, writer: asyncio.StreamWriter) -> None:
        location = f"https://127.0.0.1:{ports[where == 'other']}/v1/chat/completions"
        writer.write(f"HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 2\r\n\r\n{{}}".encode())

    async with (
        running_rogue(redirect, authority.leaf(NAME)) as rogue,
        running_rogue(answer_well, authority.leaf(NAME, "127.0.0.1")) as other,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        ports += [rogue.port, other.port]
        answer = await bed.chat()
        assert (answer.status, answer.refusal["reason"]) == (502, "UPSTREAM_REDIRECT")
        assert "location" not in answer.headers
        assert b"127.0.0.1" not in answer.body
        assert (len(rogue.seen), other.connections) == (1, 0)
        assert _only_outcome(bed) == "upstream_failed"


@pytest.mark.parametrize("stated", ["utf-7", "UTF-16LE", "utf-8; charset=utf-7", "iso-8859-1", "utf-8", '"UTF-8"'])
async def test_an_answer_is_read_in_the_letters_in_which_it_was_judged(
    tmp_path: Path, provider: Provider, authority: Authority, stated: str
) -> None:
    """In UTF-7 ``+ACI-`` is a quote, and what was a text holds a call of a tool."""

    async def answer(_head: bytes, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset={stated}\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(JSON) + JSON)

    async with (
        running_rogue(answer, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        found = await bed.chat()
        assert found.status == 200
        assert found.headers["content-type"].lower().replace('"', "") == "application/json; charset=utf-8"


async def test_an_answer_tells_the_agent_of_no_other_service(
    tmp_path: Path, provider: Provider, authority: Authority
) -> None:
    told = (
        "alt-svc: h3=\":443\"", "set-cookie: a=b", "location: https://evil.example/", "refresh: 0;url=https://evil.example",
        "strict-transport-security: max-age=1", "x-clawproxy-receipt-id: forged", "nel: {}", "report-to: {}",
    )  # fmt: skip

    async def answer(_head: bytes, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in told)
        writer.write(head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(JSON) + JSON)

    async with (
        running_rogue(answer, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        found = await bed.chat()
        assert found.status == 200
        names = {line.partition(":")[0] for line in told} - {"x-clawproxy-receipt-id"}
        assert not names & found.headers.keys()
        assert found.headers["x-clawproxy-receipt-id"] != "forged"
