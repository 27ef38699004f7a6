"""Every recorded request of a real client is read as what it is: provider, model, stream flag, tools.

``client_requests.json`` holds the shapes (keys, types, names of models and tools, paths), not the texts. What such
clients send besides, telemetry and catalogues, has no route.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.catalogue_file import load_catalogue
from clawproxy.policies.facts import CallKind
from clawproxy.policies.packaged import packaged_file
from clawproxy.policies.routes import Catalogue, RouteMatch
from clawproxy.tokens.canonical import parse_json_object
from clawproxy.tokens.reasons import Refusal

SHAPES = json.loads(Path(__file__).with_name("client_requests.json").read_bytes())
REQUESTS = [pytest.param(shape, id=shape["name"]) for shape in SHAPES["requests"]]
META_TOOLS = {
    "claude-code": {"ToolSearch", "DeferredToolPlaceholder"},
    "codex": {"functions.exec", "functions.wait"},
    "openclaw": {"exec", "wait", "tool_search", "tool_describe", "tool_call"},
}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(
        packaged_file("providers.toml"),
        {"azure": "https://10.0.0.1", "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com"},
        {"azure": ("myres.openai.azure.com",), "bedrock": ("bedrock-runtime.us-east-1.amazonaws.com",)},
    )


def _match(catalogue: Catalogue, shape: dict[str, Any]) -> RouteMatch | Refusal:
    if shape.get("way") == "reverse":
        return catalogue.match_reverse(shape["method"], shape["path"])
    return catalogue.match_host(shape["host"], 443, shape["method"], shape["path"])


@pytest.mark.parametrize("shape", REQUESTS)
def test_a_recorded_request_is_read_as_what_it_is(catalogue: Catalogue, shape: dict[str, Any]) -> None:
    match = _match(catalogue, shape)
    assert isinstance(match, RouteMatch), match
    assert match.provider.name == shape["provider"]
    body = {} if shape["body"] is None else parse_json_object(json.dumps(shape["body"]).encode())
    route = match.route
    request = WireRequest(body, match.provider.name, route.name, route.kind, match.model, route.stream)
    if shape["upgrade"]:
        assert route.websocket
        return
    facts = FORMATS[route.format].read_request(request)
    assert (facts.provider, facts.model, facts.stream) == (shape["provider"], shape["model"], shape["stream"])
    assert list(facts.tools) == shape["tools"]
    client = shape["name"].partition(".")[0].partition("-2")[0]
    assert set(facts.any_tools) == META_TOOLS.get(client, set()) & set(facts.tools)
    assert (facts.kind is CallKind.LIST) == (facts.model is None)


@pytest.mark.parametrize("shape", SHAPES["refused"], ids=lambda shape: f"{shape['host']}{shape['path']}")
def test_what_clients_send_besides_has_no_route(catalogue: Catalogue, shape: dict[str, Any]) -> None:
    match = _match(catalogue, shape)
    assert isinstance(match, Refusal)
    assert match.reason == "ROUTE_NOT_FOUND"
