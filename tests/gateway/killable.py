"""A gateway that can be killed and started again quickly: a parent that has everything imported, and forks.

Run as ``python -m tests.gateway.killable SETTINGS.json``; each line on standard input starts one gateway in a child,
whose ready line (pid and addresses, JSON) goes to standard output. The parent only forks and reaps.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from clawproxy.addons.gateway import Gateway
from clawproxy.addons.settings import parse_settings


async def _serve(document: dict[str, object]) -> None:
    gateway = Gateway(parse_settings(document, where="test"))
    await gateway.start()
    print(json.dumps({"pid": os.getpid(), **gateway.addresses}), flush=True)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    await gateway.stop(drain_s=1)


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(_serve(document))
            os._exit(0)


if __name__ == "__main__":
    main()
