"""``clawproxy contract diff``: what one contract permits that another does not. Reads files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..policies.contract_diff.compare import Comparison, Verdict, compare
from ..policies.contract_diff.power import Power, Proof
from ..policies.fixtures import fixture_row
from ..receipts.report import printable
from .contract_files import read_contract
from .screen import JsonFlag, print_json

_SAID = {
    Verdict.EQUAL: "the same: each permits nothing that the other does not",
    Verdict.NARROWER: "narrower: {b} permits nothing that {a} does not",
    Verdict.WIDER: "wider: {b} permits more than {a}",
    Verdict.DIFFERENT: "wider: {b} permits what {a} does not, and the other way round",
}


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A contract file, a draft or signed, or a starter.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The contract that is to take its place.")],
    json_: JsonFlag = False,
) -> None:
    """Say what B permits that A does not, and the other way round; ends with 1 if B permits more.

    Everything that the two could judge differently is put to the decisions of both, so "nothing" is proved, and what
    is new has an example. What cannot be decided counts as more.
    """
    found = compare(read_contract(before).policy, read_contract(after).policy)
    if json_:
        print_json(found.to_json())
    else:
        names = Path(before).name, Path(after).name
        for line in _lines(found, *(names if names[0] != names[1] else (before, after))):
            print(printable(line))
    raise typer.Exit(1 if found.widens else 0)


def _lines(found: Comparison, before: str, after: str) -> Iterator[str]:
    yield _SAID[found.verdict].format(a=before, b=after)
    for mark, other, powers in (("+", "before", found.added), ("-", "now", found.removed)):
        for power in powers:
            yield f"  {mark} {power.field}: {power.what}{_said_of(power, other)}"
    if found.undecided:
        yield f"not decided, and so counted as more: {len(found.undecided)}"
    example = next((power.example for power in found.added if power.example is not None), None)
    if example is not None:
        yield f"an example, for {before} and {after} with clawproxy contract test:"
        yield f"  {json.dumps(fixture_row(example), ensure_ascii=False)}"


def _said_of(power: Power, other: str) -> str:
    """The entry, and what both contracts say."""
    if power.proof is Proof.OPEN:
        return " (not decided)"
    parts = [power.rule] if power.rule else []
    if power.here or power.there:
        parts.append(f"{power.here or 'allowed'}, {other} {power.there or 'nothing'}")
    return f" ({'; '.join(parts)})" if parts else ""
