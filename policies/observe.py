"""What a job that was opened to observe lets through: what its contract refuses and another contract could allow. Pure.

The widest contract that speaks of one call alone names exactly what that call asks for. What even this one refuses is
not about the contract (a name with two readings, a model that is not named, a tool that must be used and is not
declared, the scope of the token) and stays refused. So whatever is let through can stand in a contract afterwards
(``suggest``).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .addresses import host_fault, is_literal
from .call_rules import ToolCall, decide_call
from .decide import decide
from .egress import METHODS, EgressFacts, destination_fault
from .facts import PROVIDER_FEATURES, CallFacts
from .names import is_settled
from .policy import ModelRules, Policy, Shape
from .tools import MODEL_CALL, build_tool_rules

WAIVED = frozenset(
    {
        "APPROVAL_REQUIRED",
        "BUDGET_EXCEEDED",
        "BUDGET_UNPRICED",
        "EGRESS_NOT_ALLOWED",
        "POLICY_MODEL_IDENTITY_TIER_TOO_LOW",
        "POLICY_MODEL_NOT_ALLOWED",
        "POLICY_PROVIDER_NOT_ALLOWED",
        "POLICY_REMOTE_URL",
        "POLICY_STATEMENT_DENIED",
        "POLICY_STATE_NOT_READABLE",
        "POLICY_TOOL_ARGUMENTS",
        "POLICY_TOOL_DENIED",
        "POLICY_TOOL_NOT_ALLOWED",
        "TOO_MANY_CALLS",
    }
)
"""The refusals that are about the contract. Of these TOO_MANY_CALLS only where it is a budget."""
_NOT_PUBLIC = frozenset(
    {"arpa", "corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain", "localhost", "onion",
     "private"}
)  # fmt: skip


def is_waived(refusal: Refusal) -> bool:
    """Whether this refusal is one of the contract."""
    budget = refusal.reason != "TOO_MANY_CALLS" or refusal.rule.startswith("budgets")
    return refusal.reason in WAIVED and budget


def can_be_named(name: str) -> bool:
    """Whether a contract can name exactly this model or tool."""
    return is_settled(name) and "*" not in name and name == name.strip() and name != MODEL_CALL


def call_could_be_allowed(facts: CallFacts, grant: Grant) -> bool:
    """Whether a contract could allow this model call."""
    return not isinstance(decide(facts, grant, _widest(facts)), Refusal)


def tool_could_be_called(call: ToolCall, facts: CallFacts, grant: Grant) -> bool:
    """Whether a contract could allow this call of a tool in an answer."""
    return not isinstance(decide_call(call, facts, grant, _widest(facts, (call.name, *call.inner))), Refusal)


def destination_could_be_listed(scheme: str, host: str) -> bool:
    """Whether a contract could list this host: a plain name, or, without TLS, an address."""
    return destination_fault(host) is None and (scheme == "http" or not is_literal(host))


def egress_could_be_listed(facts: EgressFacts) -> bool:
    """Whether a contract could list this call of a tool."""
    return destination_could_be_listed(facts.scheme, facts.host) and facts.method in METHODS


def name_could_be_listed(name: str) -> bool:
    """Whether a name that is asked of the DNS looks like one of the public internet, which a contract could list."""
    return host_fault(name) is None and "." in name and name.rpartition(".")[2] not in _NOT_PUBLIC


def _widest(facts: CallFacts, called: Iterable[str] = ()) -> Policy:
    models = (facts.model, *facts.fallback_models, facts.upstream_model)
    return Policy(
        policy_hash_b64u="",
        shape=Shape.CLAW,
        name="",
        providers=None,
        models=ModelRules(tuple(name for name in models if name and can_be_named(name))),
        tools=build_tool_rules(allowed=tuple(name for name in (*facts.tools, *called) if can_be_named(name))),
        provider_features=PROVIDER_FEATURES,
    )
