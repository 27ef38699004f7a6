"""``clawproxy approve``: see what agents want to do, and say yes or no with an approver's key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..receipts.approvals import ApprovalType, Scope, read_scope, sign_approval
from ..receipts.report import printable
from ..tokens.canonical import JsonObject, jcs_bytes, parse_json
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role, load_key
from .screen import JsonFlag, new_app, note, print_json, print_pairs
from .state import DEFAULT_STATE, ConfigOption, StateOption, read_json_file, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

app = new_app("Approvals: what agents want to do, and a yes or no that only an approver's key can give.")

_LINE_CHARS = 160
_MAX_SHOWN_CHARS = 4096
_BEFORE = "  | "
"""In front of each line that an agent wrote, so that none of them looks like one of ours."""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The question's id, as `approve list` shows it.")]
JobOption = Annotated[str, typer.Option("--job", help="The whole job, instead of one call.")]
KeyOption = Annotated[Path, typer.Option("--key", help="The approver's key: clawproxy keys new approval --name NAME.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="One line that the agent and the evidence get.")]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="Questions as `approve list --json` printed them, on another machine.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the signed answer here, for `approve send`.")
]


@app.command("list", short_help="what waits for a yes or no")
def list_(
    job: Annotated[str, typer.Option("--job", help="Ask about this whole job, too.")] = "",
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """List the calls of tools that are held for an approval, and the jobs that wait for one."""
    asked = _call_gateway(config, state, "approval_for_job", job_id=job)["question"] if job else None
    listed = _call_gateway(config, state, "approvals")
    if json_:
        print_json(listed)
        return
    pending = [row for row in listed["pending"] if row["scope"]["call"] is not None or row == asked]
    for row in pending:
        _show(row)
        print()
    for row in listed["jobs"]:
        group = f" by {printable(str(row['group']))}" if row["group"] else ""
        print(f"job {row['job_id']} ({printable(str(row['contract']))}) waits for an approval{group}")
    if not pending and not listed["jobs"]:
        note("nothing waits for an approval")


@app.command("grant", short_help="say yes: to one call, or to a whole job")
def grant(
    key: KeyOption,
    question: IdArgument = "",
    job: JobOption = "",
    reason: ReasonOption = "",
    from_: FromOption = None,
    out: OutOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Say yes to one call, with exactly these arguments, or to a whole job. Shows what was signed."""
    _answer(ApprovalType.APPROVE, key, question, job, reason, from_, out, config, state, json_)


@app.command("deny", short_help="say no: to one call, or to a whole job")
def deny(
    key: KeyOption,
    question: IdArgument = "",
    job: JobOption = "",
    reason: ReasonOption = "",
    from_: FromOption = None,
    out: OutOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Say no to one call, or to a whole job: also to one that was approved before."""
    _answer(ApprovalType.DENY, key, question, job, reason, from_, out, config, state, json_)


@app.command("send", short_help="hand in an answer that was signed elsewhere")
def send(
    answer: Annotated[Path, typer.Argument(help="A signed answer that `approve grant --out` or `deny --out` wrote.")],
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Hand the gateway an answer that was signed elsewhere, so that the approver's key need not be here."""
    _tell(_call_gateway(config, state, "approve", envelope=read_json_file(answer)), json_)


def _answer(
    kind: ApprovalType,
    key_file: Path,
    question: str,
    job: str,
    reason: str,
    from_: Path | None,
    out: Path | None,
    config: Path | None,
    state: Path,
    json_: bool,
) -> None:
    if bool(question) == bool(job):
        raise ClawproxyError("USAGE", "name one question, or a job with --job", remedy="see: clawproxy approve list")
    key = load_key(key_file, Role.APPROVAL)
    row = _find(question, job, from_, config, state)
    scope = read_scope(row.get("scope"))
    if not json_:
        _show(row)
    if _fits(row, scope) is False:
        raise ClawproxyError(
            "APPROVAL_INVALID",
            "the arguments shown are not those of the digest that would be signed, so nothing was signed",
            where=scope.approval_id,
        )
    envelope = sign_approval(scope, kind, key, time.time_ns() // 1_000_000, reason)
    if out is not None:
        write_private(out, jcs_bytes(envelope) + b"\n")
        note(f"signed, not sent; it counts until {scope.answer_by}, once: clawproxy approve send {out}")
        return
    _tell(_call_gateway(config, state, "approve", envelope=envelope), json_)


def _find(question: str, job: str, from_: Path | None, config: Path | None, state: Path) -> JsonObject:
    """What is to be answered, as the gateway lists it."""
    if job and from_ is None:
        asked: JsonObject = _call_gateway(config, state, "approval_for_job", job_id=job)["question"]
        return asked
    listed = read_json_file(from_) if from_ else _call_gateway(config, state, "approvals", approval_id=question)
    pending = listed.get("pending")
    for row in pending if isinstance(pending, list) else []:
        scope = row.get("scope") if isinstance(row, dict) else None
        if not isinstance(scope, dict):
            continue
        about_job = scope.get("call") is None and scope.get("job_id") == job
        if about_job if job else scope.get("approval_id") == question:
            found: JsonObject = row
            return found
    raise ClawproxyError(
        "APPROVAL_NOT_FOUND",
        "no such question is open: it was answered, its time is over, or its call has ended",
        got=question or job,
        remedy="see: clawproxy approve list",
    )


def _call_gateway(config: Path | None, state: Path, op: str, **arguments: Any) -> JsonObject:
    from ..addons.admin import call_admin
    from ..addons.settings import load_settings

    socket = load_settings(config, state).state_dir / "admin.sock"
    return asyncio.run(call_admin(socket, op, **arguments))


def _tell(answer: JsonObject, json_: bool) -> None:
    if json_:
        print_json(answer)
    else:
        print(f"{answer['decision']}  {answer['approval_id']}  job {answer['job_id']}")


def _show(row: JsonObject) -> None:
    """A question for a person. What an agent wrote stands behind bars, with nothing in it that acts on a terminal."""
    scope = read_scope(row.get("scope"))
    whole = scope.call is None
    pairs = [
        ("approval", scope.approval_id),
        ("job", scope.job_id),
        ("contract", f"{row.get('contract')} ({scope.policy_hash_b64u})"),
        ("wanted", "yes or no to the whole job" if whole else f"a call of a tool, for the action {scope.action}"),
        ("approvers", f"the group {scope.group}" if scope.group is not None else "any"),
        ("until", f"{scope.answer_by} ({row.get('seconds_left')} s from when it was listed)"),
    ]
    if not whole:
        pairs.append(("arguments", f"SHA-256 {scope.arguments_hash_b64u}"))
    print_pairs((name, printable(str(value))) for name, value in pairs)
    if not whole:
        print(f"written by the agent's model, every line behind a bar; {_how_whole(row, scope)}:")
        for line in _agent_lines(str(scope.tool), str(row.get("arguments", ""))):
            print(f"{_BEFORE}{line}")


def _agent_lines(tool: str, arguments: str) -> Iterator[str]:
    yield f"tool {clip(tool, _LINE_CHARS)}"
    for line in arguments[:_MAX_SHOWN_CHARS].split("\n"):
        shown = printable(line)
        for start in range(0, max(len(shown), 1), _LINE_CHARS):
            yield shown[start : start + _LINE_CHARS]


def _how_whole(row: JsonObject, scope: Scope) -> str:
    return "all of it, with this digest" if _fits(row, scope) else "only its beginning, so the digest cannot be checked"


def _fits(row: JsonObject, scope: Scope) -> bool | None:
    """Whether the arguments that are shown have the digest that is signed; None where they are not shown whole."""
    if scope.call is None or row.get("arguments_whole") is not True:
        return None
    text = str(row.get("arguments", ""))
    digests = {sha256_b64u(text.encode("utf-8", "surrogatepass"))}
    for value in (lambda: {"input": text}, lambda: parse_json(text.encode() or b"{}")):
        try:
            digests.add(sha256_b64u(jcs_bytes(value())))
        except (ClawproxyError, UnicodeEncodeError):
            continue
    return scope.arguments_hash_b64u in digests
