"""Both example contracts of the product's documents run a scripted job: each field lets one call pass and refuses one.

They are extended only by what they need to run (``NEEDED``). What a contract demands and this version does not enforce
would refuse every call, so it is left out of the run, and is refused by name; the test says when that is no longer so.
Every outcome is in the sealed bundle, or, where no job was known yet, in the gateway's own journal; the bundle is
verified with the contract at hand, by a stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.admin import call_admin
from clawproxy.policies.contract import parse_contract
from clawproxy.receipts.redecide import DECIDED
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.keys import Role, SigningKey, save_key

from ..clawproxy.command_line import Done, run_cli
from ..clawproxy.standin_process import Provider
from ..policies.makers import INVOICE_TRIAGE, REFUND_ASSISTANT
from .bed import Bed, chat_body, running_bed
from .raw_client import Answer
from .test_egress import _basic
from .tool_server import ToolServer, tool_server

MAIL = "ada.lovelace@analytical-engines.org"
MODEL, OTHER_MODEL = "gpt-4o-mini", "gpt-4o"
NEEDED: JsonObject = {
    "allowed_providers": ["openai"],
    "allowed_models": [MODEL],
    "tool_classes": {
        "ticket.read": ["get_ticket"],
        "shell.exec": ["bash", "exec_*"],
        "read_only_repo": ["read_file"],
        "shell_exec": ["bash"],
        "browser_remote_control": ["browser_*"],
        "send_external_email": ["send_email"],
    },
}
REQUIRED_ALWAYS = frozenset({"evidence_requirements", "model_routing", "policy_hash", "policy_name", "wpc_version"})
"""Ask for what is always so: each call that passes has a receipt under this contract."""
GROUP = "SupportOps-PIM-Eligible"


def runnable(example: JsonObject, more: JsonObject) -> tuple[JsonObject, set[str]]:
    """The example with what it needs and ``more``; the fields left out since this version does not enforce them."""
    document = {**example, **NEEDED, **more}
    left_out = {demand.field.partition(".")[0].partition("[")[0] for demand in parse_contract(document).policy.demands}
    return {name: value for name, value in document.items() if name not in left_out | {"policy_hash"}}, left_out


@dataclass
class Script:
    """What was asked, and what came of it."""

    bed: Bed
    approver: Path
    job_id: str = "example"
    passed: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Calls that went out, and whose answer was ended since it called a tool that it may not."""
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> receipt ids."""
    covered: set[str] = field(default_factory=set)

    async def passes(self, *fields: str, tools: tuple[str, ...] = (), **more: Any) -> None:
        answer = await self._ask(tools, **more)
        assert answer.status == 200, (fields, answer.body)
        self.passed.append(answer.headers["x-clawproxy-receipt-id"])
        self.covered |= {f"{name} allowed" for name in fields}

    async def refuses(self, reason: str, *fields: str, tools: tuple[str, ...] = (), **more: Any) -> None:
        answer = await self._ask(tools, **more)
        assert answer.status >= 400, (fields, answer.body)
        receipt_id = answer.headers["x-clawproxy-receipt-id"]
        told = [*self.bed.records("denial", self.job_id), *self.bed.refusals()]
        assert [row["reason"] for row in told if row["receipt_id"] == receipt_id] == [reason], (fields, answer.body)
        self.refused.setdefault(reason, []).append(receipt_id)
        self.covered |= {f"{name} refused" for name in fields}

    async def _ask(
        self,
        tools: tuple[str, ...],
        *,
        token: str | None = None,
        target: str = "/openai/v1/chat/completions",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        if tools:
            more["tools"] = [{"type": "function", "function": {"name": name}} for name in tools]
        fields = self.bed.headers(token or self.bed.token(self.job_id)) if headers is None else headers
        return await self.bed.post(target, chat_body(**more) if body is None else body, fields)

    async def calls(self, tool: str, outcome: str, *fields: str, declared: str = "", answer: str = "") -> None:
        """An answer calls ``tool``, where a request declares ``declared``; a person says ``answer`` if one is asked."""
        asked = asyncio.create_task(self._ask((declared or tool,), text=f"tool:{tool}"))
        if answer:
            question = await self._question()
            done = await self.approve(answer, question)
            assert done.code == 0, done.err
        got = await asked
        receipt_id = got.headers["x-clawproxy-receipt-id"]
        await self.bed.settled()
        rows = {row["receipt_id"]: row for row in self.bed.records("receipt", self.job_id)}
        called = rows[receipt_id]["metadata"]["clawproxy"]["called"]
        assert [(row["name"], row["outcome"]) for row in called] == [(tool, outcome)], (got.status, got.body)
        delivered = outcome in ("allowed", "approved")
        assert ('"tool_calls"' in got.body.decode()) is delivered
        (self.passed if delivered else self.ended).append(receipt_id)
        self.covered |= {f"{name} {'allowed' if delivered else 'refused'}" for name in fields}

    async def _question(self) -> str:
        """The id of the one question that waits."""
        async with asyncio.timeout(60):
            socket = self.bed.state / "admin.sock"
            while not (rows := (await call_admin(socket, "approvals"))["pending"]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return str(rows[0]["scope"]["approval_id"])

    async def tool_call(self, tool: ToolServer, body: bytes, refusal: str | None, *fields: str) -> None:
        """A call of a tool to its own host, through the proxy."""
        client = await self.bed.client("regular")
        there, auth = f"localhost:{tool.port}", _basic(self.bed.token(self.job_id))
        await client.send(f"CONNECT {there} HTTP/1.1\r\nhost: {there}\r\nproxy-authorization: {auth}\r\n\r\n".encode())
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await client.start_tls(ssl.create_default_context(cafile=self.bed.gateway.ca_file), "localhost")
        answer = await client.request("POST", "/v1/notes", {"host": there}, body)
        receipt_id = answer.headers["x-clawproxy-receipt-id"]
        assert (answer.status == 200) is (refusal is None), answer.body
        if refusal is None:
            self.effects.append(receipt_id)
        else:
            self.refused.setdefault(refusal, []).append(receipt_id)
        self.covered |= {f"{name} {'allowed' if refusal is None else 'refused'}" for name in fields}

    async def no_tunnel(self, port: int, *fields: str) -> None:
        """A tunnel to where the contract lists nothing."""
        client = await self.bed.client("regular")
        there, auth = f"localhost:{port}", _basic(self.bed.token(self.job_id))
        await client.send(f"CONNECT {there} HTTP/1.1\r\nhost: {there}\r\nproxy-authorization: {auth}\r\n\r\n".encode())
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 403"), head
        receipt_id = head.partition("x-clawproxy-receipt-id: ")[2].partition("\r\n")[0]
        self.refused.setdefault("EGRESS_NOT_ALLOWED", []).append(receipt_id)
        self.covered |= {f"{name} refused" for name in fields}

    async def approve(self, *words: str) -> Done:
        return await asyncio.to_thread(run_cli, "approve", *words, "--key", self.approver, state=self.bed.state)

    def trust_file(self, approver: SigningKey) -> Path:
        rows: list[JsonObject] = [
            {"did": self.bed.keys[role].did, "role": str(role)} for role in (Role.RECEIPT, Role.POLICY, Role.TOKEN)
        ]
        rows.append({"did": approver.did, "role": str(Role.APPROVAL), "groups": [GROUP]})
        path = self.bed.state / "trust.json"
        path.write_text(json.dumps({"trust_version": "1", "keys": rows}))
        return path


@contextlib.asynccontextmanager
async def scripted(
    tmp_path: Path, provider: Provider, example: JsonObject, more: JsonObject, **keys: Any
) -> AsyncIterator[tuple[Script, set[str]]]:
    """A gateway under the example; at the end the job is sealed, and every outcome is looked for."""
    approver = SigningKey.generate(Role.APPROVAL)
    save_key(approver, tmp_path / "approver.pem")
    contract, left_out = runnable(example, more)
    sections = {
        "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True},
        "trust": {"approvers": {GROUP: [approver.did]}},
        **keys.pop("sections", {}),
    }
    async with running_bed(tmp_path / "s", provider, contract=contract, sections=sections, **keys) as bed:
        script = Script(bed, tmp_path / "approver.pem")
        yield script, left_out
        await bed.settled()
        directory = Path(str((await bed.gateway.seal(script.job_id))["directory"]))
        trust, given = script.trust_file(approver), tmp_path / "contract.json"
        given.write_text(json.dumps(contract))
        await asyncio.to_thread(check_bundle, script, directory, trust, given)
    missing = {f"{name} {way}" for name in contract.keys() - REQUIRED_ALWAYS for way in ("allowed", "refused")}
    assert missing <= script.covered, f"exercise these as well: {sorted(missing - script.covered)}"


def check_bundle(script: Script, directory: Path, trust: Path, contract: Path) -> None:
    """Everything that happened is on record, and verifies with the contract at hand."""
    done = run_cli("verify", directory, "--trust", trust, "--contract", contract, "--json")
    report = json.loads(done.out)
    assert (done.code, report["verdict"], report["findings"]) == (0, "VERIFIED", []), report
    assert report["recomputed"] == {"whole": len(script.passed) + len(script.effects) + len(script.ended)}
    effects = {payload["side_effect"]["receipt_id"] for payload in script.bed.records("effect", script.job_id)}
    assert effects == set(script.effects)
    receipts = {payload["receipt_id"] for payload in script.bed.records("receipt", script.job_id)}
    assert receipts == {*script.passed, *script.ended}
    denials = {payload["receipt_id"]: payload for payload in script.bed.records("denial", script.job_id)}
    without_job = {payload["receipt_id"]: payload for payload in script.bed.refusals()}
    for reason, ids in script.refused.items():
        for receipt_id in ids:
            assert {**denials, **without_job}[receipt_id]["reason"] == reason
    for receipt_id, payload in denials.items():
        told = json.loads(run_cli("explain", directory, receipt_id, "--trust", trust, "--json").out)
        assert told["decision"]["agrees"] is (True if payload["reason"] in DECIDED else None), told
    told = json.loads(run_cli("explain", directory, script.passed[0], "--trust", trust, "--json").out)
    assert (told["decision"]["now"], told["decision"]["agrees"]) == ("allow", True)
    assert run_cli("contract", "test", contract, directory).code == 0
    other = contract.with_name("other.json")
    other.write_text(json.dumps({**json.loads(contract.read_text()), "allowed_models": [OTHER_MODEL]}))
    swapped = json.loads(run_cli("verify", directory, "--trust", trust, "--contract", other, "--json").out)
    assert (swapped["verdict"], swapped["reason_code"]) == ("FAILED", "POLICY_HASH_MISMATCH")
    tried = json.loads(run_cli("contract", "test", other, directory, "--json").out)
    changed = {row["name"] for row in tried["decisions"] if row["changed"]}
    assert {*script.passed, *script.ended} <= changed


async def of_models_and_providers(script: Script) -> None:
    await script.passes("allowed_models", "allowed_providers")
    await script.refuses("POLICY_MODEL_NOT_ALLOWED", "allowed_models", model=OTHER_MODEL)
    message = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    await script.refuses(
        "POLICY_PROVIDER_NOT_ALLOWED",
        "allowed_providers",
        target="/anthropic/v1/messages",
        body=json.dumps(message).encode(),
        headers=script.bed.headers(script.bed.token(script.job_id), anthropic_version="2023-06-01"),
    )


async def of_tokens(script: Script, name: str) -> None:
    bed, job = script.bed, script.job_id
    await script.passes(name, token=bed.token(job, ttl_s=1800))
    await script.refuses("TOKEN_TTL_TOO_LONG", name, token=bed.token(job, ttl_s=1801))
    await script.refuses("POLICY_REQUIRED", name, token=bed.token(job, policy_hash_b64u=None))
    await script.refuses("TOKEN_REQUIRED", name, headers={"host": "gateway", "content-type": "application/json"})


def turn(tool: str, result: str) -> bytes:
    """A conversation in which ``tool`` answered ``result``."""
    called = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "look it up"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    return json.dumps({"model": MODEL, "messages": messages}).encode()


async def test_the_refund_assistant(tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with contextlib.AsyncExitStack() as stack:
        tool = await stack.enter_async_context(tool_server(Path(provider.ca).parent))
        entry = {"host": "localhost", "port": tool.port, "methods": ["POST"], "paths": ["/*"]}
        more: JsonObject = {"egress_allowlist": [entry]}
        private = {"egress_private": [f"localhost:{tool.port}"]}
        script, left_out = await stack.enter_async_context(
            scripted(tmp_path, provider, REFUND_ASSISTANT, more, sections=private, resolve=resolve)
        )
        assert not left_out
        await script.refuses("APPROVAL_REQUIRED", "approvals")
        granted = await script.approve("grant", "--job", script.job_id)
        assert granted.code == 0, granted.err
        await script.passes("approvals")
        await of_models_and_providers(script)
        await script.passes("data_boundaries", text=f"write to {MAIL}")
        await script.refuses("POLICY_MODEL_NOT_ALLOWED", model=MAIL)
        assert MAIL not in caplog.text + json.dumps(script.bed.lines(script.job_id))
        await script.tool_call(tool, b"nothing to see", None, "data_boundaries", "egress_allowlist")
        await script.tool_call(tool, f"send it to {MAIL}".encode(), "DATA_EXPORT_DENIED", "data_boundaries")
        await script.no_tunnel(tool.plain_port, "egress_allowlist")
        await script.passes("allowed_tools", "denied_tools", "tool_classes", tools=("get_ticket", "ticket.comment"))
        await script.refuses("POLICY_TOOL_NOT_ALLOWED", "allowed_tools", tools=("get_ticket", "send_mail"))
        for denied in ("bash", "exec_command", "shell.exec", "fs.write", "secrets.export", "BASH"):
            await script.refuses("POLICY_TOOL_DENIED", "denied_tools", "tool_classes", tools=("get_ticket", denied))
        await script.calls("get_ticket", "allowed", "allowed_tools")
        await script.calls("send_mail", "denied", "allowed_tools", declared="get_ticket")
        await of_tokens(script, "token_constraints")
        other = script.bed.headers(script.bed.token(script.job_id), x_policy_hash="A" * 43)
        await script.refuses("POLICY_HASH_MISMATCH", "token_constraints", headers=other)


async def test_the_invoice_triage(tmp_path: Path, provider: Provider) -> None:
    labels = {"read_only_repo": ["confidential"], "ticket_comment": ["restricted"]}
    async with scripted(tmp_path, provider, INVOICE_TRIAGE, {"tool_data_classes": labels}) as (script, left_out):
        assert not left_out
        fields = ("data_classes_allowed", "tool_data_classes")
        await script.passes(*fields, body=turn("read_file", "The merger closes on the fourteenth of March."))
        await script.refuses("DATA_CLASS_DENIED", *fields, body=turn("ticket_comment", "The board meets in secret."))
        await script.passes("data_classes_denied", text="4111 1111 1111 1112 is no card")
        await script.refuses("DATA_CLASS_DENIED", "data_classes_denied", text="pay with 4111 1111 1111 1111")
        await of_models_and_providers(script)
        await script.passes("allowed_tools", "denied_tools", "tool_classes", tools=("read_file", "ticket_comment"))
        await script.refuses("POLICY_TOOL_NOT_ALLOWED", "allowed_tools", tools=("read_only_repo",))
        for denied in ("bash", "shell_exec", "write_filesystem", "browser_click", "browser_remote_control"):
            await script.refuses("POLICY_TOOL_DENIED", "denied_tools", "tool_classes", tools=("read_file", denied))
        await script.calls("read_file", "allowed", "allowed_tools")
        await script.calls("bash", "denied", "denied_tools", declared="read_file")
        await script.calls("send_email", "approved", "approvals", answer="grant")
        await script.calls("send_email", "denied", "approvals", answer="deny")
        await of_tokens(script, "token_requirements")


async def test_an_example_as_it_stands_is_refused_by_the_name_of_what_is_not_enforced(
    tmp_path: Path, provider: Provider
) -> None:
    for n, example in enumerate((REFUND_ASSISTANT, INVOICE_TRIAGE)):
        _, left_out = runnable(example, {})
        contract = {name: value for name, value in {**example, **NEEDED}.items() if name != "policy_hash"}
        async with running_bed(tmp_path / str(n), provider, contract=contract) as bed:
            error = (await bed.chat()).json.get("error", {})
            assert (error.get("code") == "WPC_UNENFORCEABLE") is bool(left_out), error
            assert all(name in str(error) for name in left_out)
