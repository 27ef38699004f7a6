"""How an order is given: to the file, then to every gateway that runs on the state directory. Opens sockets.

Each gateway listens on ``orders/<random>.sock`` for the one operation ``orders``: read the file again. Whoever gives an
order holds the lock from before the file is read until the last gateway has answered, and a gateway takes the lock to
read the file and to listen: so an order reaches each gateway, whichever of the two was first. The order is durable
before a gateway hears of it; where it cannot be written, the gateways are told it all the same, and the error says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..policies.orders import Orders
from ..receipts.order_book import OrderBook
from ..tokens.canonical import JsonObject
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from .admin import call_admin, listens

ANSWER_WITHIN_S = 15.0
OPERATION = "orders"
SOCKETS = "*.sock"


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a change. ``answers`` are those of the gateways, by socket; ``unconfirmed`` those without one."""

    orders: Orders
    answers: tuple[JsonObject, ...]
    unconfirmed: tuple[str, ...]
    fault: ClawproxyError | None
    """Why it is not durable."""


async def give[T](book: OrderBook, change: Callable[[Orders, str], tuple[Orders, T]], now_ms: int) -> tuple[Given, T]:
    """Change the orders and tell every gateway. ``change`` gets what stands, and the time.

    Raises ``ClawproxyError`` (ORDERS_BUSY, ORDERS_DAMAGED, ORDER_INVALID); then nothing has changed.
    """
    lock = await asyncio.to_thread(book.lock)
    try:
        before = await asyncio.to_thread(book.load)
        after, made = change(before, timestamp(now_ms))
        fault = None
        if after is not before:
            try:
                await asyncio.to_thread(book.save, after, now_ms)
            except ClawproxyError as err:
                fault = err
        answers, unconfirmed = await _tell(book.directory, {} if fault is None else {"orders": after.to_json()})
    finally:
        book.unlock(lock)
    return Given(after, answers, unconfirmed, fault), made


async def _tell(directory: Path, arguments: JsonObject) -> tuple[tuple[JsonObject, ...], tuple[str, ...]]:
    sockets = await asyncio.to_thread(lambda: sorted(directory.glob(SOCKETS)))
    told = await asyncio.gather(*(_ask(path, arguments) for path in sockets))
    answers = tuple(answer for answer in told if isinstance(answer, dict))
    return answers, tuple(fault for fault in told if isinstance(fault, str))


async def _ask(path: Path, arguments: JsonObject) -> JsonObject | str | None:
    """A gateway's answer; why there is none; or None where its socket is one that a dead gateway left."""
    try:
        return await call_admin(path, OPERATION, timeout_s=ANSWER_WITHIN_S, **arguments)
    except ClawproxyError as err:
        if err.reason == "GATEWAY_NOT_RUNNING" and not await listens(path):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(path.unlink)
            return None
        return f"{path.name}: {err.one_line()}"
