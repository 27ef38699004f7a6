"""OpenClaw's own commands: judged by what they say, bounded, in a scrubbed environment. A script stands in for them."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.audits import audit_detail
from clawproxy.tokens.digests import sha256_b64u

from clawproxy.openclaw import own_audit
from clawproxy.openclaw.audit import run_audit
from clawproxy.openclaw.own_audit import judge_report, scrubbed, security_audit
from clawproxy.openclaw.plugins import judge_plugins
from clawproxy.openclaw.render import Options, as_text

from .contracts import GATEWAY, READER, powers, rendered

CLEAN: dict[str, Any] = {"summary": {"critical": 0, "warn": 1, "info": 2}, "findings": []}
CRITICAL: dict[str, Any] = {
    "summary": {"critical": 1, "warn": 0, "info": 0},
    "findings": [{"checkId": "gateway.bind_no_auth", "severity": "critical", "title": "no auth"}],
}
PATHS = {"PATH": "/usr/bin:/bin"}


def script(folder: Path, audit: str, plugins: str = "echo '{\"plugins\": []}'") -> str:
    """A program that takes ``security audit --json`` and ``plugins list --json``."""
    path = folder / "openclaw"
    path.write_text(f'#!/bin/sh\ncase "$1" in security) {audit} ;; plugins) {plugins} ;; *) exit 9 ;; esac\n')
    path.chmod(0o755)
    return str(path)


def says(report: Any) -> str:
    return f"echo '{json.dumps(report)}'"


async def test_the_summary_counts_and_not_the_exit_code(tmp_path: Path) -> None:
    clean = await security_audit(script(tmp_path, f"{says(CLEAN)}; echo warning >&2; exit 1"), PATHS)
    assert (clean.is_clean, clean.exit_code, clean.summary) == (True, 1, CLEAN["summary"])
    bad = await security_audit(script(tmp_path, f"{says(CRITICAL)}; exit 0"), PATHS)
    assert (bad.is_clean, bad.exit_code, bad.critical_ids) == (False, 0, ["gateway.bind_no_auth"])
    assert clean.report_hash_b64u == sha256_b64u(json.dumps(CLEAN).encode() + b"\n")


@pytest.mark.parametrize(
    "out",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"summary": null}',
        b'{"summary": {"critical": "0", "warn": 0, "info": 0}}',
        b'{"summary": {"critical": true, "warn": 0, "info": 0}}',
        b'{"summary": {"warn": 0, "info": 0}}',
        b'{"ok": false, "error": {"type": "x", "message": "Config invalid"}}',
    ],
)
def test_without_a_summary_the_audit_failed_whatever_the_exit_code(out: bytes) -> None:
    judged = judge_report(out, 0)
    assert (judged.outcome, judged.is_clean) == ("failed", False)
    assert judged.detail


def test_a_critical_finding_that_the_summary_does_not_count_counts() -> None:
    report = {**CRITICAL, "summary": {"critical": 0, "warn": 0, "info": 0}}
    assert not judge_report(json.dumps(report).encode(), 0).is_clean


async def test_a_program_that_hangs_floods_or_is_absent_is_a_failed_audit_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    hanging = await security_audit(
        script(tmp_path, f"(sleep 300; touch {tmp_path}/late) & sleep 300"), PATHS, timeout_s=0.5
    )
    assert "within 0.5 seconds" in hanging.detail
    assert time.monotonic() - started < 100
    started = time.monotonic()
    monkeypatch.setattr(own_audit, "MAX_OUTPUT_BYTES", 1000)
    flooding = await security_audit(script(tmp_path, "yes"), PATHS)
    # in a session of its own before the flood: the end of the group must not be the end of it
    outside = f"setsid sh -c 'echo $$ >{tmp_path}/held.new; mv {tmp_path}/held.new {tmp_path}/held; exec sleep 300'"
    held = f"{outside} & until [ -e {tmp_path}/held ]; do sleep 0.01; done; yes"
    held_open = await security_audit(script(tmp_path, held), PATHS)
    os.kill(int((tmp_path / "held").read_text()), signal.SIGKILL)
    assert time.monotonic() - started < 100
    absent = await security_audit(str(tmp_path / "nothing"), PATHS)
    audits = (hanging, flooding, held_open, absent)
    assert [a.outcome for a in audits] == ["failed"] * 4
    assert not any(a.is_clean for a in audits)


async def test_the_environment_holds_no_value_but_of_what_openclaw_needs_to_find_its_files(tmp_path: Path) -> None:
    names = {"PATH": "/usr/bin:/bin", "HOME": "/h", "CLAW_TOKEN": "token", "AWS_SECRET_ACCESS_KEY": "k", "EMPTY": ""}
    env = scrubbed(
        {**names, "HTTPS_PROXY": "p", "LONG": "l" * 10_000, "NODE_OPTIONS": "--require=/tmp/x.js"},
        tmp_path / "openclaw.json",
        {"CLAW_TOKEN", "AWS_SECRET_ACCESS_KEY", "HOME", "ABSENT", "EMPTY", "LONG", "NODE_OPTIONS"},
    )
    assert env == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/h",
        "CLAW_TOKEN": "xxxxx",
        "AWS_SECRET_ACCESS_KEY": "x",
        "EMPTY": "",
        "LONG": "x" * 4096,
        **dict.fromkeys(
            ("NODE_OPTIONS", "NODE_PATH", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "OPENCLAW_LOAD_SHELL_ENV"), ""
        ),
        "OPENCLAW_CONFIG_PATH": str(tmp_path / "openclaw.json"),
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }
    seen = await security_audit(script(tmp_path, "env >&2; env | grep -c KEY"), {"PATH": "/usr/bin:/bin"})
    assert seen.report == b"0\n"


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"secrets": {"providers": {"x": {"source": "exec", "command": "/tmp/x"}}}}, "secrets.providers.x.source"),
        ({"gateway": {"auth": {"token": {"source": "exec", "id": "x"}}}}, "gateway.auth.token.source"),
        ({"tools": {"$include": "./more.json5"}}, "tools.$include"),
    ],
)
async def test_openclaw_is_not_asked_where_it_would_start_a_program_of_the_agents(
    tmp_path: Path, part: dict[str, Any], named: str
) -> None:
    config = tmp_path / "openclaw.json"
    config.write_text(as_text({**rendered(READER), **part}))
    program = script(tmp_path, f"touch {tmp_path}/asked; {says(CLEAN)}", f"touch {tmp_path}/asked")
    found = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, program=program, state_dir=tmp_path)
    assert found.own is not None
    assert (found.own.outcome, named in found.own.detail, found.holds) == ("failed", True, False)
    assert not (tmp_path / "asked").exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that every user may go through."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
async def test_root_asks_as_the_user_whose_files_they_are(open_folder: Path) -> None:
    config, state = open_folder / "openclaw.json", open_folder / "state"
    config.write_text(as_text(rendered(READER)))
    state.mkdir()
    program = script(open_folder, f"echo $(id -u) $(id -G) $HOME >{open_folder}/state/who; {says(CLEAN)}")

    async def who() -> str:
        found = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, program=program, state_dir=state)
        assert found.own is not None
        return (state / "who").read_text().strip() if found.own.outcome == "done" else found.own.detail

    assert (await who()).startswith("0 ")
    (state / "who").unlink()
    os.chown(state, 12345, 12346)
    assert await who() == "12345 12346 /"
    os.chown(config, 12347, 12347)
    assert "several users (12345, 12347)" in await who()
    os.chown(config, 0, 0)
    config.rename(open_folder / "other.json")
    config.symlink_to("other.json")
    os.chown(config, 12347, 12347, follow_symlinks=False)
    assert "several users" in await who()
    os.chown(config, 12345, 12345, follow_symlinks=False)
    os.chmod(open_folder, 0o700)
    assert "cannot be started as user 12345: permission denied" in await who()


ROWS = [
    {"id": "xai", "origin": "bundled", "enabled": True, "toolNames": ["code_execution"], "hookNames": []},
    {"id": "mine", "origin": "npm", "enabled": True, "toolNames": [], "hookNames": []},
    {"id": "hooked", "origin": "bundled", "enabled": True, "toolNames": [], "hookNames": ["before_fetch"]},
    {"id": "plain", "origin": "bundled", "enabled": True, "toolNames": ["read"], "hookNames": []},
    {"id": "off", "origin": "npm", "enabled": False, "toolNames": ["x"], "hookNames": []},
]


def test_plugins_that_bring_tools_hooks_or_foreign_code_are_named() -> None:
    paths = {item.path for item in judge_plugins([row for row in ROWS if row["enabled"]], powers(READER))}
    assert paths == {"plugins.xai.toolNames", "plugins.mine", "plugins.hooked.hookNames"}
    assert {item.path for item in judge_plugins(ROWS[:1], powers(READER), {"code_execution"})} == set()


async def test_an_audit_is_whole_and_its_events_can_be_recorded(tmp_path: Path) -> None:
    config = tmp_path / "openclaw.json"
    config.write_text(as_text(rendered(READER)))
    program = script(tmp_path, says(CLEAN))
    good = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, program=program, state_dir=tmp_path)
    assert good.holds
    for event, detail in good.events("after"):
        assert audit_detail(event, detail)["label"] == "after"
    program = script(tmp_path, says(CRITICAL), f"echo '{json.dumps({'plugins': ROWS})}'")
    bad = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, program=program, state_dir=tmp_path)
    assert not bad.holds
    (compared, told), (audited, own) = [(event, audit_detail(event, detail)) for event, detail in bad.events(None)]
    assert (compared, told["wider_total"], told["report_hash_b64u"]) == ("config_compared", 2, sha256_b64u(bad.report))
    assert (audited, own["summary"]["critical"], own["critical_ids"]) == ("config_audited", 1, ["gateway.bind_no_auth"])
    program = script(tmp_path, says(CLEAN), "echo broken")
    unknown = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, program=program, state_dir=tmp_path)
    assert [item.path for item in unknown.wider] == ["plugins"]
    alone = await run_audit(config, powers(READER), Options(GATEWAY), PATHS, state_dir=tmp_path)
    assert (alone.holds, [event for event, _ in alone.events(None)]) == (True, ["config_compared"])
