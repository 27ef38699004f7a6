"""Runs plans and judges what came of them: by what arrived outside, not by what an attempt says."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import fenced
from . import internet as net
from .inside import driver
from .inside.attempt import ATTEMPTS, Attempt, Control
from .machine import AGENT, ROOT, STATE, Machine, a_machine, expect

driver.load()

AT_ONCE, SECONDS = 6, 12
_AT_ONCE_FENCED = 16
_SETTLE_S = 0.5
_MORE_TRIES = 2
"""Of a control that did not leave."""
_SECRET = re.compile(r"SECRET-[0-9a-f]{24}")
_NOT_TRIED = "NOT TRIED"
ROOTLESS_STATE = f"/home/{AGENT}/claw-state"
_RESOLVER = "9.9.9.9"
_NAMES = f"echo {net.ALLOWED4} {net.ALLOWED} >> /etc/hosts; echo {net.PUBLIC4} {net.FORBIDDEN} >> /etc/hosts"
_LET_IN = "ALLOWED HTTP/1.1 200"

NOT_APPLICABLE = (
    ("Address family not supported", "the kernel has no such sockets"),
    ("Protocol not supported", "the kernel has no such protocol"),
    ("Function not implemented", "the kernel has no such call"),
    ("/proc/sysrq-trigger", "the kernel has no sysrq"),
    ("'/tmp/node-", "the test itself may not make devices here"),
    ("mknod", "the test itself may not make devices here"),
    ("audit", "the test itself may not ask the audit system here"),
    ("/dev/net/tun", "the kernel has no tun"),
    ("uevent", "the test itself cannot see /sys here"),
    ("loop", "the test itself may not open disks here"),
)
"""What an error of a control says about this kernel, and how it is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt in one place."""

    left: bool
    how: str
    """How it left; else what stopped it."""


def why_not(control: Outcome) -> str:
    """What an attempt that did not leave says about this kernel; empty where that is nothing."""
    return next((why for sign, why in NOT_APPLICABLE if sign in control.how), "")


@dataclass(frozen=True, slots=True)
class Done:
    """A plan that was done, and what the driver printed of it."""

    planned: dict[str, Any]
    printed: str


@dataclass
class Result:
    """What became of many attempts in one place."""

    outcomes: dict[str, Outcome]
    strangers: dict[str, int] = field(default_factory=dict)
    """Addresses of the internet to which packets went, and nobody was allowed to send any."""
    reached: list[list[str]] = field(default_factory=list)
    """Leak probes of the product's own that reached something: name, outcome, what was seen."""
    seconds: float = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``root`` is None where an attempt is not tried again as root; ``rootless`` is a cage that
    a plain user made."""

    attempt: Attempt
    control: Outcome
    user: Outcome
    root: Outcome | None
    rootless: Outcome

    @property
    def applies(self) -> bool:
        return self.control.left

    @property
    def left(self) -> bool:
        return any(outcome.left for outcome in (self.user, self.root, self.rootless) if outcome is not None)

    @property
    def why_not(self) -> str:
        """Why the control does not work on this kernel; empty where that is not known, which is a fault."""
        return "" if self.applies else why_not(self.control)


def make_plan(attempts: Sequence[Attempt], targets: Mapping[str, Any]) -> dict[str, Any]:
    """Fresh marks for some attempts."""
    return {
        "targets": dict(targets),
        "attempts": [{"name": one.name, "nonce": secrets.token_hex(8)} for one in attempts],
        "at_once": AT_ONCE,
        "seconds": SECONDS,
    }


def judge(machine: Machine, done: Iterable[Done]) -> dict[str, Outcome]:
    """The outcome of each attempt. One that was never tried is an error, and is said to be one."""
    time.sleep(_SETTLE_S)
    evidence, known = machine.evidence(), set(machine.secrets.values())
    outcomes: dict[str, Outcome] = {}
    for one in done:
        said = {row["name"]: row for line in one.printed.splitlines() if (row := _result(line))}
        for row in one.planned["attempts"]:
            name = row["name"]
            tried = name in said
            outcomes[name] = (
                _outcome(ATTEMPTS[name], row["nonce"], said[name], evidence, known)
                if tried
                else Outcome(False, _NOT_TRIED)
            )
    if missing := [name for name, outcome in outcomes.items() if outcome.how == _NOT_TRIED]:
        raise RuntimeError(f"not tried: {', '.join(missing)}")
    return outcomes


def _result(line: str) -> dict[str, Any] | None:
    at = line.find("ATTEMPT {")
    return json.loads(line[at + 8 :]) if at >= 0 else None


def _outcome(attempt: Attempt, nonce: str, row: Mapping[str, Any], evidence: str, known: set[str]) -> Outcome:
    for form in (nonce, nonce[:13], ".".join(reversed(nonce)), f"signal {nonce[:7]}"):
        if form in evidence:
            line = next(line for line in evidence.splitlines() if form in line)
            by = json.loads(line)["by"] if line.startswith("{") else "the machine itself"
            return Outcome(True, f"arrived: {by}")
    said = str(row["said"] or "")
    if known & set(_SECRET.findall(said)):
        return Outcome(True, "read a secret")
    if attempt.told and row["said"]:
        return Outcome(True, f"the kernel let it: {said}")
    return Outcome(False, row["error"] or "nothing arrived")


def strangers(machine: Machine) -> dict[str, int]:
    """To which addresses packets went, but for the gateway's calls to the allowed host, whose name it looks up."""
    found: dict[str, int] = {}
    for line in machine.internet_notes.read_text().splitlines():
        note = json.loads(line)
        if note["by"] != "frame":
            continue
        text, to = note["text"].encode("latin-1"), note["to"]
        if to in (net.ALLOWED4, net.ALLOWED6) or _finds_neighbours(text):
            continue
        if to == _RESOLVER and net.dns_name(text[42:]).lower() == net.ALLOWED:
            continue
        found[to] = found.get(to, 0) + 1
    return found


def _finds_neighbours(frame: bytes) -> bool:
    """ARP, neighbour discovery and group reports of the machine's own kernel."""
    if frame[12:14] == b"\x08\x06":
        return True
    if frame[12:14] != b"\x86\xdd":
        return False
    at, following = 54, frame[20]
    if following == 0:  # group reports come behind a router alert
        following, at = frame[54], 62
    return following == 58 and frame[at] in (130, 131, 132, 133, 134, 135, 136, 137, 143)


def by_itself(row: Attempt) -> bool:
    """Must an attempt have a place of its own?"""
    return row.alone or row.control is Control.TERMINAL


def run_control(wanted: Iterable[Attempt]) -> Result:
    """Each attempt where nothing isolates, on a machine of its own. One that does not leave, for no reason that this
    kernel gives, is tried again by itself: a busy machine must not pass for one that isolates."""
    began, rows = time.monotonic(), list(wanted)
    with a_machine() as machine:
        targets = machine.targets(machine.victim_pid)

        def run(groups: Iterable[Sequence[Attempt]]) -> dict[str, Outcome]:
            return judge(machine, [_control(machine, make_plan(group, targets), group[0].control) for group in groups])

        outcomes = run(group for kind in Control for group in _groups([row for row in rows if row.control is kind]))
        for _ in range(_MORE_TRIES):
            if again := [row for row in rows if not outcomes[row.name].left and not why_not(outcomes[row.name])]:
                outcomes |= run([row] for row in again)
        return Result(outcomes, seconds=time.monotonic() - began)


def _control(machine: Machine, planned: dict[str, Any], kind: Control) -> Done:
    command = machine.python("tests.escape.scenarios", str(kind))
    ended = machine.run(command, input=(json.dumps(planned) + "\n").encode())
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode()[-2000:])
    return Done(planned, ended.stdout.decode())


def _groups(rows: Sequence[Attempt]) -> list[list[Attempt]]:
    """Together what may be tried in one place."""
    together = [row for row in rows if not by_itself(row)]
    return ([together] if together else []) + [[row] for row in rows if by_itself(row)]


class Isolated:
    """The gateway in a machine, and plans in cages behind it."""

    def __init__(self, machine: Machine, *, rootless: bool = False) -> None:
        self._machine = machine
        self._state = ROOTLESS_STATE if rootless else STATE
        if rootless:
            machine.shell(
                f"mkdir -p {ROOTLESS_STATE}; cp {STATE}/secret.txt {ROOTLESS_STATE}; "
                f"chown -R {AGENT}:{AGENT} {ROOTLESS_STATE}"
            )
        become = ["setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups"] if rootless else []
        self._process = machine.enter(
            [*become, *machine.python("tests.escape.isolated", self._state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        expect(self._process, "ready")
        self.reached: list[list[str]] = []

    def close(self) -> None:
        """Stop the gateway."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)

    def run(self, attempts: Sequence[Attempt], *, as_root: bool) -> Done:
        """Some attempts in one cage."""
        assert self._process.stdin
        assert self._process.stdout
        targets = self._machine.targets(self._machine.victim_pid, state=self._state)
        terminal = any(attempt.control is Control.TERMINAL for attempt in attempts)
        planned = make_plan(attempts, targets)
        asked = {"root": as_root, "terminal": terminal, "plan": planned}
        self._process.stdin.write((json.dumps(asked) + "\n").encode())
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if not as_root:
            self.reached += [probe for probe in answer["probes"] if probe[1] == "reached"]
        if "ATTEMPTS DONE" not in answer["output"]:
            raise RuntimeError(f"the driver ended with {answer['code']}: {answer['errors']}")
        return Done(planned, answer["output"])


def run_isolated(wanted: Iterable[Attempt], *, as_root: bool, rootless: bool = False) -> Result:
    """Each attempt in a cage, on a machine of its own: one cage for those that leave it as it was, else one each.

    ``rootless`` has a plain user make the cages, who is the job's user then.
    """
    began = time.monotonic()
    rows = [row for row in wanted if row.as_root or not as_root]
    with a_machine() as machine:
        isolated = Isolated(machine, rootless=rootless)
        done = [isolated.run(group, as_root=as_root) for group in _groups(rows)]
        outcomes = judge(machine, done)
        isolated.close()
        return Result(outcomes, strangers(machine), isolated.reached, time.monotonic() - began)


def run_all(wanted: Iterable[Attempt]) -> tuple[list[Row], tuple[Result, ...]]:
    """The table: control, isolated, isolated as root, isolated without root, on four machines at once."""
    rows = list(wanted)
    with ThreadPoolExecutor(4) as pool:
        control = pool.submit(run_control, rows)
        user = pool.submit(run_isolated, rows, as_root=False)
        root = pool.submit(run_isolated, rows, as_root=True)
        rootless = pool.submit(run_isolated, rows, as_root=False, rootless=True)
        results = (control.result(), user.result(), root.result(), rootless.result())
    table = [
        Row(
            row,
            results[0].outcomes[row.name],
            results[1].outcomes[row.name],
            results[2].outcomes.get(row.name) if row.as_root else None,
            results[3].outcomes[row.name],
        )
        for row in rows
    ]
    return table, results


@dataclass
class FencedRow:
    """One line of the table of fences: by kind of fence, the attempt's control and what became of it inside; None
    where it is not tried."""

    attempt: Attempt
    control: dict[str, Outcome]
    fenced: dict[str, Outcome]

    def applies(self, kind: str) -> bool:
        return kind in self.fenced and self.control[kind].left


def run_fenced(wanted: Iterable[Attempt], control: Mapping[str, Outcome]) -> tuple[list[FencedRow], Result, list[str]]:
    """Each attempt that a fence is against, inside one of each kind, beside its control.

    ``control`` are those of the main table: ordinary processes, as those of a fenced user or cgroup are without it.
    What comes in by an interface has one of its own, on another machine. Third: what is wrong with the runs themselves.
    """
    rows = list(wanted)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(_behind_an_interface, rows)
        outcomes, result, wrong = _in_fences(rows)
        behind = other.result()
    table = []
    for row in rows:
        kinds = [kind for kind in fenced.KINDS if row.name in outcomes[kind]]
        controls = {kind: (behind if kind == "interface" else control)[row.name] for kind in kinds}
        if kinds:
            table.append(FencedRow(row, controls, {kind: outcomes[kind][row.name] for kind in kinds}))
    return table, result, wrong


def _in_fences(rows: Sequence[Attempt]) -> tuple[dict[str, dict[str, Outcome]], Result, list[str]]:
    with a_machine() as machine:
        machine.shell(_NAMES)
        python, host = machine.python("tests.escape.fenced"), machine.python("clawproxy", "host")
        cgroup = f"{machine.folder.name}.slice"

        def must(command: Sequence[str]) -> None:
            done = machine.run(command, cwd=ROOT)
            if done.returncode:
                raise RuntimeError(done.stderr.decode()[-2000:])

        gateway = machine.enter(
            [*python, "serve", "/srv/fenced"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert gateway.stdout
        assert gateway.stdin
        handles = json.loads(gateway.stdout.readline())
        outcomes: dict[str, dict[str, Outcome]] = {}
        wrong: list[str] = []
        for kind in fenced.KINDS:
            if not (groups := _against(rows, kind)):  # --only
                outcomes[kind] = {}
                continue
            if kind == "cgroup":
                must([*python, "prepare", cgroup])
            must([*host, "install", *fenced.fence(kind, cgroup)])
            planned = [_planned(machine, group, handles[kind], cgroup) for group in groups]
            planned[0]["allowed"] = handles[f"{kind}-allowed"]
            printed = [_do(machine, [*python, kind], plan) for plan in planned]
            outcomes[kind] = judge(machine, [Done(plan, text) for plan, text in zip(planned, printed, strict=True)])
            wrong += [
                f"fence {kind}: the call that is allowed: {text[-300:]}" for text in printed[:1] if _LET_IN not in text
            ]
            must([*host, "remove", kind])
            if kind == "cgroup":
                must([*python, "clear", cgroup])
        gateway.stdin.close()
        gateway.wait(20)
        return outcomes, Result({}, strangers(machine)), wrong


def _behind_an_interface(rows: Sequence[Attempt]) -> dict[str, Outcome]:
    with a_machine() as machine:
        machine.shell(_NAMES)
        command = machine.python("tests.escape.fenced", "interface")
        planned = [_planned(machine, group, "", "") for group in _against(rows, "interface")]
        return judge(machine, [Done(plan, _do(machine, command, plan)) for plan in planned])


def _against(rows: Sequence[Attempt], kind: str) -> list[list[Attempt]]:
    return _groups([row for row in rows if fenced.applies(row, kind)])


def _planned(machine: Machine, rows: Sequence[Attempt], handle: str, cgroup: str) -> dict[str, Any]:
    planned = make_plan(rows, machine.targets(machine.victim_pid))
    return {**planned, "handle": handle, "cgroup": cgroup, "allowed": "", "at_once": _AT_ONCE_FENCED}


def _do(machine: Machine, command: Sequence[str], plan: Mapping[str, Any]) -> str:
    done = machine.run(command, input=(json.dumps(plan) + "\n").encode(), cwd=ROOT)
    text = done.stdout.decode()
    if "ATTEMPTS DONE" not in text:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return text


def kill_at_random(rounds: int, seed: int) -> dict[str, Any]:
    """What became of so many rounds of killing (``rounds``), on a machine of their own."""
    return _told_by("tests.escape.rounds", str(rounds), str(seed))


def plant() -> dict[str, Any]:
    """What became of things left on purpose (``planted``), on a machine of their own."""
    return _told_by("tests.escape.planted")


def _told_by(*command: str) -> dict[str, Any]:
    with a_machine(inhabited=False) as machine:
        done = machine.run(machine.python(*command), cwd=ROOT)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-3000:])
        told: dict[str, Any] = json.loads(done.stdout)
        return told
