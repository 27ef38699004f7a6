"""``clawproxy openclaw``: OpenClaw's configuration from a contract, and beside one."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..openclaw.audit import Audit, run_audit, unread
from ..openclaw.render import Options, as_text, render
from ..openclaw.tools import VERSION, Powers
from ..policies.contract import Contract, parse_contract
from ..policies.packaged import packaged_prices
from ..receipts.job_paths import JobPaths
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .contract_files import already_there, find_signed, read_document
from .own_book import ask, own_book
from .rounds import Rounds
from .screen import JsonFlag, counted, new_app, note, own_command, print_json
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption, write_private
from .token import read_job_facts

if TYPE_CHECKING:
    from ..addons.settings import Settings
    from ..tokens.canonical import JsonObject

app = new_app(f"OpenClaw (made for {VERSION}): its configuration from a contract, and what in a live one is wider.")

_EVERY = re.compile(r"([1-9]\d{0,4})(s|m|h)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_LEAST_S = 30
_INTERRUPTED = 130


class Label(StrEnum):
    """Which side of hardening an audit is on."""

    BEFORE = "before"
    AFTER = "after"


ContractOption = Annotated[
    str, typer.Option("--contract", help="A contract: its document, its signed envelope, or a hash in contracts/.")
]
BaseOption = Annotated[
    str,
    typer.Option("--base-url", help="The gateway's base-URL listener [default: listen.reverse of its configuration]."),
]
IsolatedFlag = Annotated[
    bool, typer.Option("--isolated", help="OpenClaw runs in a namespace of its own: providers keep their addresses.")
]
SandboxFlag = Annotated[
    bool, typer.Option("--no-sandbox", help="Without OpenClaw's own sandbox: its tools run on the host.")
]


@app.command("render", short_help="the part of openclaw.json that matches a contract")
def render_(
    contract: ContractOption,
    base_url: BaseOption = "",
    isolated: IsolatedFlag = False,
    no_sandbox: SandboxFlag = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="A model to list; again for each other; the first is used."),
    ] = None,
    workspace: Annotated[str, typer.Option("--workspace", help="The agent's working directory.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of stdout.")] = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Write the part of openclaw.json that matches a contract; what OpenClaw cannot express is said on stderr.

    Its secrets are names: CLAW_TOKEN, the job's token or handle, and OPENCLAW_GATEWAY_TOKEN, one of your own.
    """
    if out is not None and out.exists():
        raise already_there(out)
    settings = _settings(config, state)
    options = Options(
        base_url or f"http://{settings.listen.reverse}",
        isolated=isolated,
        sandbox=not no_sandbox,
        models=tuple(model or ()),
        workspace=workspace,
    )
    rendered = render(_contract(contract, StateDir(settings.state_dir)), options, packaged_prices())
    for line in rendered.notes:
        note(f"not in OpenClaw's hands: {line}" if _is_elsewhere(line) else line)
    if out is None:
        print(as_text(rendered.config), end="")
        return
    write_private(out, as_text(rendered.config).encode())
    note(f"wrote {out}; check it with: OPENCLAW_CONFIG_PATH={out} openclaw config validate")


def _is_elsewhere(line: str) -> bool:
    return "the gateway" in line and not line.startswith("allowed_")


@app.command("audit", short_help="what in a live one is wider than a contract")
def audit(
    contract: ContractOption,
    live: Annotated[
        Path | None, typer.Option("--config", help="The live openclaw.json [default: where OpenClaw looks for it].")
    ] = None,
    base_url: BaseOption = "",
    isolated: IsolatedFlag = False,
    no_sandbox: SandboxFlag = False,
    job: Annotated[str, typer.Option("--job", metavar="ID", help="Put it on record in this job.")] = "",
    label: Annotated[Label | None, typer.Option("--label", help="Before or after hardening, for the record.")] = None,
    every: Annotated[
        str, typer.Option("--every", help="Again and again, such as 10m; until a signal, or the job's seal.")
    ] = "",
    times: Annotated[
        int, typer.Option("--times", metavar="N", min=0, help="With --every: so often; 0 is without end.")
    ] = 0,
    openclaw_state: Annotated[
        Path | None, typer.Option("--openclaw-state", help="Its state directory [default: as OpenClaw finds it].")
    ] = None,
    openclaw: Annotated[str, typer.Option("--openclaw", help="The openclaw to ask [default: the one on PATH].")] = "",
    reports: Annotated[
        Path | None, typer.Option("--reports", help="Keep both reports in this directory, for job attach.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--clawproxy-config", help="The gateway's configuration.")] = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Say which settings of a live OpenClaw allow more than a contract, and what its own security audit finds.

    Ends with 0 where all is within the contract, with 1 where something is wider, OpenClaw's audit finds something
    critical, or it was asked and did not answer; on a schedule, where that was so once.
    """
    settings = _settings(config, state)
    folder = StateDir(settings.state_dir)
    paths = JobPaths(folder.jobs, job) if job else None
    if paths is not None and read_job_facts(folder, job) is None:
        raise ClawproxyError(
            "JOB_NOT_FOUND", "no such job here", where=str(folder.jobs), got=job, remedy="see: clawproxy job list"
        )
    if paths is not None and paths.seal.exists():
        raise ClawproxyError("JOB_SEALED", "the job takes no more records", where=job)
    powers = Powers(_contract(contract, folder))
    gateway = os.path.expandvars(base_url) or f"http://{settings.listen.reverse}"
    options = Options(gateway, isolated=isolated, sandbox=not no_sandbox)
    pause_s = _pause(every)
    if times and not pause_s:
        raise ClawproxyError("USAGE", "--times says how often there is an audit --every so often", expected="--every")
    path = _live_path(live, openclaw_state)
    program = openclaw or shutil.which("openclaw") or ""
    side = None if label is None else str(label)

    async def audit_once() -> bool:
        if pause_s and not json_:
            print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
        try:
            found = await run_audit(path, powers, options, os.environ, program=program, state_dir=openclaw_state)
        except ClawproxyError as err:
            if not pause_s:
                raise
            holds, events = False, unread(err.message, side)
            _tell_unread(err, as_json=json_)
        else:
            holds, events = found.holds, found.events(side)
            _tell(found, path, as_json=json_)
            if reports is not None:
                _keep(reports, found)
        sys.stdout.flush()
        if job:
            try:
                await _record(folder, job, events, settings.gateway.gateway_id)
            except ClawproxyError as err:
                if not pause_s or err.reason not in _PASSING:
                    raise
                note(f"not on record: {err.one_line()}")
                return holds and err.reason == "JOB_SEALED"
        return holds

    rounds = Rounds(audit_once, pause_s, times)
    asyncio.run(rounds.run(lambda: f"job {job} is sealed" if paths is not None and paths.seal.exists() else ""))
    if rounds.why:
        note(f"{rounds.why}, after {counted(rounds.done, 'audit')}")
    raise typer.Exit((0 if rounds.all_well else 1) if rounds.done else _INTERRUPTED)


_PASSING = ("JOB_LOCKED", "JOB_SEALED", "EVIDENCE_UNAVAILABLE", "GATEWAY_FAULT", "GATEWAY_NOT_RUNNING")
"""Why an audit may not get on record while the next one does, or nothing comes after it."""


def _tell_unread(err: ClawproxyError, *, as_json: bool) -> None:
    if as_json:
        print_json({"holds": False, "error": err.one_line()})
    else:
        print(f"audit failed: {err.one_line()}")


def _tell(found: Audit, path: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
        return
    for item in found.wider:
        print(f"wider: {item.line()}")
    own = found.own
    if own is None:
        note("no openclaw at hand, so its own security audit did not run; name one with --openclaw PATH")
    elif own.outcome == "failed":
        print(f"openclaw security audit failed: {own.detail}")
    else:
        for row in own.findings:
            if row["severity"] == "critical":
                print(f"critical: {row['id']}: {row['title']}")
        counts = ", ".join(f"{n} {name}" for name, n in (own.summary or {}).items())
        print(f"openclaw security audit: {counts}")
    total = counted(len(found.wider), "setting")
    print(f"{path}: " + (f"{total} wider than the contract" if found.wider else "within the contract"))


def _keep(folder: Path, found: Audit) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "openclaw-compared.json", found.report)
    if found.own is not None and found.own.report:
        write_private(folder / "openclaw-security-audit.json", found.own.report)


async def _record(folder: StateDir, job: str, events: list[tuple[str, JsonObject]], gateway_id: str) -> None:
    left = list(events)
    while left and await ask(folder, "audit", job_id=job, event=left[0][0], detail=left[0][1]) is not None:
        del left[0]
    if left:
        async with own_book(folder, gateway_id) as book:
            for event, detail in left:
                await book.record_audit(job, event, detail)


def _settings(config: Path | None, state: Path) -> Settings:
    from ..addons.settings import load_settings

    return load_settings(config, state)


def _contract(reference: str, folder: StateDir) -> Contract:
    if is_sha256_b64u(reference) and not Path(reference).exists():
        return parse_contract(find_signed(reference, folder)["payload"])
    try:
        return parse_contract(read_document(Path(reference)))
    except ClawproxyError as err:
        raise (err if err.where.startswith(reference) else err.at(reference)) from None


def _pause(every: str) -> int:
    if not every:
        return 0
    found = _EVERY.fullmatch(every)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if seconds < _LEAST_S:
        raise ClawproxyError(
            "USAGE", "not a pause between audits", got=every, expected=f"such as 10m; at least {_LEAST_S}s"
        )
    return seconds


def _live_path(live: Path | None, state_dir: Path | None) -> Path:
    """The configuration, where OpenClaw finds it."""
    home = Path(os.environ.get("HOME") or "/") / ".openclaw"
    folder = state_dir or Path(os.environ.get("OPENCLAW_STATE_DIR") or home)
    path = live or Path(os.environ.get("OPENCLAW_CONFIG_PATH") or folder / "openclaw.json")
    if not path.is_file():
        remedy = f"name it with --config, or make it: {own_command()} openclaw render"
        raise ClawproxyError("FILE_UNREADABLE", "no such file", where=str(path), remedy=remedy)
    return path
