"""job, verify and doctor on a state directory without a running gateway."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from .command_line import one_line, run_cli


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with keys, one signed contract, and two jobs: ``open`` and ``sealed``."""
    root = tmp_path_factory.mktemp("jobs") / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=root, stdin=document).out.strip()
    for job in ("open", "sealed"):
        assert run_cli("job", "open", "--contract", contract, "--job", job, state=root).code == 0
    assert run_cli("job", "seal", "sealed", state=root).code == 0
    run_cli("keys", "trust", "-o", root / "trust.json", state=root)
    return root


def test_list_shows_what_is_open_and_what_is_sealed(state: Path) -> None:
    rows = json.loads(run_cli("job", "list", "--json", state=state).out)
    assert [(row["job"], row["state"]) for row in rows] == [("open", "open"), ("sealed", "sealed")]
    assert "sealed" in run_cli("job", "list", state=state).out


def test_show_counts_records(state: Path) -> None:
    shown = json.loads(run_cli("job", "show", "sealed", "--json", state=state).out)
    assert shown["records"] == {"event": 2}
    assert "2 event" in run_cli("job", "show", "sealed", state=state).out


def test_tail_prints_one_line_per_record_and_ends_when_the_job_is_sealed(state: Path) -> None:
    lines = run_cli("job", "tail", "sealed", "-f", state=state).out.splitlines()
    assert [line.split()[-1] for line in lines] == ["job_opened", "job_sealed"]
    assert len(run_cli("job", "tail", "sealed", "-n", "1", state=state).out.splitlines()) == 1
    records = [json.loads(line) for line in run_cli("job", "tail", "sealed", "--json", state=state).out.splitlines()]
    assert [record["seq"] for record in records] == [0, 1]


def test_a_job_of_the_same_name_is_refused(state: Path) -> None:
    contract = next((state / "contracts").glob("*.json"))
    done = run_cli("job", "open", "--contract", contract, "--job", "open", state=state)
    assert "JOB_EXISTS" in one_line(done)


def test_unknown_and_malformed_job_names_are_one_line(state: Path) -> None:
    assert "JOB_NOT_FOUND" in one_line(run_cli("job", "show", "nothing", state=state))
    assert "JOB_NOT_FOUND" in one_line(run_cli("job", "seal", "nothing", state=state))
    assert "not a job id" in one_line(run_cli("job", "show", "../x", state=state))


def test_sealing_twice_says_where_it_lies_again(state: Path) -> None:
    done = run_cli("job", "seal", "sealed", "--json", state=state)
    assert done.code == 0
    assert json.loads(done.out)["directory"].endswith("/jobs/sealed")


def test_verify_says_verified_incomplete_and_failed_with_exit_codes(state: Path, tmp_path: Path) -> None:
    bundle, trust = state / "jobs" / "sealed", state / "trust.json"
    done = run_cli("verify", bundle, "--trust", trust, "--json")
    assert (done.code, json.loads(done.out)["verdict"]) == (0, "VERIFIED")
    untrusted = run_cli("verify", bundle)
    assert untrusted.code == 3
    assert untrusted.out.startswith("INCOMPLETE")
    assert "--trust" in untrusted.out
    assert run_cli("verify", state / "jobs" / "open", "--trust", trust).code == 3
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    journal = copy / "receipts.jsonl"
    journal.chmod(0o600)
    journal.write_bytes(journal.read_bytes().replace(b"job_sealed", b"job_sealev"))
    tampered = run_cli("verify", copy, "--trust", trust)
    assert tampered.code == 1
    assert "receipts.jsonl" in tampered.out


def test_verify_takes_the_contract_that_the_auditor_expects(state: Path, tmp_path: Path) -> None:
    bundle, trust = state / "jobs" / "sealed", state / "trust.json"
    right = next((state / "contracts").glob("*.json"))
    assert run_cli("verify", bundle, "--trust", trust, "--contract", right).code == 0
    other = tmp_path / "other.json"
    other.write_text(run_cli("contract", "new", "codex").out)
    done = run_cli("verify", bundle, "--trust", trust, "--contract", other)
    assert done.code == 1
    assert "POLICY_HASH_MISMATCH" in done.out


def test_verify_reads_a_zip_and_a_single_signed_file(state: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "b"), "zip", state / "jobs" / "sealed")
    assert run_cli("verify", packed, "--trust", state / "trust.json").code == 0
    contract = next((state / "contracts").glob("*.json"))
    done = run_cli("verify", contract, "--trust", state / "trust.json")
    assert done.out.startswith("CONFORMS")
    assert done.code == 0


def test_doctor_names_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    done = run_cli("doctor", "--json", state=tmp_path / "none")
    assert done.code == 1
    assert not (tmp_path / "none").exists()
    found = {row["what"]: row for row in json.loads(done.out)}
    assert found["state directory"]["state"] == "fail"
    assert "clawproxy keys new" in found["state directory"]["remedy"]


def test_doctor_is_content_with_a_state_directory_that_is_set_up(state: Path) -> None:
    config = state / "doctor.toml"
    config.write_text('[listen]\nreverse = "127.0.0.1:0"\nregular = "127.0.0.1:0"\n')
    done = run_cli("doctor", "--json", "-c", config, state=state)
    bad = [row for row in json.loads(done.out) if row["state"] == "fail"]
    assert bad == []
    assert done.code == 0


def test_doctor_says_which_port_is_taken_and_which_secret_is_absent(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = state / "taken.toml"
        config.write_text(
            f'[listen]\nreverse = "127.0.0.1:{port}"\nregular = ""\n'
            '[providers.openai]\ncredential = "env:NO_SUCH_VARIABLE_ANYWHERE"\n'
        )
        done = run_cli("doctor", "--json", "-c", config, state=state)
    failed = {row["what"] for row in json.loads(done.out) if row["state"] == "fail"}
    assert failed == {"listener reverse", "provider openai"}
    assert done.code == 1
