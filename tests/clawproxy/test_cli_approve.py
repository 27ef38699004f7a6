"""``clawproxy approve`` against a desk behind a real admin socket: what a person sees, signs and gets told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.admin import AdminSocket, call_admin
from clawproxy.addons.approval_operations import ApprovalOperations
from clawproxy.addons.approvals import Decision, Verdict
from clawproxy.addons.approvers import Approvers
from clawproxy.addons.gateway import clock_ms
from clawproxy.policies.pin import Pinner
from clawproxy.policies.source import DirectorySource
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.keys import Role, SigningKey, load_key, save_key

from ..addons.test_approvals import Bench, asked
from .command_line import Done, run_cli


class Desk(Bench):
    """A bench with an approver's key on the disk, and an admin socket as a gateway has it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.key_file = root / "anna.pem"
        save_key(SigningKey.generate(Role.APPROVAL), self.key_file)
        anna = frozenset({load_key(self.key_file, Role.APPROVAL).did})
        self.shop.clock = clock_ms  # type: ignore[assignment]  # the approver's clock is the real one
        self.shop.book = self.shop.make_book()
        self.desk = self.make_desk(Approvers({"Ops": anna}, anna))
        pinner = Pinner(DirectorySource([root]), frozenset())
        operations = ApprovalOperations(self.desk, self.shop.book, pinner)
        self.socket = AdminSocket(root / "admin.sock", operations.by_name)

    async def cli(self, *words: str | Path) -> Done:
        return await asyncio.to_thread(run_cli, "approve", *words, state=self.root)

    async def held(self, **over: Any) -> tuple[asyncio.Task[Decision], str]:
        """A call that is held, and the id of its question."""
        task = asyncio.create_task(self.desk.ask(await self.call(), asked(**{"deadline_s": 60.0, **over})))
        (scope,) = await self.waiting()
        return task, scope.approval_id


@contextlib.asynccontextmanager
async def desk_at(root: Path) -> AsyncIterator[Desk]:
    desk = Desk(root)
    await desk.socket.start()
    try:
        yield desk
    finally:
        await desk.socket.stop()
        await desk.shop.end()


async def test_a_person_sees_what_is_asked_and_grants_it(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held()
        listed = await desk.cli("list")
        assert listed.code == 0
        for word in (name, "job-1", "workshop", "mail.send", "the group Ops", '  | {"to":"a"}', "  | tool send_mail"):
            assert word in listed.out
        assert "all of it, with this digest" in listed.out
        done = await desk.cli("grant", name, "--key", desk.key_file)
        assert done.code == 0
        assert done.out.rstrip().endswith(f"granted  {name}  job job-1")
        assert (await task).verdict is Verdict.GRANTED
        assert (await desk.cli("list")).err == "nothing waits for an approval\n"


async def test_a_person_denies_with_a_reason(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held()
        done = await desk.cli("deny", name, "--key", desk.key_file, "--reason", "not to this address", "--json")
        assert json.loads(done.out) == {"approval_id": name, "job_id": "job-1", "decision": "denied"}
        assert (await task).detail == "an approver said no: not to this address"


async def test_what_an_agent_wrote_moves_no_cursor_and_looks_like_none_of_our_lines(tmp_path: Path) -> None:
    text = '{"to":"a"}\x1b[2J\r\napproval   apr_fake\njob   other\u202e\u200b\x07' + "x" * 400
    async with desk_at(tmp_path) as desk:
        digest = sha256_b64u(text.encode())
        task, name = await desk.held(arguments_text=text, arguments_hash_b64u=digest, tool="send\x1b[31m\nmail")
        shown = (await desk.cli("list")).out
        assert "\x1b" not in shown
        assert not any(char in shown for char in "\r\x07\u202e\u200b")
        ours = [line for line in shown.splitlines() if line and not line.startswith("  | ")]
        assert [line.split()[0] for line in ours] == [
            "approval", "job", "contract", "wanted", "approvers", "until", "arguments", "written",
        ]  # fmt: skip
        assert ours[0].endswith(name)
        assert max(len(line) for line in shown.splitlines()) < 200
        task.cancel()


async def test_arguments_that_are_not_those_of_the_digest_are_not_signed(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held(arguments_text='{"to":"someone harmless"}')
        done = await desk.cli("grant", name, "--key", desk.key_file)
        assert done.code == 2
        assert "nothing was signed" in done.err
        assert not task.done()
        task.cancel()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{ "b": 1,\n "a": [true] }', b'{"a":[true],"b":1}'),
        ("rm -rf x", b'{"input":"rm -rf x"}'),
        ("", b"{}"),
        ("{not json", b"{not json"),
    ],
)
async def test_each_form_of_arguments_is_checked_against_its_digest(
    tmp_path: Path, text: str, arguments: bytes
) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held(arguments_text=text, arguments_hash_b64u=sha256_b64u(arguments))
        assert (await desk.cli("grant", name, "--key", desk.key_file)).code == 0
        assert (await task).granted


async def test_long_arguments_are_shown_by_their_beginning_and_can_be_granted(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held(arguments_text="y" * 100_000)
        done = await desk.cli("grant", name, "--key", desk.key_file)
        assert "only its beginning" in done.out
        assert len(done.out) < 10_000
        assert (await task).granted


async def test_a_key_that_is_no_approvers_and_an_approver_of_nothing_are_refused(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held()
        save_key(SigningKey.generate(Role.POLICY), tmp_path / "policy.pem")
        save_key(SigningKey.generate(Role.APPROVAL), tmp_path / "ben.pem")
        assert "[KEY_ROLE]" in (await desk.cli("grant", name, "--key", tmp_path / "policy.pem")).err
        assert "[APPROVER_NOT_TRUSTED]" in (await desk.cli("grant", name, "--key", tmp_path / "ben.pem")).err
        gone = "apr_00000000-0000-4000-8000-000000000000"
        assert "[APPROVAL_NOT_FOUND]" in (await desk.cli("grant", gone, "--key", desk.key_file)).err
        assert not task.done()
        task.cancel()


async def test_an_approver_signs_on_another_machine(tmp_path: Path) -> None:
    """The key need not be where the gateway is: questions out, answer in."""
    async with desk_at(tmp_path) as desk:
        task, name = await desk.held()
        (tmp_path / "questions.json").write_text((await desk.cli("list", "--json")).out)
        answer = tmp_path / "answer.json"
        elsewhere = tmp_path / "elsewhere"  # no gateway there
        words = ("grant", name, "--key", desk.key_file, "--from", tmp_path / "questions.json", "-o", answer)
        done = await asyncio.to_thread(run_cli, "approve", *words, state=elsewhere)
        assert (done.code, "signed, not sent" in done.err) == (0, True)
        assert (await desk.cli("send", answer)).out == f"granted  {name}  job job-1\n"
        assert (await task).granted
        again = await desk.cli("send", answer)
        assert (again.code, "[APPROVAL_NOT_FOUND]" in again.err) == (2, True)


async def test_a_list_that_is_full_of_an_agents_text_can_still_be_read(tmp_path: Path) -> None:
    async with desk_at(tmp_path) as desk:
        calls = [await desk.call(f"job-{n % 16}") for n in range(256)]
        tasks = [
            asyncio.create_task(desk.desk.ask(call, asked(deadline_s=60.0, arguments_text="\x01" * 5000)))
            for call in calls
        ]
        await desk.waiting(256)
        listed = await call_admin(tmp_path / "admin.sock", "approvals")
        assert len(listed["pending"]) == 256
        one = await call_admin(
            tmp_path / "admin.sock", "approvals", approval_id=listed["pending"][7]["scope"]["approval_id"]
        )
        assert len(one["pending"][0]["arguments"]) == 4096
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("words", [("grant", "--key", "x"), ("grant", "apr_x", "--job", "job-1", "--key", "x")])
def test_one_question_or_one_job_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "[USAGE]" in run_cli("approve", *words, state=tmp_path).err


def test_without_a_gateway_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert "[GATEWAY_NOT_RUNNING]" in run_cli("approve", "list", state=tmp_path).err


def test_the_trust_file_has_the_approvers_with_their_groups(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "policy", "token", state=state).code == 0
    for name in ("anna", "ben", "left"):
        assert run_cli("keys", "new", "approval", "--name", name, state=state).code == 0
    files = {name: state / "keys" / f"approval.{name}.pem" for name in ("anna", "ben", "left")}
    dids = {name: load_key(file, Role.APPROVAL).did for name, file in files.items()}
    config = f"""
        [trust]
        approvers = {{ Ops = ["keys/approval.anna.pem", "{dids["ben"]}"], Finance = ["keys/approval.ben.pem"] }}
    """
    (state / "clawproxy.toml").write_text(config)
    rows = {row["did"]: row for row in json.loads(run_cli("keys", "trust", state=state).out)["keys"]}
    assert rows[dids["anna"]] == {"did": dids["anna"], "role": "approval", "name": "approval.anna", "groups": ["Ops"]}
    assert rows[dids["ben"]]["groups"] == ["Finance", "Ops"]
    assert dids["left"] not in rows  # this gateway does not trust it
    assert len(rows) == 5


def test_without_configuration_the_local_approval_key_is_in_no_group(tmp_path: Path) -> None:
    assert run_cli("keys", "new", "approval", state=tmp_path).code == 0
    (row,) = json.loads(run_cli("keys", "trust", state=tmp_path).out)["keys"]
    assert (row["role"], "groups" in row) == ("approval", False)


def test_run_says_that_an_approver_could_not_reach_its_own_gateway(tmp_path: Path) -> None:
    state, contract = tmp_path / "state", tmp_path / "contract.json"
    assert run_cli("keys", "new", "receipt", "policy", "token", state=state).code == 0
    contract.write_text(json.dumps({"policy_name": "asks", "allowed_models": ["m"], "approvals": {"required": True}}))
    assert run_cli("contract", "sign", contract, state=state).code == 0
    done = run_cli("run", "--contract", contract, "--", "true", state=state)
    assert (done.code, "clawproxy serve" in done.err) == (2, True)
    assert list((state / "jobs").glob("[!.]*")) == []
