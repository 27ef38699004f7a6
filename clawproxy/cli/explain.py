"""``clawproxy explain``: why a call was allowed or refused, recomputed offline from its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..receipts.explain import explain
from ..receipts.report import EXIT_CODES
from ..receipts.verify import load_bundle
from ..tokens.trust import Trust, load_trust
from .screen import JsonFlag, new_app, print_json

app = new_app("Why a call was allowed or refused, recomputed from a bundle.")


@app.command()
def explain_(
    bundle: Annotated[Path, typer.Argument(help="A job directory, or a .zip of one.")],
    receipt_id: Annotated[str, typer.Argument(metavar="RECEIPT_ID", help="As x-clawproxy-receipt-id named it.")],
    trust: Annotated[Path | None, typer.Option("--trust", help="The trust file that you hold.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Show the contract's rule, the token and the outcome of one call; ends as verify would for the bundle."""
    loaded = load_bundle(bundle)
    explained = explain(loaded.files, receipt_id, load_trust(trust) if trust else Trust(), loaded.findings)
    if json_:
        print_json(explained.to_json())
    else:
        print("\n".join(explained.lines()))
    raise typer.Exit(EXIT_CODES[explained.report.verdict])
