"""What doctor looks at beyond the configuration: reach, clock, trust, clients, isolation."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from clawproxy.addons.ca import CA_FILE, ensure_ca

from clawproxy.cli.doctor import next_command
from clawproxy.cli.doctor.clients import check_clients
from clawproxy.cli.doctor.hints import for_state
from clawproxy.cli.doctor.symptom import Symptom

from ..addons.canned_server import Quiet, serving
from .command_line import run_cli


@pytest.fixture
def state(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    return root


def rows(state: Path, *more: str) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in json.loads(run_cli("doctor", "--json", *more, state=state).out)}


@contextmanager
def provider(skew_s: float) -> Iterator[str]:
    """A provider whose clock is ``skew_s`` ahead of ours."""

    class Answers(Quiet):
        def do_HEAD(self) -> None:
            assert "authorization" not in self.headers
            self.send_response_only(404)
            self.send_header("Date", formatdate(time() + skew_s, usegmt=True))
            self.end_headers()

    with serving(Answers) as address:
        yield address


def configure(state: Path, upstream: str) -> None:
    (state / "clawproxy.toml").write_text(
        f'[listen]\nreverse = "127.0.0.1:0"\nregular = ""\n[providers.openai]\nupstream = "{upstream}"\n'
        'credential = "none"\nallow_private = true\n'
    )


@pytest.mark.parametrize(("skew_s", "found"), [(0, "ok"), (-300, "fail"), (300, "fail")])
def test_a_clock_that_differs_from_the_providers_is_a_failure(state: Path, skew_s: float, found: str) -> None:
    with provider(skew_s) as upstream:
        configure(state, upstream)
        seen = [row for row in json.loads(run_cli("doctor", "--json", state=state).out) if row["what"] == "clock"]
        assert rows(state)["reach openai"]["state"] == "ok"
        assert "reach openai" not in rows(state, "--offline")
    assert [row["state"] for row in seen] == [found]


def test_a_provider_that_cannot_be_reached_is_named(state: Path) -> None:
    with socket.socket() as nobody:  # taken, so that nobody else listens there, and connections are refused
        nobody.bind(("127.0.0.1", 0))
        configure(state, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        row = rows(state)["reach openai"]
    assert row["state"] == "warn"
    assert "refused" in row["found"]


def test_a_trust_file_without_the_key_of_now_is_told(state: Path, tmp_path: Path) -> None:
    assert rows(state)["trust file"]["found"].startswith("none")
    assert run_cli("keys", "trust", "-o", state / "trust.json", state=state).code == 0
    assert rows(state)["trust file"]["state"] == "ok"
    other = tmp_path / "other"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=other).code == 0
    shutil.copy(state / "trust.json", other / "trust.json")
    row = rows(other)["trust file"]
    assert row["state"] == "warn"
    assert "keys trust" in row["remedy"]


def test_a_ca_key_that_others_may_read_is_a_failure(state: Path) -> None:
    ensure_ca(state / "ca")
    assert "permissions" not in rows(state)
    (state / "ca" / CA_FILE).chmod(0o644)
    row = rows(state)["permissions"]
    assert row["state"] == "fail"
    assert f"chmod go= {state / 'ca' / CA_FILE}" in row["remedy"]


def test_clients_are_told_apart_by_what_their_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = ensure_ca(tmp_path / "ca")
    for name in ("node", "curl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    found = {row.what: row.found for row in check_clients(tmp_path, {"NODE_EXTRA_CA_CERTS": str(ca)})}
    assert found["clients that trust it"] == "node"
    assert found["clients without it"] == "curl (CURL_CA_BUNDLE)"
    found = {row.what: row.found for row in check_clients(tmp_path, {"NODE_EXTRA_CA_CERTS": str(empty)})}
    assert "clients that trust it" not in found


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="namespaces need root and nftables here")
def test_isolation_is_tried_out(state: Path) -> None:
    row = rows(state)["isolation"]
    assert row["state"] == "ok"
    assert "probes" in row["found"]


def test_without_its_programs_isolation_names_the_packages(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawproxy.cli.doctor.isolation.shutil.which", lambda *_, **__: None)
    row = rows(state)["isolation"]
    assert row["state"] == "warn"
    assert "nftables" in row["remedy"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([Symptom("warn", "a", "x", "do b"), Symptom("fail", "c", "x", "do d")], "do d"),
        ([Symptom("warn", "a", "x", "do b")], "do b"),
        ([Symptom("ok", "isolation", "holds")], "clawproxy run --isolate -- CMD, or clawproxy serve"),
        ([Symptom("ok", "gateway", "running")], "clawproxy job open --contract F, or clawproxy run -- CMD"),
    ],
)
def test_it_says_what_to_do_next(found: list[Any], told: str) -> None:
    assert next_command(found) == told


def test_its_commands_are_about_the_state_directory_that_was_given(state: Path) -> None:
    """Without, `keys trust` would write the trust file of another gateway."""
    shown = run_cli("doctor", "--offline", "--state", state).out
    assert f"→ clawproxy keys trust --state {state} -o {state / 'trust.json'}\n" in shown
    assert f"then clawproxy contract sign --state {state}\n" in shown
    shown = run_cli("doctor", "--offline", state=state).out
    assert f"→ clawproxy keys trust -o {state / 'trust.json'}\n" in shown
    assert "--state" not in shown
    none = state / "no such"
    shown = run_cli("doctor", "--offline", "--state", none).out
    assert f"next: clawproxy keys new receipt token policy --state '{none}'\n" in shown
    assert "clawproxy keys new --state" not in shown  # it has it already


def test_what_to_do_next_carries_the_state_directory_and_needs_no_second_introduction() -> None:
    told = next_command([Symptom("warn", "stops", "x", "see: clawproxy stop --list")])
    assert told == "clawproxy stop --list"
    assert next_command([Symptom("fail", "state", "x", "make it with: clawproxy keys new receipt")]).startswith("claw")
    assert for_state(told, " --state s") == "clawproxy stop --state s --list"
    both = for_state(next_command([Symptom("ok", "isolation", "holds")]), " --state s")
    assert both == "clawproxy run --state s --isolate -- CMD, or clawproxy serve --state s"
    assert for_state(both, " --state s") == both


def test_the_trust_file_in_the_working_directory_is_seen_where_it_is_this_gateways(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run_cli("keys", "trust", "-o", "trust.json", state=state).code == 0
    row = rows(state)["trust file"]
    assert (row["state"], row["found"], row["remedy"]) == ("ok", "trust.json", "")
    other = tmp_path / "other"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=other).code == 0
    row = rows(other)["trust file"]
    assert row["found"].startswith("none of this gateway's")
    assert "--force" not in row["remedy"]  # that file is another gateway's
    shutil.move("trust.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    row = rows(other)["trust file"]
    assert row["state"] == "warn"  # beside the state directory: an old one
    assert "trust.json does not name" in row["found"]
