"""``clawproxy openclaw render`` and ``audit``: what they print, how they end, and what a job keeps of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.cli import openclaw as cli_openclaw
from clawproxy.cli.rounds import Rounds

from ..gateway.bed import CONTRACT, running_bed
from ..waiting import PATIENCE_S
from .command_line import Done, one_line, run_cli, spawn_cli
from .standin_process import running_standin


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A directory with a contract, its rendering, and an OpenClaw state of its own."""
    (tmp_path / "contract.json").write_text(run_cli("contract", "new", "openclaw", "--model", "claude-sonnet-4-5").out)
    (tmp_path / "oc").mkdir()
    done = run_cli("openclaw", "render", "--contract", tmp_path / "contract.json", "-o", tmp_path / "openclaw.json")
    assert done.code == 0, done.err
    return tmp_path


def audit(house: Path, *arguments: str | Path, state: Path | None = None) -> Done:
    return run_cli(
        "openclaw", "audit", "--contract", house / "contract.json", "--config", house / "openclaw.json",
        "--openclaw-state", house / "oc", *arguments, state=state,
    )  # fmt: skip


def program(folder: Path, critical: int = 0) -> Path:
    path = folder / "openclaw"
    report = json.dumps({"summary": {"critical": critical, "warn": 0, "info": 0}, "findings": []})
    path.write_text(f"#!/bin/sh\ncase \"$1\" in security) echo '{report}' ;; *) echo '{{\"plugins\": []}}' ;; esac\n")
    path.chmod(0o755)
    return path


def widen(house: Path) -> None:
    config = json.loads((house / "openclaw.json").read_text())
    config["tools"]["elevated"] = {"enabled": True, "allowFrom": {"telegram": ["*"]}}
    (house / "openclaw.json").write_text(json.dumps(config))


def test_the_rendering_is_written_once_for_its_owner_alone(house: Path) -> None:
    assert (house / "openclaw.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((house / "openclaw.json").read_text())["gateway"]["bind"] == "loopback"
    again = run_cli("openclaw", "render", "--contract", house / "contract.json", "-o", house / "openclaw.json")
    assert "FILE_EXISTS" in one_line(again)
    printed = run_cli("openclaw", "render", "--contract", house / "contract.json", "--base-url", "https://g:9/")
    assert json.loads(printed.out)["models"]["providers"]["claw-anthropic"]["baseUrl"] == "https://g:9/anthropic"
    assert "egress_allowlist" in printed.err


def test_what_was_rendered_is_within_the_contract_and_a_change_is_not(house: Path) -> None:
    with mock.patch("shutil.which", return_value=None):
        done = audit(house)
    assert (done.code, "within the contract" in done.out) == (0, True), done.out
    assert "did not run" in done.err
    assert audit(house, "--openclaw", program(house)).code == 0
    assert audit(house, "--openclaw", program(house, critical=1)).code == 1
    assert audit(house, "--openclaw", house / "absent").code == 1
    widen(house)
    done = audit(house, "--openclaw", program(house))
    assert done.code == 1
    assert "tools.elevated.enabled" in done.out
    told = json.loads(audit(house, "--openclaw", program(house), "--json").out)
    assert [item["field"] for item in told["wider"]] == ["elevated", "elevated"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--every", "10"), "such as 10m"),
        (("--every", "1s"), "at least 30s"),
        (("--config", "/nowhere/openclaw.json"), "no such file"),
        (("--contract", "/nowhere/contract.json"), "cannot read"),
        (("--job", "nobody"), "no such job"),
        (("--times", "3"), "--every"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(house: Path, arguments: tuple[str, ...], said: str) -> None:
    done = audit(house, *arguments, state=house / "state")
    assert (done.code, said in done.err) == (2, True), done.err


def test_a_configuration_that_cannot_be_read_is_code_2(house: Path) -> None:
    (house / "openclaw.json").write_text("{ tools: ")
    assert "OPENCLAW_CONFIG" in one_line(audit(house))


def test_before_and_after_are_on_record_and_the_reports_can_be_attached(house: Path) -> None:
    state = house / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=state)
    signed = run_cli("contract", "sign", house / "contract.json", state=state).out.strip()
    assert run_cli("job", "open", "--contract", signed, "--job", "j", state=state).code == 0
    run_cli("keys", "trust", "-o", state / "trust.json", state=state)
    hardened = (house / "openclaw.json").read_text()
    widen(house)
    oc = program(house, critical=2)
    assert (
        audit(house, "--openclaw", oc, "--job", "j", "--label", "before", "--reports", house / "r", state=state).code
        == 1
    )
    for name in ("openclaw-compared.json", "openclaw-security-audit.json"):
        assert run_cli("job", "attach", house / "r" / name, "--kind", "report", "--job", "j", state=state).code == 0
    (house / "openclaw.json").write_text(hardened)
    assert audit(house, "--openclaw", program(house), "--job", "j", "--label", "after", state=state).code == 0
    assert run_cli("job", "seal", "j", state=state).code == 0
    verified = run_cli("verify", state / "jobs" / "j", "--trust", state / "trust.json", state=state)
    assert verified.code == 0, verified.out
    lines = json.loads(run_cli("job", "show", "j", "--json", state=state).out)["other_evidence"]
    assert [line.partition(":")[0] for line in lines if "attached" not in line] == [
        "config_compared openclaw (before)",
        "config_audited openclaw (before)",
        "config_compared openclaw (after)",
        "config_audited openclaw (after)",
    ]
    records = [json.loads(line) for line in (state / "jobs" / "j" / "receipts.jsonl").read_text().splitlines()]
    events = [record["body"]["payload"] for record in records if record["t"] == "event"]
    compared = next(e["detail"] for e in events if e["event"]["event_type"] == "config_compared")
    kept = (house / "r" / "openclaw-compared.json").read_bytes()
    assert compared["report_hash_b64u"] == sha256_b64u(kept)
    assert [row["path"] for row in compared["wider"]] == ["tools.elevated.enabled", "tools.elevated.allowFrom.telegram"]


def test_another_contract_than_the_jobs_is_not_recorded(house: Path) -> None:
    state = house / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=state)
    other = run_cli("contract", "sign", "-", state=state, stdin=run_cli("contract", "new", "sdk").out).out.strip()
    assert run_cli("job", "open", "--contract", other, "--job", "j", state=state).code == 0
    assert "POLICY_HASH_MISMATCH" in one_line(audit(house, "--openclaw", program(house), "--job", "j", state=state))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """A pause of ten minutes is over at once; what is in the list is done in the next ones, first to last."""
    to_do: list[Callable[[], object]] = []

    async def pause(_rounds: Rounds, ended: Callable[[], str]) -> str:
        to_do.pop(0)()
        return ended()

    monkeypatch.setattr(Rounds, "_pause", pause)
    yield to_do
    assert to_do == []


def test_on_a_schedule_the_worst_audit_decides(house: Path, quick: list[Callable[[], object]]) -> None:
    quick += [lambda: None, lambda: widen(house)]
    done = audit(house, "--openclaw", program(house), "--every", "10m", "--times", "3")
    assert (done.code, done.out.count("within the contract")) == (1, 2)


def with_job(house: Path) -> Path:
    """A state directory with an open job ``j``, under the contract."""
    state = house / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=state)
    signed = run_cli("contract", "sign", house / "contract.json", state=state).out.strip()
    assert run_cli("job", "open", "--contract", signed, "--job", "j", state=state).code == 0
    run_cli("keys", "trust", "-o", state / "trust.json", state=state)
    return state


def events_of(state: Path) -> list[tuple[str, Any]]:
    records = [json.loads(line) for line in (state / "jobs" / "j" / "receipts.jsonl").read_text().splitlines()]
    events = [record["body"]["payload"] for record in records if record["t"] == "event"]
    return [(e["event"]["event_type"], e["detail"]) for e in events if e["event"]["event_type"].startswith("config_")]


def test_a_configuration_that_goes_away_for_a_while_ends_no_schedule_and_is_on_record(
    house: Path, quick: list[Callable[[], object]]
) -> None:
    state, config = with_job(house), house / "openclaw.json"
    kept = config.read_text()
    quick += [config.unlink, lambda: config.write_text(kept)]
    done = audit(house, "--openclaw", program(house), "--job", "j", "--every", "10m", "--times", "3", state=state)
    assert (done.code, done.out.count("audit failed: "), done.out.count("within")) == (1, 1, 2), done.out
    told = events_of(state)
    assert [event for event, _ in told] == [
        *("config_compared", "config_audited"), "config_audited", *("config_compared", "config_audited")
    ]  # fmt: skip
    assert [detail["outcome"] for event, detail in told if event == "config_audited"] == ["done", "failed", "done"]
    assert run_cli("job", "seal", "j", state=state).code == 0
    verified = run_cli("verify", state / "jobs" / "j", "--trust", state / "trust.json", state=state)
    assert verified.code == 0, verified.out


def test_a_schedule_ends_with_its_job_and_a_sealed_job_is_not_audited(
    house: Path, quick: list[Callable[[], object]]
) -> None:
    state = with_job(house)
    quick += [lambda: None, lambda: spawn_cli("job", "seal", "j", state=state)]
    done = audit(house, "--openclaw", program(house), "--job", "j", "--every", "10m", state=state)
    assert (done.code, "job j is sealed, after 2 audits" in done.err) == (0, True), done.err
    asked = program(house)
    asked.write_text(f"#!/bin/sh\ntouch {house}/asked\n")
    again = audit(house, "--openclaw", asked, "--job", "j", state=state)
    assert ("JOB_SEALED" in one_line(again), (house / "asked").exists()) == (True, False)


@pytest.mark.parametrize(("reason", "code"), [("JOB_LOCKED", 1), ("JOB_SEALED", 0)])
def test_an_audit_that_gets_not_on_record_is_told_all_the_same_and_the_next_one_tries_again(
    house: Path, quick: list[Callable[[], object]], reason: str, code: int
) -> None:
    quick.append(lambda: None)
    state, refusals = with_job(house), [ClawproxyError(reason, "not now"), None]
    real = cli_openclaw._record

    async def record(*arguments: Any) -> None:
        if (refusal := refusals.pop(0)) is not None:
            raise refusal
        await real(*arguments)

    with mock.patch.object(cli_openclaw, "_record", record):
        every = ("--every", "10m", "--times", "2")
        done = audit(house, "--openclaw", program(house), "--job", "j", *every, state=state)
    assert (done.code, done.out.count("within the contract")) == (code, 2), done.err
    assert "not on record: not now" in done.err
    assert len(events_of(state)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_schedule_with_what_was_found_so_far(house: Path, number: signal.Signals) -> None:
    widen(house)
    with spawned_audit(house, program(house), "--every", "10m") as process:
        assert process.stdout is not None
        for line in process.stdout:  # written at once, although it is no terminal
            if "wider than the contract" in line:
                break
        process.send_signal(number)
        assert (process.wait(60), "interrupted, after 1 audit" in (process.stderr or io.StringIO()).read()) == (1, True)


def test_a_signal_in_the_middle_of_the_first_audit_is_no_all_clear_and_leaves_no_openclaw(house: Path) -> None:
    hanging = program(house)
    hanging.write_text(f"#!/bin/sh\necho $$ >{house}/pid.new\nmv {house}/pid.new {house}/pid\nsleep 600\n")
    with spawned_audit(house, hanging) as process:
        while not (house / "pid").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    group, end_s = int((house / "pid").read_text()), time.monotonic() + PATIENCE_S
    while runs_in_group(group):  # what is killed takes a moment to end
        assert time.monotonic() < end_s
        time.sleep(0.05)


def runs_in_group(group: int) -> bool:
    """Whether a process of it runs; what has ended and waits for somebody to ask how does not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


@contextlib.contextmanager
def spawned_audit(house: Path, asked: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command: list[str | Path] = [
        sys.executable, "-m", "clawproxy", "openclaw", "audit", "--contract", house / "contract.json", "--config",
        house / "openclaw.json", "--openclaw-state", house / "oc", "--openclaw", asked, *arguments,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_running_gateway_records_it_in_the_job_that_it_has_open(house: Path) -> None:
    state = house / "running"
    contract = {**CONTRACT, "allowed_models": ["claude-sonnet-5-5", "gpt-4o-mini"]}
    (house / "contract.json").write_text(json.dumps(contract))
    (house / "openclaw.json").unlink()
    listen = {"listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True}}
    run_cli("openclaw", "render", "--contract", house / "contract.json", "-o", house / "openclaw.json")
    with running_standin(house) as provider:
        async with running_bed(state, provider, contract=contract, sections=listen) as bed:
            await bed.chat()
            done = await asyncio.to_thread(audit, house, "--openclaw", program(house), "--job", "job-1", state=state)
            assert done.code == 0, done.out + done.err
            await bed.gateway.seal("job-1", force=False)
            kinds = [record["event"]["event_type"] for record in bed.records("event")]
            assert {"config_compared", "config_audited"} <= set(kinds)
