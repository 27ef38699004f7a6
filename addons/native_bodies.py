"""A body of Gemini's own form on a compatibility route: ``/v1/proxy/google`` with ``contents`` (protocol.md G). Pure.

A client that forwards a ``generateContent`` call there keeps its body and loses the model, which stood in the path. So
the model is the body's ``model`` (the resource name ``models/NAME`` as well), or, where that says none, the one model
of Gemini that the contract allows by name: with two it would be a guess. The answer is whole, never a stream.
"""

from __future__ import annotations

from dataclasses import replace

from ..policies.facts import CallKind
from ..policies.policy import Policy
from ..policies.routes import Route, RouteMatch
from ..tokens.canonical import JsonObject
from ..tokens.reasons import Refusal

_FORMAT = "gemini"
_RESOURCE = "models/"
_OF_GEMINI = "gemini-"


def native_match(
    match: RouteMatch, body: JsonObject, api_header: str | None, policy: Policy | None
) -> RouteMatch | Refusal | None:
    """The native route that ``body`` is for; None where it is not of that form, and ``Catalogue.choose`` decides."""
    if not match.compat or "contents" not in body or "messages" in body or match.query:
        return None
    route = next((route for route in match.provider.routes if _is_native(route)), None)
    if route is None:
        return None
    if api_header is not None:
        return Refusal("INVALID_REQUEST", "X-OpenAI-API", "the header names another API than the body")
    stated = body.get("model")
    model = _only_model(policy) if stated is None else str(stated).removeprefix(_RESOURCE)
    if not model or route.model_of(route.path_for(model)) != model:
        detail = "a body of Gemini's own form names no model: put it in as model, or allow exactly one by name"
        return Refusal("POLICY_MODEL_REQUIRED", "model", detail)
    return replace(match, route=route, candidates=(), model=model)


def _is_native(route: Route) -> bool:
    return route.format == _FORMAT and route.kind is CallKind.GENERATE and route.stream is False


def _only_model(policy: Policy | None) -> str:
    """The one model of Gemini that a contract allows by its name; empty where there are several, or none."""
    patterns = policy.models.patterns if policy is not None and policy.models is not None else ()
    models = [entry for entry in patterns if entry.startswith(_OF_GEMINI)]
    return models[0] if len(models) == 1 and "*" not in models[0] else ""
