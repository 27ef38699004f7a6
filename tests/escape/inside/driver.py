"""Reads a plan from standard input (or the file named), does its attempts, each in a process of its own, and tells.

The plan is one JSON object: ``targets``, ``attempts`` (a list of name and nonce), ``at_once``, ``seconds`` for each.
A result is a line ``ATTEMPT {"name", "said", "error"}``; the last line is ``ATTEMPTS DONE``.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .attempt import ATTEMPTS, Targets, Try, targets_from

MODULES = (
    "direct",
    "names",
    "packets",
    "hosts",
    "unix_sockets",
    "files",
    "processes",
    "kernel",
    "namespaces",
    "links",
    "tls",
    "gateway_doors",
)
_MOST_SAID = 4_000
_HIGH = 700


def load() -> None:
    """Fill the table."""
    for module in MODULES:
        importlib.import_module(f"{__package__}.{module}")


def main() -> None:
    """Do what the plan on standard input says."""
    load()
    plan = json.loads(Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else sys.stdin.buffer.readline())
    targets = targets_from(plan["targets"])
    waiting = list(plan["attempts"])
    running: dict[int, tuple[str, int, float]] = {}
    while waiting or running:
        while waiting and len(running) < plan["at_once"]:
            row = waiting.pop(0)
            pid, reading = _start(row["name"], row["nonce"], targets, plan["seconds"])
            running[pid] = (row["name"], reading, time.monotonic() + plan["seconds"] + 1)
        for pid in list(running):
            name, reading, end = running[pid]
            done, _status = os.waitpid(pid, os.WNOHANG)
            if not done and time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                done = pid
            if done:
                del running[pid]
                _tell(name, reading)
        time.sleep(0.005)
    print("ATTEMPTS DONE", flush=True)


def _start(name: str, nonce: str, targets: Targets, seconds: float) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        os.set_blocking(reading, False)
        return pid, reading
    result: dict[str, Any] = {"said": None, "error": None}
    began = time.monotonic()
    try:
        os.close(reading)
        # out of reach of attempts that write into every descriptor
        low, writing = writing, fcntl.fcntl(writing, fcntl.F_DUPFD, _HIGH)
        os.close(low)
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        said = ATTEMPTS[name].act(Try(nonce, targets))
        result["said"] = said[:_MOST_SAID] if said else said
    except BaseException as err:
        result["error"] = f"{type(err).__name__}: {err}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        result["seconds"] = round(time.monotonic() - began, 2)
        os.write(writing, json.dumps(result).encode()[:60_000])
        os._exit(0)


def _too_long(*_: object) -> None:
    raise TimeoutError("took too long")


def _tell(name: str, reading: int) -> None:
    """Descendants of an attempt may hold the pipe open, so it is read as far as it goes."""
    try:
        text = os.read(reading, 65_536)
    except BlockingIOError:
        text = b""
    os.close(reading)
    result = json.loads(text) if text else {"said": None, "error": "killed: took too long"}
    print("ATTEMPT " + json.dumps({"name": name, **result}), flush=True)
