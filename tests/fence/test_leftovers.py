"""What a cage leaves is told from a cage that lives, by what the kernel says of the process that it is for."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clawproxy.cage import alive
from clawproxy.cage.limits import Cgroups, empty_cgroups, sweep
from clawproxy.cage.plan import Limits
from clawproxy.fence import leftovers

from ..cage.rig import needs_root

pytestmark = needs_root

# run as process 1 of a namespace, as in a container; the cage lives until a line comes
FIRST = """
import os, sys
from clawproxy.cage import alive
from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.users import choose_user
assert os.getpid() == 1
null = os.open(os.devnull, os.O_RDWR)
chosen = choose_user(None, "/")
with Cage(make_plan(chosen.user, "/"), (null, null, null)) as cage:
    cage.start(["sleep", "1000"], {"PATH": os.environ["PATH"]})
    parent = open(f"/proc/{cage.warden_pid}/stat").read().rpartition(")")[2].split()[1]
    print(parent, alive.orphans(), len(list(alive.wardens())), flush=True)
    sys.stdin.readline()
"""


def test_a_cage_whose_maker_is_process_1_lives() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", FIRST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        # from the host, too, which sees it under other numbers
        mine = [pid for pid in alive.wardens() if alive.parent_of(alive.parent_of(pid)) == process.pid]
        assert mine
        assert not [pid for pid in mine if alive.is_orphan(pid)]
        process.communicate("\n", timeout=120)
    assert said.split(" ", 1)[0] == "1"  # what a warden has whose maker is gone
    assert said.split(" ", 1)[1] == "[] 2\n"


MAKER = """
import os, sys
from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.plan import Limits
from clawproxy.cage.users import choose_user
null = os.open(os.devnull, os.O_RDWR)
chosen = choose_user(None, "/")
with Cage(make_plan(chosen.user, "/", limits=Limits(pids=90)), (null, null, null)) as cage:
    cage.start(["sleep", "1000"], {"PATH": os.environ["PATH"]})
    print(cage.warden_pid, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("reaped", [True, False])
def test_a_warden_that_was_stopped_when_its_maker_was_killed_is_found_and_ended(reaped: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        warden = int(process.stdout.readline())
        assert warden not in alive.orphans()
        os.kill(warden, signal.SIGSTOP)
        process.kill()
        if reaped:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert warden in leftovers.find_leftovers().wardens
        done = leftovers.clear()
        assert f"cage: its process {warden} was ended" in done
        assert not leftovers.find_leftovers().wardens
        assert not list(empty_cgroups())


def test_a_process_that_calls_itself_by_odd_bytes_is_read_all_the_same() -> None:
    named = (
        "import sys\nopen('/proc/self/comm', 'wb').write(bytes([255]) + b') Z 1 ')\nprint(flush=True)\n"
        "sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", named, "clawproxy.cage.warden", "x", "9"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in alive.orphans()  # it says that it is of a cage, and nobody made one
        assert alive.parent_of(process.pid) == os.getpid()
        process.kill()


def test_a_cgroup_is_in_use_as_long_as_its_maker_holds_it_whatever_numbers_are_given_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # without decimals, among which the number of this process could be by chance
    monkeypatch.setattr(secrets, "token_hex", lambda bytes_: "ab" * bytes_)
    held = Cgroups(Limits(pids=100))
    if not held.paths:
        pytest.skip("no cgroups here")
    assert str(os.getpid()) not in held.paths[0].name
    assert held.paths[0] not in sweep()
    assert held.paths[0].exists()
    numbered = held.paths[0].with_name(f"clawproxy-cage-{os.getpid()}")
    numbered.mkdir()
    assert numbered in sweep()
    held.remove()
    assert not held.paths[0].exists()


def test_a_cgroup_that_is_swept_before_it_is_locked_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir
    swept: list[Path] = []

    def mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        real(path, mode, parents, exist_ok)
        if not swept:
            swept.extend(sweep(path.parent))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    held = Cgroups(Limits(pids=100))
    if not held.paths:
        pytest.skip("no cgroups here")
    assert held.paths[0] in swept
    assert held.paths[0].exists()
    held.take_in()
    (held.paths[0].parent / "cgroup.procs").write_text("0")
    held.remove()
    assert not held.paths[0].exists()


def test_a_cgroup_whose_last_process_is_still_ending_is_removed_however_the_clock_leaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [
        path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if (path / "cgroup.procs").exists()
    ]
    if not places:
        pytest.skip("no cgroups here")
    left, clock = places[0] / "clawproxy-cage-ending", itertools.count(step=10)
    left.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as process:
        (left / "cgroup.procs").write_text(str(process.pid))

        def sleep(_seconds: float) -> None:
            process.kill()
            process.wait()

        monkeypatch.setattr(leftovers, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=sleep))
        assert left not in leftovers._swept(waits=False)
        assert left in leftovers._swept(waits=True)
