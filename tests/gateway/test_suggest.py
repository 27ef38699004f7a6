"""From the records of observed jobs to a contract: replayed, every recorded call is allowed, and nothing is spared."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import dial
from clawproxy.policies.contract import document_in, hash_contract, parse_contract
from clawproxy.policies.fixtures import ALLOW, ASK
from clawproxy.policies.packaged import packaged_prices, packaged_tool_classes
from clawproxy.policies.practice import Practice
from clawproxy.policies.suggest import Suggestion, Wish, suggest
from clawproxy.policies.worst_case import Defaults
from clawproxy.receipts.practice import read_practice
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.replay import replay
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import JobBundle, examine_job
from clawproxy.tokens.canonical import parse_json_object

from ..clawproxy.standin_process import Provider
from ..policies.makers import statement, wpc_v2
from ..policies.test_suggest import without_one
from ..waiting import until
from .bed import CONTRACT, Bed, running_bed
from .door_rig import open_door
from .test_observe import READ, TOOL, call, chat, egress_bed, observed, plain
from .test_websocket import opened, turn

SERVER = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example.com/", "require_approval": "never"}


async def read(bed: Bed, *jobs: str, wish: Wish | None = None) -> tuple[list[JobBundle], Suggestion]:
    """Seal the jobs, verify them, and suggest."""
    await bed.settled()
    bundles, practice = [], Practice()
    for job in jobs:
        files = load_directory(Path(str((await bed.gateway.seal(job))["directory"]))).files
        bundle = examine_job(files, bed.trust())
        assert bundle.report.verdict is Verdict.VERIFIED, bundle.report.findings
        assert bundle.facts is not None
        document = document_in(parse_json_object(files["contract.json"]))
        contracts = {hash_contract(document): document}
        read_practice(practice, bundle.facts, bundle.entries, contracts, packaged_prices(), Defaults())
        bundles.append(bundle)
    return bundles, suggest(practice, wish or Wish(), packaged_tool_classes())


def allowed_names(document: dict[str, Any]) -> set[str]:
    return {name for word in document["allowed_tools"] for name in document["tool_classes"][word]}


def refused(bundles: list[JobBundle], document: dict[str, Any]) -> list[str]:
    """The recorded calls, also those in answers, that do not pass under the contract."""
    policy = parse_contract(document).policy
    decisions = [each for bundle in bundles for each in replay(bundle.entries, policy) if each.was == ALLOW]
    return [each.name for each in decisions if each.now is None or each.now.word not in (ALLOW, ASK)]


async def test_every_recorded_call_is_allowed_under_the_suggestion_and_no_element_can_be_spared(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "address_fault", lambda ip, private: None)
    async with egress_bed(tmp_path, provider) as (bed, tool):
        handle = await observed(bed)
        for more in ({}, {"model": "gpt-4o"}, {"tools": [TOOL, READ]}, {"stream": True}):
            assert (await chat(bed, handle, "hello", **more)).status == 200
        assert (await chat(bed, handle, "two-tools tool:note_write tool:hidden", tools=[TOOL])).status == 200
        body = {"model": "gpt-4o", "input": "hello", "previous_response_id": "resp_1", "tools": [SERVER]}
        answer = await bed.post("/openai/v1/responses", json.dumps(body).encode(), bed.headers(handle))
        assert answer.status == 200, answer.body
        for method, target in (("GET", "/v1/a"), ("POST", "/v1/a"), ("GET", "/v2/b?q=1")):
            assert (await call(bed, tool, handle, method, target)).status == 200
        assert (await plain(bed, tool, handle)).status == 200
        second = await observed(bed, "job-p")
        async with opened(bed, token=second) as socket:
            await turn(socket, model="gpt-4.1")

        bundles, suggestion = await read(bed, "job-o", "job-p")
        document = suggestion.document
        assert document["allowed_models"] == ["gpt-4.1", "gpt-4o", "gpt-4o-mini"]
        assert document["denied_tools"] == ["shell.exec"]  # the contract's own, which nobody went against
        assert allowed_names(document) == {
            "note_write",
            "hidden",
            "ticket_read",
            "mcp:crm",
            "mcp:crm.example.com",
            "mcp",
        }
        assert document["allowed_provider_features"] == ["state:previous_response_id"]
        hosts = [(e["port"], e["methods"], e["paths"]) for e in document["egress_allowlist"]]
        assert sorted(hosts) == sorted(
            [
                (tool.port, ["GET", "POST"], ["/v1/a"]),
                (tool.port, ["GET"], ["/v2/b"]),
                (tool.plain_port, ["GET"], ["/plain"]),
            ]
        )
        assert refused(bundles, CONTRACT)
        assert refused(bundles, document) == []
        spared = [what for what, less in without_one(document) if not refused(bundles, less)]
        assert spared == []
        assert document["budgets"]["requests"] == 9  # six in the first job, and half as many again


async def test_what_a_meta_tool_names_inside_is_covered_too(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await observed(bed)
        meta = {"type": "function", "function": {"name": "tool_call", "parameters": {"type": "object"}}}
        answer = await chat(bed, handle, 'tool:tool_call({"tool":"send_mail","arguments":{}})', tools=[meta])
        assert answer.status == 200
        called = bed.records("receipt", "job-o")[0]["metadata"]["clawproxy"]["called"]
        assert called[0]["inner"] == ["send_mail"]
        bundles, suggestion = await read(bed, "job-o")
        assert allowed_names(suggestion.document) == {"tool_call", "send_mail"}
        assert refused(bundles, suggestion.document) == []


async def test_a_contract_of_statements_is_observed_too_and_what_it_restricts_is_said_to_be_left_out(
    tmp_path: Path, provider: Provider
) -> None:
    allowed = statement("one", "Allow", ["model:invoke"], ["openai/gpt-4o-mini"])
    async with running_bed(tmp_path / "s", provider, contract=wpc_v2(allowed)) as bed:
        handle = await observed(bed)
        for more in ({}, {"model": "gpt-4o"}, {"tools": [TOOL]}):
            assert (await chat(bed, handle, "hello", **more)).status == 200
        codes = [r["detail"].get("would_refuse") for r in bed.records("intent", "job-o")]
        assert [None if each is None else each[0]["code"] for each in codes] == [None, *["POLICY_STATEMENT_DENIED"] * 2]
        bundles, suggestion = await read(bed, "job-o")
        assert suggestion.document["allowed_models"] == ["gpt-4o", "gpt-4o-mini"]
        assert suggestion.dropped == ["whatever contracts of another shape restrict"]
        assert refused(bundles, suggestion.document) == []


async def test_under_the_suggested_budgets_the_same_calls_pass(tmp_path: Path, provider: Provider) -> None:
    async def work(bed: Bed, handle: str) -> list[int]:
        one_by_one = [(await chat(bed, handle, f"n{n}", max_tokens=40)).status for n in range(3)]
        at_once = await asyncio.gather(*(chat(bed, handle, f"n{n} slow:2000", max_tokens=40) for n in range(3)))
        return one_by_one + [answer.status for answer in at_once]

    async with running_bed(tmp_path / "a", provider) as bed:
        assert await work(bed, await observed(bed)) == [200] * 6
        _, suggestion = await read(bed, "job-o", wish=Wish(headroom=1.0))
    budgets = suggestion.document["budgets"]
    assert (budgets["requests"], budgets["concurrent_calls"]) == (6, 3)
    async with running_bed(tmp_path / "b", provider, contract=suggestion.document) as bed:
        handle = (await bed.gateway.lease(bed.policy_hash, "job-1")).handle
        assert await work(bed, handle) == [200] * 6
        late = await chat(bed, handle, "one more", max_tokens=40)
        assert late.refusal["reason"] == "BUDGET_EXCEEDED"


async def test_hosts_that_were_only_looked_up_or_tunnelled_to_are_told_and_not_covered(
    tmp_path: Path, provider: Provider
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        handle = await observed(bed)
        credential = base64.b64encode(f"job:{handle}".encode()).decode()
        for _ in range(2):
            client = await bed.client("regular")
            head = "CONNECT pinned.example:443 HTTP/1.1\r\nhost: pinned.example:443\r\n"
            await client.send(f"{head}proxy-authorization: Basic {credential}\r\n\r\n".encode())
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        [event] = [e for e in bed.records("event", "job-o") if e["event"]["event_type"] == "host_observed"]
        assert (event["detail"]["host"], event["detail"]["port"], event["detail"]["code"]) == (
            "pinned.example", 443, "EGRESS_NOT_ALLOWED",
        )  # fmt: skip
        _, suggestion = await read(bed, "job-o")
        assert "egress_allowlist" not in suggestion.document
        assert any("pinned.example" in line and "no call came" in line for line in suggestion.uncovered)
        assert tool.connections == 0


async def test_a_name_that_an_isolated_job_looked_up_is_on_record_once(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, open_door(bed, observe=True) as rig:
        for name in ("telemetry.example", "telemetry.example", "metadata.internal", "api.openai.com"):
            await rig.ask(name)
        job_id = rig.door.job_id

        def looked_up() -> list[dict[str, Any]]:
            return [event for event in bed.records("event", job_id) if "host" in event["detail"]]

        await until(looked_up)
        found = looked_up()
        assert [e["detail"]["host"] for e in found] == ["telemetry.example"]
        assert found[0]["detail"]["port"] is None
