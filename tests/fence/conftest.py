"""A host of the tests' own, in a network namespace, with a route to a second one where everybody answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

ANSWERS = """
import socket, sys, threading
def stream(family, host, port):
    server = socket.create_server((host, port), family=family)
    def answer():
        while True:
            with server.accept()[0] as client:
                client.sendall(sys.argv[1].encode())
    threading.Thread(target=answer, daemon=True).start()
def datagrams(family, host, port):
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((host, port))
    def answer():
        while True:
            _, peer = server.recvfrom(4096)
            server.sendto(sys.argv[1].encode(), peer)
    threading.Thread(target=answer, daemon=True).start()
for place in sys.argv[2:]:
    kind, host, port = place.split(',')
    (stream if kind == 'tcp' else datagrams)(socket.AF_INET6 if ':' in host else socket.AF_INET, host, int(port))
print('ready', flush=True)
sys.stdin.read()
"""
ASK = """
import os, socket, sys
kind, host, port = sys.argv[1].split(',')
if len(sys.argv) > 2:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(*[int(sys.argv[2])] * 3)
family = socket.AF_INET6 if ':' in host else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    try:
        sock.connect((host, int(port)))
        if kind == 'udp':
            sock.send(b'hello')
        print(sock.recv(64).decode())
    except OSError as err:
        print(type(err).__name__)
"""
V4, V6 = "192.0.2.1", "2001:db8::1"
UID = 4242


@dataclass
class Talk:
    """What a script is told, and what it says."""

    stdin: IO[str]
    stdout: IO[str]


@dataclass
class Host:
    """The namespace of ``pid``; ``etc`` stands for its /etc."""

    pid: int
    etc: Path
    outside: Host | None = None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "--net", "--target", str(self.pid), *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def clawproxy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "clawproxy", "host", *arguments, "--etc", str(self.etc))

    def ask(self, place: str, uid: int | None = UID) -> str:
        """What a user gets from ``tcp|udp,host,port``: the server's name, or an error's."""
        return self.run(sys.executable, "-c", ASK, place, *([] if uid is None else [str(uid)])).stdout.strip()

    @contextlib.contextmanager
    def started(self, script: str) -> Iterator[Talk]:
        """A script that runs there, until the block ends."""
        command = ["nsenter", "--net", "--target", str(self.pid), sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield Talk(process.stdin, process.stdout)
            finally:
                process.kill()

    @contextlib.contextmanager
    def answering(self, name: str, *places: str) -> Iterator[None]:
        command = ["nsenter", "--net", "--target", str(self.pid), sys.executable, "-c", ANSWERS, name, *places]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            try:
                yield
            finally:
                server.kill()


def namespace() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 300"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("fences need root and nftables")
    near, far = namespace(), namespace()
    try:
        outside = Host(far.pid, tmp_path)
        host = Host(near.pid, tmp_path / "etc", outside)
        (host.etc / "systemd" / "system").mkdir(parents=True)
        setup = [
            (host, f"link add up0 type veth peer name down0 netns {far.pid}"),
            (host, "addr add 198.51.100.2/24 dev up0"),
            (host, "addr add 2001:db8:1::2/64 dev up0 nodad"),
            (host, "link set up0 up"),
            (outside, "addr add 198.51.100.1/24 dev down0"),
            (outside, "addr add 2001:db8:1::1/64 dev down0 nodad"),
            (outside, f"addr add {V4}/32 dev lo"),
            (outside, f"addr add {V6}/128 dev lo nodad"),
            (outside, "link set down0 up"),
            (host, "route add default via 198.51.100.1"),
            (host, "-6 route add default via 2001:db8:1::1"),
        ]
        for where, line in setup:
            done = where.run("ip", *line.split())
            assert done.returncode == 0, done.stderr
        ports = [f"{kind},{a},{p}" for kind, p in PLACES for a in (V4, V6)]
        with outside.answering("outside", *ports):
            yield host
    finally:
        for process in (near, far):
            process.kill()
            process.wait()


PLACES = [(kind, port) for port in (22, 53, 80, 443, 853, 4242) for kind in ("tcp", "udp")]
