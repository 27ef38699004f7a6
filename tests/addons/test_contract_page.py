"""docs/contract.md against the code: every word for content that the gateway cannot read, every field, the example."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import orjson
from clawproxy.addons.wire.asked import _STATE_KEYS
from clawproxy.addons.wire.keys import BodyKeys
from clawproxy.policies.claw_contract import KNOWN_FIELDS
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.egress import ENTRY_FIELDS
from clawproxy.policies.meta_tools import META_TOOLS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contract.md").read_text()
WIRE = sorted((ROOT / "addons" / "wire").glob("*.py"))


def _said(module: Path) -> Iterator[str]:
    """The words of a module: what it passes to ``asked.state`` and ``asked.url``, constants or names of a loop."""
    tree = ast.parse(module.read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
            continue
        kind, of = call.func.attr, call.func.value
        if kind not in ("state", "url") or not (isinstance(of, ast.Name) and of.id == "asked"):
            continue
        name = call.args[-1]
        if isinstance(name, ast.Constant):
            values: list[object] = [name.value]
        else:
            assert isinstance(name, ast.Name), f"{module.name}:{call.lineno}: a word that this test cannot read"
            around = [loop for loop in loops if call in ast.walk(loop)]
            values = [value for loop in around for value in _values_of(loop, name.id)]
        assert values, f"{module.name}:{call.lineno}: a word that this test cannot read"
        yield from (f"{kind}:{value}" for value in values)


def _values_of(loop: ast.For, name: str) -> list[object]:
    """What ``name`` is in turn in a loop over constants."""
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
    at = [isinstance(target, ast.Name) and target.id == name for target in targets]
    if True not in at or not isinstance(loop.iter, ast.Tuple):
        return []
    rows = [ast.literal_eval(row) for row in loop.iter.elts]
    return [row[at.index(True)] if isinstance(loop.target, ast.Tuple) else row for row in rows]


def _keys_of_bodies(module: Path) -> Iterator[str]:
    """The keys of a body that are state by themselves."""
    loaded = importlib.import_module(f"clawproxy.addons.wire.{module.stem}")
    state_keys = getattr(loaded, "_STATE_KEYS", () if module.stem == "fal_router" else _STATE_KEYS)
    tables = [value for value in vars(loaded).values() if isinstance(value, BodyKeys)]
    yield from (f"state:{key}" for key in state_keys if any(key in table._known for table in tables))


def _first_cells(heading: str) -> list[str]:
    section = PAGE.split(f"\n## {heading}")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_the_page_has_every_word_that_a_format_says_and_no_other() -> None:
    said = {word for module in WIRE for word in (*_said(module), *_keys_of_bodies(module))}
    rows = _first_cells("Content that the gateway cannot read")
    assert len(rows) == len(set(rows))
    assert set(rows) == said


def test_the_page_has_every_field_of_a_contract_and_of_an_entry() -> None:
    assert sorted(_first_cells("Fields")) == sorted(KNOWN_FIELDS)
    assert sorted(_first_cells("Calls of tools")) == sorted(ENTRY_FIELDS)


def test_the_page_names_every_meta_tool() -> None:
    assert {name for name in META_TOOLS if f"`{name}`" not in PAGE} == set()


def test_the_example_of_the_page_is_a_contract_that_demands_nothing() -> None:
    found = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    policy = parse_contract(orjson.loads(found[1])).policy
    assert policy.demands == ()
    assert len(policy.egress) == 2
