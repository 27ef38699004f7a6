"""Sockets that the host makes while a job runs: by path they are there, and nobody can connect to them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawproxy.cage import cage as cage_module

from .rig import PYTHON, SYSTEM_PATH, caged, needs_root, python_caged

pytestmark = needs_root

CONNECT = """
import socket, sys, time
seen = 'nothing'
for _ in range(10):
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(PATH)
            print('connected')
            sys.exit()
    except OSError as err:
        seen = type(err).__name__
    time.sleep(0.05)
print(seen)
"""
READY = "print('up', flush=True); input()"
WRITE = """
try:
    with open(PATH, 'w') as file:
        file.write('x')
    print('written')
except OSError as err:
    print(type(err).__name__)
"""


@pytest.fixture(params=["/srv", "/opt", "/var/lib", "/tmp", "/var/tmp"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the host that any user may use."""
    if not os.path.isdir(request.param):
        pytest.skip(f"no {request.param} here")
    made = Path(tempfile.mkdtemp(prefix="clawproxy-test-", dir=request.param))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def connects(folder: Path) -> str:
    """What a job gets from a service that starts once the job runs."""
    path = folder / "late.sock"
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rw") as job, socket.socket(socket.AF_UNIX) as service:
        with caged(user="nobody", stdio=(theirs.fileno(),) * 3) as cage:
            cage.start([PYTHON, "-c", f"{READY}\nPATH = {str(path)!r}{CONNECT}"], {"PATH": SYSTEM_PATH})
            assert job.readline() == "up\n"
            service.bind(str(path))
            path.chmod(0o777)
            service.listen()
            job.write("\n")
            job.flush()
            cage.wait()
        theirs.close()
        return job.read().strip()


def test_a_socket_that_is_made_later_cannot_be_connected_to(folder: Path) -> None:
    assert connects(folder) in ("ConnectionRefusedError", "FileNotFoundError")


def test_one_that_is_there_already_cannot_either(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "late.sock"))
        (folder / "late.sock").chmod(0o777)
        sock.listen()
        said = python_caged(f"PATH = {str(folder / 'late.sock')!r}{CONNECT}", user="nobody").out.strip()
        assert said in ("ConnectionRefusedError", "FileNotFoundError", "PermissionError")


def test_without_it_a_socket_that_is_made_later_would_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "from clawproxy.cage import view; view.hold_still = list\n"
        "import sys\nfrom clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
    )
    monkeypatch.setattr(cage_module, "WARDEN", ("-c", program))
    assert connects(folder) == "connected"


def test_what_the_job_writes_outside_of_its_folders_does_not_reach_the_host(folder: Path) -> None:
    said = python_caged(f"PATH = {str(folder / 'file')!r}{WRITE}", user="nobody").out.strip()
    assert said == ("written" if str(folder).startswith(("/tmp", "/var/tmp")) else "OSError")
    assert not (folder / "file").exists()


def test_the_folder_that_it_works_in_is_the_hosts(folder: Path) -> None:
    (folder / "given").write_text("read me")
    program = f"print(open('given').read()); PATH = 'file'{WRITE}"
    assert python_caged(program, cwd=str(folder)).out.split("\n")[:2] == ["read me", "written"]
    assert (folder / "file").read_text() == "x"


def test_programs_and_libraries_are_where_they_were() -> None:
    assert python_caged("import ssl, json, sqlite3; print('fine')").out.strip() == "fine"
    assert PYTHON.startswith("/")


def test_a_folder_that_is_closed_stays_closed() -> None:
    top = Path("/root")
    program = "import os; print(oct(os.stat('/root').st_mode & 0o7777), os.stat('/root').st_uid)"
    assert python_caged(program, user="nobody").out.strip() == f"{oct(top.stat().st_mode & 0o7777)} 0"
