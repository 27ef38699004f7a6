"""``clawproxy contract explain``: a contract in plain words. Reads a file."""

from __future__ import annotations

import itertools
import textwrap
from typing import Annotated

import typer

from ..policies.contract_words import TITLES, explain_policy
from ..receipts.report import printable
from .contract_files import read_contract
from .screen import JsonFlag, print_json

_WIDTH = 100


def explain(
    contract: Annotated[str, typer.Argument(help="A contract file, a draft or signed (JSON, or .yaml).")],
    json_: JsonFlag = False,
) -> None:
    """Say in plain words what a contract lets an agent do, what is unusual first, and leave nothing out."""
    said = explain_policy(read_contract(contract).policy)
    if json_:
        print_json([{"part": part, "topic": TITLES[one.topic], "text": one.text} for part, one in said])
        return
    for topic, rows in itertools.groupby(said, key=lambda row: row[1].topic):
        print(f"{TITLES[topic]}:")
        for _, sentence in rows:
            for line in textwrap.wrap(
                printable(sentence.text), _WIDTH, initial_indent="  - ", subsequent_indent="    "
            ):
                print(line)
