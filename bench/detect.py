"""How long looking for data takes: ``python -m bench.detect [--runs N] [--slow] [--adversarial N] [--budget-ms N]``.

Bodies of 200 KB as agents send them (prose, code, JSON, tables of numbers, an image in base64), each looked through
``--runs`` times, all detectors wanted; and ``--adversarial`` bodies of the same size that are made to take long
(``hostile``). Prints p50, p99 and the worst in milliseconds of CPU time of the thread, and of wall time, and ends with
1 where a bound does not hold. ``--slow`` does without hyperscan.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import sys
import threading
import time
from typing import Any

from clawproxy.policies.detect.engine import ScanError, Scanner
from clawproxy.policies.packaged import packaged_data_classes

from .hostile import BYTES, LETTERS, adversarial, chat


def _words(dice: random.Random, n: int) -> list[str]:
    return ["".join(dice.choices(LETTERS, k=dice.randint(2, 9))) for _ in range(n)]


ALL_FOUND = "2,000 customers, all found"


def _customer(dice: random.Random, words: list[str], n: int) -> str:
    first, last, street, city = dice.choices(words, k=4)
    phone = f"+1 {dice.randint(201, 989)} {dice.randint(201, 989)} {dice.randint(1000, 9999)}"
    mail = f"{first}.{last}@{street}.example.org"
    return f"{n};{first} {last};{dice.randint(1, 99)} {street} road;{city};{mail};{phone};active"


def usual(dice: random.Random) -> dict[str, Any]:
    """Bodies as agents send them, by name."""
    words = _words(dice, 3000)
    prose = " ".join(dice.choices(words, k=40_000))[:BYTES]
    lines = [
        f"    {a}_{b} = self.{c}({d!r}, key={n})"
        for n, (a, b, c, d) in enumerate(zip(*[iter(dice.choices(words, k=24_000))] * 4, strict=True))
    ]
    rows = [
        f"{n},{dice.random():.6f},2026-{n % 12 + 1:02}-11,{dice.randint(0, 10**9)},{dice.choice(words)}"
        for n in range(5000)
    ]
    data = [{"id": n, dice.choice(words): dice.choice(words), "value": dice.random()} for n in range(4000)]
    minified = json.dumps(data, separators=(",", ":"))[:BYTES]
    tools = [
        {"role": "tool", "tool_call_id": f"c{n}", "content": json.dumps(data[n * 20 : n * 20 + 20], indent=1)}
        for n in range(150)
    ]
    return {
        "prose": chat(prose),
        "many messages": chat(*(prose[n : n + 500] for n in range(0, BYTES, 500))),
        "code": chat("\n".join(lines)[:BYTES]),
        "a table of numbers": chat("\n".join(rows)[:BYTES]),
        "minified JSON in a string": chat(minified),
        "tools' results": {"model": "m", "messages": tools},
        "an image in base64": chat(
            "data:image/png;base64," + base64.b64encode(dice.randbytes(BYTES * 3 // 4)).decode()
        ),
        "ids of tokens": {"model": "m", "input": [dice.randint(0, 99_999) for _ in range(BYTES * 10 // 67)]},
        "embeddings": {
            "model": "m",
            "input": [[dice.uniform(-1, 1) for _ in range(256)] for _ in range(BYTES // 5300)],
        },
        ALL_FOUND: chat("\n".join(_customer(dice, words, n) for n in range(2000))[:BYTES]),
        "prose in another script": chat(
            prose.translate({ord(c): chr(0x430 + n) for n, c in enumerate(LETTERS)})[: BYTES // 2]
        ),
    }


def timed(scanner: Scanner, document: Any, wanted: frozenset[str], budget_s: float) -> tuple[float, float, bool]:
    """CPU and wall time of one look in milliseconds, and whether it came to an end within its budget."""
    end = time.monotonic() + budget_s
    wall, cpu, done = time.perf_counter(), time.thread_time(), True
    try:
        scanner.scan(document, wanted, lambda: time.monotonic() > end)
    except ScanError:
        done = False
    return (time.thread_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000, done


def loop_lag(scanner: Scanner, document: Any, wanted: frozenset[str], seconds: float = 2.0) -> float:
    """How long another thread waits at most, in milliseconds, while one looks through ``document`` all the time."""
    over = time.monotonic() + seconds

    def look() -> None:
        while time.monotonic() < over:
            timed(scanner, document, wanted, 10.0)

    thread = threading.Thread(target=look)
    thread.start()
    worst, last = 0.0, time.perf_counter()
    while time.monotonic() < over:
        time.sleep(0.001)
        now = time.perf_counter()
        worst, last = max(worst, now - last - 0.001), now
    thread.join()
    return worst * 1000


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


USUAL_MS, HOSTILE_MS = 25.0, 100.0
"""What a usual body may take in 99 of 100 looks, and what any body may take, in CPU time and with hyperscan."""


def main() -> int:
    """Measure, print, and say with 1 that a bound does not hold. Without hyperscan the bound is the budget of time."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--adversarial", type=int, default=1500)
    options.add_argument("--slow", action="store_true")
    options.add_argument("--budget-ms", type=int, default=1000)
    asked = options.parse_args()
    begun = time.perf_counter()
    scanner = Scanner(packaged_data_classes().detectors(), fast=False if asked.slow else None)
    built_ms = (time.perf_counter() - begun) * 1000
    wanted = frozenset(detector.name for detector in scanner.detectors)
    engine = "hyperscan and re2" if scanner.is_fast else "re2 alone"
    print(f"{len(wanted)} detectors, {engine}, built in {built_ms:.0f} ms")
    scanner.scan(["warm"], wanted)
    usual_ms, hostile_ms = (USUAL_MS, HOSTILE_MS) if scanner.is_fast else (asked.budget_ms, 1.5 * asked.budget_ms)
    dice = random.Random(4)
    everything: list[float] = []
    most, refused = 0.0, 0
    print(f"{'200 KB of':32} {'cpu p50':>8} {'p99':>7} {'max':>7} {'wall p99':>9}")
    for name, document in usual(dice).items():
        took = [timed(scanner, document, wanted, 10.0) for _ in range(asked.runs)]
        cpu, wall = [one[0] for one in took], [one[1] for one in took]
        if name == ALL_FOUND:
            most = max(most, *cpu)
        else:
            everything += cpu
        refused += sum(not done for _, _, done in took)
        figures = (
            f"{statistics.median(cpu):8.1f} {_quantile(cpu, 0.99):7.1f} {max(cpu):7.1f} {_quantile(wall, 0.99):9.1f}"
        )
        print(f"{name:32} {figures}")
    usual_p99 = _quantile(everything, 0.99)
    print(f"{'all but the customers':32} {statistics.median(everything):8.1f} {usual_p99:7.1f} {max(everything):7.1f}")
    worst: list[tuple[float, str, bool]] = []
    for name, document in adversarial(dice, asked.adversarial):
        cpu_ms, _, done = timed(scanner, document, wanted, asked.budget_ms / 1000)
        worst.append((cpu_ms, name, done))
    if worst:
        worst.sort(reverse=True)
        cpu = [one[0] for one in worst]
        most = max(most, cpu[0])
        over = sum(not done for _, _, done in worst)
        figures = f"cpu p50 {statistics.median(cpu):.1f}, p99 {_quantile(cpu, 0.99):.1f}, worst {cpu[0]:.1f}"
        print(f"{len(worst)} adversarial: {figures}, over budget {over}; worst:")
        for cpu_ms, name, done in worst[:12]:
            print(f"  {cpu_ms:7.1f} ms  {name}{'' if done else '  (refused)'}")
    lag = loop_lag(scanner, usual(dice)["prose"], wanted)
    print(f"another thread waited {lag:.1f} ms at most meanwhile")
    broken = usual_p99 > usual_ms or most > hostile_ms or refused > 0
    print(
        f"{'EXCEEDED' if broken else 'within bounds'}: usual p99 {usual_p99:.1f} of {usual_ms:.0f} ms,"
        f" any {most:.1f} of {hostile_ms:.0f} ms, usual ones refused {refused} of 0"
    )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
