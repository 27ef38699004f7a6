"""``clawproxy run -- CMD``: an agent behind a gateway, with one command. Starts processes.

The agent gets a job handle, never a token or a provider's key. It is not contained: what it does outside the
variables that it is given (its own sockets, other users' files) is not seen.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import certifi
import typer

from ..policies.approval_rules import NO_APPROVALS
from ..policies.contract import parse_contract, sign_contract
from ..receipts.report import Report
from ..receipts.verify import verify_path
from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import TrustedKey, build_trust
from .agent_environment import agent_environment, starter_for
from .contract_files import Starter, find_signed, starter_document, store_signed
from .screen import counts_line, new_app, note
from .serve import start_logging
from .state import DEFAULT_STATE, GATEWAY_ROLES, ConfigOption, StateDir, StateOption
from .token import parse_duration_s

if TYPE_CHECKING:
    from ..addons.gateway import Gateway
    from ..addons.settings import Settings

app = new_app("Run an agent behind a gateway of its own: clawproxy run -- CMD …")

_KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "fal": "FAL_KEY",
}
_NOT_FOUND = 127
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
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more than warnings.")] = False,
) -> None:
    """Open a job, run CMD with the gateway in its environment, seal the job, and say whether its bundle verifies.

    Uses the gateway that runs on the state directory, or starts one for the time of CMD. Ends with CMD's exit code.
    """
    from ..addons.settings import load_settings

    start_logging(verbose)
    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    if made := folder.ensure_keys():
        note(f"made keys: {', '.join(made)} in {folder.keys}")
    policy_hash = _choose_contract(contract, Path(command[0]).name, folder)
    raise typer.Exit(asyncio.run(_run(command, policy_hash, job or None, parse_duration_s(ttl), settings, folder)))


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
                expected=f"a starter is one of {', '.join(Starter)}",
            )
        return str(find_signed(reference, folder)["payload_hash_b64u"])
    envelope = sign_contract(starter_document(Starter(word)), folder.load_key(Role.POLICY), timestamp(_now_ms()))
    store_signed(envelope, folder)
    note(f"contract: the starter {word}, as it comes, signed with the local key; see: clawproxy contract new {word}")
    return str(envelope["payload_hash_b64u"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- the gateway, ours or the running one --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a job needs of a gateway."""

    addresses: dict[str, str]
    ca_file: Path
    gateway: Gateway | None
    socket: Path
    served: tuple[str, ...]
    """The providers that it has a credential for."""

    async def lease(self, policy_hash: str, job_id: str | None, ttl_s: int) -> tuple[str, str]:
        """Open a job; returns its id and its handle."""
        from ..addons.admin import call_admin

        if self.gateway is not None:
            lease = await self.gateway.lease(policy_hash, job_id, ttl_s)
            return lease.job_id, lease.handle
        answer = await call_admin(self.socket, "lease", policy_hash=policy_hash, job_id=job_id, ttl_s=ttl_s)
        return str(answer["job_id"]), str(answer["handle"])

    async def seal(self, job_id: str) -> JsonObject:
        from ..addons.admin import call_admin

        if self.gateway is not None:
            return await self.gateway.seal(job_id)
        return await call_admin(self.socket, "seal", job_id=job_id)


async def _open_desk(settings: Settings, folder: StateDir, *, approvable: bool) -> _Desk:
    """The gateway that runs, or one of our own. With ``approvable`` only one that an approver can reach will do."""
    from ..addons.admin import call_admin
    from ..addons.gateway import Gateway

    try:
        status = await call_admin(folder.admin_socket, "status")
    except ClawproxyError as err:
        if err.reason != "GATEWAY_NOT_RUNNING":
            raise
    else:
        return _Desk(status["addresses"], Path(status["ca"]), None, folder.admin_socket, _served(settings))
    if approvable:
        raise ClawproxyError(
            "GATEWAY_NOT_RUNNING",
            "the contract wants approvals, and an approver cannot reach a gateway that lives in this command",
            where=str(folder.admin_socket),
            remedy="start one first: clawproxy serve",
        )
    own = _private_settings(settings)
    gateway = Gateway(own)
    await gateway.start()
    return _Desk(gateway.addresses, gateway.ca_file, gateway, folder.admin_socket, _served(own))


def _served(settings: Settings) -> tuple[str, ...]:
    return tuple(name for name, section in settings.providers.items() if section.credential)


def _private_settings(settings: Settings) -> Settings:
    """Settings for a gateway that serves one command: free loopback ports, credentials from the environment."""
    from ..addons.settings import Settings

    document: dict[str, Any] = settings.model_dump()
    document["listen"] |= {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False}
    for provider, variable in _KEY_VARIABLES.items():
        section = document["providers"].setdefault(provider, {})
        if not section.get("credential") and os.environ.get(variable):
            section["credential"] = f"env:{variable}"
    if not any(section.get("credential") for section in document["providers"].values()):
        raise ClawproxyError(
            "CREDENTIAL_MISSING",
            "the gateway has no provider credential to inject",
            remedy=f"set one of {', '.join(_KEY_VARIABLES.values())} for clawproxy (the agent does not get it), "
            "or providers.NAME.credential in clawproxy.toml",
        )
    return Settings.model_validate(document)


# -- the agent -----------------------------------------------------------------------------------------------------


async def _run(
    command: list[str], policy_hash: str, job_id: str | None, ttl_s: int, settings: Settings, folder: StateDir
) -> int:
    if shutil.which(command[0]) is None:
        note(f"clawproxy: no such command: {command[0]}")
        return _NOT_FOUND
    approvals = parse_contract(find_signed(policy_hash, folder)["payload"]).policy.approvals
    desk = await _open_desk(settings, folder, approvable=approvals != NO_APPROVALS)
    try:
        job, handle = await desk.lease(policy_hash, job_id, ttl_s)
        if approvals.job is not None:
            note(f"its calls are refused until it is approved: clawproxy approve grant --job {job} --key FILE")
        note(f"job {job} is open; not contained: only what the agent sends through the gateway is seen")
        code = await _run_agent(command, _environment(command, desk, job, handle, settings, folder))
        sealed = await desk.seal(job)
    finally:
        if desk.gateway is not None:
            await desk.gateway.stop()
    directory = Path(str(sealed["directory"]))
    _say_verdict(verify_path(directory, build_trust(_local_keys(folder, settings))), directory)
    return code


def _environment(
    command: list[str], desk: _Desk, job: str, handle: str, settings: Settings, folder: StateDir
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
        dropped=_own_secrets(settings),
    )


def _own_secrets(settings: Settings) -> list[str]:
    """The environment variables that hold the gateway's credentials."""
    references = [section.credential or "" for section in settings.providers.values()]
    return [reference.removeprefix("env:") for reference in references if reference.startswith("env:")]


def _write_bundle(folder: StateDir, ca_file: Path) -> Path:
    """The certificates that the agent trusts: the system's, and the gateway's CA."""
    candidates = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, certifi.where())
    system = next(Path(path) for path in candidates if path and Path(path).is_file())
    target = (folder.root / "ca" / "agent-bundle.pem").absolute()
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    staged.write_bytes(system.read_bytes() + b"\n" + ca_file.read_bytes())
    staged.replace(target)
    return target


async def _run_agent(command: list[str], env: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, env=env)
    loop = asyncio.get_running_loop()
    for number in _FORWARDED:
        loop.add_signal_handler(number, _forward, process, number)
    # at a terminal the agent gets Ctrl-C itself; this process only has to outlive it
    loop.add_signal_handler(signal.SIGINT, _forward, process, None if sys.stdin.isatty() else signal.SIGINT)
    code = await process.wait()
    return code if code >= 0 else 128 - code


def _forward(process: asyncio.subprocess.Process, number: int | None) -> None:
    if number is not None and process.returncode is None:
        process.send_signal(number)


def _local_keys(folder: StateDir, settings: Settings) -> list[TrustedKey]:
    from ..addons.approvers import load_approvers

    keys = [TrustedKey(folder.load_key(role).did, role) for role in GATEWAY_ROLES]
    return keys + load_approvers(settings, {}).trusted_keys()


def _say_verdict(report: Report, directory: Path) -> None:
    note(f"{report.verdict}  {directory}  ({counts_line(report.counts)})")
    for finding in report.findings:
        note(f"  {finding.severity}: {finding.reason} at {finding.path}: {finding.detail}")
