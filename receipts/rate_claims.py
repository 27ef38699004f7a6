"""Touches files: what a proof bundle claims of rates, where the contract has budgets of the job (protocol.md E.8).

One claim per segment: its own share of what the job may use, so that the sum over the bundles of a job is the job's.
The window is the job's. Without a budget of requests their maximum is the highest number there is. A pair of tokens
that would be over its maximum is left out, since the format has no word for it; the journal tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..policies.budget_rules import Amounts, Limits
from ..policies.contract import document_in, parse_contract
from ..tokens.canonical import MAX_SAFE_INT, JsonObject, parse_json_object
from .contract_files import MAX_CONTRACT_BYTES
from .disk import Disk, read_whole
from .job_facts import JobFacts
from .job_paths import JobPaths
from .journal import MAX_LINE_BYTES

_COUNTED = ("requests", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of a job, by contract, and its window; without a budget that can be claimed, all is empty."""

    limits: Mapping[str, Limits] = field(default_factory=dict)
    window_start: str = ""
    window_end: str = ""

    def claim(self, policy_hash_b64u: str, charged: Amounts, facts: JobFacts, run_id: str) -> JsonObject | None:
        """What a segment under this contract, whose calls were charged so much, claims."""
        limits = self.limits.get(policy_hash_b64u)
        if limits is None:
            return None
        requests = limits.requests
        over = requests is None or charged.requests > requests  # the latter only in a job opened to observe
        claim: JsonObject = {
            "claim_version": "1",
            "max_requests": MAX_SAFE_INT if over else requests,
            "observed_requests": charged.requests,
            "run_id": run_id,
            "scope": "agent",
            "scope_key": facts.agent_did,
            "window_end": self.window_end,
            "window_start": self.window_start,
        }
        for name in ("input", "output"):
            limit: int | None = getattr(limits, f"{name}_tokens")
            if limit is not None and charged.of(f"{name}_tokens") <= limit:
                claim[f"max_tokens_{name}"] = limit
                claim[f"observed_tokens_{name}"] = charged.of(f"{name}_tokens")
        return claim


def read_rates(disk: Disk, paths: JobPaths) -> Rates:
    """Of a job whose journal has its end. The caller verifies that end, and compares."""
    limits = {}
    for path in (paths.contract, *(paths.contracts / name for name in disk.names(paths.contracts))):
        envelope = parse_json_object(read_whole(disk, path, MAX_CONTRACT_BYTES))
        policy = parse_contract(document_in(envelope)).policy
        if policy.budgets is not None and any(True for _ in policy.budgets.job.items(_COUNTED)):
            limits[policy.policy_hash_b64u] = policy.budgets.job
    if not limits:
        return Rates()
    first, last = b"", b""
    for block in disk.read_blocks(paths.journal):
        if b"\n" not in first:
            first += block
        last = (last + block)[-2 * MAX_LINE_BYTES :]
    return Rates(limits, _time_of(first.partition(b"\n")[0]), _time_of(last.rstrip(b"\n").rpartition(b"\n")[2]))


def _time_of(line: bytes) -> str:
    timestamp: str = parse_json_object(line)["body"]["payload"]["timestamp"]
    return timestamp
