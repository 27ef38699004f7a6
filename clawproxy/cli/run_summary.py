"""What a person reads when an agent has ended: the verdict on its job, and what it did, on one screen."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..receipts.budget_view import BudgetView, in_words
from ..receipts.calls import Outcome
from ..receipts.door_counts import EVENT, door_lines
from ..receipts.job_facts import parse_job_facts
from ..receipts.job_paths import JobPaths
from ..receipts.report import Report
from ..receipts.side_traffic import refused_hosts, split_inside
from ..tokens.canonical import JsonObject
from .job_budgets import budgets_of
from .journal_view import open_journal, ours, payload_of, read_records, refused_calls
from .screen import counted, counts_line, note, own_command
from .state import state_words

_MOST_HOSTS = 8
_NOTHING: Mapping[str, int] = {}


def say_verdict(report: Report, directory: Path) -> None:
    """The verdict, the place of the bundle, counts and findings."""
    note(f"{report.verdict}  {directory}  ({counts_line(report.counts)})")
    for finding in report.findings:
        note(f"  {finding.severity}: {finding.reason} at {finding.path}: {finding.detail}")


def _by_count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).most_common())


def say_what_happened(
    directory: Path, contained: str, *, observed: bool = False, without_job: Mapping[str, int] = _NOTHING
) -> None:
    """Denials by reason, hosts that were refused, budgets, what contained the agent, and what to ask next.

    ``without_job`` are refusals by reason that came before the job was known: the gateway's own journal has them.
    """
    reasons: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    denials: list[JsonObject] = []
    view = BudgetView()
    at_the_door: list[str] = []
    last_call = ""
    paths = JobPaths(directory.parent, directory.name)
    with open_journal(paths.journal) as file:
        for record in read_records(file):
            view.take(record)
            payload = payload_of(record)
            if record["t"] == "event" and payload["event"].get("event_type") == EVENT:
                at_the_door = door_lines(payload["detail"])
            elif record["t"] == "denial":
                denials.append(payload)
            elif record["t"] == "receipt":
                last_call = str(payload.get("receipt_id"))
                reasons.update(f"{reason} (in an answer)" for _, reason in refused_calls(ours(payload)))
                ends[str(ours(payload).get("outcome", Outcome.COMPLETE))] += 1
    del ends[Outcome.COMPLETE]
    own, inside = split_inside(denials)
    reasons.update(str(denial.get("reason")) for denial in own)
    if reasons:
        more = f", and {counted(len(inside), 'request')} in refused tunnels" if inside else ""
        note(f"  refused: {_by_count(reasons)}{more}")
    if without_job:
        note(f"  refused before the job was known, so in the gateway's journal alone: {_by_count(without_job)}")
    if ends:
        note(f"  calls that did not end as usual: {_by_count(ends)}")
    hosts = refused_hosts(own)
    if hosts:
        shown = ", ".join(f"{host.host} {host.count}" for host in hosts[:_MOST_HOSTS])
        rest = len(hosts) - _MOST_HOSTS
        note(f"  side traffic refused: {shown}" + (f", and {counted(rest, 'host')} more" if rest > 0 else ""))
    for line in at_the_door:
        note(f"  {line}")
    budgets = budgets_of(paths, parse_job_facts(paths.facts.read_bytes()), view)
    if budgets:
        note(f"  budgets: {in_words(budgets)}")
    note(f"  containment: {contained}")
    for n, line in enumerate(_next_commands(directory, denials, last_call, observed=observed)):
        note(f"  {'     ' if n else 'next:'} {line}")


def _next_commands(directory: Path, denials: list[JsonObject], last_call: str, *, observed: bool) -> Iterator[str]:
    """What a person would ask of this job, to be copied."""
    us, state = own_command(), state_words(directory.parent.parent)
    if denials:
        # rather one of a model call than of what else the agent wanted
        last = next((denial for denial in reversed(denials) if denial.get("provider")), denials[-1])
        yield f"{us} explain {last.get('receipt_id')}{state}   # the last refusal, {last.get('reason')}"
    elif last_call:
        yield f"{us} explain {last_call}{state}   # the last call"
    if observed:
        yield f"{us} contract suggest {shlex.quote(str(directory))}{state}   # the least contract that covers this"
    else:
        yield f"{us} job tail {directory.name}{state}   # record by record"
