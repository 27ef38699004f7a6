"""What of the job's files lives elsewhere is told, and an automounter is not asked for names from inside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clawproxy.cage import cage as cage_module
from clawproxy.cage.distant import distant_mounts
from clawproxy.cage.mountinfo import Mounted, read_mounts

from .rig import caged, needs_root

MOUNTINFO = r"""
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2
31 22 0:41 / /mnt/a\040b rw - fuse.sshfs you@there:/ rw
32 22 0:42 / /proc/fs/x rw - nfs x rw
33 22 0:43 / /run/user/1000/gvfs rw - fuse.gvfsd-fuse gvfsd rw
34 22 0:44 / /srv/Odd rw - fuse.Über! x rw
35 22 0:45 / /net rw - autofs auto rw
36 22 0:46 / /data rw - fuseblk /dev/sdb1 rw
37 22 0:47 / /share rw - 9p host rw
broken
"""


def test_a_place_is_read_whole_whatever_letters_it_has() -> None:
    lines = "30 22 0:40 / /дом\u2028é\r\\040x rw - nfs4 s:/ rw\n31 22 0:4 net:[7] /run/netns/a rw - nsfs nsfs rw\n"
    assert list(read_mounts(lines)) == [Mounted("nfs4", "/дом\u2028é\r x"), Mounted("nsfs", "/run/netns/a", "net:[7]")]


def test_file_systems_that_live_elsewhere_are_found_where_the_job_sees_them() -> None:
    found = distant_mounts(MOUNTINFO, ("/home/me", "/srv/work"))
    assert found == [
        Mounted("nfs4", "/home"),
        Mounted("fuse.sshfs", "/mnt/a b"),
        Mounted("fuse", "/srv/Odd"),
        Mounted("9p", "/share"),
    ]
    kept = distant_mounts(MOUNTINFO, ("/run/user/1000/gvfs/folder",))
    assert Mounted("fuse.gvfsd-fuse", "/run/user/1000/gvfs") in kept
    assert Mounted("autofs", "/net") in list(read_mounts(MOUNTINFO))
    assert len(distant_mounts(MOUNTINFO * 100, ())) == 16


@needs_root
def test_a_cage_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with caged() as cage:
        assert cage.distant == []
    program = "from clawproxy.cage import distant\ndistant._TYPES.add('ext4'); distant._TYPES.add('overlay')\n"
    program += "import sys\nfrom clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
    monkeypatch.setattr(cage_module, "WARDEN", ("-c", program))
    with caged() as cage:
        assert "/" in [path for _, path in cage.distant]


# an automounter's map whose daemon is this process: what is looked up in it is read from its pipe
AUTOMOUNT = """
import ctypes, json, os, select, sys, threading
sys.path.insert(0, sys.argv[1])
os.environ["PYTHONPATH"] = sys.argv[1]
from clawproxy.cage import kernel, view
from clawproxy.cage.limits import Limits
from tests.cage.rig import PYTHON, run_caged
kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
kernel.mount("tmpfs", "/srv", "tmpfs")
for folder in ("/srv/net", "/srv/home", "/srv/home/net"):
    os.mkdir(folder)
os.chmod("/srv/home", 0o755)
reading, writing = os.pipe()
# of another process group than the job's: those of the daemon's own are not asked about
options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect"
place = sys.argv[2]
try:
    kernel.mount("auto", place, "autofs", 0, options)
except OSError as err:
    print(json.dumps({"skip": str(err)}))
    raise SystemExit
os.close(writing)
code = (
    "import os, signal, sys\\n"
    "signal.alarm(2)\\n"
    "try: os.stat(sys.argv[1] + '/c2VjcmV0')\\n"
    "except OSError as err: print(type(err).__name__)\\n"
)
if sys.argv[3] == "outside":
    import subprocess
    done = subprocess.run([PYTHON, "-c", code, place], capture_output=True, text=True, start_new_session=True)
    said = done.stdout
else:
    done = run_caged([PYTHON, "-c", code, place], cwd=sys.argv[4])
    said = done.out
asked = b""
while select.select([reading], [], [], 0.2)[0]:
    more = os.read(reading, 4096)
    if not more:
        break
    asked += more
print(json.dumps({"asked": "c2VjcmV0" in asked.decode("latin-1"), "said": said.strip(), "code": done.returncode
    if hasattr(done, "returncode") else done.code}))
os._exit(0)
"""


def _automount(place: str, where: str, cwd: str = "/") -> dict[str, object]:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", AUTOMOUNT, str(root), place, where, cwd],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    if "skip" in told:
        pytest.skip(str(told["skip"]))
    return told


@needs_root
@pytest.mark.parametrize(("place", "cwd"), [("/srv/net", "/"), ("/srv/home/net", "/srv/home"), ("/media", "/")])
def test_an_automounter_is_not_asked_from_inside(place: str, cwd: str) -> None:
    assert _automount(place, "outside")["asked"] is True  # the control: the daemon gets the name
    told = _automount(place, "inside", cwd)
    assert told == {"asked": False, "said": "FileNotFoundError", "code": 0}
