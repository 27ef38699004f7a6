"""Which provider a request means, and what it asks there: by host, by path, by the credential's header. Pure.

Limits: a host that is no provider's (loopback, in tests) leaves the choice to path and headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes; ``kind`` is empty for no route, ``models`` for a list; ``stream`` is what the path says."""

    provider: str
    kind: str = ""
    model: str = ""
    stream: bool | None = None


_HOSTS = (
    (re.compile(r"api\.openai\.com"), "openai"),
    (re.compile(r"api\.anthropic\.com"), "anthropic"),
    (re.compile(r"generativelanguage\.googleapis\.com"), "google"),
    (re.compile(r"openrouter\.ai"), "openrouter"),
    (re.compile(r"fal\.run"), "fal"),
    (re.compile(r"[a-z0-9-]+\.openai\.azure\.com"), "azure"),
    (re.compile(r"bedrock-runtime\.[a-z0-9-]+\.amazonaws\.com"), "bedrock"),
)
_GEMINI_KINDS = {
    "generateContent": ("gemini", False),
    "streamGenerateContent": ("gemini-array", True),
    "countTokens": ("gemini-count", False),
}
_BEDROCK_KINDS = {
    "invoke": ("bedrock-invoke", False),
    "invoke-with-response-stream": ("bedrock-invoke", True),
    "converse": ("bedrock-converse", False),
    "converse-stream": ("bedrock-converse", True),
}
_OLLAMA_KINDS = {
    "chat": "ollama-chat",
    "generate": "ollama-generate",
    "embed": "ollama-embed",
    "show": "ollama-show",
}


def _gemini(found: re.Match[str], query: str) -> Route:
    kind, stream = _GEMINI_KINDS[found["verb"]]
    if kind == "gemini-array" and parse_qs(query).get("alt") == ["sse"]:
        kind = "gemini"
    return Route("google", kind, unquote(found["model"]), stream)


def _bedrock(found: re.Match[str], query: str) -> Route:
    kind, stream = _BEDROCK_KINDS[found["verb"]]
    return Route("bedrock", kind, unquote(found["model"]), stream)


def _azure(found: re.Match[str], query: str) -> Route:
    kind = {"chat/completions": "chat", "embeddings": "embeddings"}[found["verb"]]
    return Route("azure", kind, unquote(found["model"]))


def _plain(provider: str, kind: str) -> Callable[[re.Match[str], str], Route]:
    return lambda found, query: Route(provider, kind)


def _rows() -> list[tuple[str, re.Pattern[str], str, Callable[[re.Match[str], str], Route]]]:
    fixed = [
        ("POST", "/v1/chat/completions", "openai", "chat"),
        ("POST", "/v1/responses", "openai", "responses"),
        ("POST", "/v1/embeddings", "openai", "embeddings"),
        ("GET", "/v1/responses", "openai", "ws-responses"),
        ("GET", "/v1/realtime", "openai", "ws-realtime"),
        ("POST", "/v1/messages", "anthropic", "messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic", "count-tokens"),
        ("POST", "/api/v1/chat/completions", "openrouter", "chat"),
        ("GET", "/api/v1/models", "openrouter", "models"),
        ("POST", "/openrouter/router", "fal", "fal-router"),
        ("POST", "/openrouter/router/openai/v1/chat/completions", "fal", "chat"),
        ("POST", "/openrouter/router/openai/v1/responses", "fal", "responses"),
        ("POST", "/openai/responses", "azure", "responses"),
        ("POST", "/openai/v1/responses", "azure", "responses"),
        ("POST", "/openai/v1/chat/completions", "azure", "chat"),
        ("POST", "/openai/v1/embeddings", "azure", "embeddings"),
        ("GET", "/openai/v1/models", "azure", "models"),
        ("GET", "/v1beta/models", "google", "models"),
        ("GET", "/v1/models", "openai", "models"),
        ("GET", "/v1/models", "anthropic", "models"),
        ("GET", "/v1/models", "google", "models"),
        ("GET", "/api/tags", "ollama", "models"),
        *(("POST", f"/api/{name}", "ollama", kind) for name, kind in _OLLAMA_KINDS.items()),
    ]
    rows = [(method, re.compile(re.escape(p)), provider, _plain(provider, kind)) for method, p, provider, kind in fixed]
    gemini = r"/v1(beta)?/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent|countTokens)"
    bedrock = r"/model/(?P<model>[^/]+)/(?P<verb>invoke-with-response-stream|invoke|converse-stream|converse)"
    azure = r"/openai/deployments/(?P<model>[^/]+)/(?P<verb>chat/completions|embeddings)"
    return [
        *rows,
        ("POST", re.compile(gemini), "google", _gemini),
        ("POST", re.compile(bedrock), "bedrock", _bedrock),
        ("POST", re.compile(azure), "azure", _azure),
    ]


_ROWS = _rows()


def find_route(method: str, path: str, query: str, host: str, headers: Mapping[str, str]) -> Route:
    """The route, or the provider alone. ``host`` is a name without a port, ``headers`` have lower-case names."""
    provider = provider_of_host(host)
    if not provider:
        owners = [row[2] for row in _ROWS if row[1].fullmatch(path)]
        hinted = _provider_of_headers(headers)
        provider = hinted if hinted in owners or not owners else owners[0]
    for row_method, pattern, owner, make in _ROWS:
        found = pattern.fullmatch(path)
        if found and row_method == method and owner == provider:
            return make(found, query)
    return Route(provider)


def provider_of_host(host: str) -> str:
    """The provider whose host this is, or nothing."""
    return next((provider for pattern, provider in _HOSTS if pattern.fullmatch(host.lower())), "")


def _provider_of_headers(headers: Mapping[str, str]) -> str:
    if "anthropic-version" in headers:
        return "anthropic"
    if "x-goog-api-key" in headers:
        return "google"
    return "azure" if "api-key" in headers else "openai"
