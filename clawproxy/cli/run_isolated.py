"""``clawproxy run --isolate``: the agent in a cage whose only way out is the gateway's door. Starts processes.

The order matters: the cage is made, probed for leaks from inside, then the job is opened with what was found on record,
then its door is opened, and only then the agent starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cage.cage import Cage, Probe, make_plan
from ..cage.plan import RUN_DIR, CagePlan, JobUser, Limits
from ..cage.rules import rules_hash
from ..cage.terminal import Screen, size_of
from ..cage.users import choose_user
from ..policies.contract import parse_contract
from ..policies.reachable import reachable_names
from ..receipts.containment import Containment, Kind, ProbeOutcome
from ..tokens.errors import ClawproxyError
from .agent_environment import agent_environment, without_detours
from .ca_bundle import system_certificates
from .contract_files import find_signed
from .log_waits import log_waits
from .run_desk import Asked, Desk, OpenDoor, credential_references, own_secrets
from .screen import note
from .state import StateDir

if TYPE_CHECKING:
    from ..addons.settings import Settings

_SIZE = re.compile(r"(\d{1,12})([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_LEAST_MEMORY = 16 << 20
_LEAST_PIDS = 16
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_NOT_STARTED = 127
_KILLED = 137
_ASKED_S = 5.0

# where a desktop or a session has its helpers: sockets that are not there inside
_OF_THE_SESSION = (
    "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "DOCKER_HOST", "GPG_AGENT_INFO", "SSH_AGENT_PID", "SSH_AUTH_SOCK", "STY",
    "SUDO_COMMAND", "SUDO_GID", "SUDO_UID", "SUDO_USER", "TMUX", "TMUX_PANE", "WAYLAND_DISPLAY", "XAUTHORITY",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``run`` was told of the isolation."""

    user: str = ""
    private_tmp: bool = False
    memory: str = ""
    pids: int | None = None
    nested: bool = False

    @property
    def limits(self) -> Limits:
        """Raises ``ClawproxyError`` (USAGE)."""
        memory = None if not self.memory else parse_size_bytes(self.memory)
        if memory is not None and memory < _LEAST_MEMORY:
            raise ClawproxyError("USAGE", "too little to run anything", where="--memory", got=self.memory)
        if self.pids is not None and self.pids < _LEAST_PIDS:
            raise ClawproxyError(
                "USAGE", "too few to run anything", where="--pids", got=self.pids, expected=f"at least {_LEAST_PIDS}"
            )
        return Limits(memory, self.pids)


def parse_size_bytes(text: str) -> int:
    """``500M``, ``2G`` or a number of bytes; raises ``ClawproxyError`` (USAGE)."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ClawproxyError("USAGE", "not a size", where="--memory", got=text, expected="such as 500M or 2G")
    return int(found[1]) << _UNITS[found[2].lower()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an isolated job went: its id, the exit code of the agent, and what contained it, in words."""

    job_id: str
    code: int
    contained: str


async def run_isolated(
    command: list[str], asked: Asked, wanted: Wanted, desk: Desk, settings: Settings, folder: StateDir
) -> Outcome:
    """From the cage to the agent's end; the job is still to be sealed. Raises ``ClawproxyError``: then no job is open.

    A command that cannot be started is said, and counts as the agent's end.
    """
    if sys.platform != "linux":
        raise ClawproxyError("ISOLATION_UNAVAILABLE", "an isolated job needs Linux", got=sys.platform)
    chosen = choose_user(wanted.user or None, os.getcwd())
    try:
        plan = _plan(chosen.user, wanted, settings, folder, _trusted(asked, desk, settings, folder))
        plan = dataclasses.replace(plan, visible=(shutil.which(command[0]) or command[0],))
        if why := await asyncio.to_thread(_cannot_write, plan):
            note(f"the agent, user {plan.user.name}, cannot write in {plan.cwd}; {why}")
        with Cage(plan) as cage:
            if cage.bare:
                note(f"Unix sockets that the host makes later can be reached in: {', '.join(cage.bare)}")
            for kind, path in cage.distant:
                note(f"not by the door: what the job does in {path} ({kind}) goes over this host's own network")
            containment = _contained(cage, await asyncio.to_thread(cage.probe))
            words = _in_words(cage, containment)
            signals = _Signals(cage)
            job, handle = await desk.lease(asked, containment)
            asked.say_opened(job, words)
            try:
                door = await desk.open_door(job, handle, cage.hand_over())
            except BaseException:
                with contextlib.suppress(ClawproxyError):
                    await desk.seal(job)
                raise
            try:
                env = _environment(command, desk, job, handle, settings, plan.user)
                with log_waits():
                    code = await _run_command(cage, command, env, door, signals)
                await _count(desk, job, cage)
                return Outcome(job, code, words)
            finally:
                signals.end()
                cage.close()
                await door.close()
    finally:
        chosen.release()


def _run_by_root() -> tuple[str, ...]:
    """As root: the directories of what root runs as clawproxy, which no job may change."""
    if os.geteuid() != 0:
        return ()
    places = (sys.prefix, sys.base_prefix, os.path.dirname(sys.executable), Path(__file__).parents[1])
    return tuple(dict.fromkeys(os.path.realpath(place) for place in places))


def _cannot_write(plan: CagePlan) -> str:
    """Where the job's user is known to be unable to make files in the working directory: why, or what to look at."""
    cwd = os.path.realpath(plan.cwd)
    if any(os.path.commonpath((cwd, frozen)) == frozen for frozen in plan.frozen):
        return "clawproxy's own programs lie there"
    if plan.rootless:
        return "" if os.access(plan.cwd, os.W_OK) else "you cannot either"
    # entered as root: what lies above it need not be open to the user, where /tmp is the job's own
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(
            ["/bin/sh", "-c", "test -w ."], cwd=plan.cwd, user=plan.user.uid, group=plan.user.gid, extra_groups=(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={},
            timeout=_ASKED_S, check=False,
        )  # fmt: skip
        return "see --user" if asked.returncode == 1 else ""
    return ""


def _trusted(asked: Asked, desk: Desk, settings: Settings, folder: StateDir) -> tuple[str, str]:
    """The certificate that the job trusts, alone and with the system's: the CA's, constrained to the contract's names.

    A job that observes may reach any name, so it gets the CA as it is.
    """
    from ..addons.ca import constrained_anchor
    from ..addons.provider_settings import configured_catalogue

    policy = parse_contract(find_signed(asked.policy_hash, folder)["payload"]).policy
    names = reachable_names(policy, configured_catalogue(settings))
    whole = asked.observe or not names
    anchor = desk.ca_file.read_bytes() if whole else constrained_anchor(desk.ca_file.parent, names)
    return anchor.decode("ascii"), (system_certificates() + anchor).decode("ascii")


def _plan(user: JobUser, wanted: Wanted, settings: Settings, folder: StateDir, trusted: tuple[str, str]) -> CagePlan:
    ca, bundle = trusted
    return make_plan(
        user,
        os.getcwd(),
        masked=_masked(settings, folder),
        frozen=_run_by_root(),
        files=(("ca.pem", ca), ("bundle.pem", bundle)),
        admin_socket=str(folder.admin_socket.absolute()),
        private_tmp=wanted.private_tmp,
        nested=wanted.nested,
        limits=wanted.limits,
    )


def _masked(settings: Settings, folder: StateDir) -> tuple[str, ...]:
    """What of the gateway the job must not see: its state, and files with its credentials."""
    references = [each.removeprefix("file:") for each in credential_references(settings) if each.startswith("file:")]
    return tuple(dict.fromkeys(str(Path(path).expanduser().absolute()) for path in (str(folder.root), *references)))


def _contained(cage: Cage, probes: list[Probe]) -> Containment:
    """What goes on record; raises ``ClawproxyError`` (ISOLATION_LEAKS) when anything was reached."""
    leaks = [probe for probe in probes if probe.outcome == ProbeOutcome.REACHED]
    for probe in leaks:
        note(f"  leak: {probe.name}: {probe.seen}")
    if leaks:
        raise ClawproxyError(
            "ISOLATION_LEAKS",
            "the job was not opened: from inside the cage something can be reached that must not be",
            got=", ".join(probe.name for probe in leaks),
            remedy="close it on this host, or report it if it should be closed",
        )
    limits = cage.plan.limits
    figures = (("memory-bytes", limits.memory_bytes), ("pids", limits.pids))
    return Containment(
        Kind.ISOLATED,
        rules_hash(cage.plan.rules),
        tuple((probe.name, ProbeOutcome(probe.outcome)) for probe in probes),
        user_namespace=cage.plan.rootless,
        uid_changed=not cage.plan.rootless,
        limits=tuple((name, value) for name, value in figures if value is not None),
        distant_files=tuple(sorted({kind for kind, _ in cage.distant})),
    )


def _in_words(cage: Cage, containment: Containment) -> str:
    plan = cage.plan
    blocked = sum(outcome == ProbeOutcome.BLOCKED for _, outcome in containment.probes)
    who = f"user {plan.user.name}" + (" (yours: it can change your files)" if plan.rootless else "")
    parts = [f"isolated: {who}", f"{blocked} leak probes blocked"]
    for name, value in containment.limits:
        controller = "memory" if name == "memory-bytes" else "pids"
        each = "" if controller in cage.limits else " (each process)" if controller == "memory" else " (of the user)"
        parts.append(f"{name} {value}{each}")
    if cage.distant:
        parts.append(f"files that live elsewhere in sight ({', '.join(sorted({kind for kind, _ in cage.distant}))})")
    if cage.lost_sockets:
        parts.append(f"{cage.lost_sockets} sockets of the host with relative names could not be hidden")
    return ", ".join(parts)


def _environment(
    command: list[str], desk: Desk, job: str, handle: str, settings: Settings, user: JobUser
) -> dict[str, str]:
    base = {name: value for name, value in without_detours(os.environ).items() if name not in _OF_THE_SESSION}
    env = agent_environment(
        base,
        program=Path(command[0]).name,
        reverse="",
        regular="",
        handle=handle,
        job_id=job,
        ca_file=f"{RUN_DIR}/ca.pem",
        bundle_file=f"{RUN_DIR}/bundle.pem",
        served=desk.served,
        dropped=own_secrets(settings),
    )
    for name in ("NO_PROXY", "no_proxy"):
        del env[name]  # there is no proxy
    for name in ("TMPDIR", "TMP", "TEMP"):
        env.pop(name, None)  # a folder of the host's, which need not be there inside
    env |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "XDG_RUNTIME_DIR": f"/run/user/{user.uid}"}
    return env


async def _run_command(
    cage: Cage, command: list[str], env: Mapping[str, str], door: OpenDoor, signals: _Signals
) -> int:
    try:
        master = cage.start(command, env, size_of((0, 1, 2)))
    except ClawproxyError as err:
        note(f"clawproxy: {err.one_line()}")
        return _NOT_STARTED if err.reason == "COMMAND_NOT_STARTED" else _KILLED
    watch = asyncio.create_task(_tell_of_end(door))
    screen = None if master is None else Screen(master)
    try:
        signals.pass_on(screen)
        return await asyncio.to_thread(cage.wait, None if screen is None else screen.suspend)
    finally:
        watch.cancel()
        await asyncio.to_thread(cage.close)
        if screen is not None:
            await asyncio.to_thread(screen.close)


async def _count(desk: Desk, job: str, cage: Cage) -> None:
    """Have on record what the door's rules turned away; where that is not known, or not taken, it is said."""
    try:
        if cage.turned_away is not None:
            await desk.count_door(job, cage.turned_away)
    except ClawproxyError as err:
        note(f"clawproxy: what the door turned away is not on record: {err.one_line()}")


async def _tell_of_end(door: OpenDoor) -> None:
    await door.wait_closed()
    note("the gateway has closed the job's door: nothing that the agent sends arrives any more")


class _Signals:
    """From here on signals are the agent's. One that comes before it runs is kept for it."""

    def __init__(self, cage: Cage) -> None:
        self._loop = asyncio.get_running_loop()
        self._cage = cage
        self._early: list[int] = []
        for number in _PASSED_ON:
            self._loop.add_signal_handler(number, self._early.append, int(number))

    def pass_on(self, screen: Screen | None) -> None:
        for number in _PASSED_ON:
            self._loop.add_signal_handler(number, self._cage.signal, int(number))
        for early in self._early:
            self._cage.signal(early)
        if screen is not None:
            self._loop.add_signal_handler(signal.SIGWINCH, screen.resize)
            self._loop.add_signal_handler(signal.SIGCONT, screen.resume)

    def end(self) -> None:
        """Sizes are nobody's any more; other signals go nowhere, so that the job is sealed."""
        self._loop.remove_signal_handler(signal.SIGWINCH)
