"""Touches files: what a proof bundle claims of rates, where the contract has budgets of the job (protocol.md E.8).

One claim per segment: its own share of what the job may use, so that the sum over the bundles of a job is the job's.
The window is the job's. Without a budget of requests their maximum is the highest number there is. A pair of tokens
that would be over its maximum is left out, since the format has no word for it; the journal tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policies.budget_rules import Amounts, Limits
from ..policies.contract import document_in, parse_contract
from ..tokens.canonical import MAX_SAFE_INT, JsonObject, parse_json_object
from .disk import Disk, read_whole
from .job_facts import JobFacts
from .job_paths import JobPaths
from .journal import MAX_LINE_BYTES
from .recover import MAX_CONTRACT_BYTES

_COUNTED = ("requests", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of a job and its window; without a budget that can be claimed, all is empty."""

    limits: Limits = field(default_factory=Limits)
    window_start: str = ""
    window_end: str = ""

    def claim(self, charged: Amounts, facts: JobFacts, run_id: str) -> JsonObject | None:
        """What a segment whose calls were charged so much claims."""
        if not self.window_end:
            return None
        requests = self.limits.requests
        claim: JsonObject = {
            "claim_version": "1",
            "max_requests": MAX_SAFE_INT if requests is None else requests,
            "observed_requests": charged.requests,
            "run_id": run_id,
            "scope": "agent",
            "scope_key": facts.agent_did,
            "window_end": self.window_end,
            "window_start": self.window_start,
        }
        for name in ("input", "output"):
            limit: int | None = getattr(self.limits, f"{name}_tokens")
            if limit is not None and charged.of(f"{name}_tokens") <= limit:
                claim[f"max_tokens_{name}"] = limit
                claim[f"observed_tokens_{name}"] = charged.of(f"{name}_tokens")
        return claim


def read_rates(disk: Disk, paths: JobPaths) -> Rates:
    """Of a job whose journal has its end. The caller verifies that end, and compares."""
    envelope = parse_json_object(read_whole(disk, paths.contract, MAX_CONTRACT_BYTES))
    budgets = parse_contract(document_in(envelope)).policy.budgets
    if budgets is None or not any(True for _ in budgets.job.items(_COUNTED)):
        return Rates()
    first, last = b"", b""
    for block in disk.read_blocks(paths.journal):
        if b"\n" not in first:
            first += block
        last = (last + block)[-2 * MAX_LINE_BYTES :]
    return Rates(budgets.job, _time_of(first.partition(b"\n")[0]), _time_of(last.rstrip(b"\n").rpartition(b"\n")[2]))


def _time_of(line: bytes) -> str:
    timestamp: str = parse_json_object(line)["body"]["payload"]["timestamp"]
    return timestamp
