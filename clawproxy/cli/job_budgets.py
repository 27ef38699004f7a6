"""Where the budgets of a job stand, out of its directory. Reads files."""

from __future__ import annotations

import time

from ..receipts.budget_view import BudgetView, budgets_in
from ..receipts.job_facts import JobFacts
from ..receipts.job_paths import JobPaths
from ..receipts.wire_schema import parse_date_time_ms
from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError


def budgets_of(paths: JobPaths, facts: JobFacts, view: BudgetView) -> JsonObject:
    """Where the job's budgets stand; empty where the contract has none, or is not readable."""
    try:
        later = view.policy_hash_b64u not in (None, facts.policy_hash_b64u)
        contract = paths.contract_of(str(view.policy_hash_b64u)) if later else paths.contract
        budgets = budgets_in(parse_json_object(contract.read_bytes()))
    except (OSError, ClawproxyError):
        return {}
    now_ms = time.time_ns() // 1_000_000
    if paths.seal.exists():
        now_ms = parse_date_time_ms(view.last_timestamp) or now_ms
    elapsed_s = max(0, now_ms - facts.opened_ms) // 1000
    return {} if budgets is None else view.state(budgets, elapsed_s)
