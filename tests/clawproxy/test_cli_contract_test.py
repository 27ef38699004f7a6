"""``contract test``: fixtures of the documentation hold, changes are told, what cannot be read is one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..receipts.forge import CONTRACT_DOCUMENT, Forge, plain_job
from .command_line import run_cli

CONFIGS = Path(__file__).parents[2] / "configs" / "contracts"
EXAMPLE = CONFIGS / "sdk.fixtures.jsonl"


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def bundle(tmp_path: Path, forge: Forge) -> Path:
    directory = tmp_path / "job"
    directory.mkdir()
    for name, content in forge.files().items():
        (directory / name).write_bytes(content)
    return directory


def test_the_example_holds_and_covers_every_kind_of_fixture() -> None:
    done = run_cli("contract", "test", CONFIGS / "sdk.json", EXAMPLE)
    assert (done.code, done.out.splitlines()[-1]) == (0, "14 decisions, 0 changed"), done.out + done.err
    rows = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    assert {kind for row in rows for kind in ("call", "tool", "egress") if kind in row} == {"call", "tool", "egress"}


def test_a_contract_that_allows_more_or_less_changes_just_those_decisions(tmp_path: Path) -> None:
    document = json.loads((CONFIGS / "sdk.json").read_text())
    document["allowed_models"] = ["gpt-4o-mini", "o1"]
    document["denied_tools"] = []
    document["allowed_tools"].append("send_mail")
    draft = written(tmp_path / "draft.json", document)
    done = run_cli("contract", "test", draft, EXAMPLE, "--json")
    told = json.loads(done.out)
    changed = {row["name"]: (row["was"], row["now"]["word"]) for row in told["decisions"] if row["changed"]}
    assert (done.code, told["changed"]) == (1, len(changed))
    assert changed == {
        "a model of a pattern": ("allow", "POLICY_MODEL_NOT_ALLOWED"),
        "a model that is not": ("POLICY_MODEL_NOT_ALLOWED", "allow"),
        "a shell": ("POLICY_TOOL_DENIED", "POLICY_TOOL_NOT_ALLOWED"),
        "a tool that nobody named": ("POLICY_TOOL_NOT_ALLOWED", "allow"),
        "a call of a shell": ("POLICY_TOOL_DENIED", "POLICY_TOOL_NOT_ALLOWED"),
    }


def test_a_recorded_job_under_another_contract(tmp_path: Path) -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0))
    forge.attest(forge.intend(1, model="gpt-4o"))
    forge.attest(forge.intend(2, facts=None, tools=[], tools_total=0))
    forge.deny(1000)
    forge.deny(1001, reason="TOKEN_EXPIRED", step="authenticate", provider=None, model=None, facts=None)
    forge.end()
    directory = bundle(tmp_path, forge)
    same = run_cli("contract", "test", written(tmp_path / "same.json", CONTRACT_DOCUMENT), directory)
    assert (same.code, same.out.splitlines()[-1]) == (0, "4 decisions, 0 changed")
    assert "without what else the call asked for" in same.out
    other = {**CONTRACT_DOCUMENT, "allowed_models": ["gpt-5-mini", "o1"]}
    done = run_cli("contract", "test", written(tmp_path / "other.json", other), directory, "--json")
    rows = [(row["was"], row["now"]["word"], row["changed"]) for row in json.loads(done.out)["decisions"]]
    assert done.code == 1
    assert rows == [
        ("allow", "allow", False),
        ("allow", "POLICY_MODEL_NOT_ALLOWED", True),
        ("allow", "allow", False),
        ("POLICY_MODEL_NOT_ALLOWED", "allow", True),
    ]


def test_a_denial_that_cannot_be_recomputed_is_not_called_the_same(tmp_path: Path) -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, reason="POLICY_TOOL_DENIED", model="gpt-5-mini", facts=None)
    forge.end()
    document = written(tmp_path / "c.json", CONTRACT_DOCUMENT)
    done = run_cli("contract", "test", document, bundle(tmp_path, forge))
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 decision, 0 changed, 1 cannot be recomputed")


def test_a_job_whose_records_do_not_hold_is_not_tried(tmp_path: Path) -> None:
    directory = bundle(tmp_path, plain_job())
    journal = directory / "receipts.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"gpt-5-mini", b"gpt-5-maxi", 1))
    done = run_cli("contract", "test", written(tmp_path / "c.json", CONTRACT_DOCUMENT), directory)
    assert (done.code, done.out) == (2, "")
    assert "the job's records do not hold" in done.err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "PARSE_ERROR"),
        ({"fixtures": []}, "a file has some fixtures"),
        ({"call": {"model": "m"}}, "the provider is missing"),
        ({"call": {"provider": "openai", "temperature": 1}}, "unknown member"),
        ({"call": {"provider": "openai", "tools": "bash"}}, "not a list of strings"),
        ({"call": {"provider": "openai", "stream": 1}}, "not true or false"),
        ({"call": {"provider": "openai", "kind": "train"}}, "no such kind"),
        ({"call": {"provider": "openai"}, "expect": "maybe"}, "no such outcome"),
        ({"call": {"provider": "openai"}, "token_life_s": -1}, "not an integer from 0"),
        ({"name": "nothing"}, "it says not what is judged"),
        ({"egress": {"host": "a.example", "path": "/a/../b"}}, "no request can have this path"),
        ({"egress": {"host": "a.example", "method": "TRACE"}}, "not a call of a tool"),
        ({"tool": {"arguments": {}}}, "the tool has no name"),
        ('{"call": {"provider": "openai"}}\n{"call": 7}', "fixture 2"),
    ],
)
def test_what_is_no_fixture_is_one_clear_line(tmp_path: Path, content: Any, why: str) -> None:
    done = run_cli("contract", "test", CONFIGS / "sdk.json", written(tmp_path / "f.json", content))
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert why in done.err or why == "PARSE_ERROR"
    assert "FIXTURE_INVALID" in done.err
