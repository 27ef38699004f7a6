"""Each contract field that maps to OpenClaw has a widening that is found, and no rule is there for nothing.

The rules are taken from the code: each statement that tells of a finding, and each row of the table. Taken out, one
after the other, in a copy of their module, what they alone find is found no more. A rule without a seed, and a field
that nobody decided on, are red.
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from clawproxy.policies.claw_contract import KNOWN_FIELDS
from clawproxy.tokens.canonical import JsonObject

from clawproxy.openclaw import compare, plugins, state_files
from clawproxy.openclaw.fields import CLOSED, NOTED, RENDERED, SILENT
from clawproxy.openclaw.render import Options
from clawproxy.openclaw.settings_table import TABLE, Row, rows_by_name
from clawproxy.openclaw.wider import Wider

from .contracts import CLASSES, FREE, GATEWAY, READER, RUNNER, live, powers, rendered
from .test_compare import WIDENINGS, put, row_seed
from .test_own_audit import ROWS
from .test_state_files import approvals

SAY = ("wider", "_say")


class _Sites(ast.NodeTransformer):
    """Counts the statements that tell of a finding, takes some out, and has the others say their number."""

    def __init__(self, without: Collection[int]) -> None:
        self.without = without
        self.count = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        told = node.value.value if isinstance(node.value, ast.Yield) else None
        if not isinstance(told, ast.Call):
            return node
        name = told.func.attr if isinstance(told.func, ast.Attribute) else getattr(told.func, "id", "")
        if name not in SAY:
            return node
        n, self.count = self.count, self.count + 1
        if n in self.without:
            return ast.copy_location(ast.parse("yield from ()").body[0], node)
        noted = ast.Call(ast.Name("_noted", ast.Load()), [ast.Constant(n), told], [])
        return ast.copy_location(ast.Expr(ast.Yield(noted)), node)


@dataclass
class Copy:
    """A copy of a module, and which of its statements told of something since."""

    module: Any
    sites: int
    told: list[tuple[int, str]] = field(default_factory=list)
    """Number and path."""


def copy_of(real: ModuleType, without: Collection[int] = ()) -> Copy:
    sites = _Sites(without)
    assert real.__file__ is not None
    tree = ast.fix_missing_locations(sites.visit(ast.parse(Path(real.__file__).read_text())))
    module = ModuleType(real.__name__)
    module.__package__ = real.__package__
    made = Copy(module, 0)

    def noted(n: int, item: Wider) -> Wider:
        made.told.append((n, item.path))
        return item

    vars(module)["_noted"] = noted
    exec(compile(tree, real.__file__, "exec"), vars(module))  # noqa: S102 - our own source
    made.sites = sites.count
    return made


@dataclass(frozen=True)
class Seed:
    """``find`` looks with a module, or a copy of it; ``path`` is where something must be found."""

    name: str
    path: str
    find: Callable[[Any, Path], Iterable[Wider]]

    def paths(self, module: Any, folder: Path) -> set[str]:
        return {item.path for item in self.find(module, folder) if self.path in item.path}


def _of_config(document: JsonObject, path: str, value: Any, expected: str) -> Seed:
    config = put(rendered(document), path, value)

    def find(module: Any, _folder: Path) -> Iterable[Wider]:
        found: Iterable[Wider] = module.compare(live(config), powers(document), Options(GATEWAY))
        return found

    return Seed(f"{path} = {str(value)[:40]}", expected, find)


def _of_state(path: str, make: Callable[[Path], None], document: JsonObject = RUNNER) -> Seed:
    def find(module: Any, folder: Path) -> Iterable[Wider]:
        if not any(folder.iterdir()):
            make(folder)
        found: Iterable[Wider] = list(module.look_at_state(folder, powers(document), Options(GATEWAY)))
        return found

    return Seed(path, path, find)


def _models(count: int, content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for n in range(count):
            place = folder / "agents" / f"a{n}" / "agent"
            place.mkdir(parents=True)
            (place / "models.json").write_text(content)

    return make


def _approvals(told: object) -> Callable[[Path], None]:
    return lambda folder: approvals(folder, told)


def _no_database(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "openclaw.sqlite").write_bytes(b"no database")


THERE = json.dumps({"providers": {"there": {"baseUrl": "https://api.anthropic.com"}}})
APPROVED = "state/openclaw.sqlite#exec_approvals"
SEEDS: dict[ModuleType, list[Seed]] = {
    compare: [_of_config(*widening) for widening in WIDENINGS],
    state_files: [
        _of_state("agents/a0/agent/models.json.there.baseUrl", _models(1, THERE)),
        _of_state("agents/a0/agent/models.json", _models(1, "not json5 {")),
        _of_state("agents/a99/agent/models.json", _models(257, "{}")),
        _of_state(".env.OPENAI_API_KEY", lambda folder: _write(folder / ".env", "OPENAI_API_KEY=x\n")),
        _of_state(".env", lambda folder: (folder / ".env").mkdir()),
        _of_state(".env", lambda folder: _write(folder / ".env", "#" * 2**21)),
        _of_state(f"{APPROVED}", _no_database),
        _of_state(f"{APPROVED}.defaults.autoAllowSkills", _approvals({"defaults": {"autoAllowSkills": True}})),
        _of_state(f"{APPROVED}.agents.a.allowlist", _approvals({"agents": {"a": {"allowlist": [{}]}}})),
    ],
    plugins: [
        Seed(
            path, path, lambda module, _: module.judge_plugins([row for row in ROWS if row["enabled"]], powers(READER))
        )
        for path in ("plugins.xai.toolNames", "plugins.mine", "plugins.hooked.hookNames")
    ],
}


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@cache
def _whole(real: ModuleType) -> Copy:
    return copy_of(real)


SITES = [(real, n) for real in SEEDS for n in range(_whole(real).sites)]


@pytest.fixture(scope="module")
def tellers(tmp_path_factory: pytest.TempPathFactory) -> dict[ModuleType, list[set[int]]]:
    """For each seed, in their order, the statements that tell of it where it is expected."""
    return {real: [_told_by(real, seed, tmp_path_factory.mktemp("s")) for seed in SEEDS[real]] for real in SEEDS}


def _told_by(real: ModuleType, seed: Seed, folder: Path) -> set[int]:
    whole = _whole(real)
    whole.told.clear()
    assert seed.paths(whole.module, folder) == seed.paths(real, folder) != set(), seed.name
    return {n for n, path in whole.told if seed.path in path}


def test_every_statement_that_tells_of_something_was_counted() -> None:
    """What is written another way than these tests look for would be left out of them."""
    for real in SEEDS:
        assert real.__file__ is not None
        text = Path(real.__file__).read_text()
        assert len(re.findall(r"yield (?:self\._say|wider)\(", text)) == _whole(real).sites > 0
        assert text.count("wider(") + text.count("_say(") == _whole(real).sites + (2 if real is compare else 0)


@pytest.mark.parametrize(("real", "n"), SITES, ids=[f"{real.__name__.rpartition('.')[2]}-{n}" for real, n in SITES])
def test_without_a_rule_something_is_not_found(
    real: ModuleType, n: int, tellers: dict[ModuleType, list[set[int]]], tmp_path: Path
) -> None:
    alone = [seed for seed, told_by in zip(SEEDS[real], tellers[real], strict=True) if told_by == {n}]
    assert alone, "a rule that no seed needs: write one for it"
    assert alone[0].paths(copy_of(real, {n}).module, tmp_path) == set()


def test_each_seed_is_found_by_the_rules_that_tell_of_it_and_by_nothing_else(
    tellers: dict[ModuleType, list[set[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for real, seeds in SEEDS.items():
        without = {frozenset(told_by): copy_of(real, told_by).module for told_by in tellers[real]}
        for seed, told_by in zip(seeds, tellers[real], strict=True):
            assert len(told_by) <= 2, (seed.name, told_by)
            folder = tmp_path_factory.mktemp("s")
            assert seed.paths(without[frozenset(told_by)], folder) == set(), seed.name


@pytest.mark.parametrize("row", TABLE, ids=[row.path for row in TABLE])
def test_each_row_of_the_table_finds_what_nothing_else_does(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose path is misspelt would never say anything; nor would one that another covers."""
    config = row_seed(row)

    def says() -> set[str]:
        return {item.says for item in compare.compare(live(config), powers(READER), Options(GATEWAY))}

    assert row.says in says()
    monkeypatch.setattr(compare, "_ROWS", rows_by_name(other for other in TABLE if other is not row))
    assert row.says not in says()


# -- by field ----------------------------------------------------------------------------------------------------------

BOTH: JsonObject = {**READER, "allowed_tools": ["fs.read", "fs.write"], "denied_tools": ["fs.write"]}
ASKING: JsonObject = {**FREE, "approvals": [{"action": "shell.exec"}]}
BROAD: JsonObject = {**CLASSES, "fs.read": [*CLASSES["fs.read"], "web_fetch"]}
OPENAI: JsonObject = {**READER, "allowed_models": ["claude-sonnet-4-5", "gpt-5-mini"]}
WIDER_CONTRACTS: dict[str, tuple[JsonObject, Any]] = {
    "allowed_providers": (OPENAI, ["anthropic", "openai"]),
    "allowed_models": (READER, ["claude-sonnet-4-5", "claude-opus-4-5"]),
    "allowed_tools": (READER, ["fs.read", "web.read"]),
    "denied_tools": (BOTH, []),
    "tool_classes": (READER, BROAD),
    "elevated": (READER, True),
    "approvals": (ASKING, []),
    # these widen nothing that OpenClaw is set to
    "tool_arguments": (ASKING, {"shell.exec": {"when": [{"argument": "command", "not_like": ["*sudo*"]}]}}),
    "budgets": (READER, {"requests": 5}),
    "data_boundaries": (READER, {"secrets": "deny"}),
    "data_classes_allowed": (READER, ["open"]),
    "data_classes_denied": (READER, ["secrets"]),
    "tool_data_classes": (READER, {"fs.read": ["open"]}),
    "tool_data_access": (READER, {"fs.read": ["open"]}),
    "allowed_provider_features": (READER, ["state:previous_response_id"]),
    "read_only_tools": (READER, ["fs.read"]),
    "model_routing": (READER, {"must_proxy_via": "clawproxy"}),
    "egress_allowlist": (READER, [{"host": "a.example", "paths": ["/*"]}]),
    "evidence_requirements": (READER, {"require_proof_bundle": True}),
    "wpc_version": (READER, "v1"),
    "policy_name": (READER, "another"),
    "policy_hash": (READER, ""),
    "on_denied_tool": (READER, "strip"),
    "on_denied_call": (READER, "refuse"),
    "token_constraints": (READER, {"cst_ttl_minutes": 5}),
    "token_requirements": (READER, {"max_ttl_minutes": 5}),
}


def test_each_field_of_a_contract_has_its_place() -> None:
    assert {*RENDERED, *CLOSED, *NOTED, *SILENT} == set(KNOWN_FIELDS)
    assert len([*RENDERED, *CLOSED, *NOTED, *SILENT]) == len(KNOWN_FIELDS) + len({*CLOSED} & {*NOTED})
    assert set(WIDER_CONTRACTS) == set(KNOWN_FIELDS)


@pytest.mark.parametrize("name", KNOWN_FIELDS)
def test_the_rendering_follows_the_fields_that_it_is_said_to_follow_and_a_wider_one_is_found(name: str) -> None:
    narrow, value = WIDER_CONTRACTS[name]
    wide = {**narrow, name: value}
    if name == "policy_hash":
        del wide[name]
    assert (_without_hash(rendered(wide)) != _without_hash(rendered(narrow))) is (name in RENDERED)
    found = {item.field for item in compare.compare(live(rendered(wide)), powers(narrow), Options(GATEWAY))}
    expected = "allowed_tools" if name == "tool_classes" else name
    assert (expected in found) is (name in RENDERED)
    assert compare.compare(live(rendered(wide)), powers(wide), Options(GATEWAY)) == []


def _without_hash(config: JsonObject) -> JsonObject:
    bare = copy.deepcopy(config)
    for provider in bare["models"]["providers"].values():
        del provider["headers"]["X-Policy-Hash"]
    return bare


def test_each_field_that_maps_is_named_by_a_finding_and_no_other_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    named = {row.field for row in TABLE}
    for real, seeds in SEEDS.items():
        for seed in seeds:
            named |= {item.field for item in seed.find(real, tmp_path_factory.mktemp("s")) if seed.path in item.path}
    assert named == {*RENDERED, *CLOSED} - {"tool_classes"}
