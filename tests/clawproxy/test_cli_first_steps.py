"""What a newcomer meets on a clean machine: nothing secret is left lying about, and every refusal says what to do."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from clawproxy.addons.admin import AdminSocket, call_admin
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import is_sha256_b64u
from clawproxy.tokens.errors import ClawproxyError

from .command_line import one_line, run_cli


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the three keys of a gateway."""
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    return root


def sign_with_hash_that_starts(first: str, state: Path, file: Path) -> str:
    """Sign a contract whose hash begins with ``first`` (one name in 64 does)."""
    document = json.loads(run_cli("contract", "new", "sdk").out)
    for number in range(2000):
        file.write_text(json.dumps(document | {"policy_name": f"n{number}"}))
        if run_cli("contract", "hash", file).out.startswith(first):
            return run_cli("contract", "sign", file, state=state).out.strip()
    raise AssertionError("no such hash in 2000")


@pytest.fixture
def open_job(state: Path) -> str:
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=state, stdin=document).out.strip()
    assert run_cli("job", "open", f"--contract={contract}", "--job", "j", state=state).code == 0
    return "j"


def test_git_sees_nothing_of_a_new_state_directory(state: Path) -> None:
    assert (state / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_state_directory_that_is_a_work_tree_keeps_its_own_gitignore(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    run_cli("keys", "new", "policy", state=tmp_path)
    assert not (tmp_path / ".gitignore").exists()
    (tmp_path / ".git").rmdir()
    (tmp_path / ".gitignore").write_text("mine\n")
    run_cli("keys", "new", "token", state=tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_a_token_written_to_a_file_is_for_its_owner_alone(state: Path, open_job: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    done = run_cli("token", "mint", "--job", open_job, "-o", file, state=state)
    assert (done.code, done.out) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run_cli("token", "inspect", file, state=state).code == 0
    file.chmod(0o644)  # the next token must not be readable through the mode of the last one
    assert run_cli("token", "mint", "--job", open_job, "-o", file, state=state).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".token*")) == []


def test_a_token_takes_the_place_of_a_token_alone_unless_it_is_forced(
    state: Path, open_job: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    mint = ("token", "mint", "--job", open_job, "-o", file)
    file.touch()
    assert run_cli(*mint, state=state).code == 0
    first = file.read_text()
    assert run_cli(*mint, state=state).code == 0
    assert file.read_text() != first
    file.write_text("notes.of.mine\n")
    done = run_cli(*mint, state=state)
    assert done.code == 2
    assert "it is no token; write it elsewhere, or over it with --force [FILE_EXISTS]" in one_line(done)
    assert file.read_text() == "notes.of.mine\n"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert "FILE_EXISTS" in one_line(run_cli("token", "mint", "--job", open_job, "-o", link, state=state))
    assert run_cli(*mint, "--force", state=state).code == 0
    assert run_cli("token", "inspect", file, state=state).code == 0


def test_a_sealed_job_gets_no_token(state: Path, open_job: str) -> None:
    assert run_cli("job", "seal", open_job, state=state).code == 0
    done = run_cli("token", "mint", "--job", open_job, state=state)
    assert done.code == 2
    assert done.out == ""
    assert "JOB_SEALED" in one_line(done)
    assert "open a new one" in one_line(done)


def test_a_hash_that_starts_with_a_hyphen_is_an_argument_like_any_other(state: Path, tmp_path: Path) -> None:
    contract = sign_with_hash_that_starts("-", state, tmp_path / "contract.json")
    assert is_sha256_b64u(contract)
    for arguments in (["show", contract], ["show", contract, "--json"], ["show", "--json", contract]):
        done = run_cli("contract", *arguments, state=state)
        assert done.code == 0, done.err
        assert contract in done.out
    assert run_cli("job", "open", "--contract", contract, "--job", "j", state=state).code == 0
    assert run_cli("token", "mint", "--contract", contract, "--job", "j", state=state).code == 0
    assert "no such option" in one_line(run_cli("contract", "show", "-8U4", state=state))


def test_a_trust_file_is_not_overwritten_unless_by_force(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_text("someone else's")
    line = one_line(run_cli("keys", "trust", "-o", file, state=state))
    assert "--force" in line
    assert file.read_text() == "someone else's"
    assert run_cli("keys", "trust", "-o", file, "--force", state=state).code == 0
    assert json.loads(file.read_text())["trust_version"] == "1"


def test_without_a_state_directory_job_list_says_so_and_ends_with_2(tmp_path: Path) -> None:
    done = run_cli("job", "list", "--state", tmp_path / "absent")
    assert done.code == 2
    assert "--state" in one_line(done)
    assert "absent" in one_line(done)


def test_the_remedy_for_an_absent_key_repeats_the_state_directory(tmp_path: Path) -> None:
    document = run_cli("contract", "new", "sdk").out
    done = run_cli("contract", "sign", "-", "--state", tmp_path / "x y", stdin=document)
    assert f"clawproxy keys new policy --state '{tmp_path}/x y'" in one_line(done)
    bare = run_cli("contract", "sign", "-", state=tmp_path / "other", stdin=document)
    assert "clawproxy keys new policy [" in one_line(bare)
    done = run_cli("serve", f"--state={tmp_path}")
    assert f"clawproxy keys new receipt --state {tmp_path} [" in one_line(done)


def test_an_error_of_the_gateway_names_its_reason_once(state: Path, open_job: str) -> None:
    line = one_line(
        run_cli("job", "open", "--contract", next((state / "contracts").glob("*.json")), "--job", open_job, state=state)
    )
    assert line.count("JOB_EXISTS") == 1


async def test_an_error_over_the_admin_socket_names_its_reason_once(tmp_path: Path) -> None:
    async def refuse(_request: JsonObject) -> JsonObject:
        raise ClawproxyError("JOB_EXISTS", "it is there", remedy="choose another")

    served = AdminSocket(tmp_path / "s", {"lease": refuse})
    await served.start()
    try:
        with pytest.raises(ClawproxyError) as caught:
            await call_admin(tmp_path / "s", "lease")
    finally:
        await served.stop()
    assert caught.value.one_line() == "it is there; choose another [JOB_EXISTS]"
