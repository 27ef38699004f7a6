"""Which calls go to fal in place of OpenAI, and with which body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clawproxy.addons.rerouting import as_addressed, reroute, rewrite
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.catalogue_file import load_catalogue
from clawproxy.policies.packaged import packaged_file
from clawproxy.policies.routes import Catalogue, RouteMatch
from clawproxy.tokens.canonical import parse_json_object
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal

from .payloads import chat, responses

CATALOGUE = load_catalogue(packaged_file("providers.toml"))


def match(path: str, body: dict[str, Any]) -> RouteMatch:
    found = CATALOGUE.match_reverse("POST", path)
    assert isinstance(found, RouteMatch)
    chosen = CATALOGUE.choose(found, body, None)
    assert isinstance(chosen, RouteMatch)
    return chosen


@pytest.mark.parametrize("path", ["/v1/proxy/openai", "/v1/chat/completions", "/v1/responses"])
def test_the_compatibility_forms_send_it_on(path: str) -> None:
    make = responses if path == "/v1/responses" else chat
    body = make(model="openrouter/acme/m")
    found = reroute(CATALOGUE, match(path, body), body)
    assert isinstance(found, RouteMatch)
    api = "responses" if make is responses else "chat/completions"
    assert (found.provider.name, found.upstream_path) == ("fal", f"/openrouter/router/openai/v1/{api}")
    assert (found.provider.credential_scheme, found.compat) == ("Key", True)


def test_everything_else_stays() -> None:
    body = chat(model="openrouter/acme/m")
    assert reroute(CATALOGUE, match("/openai/v1/chat/completions", body), body) is None
    at_host = CATALOGUE.match_host("api.openai.com", 443, "POST", "/v1/chat/completions")
    assert isinstance(at_host, RouteMatch)
    assert reroute(CATALOGUE, at_host, body) is None
    for model in ("gpt-5", "OpenRouter/acme/m", "openrouter", "xopenrouter/m", None, 5, ["openrouter/m"]):
        body = chat(model=model)
        assert reroute(CATALOGUE, match("/v1/chat/completions", body), body) is None
    anthropic = {"model": "openrouter/acme/m"}
    assert reroute(CATALOGUE, match("/v1/messages", anthropic), anthropic) is None


def test_what_fal_does_not_serve_is_refused() -> None:
    body = {"model": "openrouter/acme/e", "input": "x"}
    for catalogue in (CATALOGUE, Catalogue({"openai": CATALOGUE.providers["openai"]})):
        found = reroute(catalogue, match("/v1/embeddings", body), body)
        assert isinstance(found, Refusal)
        assert found.reason == "ROUTE_NOT_FOUND"


def test_the_facts_are_those_of_the_rewritten_body_under_the_names_of_the_agent() -> None:
    body = chat(model="openrouter/acme/m:online", models=["other/n"], temperature=0.1, seed=2**53 - 1)
    document = parse_json_object(rewrite(body))
    assert document == {**body, "model": "acme/m:online"}
    facts = as_addressed(FORMATS["openrouter_chat"].read_request(WireRequest(document, "fal", "chat_completions")))
    assert (facts.provider, facts.model) == ("openai", "openrouter/acme/m:online")
    assert (facts.upstream, facts.upstream_model) == ("fal", "acme/m:online")
    assert (facts.fallback_models, facts.tools, facts.is_router) == (("openrouter/other/n",), ("web_search",), False)


def test_only_the_name_of_the_model_changes() -> None:
    body = chat(model="openrouter/openrouter/auto", user="openrouter/x", metadata={"model": "openrouter/y", "é": "😀"})
    assert json.loads(rewrite(body)) == {**body, "model": "openrouter/auto"}
    with pytest.raises(ClawproxyError):
        rewrite(chat(model="openrouter/m", seed=2**70))
