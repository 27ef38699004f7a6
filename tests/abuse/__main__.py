"""``python -m tests.abuse [WORD]``: the corpus against a gateway of its own, and the table by class.

With a word, only executions whose name holds it. Exit status 1 if one is red, 2 if no name holds the word.
``python -m tests.abuse --count`` says how many there are, by transport and format, and runs none.
``python -m tests.abuse --export FILE [WORD]`` writes the bytes of each instead (README.md).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..clawproxy.standin_process import running_standin
from .cases import load_corpus
from .export import exported
from .runner import Execution, Result, executions, running_runner
from .table import print_count, print_table


async def run(folder: Path, chosen: Sequence[Execution]) -> list[Result]:
    """Execute what is chosen."""
    with running_standin(folder) as provider:
        async with running_runner(folder, provider) as runner:
            return [await runner.execute(execution) for execution in chosen]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description="The corpus against a gateway.")
    parser.add_argument("word", nargs="?", default="", help="only executions whose name holds it")
    parser.add_argument("--count", action="store_true", help="say how many there are, and run none")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the bytes of each there, and run none")
    asked = parser.parse_args(arguments)
    chosen = [execution for execution in executions(load_corpus()) if asked.word in execution.name]
    if not chosen:
        print("no case has this word", file=sys.stderr)
        return 2
    if asked.count:
        print_count(chosen)
        return 0
    if asked.export is not None:
        asked.export.write_text("".join(map(exported, chosen)))
        return 0
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="clawproxy-abuse-") as folder:
        results = asyncio.run(run(Path(folder), chosen))
    for result in results:
        if result.red:
            print(f"{result.execution.name}: {result.red} {result.execution.case.xfail_why}")
    print_table(results)
    return any(result.red and not result.execution.case.xfail_why for result in results)


if __name__ == "__main__":
    sys.exit(main())
