"""What a job sees of the host, and what it may use."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.cage.cage import check_stdio
from clawproxy.cage.limits import sweep
from clawproxy.cage.plan import Limits
from clawproxy.cage.users import choose_user

from .rig import caged, needs_root, python_caged, run_caged

pytestmark = needs_root


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everyone may use."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """The same, where what a job writes is written through."""
    with tempfile.TemporaryDirectory(dir="/srv") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_sockets_of_the_host_lead_nowhere_also_those_with_relative_names(shared: Path) -> None:
    before = os.getcwd()
    with socket.socket(socket.AF_UNIX) as by_path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as relative:
        by_path.bind(f"{shared}/with a space.sock")
        by_path.listen()
        os.chdir(shared)
        try:
            relative.bind("relative.sock")
            os.chmod("relative.sock", 0o777)
            Path(f"{shared}/with a space.sock").chmod(0o777)
            program = f"""
import os, socket
for name, kind in (("with a space.sock", socket.SOCK_STREAM), ("relative.sock", socket.SOCK_DGRAM)):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        print(os.path.exists({str(shared)!r} + "/" + name), sock.connect_ex({str(shared)!r} + "/" + name) != 0)
"""
            done = python_caged(program, user="nobody")
        finally:
            os.chdir(before)
    assert done.out == "True True\n" * 2, done


def test_what_is_masked_cannot_be_moved_away_with_the_directories_above_it(open_folder: Path) -> None:
    state, key = open_folder / "a" / "b" / "state", open_folder / "keys" / "openai"
    state.mkdir(parents=True)
    key.parent.mkdir()
    key.write_text("secret")
    for path in (open_folder, *state.parents[:2], key.parent):
        os.chown(path, 65534, 65534)
    program = """
import os
for path in ("a", "a/b", "a/b/state", "keys", "keys/openai"):
    try:
        os.rename(path, path + "2")
        print("moved", path)
    except OSError as err:
        print(err.strerror)
os.mkdir("a/b/mine")
os.rename("a/b/mine", "a/b/own")
"""
    hidden = (str(state), str(key))
    done = python_caged(program, user="nobody", cwd=str(open_folder), masked=hidden)
    assert (done.code, set(done.out.splitlines())) == (0, {"Device or resource busy"}), done
    assert state.is_dir()
    assert key.read_text() == "secret"


FROZEN = """
import os
def attempt(what, *arguments):
    try:
        what(*arguments)
        print("done")
    except OSError as err:
        print(err.strerror)
attempt(open, "venv/lib/module.py", "a")
attempt(os.unlink, "venv/bin/python")
attempt(os.mkdir, "venv/lib/more")
attempt(os.rename, "venv/lib", "venv/lib2")
attempt(os.chmod, "venv/lib/module.py", 0o777)
attempt(os.rename, "venv", "venv2")
open("work", "w").write("mine")
"""


@pytest.mark.parametrize("frozen", [True, False])
def test_what_root_runs_is_read_only_where_the_jobs_user_could_change_it(open_folder: Path, frozen: bool) -> None:
    venv = open_folder / "venv"
    for folder in ("bin", "lib"):
        (venv / folder).mkdir(parents=True)
    for name in ("bin/python", "lib/module.py"):
        (venv / name).touch()
    for path in (open_folder, venv, *venv.rglob("*")):
        os.chown(path, 65534, 65534)
    paths = (str(venv), str(venv / "bin"), "/usr", str(open_folder))  # the last is what the job works in
    done = python_caged(FROZEN, user="nobody", cwd=str(open_folder), frozen=paths if frozen else ())
    assert done.code == 0, done
    said = done.out.splitlines()
    if frozen:
        assert said == ["Read-only file system"] * 5 + ["Device or resource busy"]
        assert (venv / "bin" / "python").exists()
    else:
        assert said[:3] == ["done"] * 3
    assert (open_folder / "work").read_text() == "mine"


def test_a_private_tmp_hides_the_hosts_and_keeps_the_working_directory(shared: Path) -> None:
    (shared / "work").mkdir(mode=0o777)
    (shared / "work").chmod(0o777)
    (shared / "beside").write_text("x")
    done = run_caged(
        ["sh", "-c", f"pwd; ls {shared}; echo made > file; touch /tmp/mine && echo mine"],
        cwd=str(shared / "work"), user="nobody", private_tmp=True,
    )  # fmt: skip
    assert done.out.split() == [str(shared / "work"), "work", "mine"], done
    assert (shared / "work" / "file").read_text() == "made\n"
    assert not Path("/tmp/mine").exists()


def test_a_dynamic_user_has_a_name_a_home_and_a_tmp_of_its_own(shared: Path) -> None:
    look = f"whoami; cd ~ && pwd && touch here; ls {shared} 2>&1 | wc -l; id -G"
    done = run_caged(["sh", "-c", look], env={"HOME": "/run/clawproxy/home"})
    name, home, lines, groups = done.out.split()
    assert name.startswith("clawjob")
    assert home == "/run/clawproxy/home"
    assert lines == "1"  # it is not there
    assert len(groups.split()) == 1


def test_all_that_a_job_can_write_to_memory_is_less_than_the_machine_has() -> None:
    look = """
import os
places = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/run/clawproxy/home")
rooms = {os.stat(path).st_dev: os.statvfs(path) for path in places}
print(sum(room.f_blocks * room.f_frsize for room in rooms.values()), sum(room.f_files for room in rooms.values()))
"""
    done = python_caged(look)
    room_bytes, files = map(int, done.out.split())
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert room_bytes < 0.6 * memory_bytes
    assert files < 2_000_000


def test_devices_proc_and_sys_are_the_jobs_own() -> None:
    done = run_caged(
        [
            "sh",
            "-c",
            "ls /dev | tr '\\n' ' '; echo; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net; touch /sys/x 2>&1; ls /run",
        ]
    )
    devices, processes, *rest = done.out.splitlines()
    assert set(devices.split()) == {
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert int(processes) <= 4
    assert rest[:2] == ["eth0", "lo"]
    assert rest[-3:] == ["clawproxy", "lock", "user"]


def test_the_first_process_cannot_be_touched_by_the_agent() -> None:
    program = """
import os, signal
for attempt in (lambda: open("/proc/1/mem", "rb"), lambda: os.listdir("/proc/1/fd"),
        lambda: open("/proc/1/environ").read(), lambda: os.kill(1, signal.SIGKILL), lambda: os.kill(1, signal.SIGTERM)):
    try:
        attempt()
        print("allowed")
    except PermissionError:
        print("refused")
"""
    assert python_caged(program).out == "refused\n" * 5


def test_processes_that_the_command_leaves_behind_are_ended() -> None:
    marker = f"611.{os.getpid()}"
    done = run_caged(["sh", "-c", f"setsid sleep {marker} & exit 4"])
    assert done.code == 4
    assert subprocess.run(["pgrep", "-f", f"sleep {marker}"], check=False).returncode == 1


@pytest.mark.parametrize("what", ["directory", "tcp", "datagram", "listener", "block device"])
def test_descriptors_that_lead_out_are_not_passed_on(what: str, tmp_path: Path) -> None:
    if what == "block device":
        path = next((str(p) for p in Path("/dev").iterdir() if p.is_block_device()), None)
        if path is None:
            pytest.skip("no block device here")
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elif what == "directory":
        fd = os.open("/", os.O_RDONLY)
    elif what == "tcp":
        one, two = socket.socketpair(socket.AF_UNIX)
        listener = socket.create_server(("127.0.0.1", 0))
        fd = socket.create_connection(listener.getsockname()).detach()
        one.close()
        two.close()
        listener.close()
    elif what == "datagram":
        fd = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach()
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        fd = sock.detach()
    with pytest.raises(ClawproxyError) as caught:
        check_stdio((fd, 1, 2))
    os.close(fd)
    assert caught.value.reason == "STDIO_INVALID"


def test_pipes_files_and_connected_stream_sockets_are_passed_on() -> None:
    one, two = socket.socketpair()
    read, write = os.pipe()
    with one, two, tempfile.TemporaryFile() as file:
        check_stdio((read, one.fileno(), file.fileno()))
        os.close(read)
        os.close(write)


def test_limits_bound_all_processes_together_and_are_told() -> None:
    program = """
import os, time
made = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
print(made < 60)
"""
    assert python_caged(program, limits=Limits(pids=50)).out == "True\n"
    eats = "x = bytearray(400 << 20); print('had it')"
    assert python_caged(eats).out == "had it\n"
    done = python_caged(eats, limits=Limits(memory_bytes=200 << 20))
    assert done.out == ""
    assert done.code != 0


def test_limits_hold_without_a_cgroup_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from clawproxy.cage import cage as module

    program = "from clawproxy.cage import limits; limits.Cgroups._make = lambda *a: None\n"
    program += "import sys\nfrom clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
    monkeypatch.setattr(module, "WARDEN", ("-c", program))
    with caged(limits=Limits(memory_bytes=200 << 20, pids=50)) as cage:
        assert cage.limits == {}
    done = python_caged("x = bytearray(400 << 20); print('had it')", limits=Limits(memory_bytes=200 << 20))
    assert "MemoryError" in done.err


def test_cgroups_of_cages_that_are_gone_are_swept() -> None:
    places = [
        path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if (path / "cgroup.procs").exists()
    ]
    if not places:
        pytest.skip("no cgroups here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = places[0] / f"clawproxy-cage-{dead.pid}"
    left.mkdir()
    sweep()
    assert not left.exists()


def test_who_the_agent_is(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    nobody = choose_user("nobody", "/").user
    assert (nobody.name, nobody.dynamic) == ("nobody", False)
    os.chown(shared, nobody.uid, nobody.gid)
    assert choose_user(None, str(shared)).user == nobody
    one, two = choose_user(None, "/"), choose_user(None, "/")
    assert one.user.dynamic
    assert one.user.uid != two.user.uid
    monkeypatch.setenv("SUDO_UID", str(nobody.uid))
    assert choose_user(None, "/").user == nobody
    for name in ("root", "0", "no-such-user"):
        with pytest.raises(ClawproxyError) as caught:
            choose_user(name, "/")
        assert caught.value.reason == "USER_INVALID"
