"""What lies beside openclaw.json: files that win over it, keys, and what people allowed for good."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from clawproxy.openclaw.render import Options
from clawproxy.openclaw.state_files import look_at_state

from .contracts import FREE, GATEWAY, READER, RUNNER, let_go_later, powers


def approvals(folder: Path, told: object) -> None:
    (folder / "state").mkdir(exist_ok=True)
    with sqlite3.connect(folder / "state" / "openclaw.sqlite") as database:
        database.execute("CREATE TABLE IF NOT EXISTS exec_approvals_config (config_key TEXT, raw_json TEXT)")
        database.execute("DELETE FROM exec_approvals_config")
        database.execute("INSERT INTO exec_approvals_config VALUES ('x', ?)", (json.dumps(told),))


def paths(folder: Path, document: dict[str, object] = RUNNER, options: Options | None = None) -> list[str]:
    return [item.path for item in look_at_state(folder, powers(document), options or Options(GATEWAY))]


def test_an_empty_state_directory_says_nothing(tmp_path: Path) -> None:
    assert paths(tmp_path) == []
    assert paths(tmp_path / "absent") == []


def test_an_address_that_wins_over_the_configuration_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "agents" / "main" / "agent"
    folder.mkdir(parents=True)
    providers = {"here": {"baseUrl": f"{GATEWAY}/anthropic"}, "there": {"baseUrl": "https://api.anthropic.com"}}
    (folder / "models.json").write_text(json.dumps({"providers": providers}))
    assert paths(tmp_path) == ["agents/main/agent/models.json.there.baseUrl"]
    assert paths(tmp_path, options=Options(GATEWAY, isolated=True)) == []
    (folder / "models.json").write_text("not json5 {")
    assert paths(tmp_path) == ["agents/main/agent/models.json"]


def test_keys_and_addresses_in_its_environment_file_are_named_without_their_values(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nexport OPENAI_API_KEY=hunter2\nHTTPS_PROXY=x\nCOLOR=1\nbroken\n")
    found = list(look_at_state(tmp_path, powers(READER), Options(GATEWAY)))
    assert [item.path for item in found] == [".env.OPENAI_API_KEY", ".env.HTTPS_PROXY"]
    assert not any("hunter2" in item.line() for item in found)


def test_commands_that_were_allowed_for_good_are_named_where_each_needs_an_approval(tmp_path: Path) -> None:
    allowed = {"security": "allowlist", "allowlist": [{"pattern": "/usr/bin/git"}], "autoAllowSkills": True}
    approvals(tmp_path, {"version": 1, "defaults": {"security": "deny"}, "agents": {"main": allowed}})
    expected = [f"state/openclaw.sqlite#exec_approvals.agents.main.{name}" for name in ("autoAllowSkills", "allowlist")]
    assert paths(tmp_path) == expected
    assert paths(tmp_path, READER) == expected
    assert paths(tmp_path, FREE) == []
    approvals(tmp_path, {"version": 1, "defaults": {"security": "deny"}, "agents": {}})
    assert paths(tmp_path) == []


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_database_that_cannot_be_read_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "openclaw.sqlite").write_bytes(content)
    assert paths(tmp_path) == ["state/openclaw.sqlite#exec_approvals"]


def test_pipes_that_an_agent_puts_there_are_findings_and_keep_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "agents" / "main" / "agent").mkdir(parents=True)
    pipes = [tmp_path / "agents" / "main" / "agent" / "models.json", tmp_path / ".env"]
    for pipe in pipes:
        os.mkfifo(pipe)
    timers, began_s = [let_go_later(pipe) for pipe in pipes], time.monotonic()
    assert paths(tmp_path) == ["agents/main/agent/models.json", ".env"]
    for timer in timers:
        timer.cancel()
    assert time.monotonic() - began_s < 20


def test_an_environment_file_hides_nothing_behind_its_length_or_another_spelling(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_BASE_URL: http://elsewhere\n" + "#" * 2**20 + "\nOPENAI_API_KEY=x\n")
    assert paths(tmp_path) == [".env", ".env.OPENAI_BASE_URL"]


@pytest.mark.parametrize(
    "view",
    [
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS raw_json FROM n WHERE x < 0",
        "SELECT zeroblob(900000000) AS raw_json",
    ],
)
def test_a_view_in_place_of_the_table_of_approvals_takes_neither_time_nor_memory(tmp_path: Path, view: str) -> None:
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state" / "openclaw.sqlite") as database:
        database.execute(f"CREATE VIEW exec_approvals_config AS {view}")
    began = time.monotonic()
    assert paths(tmp_path) == ["state/openclaw.sqlite#exec_approvals"]
    assert time.monotonic() - began < 10  # without bounds: for ever, and 20 s with 4 GB


def test_approvals_do_not_hide_behind_their_length_or_another_row(tmp_path: Path) -> None:
    allowed = {"defaults": {"autoAllowSkills": True}}
    approvals(tmp_path, {**allowed, "padding": "x" * 2**20})
    assert paths(tmp_path) == ["state/openclaw.sqlite#exec_approvals"]
    approvals(tmp_path, {})
    with sqlite3.connect(tmp_path / "state" / "openclaw.sqlite") as database:
        database.execute("INSERT INTO exec_approvals_config VALUES ('y', ?)", (json.dumps(allowed),))
    assert paths(tmp_path) == ["state/openclaw.sqlite#exec_approvals.defaults.autoAllowSkills"]
