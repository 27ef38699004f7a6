"""``clawproxy run --isolate``, as a person would: the whole way from the command line to a verified bundle."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawproxy.cage.alive import parent_of

from ..clawproxy.command_line import run_cli
from ..clawproxy.standin_process import Provider, running_standin
from .rig import PYTHON, needs_root, pids_of

pytestmark = needs_root

AGENT = Path(__file__).with_name("agent.py").read_text()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path, provider: Provider) -> Path:
    return provider.make_state(tmp_path / "state", "openai", "anthropic")


def isolated(state: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CLAWPROXY", "SUDO"))}
    env |= {"CLAWPROXY_STATE": str(state), "OPENAI_BASE_URL": "http://elsewhere", "https_proxy": "http://elsewhere"}
    return subprocess.run(
        [sys.executable, "-m", "clawproxy", "run", "--isolate", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=env, cwd="/", **more,
    )  # fmt: skip


def opened(state: Path, job: str) -> dict[str, Any]:
    first = (state / "jobs" / job / "receipts.jsonl").read_bytes().splitlines()[0]
    detail: dict[str, Any] = json.loads(first)["body"]["payload"]["detail"]
    return detail


def test_an_isolated_agent_reaches_its_provider_by_its_name_and_nothing_else(state: Path, provider: Provider) -> None:
    seen_before = len(provider.seen())
    done = isolated(state, "--job", "j", "--contract", "sdk", "--", PYTHON, "-c", AGENT, input="given")
    assert done.returncode == 7, done.stderr
    told = json.loads(done.stdout)
    assert told["allowed"] == "200 True"
    assert told["refused"] == "403 POLICY_MODEL_NOT_ALLOWED"
    assert told["telemetry"] == "gaierror"
    assert told["openai"].startswith(("198.18.", "fd63:6c61:7770:1:"))
    assert told["input"] == "given"
    assert told["uid"] >= 61184
    env = told["env"]
    assert env["OPENAI_API_KEY"].startswith("cph_")
    assert env["SSL_CERT_FILE"] == told["ca"] == "/run/clawproxy/bundle.pem"
    assert not [name for name in env if name.lower().endswith("_proxy") or name.endswith("_BASE_URL")]
    assert provider.key("openai") not in done.stdout
    assert [line["credential"] for line in provider.seen()[seen_before:]] == ["right"]
    for words in (
        "VERIFIED",
        "job j is open; isolated",
        "containment: isolated",
        "telemetry.example.com 1",
        "2 denials",
    ):
        assert words in done.stderr, done.stderr


def test_the_bundle_signs_what_contained_the_agent(state: Path) -> None:
    assert isolated(state, "--job", "j", "--memory", "1G", "--pids", "200", "--", "true").returncode == 0
    detail = opened(state, "j")
    assert detail["containment"] == "isolated"
    isolation = detail["isolation"]
    assert len(isolation["rules_hash_b64u"]) == 43
    assert isolation["uid_changed"] is True
    assert isolation["limits"] == [{"name": "memory-bytes", "value": 1 << 30}, {"name": "pids", "value": 200}]
    outcomes = {probe["name"]: probe["outcome"] for probe in isolation["probes"]}
    assert len(outcomes) > 40
    assert set(outcomes.values()) <= {"blocked", "not tried"}


WANTS_OUT = """
import socket
for port in (443, 443, 443, 9):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("1.1.1.1", port))
with socket.socket() as sock:
    sock.connect_ex(("1.1.1.1", 22))
"""


def test_what_the_doors_rules_turned_away_is_signed_and_said(state: Path) -> None:
    done = isolated(state, "--job", "j", "--", PYTHON, "-c", WANTS_OUT)
    assert done.returncode == 0, done.stderr
    assert "VERIFIED" in done.stderr
    assert "the door turned away: 1 TCP, 3 QUIC, 1 UDP (packets)" in done.stderr
    events = [
        record["body"]["payload"]
        for line in (state / "jobs" / "j" / "receipts.jsonl").read_bytes().splitlines()
        if (record := json.loads(line))["t"] == "event"
    ]
    [told] = [event["detail"] for event in events if event["event"]["event_type"] == "door_counted"]
    assert told == {"packets": {"icmp": 0, "other": 0, "quic": 3, "tcp": 1, "udp": 1}}


NOISE = """
import socket
for n in range(300):
    try:
        socket.getaddrinfo(f"n{n}.noise.example", 443)
    except OSError:
        pass
"""


def test_refusals_that_noise_hides_are_counted(state: Path) -> None:
    done = isolated(state, "--job", "j", "--", PYTHON, "-c", NOISE)
    assert done.returncode == 0, done.stderr
    assert "VERIFIED" in done.stderr
    records = [json.loads(line) for line in (state / "jobs" / "j" / "receipts.jsonl").read_bytes().splitlines()]
    told = sum(record["t"] == "denial" for record in records)
    [detail] = [
        payload["detail"]
        for record in records
        if record["t"] == "event" and (payload := record["body"]["payload"])["event"]["event_type"] == "door_counted"
    ]
    assert told + detail["denials_left_out"] == 300
    assert f"refused, not on record: {detail['denials_left_out']} more" in done.stderr


def test_a_run_without_isolation_says_so_on_screen_and_in_the_bundle(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clawproxy", "run", "--state", str(state), "--job", "j", "--", "true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("not contained") == 2
    assert opened(state, "j")["containment"] == "not contained"


def test_the_state_directory_and_the_credentials_are_not_there_inside(state: Path, provider: Provider) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as folder:
        key_file, open_state = Path(folder) / "key", Path(folder) / "state"
        key_file.write_text(provider.key("openai"))
        key_file.chmod(0o600)
        shutil.copytree(state, open_state)
        config = (open_state / "clawproxy.toml").read_text().replace(provider.key_files["openai"], str(key_file))
        (open_state / "clawproxy.toml").write_text(config)
        assert isolated(open_state, "--", "true").returncode == 0
        for path in (Path(folder), open_state):
            path.chmod(0o755)
        os.chown(key_file, nobody, nobody)
        looked = f"cat {key_file} {open_state}/clawproxy.toml"
        plain = subprocess.run(
            ["setpriv", f"--reuid={nobody}", "--clear-groups", "sh", "-c", looked],
            capture_output=True,
            text=True,
            check=True,
        )
        assert provider.key("openai") in plain.stdout
        done = isolated(open_state, "--user", "nobody", "--", "sh", "-c", f"{looked}; ls -A {open_state}; echo looked")
    assert done.stdout == "looked\n", done.stderr


def test_a_signal_reaches_the_agent_and_its_exit_code_comes_back(state: Path) -> None:
    program = "trap 'exit 33' TERM; echo up; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "clawproxy", "run", "--isolate", "--state", str(state), "--", "sh", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 33
    assert "VERIFIED" in err


def test_an_agent_that_a_signal_ends_gives_128_and_the_signal(state: Path) -> None:
    assert isolated(state, "--", "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL


def test_a_command_that_the_jobs_user_may_not_run_says_so(state: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("#!/bin/sh\n")
    secret.chmod(0o700)
    done = isolated(state, "--", str(secret))
    assert done.returncode == 127
    assert "--user" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_closed_to_the_jobs_user_is_named_by_its_path_in_plain_text(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory before it in PATH is closed, too, and does not hold it: the system's error names that one."""
    # not below /tmp, which a user made for the job does not see
    with tempfile.TemporaryDirectory(dir="/opt") as closed, tempfile.TemporaryDirectory(dir="/opt") as empty:
        program = Path(closed, "agent")
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{empty}:{closed}:{os.environ['PATH']}")
        done = isolated(state, "--", "agent")
    assert done.returncode == 127
    assert f"the job's user may not run or enter it: agent (got {program})" in done.stderr
    assert empty not in done.stderr
    assert "or give a program that it may run, such as /usr/bin/python3" in done.stderr


def test_an_agent_that_cannot_write_where_it_works_is_told_of_before_it_starts(state: Path) -> None:
    told = f", cannot write in {os.sep}; see --user\n"
    done = isolated(state, "--", "true")
    assert "the agent, user clawjob" in done.stderr
    assert told in done.stderr
    assert done.stderr.index(told) < done.stderr.index(" is open; ")


def test_of_an_agent_that_can_write_where_it_works_nothing_is_said(state: Path, tmp_path: Path) -> None:
    """The folders above are closed to it, which does not matter: they are made anew in its own /tmp."""
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    command = f"cd {work} && exec {sys.executable} -m clawproxy run --state {state} --isolate -- touch made"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CLAWPROXY", "SUDO"))}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "cannot write" not in done.stderr
    assert (work / "made").exists()


def test_an_isolated_job_does_not_run_as_root(state: Path) -> None:
    done = isolated(state, "--user", "root", "--", "true")
    assert done.returncode == 2
    assert "USER_INVALID" in done.stderr


def test_options_of_the_isolation_without_it_are_refused(state: Path) -> None:
    done = run_cli("run", "--memory", "1G", "--", "true", state=state)
    assert done.code == 2
    assert "add --isolate" in done.err


@pytest.mark.parametrize("victim", ["the command", "the warden", "the first process"])
def test_when_a_part_of_it_is_killed_nothing_is_left(state: Path, victim: str) -> None:
    marker = f"600.{time.time_ns() % 10**9}"
    command = [
        sys.executable,
        "-m",
        "clawproxy",
        "run",
        "--isolate",
        "--memory",
        "1G",
        "--state",
        str(state),
        "--",
        "sh",
    ]
    command += ["-c", f"echo up; sleep {marker} & sleep {marker}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        [warden] = [pid for pid in pids_of("clawproxy.cage.warden") if parent_of(pid) == process.pid]
        [init] = [pid for pid in pids_of("clawproxy.cage.warden") if parent_of(pid) == warden]
        os.kill({"the command": process.pid, "the warden": warden, "the first process": init}[victim], signal.SIGKILL)
        process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while (left := [*pids_of(marker), *(pid for pid in (warden, init) if _alive(pid))]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    assert process.returncode == (-9 if victim == "the command" else 137)


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
