"""A run over authorities and paths: request targets on the base-URL listener, CONNECT, SNI and Host on the proxy port.

What went through is read again by Python's ``urlsplit`` and Node's WHATWG ``URL``: both must find the host and path
that were judged, and nothing in them may mean something else once it is normalised.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from .rig import Node, Rig, Tally, running_rig

_AT_ONCE = 8
_PER_GATEWAY = 25_000
_PATHS = {
    "/v1/chat/completions": ("openai", '{"model":"gpt-4o-mini","messages":[]}'),
    "/v1/responses": ("openai", '{"model":"gpt-4o-mini","input":"x"}'),
    "/v1/messages": ("anthropic", '{"model":"claude-sonnet-5-5","max_tokens":1,"messages":[]}'),
}
_HOSTS = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
_INSERTED = (
    *("/", "//", "/./", "/../", "/..", "\\", "%2f", "%2F", "%2e", "%2e%2e/", "%00", "%5c", ";", ";a=b", "?", "#", " "),
    *(
        "%20",
        "\t",
        "@",
        ":",
        ":443",
        "%3A",
        "*",
        "+",
        "%C3%A9",
        "é",
        "．",
        "／",
        "%252e",
        "~",
        "?beta=true",
        "&",
        "=",
        "'",
    ),
    *("?model=x", "?a=1&a=2", "|", "<", '"', "\x7f", "%", "%zz"),
)
_HOST_PARTS = (
    *(
        ".",
        "..",
        "@",
        "#",
        "/",
        "\\",
        "?",
        ":",
        ":443",
        ":80",
        ":0443",
        "%00",
        "%2e",
        " ",
        "\t",
        "。",
        "．",
        "a",
        "-",
        "_",
    ),
    *("evil.com", ".evil.com", "evil.com.", "127.0.0.1", "[::1]", "0x7f.1", "xn--", "*", "*.", "https://", "user:pw@"),
)


def _mutated(rng: random.Random, text: str, parts: tuple[str, ...]) -> str:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind, at = rng.random(), rng.randrange(len(text) + 1)
        if kind < 0.6:
            text = text[:at] + rng.choice(parts) + text[at:]
        elif kind < 0.75:
            text = text[:at] + text[at + 1 :]
        elif kind < 0.85:
            text = text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
        elif kind < 0.95 and at < len(text):
            text = text[:at] + f"%{ord(text[at]) & 0xFF:02X}" + text[at + 1 :]
        else:
            text = text + text[at:]
    return text


async def run_paths(count: int, seed: int, told: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Try ``count`` targets and authorities, half of each."""
    tally, rng, node = Tally(), random.Random(seed), await Node.start()
    lock = asyncio.Lock()
    try:
        while tally.sent < count:
            async with running_rig() as rig:
                context = ssl.create_default_context(cafile=rig.gateway.ca_file)
                context.check_hostname = False  # the name under test may not be the one of the certificate
                numbers = iter(range(tally.sent, min(count, tally.sent + _PER_GATEWAY)))
                run = _Run(rig, node, lock, rng, tally, context, told)
                await asyncio.gather(*(run.work(numbers) for _ in range(_AT_ONCE)))
    finally:
        await node.stop()
    return tally


@dataclass
class _Run:
    rig: Rig
    node: Node
    lock: asyncio.Lock
    rng: random.Random
    tally: Tally
    context: ssl.SSLContext
    told: Callable[[Tally], None]

    async def work(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            name = f"fuzz-{number}"
            if number % 2:
                await self._target(name)
            else:
                await self._authority(name)
            self.tally.sent += 1
            if self.tally.sent % 5000 == 0:
                self.told(self.tally)

    async def _target(self, name: str) -> None:
        rng = self.rng
        path, (provider, body) = rng.choice(tuple(_PATHS.items()))
        target = f"/{provider}{path}" if rng.random() < 0.7 else path
        if rng.random() > 0.35:
            target = _mutated(rng, target, _INSERTED)
        raw = self._request(f"POST {target} HTTP/1.1", "gateway", name, body)
        agent = self.rig.agent()
        status, _, _ = await agent.send(raw)
        agent.close()
        self.tally.by_status[status] += 1
        await self._check(name, "", target)

    async def _authority(self, name: str) -> None:
        rng = self.rng
        path, (provider, body) = rng.choice(tuple(_PATHS.items()))
        host = _HOSTS[provider]
        spoilt = rng.random()
        connect = _mutated(rng, host + ":443", _HOST_PARTS) if spoilt < 0.4 else host + ":443"
        sni = rng.choice((*_HOSTS.values(), "evil.com", None)) if 0.4 <= spoilt < 0.5 else host
        inner = _mutated(rng, host, _HOST_PARTS) if 0.5 <= spoilt < 0.65 else host
        agent = self.rig.agent("regular")
        head = f"CONNECT {connect} HTTP/1.1\r\nhost: {connect}\r\n\r\n"
        status, _, _ = await agent.send(head.encode("utf-8", "replace"))
        if status == 200:
            self.tally.compared["tunnels"] += 1
            async with self.lock:
                seen = await self.node.ask({"url": f"https://{connect}"})
            if not seen["ok"] or seen["host"] not in _HOSTS.values() or seen["port"] or seen["path"] != "/":
                self.tally.disagree(f"a tunnel was opened to {connect!r}, which Node reads as {seen}")
            try:
                assert agent._writer is not None
                await agent._writer.start_tls(self.context, server_hostname=sni or "127.0.0.1")
                status, _, _ = await agent.send(self._request(f"POST {path} HTTP/1.1", inner, name, body))
            except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
                status = 0
        agent.close()
        self.tally.by_status[status] += 1
        agree = sni == host and inner.strip(" \t") in (host, f"{host}:443")
        await self._check(name, "" if agree else f"SNI {sni!r} and Host {inner!r} inside of {connect!r}", path)

    def _request(self, line: str, host: str, name: str, body: str) -> bytes:
        return (
            f"{line}\r\nhost: {host}\r\ncontent-type: application/json\r\nuser-agent: {name}\r\n"
            f"x-cst: {self.rig.token()}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode("utf-8", "replace")

    async def _check(self, name: str, unlike: str, target: str) -> None:
        """What arrived upstream, if anything did."""
        judged, kept = self.rig.judged.pop(name, None), self.rig.kept.pop(name, None)
        if kept is None:
            return
        tally = self.tally
        tally.forwarded += 1
        if judged is None:
            tally.disagree(f"{target!r} left and was never judged")
            return
        if unlike:
            tally.disagree(f"{target!r} left in spite of {unlike}")
        sent = kept[0].split(b" ", 2)[1].decode("latin-1")
        async with self.lock:
            node = await self.node.ask({"url": "https://host.example" + sent})
        split = urlsplit("https://host.example" + sent)
        tally.compared["urlsplit"] += 1
        tally.compared["node"] += 1
        expected = {
            "chat_completions": "/v1/chat/completions",
            "responses": "/v1/responses",
            "messages": "/v1/messages",
        }
        path = expected.get(judged.facts.route)
        query = "?" + split.query if split.query else ""
        if not (node["ok"] and split.path == node["path"] == path and node["query"] == query and sent == path + query):
            tally.disagree(f"{target!r} left as {sent!r}: policy {judged.facts.route}, Node {node}, urlsplit {split}")


def told_of(tally: Tally) -> dict[str, object]:
    """The figures of a run, for a record."""
    return {
        "sent": tally.sent,
        "forwarded": tally.forwarded,
        "forwarded_share": round(tally.forwarded / max(1, tally.sent), 3),
        "compared": dict(tally.compared),
        "by_status": {str(status): count for status, count in sorted(tally.by_status.items())},
        "by_reason": dict(tally.by_reason.most_common()),
        "disagreements": tally.disagreed,
        "first": tally.disagreements,
    }
