"""``clawproxy explain``: why a call was allowed or refused, recomputed offline from its bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..receipts.call_list import CallList, list_calls
from ..receipts.explain import Explanation, explain
from ..receipts.report import EXIT_CODES, Verdict
from ..receipts.verify import load_bundle
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust, load_trust
from .bundle_paths import check_job_directory, is_state_directory
from .gateway_journal import GatewayRefusal, RefusalList, find_refusal, journal_files, list_refusals
from .screen import JsonFlag, new_app, note, own_command, print_json
from .state import DEFAULT_STATE, StateOption

app = new_app("Why a call was allowed or refused, recomputed from a bundle.")

_RECEIPT = "rcpt_"

type _Told = CallList | RefusalList | GatewayRefusal | Explanation


@app.command()
def explain_(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="A job directory, a .zip of one, the gateway's own journal (STATE/gateway), or a state directory. "
            "Left out: the one of --state is searched.",
        ),
    ],
    receipt_id: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT_ID",
            help="The call (rcpt_…): as x-clawproxy-receipt-id, job tail or run named it. "
            "Left out: the calls and refusals of BUNDLE are listed.",
        ),
    ] = "",
    trust: Annotated[Path | None, typer.Option("--trust", help="The trust file that you hold.")] = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Show the contract's rule, the token and the outcome of one call: clawproxy explain [BUNDLE] RECEIPT_ID.

    Without an id, list the calls and refusals of a bundle, one line each: time, id, what and outcome.

    Ends as verify would for the bundle: 0, 1, or 3 without a trust file.

    A refusal before its job was known is in the gateway's own journal: there, its record is checked.
    """
    path, wanted = _in_order(bundle, receipt_id, state)
    believed = load_trust(trust) if trust else Trust()
    if not wanted:
        listed = _listed(path, believed)
        _show(listed, json_, trusted=trust is not None, more=_more(listed, path, trust))
    told: _Told
    journal = path / "gateway" if is_state_directory(path) else path
    if (journal_files(journal) or journal != path) and (refused := find_refusal(journal, wanted, believed)):
        told = refused
    elif journal_files(path):
        raise _not_found(path, wanted)
    else:
        told = _explain_job(_job_with(path, wanted) if journal != path else path, wanted, believed)
    _show(told, json_, trusted=trust is not None)


def _more(listed: CallList | RefusalList, path: Path, trust: Path | None) -> list[str]:
    """What to ask next, to be copied: of a list that failed what is wrong, and more of one only where one is listed."""
    where = shlex.quote(str(path))
    with_trust = f" --trust {shlex.quote(str(trust))}" if trust else ""
    damaged = isinstance(listed, CallList) and listed.report.verdict is Verdict.FAILED
    out = [f"what is wrong with it: {own_command()} verify {where}{with_trust}"] if damaged else []
    if not damaged or (isinstance(listed, CallList) and listed.calls):
        out.append(f"more of one: {own_command()} explain {where} RECEIPT_ID{with_trust}")
    return out


def _show(told: _Told, as_json: bool, *, trusted: bool, more: Sequence[str] = ()) -> NoReturn:
    """Print it, for people with what to ask next (``more``), and end as verify would."""
    verdict = told.verdict if isinstance(told, (GatewayRefusal, RefusalList)) else told.report.verdict
    if as_json:
        print_json(told.to_json())
    else:
        print("\n".join(told.lines()))
        for line in more:
            note(line)
        if not trusted and verdict is Verdict.INCOMPLETE:
            note("who signed it is not known: give --trust; its operator writes one with: clawproxy keys trust -o FILE")
    raise typer.Exit(EXIT_CODES[verdict])


def _listed(path: Path, trust: Trust) -> CallList | RefusalList:
    """What there is to ask about in a job, or in the gateway's own journal."""
    if journal_files(path):
        return list_refusals(path, trust)
    check_job_directory(path)
    if not path.exists():
        raise ClawproxyError(
            "USAGE", "neither a bundle that is here nor an id", got=str(path), expected="[BUNDLE] RECEIPT_ID, or BUNDLE"
        )
    loaded = load_bundle(path)
    return list_calls(loaded.files, trust, loaded.findings)


def _in_order(bundle: str, receipt_id: str, state: Path) -> tuple[Path, str]:
    looks_like_id = bundle.startswith(_RECEIPT) and not Path(bundle).exists()
    if looks_like_id and not receipt_id:
        return state, bundle
    if looks_like_id:
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
