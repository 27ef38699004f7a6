"""The packaged catalogue beside the formats: every route is read by one, and leads where it says."""

from __future__ import annotations

import pytest
from clawproxy.addons.wire.format import FORMATS
from clawproxy.policies.catalogue_file import load_catalogue
from clawproxy.policies.facts import CallKind
from clawproxy.policies.packaged import packaged_file
from clawproxy.policies.routes import RouteMatch
from clawproxy.tokens.reasons import Refusal

OURS = {
    "azure": "https://mine.openai.azure.com",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com",
    "vllm": "http://127.0.0.1:8000",
}
CATALOGUE = load_catalogue(packaged_file("providers.toml"), OURS, {"azure": ("mine.openai.azure.com",)})
DEPLOYMENT = "/openai/deployments/my-deployment"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0"
ESCAPED = ARN.replace(":", "%3A").replace("/", "%2F")


def found(method: str, path: str) -> RouteMatch:
    match = CATALOGUE.match_reverse(method, path)
    assert isinstance(match, RouteMatch), path
    return match


def test_every_route_has_a_format_and_lists_alone_have_no_body() -> None:
    for provider in CATALOGUE.providers.values():
        for route in provider.routes:
            assert route.format in FORMATS, (provider.name, route.name)
            if not route.websocket:
                assert (route.kind is CallKind.LIST) == (route.method == "GET"), (provider.name, route.name)


@pytest.mark.parametrize(
    ("path", "format_name", "model", "upstream_path"),
    [
        (f"/azure{DEPLOYMENT}/chat/completions?api-version=2024-10-21", "openai_chat", "my-deployment", None),
        (f"/azure{DEPLOYMENT}/embeddings?api-version=preview", "openai_embeddings", "my-deployment", None),
        ("/azure/openai/responses?api-version=2025-03-01", "openai_responses", None, None),
        ("/azure/openai/v1/responses?api-version=preview", "openai_responses", None, None),
        ("/azure/openai/v1/chat/completions", "openai_chat", None, None),
        (
            "/bedrock/model/anthropic.x-v2:0/invoke",
            "bedrock_anthropic",
            "anthropic.x-v2:0",
            "/model/anthropic.x-v2%3A0/invoke",
        ),
        ("/bedrock/model/a.x-v2%3A0/converse-stream", "bedrock_converse", "a.x-v2:0", None),
        (f"/bedrock/model/{ESCAPED}/converse", "bedrock_converse", ARN, None),
        ("/fal/openrouter/router", "fal_router", None, None),
        ("/openrouter/api/v1/chat/completions", "openrouter_chat", None, None),
        ("/ollama/api/chat", "ollama_chat", None, None),
        ("/vllm/v1/responses", "openai_responses", None, None),
        ("/v1/embeddings", "openai_embeddings", None, None),
    ],
)
def test_paths_lead_to_their_formats(path: str, format_name: str, model: str | None, upstream_path: str | None) -> None:
    match = found("POST", path)
    assert (match.route.format, match.model) == (format_name, model)
    if upstream_path is None:
        upstream_path = path if match.provider.prefix == "" else path.removeprefix(match.provider.prefix)
    assert match.upstream_path == upstream_path


@pytest.mark.parametrize("verb", ["pull", "create", "delete", "push", "copy", "blobs/sha256:00", "ps", "version"])
def test_what_changes_an_ollama_server_is_no_route(verb: str) -> None:
    for method in ("POST", "GET", "DELETE"):
        assert isinstance(CATALOGUE.match_reverse(method, f"/ollama/api/{verb}"), Refusal)


@pytest.mark.parametrize(
    "path",
    [
        "/bedrock/inference-profiles?type=SYSTEM_DEFINED",
        "/bedrock/model/a.x/count-tokens",
        "/bedrock/model/a.x/invoke-with-bidirectional-stream",
        "/bedrock/model/../converse",
        "/bedrock/model//converse",
        "/bedrock/model/a%2e%2e/converse",
        "/bedrock/model/a/b/converse",
        "/bedrock/model/a%252Fb/converse",
        "/bedrock/guardrail/g/version/1/apply",
        "/bedrock/async-invoke",
        "/azure/openai/deployments/a%2Fb/chat/completions",
        "/azure/openai/deployments/a:b/chat/completions",
        "/azure/openai/deployments/d/extensions/chat/completions",
        "/azure/openai/deployments/d/chat/completions?api-version=1&api-version=2",
        "/azure/openai/files",
        "/fal/openrouter/router/stream",
        "/fal/fal-ai/flux",
        "/openrouter/api/v1/presets/x/chat/completions",
        "/openrouter/api/v1/keys",
    ],
)
def test_everything_else_of_these_providers_is_refused(path: str) -> None:
    for method in ("POST", "GET"):
        assert isinstance(CATALOGUE.match_reverse(method, path), Refusal)
