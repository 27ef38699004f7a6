"""``clawproxy job rebind``: another presenter for a job, such as a pod that came back with another address."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from .own_book import ask, own_book
from .screen import JsonFlag, print_json
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption


def rebind(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    to: Annotated[
        str, typer.Option("--to", metavar="IP", help="Bind it to this address [default: the next one].")
    ] = "",
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Let another presenter use a job, and cut what the former one has open; on record in the job.

    Without --to it is the next one that comes with a token of the job: name the address where you can.
    """
    from ..addons.operations import parse_presenter
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    presenter = parse_presenter(to) if to else None
    asyncio.run(_rebind(StateDir(settings.state_dir), job, to or None, presenter, settings.gateway.gateway_id))
    if json_:
        print_json({"job": job, "presenter": presenter})
    else:
        print(f"{job} is bound to {presenter or 'the next presenter that uses it'}")


async def _rebind(folder: StateDir, job: str, to: str | None, presenter: str | None, gateway_id: str) -> None:
    if await ask(folder, "rebind", job_id=job, to=to) is None:
        async with own_book(folder, gateway_id) as book:
            await book.rebind(job, presenter)
