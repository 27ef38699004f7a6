"""A call that goes to another provider than it was addressed to: allowed by name only, and there too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from clawproxy.policies.decide import Allow, decide
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.reasons import Refusal

from . import makers

FACTS = CallFacts("openai", "chat_completions", "openrouter/acme/m", False, upstream="fal", upstream_model="acme/m")


def judged(facts: CallFacts = FACTS, scope: tuple[str, ...] = ("clawproxy:call",), **fields: Any) -> Allow | Refusal:
    allowed = {"allowed_providers": ["openai", "fal"], "allowed_models": ["openrouter/acme/*"], **fields}
    policy = makers.policy_of(makers.claw(**allowed))
    return decide(facts, makers.a_grant(scope=scope), policy)


def reason(decision: Allow | Refusal) -> str:
    assert isinstance(decision, Refusal)
    return decision.reason


def test_an_entry_that_names_the_router_allows_it() -> None:
    for models in (["openrouter/acme/m"], ["openrouter/*"], ["*", "openrouter/acme/m"]):
        decision = judged(allowed_models=models)
        assert isinstance(decision, Allow)
        assert decision.model_rule.startswith('allowed_models["openrouter/')


def test_a_pattern_over_openais_models_does_not() -> None:
    for models in (["*"], ["open*"], ["acme/m"], ["*/acme/m"], ["openrouter*"], []):
        assert reason(judged(allowed_models=models)) == "POLICY_MODEL_NOT_ALLOWED", models
    # the same model where it stays with its provider
    assert isinstance(judged(replace(FACTS, upstream=None), allowed_models=["*"]), Allow)


def test_both_providers_must_be_allowed() -> None:
    for providers in (["openai"], ["fal"]):
        assert reason(judged(allowed_providers=providers)) == "POLICY_PROVIDER_NOT_ALLOWED"
    assert isinstance(judged(allowed_providers=None), Allow)
    assert reason(judged(scope=("proxy:provider:openai",))) == "TOKEN_INSUFFICIENT_SCOPE"
    assert isinstance(judged(scope=("proxy:provider:openai", "proxy:provider:fal")), Allow)


def test_fallbacks_are_named_too_and_routers_exactly() -> None:
    facts = replace(FACTS, fallback_models=("openrouter/other/m",))
    assert reason(judged(facts)) == "POLICY_MODEL_NOT_ALLOWED"
    assert isinstance(judged(facts, allowed_models=["openrouter/acme/m", "openrouter/other/*"]), Allow)
    router = replace(FACTS, model="openrouter/openrouter/auto", upstream_model="openrouter/auto", is_router=True)
    assert reason(judged(router, allowed_models=["openrouter/*"])) == "POLICY_MODEL_NOT_ALLOWED"
    assert isinstance(judged(router, allowed_models=["openrouter/openrouter/auto"]), Allow)


def test_without_its_own_check_a_pattern_would_send_calls_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawproxy.policies.decide._upstream", lambda *_: "taken out")
    assert isinstance(judged(allowed_models=["*"], allowed_providers=["openai"]), Allow)


def by_statements(facts: CallFacts, *denials: dict[str, Any]) -> Allow | Refusal:
    everything = makers.statement("all", "Allow", ["*"], ["**"])
    return decide(facts, makers.a_grant(), makers.policy_of(makers.wpc_v2(everything, *denials)))


def test_a_denial_at_the_other_provider_holds_for_models_fallbacks_and_tools() -> None:
    no_model = makers.statement("no", "Deny", ["model:invoke"], ["fal/acme/big"])
    facts = replace(FACTS, tools=("look",), fallback_models=("openrouter/acme/other",))
    assert isinstance(by_statements(facts, no_model), Allow)
    fallback = replace(facts, fallback_models=("openrouter/acme/big",))
    model = replace(facts, model="openrouter/acme/big", upstream_model="acme/big")
    for asked in (fallback, model):
        assert reason(by_statements(asked, no_model)) == "POLICY_STATEMENT_DENIED"
    for said in ({"Model:Provider": "fal"}, {"Model:Name": "acme/m"}, {"Model:Provider": "openai"}):
        no_tool = makers.statement("no", "Deny", ["tool:execute"], ["look"], conditions={"StringEquals": said})
        assert reason(by_statements(facts, no_tool)) == "POLICY_STATEMENT_DENIED", said
