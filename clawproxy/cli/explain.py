"""``clawproxy explain``: why a call was allowed or refused, recomputed offline from its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..receipts.explain import Explanation, explain
from ..receipts.report import EXIT_CODES
from ..receipts.verify import load_bundle
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust, load_trust
from .bundle_paths import check_job_directory, is_state_directory
from .gateway_journal import GatewayRefusal, find_refusal, journal_files
from .screen import JsonFlag, new_app, print_json
from .state import DEFAULT_STATE, StateOption

app = new_app("Why a call was allowed or refused, recomputed from a bundle.")

_RECEIPT = "rcpt_"


@app.command()
def explain_(
    bundle: Annotated[
        str,
        typer.Argument(
            help="A job directory or a .zip of one; the gateway's own journal (STATE/gateway); or a state directory "
            "[default, with RECEIPT_ID alone: that of --state]."
        ),
    ],
    receipt_id: Annotated[str, typer.Argument(metavar="RECEIPT_ID", help="As x-clawproxy-receipt-id named it.")] = "",
    trust: Annotated[Path | None, typer.Option("--trust", help="The trust file that you hold.")] = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Show the contract's rule, the token and the outcome of one call; ends as verify would for the bundle.

    A refusal before its job was known is in the gateway's own journal: there, its record is checked.
    """
    path, wanted = _in_order(bundle, receipt_id, state)
    believed = load_trust(trust) if trust else Trust()
    journal = path / "gateway" if is_state_directory(path) else path
    if (journal_files(journal) or journal != path) and (refused := find_refusal(journal, wanted, believed)):
        told: GatewayRefusal | Explanation = refused
        code = refused.exit_code
    elif journal_files(path):
        raise _not_found(path, wanted)
    else:
        explained = _explain_job(_job_with(path, wanted) if journal != path else path, wanted, believed)
        told, code = explained, EXIT_CODES[explained.report.verdict]
    if json_:
        print_json(told.to_json())
    else:
        print("\n".join(told.lines()))
    raise typer.Exit(code)


def _in_order(bundle: str, receipt_id: str, state: Path) -> tuple[Path, str]:
    looks_like_id = bundle.startswith(_RECEIPT) and not Path(bundle).exists()
    if looks_like_id and not receipt_id:
        return state, bundle
    if looks_like_id or not receipt_id:
        raise ClawproxyError("USAGE", "the order is: BUNDLE RECEIPT_ID", got=f"{bundle} {receipt_id}".strip())
    return Path(bundle), receipt_id


def _explain_job(path: Path, receipt_id: str, trust: Trust) -> Explanation:
    check_job_directory(path)
    loaded = load_bundle(path)
    try:
        return explain(loaded.files, receipt_id, trust, loaded.findings)
    except ClawproxyError as err:
        if err.reason != "RECEIPT_NOT_FOUND":
            raise
        beside = path.absolute().parent.parent / "gateway"
        found = find_refusal(beside, receipt_id, trust)
        if found is None:
            raise
    raise ClawproxyError(
        "RECEIPT_NOT_FOUND",
        f"the job's journal has no such call, but the gateway's own has, at {found.place}: {found.told()}",
        where=str(path),
        got=receipt_id,
        remedy=f"for the whole record ({found.verdict}): clawproxy explain {found.file.parent} {receipt_id}",
    )


def _job_with(state: Path, receipt_id: str) -> Path:
    """The job of a state directory whose journal names the id."""
    part = receipt_id.encode("utf-8", "surrogateescape")
    for journal in sorted((state / "jobs").glob("[!.]*/receipts.jsonl")):
        with journal.open("rb") as file:
            if any(part in line for line in file):
                return journal.parent
    raise _not_found(state, receipt_id)


def _not_found(path: Path, receipt_id: str) -> ClawproxyError:
    return ClawproxyError(
        "RECEIPT_NOT_FOUND",
        "no record of such a call",
        where=str(path),
        got=receipt_id,
        remedy="one that answered with recorded: false is counted in a summary only; see: clawproxy job tail --gateway",
    )
