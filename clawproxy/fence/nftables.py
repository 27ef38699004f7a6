"""The ``nft`` program, and how such programs are run. As root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from ..tokens.errors import ClawproxyError

_TIMEOUT_S = 20
_SBIN = ("/usr/sbin", "/sbin")


def load(rules: str, *, dry: bool = False) -> None:
    """Load a ruleset as one step, or only check it. Raises ``ClawproxyError`` (FENCE_FAILED): then nothing changed."""
    done = _nft(["--check", "-f", "-"] if dry else ["-f", "-"], rules)
    if done.returncode:
        line = next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr).strip()
        raise ClawproxyError(
            "FENCE_FAILED", "nftables did not take the rules", where="nft", got=line[:200],
            remedy="run it as root, with nftables; a cgroup must exist, and be of version 2",
        )  # fmt: skip


def delete_table(table: str) -> None:
    """Take a table away, if it is there."""
    load(f"table inet {table}\ndelete table inet {table}\n")


def listed(table: str) -> list[Any] | None:
    """What is loaded of a table, without numbers that change; None where there is none."""
    return _plain(_nft(["-j", "list", "table", "inet", table]))


def tables(prefix: str) -> list[str]:
    """The names of the tables that begin with ``prefix``."""
    found = json.loads(_nft(["-j", "list", "tables"]).stdout or "{}").get("nftables", [])
    names = [row["table"]["name"] for row in found if "table" in row]
    return sorted(name for name in names if name.startswith(prefix))


def as_listed(rules: str, table: str) -> list[Any] | None:
    """How ``listed`` would show these rules: they are loaded into a network namespace that ends with the command."""
    script = 'nft -f - && nft -j list table inet "$0"'
    command = ["unshare", "--net", "sh", "-c", script, table]
    environment = os.environ | {"PATH": _path()}
    done = subprocess.run(
        command, input=rules, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment
    )
    return _plain(done)


def _plain(done: subprocess.CompletedProcess[str]) -> list[Any] | None:
    if done.returncode:
        return None
    rows = [row for row in json.loads(done.stdout)["nftables"] if "metainfo" not in row]
    for row in rows:
        for thing in row.values():
            for name in ("handle", "packets", "bytes"):
                thing.pop(name, None)
    return rows


def run_program(
    name: str, arguments: Sequence[str], text: str = "", *, package: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program of root's to its end. Raises ``ClawproxyError`` (FENCE_FAILED) where it is not there."""
    program = shutil.which(name, path=_path())
    if program is None:
        raise ClawproxyError("FENCE_FAILED", f"{name} is not installed", where=name, remedy=f"apt install {package}")
    return subprocess.run(
        [program, *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )


def _nft(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return run_program("nft", arguments, text, package="nftables")


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))
