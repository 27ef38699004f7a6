"""``clawproxy verify``: believe a bundle or not, offline, with the keys that you hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..receipts.presenters import WORTH
from ..receipts.report import Report, Verdict, printable
from ..receipts.verify import verify_path
from ..receipts.verify_contract import recomputed_line
from ..tokens.trust import Trust, load_trust
from .bundle_paths import check_job_directory
from .screen import JsonFlag, counts_line, new_app, print_json
from .state import read_file

app = new_app("Verify a job directory, a .zip of one, or any signed file, offline.")

_TOLD = {"tier": "proof_tier", "agent": "agent_did", "run": "run_id", "issuer": "issuer_did", "signer": "signer_did"}
_COLOURS = {Verdict.VERIFIED: "32", Verdict.CONFORMS: "32", Verdict.INCOMPLETE: "33", Verdict.FAILED: "31"}


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="A job directory, a .zip of one, or a signed JSON file.")],
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="The trust file that you hold; keys in a bundle never vouch for it."),
    ] = None,
    contract: Annotated[
        list[Path] | None,
        typer.Option("--contract", help="A contract that you expect the job to be under; again for each other."),
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Say VERIFIED or CONFORMS (exit 0), FAILED (1), or INCOMPLETE (3: unsealed, a recorded gap, or no trust file)."""
    check_job_directory(path)
    report = verify_path(path, load_trust(trust) if trust else Trust(), [read_file(file) for file in contract or ()])
    if json_:
        print_json(report.to_json())
    else:
        print_report(report, path, trusted=trust is not None)
    raise typer.Exit(report.exit_code)


def print_report(report: Report, path: Path, *, trusted: bool = False) -> None:
    """The report for people: the verdict first, what was found, whose it is, the counts; all of it escaped."""
    word = str(report.verdict)
    if sys.stdout.isatty():
        word = f"\x1b[1;{_COLOURS[report.verdict]}m{word}\x1b[0m"
    print(f"{word}  " + printable(str(path) + ("" if report.reason == "OK" else f"  [{report.reason}]")))
    for finding in report.findings:
        rule = f"{finding.rule} " if finding.rule else ""
        print(printable(f"  {finding.severity}: {rule}{finding.reason} at {finding.path}: {finding.detail}"))
    for name, member in _TOLD.items():
        if value := report.facts.get(member):
            print(printable(f"  {name}: {value}"))
    if report.counts:
        print("  " + counts_line(report.counts))
    if others := report.facts.get("model_match", {}).get("other"):
        print(f"  calls answered by another model than they asked for: {others}")
    if estimated := report.facts.get("usage", {}).get("estimated"):
        print(f"  calls with an estimate for tokens: {estimated}")
    for strength in report.facts.get("presenter_strength", ()):
        print(f"  bound to its presenter by {strength}: {WORTH.get(strength, 'of unknown worth')}")
    if told := recomputed_line(report.facts.get("recomputed", {})):
        print(f"  decisions worked out again: {told}")
    if any(finding.reason == "TRUST_NOT_GIVEN" for finding in report.findings):
        what = "a trust file that names those too" if trusted else "the gateway's keys"
        print(f"  give {what} with --trust; its operator writes it with: clawproxy keys trust -o trust.json")
