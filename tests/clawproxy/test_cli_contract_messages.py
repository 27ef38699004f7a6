"""contract, and whatever takes a contract: what is said when the name, the file or the hash is not what was meant."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from clawproxy.addons.wire import reader
from clawproxy.policies.contract import check_contract, parse_contract
from clawproxy.policies.facts import PROVIDER_FEATURES
from clawproxy.policies.packaged import Starter, packaged_tool_classes, starter_document

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
    file.write_text(json.dumps(starter_document(Starter.SDK) | {"allowed_providers": ["opnai", "anthropic"]}))
    done = run_cli("contract", "check", "--strict", file)
    assert done.code == 1
    assert 'problem: allowed_providers["opnai"]: no such provider; known: ' in done.out
    assert "openai" in done.out
    assert '["anthropic"]' not in done.out
    assert "1 problem\n" in done.out


def test_a_starter_that_there_is_none_of_is_said_in_plain_words() -> None:
    told = one_line(run_cli("contract", "new", "nonsense"))
    assert "'nonsense' is not one of 'sdk'" in told
    assert "Value error" not in told


def test_without_a_catalogue_provider_names_are_not_judged() -> None:
    contract = parse_contract(starter_document(Starter.SDK) | {"allowed_providers": ["opnai"]})
    assert check_contract(contract, packaged_tool_classes()) == []
    assert len(check_contract(contract, packaged_tool_classes(), ("openai",))) == 1


def test_check_knows_providers_without_an_address_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(starter_document(Starter.SDK) | {"allowed_providers": ["azure", "vllm", "bedrock"]}))
    assert "no problems" in run_cli("contract", "check", "--strict", file).out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"egress_allowlist": [{"host": "api.openai.com", "paths": ["/*"]}]}, "never reached this way"),
        ({"egress_allowlist": [{"host": "169.254.169.254", "paths": ["/*"], "scheme": "http"}]}, "metadata service"),
        ({"egress_allowlist": [{"host": "fe80::1", "paths": ["/*"], "scheme": "http"}]}, "never dialled: link-local"),
        ({"allowed_provider_features": ["state:file_ids"]}, "no request has such a member; known: state:audio"),
    ],
)
def test_what_can_have_no_effect_is_a_problem(tmp_path: Path, more: dict[str, object], said: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(starter_document(Starter.SDK) | more))
    done = run_cli("contract", "check", "--strict", file)
    assert done.code == 1
    assert said in done.out
    assert "1 problem\n" in done.out


def test_a_credential_by_name_is_a_note_since_only_the_gateway_knows_it(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    entries = [
        {"host": "crm.example.com", "paths": ["/*"], "credential": "crm"},
        {"host": "10.0.0.7", "paths": ["/*"], "scheme": "http"},
    ]
    file.write_text(json.dumps(starter_document(Starter.SDK) | {"egress_allowlist": entries}))
    done = run_cli("contract", "check", "--strict", file)
    assert done.code == 0
    assert "note: egress_allowlist[0]" in done.out
    assert "[egress.crm]" in done.out


def test_the_known_features_are_those_that_the_formats_state() -> None:
    """Literals in ``asked.state`` and ``asked.url``, and the tables out of which others are taken."""
    wire = Path(reader.__file__).parent
    text = "\n".join(file.read_text() for file in sorted(wire.glob("*.py")))
    state = set(re.findall(r'asked\.state\("(\w+)"\)', text))
    for table in re.findall(r"_STATE_KEYS = (\(.*?\))", text):
        state |= set(ast.literal_eval(table))
    loops = re.findall(r"for key in (\([^)]*\)):\n(?:.*\n)?\s+asked\.state\(key\)", text)
    for table in loops:
        state |= set(ast.literal_eval(table))
    state |= set(re.findall(r'\("\w+", "(\w+)"\),', re.search(r"for name, state in \((.*?)\n    \):", text, re.S)[1]))  # type: ignore[index]
    assert len(re.findall(r"\.state\((?!\")", text)) == len(loops) + 2, "a member is stated in a way unknown here"
    urls = set(re.findall(r'asked\.url\(.*, "([\w.]+)"\)', text))
    (table,) = re.findall(r"for key in (\([^)]*\)):\n.*\n\s+asked\.url\(found, key\)", text)
    urls |= set(ast.literal_eval(table))
    assert {f"state:{word}" for word in state} | {f"url:{word}" for word in urls} == PROVIDER_FEATURES


@pytest.mark.parametrize("name", Starter)
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


def test_show_leaves_out_nothing_that_a_reviewer_signs(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    said = {
        "tool_arguments": {"ticket.read": {"when": [{"argument": "id", "like": ["T-*"]}]}},
        "approvals": [{"action": "payment.send", "required": True, "approver_group": "Finance"}],
        "data_boundaries": {"payment_cards": "deny"},
        "budgets": {"requests": 5, "per_contract": {"cost_microusd": 77}},
        "egress_allowlist": [{"host": "api.tickets.example", "paths": ["/v2/*"]}],
    }
    file.write_text(json.dumps(starter_document(Starter.SDK) | said))
    shown = run_cli("contract", "show", file, state=state).out
    for word in ("T-*", "Finance", "payment_cards: deny", "requests: 5", "77", "api.tickets.example", "get_ticket"):
        assert word in shown


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
    assert all(name in line for name in Starter)
    assert "sdkk" in line


def test_a_starter_is_no_signed_contract_and_the_way_to_one_is_said(state: Path) -> None:
    line = one_line(run_cli("job", "open", "--contract", "sdk", state=state))
    assert "clawproxy contract new sdk" in line
    assert "contract sign" in line
