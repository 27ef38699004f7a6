"""keys, contract and token, as a reviewer and an operator use them."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from clawproxy.policies.packaged import Starter
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.trust import parse_trust

from .command_line import one_line, run_cli

SUPPORT = {
    "wpc_version": "v1",
    "policy_name": "support",
    "allowed_tools": ["ticket.read"],
    "denied_tools": ["shell.exec"],
    "approvals": {"required": True, "approver_group": "people"},
    "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the three keys of a gateway."""
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    return root


@pytest.fixture
def contract_hash(state: Path, tmp_path: Path) -> str:
    file = tmp_path / "contract.json"
    assert run_cli("contract", "new", "sdk", "--model", "gpt-4o-mini", "-o", file).code == 0
    return run_cli("contract", "sign", file, state=state).out.strip()


def test_new_keys_are_private_and_are_never_overwritten(state: Path) -> None:
    for role in ("receipt", "token", "policy"):
        assert stat.S_IMODE((state / "keys" / f"{role}.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    before = (state / "keys" / "receipt.pem").read_bytes()
    done = run_cli("keys", "new", "receipt", state=state)
    assert done.code == 2
    assert "KEY_EXISTS" in one_line(done)
    assert (state / "keys" / "receipt.pem").read_bytes() == before


def test_keys_list_shows_public_names_and_marks_a_key_that_others_can_read(state: Path) -> None:
    (state / "keys" / "token.pem").chmod(0o644)
    rows = {row["role"]: row for row in json.loads(run_cli("keys", "list", "--json", state=state).out)}
    assert rows["receipt"]["did"].startswith("did:key:z6Mk")
    assert rows["token"]["did"] == ""
    assert "others can read" in rows["token"]["problem"]
    plain = run_cli("keys", "list", state=state).out
    assert "\x1b" not in plain
    assert "PRIVATE" not in plain


def test_keys_trust_writes_what_the_verifier_reads(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "trust.json"
    assert run_cli("keys", "trust", "-o", out, state=state).code == 0
    trust = parse_trust(out.read_bytes().strip())
    assert {str(key.role) for key in trust.keys} == {"receipt", "token", "policy"}
    assert parse_trust(run_cli("keys", "trust", state=state).out.encode()) == trust


def test_a_second_key_of_a_role_has_a_name(state: Path) -> None:
    assert run_cli("keys", "new", "policy", "--name", "alice", state=state).code == 0
    assert (state / "keys" / "policy.alice.pem").exists()
    assert run_cli("keys", "new", "policy", "--name", "../x", state=state).code == 2


def test_check_accepts_a_contract_that_demands_more_than_is_enforced_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(SUPPORT))
    done = run_cli("contract", "check", file)
    assert done.code == 0
    assert "approvals" in done.out
    assert re.search(r"^\d+ problems?; --strict makes them fail$", done.out, re.MULTILINE)
    strict = run_cli("contract", "check", "--strict", file)
    assert strict.code == 1
    assert "--strict" not in strict.out
    shown = json.loads(run_cli("contract", "check", "--json", file).out)
    assert shown["ok"] is True
    assert shown["notes"]


@pytest.mark.parametrize("starter", list(Starter))
def test_each_starter_has_no_problems(starter: str) -> None:
    document = run_cli("contract", "new", starter, "--model", "m-1", "--name", "mine").out
    assert json.loads(document)["allowed_models"] == ["m-1"]
    assert json.loads(document)["policy_name"] == "mine"
    assert run_cli("contract", "check", "--strict", "-", stdin=document).code == 0


def test_hash_sign_and_show_agree(state: Path, contract_hash: str, tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    assert run_cli("contract", "hash", file).out.strip() == contract_hash
    stored = state / "contracts" / f"{contract_hash}.json"
    envelope = json.loads(stored.read_bytes())
    assert stored.read_bytes() == jcs_bytes(envelope) + b"\n"
    shown = run_cli("contract", "show", contract_hash, state=state).out
    assert envelope["signer_did"] in shown
    assert "gpt-4o-mini" in shown
    assert run_cli("contract", "hash", stored).out.strip() == contract_hash


def test_the_file_of_a_contract_that_was_signed_names_the_signed_one(
    state: Path, contract_hash: str, tmp_path: Path
) -> None:
    opened = run_cli("job", "open", "--contract", tmp_path / "contract.json", "--job", "j", state=state)
    assert opened.code == 0
    assert json.loads(run_cli("job", "show", "j", "--json", state=state).out)["policy_hash_b64u"] == contract_hash


def test_show_refuses_a_contract_whose_signature_does_not_hold(state: Path, contract_hash: str) -> None:
    stored = state / "contracts" / f"{contract_hash}.json"
    envelope = json.loads(stored.read_bytes())
    envelope["payload"]["allowed_models"] = ["gpt-99"]
    stored.write_bytes(jcs_bytes(envelope))
    done = run_cli("contract", "show", stored, state=state)
    assert done.code == 2
    assert "WPC_ENVELOPE_INVALID" in one_line(done)


def test_new_does_not_overwrite_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text("mine")
    assert "exists" in one_line(run_cli("contract", "new", "sdk", "-o", file))
    assert file.read_text() == "mine"


def test_a_token_is_minted_for_an_open_job_and_inspected(state: Path, contract_hash: str, tmp_path: Path) -> None:
    opened = run_cli("job", "open", "--contract", contract_hash, "--job", "j", "--json", state=state)
    job_did = json.loads(opened.out)["job_did"]
    token = run_cli("token", "mint", "--job", "j", "--ttl", "5m", state=state).out.strip()
    assert token.count(".") == 2
    done = run_cli("token", "inspect", "-", "--json", state=state, stdin=token)
    assert done.code == 0
    claims = json.loads(done.out)["claims"]
    assert claims["sub"] == job_did
    assert claims["policy_hash_b64u"] == contract_hash
    assert claims["exp"] - claims["iat"] == 300
    file = tmp_path / "token"
    file.write_text(token)
    plain = run_cli("token", "inspect", file, state=state)
    assert token not in plain.out + plain.err
    assert "valid now" in plain.out


def test_inspect_ends_with_1_for_a_token_that_would_be_refused(state: Path, contract_hash: str) -> None:
    run_cli("job", "open", "--contract", contract_hash, "--job", "j", state=state)
    token = run_cli("token", "mint", "--job", "j", "--aud", "elsewhere", state=state).out.strip()
    done = run_cli("token", "inspect", state=state, stdin=token)
    assert done.code == 1
    assert "TOKEN_BAD_AUDIENCE" in done.out
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert run_cli("token", "inspect", state=state, stdin=forged).code == 1


def test_a_token_does_not_outlive_what_its_contract_allows(state: Path, contract_hash: str) -> None:
    run_cli("job", "open", "--contract", contract_hash, "--job", "j", state=state)
    done = run_cli("token", "mint", "--job", "j", "--ttl", "31m", state=state)
    assert "TOKEN_TTL_TOO_LONG" in one_line(done)
    assert done.out == ""
    assert run_cli("token", "mint", "--job", "j", "--ttl", "30m", state=state).code == 0
    assert "not a duration" in one_line(run_cli("token", "mint", "--job", "j", "--ttl", "soon", state=state))


def test_a_token_is_minted_for_the_audience_of_the_configuration(state: Path, contract_hash: str) -> None:
    run_cli("job", "open", "--contract", contract_hash, "--job", "j", state=state)
    (state / "clawproxy.toml").write_text('[gateway]\naudience = ["the.gateway"]\n')
    token = run_cli("token", "mint", "--job", "j", state=state).out
    shown = run_cli("token", "inspect", "--json", state=state, stdin=token)
    assert shown.code == 0
    assert json.loads(shown.out)["claims"]["aud"] == ["the.gateway"]


def test_a_token_for_an_unknown_job_needs_a_contract_and_an_agent(state: Path, contract_hash: str) -> None:
    done = run_cli("token", "mint", "--job", "x", state=state)
    assert done.code == 2
    assert "clawproxy job open" in one_line(done)
    sub = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    given = ("--contract", contract_hash, "--sub", sub)
    assert run_cli("token", "mint", "--job", "x", *given, state=state).code == 0
