"""One of two jobs side by side: its own calls, calls in the other's name, and a look for the other on the network.

``python start_pair.py < plan``: reads JSON lines: ``own``, ``other`` (``model``, ``path``, ``handle``), ``name``,
``rounds``. Prints one line of JSON: the status of each call by what it was, and the names of all listeners it met.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

from .tls import blind

_PORT = 7000
_SIBLINGS = (1, 2, 3, 5, 6, 9, 10)


def call(host: str, head: str, body: bytes = b"", *, handle: str | None = None) -> int:
    """One HTTPS request by the system's resolver; its status, or 0 for none."""
    token = f"x-cst: {handle}\r\n" if handle is not None else ""
    text = f"{head} HTTP/1.1\r\nhost: {host}\r\n{token}content-length: {len(body)}\r\nconnection: close\r\n"
    if body:
        text += "content-type: application/json\r\n"
    try:
        with (
            socket.create_connection((host, 443), timeout=30) as plain,
            blind().wrap_socket(plain, server_hostname=host) as sock,
        ):
            sock.settimeout(30)
            sock.sendall(text.encode() + b"\r\n" + body)
            return int(sock.recv(4096).split(b" ")[1])
    except (OSError, IndexError, ValueError):
        return 0


def ask_model(model: str, handle: str | None = None) -> int:
    """A small model call."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
    return call("api.openai.com", "POST /v1/chat/completions", body, handle=handle)


def main() -> None:
    """Do it all, so often as the plan says."""
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    own, other, host = plan["own"], plan["other"], plan["host"]
    _listen(plan["name"])
    tried: Counter[str] = Counter()
    met: set[str] = set()
    for _ in range(plan["rounds"]):
        for what, status in (
            ("own model", ask_model(own["model"])),
            ("own model, own handle", ask_model(own["model"], own["handle"])),
            ("other's model", ask_model(other["model"])),
            ("own model, other's handle", ask_model(own["model"], other["handle"])),
            ("other's model, other's handle", ask_model(other["model"], other["handle"])),
            ("own host", call(host, f"GET {own['path']}")),
            ("other's path", call(host, f"GET {other['path']}")),
            ("other's path, other's handle", call(host, f"GET {other['path']}", handle=other["handle"])),
        ):
            tried[f"{what}: {status}"] += 1
        met |= _meet()
    print(json.dumps({"tried": tried, "met": sorted(met)}), flush=True)


def _listen(name: str) -> None:
    """Say our name to whoever connects, on every address that we have."""

    def serve(server: socket.socket) -> None:
        while True:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                peer.sendall(name.encode())

    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        server = socket.create_server((address, _PORT), family=family)
        threading.Thread(target=serve, args=(server,), daemon=True).start()


def _meet() -> set[str]:
    met: set[str] = set()
    for last in _SIBLINGS:
        for address in (f"198.18.0.{last}", f"fd63:6c61:7770::{last}"):
            with suppress(OSError), socket.create_connection((address, _PORT), timeout=2) as sock:
                sock.settimeout(2)
                met.add(sock.recv(100).decode() or "nothing")
    return met
