"""``python -m tests.abuse [WORD]``: the corpus against a gateway of its own, and the table by class.

With a word, only executions whose name holds it. Exit status 1 if one is red.
``python -m tests.abuse --count`` says how many there are, by transport and format, and runs none.
``python -m tests.abuse --export FILE [WORD]`` writes the bytes of each instead (README.md).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from ..clawproxy.standin_process import running_standin
from .cases import load_corpus
from .export import exported
from .runner import Result, executions, running_runner
from .table import print_count, print_table


async def run(folder: Path, word: str) -> list[Result]:
    """Execute what is chosen."""
    chosen = [execution for execution in executions(load_corpus()) if word in execution.name]
    with running_standin(folder) as provider:
        async with running_runner(folder, provider) as runner:
            return [await runner.execute(execution) for execution in chosen]


def main() -> int:
    if sys.argv[1:2] == ["--count"]:
        print_count(executions(load_corpus()))
        return 0
    if sys.argv[1:2] == ["--export"]:
        word = sys.argv[3] if len(sys.argv) > 3 else ""
        Path(sys.argv[2]).write_text("".join(exported(e) for e in executions(load_corpus()) if word in e.name))
        return 0
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="clawproxy-abuse-") as folder:
        results = asyncio.run(run(Path(folder), sys.argv[1] if len(sys.argv) > 1 else ""))
    for result in results:
        if result.red:
            print(f"{result.execution.name}: {result.red} {result.execution.case.xfail_why}")
    print_table(results)
    return any(result.red and not result.execution.case.xfail_why for result in results)


if __name__ == "__main__":
    sys.exit(main())
