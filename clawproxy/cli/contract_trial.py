"""``clawproxy contract test``: decisions that were, or that are expected, put to a contract. Reads files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..policies.contract import parse_contract
from ..policies.fixtures import MAX_BYTES, Decision, decide_fixture, read_fixtures
from ..policies.policy import Policy
from ..receipts.replay import replay
from ..receipts.report import Verdict, printable
from ..receipts.verify import load_bundle
from ..receipts.verify_contract import EXCEEDED
from ..receipts.verify_job import examine_job
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust
from .bundle_paths import check_job_directory
from .contract_files import read_document


@dataclass(frozen=True, slots=True)
class Trial:
    """One decision. ``was`` is what is on record or expected, None where nothing is; ``now`` what the contract says,
    None where the facts on record are not enough."""

    name: str
    was: str | None
    now: Decision | None
    missing: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.was is not None and self.now is not None and not self.now.meets(self.was)

    def to_json(self) -> dict[str, Any]:
        now = None if self.now is None else {"word": self.now.word, "rule": self.now.rule, "detail": self.now.detail}
        return {
            "name": self.name,
            "was": self.was,
            "now": now,
            "changed": self.changed,
            "cannot_be_recomputed_without": list(self.missing),
        }

    def line(self) -> str:
        """For people; escaped, since a name may be an agent's."""
        mark = "changed" if self.changed else "same   " if self.was is not None and self.now is not None else "-      "
        now = "cannot be recomputed" if self.now is None else self.now.word
        was = "" if self.was is None else f"{self.was} → "
        rule = f"  ({self.now.rule})" if self.now is not None and self.now.rule else ""
        lacks = f"  [without {', '.join(self.missing)}]" if self.missing else ""
        return printable(f"{mark}  {self.name}: {was}{now}{rule}{lacks}")


def try_contract(contract: Path, fixtures: Path) -> list[Trial]:
    """Put the decisions of ``fixtures`` (a job directory, a .zip of one, or a file of fixtures) to a contract.

    Raises ``ClawproxyError`` where one of the two cannot be read, or the job's records do not hold.
    """
    try:
        policy = parse_contract(read_document(contract)).policy
    except ClawproxyError as err:
        raise err if err.where.startswith(str(contract)) else err.at(str(contract)) from None
    if fixtures.is_dir() or fixtures.suffix.lower() == ".zip":
        return list(_of_job(fixtures, policy))
    with fixtures.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        read = read_fixtures(content)
    except ClawproxyError as err:
        raise err.at(str(fixtures)) from None
    return [Trial(each.name, each.expect, decide_fixture(each, policy)) for each in read]


def _of_job(path: Path, policy: Policy) -> Iterator[Trial]:
    check_job_directory(path)
    loaded = load_bundle(path)
    bundle = examine_job(loaded.files, Trust(), None, loaded.findings)
    if bundle.report.verdict is Verdict.FAILED and bundle.report.reason != EXCEEDED:
        raise ClawproxyError(
            bundle.report.reason, "the job's records do not hold", where=str(path), remedy="see: clawproxy verify"
        )
    for each in replay(bundle.entries, policy):
        yield Trial(each.name, each.was, each.now, each.missing)
