"""CPU per request of the gateway beside stock mitmdump, in one run on the same machine. Starts processes.

Each target is one process behind the same kind of listener (reverse, plain HTTP) in front of the same stand-in. Rounds
are interleaved, so that a slow moment of the machine hits all; the table has the best round of each, and all rounds.
CPU is user plus system time of the proxy process, threads included, from /proc.

Usage: ``python -m bench [--rounds N] [--into FILE]``; ``--into`` puts the table between the bench marks of FILE.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .load import SHAPES, Shape, run

_MARKS = ("<!-- bench -->", "<!-- /bench -->")
_HERE = Path(__file__).parent
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Target:
    """A proxy process under measurement."""

    name: str
    process: subprocess.Popen[str]
    port: int
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)
    rounds_ms: dict[str, list[float]] = field(default_factory=dict)
    """CPU milliseconds per request, by shape."""

    def cpu_s(self) -> float:
        """User and system time of the process so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def best_ms(self, shape: Shape) -> float:
        return min(self.rounds_ms[shape.name])


@contextlib.contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=_HERE.parent)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("bench: a target did not start")
    return line


def _stock(process: subprocess.Popen[str], port: int) -> Target:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return Target("stock mitmdump -q, stream = True", process, port)
        time.sleep(0.05)
    raise SystemExit("bench: mitmdump did not start")


def _ours(name: str, process: subprocess.Popen[str]) -> Target:
    return Target(name, process, **json.loads(_ready(process)))


@contextlib.contextmanager
def _targets(folder: Path) -> Iterator[list[Target]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            return stack.enter_context(_started(*arguments))

        upstream = _ready(start(sys.executable, "-m", "bench.upstream")).strip()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        mitmdump = start(
            str(Path(sys.executable).with_name("mitmdump")), "-q",
            "--mode", f"reverse:http://127.0.0.1:{upstream}@127.0.0.1:{port}",
            "--set", f"confdir={folder / 'mitmdump'}",
            "-s", str(_HERE / "stock_stream.py"),
        )  # fmt: skip
        yield [
            _stock(mitmdump, port),
            _ours("clawproxy engine, no gate", start(sys.executable, "-m", "bench.engine_target", upstream)),
            _ours(
                "clawproxy, tool gate off",
                start(sys.executable, "-m", "bench.gateway_target", upstream, str(folder / "ungated"), "ungated"),
            ),
            _ours(
                "clawproxy, everything on",
                start(sys.executable, "-m", "bench.gateway_target", upstream, str(folder / "gateway")),
            ),
        ]


def measure(targets: Sequence[Target], rounds: int) -> None:
    """Warm up, then all shapes, round by round, target by target."""
    for target in targets:
        for shape in SHAPES[:2]:
            asyncio.run(run(target.port, target.path, target.headers, shape, requests=32))
    for shape in SHAPES:
        for _ in range(rounds):
            for target in targets:
                before = target.cpu_s()
                asyncio.run(run(target.port, target.path, target.headers, shape))
                spent_ms = (target.cpu_s() - before) * 1000 / shape.requests
                target.rounds_ms.setdefault(shape.name, []).append(spent_ms)
                print(f"{shape.name}: {target.name}: {spent_ms:.2f} ms", file=sys.stderr, flush=True)


def table(targets: Sequence[Target]) -> str:
    """The result in Markdown."""
    lines = [
        f"CPU milliseconds per request, {_machine()}.",
        "",
        "| traffic | proxy | best round | beside stock | all rounds |",
        "|---|---|---:|---:|---|",
    ]
    for shape in SHAPES:
        for target in targets:
            ratio = target.best_ms(shape) / targets[0].best_ms(shape)
            rounds = " ".join(f"{value:.2f}" for value in target.rounds_ms[shape.name])
            lines.append(f"| {shape.name} | {target.name} | {target.best_ms(shape):.2f} | {ratio:.2f}× | {rounds} |")
    return "\n".join(lines)


def _machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} × {model}, Python {platform.python_version()}, {platform.system()} {platform.release()}"


def _into(path: Path, text: str) -> None:
    before, mark, rest = path.read_text().partition(_MARKS[0])
    after = rest.partition(_MARKS[1])[2]
    if not mark:
        raise SystemExit(f"bench: {path} has no {_MARKS[0]} … {_MARKS[1]}")
    path.write_text(f"{before}{_MARKS[0]}\n{text}\n{_MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="CPU per request beside stock mitmdump.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--into", type=Path, help="put the table between the bench marks of this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _targets(Path(folder)) as targets:
        measure(targets, arguments.rounds)
        text = table(targets)
    print(text)
    if arguments.into:
        _into(arguments.into, text)


if __name__ == "__main__":
    main()
