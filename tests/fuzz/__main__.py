"""The long run of the differential fuzz: ``python -m tests.fuzz [--bodies N] [--paths N] [--seed S]``.

Prints progress to standard error and one JSON line per kind to standard output; ends with 1 if anything disagreed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from .rig import Tally
from .run_bodies import run_bodies
from .run_paths import run_paths, told_of


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--paths", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began_s = time.monotonic()

    def told(tally: Tally) -> None:
        line = f"{time.monotonic() - began_s:7.0f} s  {tally.sent} sent  {tally.forwarded} forwarded"
        print(f"{line}  {tally.disagreed} disagreements", file=sys.stderr, flush=True)

    disagreed = 0
    for kind, run, count in (("bodies", run_bodies, args.bodies), ("paths", run_paths, args.paths)):
        if count:
            tally = asyncio.run(run(count, args.seed, told))
            disagreed += tally.disagreed
            figures = {"kind": kind, "seed": args.seed, "seconds": round(time.monotonic() - began_s), **told_of(tally)}
            print(json.dumps(figures), flush=True)
    return 1 if disagreed else 0


if __name__ == "__main__":
    sys.exit(main())
