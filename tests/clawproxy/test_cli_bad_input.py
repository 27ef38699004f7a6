"""Malformed files of every kind: one clear line, no traceback, the file named, an exit code that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .command_line import one_line, run_cli

GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "not text": b"\xff\xfegarbage",
    "not json": b"{oops",
    "a list": b"[1,2]",
    "twice the same key": b'{"a":1,"a":2}',
    "deep": b"[" * 5000,
    "nan": b'{"a":NaN}',
    "half a surrogate": b'{"a":"\\ud800"}',
}


_PEM = b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad") / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=root, stdin=document).out.strip()
    run_cli("job", "open", "--contract", contract, "--job", "j", state=root)
    return root


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("verb", ["check", "hash", "sign", "show"])
def test_a_malformed_contract(verb: str, kind: str, state: Path, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_bytes(GARBAGE[kind])
    done = run_cli("contract", verb, file, state=state)
    assert done.code == (1 if verb == "check" else 2)
    assert "contract.json" in one_line(done)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: d.pop("policy_name"), ["policy_name"]),
        (lambda d: d.update(allowed_tols=["x"]), ["allowed_tols", "allowed_tools"]),
        (lambda d: d.update(allowed_models="gpt"), ["allowed_models", "list"]),
        (lambda d: d["token_constraints"].update(cst_ttl_minutes=0), ["cst_ttl_minutes"]),
        (lambda d: d.update(wpc_version="v9"), ["wpc_version", "v9"]),
    ],
)
def test_a_contract_with_one_wrong_field_names_it(
    change: Callable[[dict[str, object]], object], parts: list[str], tmp_path: Path
) -> None:
    document = json.loads(run_cli("contract", "new", "sdk").out)
    change(document)
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(document))
    line = one_line(run_cli("contract", "check", file))
    assert all(part in line for part in parts), line


def test_a_contract_that_is_not_signed_is_not_opened(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_text(run_cli("contract", "new", "codex").out)
    line = one_line(run_cli("job", "open", "--contract", file, state=state))
    assert "clawproxy contract sign" in line


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_malformed_token_ends_with_1_and_is_not_repeated(kind: str, state: Path) -> None:
    done = run_cli("token", "inspect", "--json", state=state, stdin=GARBAGE[kind])
    assert done.code == 1
    assert json.loads(done.out)["reason"] == "TOKEN_MALFORMED"
    assert done.err == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"clawproxy-role: policy\nclawproxy-did: x\n" + _PEM % b"AAAA",
    ],
)
def test_a_malformed_key_file(content: bytes, tmp_path: Path) -> None:
    key = tmp_path / "policy.pem"
    key.write_bytes(content)
    key.chmod(0o600)
    document = run_cli("contract", "new", "sdk").out
    done = run_cli("contract", "sign", "-", "--key", key, state=tmp_path, stdin=document)
    assert done.code == 2
    line = one_line(done)
    assert "policy.pem" in line
    assert "AAAA" not in line


def test_a_key_that_others_can_read_or_of_another_role_is_refused(state: Path, tmp_path: Path) -> None:
    document = run_cli("contract", "new", "sdk").out
    other = state / "keys" / "token.pem"
    assert "KEY_ROLE" in one_line(run_cli("contract", "sign", "-", "--key", other, state=state, stdin=document))
    loose = tmp_path / "loose.pem"
    loose.write_bytes((state / "keys" / "policy.pem").read_bytes())
    loose.chmod(0o640)
    assert "chmod 600" in one_line(run_cli("contract", "sign", "-", "--key", loose, state=state, stdin=document))


@pytest.mark.parametrize("kind", [kind for kind in GARBAGE if kind not in ("empty",)])
@pytest.mark.parametrize("command", [["serve"], ["run", "--", "true"], ["job", "open", "--contract", "HASH"]])
def test_a_malformed_config(command: list[str], kind: str, state: Path, tmp_path: Path) -> None:
    config = tmp_path / "clawproxy.toml"
    config.write_bytes(GARBAGE[kind])
    contract = next((state / "contracts").glob("*.json"))
    arguments = [contract if word == "HASH" else word for word in command]
    at = 2 if command[0] == "job" else 1
    done = run_cli(*arguments[:at], "-c", config, *arguments[at:], state=state)
    assert done.code == 2
    assert "clawproxy.toml" in one_line(done)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[gateway]\naudiance = ['x']\n", ["gateway.audiance", "unknown key"]),
        ("[gateway]\nmax_body_bytes = 'many'\n", ["gateway.max_body_bytes"]),
        ("[listen]\nreverse = '0.0.0.0:8081'\n", ["listen.reverse", "loopback"]),
        ("[listen]\nreverse = 'localhost'\n", ["listen.reverse", "IP:PORT"]),
        ("[providers.openai]\ncredential = 'sk-1234567890'\n", ["providers.openai.credential", "env:NAME"]),
        ("[providers.openai]\ncredential = 'env:NO_SUCH_VARIABLE_ANYWHERE'\n", ["providers.openai.credential"]),
        ("upstream_ca = '/no/such/file.pem'\n", ["upstream_ca", "/no/such/file.pem"]),
        ("[providers.nobody]\nupstream = 'https://x.example'\n", ["nobody"]),
        ("[trust]\ntoken_issuers = ['did:key:zNonsense']\n", ["[trust], for token keys: ", "did:key:zNonsense"]),
    ],
)
def test_a_config_with_one_wrong_key_names_it_and_no_secret(
    text: str, parts: list[str], state: Path, tmp_path: Path
) -> None:
    config = tmp_path / "clawproxy.toml"
    config.write_text(text)
    done = run_cli("serve", "-c", config, state=state)
    assert done.code == 2
    line = one_line(done)
    assert all(part in line for part in parts), line
    assert "sk-1234567890" not in line


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_malformed_file_to_verify_fails_with_a_finding(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_bytes(GARBAGE[kind])
    done = run_cli("verify", "--json", file)
    assert done.code == 1
    report = json.loads(done.out)
    assert report["verdict"] == "FAILED"
    assert report["findings"]
    assert done.err == ""


@pytest.mark.parametrize("name", ["job.json", "contract.json", "receipts.jsonl"])
@pytest.mark.parametrize("kind", GARBAGE)
def test_a_malformed_bundle_fails_with_the_file_named(kind: str, name: str, state: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in (state / "jobs" / "j").iterdir():
        if path.is_file():
            (bundle / path.name).write_bytes(path.read_bytes())
    # a last line without its end could be what a crash left, which is a gap; with its end it is a record
    (bundle / name).write_bytes(GARBAGE[kind] + b"\n")
    done = run_cli("verify", "--json", bundle)
    assert done.code == 1
    assert any(name in finding["path"] for finding in json.loads(done.out)["findings"])


def test_a_malformed_zip_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    packed = tmp_path / "b.zip"
    packed.write_bytes(b"PK\x03\x04garbage")
    done = run_cli("verify", packed)
    assert done.code in (1, 2)
    assert "Traceback" not in done.out + done.err
    absent = run_cli("verify", tmp_path / "nothing")
    assert absent.code == 2
    assert "nothing" in one_line(absent)


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_malformed_trust_file(kind: str, state: Path, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    trust.write_bytes(GARBAGE[kind])
    done = run_cli("verify", state / "jobs" / "j", "--trust", trust)
    assert done.code == 2
    assert "trust.json" in one_line(done)


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_damaged_job_is_one_line_in_show_and_listed_as_a_problem(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "j"
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(GARBAGE[kind])
    one_line(run_cli("job", "show", "j", state=tmp_path))
    rows = json.loads(run_cli("job", "list", "--json", state=tmp_path).out)
    assert rows[0]["problem"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_file_content_makes_a_traceback(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    commands: tuple[list[str | Path], ...] = (
        ["contract", "check", file],
        ["contract", "show", file],
        ["token", "inspect", file],
        ["verify", file],
        ["verify", file, "--trust", file],
        ["explain", file, "rcpt_x"],
        ["doctor", "-c", file],
    )
    for command in commands:
        done = run_cli(*command, state=tmp_path / "absent")
        assert done.code in (0, 1, 2, 3), (command, done)
