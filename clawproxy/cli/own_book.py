"""One thing done to a job: by the gateway that runs on the state directory, or by the command where none does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from .state import StateDir

if TYPE_CHECKING:
    from ..receipts.jobs import JobBook


async def ask(folder: StateDir, op: str, **arguments: Any) -> JsonObject | None:
    """The answer of the gateway that runs, None where none does; raises ``ClawproxyError`` for what it refuses."""
    from ..addons.admin import call_admin

    try:
        return await call_admin(folder.admin_socket, op, **arguments)
    except ClawproxyError as err:
        if err.reason != "GATEWAY_NOT_RUNNING":
            raise
    return None


@contextlib.asynccontextmanager
async def own_book(folder: StateDir, gateway_id: str) -> AsyncIterator[JobBook]:
    """A book of the command's own; a job that a gateway has open is locked, and says so."""
    from ..receipts.jobs import JobBook
    from ..receipts.journal import Journal

    journal = Journal()
    book = JobBook(
        folder.jobs,
        journal,
        folder.load_key(Role.RECEIPT),
        gateway_id,
        folder.job_keys,
        lambda: time.time_ns() // 1_000_000,
    )
    try:
        yield book
    finally:
        await book.close()
        await asyncio.to_thread(journal.close)
