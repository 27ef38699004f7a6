"""What root runs in a directory of somebody else: nothing there is run, and no link there is written through."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .command_line import run_cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make files of another user")

NOBODY = 65534


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """What an agent may leave in a working directory of its own."""
    state = tmp_path / ".clawproxy"
    state.mkdir(mode=0o700)
    (state / "clawproxy.toml").write_text(
        f'[providers.openai]\ncredential = "exec:touch {tmp_path}/ran"\n'
        '[listen]\nreverse = "127.0.0.1:0"\nregular = "127.0.0.1:0"\n'
    )
    return state


@pytest.mark.parametrize("whose", ["directory", "configuration", "link"])
@pytest.mark.parametrize("command", [("run", "--", "true"), ("serve",), ("doctor", "--offline")])
def test_what_another_user_has_put_there_is_not_run(planted: Path, whose: str, command: tuple[str, ...]) -> None:
    state = planted
    if whose == "directory":
        os.chown(planted, NOBODY, NOBODY)
    elif whose == "configuration":
        os.chown(planted / "clawproxy.toml", NOBODY, NOBODY)
    else:
        state = planted.with_name("link")
        state.symlink_to(planted)
        os.lchown(state, NOBODY, NOBODY)
    done = run_cli(*command, state=state)
    assert done.code != 0
    assert "STATE_OWNER" in done.out + done.err
    assert not planted.with_name("ran").exists()
    assert not (planted / "keys").exists()


def test_a_configuration_that_all_may_write_is_not_run(planted: Path) -> None:
    (planted / "clawproxy.toml").chmod(0o666)
    assert "STATE_OWNER" in run_cli("run", "--", "true", state=planted).err


def test_a_named_configuration_of_another_user_is_not_root_s(planted: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    shutil.move(planted / "clawproxy.toml", named)
    os.chown(named, NOBODY, NOBODY)
    assert "STATE_OWNER" in run_cli("run", "--config", named, "--", "true", state=planted).err
    assert not (tmp_path / "ran").exists()


def test_one_s_own_configuration_runs_what_it_names(planted: Path) -> None:
    run_cli("run", "--", "true", state=planted)
    assert planted.with_name("ran").exists()


@pytest.mark.parametrize("command", [("ca", "bundle", "--alone", "-o"), ("keys", "trust", "--force", "-o")])
def test_nothing_is_written_through_a_link(tmp_path: Path, command: tuple[str, ...]) -> None:
    state, precious, out = tmp_path / "state", tmp_path / "precious", tmp_path / "out"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=state).code == 0
    precious.write_text("precious")
    out.symlink_to(precious)
    assert run_cli(*command, out, state=state).code == 2
    assert precious.read_text() == "precious"
    out.unlink()
    assert run_cli(*command, out, state=state).code == 0
    assert out.stat().st_size > 100


def test_the_name_of_a_file_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    done = run_cli("verify", tmp_path / "x\x1b]0;y\x07\udc80")
    assert done.code == 2
    assert "x\\x1b]0;y\\x07\\udc80" in done.err
