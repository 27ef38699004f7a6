"""Rules of budgets, over the records of a job (docs/evidence-format.md, "Budgets"). Pure.

J70 where the contract has budgets, each intent of a model call says what the call may use, and each receipt what it was
    charged; elsewhere none does (EVIDENCE_MISMATCH)
J71 an intent has room: what is used, what open calls may use and what it may use are within each budget of the job, and
    so are time and calls open at once (BUDGET_EXCEEDED). It is one request, and none where a socket opens.
    Its cost is that of its tokens at its prices, which stand there where a budget is in money (EVIDENCE_MISMATCH)
J72 a receipt is charged as its ``basis`` says, worked out again from its tokens and the intent's prices; the state in
    it is the sum of the records so far, under the contract's limits (EVIDENCE_MISMATCH)
J73 ``budget_warning`` names a budget of the contract and a threshold of it once, with the figures of that moment
    (EVIDENCE_MISMATCH)
J74 more was used than a budget allows: a gap (BUDGET_OVERRUN). The gateway let no call out beyond it, but one used more
    than it was thought to use at most

Limits: the budgets of all jobs of a contract are the gateway's own account; of them a receipt is held to the limits and
the form alone. That the prices were right is the gateway's word, as is that nothing left (``not_sent``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policies.budget_rules import METERED, NOTHING, PER_CONTRACT, WARN_AT_PERCENT, Amounts, Budgets, Limits
from ..policies.prices import Price
from ..tokens.canonical import JsonObject
from .job_shapes import BUDGET_WARNING
from .report import Fault, Findings
from .wire_envelope import check_shape, join, same_json
from .wire_schema import parse_date_time_ms

_UNSENT = ("upstream_unreachable", "fault", "stopped")


@dataclass(slots=True)
class BudgetsSeen:
    """What the records of a job say of its budgets. ``opened_ms`` is job.json's."""

    budgets: Budgets | None
    opened_ms: int
    spent: Amounts = NOTHING
    open_calls: dict[str, tuple[Amounts, int, JsonObject, Budgets]] = field(default_factory=dict)
    """By receipt id: what was reserved, the segment, the intent's ``budget``, and the budgets of its contract."""
    by_segment: dict[int, Amounts] = field(default_factory=dict)
    limits_of: dict[int, Limits] = field(default_factory=dict)
    """Limits of segments that begin under another contract, until the next such."""
    warned: set[tuple[str, int]] = field(default_factory=set)
    overrun: dict[str, str] = field(default_factory=dict)
    """Budget -> path of the first record with which it was used up beyond its limit."""

    def take_contract(self, budgets: Budgets | None, segment: int) -> None:
        """Another contract is in force from this segment on. What was used stays used; warnings begin anew."""
        self.limits_of.setdefault(1, self.limits)
        self.budgets = budgets
        self.limits_of[segment] = self.limits
        self.warned = set()

    @property
    def limits(self) -> Limits:
        return self.budgets.job if self.budgets is not None else Limits()

    @property
    def held(self) -> Amounts:
        return sum((reserved for reserved, *_ in self.open_calls.values()), NOTHING)

    @property
    def metered_calls(self) -> int:
        return sum(reserved.requests > 0 for reserved, *_ in self.open_calls.values())

    def take_intent(
        self, detail: JsonObject, segment: int, timestamp: str, path: str, waived: frozenset[str] = frozenset()
    ) -> None:
        """J70, J71. ``detail`` has its closed shape; ``waived`` are codes that it was let through in spite of."""
        told, where = detail.get("budget"), join(path, "budget")
        if (told is None) != (self.budgets is None):
            raise Fault("J70", "EVIDENCE_MISMATCH", where, "it stands there exactly where the contract has budgets")
        if told is None or self.budgets is None:
            return
        reserved = Amounts.from_json(told["reserved"])
        kind = detail.get("facts", {}).get("kind")
        if kind is not None and reserved.requests != (kind != "connect"):  # the handshake of a socket asks nothing
            detail_text = "a call is one request, and the handshake of a socket none"
            raise Fault("J71", "EVIDENCE_MISMATCH", join(where, "reserved.requests"), detail_text)
        self._check_price(told, reserved, where, unpriced="BUDGET_UNPRICED" in waived)
        held, limits = self.held, self.limits
        for name, limit in limits.items(METERED):
            after = self.spent.of(name) + held.of(name) + reserved.of(name)
            if after > limit and "BUDGET_EXCEEDED" not in waived:
                detail_text = f"{name}: {after} with this call, and the limit is {limit}"
                raise Fault("J71", "BUDGET_EXCEEDED", join(where, "reserved"), detail_text)
        most = limits.concurrent_calls
        full = most is not None and reserved.requests and self.metered_calls + 1 > most
        if full and "TOO_MANY_CALLS" not in waived:
            raise Fault("J71", "BUDGET_EXCEEDED", where, f"concurrent_calls: more than {most} are open")
        late = limits.wall_time_s is not None and self._elapsed_s(timestamp) > limits.wall_time_s
        if late and "BUDGET_EXCEEDED" not in waived:
            raise Fault("J71", "BUDGET_EXCEEDED", where, f"wall_time_s: the {limits.wall_time_s} s were over")
        self.open_calls[detail["receipt_id"]] = (reserved, segment, told, self.budgets)

    def _check_price(self, told: JsonObject, reserved: Amounts, where: str, *, unpriced: bool) -> None:
        assert self.budgets is not None
        price = told.get("price")
        asks_model = reserved.total_tokens > 0
        if price is None:
            if reserved.cost_microusd and self.budgets.has_money:
                raise Fault("J71", "EVIDENCE_MISMATCH", join(where, "price"), "a cost without prices")
            if self.budgets.has_money and asks_model and not unpriced:
                raise Fault("J71", "EVIDENCE_MISMATCH", join(where, "price"), "a budget in money, and no prices")
            return
        if not self.budgets.has_money:
            raise Fault("J71", "EVIDENCE_MISMATCH", join(where, "price"), "prices, and no budget in money")
        cost = Price.from_json(price).most(reserved.input_tokens, reserved.output_tokens)
        if reserved.cost_microusd != Amounts(cost_microusd=cost).bounded().cost_microusd:
            raise Fault("J71", "EVIDENCE_MISMATCH", join(where, "reserved.cost_microusd"), f"expected {cost}")

    def take_receipt(self, payload: JsonObject, path: str) -> None:
        """J70, J72. ``payload`` has its closed shape, and answers an open intent."""
        ours = payload["metadata"]["clawproxy"]
        told, where = ours.get("budget"), join(path, "metadata.clawproxy.budget")
        opened = self.open_calls.pop(payload["receipt_id"], None)
        if (told is None) != (opened is None):
            raise Fault("J70", "EVIDENCE_MISMATCH", where, "it stands there exactly where the intent has one")
        if told is None or opened is None:
            return
        reserved, segment, intended, budgets = opened
        charged = Amounts.from_json(told["charged"])
        expected = _charge(told["basis"], payload, ours, reserved, intended, where)
        if charged != expected:
            raise Fault("J72", "EVIDENCE_MISMATCH", join(where, "charged"), f"expected {expected.to_json()}")
        self._add(charged, segment, path, budgets.job)
        state = budgets.job.state(
            self.spent,
            self.held,
            open_calls=self.metered_calls,
            elapsed_s=told["state"].get("wall_time_s", {}).get("used", 0),
        )
        if not same_json(told["state"], state):
            raise Fault("J72", "EVIDENCE_MISMATCH", join(where, "state"), "not the sum of the records so far")
        self._check_elapsed(told["state"], payload["timestamp"], where)
        self._check_contract_state(told.get(PER_CONTRACT), join(where, PER_CONTRACT), budgets.contract)

    def _check_elapsed(self, state: JsonObject, timestamp: str, where: str) -> None:
        # the receipt's own time may stand a moment later, where the records before it were made ahead of the clock
        if "wall_time_s" in state and state["wall_time_s"]["used"] > self._elapsed_s(timestamp):
            raise Fault("J72", "EVIDENCE_MISMATCH", join(where, "state.wall_time_s"), "more time than there was")

    def _check_contract_state(self, state: JsonObject | None, where: str, limits: Limits) -> None:
        if state is None:
            return
        if {name: state[name]["limit"] for name in state} != dict(limits.items()):
            raise Fault("J72", "EVIDENCE_MISMATCH", where, "not the limits of the contract")
        for name, _ in limits.items(METERED):
            if state[name]["used"] > state[name]["limit"]:
                self.overrun.setdefault(f"{PER_CONTRACT}.{name}", where)

    def take_gap(self, receipt_id: str, path: str) -> None:
        """A call whose outcome nobody knows stays charged as reserved."""
        opened = self.open_calls.pop(receipt_id, None)
        if opened is not None:
            self._add(opened[0], opened[1], path, opened[3].job)

    def _add(self, charged: Amounts, segment: int, path: str, limits: Limits) -> None:
        self.spent += charged
        self.by_segment[segment] = self.by_segment.get(segment, NOTHING) + charged
        for name, limit in limits.items(METERED):
            if self.spent.of(name) > limit:
                self.overrun.setdefault(name, path)

    def take_warning(self, detail: JsonObject, timestamp: str, path: str) -> None:
        """J73."""
        check_shape(BUDGET_WARNING, detail, "J73", path)
        name, percent, used = detail["budget"], detail["percent"], detail["used"]
        scope, _, inner = name.rpartition(".")
        budgets = self.budgets or Budgets()
        limits = dict((budgets.contract if scope == PER_CONTRACT else budgets.job).items())
        known = scope in ("", PER_CONTRACT) and limits.get(inner) == detail["limit"] and percent in WARN_AT_PERCENT
        if not known or (name, percent) in self.warned or used * 100 < percent * detail["limit"]:
            raise Fault(
                "J73", "EVIDENCE_MISMATCH", path, "no budget and threshold of the contract, or not for the first time"
            )
        if scope == "" and inner in METERED and used != self.spent.of(inner):
            raise Fault("J73", "EVIDENCE_MISMATCH", join(path, "used"), f"expected {self.spent.of(inner)}")
        if scope == "" and inner == "wall_time_s" and used > self._elapsed_s(timestamp):
            raise Fault("J73", "EVIDENCE_MISMATCH", join(path, "used"), "more time than there was")
        self.warned.add((name, percent))

    def tell_overruns(self, findings: Findings, *, observe: bool = False) -> None:
        """J74; a warning in a job that was opened to observe, where nothing held it back."""
        tell = findings.warn if observe else findings.gap
        for name, path in self.overrun.items():
            tell("J74", "BUDGET_OVERRUN", path, f"more of {name} was used than the contract allows")

    def _elapsed_s(self, timestamp: str) -> int:
        return max(0, (parse_date_time_ms(timestamp) or 0) - self.opened_ms) // 1000

    # -- proof bundles -------------------------------------------------------------------------------------------------

    def rate_claims(self, segment: int, agent_did: str, run_id: str, window: tuple[str, str]) -> list[JsonObject]:
        """What the proof bundle of a segment must claim of rates: its own share of what the job may use."""
        began = max((number for number in self.limits_of if number <= segment), default=None)
        limits = self.limits if began is None else self.limits_of[began]
        seen = self.by_segment.get(segment, NOTHING)
        if all(limit is None for limit in (limits.requests, limits.input_tokens, limits.output_tokens)):
            return []
        over = limits.requests is None or seen.requests > limits.requests  # only where the job was opened to observe
        most = 2**53 - 1 if over else limits.requests
        claim: JsonObject = {
            "claim_version": "1",
            "max_requests": most,
            "observed_requests": seen.requests,
            "run_id": run_id,
            "scope": "agent",
            "scope_key": agent_did,
            "window_end": window[1],
            "window_start": window[0],
        }
        for name, limit in (("input", limits.input_tokens), ("output", limits.output_tokens)):
            amount = seen.of(f"{name}_tokens")
            if limit is not None and amount <= limit:
                claim |= {f"max_tokens_{name}": limit, f"observed_tokens_{name}": amount}
        return [claim]


def _charge(
    basis: str, payload: JsonObject, ours: JsonObject, reserved: Amounts, intended: JsonObject, where: str
) -> Amounts:
    """What a call is charged, by the basis that its receipt states; J72 where it may not state that."""
    usage, status, read, wrote = ours["usage"], ours["status"], payload["tokens_input"], payload["tokens_output"]
    cost = 0
    if "price" in intended:
        price = Price.from_json(intended["price"])
        cost = price.cost(read, ours["tokens_cached"], ours["tokens_cache_write"], wrote)
    told = Amounts(reserved.requests, read, wrote, cost)
    refused = usage == "none" and status is not None and not 200 <= status < 300
    if basis == "not_sent" and ours["outcome"] in _UNSENT and status is None and not ours["response_bytes"]:
        return NOTHING
    if basis == "reported" and usage == "reported":
        return told
    if basis == "nothing" and refused:
        return Amounts(reserved.requests)
    if basis == "reserved" and usage != "reported" and not refused:
        return Amounts(*(max(getattr(reserved, name), getattr(told, name)) for name in _FIELDS))
    raise Fault("J72", "EVIDENCE_MISMATCH", join(where, "basis"), f"{basis}, which usage and outcome do not bear out")


_FIELDS = ("requests", "input_tokens", "output_tokens", "cost_microusd")
