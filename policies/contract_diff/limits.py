"""Budgets, side by side: what jobs can use in all, worked out from every limit that bears on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..budget_rules import NAMES, PER_CONTRACT, Budgets, Limits
from ..policy import Policy
from .power import Power

_Most = dict[str, int | None]
"""The most of each, None without bound."""


def budget_powers(here: Policy, there: Policy) -> Iterator[Power]:
    """What a job, or all jobs of the contract together, can use ``here`` and not ``there``."""
    mine, theirs = here.budgets or Budgets(), there.budgets or Budgets()
    for prefix, whose, ours, limits in (
        ("budgets", "a job", most_of_a_job(mine), _shortest(theirs.job, theirs.contract)),
        (f"budgets.{PER_CONTRACT}", "all jobs together", most_of_all_jobs(mine), theirs.contract),
    ):
        for name, limit in limits.items():
            most = ours[name]
            if most is None or most > limit:
                what = f"{name} of {whose}"
                can = "no limit" if most is None else f"up to {most}"
                yield Power(f"{prefix}.{name}", what, f"{prefix}.{name}", can, f"up to {limit}")


def most_of_a_job(budgets: Budgets) -> _Most:
    """The most that one job can use of each."""
    return _reachable(_shortest(budgets.job, budgets.contract))


def most_of_all_jobs(budgets: Budgets) -> _Most:
    """The most that all jobs can use together: as many jobs as there may be requests, each at its most."""
    job, whole = most_of_a_job(budgets), _as_most(budgets.contract)
    jobs = whole["requests"]
    for name in ("input_tokens", "output_tokens", "total_tokens", "cost_microusd"):
        whole[name] = _least(whole[name], _times(job[name], jobs))
    if job["requests"] == 0:
        whole["requests"] = 0
    whole["concurrent_calls"] = _least(whole["concurrent_calls"], _times(job["concurrent_calls"], jobs))
    return _reachable(Limits(**whole))


def _times(amount: int | None, number: int | None) -> int | None:
    if amount == 0 or number == 0:
        return 0
    return None if amount is None or number is None else amount * number


def _as_most(limits: Limits) -> _Most:
    return {name: getattr(limits, name) for name in NAMES}


def _shortest(a: Limits, b: Limits) -> Limits:
    return Limits(**{name: _least(getattr(a, name), getattr(b, name)) for name in NAMES})


def _reachable(limits: Limits) -> _Most:
    """What limits leave, each seen in the light of the others: no call without a request, no token beside both sums."""
    most = _as_most(limits)
    if 0 in (most["requests"], most["wall_time_s"], most["concurrent_calls"]):
        return dict.fromkeys(most, 0)
    read, wrote, total = (most[name] for name in ("input_tokens", "output_tokens", "total_tokens"))
    most["input_tokens"], most["output_tokens"] = _least(read, total), _least(wrote, total)
    if read is not None and wrote is not None:
        most["total_tokens"] = _least(total, read + wrote)
    most["concurrent_calls"] = _least(most["concurrent_calls"], most["requests"])
    return most


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
