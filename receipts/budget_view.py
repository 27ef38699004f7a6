"""Where the budgets of a job stand, by what its journal says; nothing of it is verified here. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policies.budget_rules import Amounts, Budgets
from ..policies.contract import document_in, parse_contract
from ..tokens.canonical import JsonObject
from .budget import Tally, charged_in, reserved_in


@dataclass(slots=True)
class BudgetView:
    """Fed with the records of a journal in their order."""

    tally: Tally = field(default_factory=Tally)
    open_calls: dict[str, Amounts] = field(default_factory=dict)
    last_timestamp: str = ""
    policy_hash_b64u: str | None = None
    """The contract that the job came under after its first, by the last event that names one."""
    per_contract: JsonObject | None = None
    """Of all jobs of the contract, as the last receipt had it."""

    def take(self, record: JsonObject) -> None:
        """One record; what is not as the format has it is passed over."""
        payload = record["body"]["payload"]
        self.last_timestamp = payload["timestamp"]
        if record["t"] == "intent":
            reserved = reserved_in(payload["detail"])
            if reserved is not None:
                self.open_calls[payload["detail"]["receipt_id"]] = reserved
                self.tally.reserve(reserved)
        elif record["t"] == "receipt":
            ours = payload["metadata"]["clawproxy"]
            self._close(payload["receipt_id"], charged_in(ours))
            self.per_contract = ours.get("budget", {}).get("per_contract", self.per_contract)
        elif record["t"] == "event" and payload["event"]["event_type"] == "authority_changed":
            self.policy_hash_b64u = payload["detail"].get("policy_hash_b64u", self.policy_hash_b64u)
        elif record["t"] == "recovery":
            for receipt_id in payload["open_calls"]:
                self._close(receipt_id, None)

    def _close(self, receipt_id: str, charged: Amounts | None) -> None:
        reserved = self.open_calls.pop(receipt_id, None)
        if reserved is not None:
            self.tally.close(reserved, reserved if charged is None else charged)

    def state(self, budgets: Budgets, elapsed_s: int) -> JsonObject:
        """Per budget ``limit``, ``used``, ``reserved`` and ``left``; those of the contract as ``per_contract.NAME``."""
        tally = self.tally
        told = budgets.job.state(tally.spent, tally.held, open_calls=tally.open_calls, elapsed_s=elapsed_s)
        told |= {f"per_contract.{name}": figures for name, figures in (self.per_contract or {}).items()}
        return {name: {**figures, "left": left_of(figures)} for name, figures in told.items()}

    def state_then(self, budgets: Budgets) -> JsonObject:
        """What was counted, by the records so far; of calls that were about to leave there is none yet."""
        state = self.state(budgets, 0)
        return {name: figures for name, figures in state.items() if not name.endswith("wall_time_s")}


def left_of(figures: JsonObject) -> int:
    """What nobody has used or taken of one budget."""
    left: int = figures["limit"] - figures["used"] - figures.get("reserved", 0)
    return max(0, left)


def budgets_in(contract_envelope: JsonObject) -> Budgets | None:
    """The budgets of a contract; raises ``ClawproxyError`` for one that cannot be read."""
    return parse_contract(document_in(contract_envelope)).policy.budgets


def in_words(state: JsonObject) -> str:
    """``state`` on one line: of each budget what is used, what open calls have taken, and what is left."""
    parts = []
    for name, figures in state.items():
        reserved = f", {figures['reserved']} reserved" if figures.get("reserved") else ""
        parts.append(f"{name} {figures['used']} of {figures['limit']} used{reserved}, {left_of(figures)} left")
    return "; ".join(parts)


def told_of_budgets(detail: JsonObject, ours: JsonObject) -> JsonObject:
    """What an explanation says of a call's budgets, by its intent and the ``metadata.clawproxy`` of its receipt."""
    told: JsonObject = {}
    if "budget" in detail:
        told["budget_reserved"] = _amounts(detail["budget"]["reserved"])
    if "budget" in ours:
        budget = ours["budget"]
        told["budget_charged"] = f"{_amounts(budget['charged'])} ({budget['basis']})"
        told["budgets_after"] = in_words(budget["state"])
        if "per_contract" in budget:
            told["budgets_of_contract_after"] = in_words(budget["per_contract"])
    return told


def _amounts(told: JsonObject) -> str:
    return ", ".join(f"{amount} {name}" for name, amount in told.items())
