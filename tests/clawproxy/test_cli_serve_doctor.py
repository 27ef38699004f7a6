"""serve and doctor: what a person reads before the first call."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from clawproxy.policies.packaged import Starter, starter_document

from .command_line import one_line, run_cli


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the three keys of a gateway, which listens where it can."""
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    (root / "clawproxy.toml").write_text('[listen]\nreverse = "127.0.0.1:0"\nregular = ""\n')
    return root


def rows(state: Path) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in json.loads(run_cli("doctor", "--json", state=state).out)}


def test_doctor_names_the_ca_and_the_variables_that_clients_need(state: Path) -> None:
    assert "clawproxy serve" in rows(state)["CA"]["remedy"]
    with Serving(state):
        pass
    row = rows(state)["CA"]
    assert row["state"] == "ok"
    assert row["found"].endswith("mitmproxy-ca-cert.pem")
    assert Path(row["found"]).is_file()
    assert "SSL_CERT_FILE" in row["remedy"]
    assert "NODE_EXTRA_CA_CERTS" in row["remedy"]


def test_doctor_tells_once_what_is_wrong_with_the_approvers_however_many_contracts_there_are(
    state: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(starter_document(Starter.SDK) | {"policy_name": name}))
        assert run_cli("contract", "sign", file, state=state).code == 0
    with (state / "clawproxy.toml").open("a") as config:
        config.write('[trust]\napprovers = { Finance = ["did:key:zNobody"] }\n')
    told = [row for row in json.loads(run_cli("doctor", "--json", state=state).out) if row["what"] == "approvers"]
    assert [row["state"] for row in told] == ["fail"]


def test_doctor_tells_that_nobody_can_give_the_approvals_that_a_contract_wants(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    wanted = [{"action": "payment.send", "required": True, "approver_group": "Finance"}]
    file.write_text(json.dumps(starter_document(Starter.SDK) | {"approvals": wanted}))
    assert run_cli("contract", "sign", file, state=state).code == 0
    row = rows(state)["approvers"]
    assert row["state"] == "warn"
    assert "Finance" in row["found"]
    anna = run_cli("keys", "new", "approval", "--name", "anna", state=state).out.split()[1]
    with (state / "clawproxy.toml").open("a") as config:
        config.write(f'[trust]\napprovers = {{ Finance = ["{anna}"] }}\n')
    assert "approvers" not in rows(state)
    trust_file = tmp_path / "trust.json"
    assert "wrote 4 keys" in run_cli("keys", "trust", "-o", trust_file, state=state).err


def test_doctor_names_the_file_in_which_a_credential_is_set(state: Path) -> None:
    row = rows(state)["providers"]
    assert str(state / "clawproxy.toml") in row["remedy"]
    assert "providers.openai" in row["remedy"]


def test_the_example_configuration_can_be_printed_and_is_one(tmp_path: Path) -> None:
    done = run_cli("doctor", "--example-config", state=tmp_path / "none")
    assert done.code == 0
    assert tomllib.loads(done.out)["gateway"]["audience"] == ["clawproxy.local"]


def test_a_faulty_configuration_points_to_the_example_that_everybody_has(state: Path) -> None:
    (state / "clawproxy.toml").write_text("[gateway]\nnonsense = 1\n")
    assert "clawproxy doctor --example-config" in one_line(run_cli("serve", state=state))


def test_a_secret_that_cannot_be_read_names_its_file_and_no_value(state: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent-key"
    (state / "clawproxy.toml").write_text(f'[providers.anthropic]\ncredential = "file:{absent}"\n')
    line = one_line(run_cli("serve", state=state))
    assert f"file:{absent}" in line
    assert "[providers.anthropic]" in line
    (state / "clawproxy.toml").write_text("[providers.openai]\ncredential = 'exec:false --key sk-secret'\n")
    line = one_line(run_cli("serve", state=state))
    assert "exec:" in line
    assert "sk-secret" not in line


def test_a_credential_for_a_plain_upstream_is_refused_by_serve_and_told_by_doctor(state: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-something")
    section = f'[providers.openai]\nupstream = "http://llm.internal.example"\ncredential = "file:{key}"\n'
    (state / "clawproxy.toml").write_text(section)
    line = one_line(run_cli("serve", state=state))
    assert "never crosses plain HTTP" in line
    assert 'providers.openai.credential = "none"' in line
    assert "never crosses plain HTTP" in run_cli("doctor", state=state).out
    (state / "clawproxy.toml").write_text(section.replace(f"file:{key}", "none"))
    assert "called without a credential" in run_cli("doctor", state=state).out


@pytest.mark.parametrize(
    ("config", "row", "said", "remedy"),
    [
        (
            '[providers.azure]\ncredential = "file:{key}"',
            "providers",
            "providers.azure needs an upstream",
            "https://HOST",
        ),
        (
            "[providers.vllm]\nallow_private = true",
            "providers",
            "providers.vllm needs an upstream",
            "take the section out",
        ),
        ('[providers.opnai]\ncredential = "none"', "providers", "providers.opnai: no such provider", ""),
        ('[providers.openai]\nupstream = "ftp://x"', "providers", "providers.openai.upstream: not an upstream", ""),
        (
            '[providers.bedrock]\nupstream = "https://gate.example"\ncredential = "file:{pair}"',
            "provider bedrock",
            "region",
            "",
        ),
        (
            '[egress.crm]\nhosts = ["crm.example:443"]\ncredential = "file:{key}"',
            "egress crm",
            "egress.crm.hosts[0]",
            "leave the port out; the contract's entry has it",
        ),
        (
            '[egress.crm]\nhosts = ["crm.example"]\ncredential = "file:{key}.none"',
            "egress crm",
            "egress.crm.credential: the secret is missing",
            "[egress.crm]",
        ),
        ('egress_private = ["crm.internal.example"]', "egress_private", "egress_private[0]: not a destination", ""),
        ('upstream_ca = "{key}"', "upstream_ca", "no CA certificates", "correct the path"),
        ('[listen]\nreverse = ""\nregular = ""', "listen", "no listener is configured", "set listen.reverse"),
    ],
)
def test_what_serve_refuses_of_a_configuration_doctor_tells(
    state: Path, tmp_path: Path, config: str, row: str, said: str, remedy: str
) -> None:
    key, pair = tmp_path / "key", tmp_path / "pair"
    key.write_text("sk-something")
    pair.write_text("AKIAEXAMPLEEXAMPLE00:" + "s" * 40)
    config = config.format(key=key, pair=pair)
    (state / "clawproxy.toml").write_text(config + ("" if "listen" in config else '\n[listen]\nregular = ""\n'))
    line = one_line(run_cli("serve", state=state))
    assert said in line
    assert remedy in line or row == "upstream_ca"
    done = run_cli("doctor", "--json", state=state)
    assert done.code == 1
    told = {entry["what"]: entry for entry in json.loads(done.out)}[row]
    assert told["state"] == "fail"
    assert said in told["found"]
    assert remedy in told["remedy"]


def test_doctor_shows_the_credentials_of_tools(state: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-something")
    section = f'[egress.crm]\nhosts = ["crm.example"]\ncredential = "file:{key}"\n'
    (state / "clawproxy.toml").write_text(section + '[listen]\nreverse = "127.0.0.1:0"\nregular = ""\n')
    done = run_cli("doctor", "--json", state=state)
    row = {entry["what"]: entry for entry in json.loads(done.out)}["egress crm"]
    assert row == {"state": "ok", "what": "egress crm", "found": "credential present, for crm.example", "remedy": ""}
    assert "sk-something" not in done.out


def test_a_port_in_use_is_told_by_the_key_of_the_configuration(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (state / "clawproxy.toml").write_text(f'[listen]\nreverse = "127.0.0.1:{port}"\nregular = ""\n')
        done = run_cli("serve", state=state)
    assert done.err.splitlines()[-1].startswith(
        f"clawproxy: listen.reverse: 127.0.0.1:{port}: another program listens there;"
    )
    assert "127.0.0.1:9" not in done.err


class Serving:
    """A gateway on ``state`` until the block ends; ``err`` is what it said."""

    def __init__(self, state: Path) -> None:
        self.err = ""
        command = [sys.executable, "-m", "clawproxy", "serve", "--state", str(state)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )

    def __enter__(self) -> Serving:
        assert self.process.stdout is not None
        self.process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.err = self.process.communicate(timeout=30)[1]


def test_serve_warns_once_when_no_provider_has_a_credential(state: Path) -> None:
    with Serving(state) as gateway:
        pass
    assert gateway.err.count("credential") == 2, gateway.err
    assert gateway.err.count("\n") == 1
    assert str(state / "clawproxy.toml") in gateway.err


def test_a_job_is_sealed_by_force_with_and_without_a_gateway(state: Path) -> None:
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=state, stdin=document).out.strip()
    for job in ("one", "two"):
        assert run_cli("job", "open", f"--contract={contract}", "--job", job, state=state).code == 0
    assert run_cli("job", "seal", "one", "--force", state=state).code == 0
    with Serving(state):
        done = run_cli("job", "seal", "two", "--force", "--json", state=state)
    assert done.code == 0, done.err
    assert json.loads(run_cli("job", "show", "two", "--json", state=state).out)["state"] == "sealed"
