"""What holds for a job as a whole: demands, the life of tokens, and the approval of the job. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..policy import Policy
from .power import Power


def demand_powers(here: Policy, there: Policy) -> Iterator[Power]:
    """A demand that only ``there`` makes: no call goes out under it.

    Demands that ``here`` makes take nothing away in this comparison. They are refused today, so that no call goes out
    under it either; but a later version may meet them, and what else the contract permits should be known by then.
    """
    made = {demand.field for demand in here.demands}
    for demand in there.demands:
        if demand.field not in made:
            what = f"calls although {demand.field} is not met: {demand.why}"
            yield Power(demand.field, what, here="not demanded", there="demanded")


def life_powers(here: Policy, there: Policy) -> Iterator[Power]:
    """A token may live longer."""
    if here.max_ttl_s > there.max_ttl_s:
        what = f"tokens that live {here.max_ttl_s // 60} minutes"
        yield Power("token_constraints", what, here=f"{here.max_ttl_s} s", there=f"{there.max_ttl_s} s")


def job_approval_powers(here: Policy, there: Policy) -> Iterator[Power]:
    """Calls before anybody approved the job, or after another approved it."""
    mine, theirs = here.approvals.job, there.approvals.job
    if theirs is None:
        return
    group = theirs.group or "any approver"
    if mine is None:
        yield Power("approvals", "calls before a person approved the job", here="not asked", there=f"asked: {group}")
    elif theirs.group is not None and mine.group != theirs.group:
        what = "jobs approved by others"
        yield Power("approvals", what, "approvals.approver_group", mine.group or "any approver", group)
