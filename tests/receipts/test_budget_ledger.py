"""The account of a contract over jobs and restarts: what is left open is charged, and nobody shares the file."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from clawproxy.policies.budget_rules import NOTHING, Amounts
from clawproxy.receipts.budget_ledger import FILE_NAME, BudgetLedger
from clawproxy.tokens.errors import ClawproxyError

ASKED, USED = Amounts(1, 100, 200, 300), Amounts(1, 10, 20, 30)


async def opened(state: Path) -> BudgetLedger:
    ledger = BudgetLedger(state)
    await ledger.open()
    return ledger


async def taken(ledger: BudgetLedger, receipt_id: str, policy: str = "p", opened_ms: int = 5000) -> None:
    ledger.account(policy, opened_ms)
    ledger.take(policy, receipt_id, ASKED)
    await ledger.commit(receipt_id)


async def test_what_a_call_used_takes_the_place_of_what_it_took(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await taken(ledger, "r1")
    tally = ledger.account("p", 5000).tally
    assert (tally.spent, tally.held, tally.open_calls) == (NOTHING, ASKED, 1)
    ledger.close_call("r1", USED)
    ledger.close_call("r1", USED)
    assert (tally.spent, tally.held, tally.open_calls) == (USED, NOTHING, 0)
    await ledger.close()
    again = await opened(tmp_path)
    assert again.account("p", 9000).tally.spent == USED
    assert again.account("p", 9000).first_ms == 5000
    assert again.account("q", 9000).tally.spent == NOTHING
    await again.close()


async def test_what_was_open_when_the_gateway_died_is_charged_once(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    for n in range(3):
        await taken(ledger, f"r{n}")
    await ledger.close()  # none of them was closed, as after a kill
    for _ in range(2):
        again = await opened(tmp_path)
        assert again.account("p", 5000).tally.spent == Amounts(3, 300, 600, 900)
        await again.close()


async def test_what_was_given_back_before_it_was_written_leaves_nothing(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    ledger.account("p", 5000)
    ledger.take("p", "r1", ASKED)
    ledger.close_call("r1", NOTHING)
    await taken(ledger, "r2")
    ledger.close_call("r2", NOTHING)
    assert ledger.account("p", 5000).tally.held == NOTHING
    await ledger.close()
    again = await opened(tmp_path)
    assert again.account("p", 5000).tally.spent == NOTHING
    await again.close()


async def test_many_at_once_are_all_written(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await asyncio.gather(*(taken(ledger, f"r{n}") for n in range(200)))
    await ledger.close()
    again = await opened(tmp_path)
    assert again.account("p", 5000).tally.spent.requests == 200
    await again.close()


async def test_a_second_process_gets_no_room_from_the_same_account(tmp_path: Path) -> None:
    first, second = await opened(tmp_path), await opened(tmp_path)
    await taken(first, "r1")
    with pytest.raises(ClawproxyError) as caught:
        await taken(second, "r2")
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    await second.close()
    await first.close()


async def test_a_damaged_file_refuses_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    ledger = await opened(tmp_path)
    with pytest.raises(ClawproxyError) as caught:
        await taken(ledger, "r1")
    assert caught.value.reason == "EVIDENCE_UNAVAILABLE"
    await ledger.close()


async def test_without_budgets_of_contracts_there_is_no_file_and_with_them_it_is_private(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    await taken(ledger, "r1")
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    await ledger.close()
