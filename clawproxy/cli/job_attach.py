"""``clawproxy job attach``: other evidence of a run into a job's bundle, through the running gateway or directly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..receipts.attachments import Attachment, drop_staged, measure_file, read_staged, stage_file
from ..receipts.disk import OsDisk
from ..receipts.job_paths import JobPaths
from ..tokens.errors import ClawproxyError
from .kept_secrets import look_for_secrets
from .own_book import ask, own_book
from .screen import JsonFlag, note, print_json
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption
from .token import read_job_facts

if TYPE_CHECKING:
    from ..addons.settings import Settings


def attach(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file, up to 16 MiB.")],
    kind: Annotated[
        str, typer.Option("--kind", help="What it is: runtime_receipt, ticket, test_report, or a word of your own.")
    ],
    job: Annotated[str, typer.Option("--job", metavar="ID", help="The job that it belongs to.")],
    note_: Annotated[str, typer.Option("--note", help="One line on it; signed, and for everyone to read.")] = "",
    digest_only: Annotated[
        bool, typer.Option("--digest-only", help="Leave the file out: its digest, name and size alone.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Take other evidence of the run into a job, before its seal: copied, its digest signed into the chain.

    The file is stored as it is, and whoever gets the bundle gets it. One with a credential or a private key of this
    gateway is not taken; nothing looks for other secrets.
    """
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    if read_job_facts(folder, job) is None:
        raise ClawproxyError(
            "JOB_NOT_FOUND", "no such job here", where=str(folder.jobs), got=job, remedy="see: clawproxy job list"
        )
    disk, paths = OsDisk(), JobPaths(folder.jobs, job)
    name = file.name if file.name.isprintable() else repr(file.name)
    size, digest = 0, ""
    if digest_only:
        digest, size = measure_file(file)
    else:
        Attachment(
            kind, name, note_, "A" * 43, 0, stored=True
        )  # what is wrong with the words, before anything is copied
        digest, size = stage_file(disk, paths, file)
    try:
        attachment = Attachment(kind, name, note_, digest, size, stored=not digest_only)
        told = "\n".join((name, note_)).encode("utf-8", "surrogateescape")
        _check_for_secrets(told if digest_only else told + b"\n" + read_staged(paths, digest), settings, folder, job)
        asyncio.run(_attach(folder, job, attachment, settings.gateway.gateway_id))
    finally:
        if not digest_only:
            drop_staged(disk, paths, digest)
    if json_:
        print_json({"job": job, **attachment.to_json()})
        return
    print(digest)
    note(
        f"on record in {job}" + (", the digest alone" if digest_only else f" as attachments/{digest}, stored as it is")
    )


def _check_for_secrets(content: bytes, settings: Settings, folder: StateDir, job: str) -> None:
    kept = look_for_secrets(content, settings, folder, job)
    if kept.found:
        raise ClawproxyError(
            "ATTACHMENT_INVALID",
            "a secret of this gateway is in it",
            got=", ".join(kept.found),
            remedy="take it out, or attach the file with --digest-only; and use another secret, if others saw the file",
        )
    if kept.unread:
        note(f"not looked for in it, since this command cannot read it: {', '.join(kept.unread)}")


async def _attach(folder: StateDir, job: str, attachment: Attachment, gateway_id: str) -> None:
    if await ask(folder, "attach", job_id=job, attachment=attachment.to_json()) is None:
        async with own_book(folder, gateway_id) as book:
            await book.attach(job, attachment)
