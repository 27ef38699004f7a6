"""Budgets in a bundle: forged, everything signed afresh, with one figure that cannot be right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from clawproxy.policies.budget_rules import NOTHING
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify_budgets import BudgetsSeen
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.envelope import timestamp

from .forge import CONTRACT_DOCUMENT, START_MS, Forge, trust

PRICE = {
    "as_of": "2030-01-01",
    "cache_write": 4_000_000,
    "cached_input": 500_000,
    "input": 1_000_000,
    "output": 2_000_000,
}
RESERVED = {"cost_microusd": 28 + 40, "input_tokens": 7, "output_tokens": 20, "requests": 1}
# of 11 tokens read 3 were cached; 5 were written
CHARGED = {"cost_microusd": 8 + 2 + 10, "input_tokens": 11, "output_tokens": 5, "requests": 1}
LIMITS = {"concurrent_calls": 2, "cost_microusd": 110, "total_tokens": 60, "wall_time_s": 100}


def forge_with(limits: dict[str, Any] = LIMITS) -> Forge:
    forge = Forge(document={**CONTRACT_DOCUMENT, "budgets": limits})
    forge.open()
    return forge


def intend(forge: Forge, n: int, **over: Any) -> int:
    return forge.intend(n, budget=copy.deepcopy({"choices": 1, "price": PRICE, "reserved": RESERVED, **over}))


def attest(forge: Forge, intent: int, used: int, **over: Any) -> int:
    """A receipt after which ``used`` calls in all are charged ``CHARGED``, and none is open."""
    state = {
        "concurrent_calls": {"limit": LIMITS["concurrent_calls"], "used": 0},
        "cost_microusd": {"limit": LIMITS["cost_microusd"], "reserved": 0, "used": 20 * used},
        "total_tokens": {"limit": LIMITS["total_tokens"], "reserved": 0, "used": 16 * used},
        "wall_time_s": {"limit": LIMITS["wall_time_s"], "used": 0},
    }
    n = forge.attest(intent)
    budget = {"basis": "reported", "charged": CHARGED, "state": state, **over}
    forge.records[n]["payload"]["metadata"]["clawproxy"]["budget"] = copy.deepcopy(budget)
    return n


def told(forge: Forge, n: int) -> dict[str, Any]:
    budget: dict[str, Any] = forge.records[n]["payload"]["metadata"]["clawproxy"]["budget"]
    return budget


def reserved(forge: Forge, n: int) -> dict[str, Any]:
    budget: dict[str, Any] = forge.records[n]["payload"]["detail"]["budget"]
    return budget


def judged(forge: Forge) -> Report:
    forge.end()
    return verify_job(forge.files(), trust())


def two_calls() -> tuple[Forge, list[int]]:
    """Numbers: intent, receipt, intent, receipt."""
    forge = forge_with()
    first = intend(forge, 0)
    numbers = [first, attest(forge, first, 1)]
    second = intend(forge, 1)
    return forge, [*numbers, second, attest(forge, second, 2)]


def test_a_job_that_keeps_its_budgets_verifies() -> None:
    forge, _ = two_calls()
    report = judged(forge)
    assert report.verdict is Verdict.VERIFIED, report.findings


def _no_budget_in_the_intent(forge: Forge, at: list[int]) -> None:
    del forge.records[at[0]]["payload"]["detail"]["budget"]


def _no_budget_in_the_receipt(forge: Forge, at: list[int]) -> None:
    del forge.records[at[1]]["payload"]["metadata"]["clawproxy"]["budget"]


def _charged_less(forge: Forge, at: list[int]) -> None:
    told(forge, at[1])["charged"]["output_tokens"] -= 1


def _charged_no_request(forge: Forge, at: list[int]) -> None:
    told(forge, at[1])["charged"]["requests"] = 0


def _cheaper(forge: Forge, at: list[int]) -> None:
    told(forge, at[1])["charged"]["cost_microusd"] -= 1


def _state_forgets(forge: Forge, at: list[int]) -> None:
    told(forge, at[3])["state"]["total_tokens"]["used"] -= 16


def _another_limit(forge: Forge, at: list[int]) -> None:
    told(forge, at[3])["state"]["total_tokens"]["limit"] += 1


def _a_budget_less_in_the_state(forge: Forge, at: list[int]) -> None:
    del told(forge, at[3])["state"]["cost_microusd"]


def _never_sent(forge: Forge, at: list[int]) -> None:
    told(forge, at[1]).update(basis="not_sent", charged=dict.fromkeys(CHARGED, 0))


def _a_refusal_that_was_none(forge: Forge, at: list[int]) -> None:
    told(forge, at[1]).update(basis="nothing", charged={**dict.fromkeys(CHARGED, 0), "requests": 1})


def _no_price(forge: Forge, at: list[int]) -> None:
    del reserved(forge, at[0])["price"]


def _reserved_too_little_money(forge: Forge, at: list[int]) -> None:
    reserved(forge, at[0])["reserved"]["cost_microusd"] -= 1


def _more_time_than_there_was(forge: Forge, at: list[int]) -> None:
    told(forge, at[3])["state"]["wall_time_s"]["used"] = 5


def _other_budgets_of_the_contract(forge: Forge, at: list[int]) -> None:
    told(forge, at[3])["per_contract"] = {"requests": {"limit": 5, "reserved": 0, "used": 1}}


@pytest.mark.parametrize(
    "harm",
    [
        _no_budget_in_the_intent, _no_budget_in_the_receipt, _charged_less, _charged_no_request, _cheaper,
        _state_forgets, _another_limit, _a_budget_less_in_the_state, _never_sent, _a_refusal_that_was_none, _no_price,
        _reserved_too_little_money, _more_time_than_there_was, _other_budgets_of_the_contract,
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_right_fails(harm: Callable[[Forge, list[int]], None]) -> None:
    forge, at = two_calls()
    harm(forge, at)
    report = judged(forge)
    assert (report.verdict, report.reason) == (Verdict.FAILED, "EVIDENCE_MISMATCH"), report.findings


def test_budgets_in_a_job_whose_contract_has_none_fail() -> None:
    forge = Forge()
    forge.open()
    intent = intend(forge, 0)
    attest(forge, intent, 1)
    assert judged(forge).reason == "EVIDENCE_MISMATCH"


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        ({"total_tokens": 54}, True),
        ({"total_tokens": 53}, False),
        ({"concurrent_calls": 2}, True),
        ({"concurrent_calls": 1}, False),
        ({"output_tokens": 39}, False),
        ({"input_tokens": 13}, False),
        ({"requests": 1}, False),
    ],
)
def test_two_calls_at_once_must_both_have_room_when_they_leave(limits: dict[str, int], fits: bool) -> None:
    forge = forge_with(limits)
    free = {name: amount for name, amount in RESERVED.items() if name != "cost_microusd"} | {"cost_microusd": 0}
    for n in range(2):
        forge.intend(n, budget={"choices": 1, "reserved": free})
    forge.recover([forge.records[n]["payload"]["detail"]["receipt_id"] for n in (1, 2)])
    report = judged(forge)
    if fits:
        assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN")
    else:
        assert (report.verdict, report.reason) == (Verdict.FAILED, "BUDGET_EXCEEDED")


@pytest.mark.parametrize("kind", ["generate", "embed", "count", "list"])
def test_a_call_that_says_that_it_is_no_request_fails(kind: str) -> None:
    forge = forge_with({"requests": 1})
    nothing = dict.fromkeys(RESERVED, 0)
    for n in range(2):
        forge.intend(n, budget={"choices": 1, "reserved": nothing}, facts={"kind": kind})
    forge.recover([forge.records[n]["payload"]["detail"]["receipt_id"] for n in (1, 2)])
    report = judged(forge)
    assert (report.verdict, report.findings[0].rule) == (Verdict.FAILED, "J71")


def test_a_call_that_left_when_the_time_was_over_fails() -> None:
    forge = forge_with()
    intent = intend(forge, 0)
    forge.records[intent]["payload"]["timestamp"] = timestamp(START_MS + 101_000)
    assert judged(forge).reason == "BUDGET_EXCEEDED"


def test_a_call_of_unknown_outcome_stays_charged() -> None:
    """27 tokens are gone with it, so that a second one of 27 leaves no room for a third."""
    for limit, fits in ((81, True), (80, False)):
        forge = forge_with({"total_tokens": limit})
        free = {**RESERVED, "cost_microusd": 0}
        for n in range(3):
            intent = forge.intend(n, budget={"choices": 1, "reserved": free})
            forge.recover([forge.records[intent]["payload"]["detail"]["receipt_id"]])
        assert (judged(forge).reason == "BUDGET_EXCEEDED") is not fits


def test_a_provider_that_reports_more_than_was_reserved_is_told_as_a_gap() -> None:
    forge = forge_with({"total_tokens": 30})
    intent = forge.intend(0, budget={"choices": 1, "reserved": {**RESERVED, "cost_microusd": 0}})
    n = forge.attest(intent, tokens_output=50)
    charged = {"cost_microusd": 0, "input_tokens": 11, "output_tokens": 50, "requests": 1}
    state = {"total_tokens": {"limit": 30, "reserved": 0, "used": 61}}
    forge.records[n]["payload"]["metadata"]["clawproxy"]["budget"] = {
        "basis": "reported", "charged": charged, "state": state,
    }  # fmt: skip
    report = judged(forge)
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "BUDGET_OVERRUN")


@pytest.mark.parametrize(
    ("detail", "holds"),
    [
        ({"budget": "total_tokens", "limit": 20, "percent": 80, "used": 16}, True),
        ({"budget": "total_tokens", "limit": 20, "percent": 80, "used": 17}, False),
        ({"budget": "total_tokens", "limit": 20, "percent": 95, "used": 16}, False),
        ({"budget": "total_tokens", "limit": 19, "percent": 80, "used": 16}, False),
        ({"budget": "requests", "limit": 20, "percent": 80, "used": 16}, False),
        ({"budget": "total_tokens", "limit": 20, "percent": 50, "used": 16}, False),
        ({"budget": "other.total_tokens", "limit": 20, "percent": 80, "used": 16}, False),
    ],
)
def test_a_warning_says_what_was_so(detail: dict[str, Any], holds: bool) -> None:
    forge = forge_with({"total_tokens": 20})
    small = {"cost_microusd": 0, "input_tokens": 7, "output_tokens": 10, "requests": 1}
    intent = forge.intend(0, budget={"choices": 1, "reserved": small})
    n = forge.attest(intent)
    forge.records[n]["payload"]["metadata"]["clawproxy"]["budget"] = {
        "basis": "reported",
        "charged": {**CHARGED, "cost_microusd": 0},
        "state": {"total_tokens": {"limit": 20, "reserved": 0, "used": 16}},
    }
    forge.event("budget_warning", detail)
    report = judged(forge)
    assert (report.verdict is Verdict.VERIFIED) is holds, report.findings


@pytest.mark.parametrize("seen", [0, 1, 2, None])
def test_a_claim_of_rates_is_held_to_the_receipts(seen: int | None) -> None:
    forge = forge_with({"requests": 5})
    intent = forge.intend(0, budget={"choices": 1, "reserved": {**RESERVED, "cost_microusd": 0}})
    n = forge.attest(intent)
    forge.records[n]["payload"]["metadata"]["clawproxy"]["budget"] = {
        "basis": "reported",
        "charged": {**CHARGED, "cost_microusd": 0},
        "state": {"requests": {"limit": 5, "reserved": 0, "used": 1}},
    }

    def claim(_number: int, payload: dict[str, Any]) -> None:
        if seen is None:
            return
        payload["rate_limit_claims"] = [
            {
                "claim_version": "1", "max_requests": 5, "observed_requests": seen, "scope": "agent",
                "run_id": payload["event_chain"][0]["run_id"], "scope_key": payload["agent_did"],
                "window_start": timestamp(START_MS), "window_end": timestamp(START_MS + 30),
            }
        ]  # fmt: skip

    forge.meddle["bundle"] = claim
    report = judged(forge)
    assert (report.verdict is Verdict.VERIFIED) is (seen == 1), report.findings


def test_without_the_sums_a_third_call_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard taken out: the same forged job, whose calls had no room, is found in order."""
    monkeypatch.setattr(BudgetsSeen, "held", property(lambda _seen: NOTHING))
    forge = forge_with({"total_tokens": 30})
    for n in range(2):
        forge.intend(n, budget={"choices": 1, "reserved": {**RESERVED, "cost_microusd": 0}})
    forge.recover([forge.records[n]["payload"]["detail"]["receipt_id"] for n in (1, 2)])
    assert judged(forge).verdict is Verdict.INCOMPLETE
