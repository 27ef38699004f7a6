"""Without root: the same cage inside a user namespace, whose only user is the caller."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import PYTHON, needs_root
from .rootless import UID, run_rootless

pytestmark = needs_root  # to become someone else

CAGE = """
import json, os, sys
from clawproxy.cage.cage import Cage, make_plan
from clawproxy.cage.users import choose_user
argv = json.loads(sys.argv[1])
plan = json.loads(sys.argv[2])
with Cage(make_plan(choose_user(None, os.getcwd()).user, os.getcwd(), **plan)) as cage:
    found = [[p.name, p.outcome, p.seen] for p in cage.probe()]
    cage.start(argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    cage.sockets.tcp[0].settimeout(2)
    code = cage.wait()
    print(json.dumps({"code": code, "probes": found, "rootless": cage.plan.rootless}))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, UID, UID)
        Path(folder).chmod(0o755)
        yield Path(folder)


def caged(home: Path, *argv: str, **plan: object) -> tuple[str, dict[str, object]]:
    """What a command in a cage prints, and how that went."""
    done = run_rootless([sys.executable, "-c", CAGE, json.dumps(argv), json.dumps(plan)], cwd=home)
    assert done.returncode == 0, done.stderr
    *lines, told = done.stdout.splitlines()
    return "\n".join(lines), json.loads(told)


def test_every_probe_is_blocked_for_a_user_without_root_too(home: Path) -> None:
    _, told = caged(home, "true")
    probes = told["probes"]
    assert isinstance(probes, list)
    assert told["rootless"] is True
    assert [probe for probe in probes if probe[1] == "reached"] == []
    assert {name for name, outcome, _ in probes if outcome == "not tried"} <= {
        "groups", "admin-socket", "unix-sockets", "abstract-sockets", "masked-paths", "loopback-host-ports",
        "tcp4-host", "udp4-host", "tcp6-host", "udp6-host",
    }  # fmt: skip


def test_inside_it_is_the_caller_without_any_power(home: Path) -> None:
    out, _ = caged(
        home, "sh", "-c", "id -u; grep -h -E 'Cap(Eff|Bnd|Prm)|NoNewPrivs' /proc/self/status; umount /run; echo $?"
    )
    uid, *status, code = out.splitlines()
    assert uid == str(UID)
    assert {line.split()[1] for line in status if line.startswith("Cap")} == {"0000000000000000"}
    assert "NoNewPrivs:\t1" in status
    assert code == "32"


NESTED = """
import os, socket, sys
uid, gid = os.getuid(), os.getgid()
os.unshare = __import__("ctypes").CDLL(None).unshare
assert os.unshare(0x10000000 | 0x20000 | 0x40000000) == 0  # user, mount and network
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    open(f"/proc/self/{name}", "w").write(text)
libc = __import__("ctypes").CDLL(None)
print("root", os.getuid(), [name for _, name in socket.if_nameindex()])
places = (b"/run", b"/proc", b"/dev", b"/etc/resolv.conf")
print("umount", [libc.umount2(place, flags) for place in places for flags in (0, 2)])
print("bind", libc.mount(b"/", b"/mnt", None, 4096, None))
try:
    fd = os.open("/proc/1/ns/net", os.O_RDONLY)
    print("joined", libc.setns(fd, 0x40000000))
except OSError as err:
    print("joined", err.strerror)
"""


def test_a_user_namespace_below_gives_nothing(home: Path) -> None:
    """Mounts that were made above are locked together, and a new network has no link."""
    out, told = caged(home, PYTHON, "-c", NESTED, nested=True)
    assert told["code"] == 0, out
    root, umount, bind, joined = out.splitlines()
    assert root == "root 0 ['lo']"
    assert umount == f"umount {[-1] * 8}"
    assert bind == "bind -1"
    assert joined in ("joined Permission denied", "joined -1")


def test_run_isolate_works_without_root_and_says_what_that_means(home: Path) -> None:
    command = [sys.executable, "-m", "clawproxy", "run", "--isolate", "--state", str(home / "state"), "--job", "j"]
    command += ["--contract", "sdk", "--", "bash", "-c"]
    command += [f"id -u; ls -A {home}/state; cat; echo x > /dev/udp/1.1.1.1/443; exit 3"]
    done = run_rootless(command, cwd=home, env={"OPENAI_API_KEY": "sk-test"}, feed="given\n")
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == [str(UID), "given"]
    assert "it can change your files" in done.stderr
    assert "VERIFIED" in done.stderr
    assert "the door turned away: 1 QUIC (packets)" in done.stderr
    first = json.loads((home / "state" / "jobs" / "j" / "receipts.jsonl").read_bytes().splitlines()[0])
    isolation = first["body"]["payload"]["detail"]["isolation"]
    assert (isolation["user_namespace"], isolation["uid_changed"]) == (True, False)


def test_a_user_who_is_not_root_cannot_name_another(home: Path) -> None:
    command = [sys.executable, "-m", "clawproxy", "run", "--isolate", "--user", "nobody", "--state", str(home / "s")]
    done = run_rootless([*command, "--", "true"], cwd=home, env={"OPENAI_API_KEY": "sk-test"})
    assert done.returncode == 2
    assert "only root can run the job as another user" in done.stderr
