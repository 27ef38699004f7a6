"""Step 4: the contract that a token is pinned to. Awaits the source; otherwise pure, without clock.

A token without a contract hash goes nowhere. A contract is found by that hash, must be signed by a trusted reviewer,
and must demand nothing that this gateway cannot enforce. Since the hash names the contract, what was checked once is
kept; a contract is withdrawn by revoking its hash (``tokens.revocation``), not by taking the file away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import OrderedDict

from ..tokens.errors import ClawproxyError
from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .contract import open_contract
from .data_demands import class_demands
from .detect.classes import DataClasses
from .policy import Policy
from .source import ContractSource

log = logging.getLogger("clawproxy.contracts")

MAX_CACHED = 512
FETCH_TIMEOUT_S = 5.0


class Pinner:
    """Finds and checks contracts, and keeps the last ``max_cached`` of them. ``signers`` are DIDs of reviewers.

    Lives on one event loop. With no signers nothing is pinned.
    """

    def __init__(
        self,
        source: ContractSource,
        signers: frozenset[str],
        *,
        max_cached: int = MAX_CACHED,
        fetch_timeout_s: float = FETCH_TIMEOUT_S,
        data_classes: DataClasses | None = None,
    ) -> None:
        self._source = source
        self._signers = signers
        self._max_cached = max_cached
        self._fetch_timeout_s = fetch_timeout_s
        self._data_classes = data_classes
        self._policies: OrderedDict[str, Policy] = OrderedDict()

    def renew(self, source: ContractSource, signers: frozenset[str]) -> None:
        """Go on with another source and other reviewers; what was kept is fetched and checked again."""
        self._source, self._signers = source, signers
        self._policies = OrderedDict()

    def cached(self, grant: Grant) -> Policy | Refusal | None:
        """What ``pin`` would say, without waiting; None where the contract has to be fetched first."""
        if grant.policy_hash_b64u is None:
            return Refusal(
                "POLICY_REQUIRED", "claim policy_hash_b64u", "the token names no contract, so nothing can be checked"
            )
        policy = self._policies.get(grant.policy_hash_b64u)
        if policy is None:
            return None
        self._policies.move_to_end(grant.policy_hash_b64u)
        return _judge(policy, grant)

    async def pin(self, grant: Grant) -> Policy | Refusal:
        """The policy of the pinned contract, or why the call may not go out under it."""
        known = self.cached(grant)
        if known is not None or grant.policy_hash_b64u is None:
            assert known is not None
            return known
        try:
            policy = await self.policy_of(grant.policy_hash_b64u)
        except ClawproxyError as err:
            return Refusal(
                err.reason, f"contract {grant.policy_hash_b64u}", err.one_line().removesuffix(f" [{err.reason}]")
            )
        return _judge(policy, grant)

    async def policy_of(self, policy_hash_b64u: str) -> Policy:
        """The checked policy with this hash, without a token; raises ``ClawproxyError`` with a reason of the pin step.

        It may still hold demands: only ``pin`` and ``cached`` judge those.
        """
        policy = self._policies.get(policy_hash_b64u)
        if policy is not None:
            return policy
        source, signers, policies = self._source, self._signers, self._policies
        try:
            async with asyncio.timeout(self._fetch_timeout_s):
                envelope = await source.fetch(policy_hash_b64u)
        except Exception as err:  # a source may fail in any way; whatever it is, nothing goes out
            log.warning("a contract source failed: %s", err if isinstance(err, ClawproxyError) else type(err).__name__)
            raise ClawproxyError("WPC_REGISTRY_FETCH_FAILED", "a contract source could not be read") from err
        if envelope is None:
            raise ClawproxyError("WPC_NOT_FOUND", "no source has this contract", got=policy_hash_b64u)
        contract = open_contract(envelope, signers, expected_hash=policy_hash_b64u)
        demands = contract.policy.demands + class_demands(contract.policy, self._data_classes)
        policy = dataclasses.replace(contract.policy, envelope=envelope, demands=demands)
        policies[policy_hash_b64u] = policy  # one that was fetched before ``renew`` is not kept after it
        while len(policies) > self._max_cached:
            policies.popitem(last=False)
        return policy


def _judge(policy: Policy, grant: Grant) -> Policy | Refusal:
    if policy.demands:
        fields = ", ".join(demand.field for demand in policy.demands)
        why = "; ".join(dict.fromkeys(demand.why for demand in policy.demands))
        return Refusal("WPC_UNENFORCEABLE", fields, why)
    life_s = grant.exp_s - grant.iat_s
    if life_s > policy.max_ttl_s:
        detail = f"the token lives {life_s} s, the contract allows {policy.max_ttl_s} s"
        return Refusal("TOKEN_TTL_TOO_LONG", f"longest life {policy.max_ttl_s // 60} minutes", detail)
    return policy
