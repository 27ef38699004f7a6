"""The Claw contract: the shape of the product's documents, extended (docs/adr/0003-contract-defaults.md). Pure.

What an absent field means: no ``allowed_models``, no model may be called; no ``allowed_tools``, no tool may be
declared; no ``allowed_providers``, any provider of the catalogue; no lifetime, 60 minutes. Everything else that is
absent asks for nothing. An empty list allows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..tokens.canonical import JsonObject
from .approval_rules import read_approvals
from .argument_rules import read_argument_rules
from .budget_rules import read_budgets
from .data_rules import read_data_rules
from .egress import read_egress
from .fields import PROVIDER_NAME, Fields
from .policy import DEFAULT_MAX_TTL_S, Demand, ModelRules, OnDeniedCall, OnDeniedTool, Policy, Shape
from .read_only_rules import read_read_only
from .tools import MODEL_CALL, build_tool_rules

KNOWN_FIELDS = (
    "wpc_version",
    "policy_name",
    "policy_hash",
    "allowed_providers",
    "allowed_models",
    "allowed_tools",
    "denied_tools",
    "tool_classes",
    "tool_arguments",
    "on_denied_tool",
    "on_denied_call",
    "read_only_tools",
    "allowed_provider_features",
    "data_boundaries",
    "data_classes_allowed",
    "data_classes_denied",
    "tool_data_classes",
    "tool_data_access",
    "egress_allowlist",
    "budgets",
    "elevated",
    "model_routing",
    "approvals",
    "token_constraints",
    "token_requirements",
    "evidence_requirements",
)
FEATURE = re.compile(r"(?:state|url):[a-z][a-z0-9_]{0,63}(?:\.[a-z][a-z0-9_]{0,63})?", re.ASCII)
MAX_TTL_MINUTES = 1440


def read_claw(document: JsonObject, policy_hash_b64u: str) -> Policy:
    """The policy of a Claw contract; raises ``ClawproxyError`` (WPC_INVALID) for the first field that is wrong.

    - ``allowed_models``: exact names, or patterns with ``*`` for any run of characters. Case counts.
    - ``allowed_tools``, ``denied_tools``: words that ``tool_classes`` ties to wire names (``tools``); a denial wins.
    - ``tool_arguments``: what a tool may be called with (``argument_rules``).
    - ``on_denied_tool``, ``on_denied_call``: what becomes of a tool, or of a call of one, that is not allowed.
    - ``allowed_provider_features``: members of a request that point at content which the provider holds
      (``state:previous_response_id``) or fetches (``url:image_url``), as a refusal names them; without an entry each
      such member is refused, since the gateway cannot read that content.
    - ``model_routing.must_proxy_via`` must be ``clawproxy``; receipts, the proof bundle, the pinned hash, the job and
      the token itself are always demanded by the gateway, so asking for them costs nothing and not asking changes
      nothing.
    - ``token_constraints.cst_ttl_minutes`` and ``token_requirements.max_ttl_minutes``: the shorter one holds.
    - ``approvals``: an object (approval of the whole job) or a list of actions; ``required`` is true unless it says
      false (``approval_rules``).
    - ``egress_allowlist``: where calls of tools may go (``egress``).
    - ``budgets``: how much a job, or all jobs of the contract, may use (``budget_rules``).
    - ``data_boundaries``, ``data_classes_*``, ``tool_data_*``: what becomes of data (``data_rules``).
    - ``elevated: false`` becomes a demand.
    """
    fields = Fields(document, KNOWN_FIELDS)
    fields.need("policy_name")
    fields.text("wpc_version", one_of=("v1",))
    fields.text("policy_hash", max_chars=256)
    classes = _tool_classes(fields)
    allowed, denied = _words(fields, "allowed_tools"), _words(fields, "denied_tools")
    demands: list[Demand] = []
    approvals = read_approvals(fields)
    on_approval = tuple(rule.action for rule in approvals.actions)
    _routing_and_evidence(fields)
    _limits(fields, demands)
    return Policy(
        policy_hash_b64u=policy_hash_b64u,
        shape=Shape.CLAW,
        name=fields.text("policy_name") or "",
        providers=fields.texts("allowed_providers", max_items=64, like=PROVIDER_NAME),
        models=ModelRules(fields.texts("allowed_models") or ()),
        tools=build_tool_rules(allowed=allowed, denied=denied, on_approval=on_approval, classes=classes),
        model_call_denied=MODEL_CALL in denied,
        provider_features=frozenset(
            fields.texts("allowed_provider_features", max_items=64, max_chars=140, like=FEATURE) or ()
        ),
        max_ttl_s=_max_ttl_s(fields),
        demands=tuple(demands),
        egress=read_egress(fields),
        data=read_data_rules(fields, classes),
        arguments=read_argument_rules(fields, classes),
        on_denied_tool=OnDeniedTool(fields.text("on_denied_tool", one_of=tuple(OnDeniedTool)) or OnDeniedTool.REFUSE),
        on_denied_call=OnDeniedCall(fields.text("on_denied_call", one_of=tuple(OnDeniedCall)) or OnDeniedCall.ERROR),
        approvals=approvals,
        read_only=read_read_only(fields, allowed, classes),
        budgets=read_budgets(fields),
    )


def _words(fields: Fields, name: str) -> tuple[str, ...]:
    words = fields.texts(name) or ()
    for n, word in enumerate(words):
        _refuse_pattern(fields, f"{name}[{n}]", word)
    return words


def _refuse_pattern(fields: Fields, place: str, word: str) -> None:
    if "*" in word:
        fields.refuse(
            place,
            "a pattern where a word stands",
            got=word,
            expected="a word",
            remedy="give the tools a word of your own, and tie it to the pattern in tool_classes",
        )


def _tool_classes(fields: Fields) -> Mapping[str, tuple[str, ...]]:
    inner = fields.object("tool_classes")
    if inner is None:
        return {}
    out: dict[str, tuple[str, ...]] = {}
    for name in inner.names("tool class", max_items=256):
        if name == MODEL_CALL:
            inner.refuse(name, "the model call is no tool", expected="the name of a tool", remedy="take the entry out")
        _refuse_pattern(inner, name, name)
        out[name] = inner.texts(name, max_items=256) or ()
        if not out[name]:
            inner.refuse(name, "no wire name", got="an empty list", expected="at least one name or pattern")
    return out


def _routing_and_evidence(fields: Fields) -> None:
    routing = fields.object("model_routing", ("must_proxy_via", "receipts_required"))
    if routing is not None:
        routing.text("must_proxy_via", one_of=("clawproxy",))
        routing.flag("receipts_required")
    evidence = fields.object("evidence_requirements", ("require_gateway_receipts", "require_proof_bundle"))
    if evidence is not None:
        evidence.flag("require_gateway_receipts")
        evidence.flag("require_proof_bundle")


def _limits(fields: Fields, demands: list[Demand]) -> None:
    if fields.flag("elevated") is False:
        demands.append(Demand("elevated", "elevated runs of a tool cannot be told from others yet"))


def _max_ttl_s(fields: Fields) -> int:
    minutes: list[int | None] = []
    constraints = fields.object("token_constraints", ("cst_ttl_minutes", "pin_policy_hash", "job_bound"))
    if constraints is not None:
        minutes.append(constraints.integer("cst_ttl_minutes", least=1, most=MAX_TTL_MINUTES))
        _flags(constraints, ("pin_policy_hash", "job_bound"))
    requirements = fields.object("token_requirements", ("require_cst", "pin_cst_to_policy_hash", "max_ttl_minutes"))
    if requirements is not None:
        minutes.append(requirements.integer("max_ttl_minutes", least=1, most=MAX_TTL_MINUTES))
        _flags(requirements, ("require_cst", "pin_cst_to_policy_hash"))
    return min((60 * m for m in minutes if m is not None), default=DEFAULT_MAX_TTL_S)


def _flags(fields: Fields, names: Iterable[str]) -> None:
    for name in names:
        fields.flag(name)
