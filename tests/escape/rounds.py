"""SIGKILL at random moments: ``python -m tests.escape.rounds ROUNDS SEED`` in a machine of the test's own.

A round starts isolated jobs side by side, with a gateway of their own or a running one, on a host with a fence, while
another fence is installed or removed. It kills random ones of {run, gateway, warden, first process, agent}, and the
commands about the fence. Then ``clawproxy host check --repair`` runs as a person would call it, twice (one before may
be killed, too): the second must find nothing, and nothing may be there that was not there before, by the word of
``ip``, ``nft``, ``lsns``, the mounts and the processes of the machine.

Prints one line of JSON: ``rounds``, ``jobs``, ``killed`` (how many of each kind), ``came`` (how far the jobs had come),
``repairs`` (how often the command ended with what code, first and second time, and what it repaired), ``faults``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clawproxy.cli.state import StateDir

STATE = Path("/srv/rounds")
FENCES = Path("/etc/clawproxy/fences")
_UNITS = Path("/etc/systemd/system")
_TABLE = "clawproxy_fence_"
_COMMAND_S = 120.0
_AGENT = "(setsid sleep 300 &); sleep 300 & echo started; exec sleep 300"
_SIDE_BY_SIDE = 3
_LATEST_S = {"": 4.0, "run": 3.0}
_STAGE_S = 60.0
_END_S = 60.0
KINDS = ("run", "gateway", "warden", "first process", "agent")
_TEMPORARY = re.compile(r"^tmp|[.~-]tmp|\.part$|\.new$")
_PIDFD_GETFD, _SIOCGSKNS = 438, 0x894C
_LIBC = ctypes.CDLL(None, use_errno=True)
_PLACES = ("/tmp", "/var/tmp", "/run", "/dev/shm", "/home", "/srv", "/etc/clawproxy", str(_UNITS))
_CGROUPS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory", "/sys/fs/cgroup")


def processes() -> dict[int, tuple[int, str]]:
    """All that live: number, parent, command line."""
    found: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                row = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if row[0] != "Z":
                    found[int(name)] = (int(row[1]), line)
    return found


def children(of: int, known: dict[int, tuple[int, str]]) -> list[int]:
    return [pid for pid, (parent, _) in known.items() if parent == of]


@dataclass(frozen=True)
class Left:
    """What can be left behind, as it is now. Two are equal where nothing is left."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    named: str
    links: str
    rules: str
    mounts: frozenset[str]
    files: frozenset[str]
    cgroups: frozenset[str]
    abstract: frozenset[str]
    doors: int
    """Sockets of the running gateway's that lie in another network namespace than its own."""

    def beside(self, before: Left) -> list[str]:
        """What is here and was not there before."""
        found: list[str] = []
        for name in ("processes", "namespaces", "mounts", "files", "cgroups", "abstract"):
            found += [f"{name}: {more}" for more in getattr(self, name) - getattr(before, name)]
        for name in ("named", "links", "rules", "doors"):
            if getattr(self, name) != getattr(before, name):
                found.append(f"{name}: {getattr(self, name)} instead of {getattr(before, name)}")
        return found


def look(gateway: int) -> Left:
    """The machine as it is; ``gateway`` is the running gateway's process, or 0."""
    living = processes()
    return Left(
        frozenset(f"{pid} {line}" for pid, (_, line) in living.items() if pid not in (os.getpid(), gateway)),
        frozenset(_say("lsns", "-n", "-o", "NS,TYPE").splitlines()),
        _say("ip", "netns"),
        _say("ip", "-o", "link"),
        _say("nft", "list", "ruleset"),
        frozenset(_mounts(living)),
        frozenset(_files()),
        frozenset(str(path) for place in _CGROUPS for path in Path(place).glob("clawproxy*")),
        frozenset(line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "@clawproxy" in line),
        _foreign_sockets(gateway) if gateway else 0,
    )


def _say(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _mounts(living: dict[int, tuple[int, str]]) -> list[str]:
    """Every mount that any process sees, with the mount namespace: overlays and masks of jobs are in theirs."""
    tables: dict[int, str] = {}
    for pid in living:
        with contextlib.suppress(OSError):
            namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            if namespace not in tables:
                tables[namespace] = Path(f"/proc/{pid}/mountinfo").read_text()
    return [f"{namespace} {line}" for namespace, text in tables.items() for line in text.splitlines()]


def _files() -> list[str]:
    """Names of all files where temporary ones could lie; what the state directory keeps on purpose is not named."""
    found: list[str] = []
    for place in _PLACES:
        for folder, folders, names in os.walk(place):
            if Path(folder).is_relative_to(STATE):
                names = [name for name in names if _TEMPORARY.search(name)]
                found += [os.path.join(folder, name) for name in names]
                continue
            found += [os.path.join(folder, name) for name in (*folders, *names)]
    return found


def _foreign_sockets(pid: int) -> int:
    own, count = os.stat("/proc/self/ns/net").st_ino, 0
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        for name in os.listdir(f"/proc/{pid}/fd"):
            taken = _LIBC.syscall(_PIDFD_GETFD, handle, int(name), 0)
            if taken < 0:
                continue
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(taken).st_mode):
                    network = fcntl.ioctl(taken, _SIOCGSKNS)
                    count += os.fstat(network).st_ino != own
                    os.close(network)
            os.close(taken)
        os.close(handle)
    return count


class Gateway:
    """A running one, which is started anew where it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "clawproxy", "serve", "--state", str(STATE), "--config", "/srv/serve.toml"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(),
            )  # fmt: skip
            for _ in range(1200):
                if "running" in _status():
                    return
                time.sleep(0.05)
            raise RuntimeError("the gateway does not start")

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


def _status() -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(STATE / "admin.sock"))
        except OSError:
            return ""
        return "running"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    return {**kept, "OPENAI_API_KEY": "sk-nobody", "HOME": "/root"}


@dataclass
class Job:
    """One ``clawproxy run --isolate``, and how it will be killed."""

    process: subprocess.Popen[bytes]
    output: Path
    stage: str
    """The clock starts when this part of it is there: a word of ``KINDS``, or nothing for at once."""
    order: list[tuple[float, list[str]]]
    """When to kill what, in seconds since then."""
    clock: float = 0
    killed: list[str] = field(default_factory=list)

    def parts(self, gateway: int) -> dict[str, list[int]]:
        """The processes of this job that can be killed."""
        known = processes()
        run = [self.process.pid] if self.process.poll() is None else []
        wardens = [pid for of in run for pid in children(of, known) if "clawproxy.cage.warden" in known[pid][1]]
        first = [pid for warden in wardens for pid in children(warden, known)]
        agents = [pid for one in first for pid in children(one, known)]
        return {
            "run": run,
            "gateway": [gateway] if gateway else run,
            "warden": wardens,
            "first process": first,
            "agent": agents,
        }

    def act(self, gateway: int) -> Counter[str]:
        """Kill what is due; how many of each kind."""
        done: Counter[str] = Counter()
        if not self.order:
            return done
        parts = self.parts(gateway)
        if not self.clock and (not self.stage or parts[self.stage] or not parts["run"]):
            self.clock = time.monotonic()
        if not self.clock or time.monotonic() < self.clock + self.order[0][0]:
            return done
        _, kinds = self.order.pop(0)
        for kind in kinds:
            for pid in parts[kind]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    done[kind] += 1
                    self.killed.append(kind)
        return done


def start_job(rng: random.Random, number: int) -> Job:
    """Start one, and decide how it will be killed."""
    output = Path(f"/shared/job-{number}.txt")
    more = rng.choice(([], ["--pids", "100", "--memory", "800M"], ["--private-tmp"], ["--user", "agent"]))
    command = [sys.executable, "-m", "clawproxy", "run", "--isolate", "--state", str(STATE), "--contract", "sdk"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, *more, "--", "bash", "-c", _AGENT], cwd="/home/agent", env=_environment(),
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    stage = rng.choice(("", "run", "warden", "warden", "first process", "agent", "agent", "agent"))
    at = rng.uniform(0, _LATEST_S.get(stage, 0.6))
    order = [(at, rng.sample(KINDS, rng.randint(1, 3)))]
    if rng.random() < 0.4:
        order.append((at + rng.uniform(0, 0.3), rng.sample(KINDS, rng.randint(1, 5))))
    return Job(process, output, stage, order)


def host(*arguments: str) -> subprocess.Popen[bytes]:
    """``clawproxy host …``, as root of the machine."""
    return subprocess.Popen(
        [sys.executable, "-m", "clawproxy", "host", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
    )  # fmt: skip


def must(*arguments: str) -> None:
    """A command about the host that must not fail."""
    done = host(*arguments)
    _, errors = done.communicate(timeout=_COMMAND_S)
    if done.returncode:
        raise RuntimeError(f"host {' '.join(arguments)}: {errors.decode()[-2000:]}")


@dataclass(frozen=True)
class Check:
    """What ``host check --repair`` said, and its exit code."""

    code: int
    repaired: list[str]
    failing: list[str]

    def __str__(self) -> str:
        return f"exit {self.code}, repaired {self.repaired}, failing {self.failing}"


def check(*more: str) -> Check:
    """``host check --json``, with ``--repair`` if that is in ``more``."""
    done = host("check", "--json", *more)
    text, errors = done.communicate(timeout=_COMMAND_S)
    if not text:
        return Check(done.returncode, [], [errors.decode()[-1000:]])
    told = json.loads(text)
    failing = [f"{row['what']}: {row['found']}" for row in told["found"] if row["state"] == "fail"]
    return Check(done.returncode, told["repaired"], failing)


class Moving:
    """A fence that is installed or removed while the jobs run, by a command that is killed."""

    NAME, USER = "moving", "4300"

    def __init__(self, rng: random.Random, *, removing: bool) -> None:
        if removing:
            must("install", "--user", self.USER, "--name", self.NAME)
        self._begun = self._state()
        self._process = host("remove", self.NAME) if removing else host("install", *self._around())
        self._kind = "host remove" if removing else "host install"
        self._seen = rng.random() < 0.7
        """The clock starts when it has changed the first thing, else at once."""
        self._at = rng.uniform(0, 0.06 if self._seen else 1.5)
        self._clock = 0.0 if self._seen else time.monotonic()

    @classmethod
    def _around(cls) -> tuple[str, ...]:
        return ("--user", cls.USER, "--name", cls.NAME)

    def act(self) -> Counter[str]:
        """Kill it when that is due."""
        if self._process.poll() is not None:
            return Counter()
        if not self._clock and self._state() != self._begun:
            self._clock = time.monotonic()
        if not self._clock or time.monotonic() < self._clock + self._at:
            return Counter()
        self._process.kill()
        self._process.wait()
        return Counter({self._kind: 1})

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    @staticmethod
    def _state() -> tuple[int, ...]:
        return tuple(place.stat().st_mtime_ns for place in (FENCES, _UNITS))

    def end(self) -> list[str]:
        """After the repair it is there as a whole, or not at all. It is gone afterwards."""
        self._process.wait(_COMMAND_S)
        _ = self._process.communicate()
        parts = {
            "wanted": (FENCES / f"{self.NAME}.json").exists(),
            "rules written down": (FENCES / f"{self.NAME}.nft").exists(),
            "loaded at boot": (_UNITS / f"sysinit.target.wants/clawproxy-fence@{self.NAME}.service").is_symlink(),
            "in force": f"{_TABLE}{self.NAME}" in _say("nft", "list", "tables").split(),
        }
        must("remove", self.NAME)
        return [] if len(set(parts.values())) == 1 else [f"a fence is there in part: {parts}"]


def one_round(rng: random.Random, number: int, gateway: Gateway, told: Told) -> list[str]:
    """Jobs side by side; returns what was left of them."""
    served = number % 2 == 1
    if served:
        gateway.start()
    else:
        gateway.end()
    before = look(gateway.pid)
    moving = Moving(rng, removing=number % 4 >= 2)
    jobs = [start_job(rng, number * _SIDE_BY_SIDE + index) for index in range(_SIDE_BY_SIDE)]
    end = time.monotonic() + _STAGE_S
    while (any(job.order for job in jobs) or not moving.is_over) and time.monotonic() < end:
        for job in jobs:
            told.killed += job.act(gateway.pid)
        told.killed += moving.act()
        time.sleep(0.005)
    faults: list[str] = []
    for job in jobs:
        if not set(job.killed) - {"gateway"}:
            job.process.kill()  # nothing was there to be killed, or the gateway alone, which an agent may outlive
            told.killed["run"] += 1
        try:
            job.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            faults.append(f"run did not end after {job.killed} were killed")
            job.process.kill()
            job.process.wait()
        told.came["the agent ran" if "started" in job.output.read_text() else "before the agent"] += 1
    if served and gateway.pid not in processes():
        gateway.start()
    if rng.random() < 0.3:
        _kill_a_repair(rng, told.killed)
    faults += _repaired(told) + moving.end() + _left(before, gateway.pid)
    return [f"round {number}: {what}" for what in faults]


def _kill_a_repair(rng: random.Random, killed: Counter[str]) -> None:
    process = host("check", "--repair")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=rng.uniform(0.2, 1.5))
    if process.poll() is None:
        process.kill()
        killed["host check --repair"] += 1
    process.communicate()


def _repaired(told: Told) -> list[str]:
    """The command, twice: whatever it repaired, the second time there is nothing."""
    first, second = check("--repair"), check("--repair")
    told.first[str(first.code)] += 1
    told.second[str(second.code)] += 1
    told.repaired += Counter(re.sub(r"\d+|/\S+", "…", line) for line in first.repaired)
    faults = [f"the first host check --repair: {first}"] if first.code else []
    if second.code or second.repaired or second.failing:
        faults.append(f"the second host check --repair: {second}")
    return faults


def _left(before: Left, gateway: int) -> list[str]:
    """What is left after the command, once the gateway has had a moment."""
    end = time.monotonic() + 30
    while found := look(gateway).beside(before):
        if time.monotonic() > end:
            return found
        time.sleep(0.1)
    return []


@dataclass
class Told:
    """What is counted over all rounds."""

    killed: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    """Exit codes of the first ``host check --repair`` of each round, and of the second."""
    second: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)


def prepare() -> None:
    """The gateway's configuration and keys, a host with a fence around who the jobs run as."""
    os.umask(0o022)
    Path("/srv/serve.toml").write_text(
        '[listen]\nreverse = "127.0.0.1:0"\nregular = "127.0.0.1:0"\n'
        '[providers.openai]\ncredential = "env:OPENAI_API_KEY"\n'
    )
    StateDir(STATE).ensure_keys()
    (_UNITS / "sysinit.target.wants").mkdir(parents=True, exist_ok=True)
    must("install", "--user", "agent", "--name", "standing")


def main(arguments: Sequence[str]) -> None:
    """Do the rounds."""
    rounds, seed = int(arguments[0]), int(arguments[1])
    prepare()
    rng, gateway, told = random.Random(seed), Gateway(), Told()
    faults: list[str] = []
    for number in range(rounds):
        faults += one_round(rng, number, gateway, told)
    gateway.end()
    repairs = {"first": told.first, "second": told.second, "repaired": told.repaired}
    counted = {"rounds": rounds, "jobs": rounds * _SIDE_BY_SIDE, "killed": told.killed, "came": told.came}
    print(json.dumps({**counted, "repairs": repairs, "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1:])
