"""What a contract says, whatever its shape: one frozen value that ``pin`` returns and ``decide`` reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from ..tokens.canonical import JsonObject
from .approval_rules import NO_APPROVALS, ApprovalRules
from .argument_rules import NO_ARGUMENT_RULES, ArgumentRules
from .budget_rules import Budgets
from .data_rules import DataRules
from .egress import EgressEntry
from .names import fold, matches
from .read_only_rules import ReadOnlyTools
from .statements import Statement
from .tools import ToolRules

DEFAULT_MAX_TTL_S = 3600
"""Longest life of a token where its contract does not say (protocol.md B.3)."""

TIERS = ("closed_opaque", "closed_provider_manifest", "openweights_hashable", "tee_measured")
"""Model identity tiers, weakest first (protocol.md C.1). A closed provider gives the first and no more."""


class OnDeniedTool(StrEnum):
    """What becomes of a request that declares a tool outside the contract."""

    REFUSE = "refuse"
    STRIP = "strip"  # it goes out without the tool


class OnDeniedCall(StrEnum):
    """What becomes of an answer that calls a tool outside the contract."""

    ERROR = "error"  # it ends there, with an error
    REFUSE = "refuse"  # a text stands in place of the call, where that can be done


class Shape(StrEnum):
    """The accepted shapes of a contract."""

    CLAW = "claw"
    WPC_V1 = "wpc-v1"
    WPC_V2 = "wpc-v2"


@dataclass(frozen=True, slots=True)
class Demand:
    """Something that the contract demands and that this gateway cannot enforce yet."""

    field: str
    why: str


@dataclass(frozen=True, slots=True)
class ModelRules:
    """``allowed_models``: exact names, or patterns with ``*`` (any run of characters, ``/`` too)."""

    patterns: tuple[str, ...] = ()
    fold_case: bool = False
    """WPC v1 compares without regard to ASCII case (protocol.md C.4); everywhere else case counts."""

    def permission(self, model: str, *, exact: bool = False) -> str | None:
        """The entry that allows ``model``; with ``exact`` no pattern does."""
        entries = [entry for entry in self.patterns if "*" not in entry] if exact else self.patterns
        if not self.fold_case:
            return next((entry for entry in entries if matches(entry, model)), None)
        if not model.isascii():  # lower() outside ASCII maps unlike letters onto each other
            return None
        lower = model.lower()
        return next((entry for entry in entries if entry.isascii() and matches(entry.lower(), lower)), None)

    def lookalike(self, model: str) -> str | None:
        """A model that the contract names, without a pattern, and that ``model`` only looks like."""
        name = _by_fold(self.patterns).get(fold(model))
        return name if name is not None and self.permission(model, exact=True) is None else None


@lru_cache(maxsize=256)  # one entry for each contract
def _by_fold(patterns: tuple[str, ...]) -> Mapping[str, str]:
    return {fold(entry): entry for entry in patterns if "*" not in entry}


@dataclass(frozen=True, slots=True)
class Policy:
    """One contract, ready to be judged against.

    ``providers`` None means any provider of the catalogue, an empty tuple none. ``models`` None means that
    ``statements`` decide (WPC v2). ``tools`` None means that statements decide, or, without statements, that the
    shape has no word for tools and each declared tool is refused (WPC v1). ``model_call_denied`` is set where
    ``denied_tools`` names the model call itself. ``provider_features`` are the members with content held by the
    provider (``state:…``) or fetched by it (``url:…``) that a call may have. ``max_ttl_s`` bounds exp - iat of a token.
    ``demands`` must be empty for a call to go out. ``egress`` is where calls of tools may go; empty means nowhere.
    ``arguments`` are rules on what tools are called with, ``data`` those on data, None where there are none.
    ``approvals`` is what needs a person's yes.
    ``read_only`` are the tools that read-only mode leaves (``stops``).
    ``budgets`` is how much its jobs may use, None where it says nothing of that.
    ``envelope`` is the signed contract that it was pinned from, empty for a document that was only read.
    """

    policy_hash_b64u: str
    shape: Shape
    name: str
    providers: tuple[str, ...] | None
    models: ModelRules | None
    tools: ToolRules | None
    statements: tuple[Statement, ...] | None = None
    minimum_tier: str = TIERS[0]
    model_call_denied: bool = False
    provider_features: frozenset[str] = frozenset()
    max_ttl_s: int = DEFAULT_MAX_TTL_S
    demands: tuple[Demand, ...] = ()
    egress: tuple[EgressEntry, ...] = ()
    arguments: ArgumentRules = NO_ARGUMENT_RULES
    data: DataRules | None = None
    on_denied_tool: OnDeniedTool = OnDeniedTool.REFUSE
    on_denied_call: OnDeniedCall = OnDeniedCall.ERROR
    approvals: ApprovalRules = NO_APPROVALS
    read_only: ReadOnlyTools = field(default_factory=ReadOnlyTools)
    budgets: Budgets | None = None
    envelope: JsonObject = field(default_factory=dict, repr=False, compare=False)
