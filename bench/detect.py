"""How long looking for data takes: ``python -m bench.detect [--runs N] [--slow] [--adversarial N]``.

Bodies of 200 KB as agents send them (prose, code, JSON, tables of numbers, an image in base64), each looked through
``--runs`` times, all detectors wanted; and ``--adversarial`` bodies of the same size that are made to take long. Prints
p50, p99 and the worst in milliseconds of CPU time of the thread, and of wall time. ``--slow`` does without hyperscan.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

from clawproxy.policies.detect.engine import ScanError, Scanner
from clawproxy.policies.packaged import packaged_data_classes

BYTES = 200_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _words(dice: random.Random, n: int) -> list[str]:
    return ["".join(dice.choices(_LETTERS, k=dice.randint(2, 9))) for _ in range(n)]


def _filled(piece: str) -> str:
    return (piece * (BYTES // max(1, len(piece)) + 1))[:BYTES]


def _chat(*texts: str) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text} for text in texts]}


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
        "prose": _chat(prose),
        "many messages": _chat(*(prose[n : n + 500] for n in range(0, BYTES, 500))),
        "code": _chat("\n".join(lines)[:BYTES]),
        "a table of numbers": _chat("\n".join(rows)[:BYTES]),
        "minified JSON in a string": _chat(minified),
        "tools' results": {"model": "m", "messages": tools},
        "an image in base64": _chat(
            "data:image/png;base64," + base64.b64encode(dice.randbytes(BYTES * 3 // 4)).decode()
        ),
        "prose in another script": _chat(
            prose.translate({ord(c): chr(0x430 + n) for n, c in enumerate(_LETTERS)})[: BYTES // 2]
        ),
    }


_BAIT = (
    "4", "1", "41 ", "4111 1111 1111 1112 ", "1.1.1.", "1.", "255.255.255.255.", "a1:", "::", ":", "a@", "a@a.", "@", "a.b@c.d-",
    "password ", "password=", "token: ", "secret", "key" , "api_key = ", "eyJ", "eyJhbGciOiJub25lIn0.", "eyJ.", "sk-", "sk-ant-",
    "AKIA", "AKIAXXXXXXXXXXXXXXXX ", "ghp_", "xox", "xoxb-1", "-----BEGIN ", "-----BEGIN RSA PRIVATE KEY-----", "-", "://", "://a:",
    "://a:b@", "http://", "DE89", "DE00 0000 0000 ", "GB82 WEST 1234 ", "+49 ", "+1 (", "(555) ", "0123/", "000-00-0000 ", "078-05-11",
    "AB123456C", "123456789 ", "12345678901 ", "98765432101,", "756.1234.", "2 85 05 78 ", "AAAAAA00A00A000A", "passport ", "curl -u ",
    "sshpass -p ", "mysql -p", '"auth": "', "hooks.slack.com/services/", "SG.", "AIza", "Q~", "sig=", "{", "[", '{"', "}", '"', "\\",
    "\\\\", "\\n", "\\u0034", "\\u", "\\uD83D", "%", "%4", "%41", "%25", "%2541", "+", "=", "==", "A", "A=", "/", "_", "\n", "\r\n", " ", "\t",
    "\x00", "\x01", "\x02", "\u200b", "4\u200b", "４", "４１１１", "é", "пароль ", "пароль: ", "телефон 8", "😀", "\u0301", "\ufe0f", "?",
    "aaaaaaaaaaaaaaaa ", "Zm9v", "QUtJQQ", "((((", "(a+)+", "(.*)*", "a" * 30 + "!", "x" * 999 + " ",
)  # fmt: skip


def adversarial(dice: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """``count`` bodies that are made to take long: bait alone, mixed, nested, split, encoded."""
    made = 0
    while made < count:
        kind, bait = made % 9, _BAIT[(made // 9) % len(_BAIT)]
        other, third = dice.choice(_BAIT), dice.choice(_BAIT)
        made += 1
        if kind == 0:
            yield f"run of {bait[:12]!r}", _chat(_filled(bait))
        elif kind == 1:
            yield f"{bait[:12]!r} and {other[:12]!r}", _chat(_filled(bait + other))
        elif kind == 2:
            yield f"mixed {bait[:12]!r}", _chat(_filled("".join(dice.choices((bait, other, third), k=400))))
        elif kind == 3:
            text = base64.b64encode(_filled(bait).encode()[: BYTES * 3 // 4]).decode()
            yield f"base64 of {bait[:12]!r}", _chat(text)
        elif kind == 4:
            step = dice.choice((1, 3, 17, 200))
            text = _filled(bait + other)[: 60_000 if step == 1 else BYTES]
            yield (
                f"{step} a piece, {bait[:12]!r}",
                {"input": [text[n : n + step] for n in range(0, min(len(text), 40_000 * step), step)]},
            )
        elif kind == 5:
            yield (
                f"keys of {bait[:12]!r}",
                {f"{bait}{n}": f"{other}{n}" for n in range(BYTES // (len(bait) + len(other) + 12))},
            )
        elif kind == 6:
            yield (
                f"percent of {bait[:12]!r}",
                _chat("".join(f"%{byte:02X}" for byte in _filled(bait).encode()[: BYTES // 3])),
            )
        elif kind == 7:
            yield (
                f"escapes of {bait[:12]!r}",
                _chat("".join(f"\\u{ord(c) & 0xFFFF:04x}" for c in _filled(bait)[: BYTES // 6])),
            )
        else:
            alphabet = (
                "".join(dice.choices(_BAIT, k=3))
                + _LETTERS[: dice.randint(1, 26)]
                + "0123456789"[: dice.randint(1, 10)]
            )
            yield f"noise of {bait[:12]!r}", _chat("".join(dice.choices(alphabet, k=BYTES)))


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


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--adversarial", type=int, default=1000)
    options.add_argument("--slow", action="store_true")
    options.add_argument("--budget-ms", type=int, default=10_000)
    asked = options.parse_args()
    classes = packaged_data_classes()
    begun = time.perf_counter()
    scanner = Scanner(classes.detectors(), fast=False if asked.slow else None)
    built_ms = (time.perf_counter() - begun) * 1000
    wanted = frozenset(detector.name for detector in scanner.detectors)
    print(
        f"{len(wanted)} detectors, {'hyperscan and re2' if scanner.is_fast else 're2 alone'}, built in {built_ms:.0f} ms"
    )
    scanner.scan(["warm"], wanted)
    dice = random.Random(4)
    everything: list[float] = []
    print(f"{'200 KB of':32} {'cpu p50':>8} {'p99':>7} {'max':>7} {'wall p99':>9}")
    for name, document in usual(dice).items():
        took = [timed(scanner, document, wanted, 10.0) for _ in range(asked.runs)]
        cpu, wall = [one[0] for one in took], [one[1] for one in took]
        everything += cpu
        print(
            f"{name:32} {statistics.median(cpu):8.1f} {_quantile(cpu, 0.99):7.1f} {max(cpu):7.1f} {_quantile(wall, 0.99):9.1f}"
        )
    print(f"{'all':32} {statistics.median(everything):8.1f} {_quantile(everything, 0.99):7.1f} {max(everything):7.1f}")
    worst: list[tuple[float, str, bool]] = []
    for name, document in adversarial(dice, asked.adversarial):
        cpu_ms, _, done = timed(scanner, document, wanted, asked.budget_ms / 1000)
        worst.append((cpu_ms, name, done))
    if worst:
        worst.sort(reverse=True)
        figures = [one[0] for one in worst]
        over = sum(not done for _, _, done in worst)
        print(
            f"{len(worst)} adversarial: cpu p50 {statistics.median(figures):.1f}, p99 {_quantile(figures, 0.99):.1f}, over budget {over}; worst:"
        )
        for cpu_ms, name, done in worst[:12]:
            print(f"  {cpu_ms:7.1f} ms  {name}{'' if done else '  (refused)'}")
    lag = loop_lag(scanner, usual(dice)["prose"], wanted)
    print(f"another thread waited {lag:.1f} ms at most meanwhile")


if __name__ == "__main__":
    main()
