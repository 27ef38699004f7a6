"""The closed world: which requests are a provider's route, in which form, and which are nothing at all."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from clawproxy.policies.catalogue_file import load_catalogue
from clawproxy.policies.packaged import packaged_catalogue, packaged_file
from clawproxy.policies.routes import RouteMatch
from clawproxy.policies.tool_classes import load_tool_classes
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import REASONS, Refusal
from hypothesis import given
from hypothesis import strategies as st

CATALOGUE = packaged_catalogue()


def _found(path: str, method: str = "POST") -> RouteMatch:
    match = CATALOGUE.match_reverse(method, path)
    assert isinstance(match, RouteMatch), match
    return match


def _reason(path: str, method: str = "POST") -> str:
    match = CATALOGUE.match_reverse(method, path)
    if isinstance(match, RouteMatch):
        return "found"
    assert (match.rule + match.detail).isprintable()
    return match.reason


@pytest.mark.parametrize("path", ["/{}/v1/chat/completions", "/{}/x", "/v1/proxy/{}"])
@pytest.mark.parametrize("name", ["vllm", "azure", "bedrock"])
def test_a_provider_that_is_not_configured_is_told_by_name(name: str, path: str) -> None:
    found = CATALOGUE.match_reverse("POST", path.format(name))
    assert isinstance(found, Refusal)
    assert found.reason == "ROUTE_NOT_FOUND"
    assert found.detail == f"{name} has no upstream in the configuration"
    placed = load_catalogue(packaged_file("providers.toml"), {name: "https://mine.example"})
    again = placed.match_reverse("POST", path.format(name))
    assert not isinstance(again, Refusal) or "no upstream" not in again.detail


@pytest.mark.parametrize(
    ("path", "provider", "route", "upstream_path", "compat"),
    [
        ("/openai/v1/chat/completions", "openai", "chat_completions", "/v1/chat/completions", False),
        ("/openai/v1/responses", "openai", "responses", "/v1/responses", False),
        ("/anthropic/v1/messages", "anthropic", "messages", "/v1/messages", False),
        ("/anthropic/v1/messages?beta=true", "anthropic", "messages", "/v1/messages?beta=true", False),
        ("/v1/chat/completions", "openai", "chat_completions", "/v1/chat/completions", True),
        ("/v1/responses", "openai", "responses", "/v1/responses", True),
        ("/v1/messages?beta=true", "anthropic", "messages", "/v1/messages?beta=true", True),
        ("/v1/proxy/anthropic", "anthropic", "messages", "/v1/messages", True),
    ],
)
def test_the_forms_of_a_path(path: str, provider: str, route: str, upstream_path: str, compat: bool) -> None:
    match = _found(path)
    assert (match.provider.name, match.route.name) == (provider, route)
    assert (match.upstream_path, match.compat, match.format_by_body) == (upstream_path, compat, False)


@pytest.mark.parametrize(
    ("path", "method", "reason"),
    [
        ("/v1/proxy/gemini", "POST", "UNKNOWN_PROVIDER"),
        ("/v1/proxy/OpenAI", "POST", "UNKNOWN_PROVIDER"),
        ("/v1/proxy/openai/v1/files", "POST", "UNKNOWN_PROVIDER"),
        ("/", "HEAD", "ROUTE_NOT_FOUND"),
        ("/anthropic/api/hello", "HEAD", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages", "GET", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages", "post", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages/", "POST", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages/batches", "POST", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/models", "POST", "ROUTE_NOT_FOUND"),
        ("/v1/models", "GET", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g", "GET", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:batchGenerateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/a/b:generateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/a:b:generateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g%3AgenerateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:generatecontent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/:generateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:generateContent", "GET", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:generateContent?alt=sse", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:streamGenerateContent?alt=json", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/models/g:generateContent?key=abc", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/tunedModels/g:generateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/models/g:generateContent", "POST", "ROUTE_NOT_FOUND"),
        ("/google/v1beta/files", "GET", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/chat/completions", "POST", "ROUTE_NOT_FOUND"),
        ("/Anthropic/v1/messages", "POST", "ROUTE_NOT_FOUND"),
        ("/openai/v1/files", "POST", "ROUTE_NOT_FOUND"),
        ("/openai/v1/responses?beta=true", "POST", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages?beta=false", "POST", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages?key=abc", "POST", "ROUTE_NOT_FOUND"),
        ("/anthropic/v1/messages?beta=true&beta=true", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages?", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages?beta=true#x", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages?beta=%74rue", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages?beta=true?beta=true", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/%6dessages", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/../v1/messages", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/./messages", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic//v1/messages", "POST", "REQUEST_AMBIGUOUS"),
        ("//anthropic/v1/messages", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages;a=b", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic\\v1\\messages", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages#x", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages ", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/messages\n", "POST", "REQUEST_AMBIGUOUS"),
        ("/anthropic/v1/mess\u0430ges", "POST", "REQUEST_AMBIGUOUS"),
        ("http://api.anthropic.com/v1/messages", "POST", "REQUEST_AMBIGUOUS"),
        ("", "POST", "REQUEST_AMBIGUOUS"),
        ("*", "OPTIONS", "REQUEST_AMBIGUOUS"),
        ("/" + "a" * 5000, "POST", "REQUEST_AMBIGUOUS"),
    ],
)
def test_everything_else_is_refused(path: str, method: str, reason: str) -> None:
    assert _reason(path, method) == reason
    assert REASONS[reason].step == "admit"


@pytest.mark.parametrize(
    ("path", "method", "route", "model", "stream", "kind"),
    [
        ("/v1beta/models/g-9.1:generateContent", "POST", "v1beta_generate_content", "g-9.1", False, "generate"),
        ("/v1/models/g:streamGenerateContent", "POST", "v1_stream_generate_content", "g", True, "generate"),
        (
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            "POST",
            "v1beta_stream_generate_content",
            "g",
            True,
            "generate",
        ),
        ("/v1beta/models/g:countTokens", "POST", "v1beta_count_tokens", "g", False, "count"),
        ("/v1beta/models?pageSize=50&pageToken=a_b", "GET", "v1beta_models", None, None, "list"),
        ("/v1/models", "GET", "v1_models", None, None, "list"),
    ],
)
def test_a_path_of_gemini_says_model_stream_and_kind(
    path: str, method: str, route: str, model: str | None, stream: bool | None, kind: str
) -> None:
    here = CATALOGUE.match_host("generativelanguage.googleapis.com", 443, method, path)
    for match in (here, _found(f"/google{path}", method)):
        assert isinstance(match, RouteMatch)
        assert (match.route.name, match.model, match.route.stream, match.route.kind) == (route, model, stream, kind)
        assert (match.upstream_path, match.credential_field) == (path, ("x-goog-api-key", ""))


def test_a_route_may_have_a_credential_header_of_its_own() -> None:
    for path in ("/google/v1beta/openai/chat/completions", "/v1/proxy/google"):
        match = _found(path)
        assert match.upstream_path == "/v1beta/openai/chat/completions"
        assert match.credential_field == ("authorization", "Bearer")
    assert _found("/openai/v1/responses").credential_field == ("authorization", "Bearer")


def test_a_refused_query_does_not_repeat_its_value() -> None:
    refusal = CATALOGUE.match_reverse("POST", "/anthropic/v1/messages?key=sk-secret")
    assert isinstance(refusal, Refusal)
    assert "key" in refusal.rule
    assert "sk-secret" not in refusal.rule + refusal.detail


def test_provider_hosts_are_exact() -> None:
    match = CATALOGUE.match_host("api.anthropic.com", 443, "POST", "/v1/messages?beta=true")
    assert isinstance(match, RouteMatch)
    assert not match.compat
    assert CATALOGUE.has_host("api.openai.com", 443)
    for host, port in (
        ("api.openai.com", 80),
        ("api.openai.com", 8443),
        ("API.openai.com", 443),
        ("api.openai.com.", 443),
        ("api.openai.com.evil.example", 443),
        ("evil-api.openai.com", 443),
        ("127.0.0.1", 443),
        ("api.openai.com\0.evil.example", 443),
    ):
        assert not CATALOGUE.has_host(host, port)
        assert isinstance(CATALOGUE.match_host(host, port, "POST", "/v1/responses"), Refusal)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/proxy/openai", "/openai/v1/responses", "/v1/models?limit=1", "/"])
def test_a_provider_host_serves_only_its_own_routes(path: str) -> None:
    refusal = CATALOGUE.match_host("api.openai.com", 443, "POST", path)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "ROUTE_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "header", "route"),
    [
        ({"input": "x"}, None, "responses"),
        ({"messages": []}, None, "chat_completions"),
        ({"input": "x", "messages": []}, None, "chat_completions"),
        ({}, None, "chat_completions"),
        ({"messages": []}, "responses", "responses"),
        ({"input": "x"}, "chat_completions", "chat_completions"),
    ],
)
def test_the_reference_form_settles_its_route_by_header_or_body(
    body: dict[str, Any], header: str | None, route: str
) -> None:
    match = _found("/v1/proxy/openai")
    assert match.format_by_body
    chosen = CATALOGUE.choose(match, body, header)
    assert isinstance(chosen, RouteMatch)
    assert (chosen.route.name, chosen.format_by_body, chosen.compat) == (route, False, True)


def test_a_header_that_does_not_fit_the_path_is_refused() -> None:
    match = _found("/openai/v1/responses")
    assert CATALOGUE.choose(match, {}, None) is match
    assert CATALOGUE.choose(match, {}, "responses") is match
    for header in ("chat_completions", "batch", ""):
        assert isinstance(CATALOGUE.choose(match, {}, header), Refusal)


def test_only_listed_headers_pass_and_no_credential() -> None:
    forwarded = CATALOGUE.providers["anthropic"].forwarded_headers
    assert "anthropic-beta" in forwarded
    assert "x-stainless-lang" in forwarded
    for provider in CATALOGUE.providers.values():
        for name in (
            "authorization",
            "x-api-key",
            "cookie",
            "openai-organization",
            "x-forwarded-host",
            "x-cst",
            "",
            None,
        ):
            assert name not in provider.forwarded_headers


def test_an_override_points_a_provider_elsewhere() -> None:
    text = packaged_file("providers.toml")
    openai = load_catalogue(text, {"openai": "https://127.0.0.1:9443"}).providers["openai"]
    assert (openai.scheme, openai.host, openai.port, openai.authority) == ("https", "127.0.0.1", 9443, "127.0.0.1:9443")
    assert openai.hosts == {("api.openai.com", 443)}
    plain = load_catalogue(text, {"openai": "http://[::1]:8000"}).providers["openai"]
    assert (plain.scheme, plain.host, plain.authority) == ("http", "::1", "[::1]:8000")
    assert CATALOGUE.providers["openai"].authority == "api.openai.com"


@pytest.mark.parametrize(
    "upstream",
    ["", "api.openai.com", "ftp://x", "https://", "https://x/path", "https://u:p@x", "https://x:0", "https://x:70000",
     "https://X", "https://a..b", "https://x?y"],
)  # fmt: skip
def test_an_override_that_is_no_origin_is_refused(upstream: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        load_catalogue(packaged_file("providers.toml"), {"openai": upstream})
    assert caught.value.where == "providers.openai.upstream"


def test_an_override_for_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ClawproxyError, match="no such provider"):
        load_catalogue(packaged_file("providers.toml"), {"opneai": "https://x"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('upstream = "https://api.openai.com"', 'upstream = "http://api.openai.com"'),
        ('"user-agent",', '"authorization",'),
        ('"user-agent",', '"*",'),
        ('"user-agent",', '"x-a*",'),
        ('hosts = ["api.openai.com"]', 'hosts = ["api.anthropic.com"]'),
        ('hosts = ["api.openai.com"]', 'hosts = ["*.openai.com"]'),
        ('prefix = "/openai"', 'prefix = "openai"'),
        ('prefix = "/openai"', 'prefx = "/openai"'),
        ('path = "/v1/responses"', 'path = "/v1/messages"'),
        ('path = "/v1/responses"', 'path = "/v1/../x"'),
        ('query = ["beta=true"]', 'query = ["beta"]'),
        ('method = "POST"', 'method = "CONNECT"'),
        ("bare = true", 'bare = "yes"'),
        ("[openai]", "[OpenAI]"),
        ("[openai]", "[[openai]]"),
        ("[openai]", "[openai"),
    ],
)
def test_a_malformed_catalogue_is_refused(old: str, new: str) -> None:
    text = packaged_file("providers.toml").decode()
    assert old in text
    with pytest.raises(ClawproxyError) as caught:
        load_catalogue(text.replace(old, new).encode())
    assert caught.value.reason == "CONFIG_INVALID"
    assert "\n" not in str(caught.value)


def test_every_key_of_the_catalogue_is_explained() -> None:
    lines = packaged_file("providers.toml").decode().splitlines()
    explained: set[str] = set()
    for above, line in itertools.pairwise(lines):
        key = line.partition(" = ")[0]
        if " = " in line and not line.startswith(("#", " ")):
            explained |= {key} if above.startswith("#") else set()
            assert key in explained, f"{key} has no comment"


@given(st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
def test_random_toml_raises_only_our_errors(text: bytes) -> None:
    for load in (load_catalogue, load_tool_classes):
        with contextlib.suppress(ClawproxyError):
            load(text)


@given(st.text(max_size=8), st.text(alphabet="/v1openaimsg.%?=&;\\", max_size=40) | st.text(max_size=20))
def test_any_request_line_is_a_route_or_a_refusal(method: str, path: str) -> None:
    for found in (CATALOGUE.match_reverse(method, path), CATALOGUE.match_host("api.openai.com", 443, method, path)):
        if isinstance(found, RouteMatch):
            assert found.upstream_path in ("/v1/chat/completions", "/v1/responses", "/v1/messages")
        else:
            assert (found.rule + found.detail).isprintable()
