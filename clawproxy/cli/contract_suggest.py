"""``clawproxy contract suggest``: a contract made from what jobs did. Reads bundles, writes a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..policies.contract import document_in, hash_contract
from ..policies.contract_text import yaml_text
from ..policies.packaged import packaged_tool_classes
from ..policies.practice import Practice
from ..policies.prices import PriceTable
from ..policies.suggest import Paths, Suggestion, Wish, suggest
from ..policies.worst_case import Defaults
from ..receipts.practice import read_practice
from ..receipts.report import Report, Verdict, printable
from ..receipts.verify import load_bundle
from ..receipts.verify_job import examine_job
from ..tokens.canonical import parse_json_object
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust, TrustedKey, build_trust, load_trust
from .bundle_paths import check_job_directory
from .contract_files import document_text, read_document, write_new
from .screen import JsonFlag, note, print_json
from .state import DEFAULT_STATE, GATEWAY_ROLES, ConfigOption, StateDir, StateOption

_NOT_ENOUGH = ("NOT_SEALED", "TRUST_NOT_GIVEN")


def suggest_contract(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Sealed job directories, or .zips of them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here: JSON for a name that ends so, else YAML.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The policy name.")] = "suggested",
    headroom: Annotated[
        float,
        typer.Option("--headroom", metavar="FACTOR", min=1.0, max=100.0, help="Budgets: so many times what was used."),
    ] = 1.5,
    base: Annotated[
        Path | None, typer.Option("--from", help="A contract to add to; what is added is listed, nothing taken away.")
    ] = None,
    paths: Annotated[Paths, typer.Option("--paths", help="Paths of calls of tools: as seen, their folder, or any.")] = (
        Paths.EXACT
    ),
    globs: Annotated[
        bool, typer.Option("--glob", help="Also patterns: dated models by *, tools by their whole ready class.")
    ] = False,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="The trust file that you hold; default: this installation's keys.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Write the least contract that covers what jobs did, in observe mode or not. Each bundle is verified first.

    Read it before you sign it: every line says how often and when it was needed, and what could not be covered stands
    at the end.
    """
    from ..addons.price_settings import configured_prices
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    limits = settings.gateway
    defaults = Defaults(limits.default_max_output_tokens, limits.unread_input_tokens)
    trusted = load_trust(trust) if trust is not None else _own_trust(settings.state_dir)
    practice = Practice()
    for path in bundles:
        _read_bundle(practice, path, trusted, configured_prices(settings), defaults)
    given = read_document(base) if base is not None else None
    wish = Wish(name=name, headroom=headroom, paths=paths, globs=globs)
    suggestion = suggest(practice, wish, packaged_tool_classes(), given)
    text = (
        _as_yaml(suggestion)
        if out is None or out.suffix.lower() != ".json"
        else document_text(suggestion.document, out)
    )
    if out is not None:
        write_new(out, text)
        note(printable(f"wrote {out}; read it, then: clawproxy contract sign {out}"))
    if json_:
        print_json(
            {
                "contract": suggestion.document,
                "policy_hash_b64u": hash_contract(suggestion.document),
                "about": suggestion.about,
                "added": suggestion.added,
                "dropped": suggestion.dropped,
                "uncovered": suggestion.uncovered,
            }
        )
    elif out is None:
        print(text, end="")
    _tell(suggestion, base is not None)


def _own_trust(state: Path) -> Trust:
    folder = StateDir(state)
    try:
        return build_trust([TrustedKey(folder.load_key(role).did, role) for role in GATEWAY_ROLES])
    except ClawproxyError:
        return Trust()  # what verifies nothing is refused below, with what to do about it


def _read_bundle(practice: Practice, path: Path, trust: Trust, prices: PriceTable, defaults: Defaults) -> None:
    """Raises ``ClawproxyError`` for a bundle that does not verify, or that nobody sealed."""
    check_job_directory(path)
    loaded = load_bundle(path)
    bundle = examine_job(loaded.files, trust, None, loaded.findings)
    fault = _fault_of(bundle.report)
    if fault is not None or bundle.facts is None:
        raise ClawproxyError(
            fault or bundle.report.reason,
            "the bundle does not verify, so nothing is made of it",
            where=str(path),
            remedy="see: clawproxy verify; seal the job first, and give --trust for a bundle of another gateway",
        )
    if bundle.report.verdict is Verdict.INCOMPLETE:
        note(printable(f"{path}: INCOMPLETE ({bundle.report.reason}): what is missing is not in the suggestion"))
    names = ["contract.json", *sorted(each for each in loaded.files if each.startswith("contracts/"))]
    contracts = {}
    for each in names:
        document = document_in(parse_json_object(loaded.files[each]))
        contracts[hash_contract(document)] = document
    read_practice(practice, bundle.facts, bundle.entries, contracts, prices, defaults)


def _fault_of(report: Report) -> str | None:
    if report.verdict is Verdict.FAILED:
        return report.reason
    return next((finding.reason for finding in report.findings if finding.reason in _NOT_ENOUGH), None)


def _as_yaml(suggestion: Suggestion) -> str:
    head = ["made by clawproxy contract suggest: read it, change it, then clawproxy contract sign", *suggestion.about]
    tail = [f"left out: {line}" for line in suggestion.dropped]
    tail += [f"added: {line}" for line in suggestion.added]
    tail += [f"not covered: {line}" for line in suggestion.uncovered]
    return yaml_text(suggestion.document, suggestion.comments, head, tail)


def _tell(suggestion: Suggestion, is_given: bool) -> None:
    if is_given:
        note(f"adds {len(suggestion.added)}" + (":" if suggestion.added else ": nothing is lacking"))
        for line in suggestion.added:
            note(printable(f"  {line}"))
    for title, lines in (("left out", suggestion.dropped), ("not covered", suggestion.uncovered)):
        for line in lines:
            note(printable(f"{title}: {line}"))
