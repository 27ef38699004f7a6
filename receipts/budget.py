"""What a call takes from budgets: reserved in its intent, settled in its receipt (docs/evidence-format.md, "Budgets").
Pure.

A call is charged, by ``basis``:

* ``reported``: what the provider reported, where it ended the answer and told its usage;
* ``reserved``: else what was reserved, or the receipt's figures where they are more. Of a stream that broke off, and of
  an answer without usage, nobody here knows what the provider wrote and bills, thoughts that it does not show included;
* ``nothing``: the request alone, where the provider answered with an error and told no tokens;
* ``not_sent``: nothing at all.

A call without a receipt stays charged as reserved.

Limits: what a provider reports is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..policies.budget_rules import NOTHING, Amounts, Budgets
from ..policies.prices import Price
from ..tokens.canonical import JsonObject
from .calls import CallEnd, Usage
from .payloads import status_and_detail, tokens_of


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may use at most. ``price`` and ``price_as_of`` only under a budget in money.

    ``budgets`` are those of the contract ``policy_hash_b64u``, and ``opened_ms`` is when the job began, for the state
    in the receipt.
    """

    amounts: Amounts
    choices: int
    price: Price | None
    price_as_of: str
    budgets: Budgets
    opened_ms: int
    policy_hash_b64u: str = ""

    def to_json(self) -> JsonObject:
        """The ``budget`` of an intent."""
        told: JsonObject = {"choices": self.choices, "reserved": self.amounts.to_json()}
        if self.price is not None:
            told["price"] = {"as_of": self.price_as_of, **self.price.to_json()}
        return dict(sorted(told.items()))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a call that has ended is charged. ``per_contract`` is the state of the contract's budgets after it."""

    charged: Amounts
    basis: str
    per_contract: JsonObject | None = None


def settlement_of(reservation: Reservation, end: CallEnd) -> Settlement:
    """What a call that ended so is charged, worked out from the figures that its receipt states."""
    reserved, price, tokens = reservation.amounts, reservation.price, tokens_of(end)
    if not end.sent:
        return Settlement(NOTHING, "not_sent", end.per_contract)
    read, wrote = tokens["tokens_input"], tokens["tokens_output"]
    cost = 0
    if price is not None:
        cost = price.cost(read, tokens["tokens_cached"], tokens["tokens_cache_write"], wrote)
    told = Amounts(reserved.requests, read, wrote, cost)
    if end.usage is Usage.REPORTED:
        return Settlement(told, "reported", end.per_contract)
    status, _ = status_and_detail(end)
    if end.usage is Usage.NONE and status is not None and not 200 <= status < 300:
        return Settlement(Amounts(reserved.requests), "nothing", end.per_contract)
    return Settlement(
        Amounts(
            reserved.requests,
            max(reserved.input_tokens, told.input_tokens),
            max(reserved.output_tokens, told.output_tokens),
            max(reserved.cost_microusd, told.cost_microusd),
        ),
        "reserved",
        end.per_contract,
    )


def receipt_budget(
    reservation: Reservation,
    settlement: Settlement,
    spent: Amounts,
    held: Amounts,
    *,
    open_calls: int,
    now_ms: int,
) -> JsonObject:
    """The ``budget`` of a receipt; ``spent``, ``held`` and ``open_calls`` are the job's once this call has ended."""
    elapsed_s = max(0, now_ms - reservation.opened_ms) // 1000
    state = reservation.budgets.job.state(spent, held, open_calls=open_calls, elapsed_s=elapsed_s)
    told: JsonObject = {"basis": settlement.basis, "charged": settlement.charged.to_json(), "state": state}
    if settlement.per_contract is not None:
        told["per_contract"] = settlement.per_contract
    return dict(sorted(told.items()))


def reserved_in(detail: JsonObject) -> Amounts | None:
    """What an intent reserved; raises ``KeyError`` or ``ValueError`` where it does not say so well."""
    told = detail.get("budget")
    return None if told is None else Amounts.from_json(told["reserved"])


def charged_in(ours: JsonObject) -> Amounts | None:
    """What a receipt, by its ``metadata.clawproxy``, was charged."""
    told = ours.get("budget")
    return None if told is None else Amounts.from_json(told["charged"])


@dataclass(slots=True)
class Tally:
    """A job's amounts, as its records add up."""

    spent: Amounts = NOTHING
    held: Amounts = NOTHING
    open_calls: int = 0

    def reserve(self, amounts: Amounts) -> None:
        self.held += amounts
        self.open_calls += amounts.requests > 0

    def close(self, reserved: Amounts, charged: Amounts) -> None:
        """A call has ended, or its outcome will never be known (then ``charged`` is what it reserved)."""
        self.held -= reserved
        self.spent += charged
        self.open_calls -= reserved.requests > 0
