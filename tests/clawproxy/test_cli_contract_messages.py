"""contract, and whatever takes a contract: what is said when the name, the file or the hash is not what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clawproxy.policies.contract import check_contract, parse_contract
from clawproxy.policies.packaged import STARTERS, packaged_tool_classes, starter

from .command_line import one_line, run_cli


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the three keys of a gateway."""
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    return root


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "contract.json"
    assert run_cli("contract", "new", "sdk", "-o", file).code == 0
    return file


def test_a_provider_that_the_catalogue_does_not_have_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(starter("sdk") | {"allowed_providers": ["opnai", "anthropic"]}))
    done = run_cli("contract", "check", "--strict", file)
    assert done.code == 1
    assert 'problem: allowed_providers["opnai"]: no such provider; known: ' in done.out
    assert "openai" in done.out
    assert '["anthropic"]' not in done.out
    assert "1 problem\n" in done.out


def test_without_a_catalogue_provider_names_are_not_judged() -> None:
    contract = parse_contract(starter("sdk") | {"allowed_providers": ["opnai"]})
    assert check_contract(contract, packaged_tool_classes()) == []
    assert len(check_contract(contract, packaged_tool_classes(), ("openai",))) == 1


@pytest.mark.parametrize("name", STARTERS)
def test_show_takes_a_starter(name: str, state: Path) -> None:
    shown = run_cli("contract", "show", name, state=state)
    assert shown.code == 0
    assert "nobody" in shown.out


def test_show_of_a_document_finds_who_signed_it(state: Path, document: Path) -> None:
    assert "nobody" in run_cli("contract", "show", document, state=state).out
    contract = run_cli("contract", "sign", document, state=state).out.strip()
    shown = run_cli("contract", "show", document, state=state).out
    assert "did:key:" in shown
    assert f"{contract}.json" in shown
    assert json.loads(run_cli("contract", "show", "--json", document, state=state).out)["signer_did"].startswith("did:")


def test_a_damaged_envelope_in_contracts_does_not_vouch_for_a_document(state: Path, document: Path) -> None:
    contract = run_cli("contract", "sign", document, state=state).out.strip()
    stored = state / "contracts" / f"{contract}.json"
    envelope = json.loads(stored.read_text())
    flipped = "B" if envelope["signature_b64u"][3] != "B" else "C"
    envelope["signature_b64u"] = envelope["signature_b64u"][:3] + flipped + envelope["signature_b64u"][4:]
    stored.write_text(json.dumps(envelope))
    assert "WPC_SIGNATURE_INVALID" in one_line(run_cli("contract", "show", document, state=state))


def test_new_says_what_to_do_about_a_file_that_is_there(document: Path) -> None:
    line = one_line(run_cli("contract", "new", "sdk", "-o", document))
    assert "exists already" in line
    assert "another -o" in line


def test_an_unsigned_hash_is_not_found_and_signing_is_the_remedy(state: Path, document: Path) -> None:
    contract = run_cli("contract", "hash", document).out.strip()
    line = one_line(run_cli("job", "open", f"--contract={contract}", state=state))
    assert "WPC_NOT_FOUND" in line
    assert "clawproxy contract sign" in line


def test_run_lists_the_starters_for_a_name_that_is_none(state: Path) -> None:
    line = one_line(run_cli("run", "--contract", "sdkk", "--", "true", state=state))
    assert all(name in line for name in STARTERS)
    assert "sdkk" in line


def test_a_starter_is_no_signed_contract_and_the_way_to_one_is_said(state: Path) -> None:
    line = one_line(run_cli("job", "open", "--contract", "sdk", state=state))
    assert "clawproxy contract new sdk" in line
    assert "contract sign" in line
