"""``budgets`` of a contract: how much a job, or all jobs of the contract together, may use; and counting it. Pure.

What is counted: calls that ask a provider for something (``requests``), tokens read and written, money by list prices
(``prices``), the time since the opening, and calls open at once. A limit of 0 allows none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..tokens.canonical import MAX_SAFE_INT, JsonObject
from .fields import Fields

METERED = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost_microusd")
"""What calls use up. It is reserved before a call leaves and settled when it has ended."""
NAMES = (*METERED, "wall_time_s", "concurrent_calls")
PER_CONTRACT = "per_contract"
MAX_AMOUNT = MAX_SAFE_INT
MAX_LIMIT = 10**15
"""Far enough from ``MAX_AMOUNT`` that what is over a limit can still be recorded."""
WARN_AT_PERCENT = (80, 95)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one call, or several together, used or may use. Money is in micro-dollars (USD)."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def of(self, name: str) -> int:
        """The amount of one of ``METERED``."""
        amount: int = getattr(self, name)
        return amount

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_microusd + other.cost_microusd,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cost_microusd - other.cost_microusd,
        )

    def bounded(self) -> Amounts:
        """Each amount within what a record can hold."""
        return Amounts(*(min(max(0, value), MAX_AMOUNT) for value in dataclasses.astuple(self)))

    def to_json(self) -> JsonObject:
        return {
            "cost_microusd": self.cost_microusd,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "requests": self.requests,
        }

    @staticmethod
    def from_json(told: JsonObject) -> Amounts:
        """Raises ``KeyError`` or ``ValueError`` for anything but whole numbers that are not negative."""
        values = [told[name] for name in ("requests", "input_tokens", "output_tokens", "cost_microusd")]
        if any(value.__class__ is not int or not 0 <= value <= MAX_AMOUNT for value in values):
            raise ValueError("an amount is not a whole number from 0")
        return Amounts(*values)


NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets of one scope; None is no limit."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost_microusd: int | None = None
    wall_time_s: int | None = None
    concurrent_calls: int | None = None

    def items(self, names: tuple[str, ...] = NAMES) -> Iterator[tuple[str, int]]:
        """The limits that there are, by name."""
        for name in names:
            limit: int | None = getattr(self, name)
            if limit is not None:
                yield name, limit

    def lacks(self, spent: Amounts, held: Amounts, asked: Amounts) -> tuple[str, int] | None:
        """The first budget, with its limit, in which ``asked`` has no room beside what is spent and held."""
        for name, limit in self.items(METERED):
            wanted = asked.of(name)
            if wanted and spent.of(name) + held.of(name) + wanted > limit:
                return name, limit
        return None

    def state(self, spent: Amounts, held: Amounts, *, open_calls: int, elapsed_s: int) -> JsonObject:
        """Per budget ``limit``, ``used`` and ``reserved``; of time and of open calls there is no ``reserved``."""
        told: JsonObject = {
            name: {"limit": limit, "reserved": held.of(name), "used": spent.of(name)}
            for name, limit in self.items(METERED)
        }
        if self.wall_time_s is not None:
            told["wall_time_s"] = {"limit": self.wall_time_s, "used": elapsed_s}
        if self.concurrent_calls is not None:
            told["concurrent_calls"] = {"limit": self.concurrent_calls, "used": open_calls}
        return dict(sorted(told.items()))


@dataclass(frozen=True, slots=True)
class Budgets:
    """``job`` holds for each job alone, ``contract`` for all jobs of the contract at one gateway."""

    job: Limits = Limits()
    contract: Limits = Limits()

    @property
    def has_contract_limits(self) -> bool:
        return self.contract != Limits()

    @property
    def has_money(self) -> bool:
        return self.job.cost_microusd is not None or self.contract.cost_microusd is not None


def read_budgets(fields: Fields) -> Budgets | None:
    """``budgets`` of a contract; None where it has none. Raises ``ClawproxyError`` (WPC_INVALID)."""
    outer = fields.object("budgets", (*NAMES, PER_CONTRACT))
    if outer is None:
        return None
    inner = outer.object(PER_CONTRACT, NAMES)
    budgets = Budgets(_limits(outer), Limits() if inner is None else _limits(inner))
    return None if budgets == Budgets() else budgets


def _limits(fields: Fields) -> Limits:
    return Limits(**{name: fields.integer(name, most=MAX_LIMIT) for name in NAMES})


def thresholds_passed(limits: Limits, state: JsonObject) -> Iterator[tuple[str, int]]:
    """Each budget of ``state`` with the highest of ``WARN_AT_PERCENT`` that its ``used`` has reached."""
    for name, _ in limits.items():
        told = state[name]
        if name == "concurrent_calls" or not told["limit"]:
            continue
        passed = [percent for percent in WARN_AT_PERCENT if told["used"] * 100 >= percent * told["limit"]]
        if passed:
            yield name, passed[-1]


def budget_surprises(
    budgets: Budgets, has_price: Callable[[str], bool], models: tuple[str, ...]
) -> Iterator[tuple[bool, str, str, str]]:
    """What a reviewer should know: (whether calls are refused, field, message, remedy)."""
    for prefix, limits in (("budgets", budgets.job), (f"budgets.{PER_CONTRACT}", budgets.contract)):
        for name, limit in limits.items():
            if limit == 0:
                yield True, f"{prefix}.{name}", "the limit is 0, so no call goes out", "raise it, or take it out"
    for name, limit in budgets.job.items():
        whole: int | None = getattr(budgets.contract, name)
        if whole is not None and whole < limit:
            message = f"budgets.{PER_CONTRACT}.{name} is less, so no job can use it up"
            yield False, f"budgets.{name}", message, ""
    if not budgets.has_money:
        return
    for model in models:
        if has_price(model):
            continue
        field = f'allowed_models["{model}"]'
        if "*" in model:
            yield False, field, "of the models that fit, those without a price are refused (BUDGET_UNPRICED)", ""
        else:
            message = "the price table has no price for it, so its calls are refused (BUDGET_UNPRICED)"
            yield True, field, message, "give it one in [prices] of the gateway's configuration"
