"""Step 1: which provider, and which of its routes, a request is for. Pure; ``catalogue_file`` reads them from TOML.

The world is closed: a method and path that no route has is refused, and so is a path or query that could be read in
two ways. Paths are compared as they stand in the request line; only where a route has ``{model}`` in its path, a
percent-encoded ``:`` or ``/`` within that place is decoded, if the route says that its models have them, and the path
that leaves is written from the decoded model.

On the base-URL listener a route is reached in three forms:

- ``<prefix><path>``, such as ``/anthropic/v1/messages``: the provider's own API, answered as it answers;
- ``/v1/proxy/<provider>``: the reference's form (protocol.md D.1); which route is meant shows in the X-OpenAI-API
  header or in the body (``Catalogue.choose``);
- the bare path, such as ``/v1/messages``, of a route that has ``bare = true``.

The last two are compatibility forms: their answers carry the receipt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError, clip
from ..tokens.reasons import Refusal
from .egress import authority_of
from .facts import CallKind

_PROXY_PREFIX = "/v1/proxy/"
_MAX_PATH_CHARS = 1024
_REQUEST_PATH = re.compile(r"/|(/(?:[A-Za-z0-9._~:-]|%3A|%2F)+)+/?", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]|[:/](?![:/]|$))*", re.ASCII)
_MAX_MODEL_CHARS = 256
_ESCAPES = {":": "%3A", "/": "%2F"}
_QUERY = re.compile(r"[A-Za-z0-9._~-]+=[A-Za-z0-9._~-]+(&[A-Za-z0-9._~-]+=[A-Za-z0-9._~-]+)*", re.ASCII)
_METHODS = ("POST", "GET")
_API_HEADER = {"responses": "openai_responses", "chat_completions": "openai_chat"}


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path of a provider; ``{model}`` may stand in the path for a part of one segment.

    ``query`` holds the ``name=value`` pairs that may follow it; ``name=*`` lets any plain value follow the name.
    ``stream`` is what the path itself says of streaming, None where the body does. ``model_escapes`` are characters of
    a model that are percent-encoded at the provider. ``proxied`` routes are those behind ``/v1/proxy/<provider>``.
    ``websocket`` routes take nothing but the opening handshake of a WebSocket, and no other route takes one.
    ``untyped`` routes read a body without a content type as the JSON that the provider reads.
    ``credential_header`` and ``credential_scheme`` stand in for those of the provider, where a route has its own.
    """

    name: str
    method: str
    path: str
    format: str
    query: frozenset[str] = frozenset()
    bare: bool = False
    proxied: bool = False
    kind: CallKind = CallKind.GENERATE
    stream: bool | None = None
    model_escapes: frozenset[str] = frozenset()
    websocket: bool = False
    untyped: bool = False
    credential_header: str = ""
    credential_scheme: str = ""

    def model_of(self, path: str) -> str | None:
        """The model in ``path``, decoded, if the path is one of this route."""
        head, found, tail = self.path.partition("{model}")
        if not found or not path.startswith(head) or not path.endswith(tail) or len(path) <= len(head) + len(tail):
            return None
        model = path[len(head) : len(path) - len(tail)]
        if "/" in model or (":" in model and ":" not in self.model_escapes):
            return None
        for char, escaped in _ESCAPES.items():
            if char in self.model_escapes:
                model = model.replace(escaped, char)
        return model if len(model) <= _MAX_MODEL_CHARS and _MODEL.fullmatch(model) and ".." not in model else None

    def path_for(self, model: str | None) -> str:
        """The path as it leaves."""
        if model is None:
            return self.path
        for char in self.model_escapes:
            model = model.replace(char, _ESCAPES[char])
        return self.path.replace("{model}", model)

    def takes(self, pair: str) -> bool:
        """Whether the ``name=value`` pair may follow."""
        return pair in self.query or pair.partition("=")[0] + "=*" in self.query


@dataclass(frozen=True, slots=True)
class HeaderNames:
    """Header field names, lower case; an entry may end in ``*``. ``"accept" in names`` is how it is asked."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def __contains__(self, name: object) -> bool:
        return name in self.exact or (isinstance(name, str) and name.startswith(self.prefixes or ("\n",)))


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: where its calls go (``scheme``, ``host``, ``port``), under which names agents know it, and what
    passes.
    """

    name: str
    scheme: str
    host: str
    port: int
    hosts: frozenset[tuple[str, int]]
    prefix: str
    credential_header: str
    credential_scheme: str
    default_headers: Mapping[str, str]
    forwarded_headers: HeaderNames
    routes: tuple[Route, ...]
    signing: str = ""
    """How requests are signed where the credential is a key pair (``sigv4``)."""

    @property
    def authority(self) -> str:
        """The Host field of a request to it: the port only where it is not the scheme's own."""
        return authority_of(self.scheme, self.host, self.port)


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The route that a request is for. With ``candidates`` the body decides between them (``Catalogue.choose``)."""

    provider: Provider
    route: Route
    query: str
    compat: bool
    candidates: tuple[Route, ...] = ()
    model: str | None = None
    """The model in the path; of a socket, in the query."""

    @property
    def upstream_path(self) -> str:
        """Path and query of the request that goes to the provider."""
        path = self.route.path_for(self.model)
        return f"{path}?{self.query}" if self.query else path

    @property
    def credential_field(self) -> tuple[str, str]:
        """The header that carries the credential, and the word in front of it."""
        of = self.route if self.route.credential_header else self.provider
        return of.credential_header, of.credential_scheme

    @property
    def format_by_body(self) -> bool:
        """Whether the route is not certain until the body is read."""
        return len(self.candidates) > 1


class Catalogue:
    """The providers and their routes; see the module for the forms of a path."""

    def __init__(
        self, providers: Mapping[str, Provider], names: tuple[str, ...] = (), absent: Mapping[str, str] | None = None
    ) -> None:
        """``absent`` are names by prefix, of those that need an upstream and have none."""
        self.providers = dict(providers)
        self._absent = dict(absent or {})
        self.names = names or tuple(providers)
        """Of every provider, those too that need an upstream from the configuration first."""
        self._by_host: dict[tuple[str, int], Provider] = {}
        self._reverse: dict[tuple[str, str], tuple[Provider, Route, bool]] = {}
        self._templates: list[tuple[str, Provider, Route]] = []
        for provider in self.providers.values():
            for host in provider.hosts:
                _put(self._by_host, host, provider, f"host {host[0]}:{host[1]}")
            for route in provider.routes:
                if "{" in route.path:
                    self._templates.append((provider.prefix, provider, route))
                    continue
                at = (route.method, provider.prefix + route.path)
                _put(self._reverse, at, (provider, route, False), f"path of {route.name}")
                if route.bare:
                    _put(self._reverse, (route.method, route.path), (provider, route, True), f"bare path {route.path}")

    def has_host(self, host: str, port: int) -> bool:
        """Whether a provider is known by this host name and port: exact, lower case, without a trailing dot."""
        return (host, port) in self._by_host

    def is_provider(self, host: str, port: int) -> bool:
        """Whether this is a provider's name, at whatever port, or where calls to one go: never a tool's destination."""
        named = any(host == name for name, _ in self._by_host)
        return named or any((host, port) == (provider.host, provider.port) for provider in self.providers.values())

    def match_host(self, host: str, port: int, method: str, path: str) -> RouteMatch | Refusal:
        """The route for a request that was sent to a provider's own host (proxy and transparent listeners)."""
        provider = self._by_host.get((host, port))
        if provider is None:
            return Refusal("ROUTE_NOT_FOUND", "provider hosts", "no provider of the catalogue is at this host and port")
        split = split_target(path)
        if isinstance(split, Refusal):
            return split
        bare, query = split
        found = [route for route in provider.routes if route.path == bare]
        if not found:
            return _by_template(((provider, route) for route in provider.routes), method, bare, query) or _no_route(
                provider
            )
        route = next((route for route in found if route.method == method), found[0])
        return _matched(provider, route, method, query, compat=False)

    def match_reverse(self, method: str, path: str) -> RouteMatch | Refusal:
        """The route for a request to the base-URL listener."""
        split = split_target(path)
        if isinstance(split, Refusal):
            return split
        bare, query = split
        if bare.startswith(_PROXY_PREFIX):
            name = bare.removeprefix(_PROXY_PREFIX)
            provider = self.providers.get(name)
            if provider is None and name in self._absent.values():
                return _no_upstream(name)
            if provider is None:
                known = ", ".join(self.providers)
                return Refusal("UNKNOWN_PROVIDER", f'/v1/proxy/ names "{clip(name)}"', f"known providers: {known}")
            routes = tuple(route for route in provider.routes if route.proxied)
            if not routes:
                return _no_route(provider)
            found = _matched(provider, routes[0], method, query, compat=True)
            return found if isinstance(found, Refusal) else replace(found, candidates=routes)
        known_path = self._reverse.get((method, bare))
        if known_path is None:
            known_path = next((self._reverse[m, bare] for m in _METHODS if (m, bare) in self._reverse), None)
        if known_path is None:
            owned = ((p, r, bare.removeprefix(prefix)) for prefix, p, r in self._templates if bare.startswith(prefix))
            for provider, route, path in owned:
                templated = _by_template([(provider, route)], method, path, query)
                if templated is not None:
                    return templated
            owner = next((p for p in self.providers.values() if bare.startswith(p.prefix + "/")), None)
            absent = next((name for prefix, name in self._absent.items() if bare.startswith(prefix + "/")), None)
            return _no_route(owner) if owner or absent is None else _no_upstream(absent)
        provider, route, compat = known_path
        return _matched(provider, route, method, query, compat=compat)

    def choose(self, match: RouteMatch, body: JsonObject, api_header: str | None) -> RouteMatch | Refusal:
        """Settle a match that the body decides (protocol.md D.5): by X-OpenAI-API, else ``input`` without ``messages``
        means responses, anything else chat completions. A header against the route of the path is refused.
        """
        wanted: str | None = None
        if api_header is not None:
            wanted = _API_HEADER.get(api_header)
            if wanted is None:
                return Refusal("INVALID_REQUEST", "X-OpenAI-API", "neither responses nor chat_completions")
        if not match.format_by_body:
            if wanted is not None and wanted != match.route.format:
                return Refusal("INVALID_REQUEST", "X-OpenAI-API", "the header names another API than the path")
            return match
        if wanted is None:
            wanted = "openai_responses" if "input" in body and "messages" not in body else "openai_chat"
        route = next((route for route in match.candidates if route.format == wanted), None)
        if route is None:
            return Refusal("INVALID_REQUEST", "X-OpenAI-API", f"{match.provider.name} has no such API")
        return replace(match, route=route, candidates=())


def _put[K, V](table: dict[K, V], key: K, value: V, what: str) -> None:
    if key in table:
        raise ClawproxyError("CONFIG_INVALID", f"two providers have the same {what}", expected="each one once")
    table[key] = value


def split_target(path: str) -> tuple[str, str] | Refusal:
    """Path and query, or a refusal for anything that two readers could take for different routes."""
    bare, mark, query = path.partition("?")
    if len(path) > _MAX_PATH_CHARS or not _REQUEST_PATH.fullmatch(bare) or "/./" in f"{bare}/" or ".." in bare:
        return Refusal("REQUEST_AMBIGUOUS", "path", "only plain segments of letters, digits and . _ ~ : - are read")
    if mark and not _QUERY.fullmatch(query):
        return Refusal("REQUEST_AMBIGUOUS", "query", "only name=value pairs of letters, digits and . _ ~ - are read")
    return bare, query


def _by_template(
    routes: Iterable[tuple[Provider, Route]], method: str, path: str, query: str
) -> RouteMatch | Refusal | None:
    """The route of which ``path`` is an instance."""
    for provider, route in routes:
        model = route.model_of(path)
        if model is not None:
            found = _matched(provider, route, method, query, compat=False)
            return found if isinstance(found, Refusal) else replace(found, model=model)
    return None


def _matched(provider: Provider, route: Route, method: str, query: str, *, compat: bool) -> RouteMatch | Refusal:
    if method != route.method:
        return Refusal(
            "ROUTE_NOT_FOUND", f"method {clip(method, 20)}", f"{provider.name} {route.name} is {route.method}"
        )
    pairs = query.split("&") if query else []
    if len({pair.partition("=")[0] for pair in pairs}) != len(pairs):
        return Refusal("REQUEST_AMBIGUOUS", "query", "a parameter occurs twice")
    unknown = next((pair for pair in pairs if not route.takes(pair)), None)
    if unknown is not None:
        name = clip(unknown.partition("=")[0])  # the value may be a key
        return Refusal("ROUTE_NOT_FOUND", f'query parameter "{name}"', _allowed_query(provider, route))
    stated = next((pair for pair in pairs if route.websocket and pair.startswith("model=")), None)
    return RouteMatch(provider, route, query, compat, model=stated and stated.removeprefix("model="))


def _allowed_query(provider: Provider, route: Route) -> str:
    return f"{provider.name} {route.name} takes {', '.join(sorted(route.query)) or 'no query'}"


def _no_upstream(name: str) -> Refusal:
    return Refusal("ROUTE_NOT_FOUND", f"providers.{name}.upstream", f"{name} has no upstream in the configuration")


def _no_route(provider: Provider | None) -> Refusal:
    if provider is None:
        return Refusal("ROUTE_NOT_FOUND", "provider routes", "the path is that of no provider")
    paths = ", ".join(f"{route.method} {route.path}" for route in provider.routes)
    return Refusal("ROUTE_NOT_FOUND", f"routes of {provider.name}", f"{provider.name} has {paths}")
