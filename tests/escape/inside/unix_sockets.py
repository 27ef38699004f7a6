"""Unix sockets cross network namespaces: whoever sees the path, or shares the abstract space, can talk."""

from __future__ import annotations

import array
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from .attempt import Control, Try, attempt, must_one, try_all, within

_REQUEST = b"POST /containers/create HTTP/1.1\r\nhost: d\r\n\r\n"


def say(path: str | bytes, text: bytes) -> bytes:
    """Send to a socket of either kind."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.settimeout(1)
            try:
                sock.connect(path)
            except OSError as err:
                if err.errno == 91:  # EPROTOTYPE: the other kind
                    continue
                raise
            sock.sendall(text)
            sock.settimeout(0.2)
            with suppress(OSError):
                return sock.recv(4096)
            return b""
    raise OSError("no kind of socket fits")


@attempt("docker.sock", "the container engine of the machine", as_root=True)
def _docker(it: Try) -> None:
    paths = [path for path in it.to.sockets if "docker" in path]
    must_one(
        partial(say, path, _REQUEST + it.mark) for path in (*paths, "/run/podman/podman.sock", "/var/run/docker.sock")
    )


@attempt("dbus", "the message bus of the machine")
def _dbus(it: Try) -> None:
    paths = [path for path in it.to.sockets if "bus" in path]
    must_one(partial(say, path, b"\0AUTH EXTERNAL " + it.mark) for path in (*paths, "/var/run/dbus/system_bus_socket"))


@attempt("ssh agent", "the keys of whoever started the job")
def _agent(it: Try) -> None:
    paths = [path for path in it.to.sockets if "agent" in path]
    must_one(partial(say, path, it.mark) for path in (os.environ.get("SSH_AUTH_SOCK", "/nowhere"), *paths))


def _everywhere() -> Iterator[str]:
    """Every socket below the folders in which sockets lie, and what /proc/net/unix names."""
    seen = 0
    for top in ("/run", "/tmp", "/var/run", "/var/tmp", "/dev", "/srv", os.getcwd(), os.path.expanduser("~")):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in (".git", "proc", "sys")]
            for name in names:
                seen += 1
                path = os.path.join(folder, name)
                with suppress(OSError):
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        yield path
            if seen > 40_000:
                break
    with open("/proc/net/unix") as table:
        for line in table:
            if len(row := line.split()) > 7 and row[7].startswith("/"):
                yield row[7]


@attempt("every socket in sight", "each Unix socket that can be found by its path")
def _every(it: Try) -> None:
    must_one(partial(say, path, it.mark) for path in [*dict.fromkeys(_everywhere()), "/nowhere"])


@attempt("sockets made later", "a service of the machine's that starts, or starts anew, while the job runs")
def _later(it: Try) -> None:
    errors: list[str] = []
    for _ in within(1.5):
        errors += try_all(partial(say, path, it.mark) for path in it.to.late_sockets)
        time.sleep(0.05)
    if not errors:
        return
    raise OSError("; ".join(dict.fromkeys(errors))[:300])


@attempt("abstract socket", "a socket of the machine's without a path")
def _abstract(it: Try) -> None:
    say(b"\0" + it.to.abstract.encode(), it.mark)


@attempt("every abstract socket", "those that /proc/net/unix names")
def _abstracts(it: Try) -> None:
    with open("/proc/net/unix") as table:
        names = [row[7][1:] for line in table if len(row := line.split()) > 7 and row[7].startswith("@")]
    must_one(partial(say, b"\0" + name.encode(), it.mark) for name in dict.fromkeys([*names, "nobody"]))


@attempt("descriptors over a socket", "a descriptor is handed to a process outside, which reads it")
def _descriptors(it: Try) -> None:
    reading, writing = os.pipe()
    os.write(writing, it.mark)
    os.close(writing)

    def hand(path: str | bytes) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(path)
            sock.sendmsg([b"take"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reading]))])
            with suppress(OSError):
                sock.recv(100)

    must_one([*(partial(hand, path) for path in it.to.sockets), partial(hand, b"\0" + it.to.abstract.encode())])


@attempt("admin socket", "the gateway's own, by its path", control=Control.ROOT)
def _admin(it: Try) -> None:
    say(it.to.admin_socket, b'{"operation":"status","note":"' + it.mark + b'"}\n')


@attempt("admin socket, through a process", "the same by way of another process's root", control=Control.ROOT)
def _admin_proc(it: Try) -> None:
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    paths = [f"/proc/{pid}/root{it.to.admin_socket}" for pid in pids]
    must_one(partial(say, path, it.mark) for path in paths)


@attempt("admin socket, through a link", "a symbolic link in the working folder", control=Control.ROOT)
def _admin_link(it: Try) -> None:
    link = f"/tmp/link-{it.nonce}"
    os.symlink(it.to.admin_socket, link)
    try:
        say(link, it.mark)
    finally:
        os.unlink(link)
