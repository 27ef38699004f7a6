"""``clawproxy serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ..tokens.errors import ClawproxyError
from .screen import new_app, note
from .state import DEFAULT_STATE, ConfigOption, StateOption, check_owner, set_credential

if TYPE_CHECKING:
    from ..addons.gateway import Gateway
    from ..addons.settings import Settings

app = new_app("Run the gateway until SIGTERM or SIGINT.")
app.info.no_args_is_help = False

DrainOption = Annotated[
    float, typer.Option("--drain", metavar="SECONDS", min=0, help="Seconds that open calls may go on after a stop.")
]


@app.command()
def serve(
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    drain: DrainOption = 10.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more than warnings, to stderr.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")] = False,
) -> None:
    """Run the gateway. Needs a receipt key (clawproxy keys new receipt); see clawproxy doctor for the rest.

    SIGHUP has it read its configuration again, as clawproxy reload does.
    """
    from ..addons.settings import load_settings

    start_logging(verbose)

    def read() -> Settings:
        check_owner(state, config)
        return load_settings(config, state)

    asyncio.run(_serve(read, drain, json_, set_credential(config, state)))


def start_logging(verbose: bool) -> None:
    """Log to stderr: warnings, or everything of ours."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if verbose:
        logging.getLogger("clawproxy").setLevel(logging.DEBUG)


async def _serve(read: Callable[[], Settings], drain_s: float, as_json: bool, set_one: str) -> None:
    from ..addons.gateway import Gateway

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = read()
    gateway = Gateway(settings, reread=read)
    await gateway.start()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(gateway))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    if not any(section.credential for section in settings.providers.values()):
        note(f"no provider has a credential, so every call will be refused; {set_one}")
    try:
        ready = {"ready": True, **gateway.addresses, "ca": str(gateway.ca_file)}
        if as_json:
            print(json.dumps(ready), flush=True)
        else:
            for name, where in list(ready.items())[1:]:
                print(f"{name:<8} {where}", flush=True)
        await stop.wait()
    finally:
        await gateway.stop(drain_s)


async def _reload(gateway: Gateway) -> None:
    with contextlib.suppress(ClawproxyError):  # it is in the log, and all is as it was
        await gateway.reloading.reload()
