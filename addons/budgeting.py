"""Budgets of a contract at work: what a call may use is taken before it leaves, and settled when it has ended.

``reserve`` looks and takes without an ``await`` in between, so that calls at the same time cannot share what is left.
Then what was taken is made durable (of the contract's budgets in ``receipts.budget_ledger``, of the job's in the
intent), and only then the call leaves.

The worst case of a call is worked out in ``policies.worst_case``; calls of tools are not counted.

Limits: pictures, sound and documents can have more tokens than bytes, and tools that a provider runs read what no
request holds. Such a call is settled by what the provider reports, which may be more than was taken; verification tells
it (BUDGET_OVERRUN), and the next call finds the budget used up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..policies.budget_rules import (
    METERED,
    NOTHING,
    PER_CONTRACT,
    Amounts,
    Budgets,
    Limits,
    thresholds_passed,
)
from ..policies.facts import CallFacts
from ..policies.prices import Price, PriceTable
from ..policies.worst_case import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    UNREAD_INPUT_TOKENS,
    Defaults,
    asks_for_tokens,
    dearest_price,
    with_cost,
    worst_case,
)
from ..receipts.budget import Reservation, settlement_of
from ..receipts.budget_ledger import BudgetLedger, ContractAccount
from ..receipts.calls import CallEnd
from ..tokens.canonical import JsonObject
from ..tokens.reasons import Refusal
from .observing import let_through

if TYPE_CHECKING:
    from ..receipts.job import Job
    from .call import Call

log = logging.getLogger("clawproxy.budgeting")

_HEADER = b"x-clawproxy-budget"
_HEADER_FROM_PERCENT = 80
_CUT_AGAIN_S = 0.25


class Budgeting:
    """``open_calls`` are those that can be cut; ``ledger`` None where no contract's budgets can be kept."""

    def __init__(
        self,
        prices: PriceTable,
        ledger: BudgetLedger | None,
        clock_ms: Callable[[], int],
        *,
        default_max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS,
        unread_input_tokens: int = UNREAD_INPUT_TOKENS,
    ) -> None:
        self.open_calls: Callable[[], Iterable[Call]] = lambda: ()
        self._prices = prices
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._defaults = Defaults(default_max_output_tokens, unread_input_tokens)
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._metered: WeakKeyDictionary[Job, tuple[Budgets, str]] = WeakKeyDictionary()

    @classmethod
    def unmetered(cls, clock_ms: Callable[[], int]) -> Budgeting:
        """Without prices and accounts: budgets of jobs are kept, in money and per contract they refuse each call."""
        return cls(PriceTable("", ()), None, clock_ms)

    # -- before the call -----------------------------------------------------------------------------------------------

    def reserve(self, call: Call) -> Refusal | None:
        """Take the worst case of the call from what is left, or say of which budget too little is."""
        assert call.policy is not None
        assert call.job is not None
        assert call.facts is not None
        budgets = call.policy.budgets
        if budgets is None:
            return None
        price = self._price(call.facts, budgets)
        if isinstance(price, Refusal):
            if not let_through(call, price):
                return price
            price = None
        amounts, choices = self._worst_case(call, call.facts, price, in_money=budgets.has_money)
        job, policy_hash = call.job, call.policy.policy_hash_b64u
        account = self._account(budgets, job, policy_hash)
        if isinstance(account, Refusal):
            return account
        refusal = self._late(budgets, job, account) or self._full(budgets, job, account, amounts)
        if refusal is not None and not let_through(call, refusal):
            return refusal
        has_price = budgets.has_money and price is not None
        call.reservation = Reservation(
            amounts,
            choices,
            price if has_price else None,
            self._prices.as_of,
            budgets,
            job.facts.opened_ms,
            policy_hash,
        )
        job.hold(call.nonce, amounts)
        self._metered[job] = budgets, policy_hash
        if self._ledger is not None and account is not None:
            self._ledger.take(policy_hash, call.receipt_id, amounts)
        return None

    async def commit(self, call: Call, reservation: Reservation) -> Refusal | None:
        """What was taken of the contract's budgets, durable. Meanwhile a call may have ended that used more than it had
        taken, or the time may be over: then this one does not leave. Nothing is awaited after that was looked at."""
        assert call.job is not None
        budgets, job = reservation.budgets, call.job
        if self._ledger is not None and budgets.has_contract_limits:
            await self._ledger.commit(call.receipt_id)
        account = self._account(budgets, job, reservation.policy_hash_b64u)
        if isinstance(account, Refusal):
            return account
        self._arm(reservation, job, account)
        late = self._late(budgets, job, account) or self._full(budgets, job, account, NOTHING)
        return None if late is not None and let_through(call, late) else late

    def give_back(self, call: Call) -> None:
        """The call was refused, and nothing left. What the job holds for it goes with its nonce."""
        if call.reservation is None:
            return
        if self._ledger is not None:
            self._ledger.close_call(call.receipt_id, NOTHING)
        if call.job is not None:
            self._disarm(call.job)

    def _account(self, budgets: Budgets, job: Job, policy_hash_b64u: str) -> ContractAccount | Refusal | None:
        if not budgets.has_contract_limits:
            return None
        if self._ledger is None:
            return Refusal("EVIDENCE_UNAVAILABLE", f"budgets.{PER_CONTRACT}", "this gateway keeps no accounts")
        return self._ledger.account(policy_hash_b64u, job.facts.opened_ms)

    def _price(self, facts: CallFacts, budgets: Budgets) -> Price | Refusal | None:
        """None where it is not known and does not matter."""
        price = dearest_price(facts, self._prices)
        if not budgets.has_money or not asks_for_tokens(facts):
            return price
        if price is None:
            detail = "the price table has no price for this model, or for one of its fallbacks"
            return Refusal("BUDGET_UNPRICED", f"prices of {facts.upstream or facts.provider}", detail)
        if facts.surcharges:
            detail = f"the list price does not hold with {', '.join(facts.surcharges)} as it is in this request"
            return Refusal("BUDGET_UNPRICED", f"prices of {facts.upstream or facts.provider}", detail)
        return price

    def _worst_case(self, call: Call, facts: CallFacts, price: Price | None, *, in_money: bool) -> tuple[Amounts, int]:
        amounts = worst_case(facts, call.request_bytes, call.context_tokens, price, self._defaults)
        if not asks_for_tokens(facts):
            return amounts, 0
        if in_money and price is not None:
            amounts = with_cost(amounts, price)
        return amounts, facts.choices

    # -- what is left --------------------------------------------------------------------------------------------------

    def _late(self, budgets: Budgets, job: Job, account: ContractAccount | None) -> Refusal | None:
        """A refusal where the time is over."""
        now_ms = self._clock_ms()
        for scope, limits, began_ms in _clocks(budgets, job, account):
            if limits.wall_time_s is not None and now_ms - began_ms >= limits.wall_time_s * 1000:
                detail = f"{limits.wall_time_s} s since the opening are over; 0 s are left"
                return Refusal("BUDGET_EXCEEDED", f"{scope}.wall_time_s", detail)
        return None

    def _full(self, budgets: Budgets, job: Job, account: ContractAccount | None, asked: Amounts) -> Refusal | None:
        """A refusal where there is no room for ``asked``; with ``NOTHING``, where more is taken than there is."""
        for scope, limits, spent, held, open_calls in _scopes(budgets, job, account):
            lacking = limits.lacks(spent, held, asked) if asked != NOTHING else _over(limits, spent, held)
            if lacking is not None:
                return _exceeded(scope, *lacking, spent, held, asked)
            most = limits.concurrent_calls
            if asked.requests and most is not None and open_calls >= most:
                return Refusal("TOO_MANY_CALLS", f"{scope}.concurrent_calls", f"{open_calls} of {most} are open")
        return None

    # -- after the call ------------------------------------------------------------------------------------------------

    def close(self, call: Call, reservation: Reservation, end: CallEnd) -> tuple[CallEnd, Amounts]:
        """The end of a call, with the state of the contract's budgets once it is charged, and what it is charged. Right
        before its receipt."""
        assert call.job is not None
        charged = settlement_of(reservation, end).charged
        account = self._account(reservation.budgets, call.job, reservation.policy_hash_b64u)
        if not isinstance(account, ContractAccount):
            return end, charged
        reserved, tally = reservation.amounts, account.tally
        state = reservation.budgets.contract.state(
            tally.spent + charged,
            tally.held - reserved,
            open_calls=tally.open_calls - (reserved.requests > 0),
            elapsed_s=max(0, end.ended_ms - account.first_ms) // 1000,
        )
        return replace(end, per_contract=state), charged

    def lose(self, call: Call, reservation: Reservation) -> None:
        """The receipt could not be written: the call stays charged as reserved."""
        if self._ledger is not None:
            self._ledger.close_call(call.receipt_id, reservation.amounts)

    async def settle(self, call: Call, reservation: Reservation, charged: Amounts) -> None:
        """The receipt is durable: give back what was not used, and warn where a budget is nearly used up."""
        assert call.job is not None
        job = call.job
        if self._ledger is not None:
            self._ledger.close_call(call.receipt_id, charged)
        self._disarm(job)
        account = self._account(reservation.budgets, job, reservation.policy_hash_b64u)
        now_ms = self._clock_ms()
        for scope, limits, spent, held, open_calls, began_ms in _states(reservation.budgets, job, account):
            state = limits.state(spent, held, open_calls=open_calls, elapsed_s=max(0, now_ms - began_ms) // 1000)
            prefix = "" if scope == "budgets" else f"{PER_CONTRACT}."
            for name, percent in thresholds_passed(limits, state):
                told = {"limit": state[name]["limit"], "used": state[name]["used"]}
                if job.policy_hash_b64u != reservation.policy_hash_b64u:
                    return  # the job came under another contract, whose budgets these are not
                await _note(job, {"budget": prefix + name, "percent": percent, **told})

    def marks(self, call: Call, reservation: Reservation) -> dict[bytes, bytes]:
        """The header field of an answer: the budgets of which four fifths or more are used or taken."""
        assert call.job is not None
        account = self._account(reservation.budgets, call.job, reservation.policy_hash_b64u)
        now_ms, told = self._clock_ms(), []
        for scope, limits, spent, held, open_calls, began_ms in _states(reservation.budgets, call.job, account):
            state = limits.state(spent, held, open_calls=open_calls, elapsed_s=max(0, now_ms - began_ms) // 1000)
            for name, figures in state.items():
                taken, limit = figures["used"] + figures.get("reserved", 0), figures["limit"]
                if name != "concurrent_calls" and taken * 100 >= _HEADER_FROM_PERCENT * limit:
                    told.append(
                        f"{scope.removeprefix('budgets').removeprefix('.') or 'job'} {name};"
                        f" left={max(0, limit - taken)}; limit={limit}"
                    )
        return {_HEADER: ", ".join(told).encode("ascii")} if told else {}

    def standing(self) -> JsonObject:
        """By id of each open job that has budgets, and had a call: where they stand, those of its contract as well."""
        now_ms, told = self._clock_ms(), {}
        for job, (budgets, policy_hash) in self._metered.items():
            told[job.job_id] = {
                (name if scope == "budgets" else f"{PER_CONTRACT}.{name}"): figures
                for scope, limits, spent, held, open_calls, began_ms in _states(
                    budgets, job, self._account(budgets, job, policy_hash)
                )
                for name, figures in limits.state(
                    spent, held, open_calls=open_calls, elapsed_s=max(0, now_ms - began_ms) // 1000
                ).items()
            }
        return dict(sorted(told.items()))

    # -- time ----------------------------------------------------------------------------------------------------------

    def _arm(self, reservation: Reservation, job: Job, account: ContractAccount | None) -> None:
        """One timer for each job that has calls open, and contract that they are under."""
        if job.observe:
            return
        key = (job.job_id, reservation.policy_hash_b64u)
        ends_ms = [
            began_ms + limits.wall_time_s * 1000
            for _, limits, began_ms in _clocks(reservation.budgets, job, account)
            if limits.wall_time_s is not None
        ]
        if ends_ms and key not in self._timers:
            wait_s = max(0.0, (min(ends_ms) - self._clock_ms()) / 1000)
            self._timers[key] = asyncio.get_running_loop().call_later(wait_s, self._cut, key)

    def _disarm(self, job: Job) -> None:
        if not job.metered_calls:
            for key in [key for key in self._timers if key[0] == job.job_id]:
                self._timers.pop(key).cancel()

    def _cut(self, key: tuple[str, str]) -> None:
        """The time is over: what is open ends; again soon, for what was just leaving."""
        self._timers.pop(key, None)
        left = [
            call
            for call in self.open_calls()
            if call.reservation is not None and (call.job_id, call.reservation.policy_hash_b64u) == key
        ]
        for call in left:
            call.stop("budgets.wall_time_s is over")
        if left:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(_CUT_AGAIN_S, self._cut, key)

    def stop(self) -> None:
        """Forget every timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


type _Scope = tuple[str, Limits, Amounts, Amounts, int]


def _scopes(budgets: Budgets, job: Job, account: ContractAccount | None) -> list[_Scope]:
    scopes: list[_Scope] = [("budgets", budgets.job, job.spent, job.held, job.metered_calls)]
    if account is not None:
        tally = account.tally
        scope = f"budgets.{PER_CONTRACT}"
        scopes.append((scope, budgets.contract, tally.spent, tally.held, tally.open_calls))
    return scopes


def _clocks(budgets: Budgets, job: Job, account: ContractAccount | None) -> list[tuple[str, Limits, int]]:
    clocks = [("budgets", budgets.job, job.facts.opened_ms)]
    if account is not None:
        clocks.append((f"budgets.{PER_CONTRACT}", budgets.contract, account.first_ms))
    return clocks


def _states(
    budgets: Budgets, job: Job, account: ContractAccount | Refusal | None
) -> list[tuple[str, Limits, Amounts, Amounts, int, int]]:
    known = account if isinstance(account, ContractAccount) else None
    clocks = _clocks(budgets, job, known)
    return [(*scope, clock[2]) for scope, clock in zip(_scopes(budgets, job, known), clocks, strict=True)]


def _over(limits: Limits, spent: Amounts, held: Amounts) -> tuple[str, int] | None:
    return next(
        ((name, limit) for name, limit in limits.items(METERED) if spent.of(name) + held.of(name) > limit), None
    )


def _exceeded(scope: str, name: str, limit: int, spent: Amounts, held: Amounts, asked: Amounts) -> Refusal:
    used, reserved = spent.of(name), held.of(name)
    detail = f"{max(0, limit - used - reserved)} of {limit} are left: {used} used, {reserved} reserved by open calls"
    if asked != NOTHING:
        detail += f"; this call may need {asked.of(name)}"
    return Refusal("BUDGET_EXCEEDED", f"{scope}.{name}", detail)


async def _note(job: Job, detail: JsonObject) -> None:
    """A warning that cannot be written takes nothing from the call: its receipt has the figures as well."""
    try:
        queued = job.warn(detail)
        if queued is not None:
            await queued
    except Exception as err:
        log.error("job %s: a warning could not be written: %s", job.job_id, err)
