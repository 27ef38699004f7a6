"""configs/providers.toml, read: TOML to a ``Catalogue``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..tokens.errors import ClawproxyError, clip
from ..tokens.reasons import Refusal
from .facts import CallKind
from .fields import PROVIDER_NAME, Fields
from .names import matches
from .routes import Catalogue, HeaderNames, Provider, Route, split_target
from .tool_classes import parse_toml

_PATH = re.compile(r"(/[A-Za-z0-9._~:-]+)+", re.ASCII)
_TEMPLATE = re.compile(r"(?:/[A-Za-z0-9._~:-]+)*/\{model\}(?::[A-Za-z]+)?(?:/[A-Za-z0-9._~:-]+)*", re.ASCII)
_QUERY_RULE = re.compile(r"[A-Za-z0-9._~-]+=(?:\*|[A-Za-z0-9._~-]+)", re.ASCII)
_ESCAPED = re.compile(r"[:/]", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?/?", re.ASCII)
_HEADER = re.compile(r"[a-z0-9-]+\*?", re.ASCII)
_CREDENTIAL_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "x-cst",
        "x-scoped-token",
    }
)
_PROVIDER_KEYS = (
    "upstream",
    "hosts",
    "prefix",
    "credential_header",
    "credential_scheme",
    "default_headers",
    "forwarded_headers",
    "signing",
    "routes",
)
_ROUTE_KEYS = (
    "name",
    "method",
    "path",
    "format",
    "query",
    "bare",
    "proxied",
    "kind",
    "stream",
    "model_escapes",
    "transport",
    "untyped",
    "credential_header",
    "credential_scheme",
)


def load_catalogue(
    toml: bytes,
    overrides: Mapping[str, str] | None = None,
    hosts: Mapping[str, tuple[str, ...]] | None = None,
) -> Catalogue:
    """Parse a provider catalogue; raises ``ClawproxyError`` (CONFIG_INVALID).

    ``overrides`` maps a provider to another upstream, ``https://host[:port]``; plain ``http://`` is taken only from
    there. ``hosts`` maps a provider to the names under which agents reach it instead. A provider without an upstream of
    its own is left out unless it has an override: it is a private deployment, whose address only its owner knows.
    """
    tables = parse_toml(toml)
    overrides, hosts = overrides or {}, hosts or {}
    names = tables.names("provider", max_items=64)
    read = {name: _provider(tables, name, overrides.get(name), hosts.get(name)) for name in names}
    providers = {name: provider for name, provider in read.items() if provider.host}
    for name in (*overrides, *hosts):
        if name not in read:
            raise ClawproxyError(
                "CONFIG_INVALID", "no such provider", where=f"providers.{clip(name)}", expected=", ".join(read)
            )
    absent = {provider.prefix: name for name, provider in read.items() if name not in providers}
    return Catalogue(providers, tuple(read), absent)


def _provider(tables: Fields, name: str, override: str | None, hosts: tuple[str, ...] | None) -> Provider:
    """Without a host where neither the table nor an override has one."""
    table = tables.object(name, _PROVIDER_KEYS)
    if table is None or not PROVIDER_NAME.fullmatch(name):
        tables.refuse(name, "not the name of a provider", got=name, expected=PROVIDER_NAME.pattern)
    table.need("prefix", "credential_header", "routes")
    stated = table.text("upstream", max_chars=256)
    plain = (stated or "").startswith("http://127.0.0.1:")  # a server on this machine, which has no certificate
    scheme, host, port = ("", "", 0) if stated is None else _origin(stated, table.at("upstream"), plain=plain)
    if override is not None:
        scheme, host, port = _origin(override, f"providers.{name}.upstream", plain=True)
    known_hosts = table.texts("hosts", like=_HOST) or () if hosts is None else hosts
    for known in known_hosts:
        if not _HOST.fullmatch(known):
            raise ClawproxyError(
                "CONFIG_INVALID", "not a host name", where=f"providers.{name}.hosts", got=known, expected=_HOST.pattern
            )
    forwarded = table.texts("forwarded_headers", like=_HEADER) or ()
    for header in forwarded:
        if any(matches(header, credential) for credential in _CREDENTIAL_HEADERS):
            table.refuse("forwarded_headers", "would let a client's credential through", got=header)
    defaults = table.object("default_headers")
    inner = table.objects("routes", _ROUTE_KEYS, min_items=1) or ()
    routes = tuple(map(_route, inner))
    return Provider(
        name=name,
        scheme=scheme,
        host=host,
        port=port,
        hosts=frozenset((h, 443) for h in known_hosts),
        prefix=table.text("prefix", like=_PATH) or "",
        credential_header=table.text("credential_header", like=_HEADER) or "",
        credential_scheme=table.text("credential_scheme") or "",
        default_headers={}
        if defaults is None
        else {header: defaults.text(header) or "" for header in defaults.names("header", max_items=32)},
        forwarded_headers=HeaderNames(
            frozenset(h for h in forwarded if not h.endswith("*")),
            tuple(h.removesuffix("*") for h in forwarded if h.endswith("*")),
        ),
        routes=routes,
        signing=table.text("signing", one_of=("sigv4",)) or "",
    )


def _route(table: Fields) -> Route:
    table.need("name", "method", "path", "format")
    path = table.text("path") or ""
    if not (_PATH.fullmatch(path) or _TEMPLATE.fullmatch(path)) or isinstance(
        split_target(path.replace("{model}", "m")), Refusal
    ):
        table.refuse("path", "no request can have this path", got=path, expected="a path without . and .. segments")
    if "credential_scheme" in table:
        table.need("credential_header")
    return Route(
        name=table.text("name", like=PROVIDER_NAME) or "",
        method=table.text("method", one_of=("GET", "POST")) or "",
        path=path,
        format=table.text("format", like=PROVIDER_NAME) or "",
        query=frozenset(table.texts("query", like=_QUERY_RULE) or ()),
        bare=table.flag("bare") or False,
        proxied=table.flag("proxied") or False,
        kind=CallKind(table.text("kind", one_of=tuple(CallKind)) or CallKind.GENERATE),
        stream=table.flag("stream"),
        model_escapes=frozenset(table.texts("model_escapes", like=_ESCAPED) or ()),
        websocket=table.text("transport", one_of=("http", "websocket")) == "websocket",
        credential_header=table.text("credential_header", like=_HEADER) or "",
        credential_scheme=table.text("credential_scheme") or "",
        untyped=table.flag("untyped") or False,
    )


def _origin(url: str, where: str, *, plain: bool) -> tuple[str, str, int]:
    """Scheme, host and port of ``https://host[:port]``."""
    found = _ORIGIN.fullmatch(url)
    expected = "https://HOST or https://HOST:PORT, lower case, without path"
    if found is None or (found[1] == "http" and not plain):
        raise ClawproxyError("CONFIG_INVALID", "not an upstream", where=where, got=url, expected=expected)
    host, port = found[2], int(found[3] or (443 if found[1] == "https" else 80))
    if not (host.startswith("[") or _HOST.fullmatch(host)) or not 1 <= port <= 65_535:
        raise ClawproxyError("CONFIG_INVALID", "not an upstream", where=where, got=url, expected=expected)
    return found[1], host.strip("[]"), port
