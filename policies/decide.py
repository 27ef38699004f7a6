"""Step 6: may this call go out. Pure: facts × grant × policy → ``Allow`` or ``Refusal``, the first rule that refuses
wins.

Order: the token's scope, provider, model and the models that may stand in for it, model identity tier, content held by
the provider, URLs that it would fetch, tools (each denial before the first permission), the tool that the call must
use.

What stands for more than its name says is allowed only by an entry that is exactly that name, never by a pattern: a
router, behind which the provider chooses the model, and a tool that can call any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..tokens.errors import clip, word_or
from ..tokens.grant import Grant
from ..tokens.reasons import Refusal
from .facts import CallFacts, CallKind
from .model_match import other_names
from .names import is_settled
from .policy import TIERS, Policy
from .statements import Statement, judge, lookalike_of, naming
from .tools import MODEL_CALL, ToolRules

_MAX_DETAIL_CHARS = 300
_UPSTREAM_PREFIX = "openrouter/"


@dataclass(frozen=True, slots=True)
class Allow:
    """What let the call through: contract field and entry, as in ``Refusal.rule``."""

    policy_hash_b64u: str
    provider_rule: str
    model_rule: str
    tool_rules: tuple[str, ...] = ()
    """One per declared tool, in the order of ``CallFacts.tools``."""


def decide(facts: CallFacts, grant: Grant, policy: Policy) -> Allow | Refusal:
    """Judge one call. A refusal's ``rule`` names the field and entry, its ``detail`` what would be allowed instead."""
    if not grant.covers_provider(facts.provider):
        return Refusal("TOKEN_INSUFFICIENT_SCOPE", "claim scope", f"no scope covers calls to {clip(facts.provider)}")
    provider = _provider(facts, policy)
    if isinstance(provider, Refusal):
        return provider
    model = _model(facts, grant, policy)
    if isinstance(model, Refusal):
        return model
    if facts.upstream is not None:
        elsewhere = _upstream(facts, facts.upstream, grant, policy)
        if isinstance(elsewhere, Refusal):
            return elsewhere
        model = elsewhere
    if TIERS.index(policy.minimum_tier) > 0:
        rule = f'minimum_model_identity_tier "{policy.minimum_tier}"'
        return Refusal("POLICY_MODEL_IDENTITY_TIER_TOO_LOW", rule, f"a closed provider gives {TIERS[0]}")
    feature = _features("POLICY_STATE_NOT_READABLE", "state", facts.provider_state, policy) or _features(
        "POLICY_REMOTE_URL", "url", facts.remote_urls, policy
    )
    if feature is not None:
        return feature
    tools = decide_tools(facts, grant, policy)
    if isinstance(tools, Refusal):
        return tools
    if facts.tool_choice is not None and facts.tool_choice not in facts.tools:
        detail = f"the call must use {_shown(facts.tool_choice)}, which it does not declare"
        return Refusal("POLICY_TOOL_NOT_ALLOWED", "tool_choice", detail)
    return Allow(policy.policy_hash_b64u, provider, model, tools)


def decide_tools(facts: CallFacts, grant: Grant, policy: Policy) -> tuple[str, ...] | Refusal:
    """Judge the declared tools alone: the rule for each, or the first refusal."""
    tools = _tools(facts, grant, policy)
    if not isinstance(tools, Refusal) and facts.upstream is not None:
        tools = _tools(replace(facts, provider=facts.upstream, model=facts.upstream_model), grant, policy)
    return tools


def _provider(facts: CallFacts, policy: Policy) -> str | Refusal:
    if policy.providers is None:
        return "any provider of the catalogue"
    if facts.provider in policy.providers:
        return f'allowed_providers["{facts.provider}"]'
    return Refusal(
        "POLICY_PROVIDER_NOT_ALLOWED",
        f'allowed_providers has no entry "{clip(facts.provider)}"',
        _allowed("providers", policy.providers),
    )


def _model(facts: CallFacts, grant: Grant, policy: Policy) -> str | Refusal:
    if policy.model_call_denied:
        return Refusal("POLICY_MODEL_NOT_ALLOWED", f'denied_tools["{MODEL_CALL}"]', "the contract allows no model call")
    if facts.kind is CallKind.LIST:
        if policy.models is not None:
            return "a list of models calls none"
        resource = f"{facts.provider}/models"
        return _by_statements(policy.statements or (), "model:list", resource, _context(facts, grant, ""))
    if facts.kind is CallKind.CONNECT and not facts.model:
        return "a socket calls no model before its first message, which is judged"
    if not facts.model:
        return Refusal("POLICY_MODEL_REQUIRED", "allowed_models", "the call names no model")
    rule = _one_model(facts.model, facts, grant, policy, exact=facts.is_router)
    for fallback in facts.fallback_models:
        if isinstance(rule, Refusal):
            break
        other = _one_model(fallback, facts, grant, policy, exact=False)
        rule = other if isinstance(other, Refusal) else rule
    return rule


def _upstream(facts: CallFacts, upstream: str, grant: Grant, policy: Policy) -> str | Refusal:
    """A call that goes to ``upstream`` in place of its provider: that one is allowed too, and the model by an entry
    that says so, since ``*`` speaks of the models of the provider that was addressed."""
    if not grant.covers_provider(upstream):
        return Refusal("TOKEN_INSUFFICIENT_SCOPE", "claim scope", f"no scope covers calls to {clip(upstream)}")
    there = replace(facts, provider=upstream, upstream=None)
    provider = _provider(there, policy)
    if isinstance(provider, Refusal):
        return provider
    if policy.models is None:
        fallbacks = tuple(name.removeprefix(_UPSTREAM_PREFIX) for name in facts.fallback_models)
        return _model(replace(there, model=facts.upstream_model, fallback_models=fallbacks), grant, policy)
    named = tuple(entry for entry in policy.models.patterns if entry.startswith(_UPSTREAM_PREFIX))
    return _model(there, grant, replace(policy, models=replace(policy.models, patterns=named)))


def _one_model(model: str, facts: CallFacts, grant: Grant, policy: Policy, *, exact: bool) -> str | Refusal:
    """Judge ``model``; with ``exact`` only an entry that is its very name allows it."""
    shown = clip(model)
    if not is_settled(model):
        return Refusal("POLICY_MODEL_NOT_ALLOWED", "model names", f'"{shown}" is no plain name of up to 256 characters')
    if policy.models is None:
        statements, resource = policy.statements or (), f"{facts.provider}/{model}"
        lookalike = lookalike_of(statements, resource, ("Model:Name", model))
        if lookalike is None:
            if exact:
                statements = naming(statements, resource)
            verdict = _by_statements(statements, "model:invoke", resource, _context(facts, grant, model))
            return verdict if isinstance(verdict, Refusal) else _other_name(model, facts, grant, policy) or verdict
    else:
        lookalike = policy.models.lookalike(model)
    if lookalike is not None:
        return Refusal("POLICY_MODEL_NOT_ALLOWED", "model names", f'"{shown}" only looks like "{clip(lookalike)}"')
    assert policy.models is not None
    entry = policy.models.permission(model, exact=exact)
    if entry is None:
        what = f'"{shown}", a router that a pattern does not cover' if exact else f'"{shown}"'
        rule = f"allowed_models has no entry for {what}"
        return Refusal("POLICY_MODEL_NOT_ALLOWED", rule, _allowed("models", policy.models.patterns))
    return f'allowed_models["{entry}"]'


def _other_name(model: str, facts: CallFacts, grant: Grant, policy: Policy) -> Refusal | None:
    """The Deny that speaks of ``model`` by another of its names. One that says what a model is not speaks of none."""
    statements = tuple(
        s for s in policy.statements or () if not (s.allows or any("Not" in c.operator for c in s.conditions))
    )
    for other in other_names(model) if statements else ():
        resource, context = f"{facts.provider}/{other}", _context(facts, grant, other)
        verdict = _by_statements(statements, "model:invoke", resource, context)
        if isinstance(verdict, Refusal) and verdict.rule != "statements":
            return replace(verdict, detail=f'"{clip(model)}" is another name: {verdict.detail}')
    return None


def _features(reason: str, kind: str, members: tuple[str, ...], policy: Policy) -> Refusal | None:
    """The first member that the contract does not let through."""
    member = next((member for member in members if f"{kind}:{member}" not in policy.provider_features), None)
    if member is None:
        return None
    return Refusal(reason, clip(member), f'allowed_provider_features has no entry "{kind}:{clip(member)}"')


def _tools(facts: CallFacts, grant: Grant, policy: Policy) -> tuple[str, ...] | Refusal:
    if not facts.tools:
        return ()
    if policy.statements is not None:
        return _tools_by_statements(facts, grant, policy.statements)
    if policy.tools is None:
        return Refusal(
            "POLICY_TOOL_NOT_ALLOWED", "wpc v1", "this shape of contract has no word for tools, so none may be declared"
        )
    for tool in facts.tools:
        denial = policy.tools.denial(tool)
        if denial is not None:
            return Refusal("POLICY_TOOL_DENIED", str(denial), f"the call declares {_shown(tool)}")
    rules = []
    for tool in facts.tools:
        rule = _permission(tool, policy.tools, exact=tool in facts.any_tools, held=tool not in facts.provider_tools)
        if isinstance(rule, Refusal):
            return rule
        rules.append(rule)
    return tuple(rules)


def _permission(tool: str, rules: ToolRules, *, exact: bool, held: bool) -> str | Refusal:
    """Judge one declared tool; with ``exact`` no pattern allows it, and ``held`` says that its calls can be held."""
    shown = _shown(tool)
    if not is_settled(tool):
        return Refusal("POLICY_TOOL_NOT_ALLOWED", "tool names", f"{shown} is no plain name of up to 256 characters")
    approval = rules.approval(tool)
    if approval is not None and not held:
        detail = f"{shown} needs an approval, and the provider runs it: no call of it can be held"
        return Refusal("POLICY_TOOL_NOT_ALLOWED", str(approval), detail)
    lookalike = rules.lookalike(tool)
    if lookalike is not None:
        return Refusal("POLICY_TOOL_NOT_ALLOWED", "tool names", f'{shown} only looks like "{lookalike}"')
    rule = rules.permission_to_ask(tool, exact=exact) or rules.permission(tool, exact=exact)
    if rule is None:
        what = f"{shown}, which can call any tool and which a pattern does not cover" if exact else shown
        detail = _allowed("tools", (r.pattern for r in rules.allowed))
        return Refusal("POLICY_TOOL_NOT_ALLOWED", f"allowed_tools has no entry for {what}", detail)
    return str(rule)


def _tools_by_statements(
    facts: CallFacts, grant: Grant, statements: tuple[Statement, ...]
) -> tuple[str, ...] | Refusal:
    rules = []
    for tool in facts.tools:
        if not is_settled(tool):
            detail = f"{_shown(tool)} is no plain name of up to 256 characters"
            return Refusal("POLICY_TOOL_NOT_ALLOWED", "tool names", detail)
        context = {**_context(facts, grant, facts.model or ""), "Tool:Name": tool}
        asked = naming(statements, tool) if tool in facts.any_tools else statements
        rule = _by_statements(asked, "tool:execute", tool, context)
        if isinstance(rule, Refusal):
            return rule
        rules.append(rule)
    return tuple(rules)


def _context(facts: CallFacts, grant: Grant, model: str) -> dict[str, str]:
    return {"Agent:DID": grant.sub, "Model:Provider": facts.provider, "Model:Name": model}


def _by_statements(
    statements: tuple[Statement, ...], action: str, resource: str, context: dict[str, str]
) -> str | Refusal:
    verdict = judge(statements, action, resource, context, fold_denials=True)
    sids = ", ".join(f'statements["{sid}"]' for sid in verdict.sids)
    if verdict.allowed:
        return sids
    shown = _shown(resource) if action == "tool:execute" else f'"{clip(resource)}"'
    detail = f"{action} on {shown} is denied" if sids else f"no statement allows {action} on {shown}"
    return Refusal("POLICY_STATEMENT_DENIED", sids or "statements", detail)


def _shown(tool: str) -> str:
    """The name of a tool, which the agent chose and which ends in the evidence."""
    return word_or("a tool", tool)


def _allowed(what: str, entries: Iterable[str]) -> str:
    """What would be allowed, for people; clipped, since a contract may have hundreds of entries."""
    names = ", ".join(dict.fromkeys(entries))
    return f"allowed {what}: {clip(names, _MAX_DETAIL_CHARS)}" if names else f"the contract allows no {what}"
