"""Calls that go to another provider than they were addressed to (protocol.md D.5). Pure.

On the compatibility forms of ``openai``, a model ``openrouter/NAME`` is OpenRouter's, reached through ``fal`` under
``NAME``. The body is written anew with that name, and what is written is what is judged, sent and hashed; the facts
name the model as the agent wrote it, beside where it goes. OpenAI's own API (its prefix, its host) is left alone: there
such a model is one that OpenAI does not know.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from ..policies.facts import CallFacts
from ..policies.routes import Catalogue, RouteMatch
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal

PREFIX = "openrouter/"
_FROM, _TO = "openai", "fal"


def reroute(catalogue: Catalogue, match: RouteMatch, document: JsonObject) -> RouteMatch | Refusal | None:
    """The route that the call takes instead; None for one that stays."""
    model = document.get("model")
    if not match.compat or match.provider.name != _FROM or not isinstance(model, str) or not model.startswith(PREFIX):
        return None
    provider = catalogue.providers.get(_TO)
    routes = provider.routes if provider else ()
    route = next((route for route in routes if route.name == match.route.name), None)
    if provider is None or route is None:
        return Refusal("ROUTE_NOT_FOUND", f"models {PREFIX}…", f"{match.route.name} is not served for them", at="read")
    return replace(match, provider=provider, route=route, query="")


def rewrite(document: JsonObject) -> bytes:
    """The body with the model's name at the provider; raises ``ClawproxyError`` for what cannot be written again."""
    try:
        return orjson.dumps({**document, "model": document["model"].removeprefix(PREFIX)})
    except TypeError:
        raise ClawproxyError("INVALID_REQUEST", "a value that cannot be written again", where="body") from None


def as_addressed(facts: CallFacts) -> CallFacts:
    """``facts``, read from the rewritten body, with the names that the agent and the contract use."""
    return replace(
        facts,
        provider=_FROM,
        model=f"{PREFIX}{facts.model}" if facts.model else None,
        fallback_models=tuple(f"{PREFIX}{name}" for name in facts.fallback_models),
        upstream=facts.provider,
        upstream_model=facts.model,
    )
