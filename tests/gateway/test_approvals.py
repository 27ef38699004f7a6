"""Calls of tools that a person must approve, with real SDKs through a running gateway: held until somebody answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from clawproxy.addons import gate, tool_gate
from clawproxy.addons.admin import call_admin
from clawproxy.policies.call_rules import CallAllowed
from clawproxy.receipts.approvals import ApprovalType, Scope, read_scope, sign_approval
from clawproxy.receipts.job_paths import job_key_path
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey, load_key
from clawproxy.tokens.trust import TrustedKey, build_trust

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, running_bed

HELD = {
    **CONTRACT,
    "allowed_tools": [],
    "tool_classes": {"ticket.read": ["ticket_read"]},
    "denied_tools": [],
    "approvals": [{"action": "ticket.read", "approver_group": "Ops", "deadline_s": 120}],
}
SHORT = {**HELD, "approvals": [{"action": "ticket.read", "approver_group": "Ops", "deadline_s": 5}]}
ANSWER = "The stand-in answers"
"""What the model says once it has the tool's result."""
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}}


# -- agents -----------------------------------------------------------------------------------------------------------


class NoCall(Exception):
    """The SDK understood an answer that calls no tool; its text."""


@dataclass(frozen=True)
class Agent:
    """An SDK that asks for a tool, runs it, and tells the model what came of it. ``ask`` returns the last text."""

    name: str
    ask: Callable[[Bed, str, bool], str]
    error: type[Exception]


def _openai(bed: Bed, token: str, stream: bool) -> str:
    with openai.OpenAI(
        api_key=token, base_url=bed.gateway.addresses["reverse"] + "/openai/v1", max_retries=0
    ) as client:
        chat: Any = client.chat.completions
        tools = [{"type": "function", "function": {"name": "ticket_read", "parameters": SCHEMA}}]
        messages: list[Any] = [{"role": "user", "content": "use-a-tool"}]
        if stream:
            with client.chat.completions.stream(model="gpt-4o-mini", messages=messages, tools=tools) as events:  # type: ignore[arg-type]
                for _ in events:
                    pass
                message: Any = events.get_final_completion().choices[0].message
        else:
            message = chat.create(model="gpt-4o-mini", messages=messages, tools=tools).choices[0].message
        if not message.tool_calls:
            raise NoCall(message.content)
        (called,) = message.tool_calls
        assert called.function.name == "ticket_read"
        messages += [
            {"role": "assistant", "tool_calls": [called.model_dump(include={"id", "type", "function"})]},
            {"role": "tool", "tool_call_id": called.id, "content": "ticket 42 is open"},
        ]
        messages[-2]["tool_calls"][0]["function"] = {"name": "ticket_read", "arguments": called.function.arguments}
        return str(chat.create(model="gpt-4o-mini", messages=messages, tools=tools).choices[0].message.content)


def _anthropic(bed: Bed, token: str, stream: bool) -> str:
    with anthropic.Anthropic(
        api_key=token, base_url=bed.gateway.addresses["reverse"] + "/anthropic", max_retries=0
    ) as client:
        asked: dict[str, Any] = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 100,
            "tools": [{"name": "ticket_read", "input_schema": SCHEMA}],
        }
        messages: list[Any] = [{"role": "user", "content": "use-a-tool"}]
        if stream:
            with client.messages.stream(messages=messages, **asked) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(messages=messages, **asked)
        called = next((part for part in message.content if part.type == "tool_use"), None)
        if called is None:
            raise NoCall(message.content[-1].text)
        assert called.name == "ticket_read"
        result = {"type": "tool_result", "tool_use_id": called.id, "content": "ticket 42 is open"}
        messages += [
            {"role": "assistant", "content": [part.model_dump(exclude_none=True) for part in message.content]},
            {"role": "user", "content": [result]},
        ]
        last: Any = client.messages.create(messages=messages, **asked)
        return str(last.content[0].text)


AGENTS = (Agent("openai", _openai, openai.APIError), Agent("anthropic", _anthropic, anthropic.APIError))
each_agent = pytest.mark.parametrize("agent", AGENTS, ids=[agent.name for agent in AGENTS])
each_form = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


# -- people -----------------------------------------------------------------------------------------------------------


@dataclass
class House:
    """A running gateway with an approver of the group, and one of another."""

    bed: Bed
    anna: SigningKey
    ben: SigningKey

    @property
    def socket(self) -> Path:
        return self.bed.state / "admin.sock"

    def run(self, agent: Agent, stream: bool, job: str = "job-1") -> asyncio.Task[str]:
        """The agent at work, beside the gateway's loop."""
        return asyncio.create_task(asyncio.to_thread(agent.ask, self.bed, self.bed.token(job), stream))

    async def asked(self, number: int = 1) -> list[JsonObject]:
        """The questions, once there are so many."""
        async with asyncio.timeout(60):
            while len(rows := (await call_admin(self.socket, "approvals"))["pending"]) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return list(rows)

    async def question(self) -> Scope:
        (row,) = await self.asked()
        return read_scope(row["scope"])

    async def answer(
        self, scope: Scope, kind: ApprovalType = ApprovalType.APPROVE, key: SigningKey | None = None, reason: str = ""
    ) -> JsonObject:
        envelope = sign_approval(scope, kind, key or self.anna, time.time_ns() // 1_000_000, reason)
        return await call_admin(self.socket, "approve", envelope=envelope)

    async def refused(self, scope: Scope, reason: str, key: SigningKey | None = None) -> None:
        with pytest.raises(ClawproxyError, match=reason):
            await self.answer(scope, key=key)

    def called(self, job: str = "job-1") -> list[JsonObject]:
        """What the receipts say became of the calls of tools."""
        receipts = self.bed.records("receipt", job)
        return [each for receipt in receipts for each in receipt["metadata"]["clawproxy"].get("called", [])]

    def notes(self, job: str = "job-1") -> list[str]:
        events = self.bed.records("event", job)
        return [
            event["detail"]["approval"]["payload"]["approval_type"]
            for event in events
            if event["event"]["event_type"] == "approval"
        ]

    async def sealed(self, job: str = "job-1") -> None:
        """The job ends, and its bundle holds for an auditor who knows the approvers."""
        await self.bed.settled()
        await self.bed.gateway.seal(job)
        approvers = [TrustedKey(self.anna.did, Role.APPROVAL, groups=("Ops",))]
        trust = build_trust([*self.bed.trust().keys, *approvers])
        report = verify_job(load_bundle(self.bed.state / "jobs" / job).files, trust)
        assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())


@contextlib.asynccontextmanager
async def house_at(root: Path, provider: Provider, contract: dict[str, Any] = HELD) -> AsyncIterator[House]:
    anna, ben = SigningKey.generate(Role.APPROVAL), SigningKey.generate(Role.APPROVAL)
    sections = {
        "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True},
        "trust": {"approvers": {"Ops": [anna.did], "Finance": [ben.did]}},
    }
    async with running_bed(root / "s", provider, contract=contract, sections=sections) as bed:
        yield House(bed, anna, ben)


# -- held, and then ---------------------------------------------------------------------------------------------------


@each_agent
@each_form
async def test_a_call_is_held_granted_and_the_conversation_goes_on(
    tmp_path: Path, provider: Provider, agent: Agent, stream: bool
) -> None:
    async with house_at(tmp_path, provider) as house:
        task = house.run(agent, stream)
        (row,) = await house.asked()
        scope = read_scope(row["scope"])
        assert (scope.action, scope.tool, scope.group, row["contract"]) == (
            "ticket.read",
            "ticket_read",
            "Ops",
            "test-bed",
        )
        await asyncio.sleep(0.3)
        assert not task.done()  # held until somebody answers
        assert house.notes() == []
        await house.answer(scope)
        assert ANSWER in await task
        await house.bed.settled()
        (called,) = house.called()
        assert (called["outcome"], called["approval"]) == ("approved", scope.approval_id)
        assert called["arguments_hash_b64u"] == scope.arguments_hash_b64u
        assert house.notes() == ["explicit_approve"]
        await house.sealed()


@each_agent
@each_form
async def test_a_call_that_is_denied_ends_in_an_error_that_the_sdk_raises(
    tmp_path: Path, provider: Provider, agent: Agent, stream: bool
) -> None:
    async with house_at(tmp_path, provider) as house:
        task = house.run(agent, stream)
        await house.answer(await house.question(), ApprovalType.DENY, reason="not this ticket")
        with pytest.raises(agent.error) as caught:
            await task
        assert "APPROVAL_DENIED" in str(caught.value)
        assert "not this ticket" in str(caught.value)
        await house.bed.settled()
        (called,) = house.called()
        assert called["outcome"] == "denied"
        assert house.notes() == ["explicit_deny"]
        await house.sealed()


@each_agent
@each_form
async def test_where_the_contract_refuses_a_denied_call_becomes_a_text_and_the_conversation_goes_on(
    tmp_path: Path, provider: Provider, agent: Agent, stream: bool
) -> None:
    async with house_at(tmp_path, provider, {**HELD, "on_denied_call": "refuse"}) as house:
        task = house.run(agent, stream)
        await house.answer(await house.question(), ApprovalType.DENY)
        with pytest.raises(NoCall) as caught:
            await task
        assert "APPROVAL_DENIED" in str(caught.value)
        await house.sealed()


@each_agent
async def test_a_call_that_nobody_answers_is_denied_when_its_time_is_over(
    tmp_path: Path, provider: Provider, agent: Agent
) -> None:
    async with house_at(tmp_path, provider, SHORT) as house:
        began = time.monotonic()
        task = house.run(agent, True)
        scope = await house.question()
        with pytest.raises(agent.error, match="APPROVAL_TIMEOUT"):
            await task
        assert 4.5 < time.monotonic() - began < 60
        await house.refused(scope, "APPROVAL_NOT_FOUND")
        assert house.notes() == ["timeout_deny"]
        await house.sealed()


# -- what is no grant -------------------------------------------------------------------------------------------------


@each_agent
async def test_neither_other_arguments_nor_other_keys_nor_a_second_answer_count(
    tmp_path: Path, provider: Provider, agent: Agent
) -> None:
    async with house_at(tmp_path, provider) as house:
        task = house.run(agent, True)
        scope = await house.question()
        other = dataclasses.replace(scope, arguments_hash_b64u="x" * 42 + "A")
        await house.refused(other, "APPROVAL_INVALID")
        await house.refused(scope, "APPROVER_NOT_TRUSTED", house.ben)  # another group's
        own = load_key(job_key_path(house.bed.state / "keys" / "jobs", "job-1"), Role.JOB)
        for key in (own, *house.bed.keys.values()):  # what the agent, or who runs the gateway, could get at
            await house.refused(scope, "APPROVER_NOT_TRUSTED", key)
        for nonsense in (house.bed.token(), {"payload": {"receipt_id": scope.approval_id}}, None):
            with pytest.raises(ClawproxyError):
                await call_admin(house.socket, "approve", envelope=nonsense)
        assert not task.done()
        await house.answer(scope)
        await house.refused(scope, "APPROVAL_NOT_FOUND")
        assert ANSWER in await task
        assert house.notes() == ["explicit_approve"]
        await house.sealed()


async def test_a_grant_is_worth_nothing_for_the_same_call_of_another_job(tmp_path: Path, provider: Provider) -> None:
    async with house_at(tmp_path, provider) as house:
        first = house.run(AGENTS[0], True, "job-1")
        scope = await house.question()
        second = house.run(AGENTS[0], True, "job-2")
        rows = await house.asked(2)
        other = next(read_scope(row["scope"]) for row in rows if row["scope"]["job_id"] == "job-2")
        assert other.arguments_hash_b64u == scope.arguments_hash_b64u
        await house.answer(scope)
        assert ANSWER in await first
        await house.refused(scope, "APPROVAL_NOT_FOUND")
        assert not second.done()
        await house.answer(other, ApprovalType.DENY)
        with pytest.raises(openai.APIError):
            await second
        assert (house.notes("job-1"), house.notes("job-2")) == (["explicit_approve"], ["explicit_deny"])


# -- on the wire ------------------------------------------------------------------------------------------------------


async def test_while_a_person_is_asked_the_client_hears_comments_and_nothing_of_the_call(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_PING_S", 0.1)
    tools = [{"type": "function", "function": {"name": "ticket_read", "parameters": SCHEMA}}]
    async with house_at(tmp_path, provider) as house:
        body = chat_body("events:3 use-a-tool", stream=True, tools=tools)
        client = await house.bed.client()
        headers = "".join(f"{name}: {value}\r\n" for name, value in house.bed.headers().items())
        await client.send(
            f"POST /openai/v1/chat/completions HTTP/1.1\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        scope = await house.question()
        got = b""
        async with asyncio.timeout(30):
            while got.count(b"\n:") < 3 and got.count(b":\n") < 3:
                got += await client.reader.read(4096)
        assert b"HTTP/1.1 200" in got
        assert b"ticket_read" not in got
        assert b"tool_calls" not in got
        await house.answer(scope)
        async with asyncio.timeout(30):
            while b"[DONE]" not in got:
                got += await client.reader.read(4096)
        assert b"ticket_read" in got


async def test_a_whole_answer_waits_for_its_approval_however_often_the_seam_asks(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_PING_S", 0.1)
    async with house_at(tmp_path, provider) as house:
        for kind in (ApprovalType.APPROVE, ApprovalType.DENY):
            task = house.run(AGENTS[0], False)
            scope = await house.question()
            await asyncio.sleep(1)
            assert not task.done()
            await house.answer(scope, kind)
            if kind is ApprovalType.APPROVE:
                assert ANSWER in await task
            else:
                with pytest.raises(openai.APIError, match="APPROVAL_DENIED"):
                    await task
        await house.sealed()


async def test_a_client_that_leaves_takes_its_question_along(tmp_path: Path, provider: Provider) -> None:
    tools = [{"type": "function", "function": {"name": "ticket_read", "parameters": SCHEMA}}]
    async with house_at(tmp_path, provider) as house:
        for stream in (True, False):
            body = chat_body("use-a-tool", stream=stream, tools=tools)
            client = await house.bed.client()
            headers = "".join(f"{name}: {value}\r\n" for name, value in house.bed.headers().items())
            await client.send(
                f"POST /openai/v1/chat/completions HTTP/1.1\r\n{headers}content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            scope = await house.question()
            await client.close()
            async with asyncio.timeout(30):
                while (await call_admin(house.socket, "approvals"))["pending"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await house.refused(scope, "APPROVAL_NOT_FOUND")
        await house.bed.settled()
        assert [each["outcome"] for each in house.called()] == ["withheld", "withheld"]
        assert house.notes() == []
        await house.sealed()


async def test_sealing_a_job_ends_its_questions(tmp_path: Path, provider: Provider) -> None:
    async with house_at(tmp_path, provider) as house:
        task = house.run(AGENTS[0], True)
        await house.question()
        await house.bed.gateway.seal("job-1")
        with pytest.raises(Exception):  # noqa: B017 - a cut stream is another error in each SDK
            await task
        assert (await call_admin(house.socket, "approvals"))["pending"] == []


async def test_without_its_verdict_the_call_would_reach_the_agent_and_the_verifier_says_so(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is this verdict that holds the call: with it taken out, the same call passes."""
    monkeypatch.setattr(tool_gate, "decide_call", lambda *facts: CallAllowed("nobody looked"))
    async with house_at(tmp_path, provider) as house:
        assert ANSWER in await house.run(AGENTS[0], True)
        await house.bed.settled()
        await house.bed.gateway.seal("job-1")
        trust = build_trust([*house.bed.trust().keys, TrustedKey(house.anna.did, Role.APPROVAL, groups=("Ops",))])
        report = verify_job(load_bundle(house.bed.state / "jobs" / "job-1").files, trust)
        assert (report.verdict, report.reason) == (Verdict.FAILED, "APPROVAL_MISSING")
