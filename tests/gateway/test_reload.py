"""A reload under load: all of it or nothing, what it widens is said, credentials rotate under open calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.live_settings import changes, read_live
from clawproxy.addons.settings import Settings, parse_settings
from clawproxy.policies.contract import hash_contract, sign_contract
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey

from ..clawproxy.standin_process import Provider
from ..waiting import whole_lines
from .bed import CONTRACT, Bed, make_state
from .test_stops import _stream_to


class Configured:
    """A gateway whose configuration a test rewrites."""

    def __init__(self, state: Path, provider: Provider) -> None:
        self.keys, self.policy_hash = make_state(state, CONTRACT)
        self.provider, self.state = provider, state
        self.key_file = state / "openai.key"
        self.key_file.write_text(provider.key("openai"))
        self.document: dict[str, Any] = {
            "gateway": {"state_dir": str(state)},
            "listen": {"reverse": "127.0.0.1:0", "regular": "", "admin": False},
            "upstream_ca": provider.ca,
            "providers": {"openai": {"upstream": provider.url, "credential": f"file:{self.key_file}"}},
        }
        self.gateway = Gateway(self.settings(), reread=self.settings)
        self.bed = Bed(state, self.gateway, provider, self.keys, self.policy_hash)

    def settings(self) -> Settings:
        return parse_settings(self.document, where="test")

    async def __aenter__(self) -> Configured:
        await self.gateway.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.bed.clients:
            await client.close()
        await self.gateway.stop(1)

    def journal(self) -> list[dict[str, Any]]:
        lines = [line for path in (self.state / "gateway").glob("*.jsonl") for line in whole_lines(path)]
        return [r["body"]["payload"] for r in map(json.loads, lines) if r["t"] == "reload"]


async def test_nothing_changed_is_nothing_told(tmp_path: Path, provider: Provider) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        assert await it.gateway.reloading.reload() == {"changes": [], "widens": False, "recorded": True}
        assert (await it.bed.chat()).status == 200


async def test_a_reload_that_fails_keeps_all_of_the_old_state_and_says_why(tmp_path: Path, provider: Provider) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        it.document["gateway"]["max_calls_per_minute_per_job"] = 1
        it.document["trust"] = {"token_issuers": [SigningKey.generate(Role.TOKEN).did]}
        it.document["providers"]["openai"]["credential"] = "file:/nowhere"
        with pytest.raises(ClawproxyError) as caught:
            await it.gateway.reloading.reload()
        assert caught.value.reason == "SECRET_UNREADABLE"
        assert [(await it.bed.chat()).status for _ in range(3)] == [200, 200, 200]
        assert it.journal() == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("gateway", "audience", ["other"]),
        ("gateway", "max_body_bytes", 2048),
        ("gateway", "max_json_depth", 63),
        ("gateway", "state_dir", "elsewhere"),
        ("listen", "regular", "127.0.0.1:0"),
    ],
)
async def test_a_key_that_cannot_change_live_is_refused_by_its_name(
    tmp_path: Path, provider: Provider, section: str, key: str, value: Any
) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        it.document.setdefault(section, {})[key] = value
        with pytest.raises(ClawproxyError) as caught:
            await it.gateway.reloading.reload()
        assert caught.value.reason == "RELOAD_REFUSED"
        assert caught.value.where == f"{section}.{key}"


async def test_an_issuer_comes_and_goes_and_the_coming_is_said_to_widen(tmp_path: Path, provider: Provider) -> None:
    other = SigningKey.generate(Role.TOKEN)
    async with Configured(tmp_path / "s", provider) as it:
        theirs = it.bed.token("job-2", key=other)
        assert (await it.bed.chat(token=theirs)).refusal["reason"] == "TOKEN_UNKNOWN_KID"
        it.document["trust"] = {"token_issuers": [it.keys[Role.TOKEN].did, other.did]}
        told = await it.gateway.reloading.reload()
        assert told["changes"] == [{"key": "trust.token_issuers", "what": f"added {other.did}", "widens": True}]
        assert told["widens"] is True
        assert (await it.bed.chat(token=theirs)).status == 200
        it.document["trust"] = {"token_issuers": [it.keys[Role.TOKEN].did]}
        told = await it.gateway.reloading.reload()
        assert told["widens"] is False
        assert (await it.bed.chat(token=theirs)).refusal["reason"] == "TOKEN_UNKNOWN_KID"
        assert [record["widens"] for record in it.journal()] == [True, False]


async def test_a_reviewer_that_is_gone_takes_along_the_contracts_that_were_kept(
    tmp_path: Path, provider: Provider
) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        assert (await it.bed.chat()).status == 200
        it.document["trust"] = {"contract_signers": [SigningKey.generate(Role.POLICY).did]}
        await it.gateway.reloading.reload()
        assert (await it.bed.chat()).status == 403


async def test_limits_are_taken_over_for_jobs_that_are_open(tmp_path: Path, provider: Provider) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        assert (await it.bed.chat()).status == 200
        it.document["gateway"] |= {"max_calls_per_minute_per_job": 1, "max_open_calls_per_job": 7}
        told = await it.gateway.reloading.reload()
        assert told["widens"] is False
        assert [(await it.bed.chat()).status for _ in range(2)] == [200, 429]
        assert it.gateway.jobs.open_jobs()[0].limits.open_calls == 7


async def test_a_credential_rotates_under_an_open_stream_and_neither_is_told(
    tmp_path: Path, provider: Provider
) -> None:
    """The open stream began with the old key and ends well; the next call has the new one, which the stand-in refuses;
    the old one, echoed in the stream, is redacted."""
    old, new = provider.key("openai"), "sk-rotated-0123456789abcdef0123456789"
    async with Configured(tmp_path / "s", provider) as it:
        url, began = urlsplit(it.gateway.addresses["reverse"]), asyncio.Event()
        text = "events:12 slow:50 echo-credential"
        live = asyncio.create_task(_stream_to(url.hostname, url.port, it.bed.token(), began, text))
        await began.wait()
        it.key_file.write_text(new)
        told = await it.gateway.reloading.reload()
        assert told["changes"] == [{"key": "providers.openai.credential", "what": "another one", "widens": False}]
        assert new not in json.dumps([told, it.journal()])
        await it.bed.chat()
        assert provider.seen()[-1]["credential"] != "right"
        it.key_file.write_text(old)
        await it.gateway.reloading.reload()
        assert (await it.bed.chat()).status == 200
        answer, _ = await live
        assert b"[DONE]" in answer
        assert old.encode() not in answer


async def test_reloads_under_load_lose_no_call(tmp_path: Path, provider: Provider) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        token = it.bed.token()

        async def caller() -> list[int]:
            return [(await it.bed.chat(token=token)).status for _ in range(15)]

        async def reloader() -> None:
            for n in range(15):
                it.document["gateway"]["max_headers"] = 100 + n
                await it.gateway.reloading.reload()

        *statuses, _ = await asyncio.gather(caller(), caller(), caller(), reloader())
        assert {status for each in statuses for status in each or ()} == {200}
        assert len(it.journal()) == 15


async def test_a_contract_that_is_signed_meanwhile_needs_no_reload(tmp_path: Path, provider: Provider) -> None:
    async with Configured(tmp_path / "s", provider) as it:
        other = {**CONTRACT, "policy_name": "second"}
        envelope = sign_contract(other, it.keys[Role.POLICY], "2026-01-01T00:00:00.000Z")
        (it.state / "contracts" / "second.json").write_bytes(jcs_bytes(envelope))
        token = it.bed.token("job-2", policy_hash_b64u=hash_contract(other))
        assert (await it.bed.chat(token=token)).status == 200


@pytest.mark.parametrize(
    ("change", "key", "widens"),
    [
        (lambda d: d["providers"].update(anthropic={"credential": "none"}), "providers.anthropic.credential", True),
        (lambda d: d["providers"].pop("openai"), "providers.openai.credential", False),
        (lambda d: d["providers"]["openai"].update(upstream="https://x.example"), "providers.openai.upstream", True),
        (lambda d: d["providers"]["openai"].update(hosts=["llm.example"]), "providers.openai.hosts", True),
        (lambda d: d["providers"]["openai"].update(allow_private=True), "providers.openai.allow_private", True),
        (lambda d: d.update(egress_private=["a.example:443"]), "egress_private", True),
        (lambda d: d.update(contracts={"sources": ["contracts", "more"]}), "contracts.sources", True),
        (lambda d: d["gateway"].update(max_headers=129), "gateway.max_headers", True),
        (lambda d: d["gateway"].update(max_headers=127), "gateway.max_headers", False),
        (lambda d: d["gateway"].update(max_connections_per_job=999), "gateway.max_connections_per_job", True),
    ],
)
def test_what_widens_is_told_from_what_does_not(
    tmp_path: Path, provider: Provider, change: Any, key: str, widens: bool
) -> None:
    it = Configured(tmp_path / "s", provider)
    before = read_live(it.settings(), "did:key:zGateway")
    change(it.document)
    found = {c.key: c.widens for c in changes(before, read_live(it.settings(), "did:key:zGateway"))}
    assert found[key] is widens


def test_a_tools_credential_that_comes_or_may_go_elsewhere_widens(tmp_path: Path, provider: Provider) -> None:
    it = Configured(tmp_path / "s", provider)
    bare = read_live(it.settings(), "did:key:zGateway")
    it.document["egress"] = {"crm": {"credential": f"file:{it.key_file}", "hosts": ["a.example"]}}
    one = read_live(it.settings(), "did:key:zGateway")
    it.document["egress"]["crm"]["hosts"] = ["a.example", "b.example"]
    two = read_live(it.settings(), "did:key:zGateway")
    assert [(c.key, c.widens) for c in changes(bare, one)] == [("egress.crm", True)]
    assert [(c.key, c.what, c.widens) for c in changes(one, two)] == [("egress.crm.hosts", "added b.example", True)]
    assert [(c.key, c.widens) for c in changes(two, one)] == [("egress.crm.hosts", False)]
