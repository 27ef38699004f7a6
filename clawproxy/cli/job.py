"""``clawproxy job``: open, list, show, seal and follow jobs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated

import typer

from ..receipts.budget_view import BudgetView, in_words
from ..receipts.containment import containment_words
from ..receipts.create import create_job
from ..receipts.job_facts import JobFacts
from ..receipts.job_paths import JobPaths
from ..receipts.side_traffic import refused_hosts, split_inside
from ..tokens.canonical import JsonObject
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role
from .contract_files import find_signed
from .gateway_journal import journal_files
from .job_attach import attach
from .job_budgets import budgets_of
from .job_rebind import rebind
from .journal_view import (
    OTHER_EVIDENCE,
    SCREEN_CHARS,
    WHOLE_CHARS,
    open_journal,
    opened_as,
    ours,
    payload_of,
    read_records,
    record_row,
    refused_calls,
)
from .own_book import ask, own_book
from .screen import OBSERVE_WARNING, JsonFlag, new_app, note, own_command, print_json, print_pairs, print_table
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption
from .token import read_job_facts

app = new_app("Jobs: one approved piece of work, its contract, its calls, and the proof bundle that they leave.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
_FOLLOW_S = 0.2


@app.command("open", short_help="open one under a contract")
def open_(
    contract: Annotated[str, typer.Option("--contract", help="A signed contract: a file, or its hash in contracts/.")],
    job: Annotated[str, typer.Option("--job", help="The job's id; default: a new one.")] = "",
    observe: Annotated[
        bool,
        typer.Option("--observe", help="Let through what the contract refuses, and record it: a trial, no protection."),
    ] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Open a job under a contract. Mint tokens for it with: clawproxy token mint --job ID."""
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    envelope = find_signed(contract, folder)
    opened = create_job(
        folder.jobs,
        folder.job_keys,
        receipt_key=folder.load_key(Role.RECEIPT),
        gateway_id=settings.gateway.gateway_id,
        policy_hash_b64u=str(envelope["payload_hash_b64u"]),
        contract_envelope=envelope,
        now_ms=time.time_ns() // 1_000_000,
        job_id=job or None,
        token_template={"aud": list(settings.gateway.audience[:1]), "scope": ["clawproxy:call"]},
        observe=observe,
    )
    if observe:
        note(OBSERVE_WARNING)
    if json_:
        observed = {"enforcement": "observe"} if observe else {}
        print_json({"job": opened.job_id, "job_did": opened.job_did, "directory": str(opened.directory), **observed})
    else:
        print(opened.job_id)
        note(f"opened in {opened.directory}; the agent's DID is {opened.job_did}")


@app.command("list", short_help="those of the state directory")
def list_(state: StateOption = DEFAULT_STATE, json_: JsonFlag = False) -> None:
    """List the jobs of the state directory."""
    folder = StateDir(state)
    if not state.is_dir():
        raise ClawproxyError(
            "STATE_NOT_FOUND",
            "no state directory here",
            where=str(state),
            remedy="go to where it is, or name it with --state (CLAWPROXY_STATE)",
        )
    names = sorted(path.name for path in folder.jobs.glob("[!.]*") if path.is_dir())
    rows = [_list_row(folder, name) for name in names]
    if json_:
        print_json(rows)
    elif rows:
        columns = ("job", "opened", "contract", "state", "problem")
        print_table(columns, [tuple(str(row[column]) for column in columns) for row in rows], whole=columns[:-1])
    else:
        note(f"no jobs in {folder.jobs}")


def _list_row(folder: StateDir, name: str) -> dict[str, str]:
    try:
        facts = _facts(folder, name)
    except ClawproxyError as err:
        return {"job": name, "opened": "", "contract": "", "state": "", "problem": err.message}
    sealed = JobPaths(folder.jobs, name).seal.exists()
    return {
        "job": name,
        "opened": timestamp(facts.opened_ms),
        "contract": facts.policy_hash_b64u,
        "state": "sealed" if sealed else "open",
        "problem": "",
    }


def _facts(folder: StateDir, job: str) -> JobFacts:
    facts = read_job_facts(folder, job)
    if facts is None:
        raise ClawproxyError(
            "JOB_NOT_FOUND", "no such job here", where=str(folder.jobs), got=job, remedy="see: clawproxy job list"
        )
    return facts


@app.command("show", short_help="one job, and a count of its records")
def show(job: JobArgument, state: StateOption = DEFAULT_STATE, json_: JsonFlag = False) -> None:
    """Show a job and a count of its records. Says what the files say; to know whether it is true, verify."""
    folder = StateDir(state)
    facts, paths = _facts(folder, job), JobPaths(folder.jobs, job)
    counts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    evidence: list[str] = []
    denials: list[JsonObject] = []
    containment = enforcement = ""
    view = BudgetView()
    with open_journal(paths.journal) as file:
        for record in read_records(file):
            counts[str(record.get("t"))] += 1
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # to be found out by verify
                view.take(record)
            evidence += _other_evidence(record)
            containment = containment or _containment(record)
            enforcement = enforcement or opened_as(record)
            if record.get("t") == "denial":
                denials.append(payload_of(record))
            elif record.get("t") == "receipt":
                refusals.update(f"{reason} (in an answer)" for _, reason in refused_calls(ours(payload_of(record))))
    own, inside = split_inside(denials)
    refusals.update(str(denial.get("reason")) for denial in own)
    shown: JsonObject = {
        "job": job,
        "state": "sealed" if paths.seal.exists() else "open",
        "opened": timestamp(facts.opened_ms),
        "policy_hash_b64u": view.policy_hash_b64u or facts.policy_hash_b64u,
        "agent_did": facts.agent_did,
        "gateway_did": facts.gateway_did,
        "run_id": facts.run_id,
        "directory": str(paths.directory),
        "records": dict(counts),
        "refusals": dict(refusals),
    }
    if containment:
        shown["containment"] = containment
    if enforcement:
        shown["enforcement"] = enforcement
    if inside:
        shown["requests_in_refused_tunnels"] = len(inside)
    if hosts := refused_hosts(own):
        shown["refused_hosts"] = {host.host: host.count for host in hosts}
    if evidence:
        shown["other_evidence"] = evidence
    budgets = budgets_of(paths, facts, view)
    if budgets:
        shown["budgets"] = budgets
    if json_:
        print_json(shown)
        return
    if budgets:
        shown["budgets"] = in_words(budgets)
    if containment:
        shown["containment"] = containment_words(containment)
    listed = [("other_evidence", line) for line in shown.pop("other_evidence", [])]
    texts = {key: ", ".join(f"{n} {k}" for k, n in v.items()) if isinstance(v, dict) else v for key, v in shown.items()}
    print_pairs([*((key, str(value) or "none") for key, value in texts.items()), *listed])


def _containment(record: JsonObject) -> str:
    """What the job's opening says of it."""
    detail = payload_of(record).get("detail")
    return clip(str(detail.get("containment", "")), 40) if record.get("seq") == 0 and isinstance(detail, dict) else ""


def _other_evidence(record: JsonObject) -> list[str]:
    """What an attachment or an audit says, in one line."""
    event, detail = payload_of(record).get("event"), payload_of(record).get("detail")
    event_type = event.get("event_type") if isinstance(event, dict) else None
    told = OTHER_EVIDENCE.get(str(event_type))
    return [clip(f"{event_type} {told(detail)}", 200)] if told is not None and isinstance(detail, dict) else []


@app.command("seal", short_help="end it, and seal its bundle")
def seal(
    job: JobArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Even if calls do not end: their outcome is recorded as unknown.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """End a job and seal its bundle: through the running gateway, or directly when none runs."""
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    _facts(folder, job)
    sealed = asyncio.run(_seal(folder, job, settings.gateway.gateway_id, force=force))
    if json_:
        print_json(sealed)
    else:
        print(sealed["directory"])
        note(f"sealed; check it with: {own_command()} verify {sealed['directory']} --trust TRUST_FILE")


async def _seal(folder: StateDir, job: str, gateway_id: str, *, force: bool) -> JsonObject:
    answer = await ask(folder, "seal", job_id=job, force=force)
    if answer is not None:
        return answer
    async with own_book(folder, gateway_id) as book:
        sealed = await book.seal(job, force=force)
    return {"job_id": job, "directory": str(sealed.directory), "counts": dict(sealed.counts)}


app.command("rebind", short_help="let another presenter use it")(rebind)
app.command("attach", short_help="take other evidence of the run into it")(attach)


@app.command("tail", short_help="its last records, one line each")
def tail(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")] = "",
    gateway: Annotated[
        bool, typer.Option("--gateway", help="The gateway's own journal instead: refusals before a job was known.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as records are written.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many of the last records; 0 means all.")
    ] = 10,
    state: StateOption = DEFAULT_STATE,
    json_: Annotated[bool, typer.Option("--json", help="Print each record as one JSON line.")] = False,
) -> None:
    """Print the last records of a job, or of the gateway's own journal, one line each."""
    folder = StateDir(state)
    if gateway == bool(job):
        raise ClawproxyError("USAGE", "name a job, or give --gateway for the refusals that have none")
    if gateway:
        _tail(journal_files(folder.gateway), lines, (lambda: True) if follow else (lambda: False), json_)
        return
    _facts(folder, job)
    paths = JobPaths(folder.jobs, job)
    _tail([paths.journal], lines, lambda: follow and not paths.seal.exists(), json_)


def _tail(journals: list[Path], lines: int, goes_on: Callable[[], bool], as_json: bool) -> None:
    """The last records of ``journals`` together, then those that come to the last one."""
    last: deque[JsonObject] = deque(maxlen=lines or None)
    total = 0
    for journal in journals[:-1]:
        with open_journal(journal) as file:
            total += _keep(last, file)
    for journal in journals[-1:]:
        with open_journal(journal) as file:
            total += _keep(last, file)
            if total > len(last):
                note(f"… {total - len(last)} earlier; -n 0 for all")
            for record in last:
                _print_record(record, as_json)
            while goes_on():
                time.sleep(_FOLLOW_S)
                for record in read_records(file):
                    _print_record(record, as_json)
            for record in read_records(file):
                _print_record(record, as_json)


def _keep(last: deque[JsonObject], file: IO[bytes]) -> int:
    """The last records of ``file`` into ``last``; how many there are."""
    count = 0
    for record in read_records(file):
        last.append(record)
        count += 1
    return count


def _print_record(record: JsonObject, as_json: bool) -> None:
    from ..tokens.canonical import jcs_bytes

    if as_json:
        print(jcs_bytes(record).decode(), flush=True)
        return
    seq, at, kind, text = record_row(record, SCREEN_CHARS if sys.stdout.isatty() else WHOLE_CHARS)
    print(f"{seq:>6}  {at}  {kind:<8}  {text}", flush=True)
