"""A contract that wants the whole job approved, through a running gateway: refused, approved, refused again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.admin import call_admin
from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings
from clawproxy.receipts.approvals import ApprovalType, read_scope, sign_approval
from clawproxy.receipts.job_paths import job_key_path
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey, load_key, save_key
from clawproxy.tokens.trust import TrustedKey, build_trust

from ..clawproxy.command_line import Done, run_cli
from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, make_state, running_bed

APPROVED = {**CONTRACT, "approvals": {"required": True, "approver_group": "Ops"}}


@contextlib.asynccontextmanager
async def bed_with_approvers(root: Path, provider: Provider, **more: Any) -> AsyncIterator[tuple[Bed, Path]]:
    """A bed whose contract wants its jobs approved, and the key file of an approver of the group."""
    anna, ben = SigningKey.generate(Role.APPROVAL), SigningKey.generate(Role.APPROVAL)
    save_key(anna, root / "anna.pem")
    save_key(ben, root / "ben.pem")
    sections = {
        "listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True},
        "trust": {"approvers": {"Ops": [anna.did], "Finance": [ben.did]}},
    }
    async with running_bed(root / "state", provider, contract=APPROVED, sections=sections, **more) as bed:
        yield bed, root / "anna.pem"


async def approve(bed: Bed, *words: str | Path) -> Done:
    return await asyncio.to_thread(run_cli, "approve", *words, state=bed.state)


async def test_a_job_is_refused_until_an_approver_of_the_group_approves_it(tmp_path: Path, provider: Provider) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, key):
        answer = await bed.chat()
        refusal = answer.json["error"]
        assert (answer.status, refusal["code"]) == (403, "APPROVAL_REQUIRED")
        assert "clawproxy approve grant --job job-1 --key FILE" in str(refusal)
        assert bed.records("intent") == []
        listed = await approve(bed, "list")
        assert "job job-1 (test-bed) waits for an approval by Ops" in listed.out
        other = await approve(bed, "grant", "--job", "job-1", "--key", tmp_path / "ben.pem")
        assert "[APPROVER_NOT_TRUSTED]" in other.err
        assert (await bed.chat()).status == 403
        done = await approve(bed, "grant", "--job", "job-1", "--key", key, "--reason", "reviewed")
        assert (done.code, done.out.splitlines()[-1].split()[0]) == (0, "granted")
        assert "yes or no to the whole job" in done.out
        assert (await bed.chat()).status == 200
        assert (await approve(bed, "deny", "--job", "job-1", "--key", key)).code == 0
        last = (await bed.chat()).json["error"]
        assert last["code"] == "APPROVAL_REQUIRED"
        await bed.settled()
        assert [record["reason"] for record in bed.records("denial")] == ["APPROVAL_REQUIRED"] * 3


async def test_no_credential_of_the_job_approves_it(tmp_path: Path, provider: Provider) -> None:
    """The agent has its token, and even where it gets at the job's key and the socket, that is no approval."""
    async with bed_with_approvers(tmp_path, provider) as (bed, _):
        assert (await bed.chat()).status == 403
        socket = bed.state / "admin.sock"
        question = (await call_admin(socket, "approval_for_job", job_id="job-1"))["question"]
        scope = read_scope(question["scope"])
        job_key = load_key(job_key_path(bed.state / "keys" / "jobs", "job-1"), Role.JOB)
        now_ms = time.time_ns() // 1_000_000
        for forger in (job_key, *bed.keys.values(), SigningKey.generate(Role.APPROVAL)):
            with pytest.raises(ClawproxyError, match="APPROVER_NOT_TRUSTED"):
                await call_admin(socket, "approve", envelope=sign_approval(scope, ApprovalType.APPROVE, forger, now_ms))
        for nonsense in (bed.token(), {}, None, {"payload": question["scope"]}):
            with pytest.raises(ClawproxyError):
                await call_admin(socket, "approve", envelope=nonsense)
        assert (await bed.chat()).status == 403
        assert [e for e in bed.records("event") if e["event"]["event_type"] == "approval"] == []


async def test_a_job_is_approved_before_its_first_call_and_the_approval_outlives_the_gateway(
    tmp_path: Path, provider: Provider
) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, key):
        contract = next((bed.state / "contracts").iterdir())
        opened = await asyncio.to_thread(
            run_cli, "job", "open", "--contract", contract, "--job", "early", "--json", state=bed.state
        )
        sub = json.loads(opened.out)["job_did"]
        assert (await approve(bed, "grant", "--job", "early", "--key", key)).code == 0
        token = bed.token("early", sub=sub)
        assert (await bed.chat(token=token)).status == 200
        await bed.settled()
        await bed.gateway.stop(drain_s=1)
        again = Gateway(bed.gateway.settings)
        await again.start()
        bed.gateway = again  # the bed stops this one
        assert (await bed.chat(token=token)).status == 200
        await bed.settled()
        await again.seal("early")
        approver = load_key(key, Role.APPROVAL).did
        trust = build_trust([*bed.trust().keys, TrustedKey(approver, Role.APPROVAL, groups=("Ops",))])
        report = verify_job(load_bundle(bed.state / "jobs" / "early").files, trust)
        assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
        assert verify_job(load_bundle(bed.state / "jobs" / "early").files, bed.trust()).verdict is Verdict.INCOMPLETE
        late = await approve(bed, "grant", "--job", "early", "--key", key)
        assert "[JOB_SEALED]" in late.err


async def test_an_unknown_job_cannot_be_approved(tmp_path: Path, provider: Provider) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, key):
        for name in ("nowhere", "../x"):
            assert "[JOB_NOT_FOUND]" in (await approve(bed, "grant", "--job", name, "--key", key)).err


async def test_calls_of_tools_to_other_hosts_wait_for_the_approval_too(tmp_path: Path, provider: Provider) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, _):
        client = await bed.client("regular")
        await client.send(
            b"CONNECT api.tickets.example:443 HTTP/1.1\r\nhost: api.tickets.example:443\r\n"
            b"proxy-authorization: Basic " + _basic(bed.token()) + b"\r\n\r\n"
        )
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b" 403 " in head
        await bed.settled()
        assert [record["reason"] for record in bed.records("denial")] == ["APPROVAL_REQUIRED"]


def _basic(token: str) -> bytes:
    return base64.b64encode(f"job:{token}".encode())


async def test_without_the_check_the_call_would_go_out(tmp_path: Path, provider: Provider) -> None:
    """That the refusals above are the desk's, and no other part's."""
    async with bed_with_approvers(tmp_path, provider) as (bed, _):
        bed.gateway.approvals.job_refusal = lambda job, policy: None  # type: ignore[method-assign]
        assert (await bed.chat()).status == 200


async def test_an_agent_whose_key_is_an_approvers_gets_no_job(tmp_path: Path, provider: Provider) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, key):
        did = load_key(key, Role.APPROVAL).did
        answer = await bed.post("/openai/v1/chat/completions", chat_body(), bed.headers(bed.token("job-2", sub=did)))
        assert (answer.status, answer.json["error"]["code"]) == (401, "TOKEN_INVALID_CLAIMS")


@pytest.mark.parametrize("role", [Role.TOKEN, Role.POLICY, Role.RECEIPT])
def test_a_gateway_whose_approver_has_another_role_does_not_start(tmp_path: Path, role: Role) -> None:
    keys, _ = make_state(tmp_path, APPROVED)
    settings = parse_settings(
        {"gateway": {"state_dir": str(tmp_path)}, "trust": {"approvers": {"Ops": [keys[role].did]}}}, where="test"
    )
    with pytest.raises(ClawproxyError, match="KEY_IN_TWO_ROLES"):
        Gateway(settings)


async def test_a_reload_takes_other_approvers_over_and_what_the_old_ones_gave_ends(
    tmp_path: Path, provider: Provider
) -> None:
    async with bed_with_approvers(tmp_path, provider) as (bed, key):
        assert (await bed.chat()).status == 403
        assert (await approve(bed, "grant", "--job", "job-1", "--key", key)).code == 0
        assert (await bed.chat()).status == 200
        anna, ben = (load_key(tmp_path / f"{name}.pem", Role.APPROVAL).did for name in ("anna", "ben"))
        before = bed.gateway.settings.model_dump()
        configured = {**before, "trust": {**before["trust"], "approvers": {"Ops": [ben]}}}
        bed.gateway.reloading._reread = lambda: parse_settings(configured, where="test")
        told = await bed.gateway.reloading.reload()
        assert {(change["what"], change["widens"]) for change in told["changes"]} == {
            (f"added {ben} in Ops", True),
            (f"removed {anna} in Ops", False),
            (f"removed {ben} in Finance", False),
        }
        assert (await bed.chat()).json["error"]["code"] == "APPROVAL_REQUIRED"
        assert "[APPROVER_NOT_TRUSTED]" in (await approve(bed, "grant", "--job", "job-1", "--key", key)).err
        assert (await approve(bed, "grant", "--job", "job-1", "--key", tmp_path / "ben.pem")).code == 0
        assert (await bed.chat()).status == 200
        configured["trust"]["approvers"] = {"Ops": [bed.keys[Role.TOKEN].did]}
        with pytest.raises(ClawproxyError, match="KEY_IN_TWO_ROLES"):
            await bed.gateway.reloading.reload()
        assert (await bed.chat()).status == 200
