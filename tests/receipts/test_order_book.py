from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from clawproxy.addons.order_desk import give
from clawproxy.policies.orders import Mode, Orders, Scope
from clawproxy.receipts.disk import OsDisk
from clawproxy.receipts.order_book import OrderBook
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.keys import Role, SigningKey

NOW_MS = 1_800_000_000_000
KEY = SigningKey.generate(Role.RECEIPT)


class FullDisk(OsDisk):
    """Takes no byte of a file."""

    def write(self, handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def some() -> Orders:
    return Orders().with_stop(Scope.JOB, "job-1", Mode.STOP, "why", "2026-01-01T00:00:00.000Z")[0]


def book(tmp_path: Path, key: SigningKey = KEY) -> OrderBook:
    made = OrderBook(tmp_path / "orders", key)
    made.unlock(made.lock())
    return made


def test_no_file_is_no_orders_and_what_was_saved_is_read_back_whole_and_private(tmp_path: Path) -> None:
    orders = book(tmp_path)
    assert orders.load() == Orders()
    orders.save(some(), NOW_MS)
    assert orders.load() == some()
    assert orders.path.stat().st_mode & 0o777 == 0o600


def test_any_byte_changed_and_any_length_cut_is_damage(tmp_path: Path) -> None:
    orders = book(tmp_path)
    orders.save(some(), NOW_MS)
    whole = orders.path.read_bytes()
    missed = []
    for n in range(len(whole)):
        for spoilt in (whole[:n], whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :]):
            orders.path.write_bytes(spoilt)
            try:
                orders.load()
                missed.append(spoilt)
            except ClawproxyError as err:
                assert err.reason == "ORDERS_DAMAGED"  # noqa: PT017 - one of a thousand
    # the time of the envelope is not signed, and says nothing
    assert all(b"job-1" in spoilt and b'"last_number":1' in spoilt for spoilt in missed)
    assert len(missed) <= 24


def test_a_file_signed_by_another_key_a_link_and_a_directory_are_damage(tmp_path: Path) -> None:
    other = book(tmp_path, SigningKey.generate(Role.RECEIPT))
    other.save(some(), NOW_MS)
    orders = book(tmp_path)
    with pytest.raises(ClawproxyError):
        orders.load()
    kept = tmp_path / "kept"
    orders.path.rename(kept)
    orders.path.symlink_to(kept)
    with pytest.raises(ClawproxyError):
        other.load()
    orders.path.unlink()
    orders.path.mkdir()
    with pytest.raises(ClawproxyError):
        orders.load()


def test_a_lock_that_another_holds_is_waited_for_and_then_told(tmp_path: Path) -> None:
    orders = book(tmp_path)
    held = orders.lock()
    with pytest.raises(ClawproxyError) as caught:
        orders.lock(wait_s=0.1)
    assert caught.value.reason == "ORDERS_BUSY"
    orders.unlock(held)
    orders.unlock(orders.lock(wait_s=0.1))


async def test_an_order_that_cannot_be_written_is_no_success_and_leaves_what_stood(tmp_path: Path) -> None:
    orders = book(tmp_path)
    orders.save(some(), NOW_MS)
    full = OrderBook(tmp_path / "orders", KEY, FullDisk())
    given, _ = await give(full, lambda o, now: o.with_stop(Scope.ALL, "", Mode.STOP, "", now), NOW_MS)
    assert given.fault is not None
    assert given.fault.reason == "ORDERS_NOT_WRITTEN"
    assert orders.load() == some()
