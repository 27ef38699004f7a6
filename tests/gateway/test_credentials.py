"""The injected credential, tried one way at a time: it reaches its provider over TLS, and nobody else."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from clawproxy.addons import provider_settings, upstream
from clawproxy.addons.redaction import REDACTED, Redactor, redactor_for
from clawproxy.tokens.errors import ClawproxyError

from ..clawproxy.standin_process import Provider
from .bed import chat_body, running_bed
from .rogue_provider import Authority, make_authority, running_rogue
from .test_destination import JSON, NAME, Dns, answer_well, in_front_of

CHAT = "/openai/v1/chat/completions"
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "ca")


# -- where it goes ---------------------------------------------------------------------------------------------------

ELSEWHERE: dict[str, Callable[[int], tuple[str, str, dict[str, str]]]] = {
    "another Host": lambda port: ("POST", CHAT, {"host": f"127.0.0.1:{port}"}),
    "a forwarded host": lambda port: ("POST", CHAT, {"x-forwarded-host": f"127.0.0.1:{port}"}),
    "an original URL": lambda port: ("POST", CHAT, {"x-original-url": f"https://127.0.0.1:{port}/"}),
    "a router's header": lambda port: ("POST", CHAT, {"x-portkey-custom-host": f"https://127.0.0.1:{port}/v1"}),
    "an absolute target": lambda port: ("POST", f"https://127.0.0.1:{port}/v1/chat/completions", {}),
    "a host in the path": lambda port: ("POST", f"//127.0.0.1:{port}/v1/chat/completions", {}),
    "user information": lambda port: ("POST", f"https://api.openai.com@127.0.0.1:{port}/v1/chat/completions", {}),
    "TRACE": lambda port: ("TRACE", CHAT, {}),
    "OPTIONS": lambda port: ("OPTIONS", CHAT, {}),
    "TRACE by override": lambda port: ("POST", CHAT, {"x-http-method-override": "TRACE"}),
}


@pytest.mark.parametrize("ask", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_it_goes_to_no_other_host_and_with_no_other_method(
    tmp_path: Path, provider: Provider, authority: Authority, ask: Callable[[int], tuple[str, str, dict[str, str]]]
) -> None:
    async with (
        running_rogue(answer_well, authority.leaf(NAME)) as own,
        running_rogue(answer_well, authority.leaf(NAME, "127.0.0.1")) as other,
        in_front_of(tmp_path, provider, authority, own, Dns(["127.0.0.1"])) as bed,
    ):
        method, target, headers = ask(other.port)
        client = await bed.client()
        answer = await client.request(method, target, {**bed.headers(), **headers}, chat_body())
        assert other.connections == 0
        assert all(head.startswith(b"POST /v1/chat/completions ") for head in own.seen)
        assert (answer.status == 200) == (len(own.seen) == 1)
        assert all(b":%d" % other.port not in head for head in own.seen)  # the credential may hold any digits


def _plain(provider: Provider, port: int, credential: str | None = None) -> dict[str, Any]:
    section = {
        "upstream": f"http://127.0.0.1:{port}",
        "credential": credential or f"file:{provider.key_files['openai']}",
    }
    return {"providers": {"openai": section}}


async def test_a_plain_upstream_with_a_credential_is_refused_at_the_start(tmp_path: Path, provider: Provider) -> None:
    with pytest.raises(ClawproxyError) as told:
        async with running_bed(tmp_path / "s", provider, sections=_plain(provider, 1)):
            pass
    assert told.value.reason == "CONFIG_INVALID"
    assert 'credential = "none"' in told.value.remedy


async def test_a_plain_upstream_without_a_credential_is_served_without_one(tmp_path: Path, provider: Provider) -> None:
    seen: list[bytes] = []
    server = await _plain_server(seen)
    port = server.sockets[0].getsockname()[1]
    async with server, running_bed(tmp_path / "s", provider, sections=_plain(provider, port, "none")) as bed:
        assert (await bed.chat()).status == 200
        assert b"authorization" not in seen[0].lower()


async def test_behind_the_check_of_the_configuration_a_plain_upstream_gets_nothing_either(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_settings, "check_encrypted", lambda *_: None)
    seen: list[bytes] = []
    server = await _plain_server(seen)
    port = server.sockets[0].getsockname()[1]
    async with server, running_bed(tmp_path / "s", provider, sections=_plain(provider, port)) as bed:
        answer = await bed.chat()
        assert (answer.status, answer.refusal["reason"]) == (500, "GATEWAY_FAULT")
        assert seen == []


async def _plain_server(seen: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        await answer_well(b"", writer)

    return await asyncio.start_server(serve, "127.0.0.1", 0)


# -- what comes back -------------------------------------------------------------------------------------------------


def _b64(text: bytes) -> bytes:
    return base64.b64encode(text)


RENDERED: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda key: key,
    "bearer": lambda key: b"Bearer " + key,
    "basic": lambda key: b"Basic " + _b64(b"user:" + key),
    "basic without a user": lambda key: _b64(b":" + key),
    "base64": _b64,
    "base64 a byte later": lambda key: _b64(b"x" + key),
    "base64 two bytes later": lambda key: _b64(b"xx" + key + b"y"),
    "base64url": lambda key: base64.urlsafe_b64encode(b"k:" + key).rstrip(b"="),
    "percent-encoded": lambda key: b"".join(b"%%%02x" % byte for byte in key),
    "percent-encoded base64": lambda key: quote(_b64(b"user:" + key), safe="").encode(),
    "JSON-escaped": lambda key: key.replace(b"-", b"\\u002d"),
    "JSON-escaped whole": lambda key: b"".join(b"\\u%04x" % byte for byte in key),
}
PLACES = ("401 body", "header", "header name", "reason phrase", "JSON", "stream", "split stream", "late stream")


def _reads_as(found: bytes, key: bytes) -> bool:
    """Whether somebody who undoes one layer of encoding finds the key."""
    texts = {found, re.sub(rb"%([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), found)}
    texts |= {re.sub(rb"\\u00([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), text) for text in set(texts)}
    for text in set(texts):
        for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}", text):
            for at in range(4):
                whole = run[at:].translate(bytes.maketrans(b"-_", b"+/"))
                whole = whole[:-1] if len(whole) % 4 == 1 else whole
                texts.add(base64.b64decode(whole + b"=" * (-len(whole) % 4)))
    return any(key in text for text in texts)


def _answer(place: str, echo: bytes) -> list[bytes]:
    """The pieces of an answer with ``echo`` in it."""
    body = b'{"error":{"message":"bad key %s given"}}' % echo
    ok = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(JSON)
    if place == "401 body":
        head = b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return [head + body]
    if place == "header":
        return [ok + b"x-echo: it was " + echo + b"\r\n\r\n" + JSON]
    if place == "header name":
        return [ok + b"x-" + echo.replace(b" ", b"-") + b": 1\r\n\r\n" + JSON]
    if place == "reason phrase":
        return [ok.replace(b"OK", echo) + b"\r\n" + JSON]
    if place == "JSON":
        whole = JSON[:-1] + b',"system_fingerprint":"%s"}' % echo
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
        return [head + whole]
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % echo
    stream = {"stream": event + END, "split stream": event + END, "late stream": END + event}[place]
    cut = 7 if place == "split stream" else len(stream)
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *chunks, b"0\r\n\r\n"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("render", RENDERED.values(), ids=RENDERED)
async def test_an_echo_of_it_does_not_reach_the_agent(
    tmp_path: Path, provider: Provider, authority: Authority, place: str, render: Callable[[bytes], bytes]
) -> None:
    key = provider.key("openai").encode()
    if place == "header name" and not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", render(key).replace(b" ", b"-")):
        pytest.skip("no name of a header field")

    async def echo(_head: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in _answer(place, render(key)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    async with (
        running_rogue(echo, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        client = await bed.client()
        body = chat_body(stream="stream" in place)
        head = f"POST {CHAT} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in bed.headers().items())
        await client.send(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        told = await asyncio.wait_for(client.reader.read(-1), 60)
        assert key in rogue.seen[0]
        told = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", told.partition(b"\r\n\r\n")[2]) + told
        assert not _reads_as(told, key)
        if place not in ("header name", "reason phrase"):
            assert REDACTED in told
        assert all(key not in path.read_bytes() for path in bed.state.rglob("*.jsonl"))


async def test_without_the_redaction_the_echo_reaches_the_agent(
    tmp_path: Path, provider: Provider, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = provider.key("openai").encode()
    nothing = Redactor(b"")
    monkeypatch.setattr(upstream, "redactor_for", lambda _: nothing)

    async def echo(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_answer("header", _b64(b"user:" + key))[0])

    async with (
        running_rogue(echo, authority.leaf(NAME)) as rogue,
        in_front_of(tmp_path, provider, authority, rogue, Dns(["127.0.0.1"])) as bed,
    ):
        assert _reads_as((await bed.chat()).headers["x-echo"].encode(), key)


async def test_a_raw_search_alone_would_miss_the_rendered_forms(provider: Provider) -> None:
    """Why one search for the key itself is not enough."""
    key = provider.key("openai").encode()
    missed = [name for name, render in RENDERED.items() if key not in render(key)]
    assert len(missed) >= 9
    assert all(redactor_for(key).found_in(b'{"x":"%s"}' % render(key)) for render in RENDERED.values())


def test_the_table_can_read_what_it_looks_for(provider: Provider) -> None:
    key = provider.key("openai").encode()
    assert [name for name, render in RENDERED.items() if not _reads_as(b'{"x":"%s"}' % render(key), key)] == []
    assert not _reads_as(json.dumps({"x": "an ordinary answer" * 20}).encode(), key)
