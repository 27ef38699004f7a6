"""``clawproxy verify``: believe a bundle or not, offline, with the keys that you hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..policies.contract import document_in, hash_contract
from ..receipts.containment import containment_words
from ..receipts.door_counts import door_lines
from ..receipts.presenters import WORTH
from ..receipts.report import Report, Verdict, printable
from ..receipts.verify import verify_path
from ..receipts.verify_contract import recomputed_lines
from ..tokens.canonical import jcs_bytes
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust, load_trust
from .bundle_paths import check_job_directory
from .contract_files import read_contract_file
from .screen import JsonFlag, counts_line, new_app, print_json

app = new_app("Verify a job directory, a .zip of one, or any signed file, offline.")

_TOLD = {
    "tier": "proof_tier",
    "contract": "policy_hash_b64u",
    "contract at the end": "policy_hash_b64u_last",
    "gateway": "gateway_did",
    "agent": "agent_did",
    "run": "run_id",
    "issuer": "issuer_did",
    "signer": "signer_did",
}
WRONG_TRUST = (
    "a signer is not in the trust file, or not in this role: either it is the file of another gateway or an older one "
    "(its operator writes one anew: clawproxy keys trust -o trust.json), or somebody else made this"
)
OTHER_CONTRACT = (
    "either another contract was given than the job was opened under, or it was opened under one that you did not "
    "expect; what the two permit: clawproxy contract diff GIVEN "
)
CHANGED = (
    "these are not the files that the gateway wrote: get the bundle again from whoever has it, and rely on nothing in "
    "this copy"
)
_CHANGED = (
    *("HASH_MISMATCH", "SEAL_MISMATCH", "FILE_UNLISTED", "FILE_MISSING"),
    *("SIGNATURE_INVALID", "MALFORMED_ENVELOPE"),
)
_PARTS = ("receipts.jsonl", "job.json", "SEAL.json", "MANIFEST.json")
"""Files of a bundle that are nothing by themselves."""
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
        typer.Option(
            "--contract",
            metavar="FILE",
            help="A contract that you expect the job to be under; again for each other.",
        ),
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Say VERIFIED or CONFORMS (exit 0), FAILED (1), or INCOMPLETE (3: unsealed, a recorded gap, or no trust file).

    A single signed file other than a contract fails without a trust file: nothing else would vouch for it.
    """
    check_job_directory(path)
    given = [_given(file) for file in contract or ()]
    report = verify_path(path, load_trust(trust) if trust else Trust(), given)
    if json_:
        print_json(report.to_json())
    else:
        print_report(report, path, trusted=trust is not None, given=bool(given))
    raise typer.Exit(report.exit_code)


def _given(file: Path) -> bytes:
    """The contract in a file; raises ``ClawproxyError`` for one that holds none, which says nothing of the bundle."""
    envelope = read_contract_file(file)
    try:
        hash_contract(document_in(envelope))
    except ClawproxyError as err:
        raise err if err.where.startswith(str(file)) else err.at(str(file)) from None
    return jcs_bytes(envelope)


def print_report(report: Report, path: Path, *, trusted: bool = False, given: bool = False) -> None:
    """The report for people: the verdict first, what was found, whose it is, the counts; all of it escaped."""
    word = str(report.verdict)
    if sys.stdout.isatty():
        word = f"\x1b[1;{_COLOURS[report.verdict]}m{word}\x1b[0m"
    print(f"{word}  " + printable(str(path) + ("" if report.reason == "OK" else f"  [{report.reason}]")))
    for finding in report.findings:
        rule = f"{finding.rule} " if finding.rule else ""
        place = f" at {finding.path}" if finding.path else ""
        print(printable(f"  {finding.severity}: {rule}{finding.reason}{place}: {finding.detail}"))
    if report.job is not None:
        print(printable(f"  job: {report.job}"))
    for name, member in _TOLD.items():
        if value := report.facts.get(member):
            print(printable(f"  {name}: {value}"))
    if report.counts:
        partly = report.counts.keys() == {"records"}  # nothing else is counted where reading ended early
        print(("  read before it failed: " if partly else "  ") + counts_line(report.counts))
    if others := report.facts.get("model_match", {}).get("other"):
        print(f"  calls answered by another model than they asked for: {others}")
    if estimated := report.facts.get("usage", {}).get("estimated"):
        print(f"  calls with an estimate for tokens: {estimated}")
    if attached := report.facts.get("attached"):
        print(f"  other evidence, its authors' word: {', '.join(f'{n} {what}' for what, n in attached.items())}")
    if containment := report.facts.get("containment"):
        print(printable(f"  containment: {containment_words(containment)}"))
    at_the_door = {"packets": report.facts.get("turned_away"), "denials_left_out": report.facts.get("denials_left_out")}
    for line in door_lines(at_the_door):
        print(f"  {line}")
    for strength in report.facts.get("presenter_strength", ()):
        print(f"  bound to its presenter by {strength}: {WORTH.get(strength, 'of unknown worth')}")
    if (counted := report.facts.get("recomputed")) is not None:
        without = report.facts.get("recomputed_without", {})
        for line in recomputed_lines(counted, without, report.counts.get("denials", 0)):
            print(printable(f"  {line}"))
    if report.reason == "CLAIM_NOT_FOUND":
        print(f"  {WRONG_TRUST}")
    if report.kind == "job" and report.reason in _CHANGED:
        print(f"  {CHANGED}")
    if report.kind == "job" and report.reason == "POLICY_HASH_MISMATCH" and given and path.is_dir():
        print(printable(f"  {OTHER_CONTRACT}{path / 'contract.json'}"))
    if report.verdict is Verdict.FAILED and report.kind != "job" and path.name in _PARTS:
        print(printable(f"  {path.name} is a part of a bundle; give its directory: {path.parent}"))
    untrusted = ("TRUST_NOT_GIVEN",) if trusted else ("TRUST_NOT_GIVEN", "DEPENDENCY_NOT_CONFIGURED")
    if any(finding.reason in untrusted for finding in report.findings):
        what = "a trust file that names those too" if trusted else "the gateway's keys"
        print(f"  give {what} with --trust; its operator writes it with: clawproxy keys trust -o trust.json")
