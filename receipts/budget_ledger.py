"""What all jobs of a contract used together, over restarts: one small SQLite file, ``budgets.sqlite3``. Runs a thread.

A call's amounts are taken in memory at once (``take``), so that no two calls get the same room; they are durable before
its intent is written (``commit``), and what it really used replaces them after its receipt is (``close``). A crash in
between leaves the amounts that were taken, since a row of an open call is charged whole when the file is opened again:
never less than what went out, and at worst more.

Calls of one turn are written in one transaction. A file that cannot be read or written refuses every call that needs
it (EVIDENCE_UNAVAILABLE).

Limits: who can write the state directory can take the file away, as the journals; each job's own records still tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ..policies.budget_rules import NOTHING, Amounts
from ..tokens.errors import ClawproxyError
from .budget import Tally
from .disk import OsDisk

log = logging.getLogger("clawproxy.budgets")

FILE_NAME = "budgets.sqlite3"
LOCK_NAME = "budgets.lock"
_AMOUNTS = (
    "requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost INTEGER NOT NULL"
)
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS spent (policy TEXT PRIMARY KEY, first_ms INTEGER NOT NULL, {_AMOUNTS}) STRICT",
    f"CREATE TABLE IF NOT EXISTS open (receipt TEXT PRIMARY KEY, policy TEXT NOT NULL, {_AMOUNTS}) STRICT",
)
_BEGIN = (
    "INSERT INTO spent VALUES (?, ?, 0, 0, 0, 0) ON CONFLICT DO UPDATE SET first_ms = min(first_ms, excluded.first_ms)"
)
_OPEN = "INSERT INTO open VALUES (?, ?, ?, ?, ?, ?)"
_CLOSE = "DELETE FROM open WHERE receipt = ?"
_ADD = (
    "UPDATE spent SET requests = requests + ?, input_tokens = input_tokens + ?, output_tokens = output_tokens + ?,"
    " cost = cost + ? WHERE policy = ?"
)
_LEFT = "SELECT policy, sum(requests), sum(input_tokens), sum(output_tokens), sum(cost) FROM open GROUP BY policy"

type _Statement = tuple[str, tuple[Any, ...]]


@dataclass(slots=True)
class ContractAccount:
    """One contract: ``first_ms`` is when its first job was opened here, Unix milliseconds."""

    first_ms: int
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class _Item:
    statements: tuple[_Statement, ...]
    done: asyncio.Future[None] | None
    loop: asyncio.AbstractEventLoop


class BudgetLedger:
    """The accounts of a state directory, for its one gateway. Methods are for the event loop alone."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._accounts: dict[str, ContractAccount] = {}
        self._open: dict[str, tuple[str, Amounts]] = {}
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._fault = "it is not open"
        self._lock: int | None = None

    async def open(self) -> None:
        """Read what is on record, and charge what calls left open.

        Where that fails, or another process has the file, every call that needs it is refused from here on.
        """
        try:
            self._accounts = await asyncio.to_thread(self._load)
            self._fault = ""
        except (sqlite3.Error, OSError) as err:
            self._fault = str(err) or type(err).__name__
            log.error("contracts with budgets.per_contract are refused: %s: %s", self._path, self._fault)

    async def close(self) -> None:
        """Write what is queued, and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._lock is not None:
            OsDisk().close(self._lock)
            self._lock = None

    # -- the accounts --------------------------------------------------------------------------------------------------

    def account(self, policy_hash_b64u: str, opened_ms: int) -> ContractAccount:
        """The account of a contract, one of whose jobs was opened at ``opened_ms``."""
        account = self._accounts.get(policy_hash_b64u)
        if account is None:
            account = self._accounts[policy_hash_b64u] = ContractAccount(opened_ms)
        account.first_ms = min(account.first_ms, opened_ms)
        return account

    def take(self, policy_hash_b64u: str, receipt_id: str, amounts: Amounts) -> None:
        """Take the amounts of a call; whether there is room is the caller's to see, without an ``await`` between."""
        self._accounts[policy_hash_b64u].tally.reserve(amounts)
        self._open[receipt_id] = (policy_hash_b64u, amounts)

    async def commit(self, receipt_id: str) -> None:
        """Make what was taken durable. Raises ``ClawproxyError`` (EVIDENCE_UNAVAILABLE)."""
        policy, amounts = self._open[receipt_id]
        first_ms = self._accounts[policy].first_ms
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(((_BEGIN, (policy, first_ms)), (_OPEN, (receipt_id, policy, *dataclasses.astuple(amounts)))), done)
        await done

    def close_call(self, receipt_id: str, charged: Amounts) -> None:
        """Replace what a call took by what it is charged; nothing for one that took nothing. Not waited for."""
        taken = self._open.pop(receipt_id, None)
        if taken is None:
            return
        policy, amounts = taken
        self._accounts[policy].tally.close(amounts, charged)
        self._put(((_CLOSE, (receipt_id,)), (_ADD, (*dataclasses.astuple(charged), policy))), None)

    # -- the file ------------------------------------------------------------------------------------------------------

    def _put(self, statements: tuple[_Statement, ...], done: asyncio.Future[None] | None) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="clawproxy-budgets", daemon=True)
            self._thread.start()
        self._queue.put(_Item(statements, done, asyncio.get_running_loop()))

    def _unavailable(self, why: str) -> ClawproxyError:
        return ClawproxyError(
            "EVIDENCE_UNAVAILABLE",
            f"the account of the contract's budgets cannot be written or read: {why[:120].lower()}",
            where=str(self._path),
            remedy="free the disk or repair it, then restart the gateway",
        )

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        OsDisk().fsync_dir(self._path.parent)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for statement in _SCHEMA:
            connection.execute(statement)
        return connection

    def _load(self) -> dict[str, ContractAccount]:
        self._lock = OsDisk().lock(self._path.with_name(LOCK_NAME))
        if self._lock is None:
            raise OSError(errno.EBUSY, "another process has it")
        if not self._path.exists():
            return {}
        with contextlib.closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for policy, *left in connection.execute(_LEFT).fetchall():
                connection.execute(_ADD, (*left, policy))
            connection.execute("DELETE FROM open")
            connection.execute("COMMIT")
            return {
                policy: ContractAccount(first_ms, Tally(Amounts(*spent), NOTHING, 0))
                for policy, first_ms, *spent in connection.execute("SELECT * FROM spent")
            }

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            batch = [self._queue.get()]
            with contextlib.suppress(Empty):
                while True:
                    batch.append(self._queue.get_nowait())
            items = [item for item in batch if item is not None]
            if items and not self._fault:
                try:
                    connection = connection or self._connect()
                    self._write(connection, items)
                except (sqlite3.Error, OSError) as err:
                    log.error("the account of budgets could not be written: %s", err)
                    self._fault = str(err) or type(err).__name__
            for item in items:
                if item.done is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is gone
                        item.loop.call_soon_threadsafe(self._tell, item.done)
            if None in batch:
                if connection is not None:
                    connection.close()
                return

    @staticmethod
    def _write(connection: sqlite3.Connection, items: list[_Item]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for item in items:
                for statement, values in item.statements:
                    connection.execute(statement, values)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _tell(self, done: asyncio.Future[None]) -> None:
        if done.done():
            return
        if self._fault:
            done.set_exception(self._unavailable(self._fault))
        else:
            done.set_result(None)
