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


def test_tail_says_of_a_job_that_it_was_opened_to_observe(tmp_path: Path) -> None:
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "policy", state=root).code == 0
    run_cli("contract", "new", "sdk", "--model", "m", "-o", tmp_path / "c.json")
    assert run_cli("contract", "sign", tmp_path / "c.json", state=root).code == 0
    opened = run_cli("job", "open", "--contract", tmp_path / "c.json", "--job", "j", "--observe", state=root)
    assert opened.code == 0
    line = run_cli("job", "tail", "j", state=root).out
    assert line.endswith("job_opened to observe: nothing of the contract is enforced\n")


def test_tail_says_how_many_records_came_before_those_it_prints(state: Path) -> None:
    done = run_cli("job", "tail", "sealed", "-n", "1", state=state)
    assert done.err == "… 1 earlier; -n 0 for all\n"
    assert run_cli("job", "tail", "sealed", "-n", "2", state=state).err == ""
    assert run_cli("job", "tail", "sealed", "-n", "0", state=state).err == ""


def test_explain_of_a_damaged_job_points_to_verify_and_not_to_calls_that_it_does_not_know(
    state: Path, tmp_path: Path
) -> None:
    damaged, trust = tmp_path / "damaged", state / "trust.json"
    shutil.copytree(state / "jobs" / "sealed", damaged)
    journal = (damaged / "receipts.jsonl").read_bytes()
    (damaged / "receipts.jsonl").write_bytes(journal.replace(b'"job_sealed"', b'"job_healed"'))
    done = run_cli("explain", damaged, "--trust", trust)
    assert done.code == 1
    assert "nothing from record 1 on (receipts.jsonl:2) can be relied on" in done.out
    assert "no call, and no refusal" not in done.out
    assert f" verify {damaged} --trust {trust}\n" in done.err
    assert "more of one" not in done.err


def test_the_hint_of_a_list_carries_the_trust_file_that_was_given(state: Path) -> None:
    sealed, trust = state / "jobs" / "sealed", state / "trust.json"
    assert f"explain {sealed} RECEIPT_ID --trust {trust}\n" in run_cli("explain", sealed, "--trust", trust).err
    assert f"explain {sealed} RECEIPT_ID\n" in run_cli("explain", sealed).err


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
    written = tmp_path / "right.yaml"
    written.write_text(json.dumps(json.loads(right.read_bytes())["payload"]))  # JSON is YAML, too
    assert run_cli("verify", bundle, "--trust", trust, "--contract", written).code == 0
    written.write_text("policy_name: [no\n")
    assert run_cli("verify", bundle, "--trust", trust, "--contract", written).code == 2
    other = tmp_path / "other.json"
    for broken in ("{", "[1]", '{"a": 1, "a": 2}'):
        other.write_text(broken)
        done = run_cli("verify", bundle, "--trust", trust, "--contract", other)
        assert (done.code, "other.json" in one_line(done)) == (2, True)
    other.write_text(run_cli("contract", "new", "codex").out)
    done = run_cli("verify", bundle, "--trust", trust, "--contract", other)
    assert done.code == 1
    assert "POLICY_HASH_MISMATCH" in done.out


def test_the_trust_file_of_another_gateway_is_named_as_what_may_be_wrong(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_cli("keys", "new", "receipt", "token", "policy", state=other)
    run_cli("keys", "trust", "-o", tmp_path / "other.json", state=other)
    done = run_cli("verify", state / "jobs" / "sealed", "--trust", tmp_path / "other.json")
    assert (done.code, "CLAIM_NOT_FOUND" in done.out) == (1, True)
    assert "clawproxy keys trust -o trust.json" in done.out.splitlines()[-1]
    told = one_line(run_cli("explain", state / "jobs" / "sealed", "rcpt_1", "--trust", tmp_path / "other.json"))
    assert "who signed it is not trusted" in told
    assert "this gateway's trust file" in told


def test_the_id_of_a_job_in_place_of_its_directory_is_answered_with_where_it_lies(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".clawproxy").symlink_to(state)
    assert "it is here: .clawproxy/jobs/sealed [NOT_A_JOB]" in one_line(run_cli("verify", "sealed"))


def test_verify_and_show_say_what_containment_means(state: Path) -> None:
    told = "not attested: the gateway did not start the agent, and knows nothing of its other ways out"
    done = run_cli("verify", state / "jobs" / "sealed", "--trust", state / "trust.json")
    assert f"  containment: {told}\n" in done.out
    assert told in run_cli("job", "show", "sealed", state=state).out
    assert json.loads(run_cli("job", "show", "sealed", "--json", state=state).out)["containment"] == "not attested"


def test_verify_reads_a_zip_and_a_single_signed_file(state: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "b"), "zip", state / "jobs" / "sealed")
    assert run_cli("verify", packed, "--trust", state / "trust.json").code == 0
    contract = next((state / "contracts").glob("*.json"))
    done = run_cli("verify", contract, "--trust", state / "trust.json")
    assert done.out.startswith("CONFORMS")
    assert done.code == 0


def test_verify_of_what_is_no_signed_file_says_what_to_give_in_its_place(state: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(run_cli("contract", "new", "sdk").out)
    done = run_cli("verify", tmp_path / "contract.json")
    assert (done.code, " at : " in done.out) == (1, False)
    assert "fail: W01 MALFORMED_ENVELOPE: neither a signed envelope nor an export bundle; a contract that" in done.out
    assert "contract sign signs it" in done.out
    for part in ("receipts.jsonl", "job.json", "SEAL.json"):
        done = run_cli("verify", state / "jobs" / "sealed" / part, "--trust", state / "trust.json")
        assert done.code == 1
        assert f"{part} is a part of a bundle; give its directory: {state}/jobs/sealed\n" in done.out


def test_verify_of_a_signed_contract_without_a_trust_file_ends_with_3_and_asks_for_one(state: Path) -> None:
    done = run_cli("verify", next((state / "contracts").glob("*.json")))
    assert done.code == 3
    assert done.out.startswith("INCOMPLETE")
    assert "give the gateway's keys with --trust" in done.out


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
