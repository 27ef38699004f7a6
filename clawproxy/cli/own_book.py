"""The jobs of a state directory on which no gateway runs, for a command that does one thing to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..tokens.keys import Role
from .state import StateDir

if TYPE_CHECKING:
    from ..receipts.jobs import JobBook


@contextlib.asynccontextmanager
async def own_book(folder: StateDir, gateway_id: str) -> AsyncIterator[JobBook]:
    """A book of its own; a job that a gateway has open is locked, and says so."""
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
