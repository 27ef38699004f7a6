"""``contract diff``, ``explain``, ``schema``, and contracts as YAML, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clawproxy.policies.contract import hash_contract
from clawproxy.policies.contract_schema import contract_schema
from clawproxy.policies.packaged import Starter, starter_document

from .command_line import one_line, run_cli

EXAMPLE = Path(__file__).parents[2] / "configs" / "contracts" / "sdk.fixtures.jsonl"
YAML = """# two people read this
policy_name: small     # for people
allowed_providers: [openai]
allowed_models:
  - gpt-4o-mini
allowed_tools: [get_ticket]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(YAML)
    return file


def _changed(tmp_path: Path, **fields: object) -> Path:
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(starter_document(Starter.SDK) | fields))
    return file


def test_a_narrower_contract_is_said_to_be_and_ends_with_0(tmp_path: Path) -> None:
    done = run_cli("contract", "diff", "sdk", _changed(tmp_path, allowed_tools=[]))
    assert done.code == 0
    assert done.out.startswith("narrower: changed.json permits nothing that sdk does not\n")
    assert '  - allowed_tools: the tools "get_ticket", "search_tickets"' in done.out
    assert "  + " not in done.out


def test_a_wider_one_ends_with_1_and_its_example_is_a_fixture_that_shows_it(tmp_path: Path) -> None:
    wider = _changed(tmp_path, allowed_models=["*"])
    done = run_cli("contract", "diff", "sdk", wider)
    assert done.code == 1
    assert 'allowed_models["*"]; allow, before POLICY_MODEL_NOT_ALLOWED' in done.out
    fixtures = tmp_path / "example.jsonl"
    fixtures.write_text(json.dumps(json.loads(done.out.splitlines()[-1]) | {"expect": "allow"}))
    before = tmp_path / "before.json"
    assert run_cli("contract", "new", "sdk", "-o", before).code == 0
    assert run_cli("contract", "test", wider, fixtures).code == 0
    assert run_cli("contract", "test", before, fixtures).code == 1


def test_two_files_of_one_name_are_told_by_their_paths(tmp_path: Path) -> None:
    for name, model in (("old", "a"), ("new", "b")):
        (tmp_path / name).mkdir()
        assert run_cli("contract", "new", "sdk", "--model", model, "-o", tmp_path / name / "contract.json").code == 0
    old, new = (tmp_path / name / "contract.json" for name in ("old", "new"))
    assert f"wider: {new} permits what {old} does not" in run_cli("contract", "diff", old, new).out


def test_the_same_otherwise_written_is_the_same(tmp_path: Path, small: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(
        json.dumps(
            {
                "policy_name": "another name",
                "allowed_providers": ["openai"],
                "allowed_models": ["gpt-4o-mini"],
                "allowed_tools": ["read"],
                "tool_classes": {"read": ["get_ticket"], "unused": ["x"]},
            }
        )
    )
    done = run_cli("contract", "diff", small, other, "--json")
    assert (done.code, json.loads(done.out)["verdict"]) in {(0, "equal"), (0, "narrower")}


def test_as_json_each_power_says_its_field_its_proof_and_an_example(tmp_path: Path) -> None:
    done = run_cli(
        "contract", "diff", "sdk", _changed(tmp_path, allowed_models=["*"], on_denied_call="refuse"), "--json"
    )
    told = json.loads(done.out)
    assert (done.code, told["widens"]) == (1, True)
    by_field = {row["field"]: row for row in told["added"]}
    assert by_field["allowed_models"]["proof"] == "decided"
    assert by_field["allowed_models"]["example"]["call"]["provider"] == "anthropic"
    assert by_field["on_denied_call"] == {
        "field": "on_denied_call",
        "what": "an answer with a refused call goes on",
        "proof": "compared",
        "here": "refuse",
        "there": "error",
    }


def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("policy_name: x\nallowed_models: [gpt-4o]\nelevated: no\n")
    done = run_cli("contract", "diff", "sdk", broken)
    assert done.code == 2
    assert "broken.yaml: line 3: a word that YAML can read in more than one way (got no" in one_line(done)
    assert run_cli("contract", "diff", "sdk", tmp_path / "absent.json").code == 2


def test_yaml_is_checked_hashed_signed_shown_and_tried_as_the_json_that_it_stands_for(
    tmp_path: Path, small: Path
) -> None:
    document = {
        "policy_name": "small",
        "allowed_providers": ["openai"],
        "allowed_models": ["gpt-4o-mini"],
        "allowed_tools": ["get_ticket"],
    }
    policy_hash = hash_contract(document)
    state = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=state).code == 0
    assert "no problems" not in run_cli("contract", "check", small).err
    assert run_cli("contract", "hash", small).out == f"{policy_hash}\n"
    signed = run_cli("contract", "sign", small, state=state)
    assert signed.out == f"{policy_hash}\n"
    assert "comments are not signed" in signed.err
    (envelope,) = (state / "contracts").glob("*.json")
    payload = json.loads(envelope.read_text())["payload"]
    assert {name: value for name, value in payload.items() if name != "policy_hash"} == document
    assert policy_hash in run_cli("contract", "show", small, state=state).out
    fixture = tmp_path / "f.jsonl"
    fixture.write_text('{"call": {"provider": "openai", "model": "gpt-4o-mini"}, "expect": "allow"}')
    assert run_cli("contract", "test", small, fixture).code == 0


def test_a_new_contract_is_written_as_yaml_where_its_name_says_so(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    assert run_cli("contract", "new", "sdk", "-o", file).code == 0
    assert file.read_text().startswith('wpc_version: "v1"\n')
    assert run_cli("contract", "hash", file).out.strip() == hash_contract(starter_document(Starter.SDK))
    assert run_cli("contract", "test", file, EXAMPLE).code == 0


def test_explain_tells_what_is_unusual_first(small: Path) -> None:
    done = run_cli("contract", "explain", small)
    assert done.code == 0
    assert done.out.startswith("look at this first:\n  - No budget bounds the money that is spent.\nmodels:\n")
    told = json.loads(run_cli("contract", "explain", small, "--json").out)
    assert {"part": "models", "topic": "models"} in [{k: row[k] for k in ("part", "topic")} for row in told]
    assert run_cli("contract", "explain", "codex").code == 0


def test_schema_prints_the_schema() -> None:
    assert json.loads(run_cli("contract", "schema").out) == contract_schema()
