"""``clawproxy run -- CMD``: an agent behind a gateway, with one command. Starts processes.

The agent gets a job handle, never a token or a provider's key. With ``--isolate`` it has no other way out
(``run_isolated``). Without, it is not contained: what it does outside the variables that it is given (its own sockets,
other users' files) is not seen.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..cage.terminal import calm, drop_answers
from ..policies.approval_rules import NO_APPROVALS
from ..policies.contract import parse_contract, sign_contract
from ..policies.packaged import Starter, starter_document
from ..receipts.containment import Kind, containment_words
from ..receipts.verify import verify_path
from ..tokens.digests import is_sha256_b64u
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import TrustedKey, build_trust
from .agent_environment import agent_environment, starter_for
from .ca_bundle import system_certificates
from .contract_files import find_signed, store_signed
from .gateway_journal import refusals_since
from .log_waits import log_waits
from .run_desk import Asked, Desk, open_desk, own_secrets
from .run_isolated import Outcome, Wanted, run_isolated
from .run_summary import say_verdict, say_what_happened
from .screen import OBSERVE_WARNING, new_app, note
from .serve import start_logging
from .state import DEFAULT_STATE, GATEWAY_ROLES, ConfigOption, StateDir, StateOption, check_owner
from .token import parse_duration_s

if TYPE_CHECKING:
    from ..addons.settings import Settings

app = new_app("Run an agent behind a gateway of its own: clawproxy run -- CMD …")

_NOT_FOUND = 127
_NOT_CONTAINED = containment_words(Kind.NOT_CONTAINED)
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@app.command(context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]})
def run(
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="The agent and its arguments, best after --.")],
    contract: Annotated[
        str,
        typer.Option("--contract", help="A signed contract (file or hash), or a starter [default: the agent's]."),
    ] = "",
    job: Annotated[str, typer.Option("--job", help="The job's id; default: a new one.")] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="The life of each token; the gateway renews them.")] = "30m",
    observe: Annotated[
        bool,
        typer.Option("--observe", help="Let through what the contract refuses, and record it: a trial, no protection."),
    ] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Give CMD no way out but the gateway (Linux). docs/isolation.md.")
    ] = False,
    user: Annotated[
        str,
        typer.Option(
            "--user",
            help="With --isolate, as root: who CMD runs as [default: who called sudo, or owns the directory; "
            "else a user made for this job].",
        ),
    ] = "",
    private_tmp: Annotated[
        bool, typer.Option("--private-tmp", help="With --isolate: an empty /tmp of its own.")
    ] = False,
    memory: Annotated[str, typer.Option("--memory", help="With --isolate: at most so much, such as 2G.")] = "",
    pids: Annotated[int | None, typer.Option("--pids", help="With --isolate: at most so many processes.")] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="With --isolate: let CMD make user namespaces, for a sandbox of its own.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more than warnings.")] = False,
) -> None:
    """Open a job, run CMD with the gateway in its environment, seal the job, and say whether its bundle verifies.

    Uses the gateway that runs on the state directory, or starts one for the time of CMD. Ends with CMD's exit code.
    With --isolate CMD runs in namespaces of its own, in which there is nothing but the gateway.
    """
    from ..addons.settings import load_settings

    wanted = Wanted(user, private_tmp, memory, pids, nested)
    if not isolate and wanted != Wanted():
        raise ClawproxyError(
            "USAGE", "--user, --private-tmp, --memory, --pids and --nested are about an isolated job",
            remedy="add --isolate",
        )  # fmt: skip
    start_logging(verbose)
    check_owner(state, config)
    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    if made := folder.ensure_keys():
        note(f"made keys: {', '.join(made)} in {folder.keys}")
    policy_hash = _choose_contract(contract, Path(command[0]).name, folder)
    asked = Asked(policy_hash, job or None, parse_duration_s(ttl), observe)
    raise typer.Exit(asyncio.run(_run(command, asked, wanted if isolate else None, settings, folder)))


def _choose_contract(reference: str, program: str, folder: StateDir) -> str:
    """The hash of the contract to run under; a starter is signed with the local policy key, which is said."""
    word = reference or starter_for(program)
    if reference and reference not in set(Starter):
        if not Path(reference).exists() and not is_sha256_b64u(reference):
            raise ClawproxyError(
                "WPC_NOT_FOUND",
                "neither a file, nor a hash, nor a starter",
                where="--contract",
                got=reference,
                expected=f"one of these starters: {', '.join(Starter)}",
            )
        return str(find_signed(reference, folder)["payload_hash_b64u"])
    envelope = sign_contract(starter_document(Starter(word)), folder.load_key(Role.POLICY), timestamp(_now_ms()))
    store_signed(envelope, folder)
    note(f"contract: the starter {word}, as it comes, signed with the local key; see: clawproxy contract new {word}")
    return str(envelope["payload_hash_b64u"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- the agent -----------------------------------------------------------------------------------------------------


async def _run(command: list[str], asked: Asked, wanted: Wanted | None, settings: Settings, folder: StateDir) -> int:
    if shutil.which(command[0]) is None:
        note(f"clawproxy: no such command: {command[0]}")
        return _NOT_FOUND
    policy = parse_contract(find_signed(asked.policy_hash, folder)["payload"]).policy
    approvals = policy.approvals
    asked = dataclasses.replace(asked, needs_approval=approvals.job is not None)
    begun_ms = _now_ms()
    desk = await open_desk(settings, folder, approvable=approvals != NO_APPROVALS and not asked.observe)
    try:
        if asked.observe:
            note(OBSERVE_WARNING)
        elif policy.providers and not set(policy.providers) & set(desk.served):
            note(
                f"the contract allows {', '.join(policy.providers)} alone, and the gateway has no credential there: "
                "each call of a model will be refused; see: clawproxy doctor"
            )
        if wanted is not None:
            outcome = await run_isolated(command, asked, wanted, desk, settings, folder)
        else:
            outcome = await _run_uncontained(command, asked, desk, settings, folder)
        calm()
        sealed = await desk.seal(outcome.job_id)
    finally:
        if desk.gateway is not None:
            await desk.gateway.stop()
    directory = Path(str(sealed["directory"]))
    say_verdict(verify_path(directory, build_trust(_local_keys(folder, settings))), directory)
    alone = desk.gateway is not None  # then what its journal has is of this run
    without_job = refusals_since(folder.gateway, begun_ms) if alone else {}
    say_what_happened(directory, outcome.contained, observed=asked.observe, without_job=without_job)
    if wanted is not None:
        drop_answers()
    return outcome.code


async def _run_uncontained(
    command: list[str], asked: Asked, desk: Desk, settings: Settings, folder: StateDir
) -> Outcome:
    job, handle = await desk.lease(asked)
    asked.say_opened(job, _NOT_CONTAINED)
    with log_waits():
        code = await _run_agent(command, _environment(command, desk, job, handle, settings, folder))
    return Outcome(job, code, _NOT_CONTAINED)


def _environment(
    command: list[str], desk: Desk, job: str, handle: str, settings: Settings, folder: StateDir
) -> dict[str, str]:
    return agent_environment(
        os.environ,
        program=Path(command[0]).name,
        reverse=desk.addresses.get("reverse", ""),
        regular=desk.addresses.get("regular", ""),
        handle=handle,
        job_id=job,
        ca_file=str(desk.ca_file.absolute()),
        bundle_file=str(_write_bundle(folder, desk.ca_file)),
        served=desk.served,
        dropped=own_secrets(settings),
    )


def _write_bundle(folder: StateDir, ca_file: Path) -> Path:
    """The certificates that the agent trusts: the system's, and the gateway's CA."""
    target = (folder.root / "ca" / "agent-bundle.pem").absolute()
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    staged.write_bytes(system_certificates() + ca_file.read_bytes())
    staged.replace(target)
    return target


async def _run_agent(command: list[str], env: dict[str, str]) -> int:
    """Signals are the agent's from here on. One that comes before it can be passed on is kept for it: it must not end
    this process alone, which would leave an agent that runs and a job that nobody seals."""
    loop = asyncio.get_running_loop()
    early: list[int | None] = []
    # at a terminal the agent gets Ctrl-C itself; this process only has to outlive it
    interrupt = None if sys.stdin.isatty() else signal.SIGINT
    passed_on = {number: number for number in _FORWARDED} | {signal.SIGINT: interrupt}
    for number, sent in passed_on.items():
        loop.add_signal_handler(number, early.append, sent)
    process = await asyncio.create_subprocess_exec(*command, env=env)
    for number, sent in passed_on.items():
        loop.add_signal_handler(number, _forward, process, sent)
    for kept in early:
        _forward(process, kept)
    code = await process.wait()
    return code if code >= 0 else 128 - code


def _forward(process: asyncio.subprocess.Process, number: int | None) -> None:
    if number is not None and process.returncode is None:
        process.send_signal(number)


def _local_keys(folder: StateDir, settings: Settings) -> list[TrustedKey]:
    from ..addons.approvers import load_approvers

    keys = [TrustedKey(folder.load_key(role).did, role) for role in GATEWAY_ROLES]
    return keys + load_approvers(settings, {}).trusted_keys()
