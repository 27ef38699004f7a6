"""``clawproxy demo``: the whole story on one machine, without a network. Ends with 1 where a step went wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..receipts.job_paths import JobPaths
from ..receipts.report import Verdict
from ..receipts.verify import verify_path
from ..tokens.errors import ClawproxyError
from ..tokens.trust import load_trust
from .demo_stage import Stage, clear_directory, set_up, write_trust
from .journal_view import open_journal, payload_of, read_records
from .screen import JsonFlag, console, counted, counts_line, new_app, note, own_command, print_json, print_table

app = new_app("The whole story in a minute, without a network.")
app.info.no_args_is_help = False


DEFAULT_DEMO = Path(".demo")


@dataclass(frozen=True, slots=True)
class Row:
    """One step of the demo: what was done, what came, and whether that is right."""

    step: str
    way: str
    expected: str
    got: str
    receipt_id: str
    ok: bool


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where keys, contracts, logs and the bundle are left.")
    ] = DEFAULT_DEMO,
    json_: JsonFlag = False,
) -> None:
    """Start a provider stand-in and a gateway, let real SDK clients work through it, seal, verify, tamper, verify."""
    started_s = time.monotonic()
    for package in ("openai", "anthropic"):
        if importlib.util.find_spec(package) is None:
            raise ClawproxyError(
                "DEMO_EXTRA", "the demo's agent needs a package", got=package,
                remedy="install the file again that clawproxy came in, with its extra: "
                f"pip install './clawproxy-{__version__}-py3-none-any.whl[demo]'",
            )  # fmt: skip
    clear_directory(directory)
    rows: list[Row] = []
    # the SDKs take seconds to import, and so does the gateway in its process: both at once
    agent = ThreadPoolExecutor(1).submit(importlib.import_module, ".demo_agent", __package__)
    with set_up(directory) as stage:
        if not json_:
            note(f"contract {stage.policy_hash}, signed; job {stage.job.job_id} is open; the gateway listens")
        for scene in agent.result().story(stage):
            seen = scene.play()
            ok = seen.outcome == scene.expected and bool(seen.receipt_id)
            rows.append(
                Row(scene.title, scene.way, scene.expected, _joined(seen.outcome, seen.shown), seen.receipt_id, ok)
            )
            _show_progress(rows[-1], json_)
        asyncio.run(_seal(stage))
        for row in _afterwards(stage, directory, list(rows)):
            rows.append(row)
            _show_progress(row, json_)
    good = all(row.ok for row in rows)
    bundle = JobPaths(stage.state.jobs, stage.job.job_id).directory
    if json_:
        took_ms = int((time.monotonic() - started_s) * 1000)
        print_json({"ok": good, "bundle": str(bundle), "took_ms": took_ms, "steps": [asdict(row) for row in rows]})
    else:
        _print_story(rows, bundle, directory / "trust.json", time.monotonic() - started_s)
    raise typer.Exit(0 if good else 1)


def _joined(outcome: str, shown: str) -> str:
    return f"{outcome}: {shown}" if shown else outcome


async def _seal(stage: Stage) -> None:
    from ..addons.admin import call_admin

    await call_admin(stage.state.admin_socket, "seal", job_id=stage.job.job_id)


# -- after the seal ------------------------------------------------------------------------------------------------


def _afterwards(stage: Stage, directory: Path, calls: list[Row]) -> Iterator[Row]:
    bundle = JobPaths(stage.state.jobs, stage.job.job_id).directory
    trust_file = directory / "trust.json"
    write_trust(stage.state, trust_file)
    trust = load_trust(trust_file)
    yield _witness(stage, sum(row.ok and row.expected == "allowed" for row in calls))
    yield _receipts_named(bundle, stage, calls)
    report = verify_path(bundle, trust)
    found = _joined(str(report.verdict), counts_line(report.counts))
    if remark := journal_remark(_without_job(bundle, calls)):
        found += f" {remark}"
    yield Row("verify the sealed bundle", "offline", "VERIFIED", found, "", report.verdict is Verdict.VERIFIED)
    copy = directory / "tampered"
    shutil.copytree(bundle, copy)
    line = _flip_a_byte(copy / "receipts.jsonl")
    tampered = verify_path(copy, trust)
    there = next((f for f in tampered.findings if f.path.startswith(f"receipts.jsonl:{line}.")), None)
    found = _joined(str(tampered.verdict), f"{there.reason} at {there.path}" if there else "")
    right = tampered.verdict is Verdict.FAILED and there is not None
    yield Row(f"flip one byte in a copy (line {line})", "offline", f"FAILED in line {line}", found, "", right)


def journal_remark(refusals: int) -> str:
    """Where the refusals are that the bundle does not count."""
    if not refusals:
        return ""
    they = "it is" if refusals == 1 else "they are"
    return f"({counted(refusals, 'refusal')} had no job: {they} in the gateway's journal)"


def _without_job(bundle: Path, calls: list[Row]) -> int:
    in_job = (bundle / "receipts.jsonl").read_text()
    return sum(row.receipt_id not in in_job for row in calls if row.receipt_id)


def _witness(stage: Stage, allowed: int) -> Row:
    """What the provider itself wrote down, against the receipts: as many calls, the same bytes, no token, our key."""
    seen = [json.loads(line) for line in stage.record.read_text().splitlines()]
    paths = JobPaths(stage.state.jobs, stage.job.job_id)
    with open_journal(paths.journal) as file:
        receipts = [payload_of(record) for record in read_records(file) if record.get("t") == "receipt"]
    same = sorted(str(r.get("request_hash_b64u")) for r in receipts) == sorted(s["body_sha256_b64u"] for s in seen)
    clean = all(s["credential"] == "right" and not s["leaks"] for s in seen)
    got = (
        counted(len(seen), "call")
        + ("" if same else ", other bytes than judged")
        + ("" if clean else ", a token leaked")
    )
    title = "what the provider saw: judged bytes, its own key, no token"
    return Row(title, "stand-in", f"{allowed} calls", got, "", same and clean and len(seen) == allowed)


def _receipts_named(bundle: Path, stage: Stage, calls: list[Row]) -> Row:
    """Each receipt id that an answer named, as a receipt or a denial: in the job, or in the gateway's own journal."""
    in_job = (bundle / "receipts.jsonl").read_text()
    own = "".join(path.read_text() for path in sorted((stage.state.root / "gateway").glob("**/*.jsonl")))
    found = sum(row.receipt_id in in_job or row.receipt_id in own for row in calls if row.receipt_id)
    got = f"{found} on record"
    return Row(
        "each answer names its receipt or denial", "journal", f"{len(calls)} on record", got, "", found == len(calls)
    )


def _flip_a_byte(journal: Path) -> int:
    """Change one digit of a token count in the middle of the journal; returns the number of the line."""
    content = bytearray(journal.read_bytes())
    name = content.index(b'"tokens_input":', len(content) // 3)
    at = content.index(b",", name) - 1
    content[at] ^= 0x01  # the last digit becomes its neighbour, so the line still is JSON; 12 with another first is not
    journal.chmod(0o600)
    journal.write_bytes(content)
    return content.count(b"\n", 0, at) + 1


# -- the screen ----------------------------------------------------------------------------------------------------


def _show_progress(row: Row, quiet: bool) -> None:
    if not quiet:
        note(f"  {'ok' if row.ok else 'NOT AS EXPECTED'}: {row.step}")


def _print_story(rows: list[Row], bundle: Path, trust: Path, took_s: float) -> None:
    table = [("✓" if row.ok else "✗", row.step, row.way, row.got, row.receipt_id) for row in rows]
    print_table(("", "step", "way in", "what came", "receipt"), table, title="what happened", whole=("receipt",))
    bad = [row for row in rows if not row.ok]
    for row in bad:
        print(f"not as expected: {row.step}: expected {row.expected}, got {row.got}")
    style = "bold red" if bad else "bold green"
    verdict = f"{len(rows) - len(bad)} of {len(rows)} steps as they should be, in {took_s:.1f} s"
    console().print(verdict, style=style)
    print(f"the bundle:  {bundle}")
    print(f"verify it:   {own_command()} verify {bundle} --trust {trust}")
