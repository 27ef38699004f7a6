"""What a person reads when an agent has ended names a call, and the commands to go on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawproxy.cli.run_summary import say_what_happened

from .command_line import run_cli


@pytest.fixture
def job(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    contract = run_cli("contract", "sign", "-", state=root, stdin=run_cli("contract", "new", "sdk").out).out.strip()
    assert run_cli("job", "open", "--contract", contract, "--job", "j", state=root).code == 0
    return root / "jobs" / "j"


def add(job: Path, kind: str, **payload: str) -> None:
    payload["timestamp"] = "2026-01-01T00:00:00.000Z"
    with (job / "receipts.jsonl").open("a") as journal:
        journal.write(json.dumps({"seq": 1, "t": kind, "body": {"payload": payload}}) + "\n")


def told(job: Path, capsys: pytest.CaptureFixture[str], *, observed: bool = False) -> list[str]:
    capsys.readouterr()
    say_what_happened(job, "not contained", observed=observed)
    return capsys.readouterr().err.partition("next: ")[2].splitlines()


def test_the_refusal_of_a_model_call_comes_before_that_of_what_else_the_agent_wanted(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(job, "denial", receipt_id="rcpt_model", reason="POLICY_MODEL_NOT_ALLOWED", provider="openai")
    add(job, "denial", receipt_id="rcpt_host", reason="NAME_NOT_ALLOWED", destination="telemetry.example")
    first, second = told(job, capsys)
    assert "explain rcpt_model --state " in first
    assert first.endswith("POLICY_MODEL_NOT_ALLOWED")
    assert "job tail j --state " in second


def test_an_observed_job_is_followed_by_the_command_that_makes_a_contract_of_it(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (only,) = told(job, capsys, observed=True)
    assert f"contract suggest {job} --state {job.parents[1]}" in only


def test_a_job_without_calls_has_no_call_to_explain(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = told(job, capsys)
    assert "job tail j" in only


def test_what_an_answer_was_refused_how_calls_ended_and_what_came_before_the_job_was_known_is_said(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = [{"name": "bash", "outcome": "denied", "rule": "POLICY_TOOL_DENIED: shell.exec"}]
    ended = {"clawproxy": {"called": denied, "outcome": "stopped"}}
    with (job / "receipts.jsonl").open("a") as journal:
        payload = {"receipt_id": "rcpt_x", "timestamp": "2026-01-01T00:00:00.000Z", "metadata": ended}
        journal.write(json.dumps({"seq": 1, "t": "receipt", "body": {"payload": payload}}) + "\n")
    capsys.readouterr()
    say_what_happened(job, "not contained", without_job={"STOPPED_BY_OPERATOR": 2})
    said = capsys.readouterr().err
    assert "refused: POLICY_TOOL_DENIED (in an answer) 1" in said
    assert "calls that did not end as usual: stopped 1" in said
    assert "in the gateway's journal alone: STOPPED_BY_OPERATOR 2" in said


def test_a_refused_tunnel_and_the_requests_in_it_are_one_refusal(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    why = {"reason": "EGRESS_NOT_ALLOWED", "rule": "egress_allowlist", "destination": "code.example:443"}
    add(job, "denial", receipt_id="rcpt_1", method="CONNECT", way_in="regular", **why)
    add(job, "denial", receipt_id="rcpt_2", method="GET", way_in="connect", **why)
    capsys.readouterr()
    say_what_happened(job, "not contained")
    said = capsys.readouterr().err.splitlines()
    assert "  refused: EGRESS_NOT_ALLOWED 1, and 1 request in refused tunnels" in said
    assert "  side traffic refused: code.example 1" in said
    shown = json.loads(run_cli("job", "show", "j", "--json", state=job.parents[1]).out)
    assert (shown["refusals"], shown["requests_in_refused_tunnels"]) == ({"EGRESS_NOT_ALLOWED": 1}, 1)
    assert (shown["refused_hosts"], shown["records"]["denial"]) == ({"code.example": 1}, 2)
