"""What else lives on the test's machine, and writes down whatever reaches it: services, proxies, sockets, another job.

``python -m tests.escape.neighbours NOTES SECRETS RESTLESS`` in the machine's namespaces, as root. Says ``ready``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .internet import is_dns
from .notes import Notes

SERVICE_PORT, LOOPBACK_PORT, OTHER_PORT = 7777, 7778, 7000
OTHER4, OTHER6 = "10.77.0.2", "fd77::2"
SOCKETS = ("/run/docker.sock", "/run/dbus/system_bus_socket", "/tmp/ssh-x/agent.sock", "/srv/app.sock")
LATE = ("/tmp/late/agent.sock", "/srv/late.sock", "/run/late.sock")
STATE = "/srv/claw-state"
ADMIN = f"{STATE}/admin-old.sock"
ABSTRACT = "escape-abstract"
SHM_KEY = 0x5EC2E7
QUEUE = "/escape-queue"
_RESOLVER = "9.9.9.9"
_PATIENCE_S = 3
_RTMGRP_LINK = 1
_ANEW_S = 0.4
_LIBC = ctypes.CDLL(None, use_errno=True)


def _thread(act: Callable[..., None], *args: object) -> None:
    threading.Thread(target=act, args=args, daemon=True).start()


def _tcp_server(address: str, port: int, serve: Callable[[socket.socket], None]) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, port), family=family, backlog=256)
    _thread(_accept, server, serve)


def _accept(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            peer, _ = server.accept()
            _thread(_guarded, serve, peer)


def _guarded(serve: Callable[[socket.socket], None], peer: socket.socket) -> None:
    with peer, contextlib.suppress(OSError, ValueError, IndexError):
        peer.settimeout(_PATIENCE_S)
        serve(peer)


class Neighbours:
    """All of it, on threads."""

    def __init__(self, notes: Path, secrets: dict[str, str]) -> None:
        self.notes = Notes(notes)
        self._secrets = secrets

    def start(self, *, restless: bool) -> None:
        """Open everything; ``restless`` with services that start anew all the time."""
        for address, port, by in (
            ("0.0.0.0", SERVICE_PORT, "host service"),
            ("::", SERVICE_PORT, "host service"),
            ("127.0.0.1", LOOPBACK_PORT, "host loopback"),
            ("::1", LOOPBACK_PORT, "host loopback"),
        ):
            _tcp_server(address, port, self._record(by))
            self._udp(address, port, by)
        for port in (3128, 8080):
            _tcp_server("0.0.0.0", port, self._http_proxy)
        _tcp_server("0.0.0.0", 1080, self._socks)
        self._forward_dns()
        for path in SOCKETS:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.chmod(os.path.dirname(path), 0o755)
            self._unix(path)
            os.chmod(path, 0o666)
        if restless:
            _thread(self._late)
        self._unix(ADMIN)
        os.chmod(ADMIN, 0o600)
        self._unix(b"\0" + ABSTRACT.encode())
        self._kept = os.open(f"{STATE}/secret.txt", os.O_RDONLY)
        self._shared()
        self._links()
        self._terminal()

    def _record(self, by: str) -> Callable[[socket.socket], None]:
        def serve(peer: socket.socket) -> None:
            while text := peer.recv(65_536):
                self.notes.add(by, text)
                peer.sendall(b"ok")

        return serve

    def _udp(self, address: str, port: int, by: str) -> None:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))

        def listen() -> None:
            while True:
                self.notes.add(by, sock.recv(65_536))

        _thread(listen)

    def _http_proxy(self, peer: socket.socket) -> None:
        """CONNECT and absolute URLs to anywhere, for anyone."""
        head = peer.recv(65_536)
        method, target, *_ = head.split(b" ")
        authority = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = (
            authority.rpartition(b":") if authority.rpartition(b":")[2].isdigit() else (authority, b"", b"80")
        )
        to = socket.create_connection((host.decode().strip("[]"), int(port or 80)), timeout=_PATIENCE_S)
        if method == b"CONNECT":
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            rest = head.split(b"\r\n\r\n", 1)[1]
        else:
            rest = head
        self._relay(peer, to, rest)

    def _socks(self, peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(b"\x05\x00")
        asked = peer.recv(100)
        to = socket.create_connection((socket.inet_ntoa(asked[4:8]), int.from_bytes(asked[8:10])), timeout=_PATIENCE_S)
        peer.sendall(b"\x05\x00\x00\x01" + bytes(6))
        self._relay(peer, to, b"")

    def _relay(self, one: socket.socket, two: socket.socket, first: bytes) -> None:
        def pump(source: socket.socket, to: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while text := source.recv(65_536):
                    to.sendall(text)

        with two:
            two.sendall(first)
            _thread(pump, two, one)
            pump(one, two)

    def _forward_dns(self) -> None:
        """A resolver for the machine and its network, which asks the world."""
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 53))

        def one(text: bytes, peer: tuple[str, int]) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
                out.settimeout(_PATIENCE_S)
                out.sendto(text, (_RESOLVER, 53))
                sock.sendto(out.recv(4096), peer)

        def listen() -> None:
            while True:
                text, peer = sock.recvfrom(65_536)
                self.notes.add("host dns", text)
                if is_dns(text):
                    _thread(one, text, peer)

        _thread(listen)

    def _unix(self, path: str | bytes) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(64)
        _thread(_accept, server, self._take)

    def _take(self, peer: socket.socket) -> None:
        """Bytes, and descriptors, which are read."""
        text, fds, _, _ = socket.recv_fds(peer, 65_536, 8)
        self.notes.add("unix socket", text)
        for fd in fds:
            with os.fdopen(fd, "rb") as file:
                self.notes.add("descriptor", file.read(100))
        peer.sendall(b"ok")

    def _late(self) -> None:
        """Services that start anew all the time, at the same path."""
        os.makedirs("/tmp/late", 0o777, exist_ok=True)
        while True:
            servers = []
            for path in LATE:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                server = socket.socket(socket.AF_UNIX)
                server.bind(path)
                os.chmod(path, 0o666)
                server.listen(64)
                servers.append(server)
                _thread(_accept, server, self._take)
            time.sleep(_ANEW_S)
            for server in servers:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                server.close()

    def _shared(self) -> None:
        """A segment, a queue and a file that every user of the machine may use."""
        _LIBC.shmat.restype = ctypes.c_void_p
        number = _LIBC.shmget(SHM_KEY, 4096, 0o1666)
        at = _LIBC.shmat(number, None, 0)
        ctypes.memmove(at, self._secrets["shm"].encode(), len(self._secrets["shm"]))
        path = Path("/dev/shm/escape-secret")
        path.write_text(self._secrets["dev_shm"])
        path.chmod(0o666)
        os.umask(0)
        queue = _LIBC.mq_open(QUEUE.encode(), os.O_CREAT | os.O_RDONLY, 0o666, None)
        buffer = ctypes.create_string_buffer(8192)

        def listen() -> None:
            while (length := _LIBC.mq_receive(queue, buffer, 8192, None)) >= 0:
                self.notes.add("queue", buffer.raw[:length])

        _thread(listen)

    def _links(self) -> None:
        """Links that come and go in the machine's network, by their names."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        sock.bind((0, _RTMGRP_LINK))

        def listen() -> None:
            while True:
                with contextlib.suppress(OSError):
                    self.notes.add("link", sock.recv(65_536))

        _thread(listen)

    def _terminal(self) -> None:
        """Somebody's terminal."""
        ours, theirs = pty.openpty()
        os.chmod(os.ttyname(theirs), 0o622)

        def listen() -> None:
            while True:
                self.notes.add("terminal", os.read(ours, 4096))

        _thread(listen)


def other_job(notes: Path) -> int:
    """Another job in a network namespace of its own, with the addresses that every job has; returns its process."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.unshare(os.CLONE_NEWNET)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        book = Neighbours(notes, {})
        for address in ("0.0.0.0", "::"):
            _tcp_server(address, OTHER_PORT, book._record("other job"))
            book._udp(address, OTHER_PORT, "other job")
        os.write(ready[1], b"x")
        threading.Event().wait()
    os.read(ready[0], 1)
    subprocess.run(
        ["bash", "-euc", f"""
ip link add o0 type veth peer name eth0 netns {pid}
ip address add 10.77.0.1/24 dev o0; ip address add fd77::1/64 dev o0 nodad; ip link set o0 up
nsenter --net=/proc/{pid}/ns/net bash -euc '
  ip link set lo up; ip address add {OTHER4}/24 dev eth0; ip address add {OTHER6}/64 dev eth0 nodad
  ip address add 198.18.0.2/30 dev lo; ip address add fd63:6c61:7770::2/128 dev lo
  ip link set eth0 up; ip route add default via 10.77.0.1; ip -6 route add default via fd77::1'
ip route add 198.18.0.2/32 via {OTHER4}
ip -6 route add fd63:6c61:7770::2/128 via {OTHER6}
"""],
        check=True,
    )  # fmt: skip
    os.write(go[1], b"x")
    os.read(ready[0], 1)
    return pid


def main() -> None:
    """Be the machine's other inhabitants until killed."""
    notes, secrets = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    other_job(notes)
    Neighbours(notes, secrets).start(restless=sys.argv[3] == "1")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
